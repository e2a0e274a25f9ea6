"""Structural similarity by hand, and the same in every layout of the images."""

import numpy as np
import pytest

from harness.saliency.similarity import spatial_axes, structural_similarity


def grey_maps():
    random = np.random.default_rng(0)
    first = random.random((5, 9, 12))
    return first, first + 0.5 * random.random(first.shape)


def colour_maps():
    random = np.random.default_rng(1)
    first = random.random((4, 9, 12, 3))
    return first, first + 0.5 * random.random(first.shape)


def by_hand(a, b):
    """SSIM of two grey maps (h, w), pixel by pixel, by the formulae of the paper."""
    a, b = a / a.max(), b / b.max()
    reach = np.arange(-5, 6)  # 3.5 standard deviations, rounded
    weights = np.exp(-(reach**2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    (height, width), total = a.shape, 0.0
    for row in range(height):
        for column in range(width):
            rows, columns = (
                mirrored(place + reach, side) for place, side in ((row, height), (column, width))
            )
            p, q = a[np.ix_(rows, columns)], b[np.ix_(rows, columns)]
            mean_p, mean_q = (window * p).sum(), (window * q).sum()
            spread = (window * (p - mean_p) ** 2).sum() + (window * (q - mean_q) ** 2).sum()
            cross = (window * (p - mean_p) * (q - mean_q)).sum()
            total += (
                (2 * mean_p * mean_q + 1e-4)
                / (mean_p**2 + mean_q**2 + 1e-4)
                * ((2 * cross + 9e-4) / (spread + 9e-4))
            )
    return total / a.size


def mirrored(places, side):
    """Places outside of the image as those that a mirror on its edge shows."""
    places = places % (2 * side)
    return np.minimum(places, 2 * side - 1 - places)


def test_the_structural_similarity_is_that_of_the_paper():
    first, second = grey_maps()
    expected = [by_hand(a, b) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(structural_similarity(first, second), expected, rtol=1e-9)


LAYOUTS = {
    "(n, 1, h, w)": lambda maps: maps[:, None],
    "(n, h, w, 1)": lambda maps: maps[..., None],
    "(n, 1, h, w, 1)": lambda maps: maps[:, None, ..., None],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_grey_map_has_the_same_value_in_every_layout(layout):
    first, second = grey_maps()
    moved = (LAYOUTS[layout](maps) for maps in (first, second))
    np.testing.assert_array_equal(
        structural_similarity(*moved), structural_similarity(first, second)
    )


def test_a_colour_map_has_the_same_value_in_both_layouts():
    last = colour_maps()
    first = (np.moveaxis(maps, -1, 1) for maps in last)
    found = structural_similarity(*last)
    np.testing.assert_allclose(structural_similarity(*first), found, rtol=1e-12)
    # Of three equal channels it is that of one.
    grey = grey_maps()
    threefold = (np.repeat(maps[..., None], 3, axis=-1) for maps in grey)
    np.testing.assert_allclose(
        structural_similarity(*threefold), structural_similarity(*grey), rtol=1e-12
    )


def test_a_map_has_the_same_value_alone_as_among_others():
    for first, second in (grey_maps(), colour_maps(), [m.reshape(5, -1) for m in grey_maps()]):
        alone = [
            structural_similarity(first[i : i + 1], second[i : i + 1])[0] for i in range(len(first))
        ]
        np.testing.assert_array_equal(structural_similarity(first, second), alone)


def test_the_similarity_of_flat_maps_by_hand():
    # Means 1/2 and 1/2; variances 1/6 and 1/6; covariance -1/6: one window over all.
    first, second = np.array([[1.0, 0.5, 0.0]]), np.array([[0.0, 0.5, 1.0]])
    expected = (2 * -1 / 6 + 9e-4) / (2 / 6 + 9e-4)
    np.testing.assert_allclose(structural_similarity(first, second), [expected], rtol=1e-12)
    np.testing.assert_allclose(structural_similarity(first, first), [1.0], rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64,), ()),
        ((8, 1), ()),
        ((8, 8), (0, 1)),
        ((3, 40), (0, 1)),
        ((1, 8, 8), (1, 2)),
        ((8, 8, 1), (0, 1)),
        ((3, 32, 32), (1, 2)),
        ((32, 32, 3), (0, 1)),
        ((64, 8, 8), (1, 2)),
        ((8, 8, 64), (0, 1)),
        ((3, 20, 28), (1, 2)),
        ((20, 28, 3), (0, 1)),
        ((3, 3, 3), (1, 2)),
    ],
)
def test_height_and_width_are_told_from_the_channels(shape, axes):
    assert spatial_axes(shape) == axes


def test_a_channel_axis_that_is_given_is_taken():
    assert spatial_axes((3, 3, 3), channel_axis=-1) == (0, 1)
    assert spatial_axes((30, 8, 9), channel_axis=0) == (1, 2)
    maps = np.random.default_rng(2).random((2, 6, 6, 6))
    turned = np.moveaxis(maps, 1, -1)
    np.testing.assert_allclose(
        structural_similarity(maps, maps**2, channel_axis=0),
        structural_similarity(turned, turned**2, channel_axis=-1),
        rtol=1e-12,
    )
