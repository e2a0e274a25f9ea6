"""A saliency method."""


def doubled(model, x, y, index):
    """Twice the image, whatever the model."""
    return 2.0 * x
