"""The grid search: a study of trainings, its points, and the table that it prints."""
