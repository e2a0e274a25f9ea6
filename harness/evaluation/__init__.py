"""The middle of the house: a spec or a call becomes models, measurements, and one run."""
