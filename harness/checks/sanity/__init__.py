"""Do saliency maps explain the model? Checks, what they ask, and models to compare with."""
