"""What covered pixels become: black, or what a blur makes of the image there.

Grey strokes lie on black, so that a black pixel is one without a stroke. On other images scattered
black pixels are noise, as salt and pepper, that no image has: a model fails on it wherever it
lies, and random pixels, which are scattered most, cost more than salient ones, whatever the maps
are. A blur takes what a pixel tells and leaves the image natural (Fong & Vedaldi 2017,
"Interpretable explanations of black boxes by meaningful perturbation", section 4.1).
"""

from __future__ import annotations

import numpy as np

from harness.errors import HarnessError
from harness.protocol import Bounds, FloatArray
from harness.saliency.similarity import spatial_axes
from harness.spec.measures import Cover

IN_WORDS: dict[Cover, str] = {"black": "covered in black", "blurred": "blurred"}
"""What was done to the pixels, for people."""
WIDTH = 0.1
"""Standard deviation of the Gaussian, as a share of the shorter side of an image."""


def cover_of(said: Cover | None, shape: tuple[int, ...], channel_axis: int | None) -> Cover:
    """The cover that a spec says, or else the one that suits the images: in colour, a blur.

    Args:
        said: What the spec says.
        shape: Of one image.
        channel_axis: Axis of one image that holds its channels, from 0; None if none does.

    Raises:
        HarnessError: Flat images are to be blurred.
    """
    flat = not spatial_axes(shape, channel_axis)
    if said == "blurred" and flat:
        raise HarnessError(
            f"saliency.cover: images of shape {shape} have no height and width to be blurred "
            'along; say "black"'
        )
    colour = channel_axis is not None and shape[channel_axis] > 1
    return said or ("blurred" if colour and not flat else "black")


def fill_of(
    images: FloatArray, cover: Cover, bounds: Bounds, channel_axis: int | None
) -> FloatArray:
    """What the pixels of images (n, *shape) become where they are covered.

    Args:
        images: Within the bounds.
        cover: As ``cover_of`` gives it.
        bounds: Lowest and highest pixel value; the lowest is black.
        channel_axis: See ``cover_of``. Each channel is blurred by itself, and at the edges the
            image is mirrored.

    Returns:
        In the images' dtype and within the bounds: a number, or as many images.
    """
    if cover == "black":
        return np.asarray(bounds[0], dtype=images.dtype)
    from scipy.ndimage import gaussian_filter

    axes = tuple(axis + 1 for axis in spatial_axes(images.shape[1:], channel_axis))
    sigma = WIDTH * min(images.shape[axis] for axis in axes)
    blurred = gaussian_filter(images, sigma, axes=axes, mode="reflect")
    return np.asarray(np.clip(blurred, *bounds), dtype=images.dtype)
