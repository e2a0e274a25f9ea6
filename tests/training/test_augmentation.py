"""Distortions: moves done by hand, discs that stay where they are, limits for any image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.spec.training import TrainingSpec
from harness.training import augmentation
from harness.training.augmentation import (
    AT_ONCE,
    AUGMENTATIONS,
    Affine,
    Chain,
    Cutout,
    FlipCrop,
    augment,
)

STILL = {"rotation": 0.0, "scale": 0.0, "shear": 0.0, "shift": 0.0}


class Extreme:
    """Instead of random numbers the upper ends of their ranges, or the lower ones."""

    def __init__(self, upper=True):
        self.upper = upper

    def uniform(self, low, high, size):
        return np.full(size, high if self.upper else low)

    def integers(self, low, high, size):
        return np.full(size, high - 1 if self.upper else low)


def affine(**ranges):
    return Affine(**(STILL | ranges))


def numbered(height, width, count=1):
    """Images of which no two pixels are equal."""
    size = count * height * width
    return (np.arange(1, size + 1, dtype=np.float32) / np.float32(size)).reshape(
        count, height, width
    )


def disc(size=28):
    """An image of a soft disc in the middle: the same from all sides."""
    centre = (size - 1) / 2
    rows, columns = np.mgrid[:size, :size]
    distance = np.hypot(rows - centre, columns - centre)
    return np.exp(-((distance / (size / 7)) ** 4)).astype(np.float32)[None]


def moments(image):
    """Mass, centre and spreads along rows and columns, and their correlation's numerator."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    mass = image.sum()
    row, column = (image * rows).sum() / mass, (image * columns).sum() / mass
    away = rows - row, columns - column
    tall, wide, slant = (
        (image * a * b).sum() / mass
        for a, b in ((away[0], away[0]), (away[1], away[1]), (away[0], away[1]))
    )
    return {"mass": mass, "row": row, "column": column, "tall": tall, "wide": wide, "slant": slant}


# By hand


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 4), (5, 8), (28, 28)])
def test_ranges_of_zero_give_the_image_back(shape):
    x = numbered(*shape, count=3)
    np.testing.assert_array_equal(affine()(x, np.random.default_rng(0)), x)


@pytest.mark.parametrize("upper", [True, False])
def test_a_shift_by_whole_pixels(upper):
    x = numbered(5, 7, count=2)
    expected = np.zeros_like(x)
    if upper:
        expected[:, :-2, :-2] = x[:, 2:, 2:]
    else:
        expected[:, 2:, 2:] = x[:, :-2, :-2]
    np.testing.assert_array_equal(affine(shift=2)(x, Extreme(upper)), expected)


def test_a_shift_by_half_a_pixel_is_the_mean_of_four():
    x = numbered(3, 3)
    found = affine(shift=0.5)(x, Extreme())
    assert found[0, 0, 0] == pytest.approx(x[0, :2, :2].mean(), rel=1e-6)
    # In the last row and column the pixels outside are zero.
    assert found[0, 2, 2] == pytest.approx(x[0, 2, 2] / 4, rel=1e-6)
    assert found[0, 0, 2] == pytest.approx((x[0, 0, 2] + x[0, 1, 2]) / 4, rel=1e-6)


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize(("upper", "turns"), [(True, -1), (False, 1)])
def test_a_quarter_of_a_turn(size, upper, turns):
    x = numbered(size, size)
    found = affine(rotation=90)(x, Extreme(upper))
    # Rounding may reach a hair beyond the edge, so the last pixel is not exactly there.
    np.testing.assert_allclose(found[0], np.rot90(x[0], turns), atol=1e-5)


def test_a_scale_of_one_half_more_shows_less_than_the_whole_smaller():
    """Places 1.5 times as far from the middle: of five pixels the outermost are outside."""
    x = numbered(5, 5)
    found = affine(scale=0.5)(x, Extreme())
    assert found[0, 2, 2] == x[0, 2, 2]
    assert found[0, 1, 2] == pytest.approx((x[0, 0, 2] + x[0, 1, 2]) / 2, rel=1e-6)
    assert not found[0, [0, 4]].any()
    assert not found[0, :, [0, 4]].any()


def test_a_shear_moves_each_column_by_its_distance_from_the_middle():
    x = numbered(5, 3)
    found = affine(shear=1.0)(x, Extreme())
    np.testing.assert_allclose(found[0, :, 1], x[0, :, 1], rtol=1e-6)
    np.testing.assert_allclose(found[0, 1:, 0], x[0, :-1, 0], rtol=1e-6)
    np.testing.assert_allclose(found[0, :-1, 2], x[0, 1:, 2], rtol=1e-6)
    assert found[0, 0, 0] == found[0, -1, 2] == 0


def test_a_quarter_of_a_turn_after_a_shear():
    """From the middle, the pixel at (r, c) comes from (r + c, c) turned: (-c, r + c)."""
    x = numbered(5, 5)
    found = affine(rotation=90, shear=1.0)(x, Extreme())
    for row in (-2, -1, 0, 1, 2):
        for column in (-2, -1, 0, 1, 2):
            place = 2 - column, 2 + row + column
            expected = x[0][place] if 0 <= place[1] < 5 else 0
            assert found[0, 2 + row, 2 + column] == pytest.approx(expected, abs=1e-4)


def test_what_comes_from_outside_is_zero():
    x = np.ones((1, 6, 6), np.float32)
    assert not affine(shift=40)(x, Extreme()).any()
    assert not affine(shift=40)(x, Extreme(upper=False)).any()
    far = affine(shift=3)(x, Extreme())
    assert far[0, :3, :3].all()
    assert not far[0, 3:].any()
    assert not far[0, :, 3:].any()


# Moments


def test_a_disc_is_the_same_however_it_is_turned():
    x = np.repeat(disc(), 50, axis=0)
    turned = affine(rotation=180)(x, np.random.default_rng(0))
    assert abs(turned - x).max() < 0.05  # interpolation flattens it a little
    np.testing.assert_allclose(turned.sum(axis=(1, 2)), x.sum(axis=(1, 2)), rtol=0.01)


@pytest.mark.parametrize(
    ("ranges", "changes"),
    [
        ({"scale": 0.25}, {"mass": 1 / 1.25**2, "tall": 1 / 1.25**2, "wide": 1 / 1.25**2}),
        ({"rotation": 30}, {}),
        ({"shear": 0.5}, {"tall": 1.25}),
        ({"shift": 3}, {"row": 10.5 / 13.5, "column": 10.5 / 13.5}),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else None,
)
def test_mass_place_and_spreads_change_as_they_should(ranges, changes):
    x = disc()
    before, after = moments(x[0]), moments(affine(**ranges)(x, Extreme())[0])
    for name in ("mass", "row", "column", "tall", "wide"):
        # Interpolation blurs, which adds up to a sixth of a squared pixel to the spreads.
        blur = 0.17 if name in ("tall", "wide") else 0.0
        expected = before[name] * changes.get(name, 1)
        assert expected * 0.985 <= after[name] <= expected * 1.015 + blur, name
    # A column moves by half a row per column.
    expected = -0.5 * before["wide"] if "shear" in ranges else 0
    assert after["slant"] == pytest.approx(expected, abs=0.01 * before["wide"])


# Any image


@settings(deadline=None, max_examples=60, database=None)
@given(
    count=st.integers(1, 4),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    low=st.sampled_from([0.0, -1.0]),
    seed=st.integers(0, 2**32 - 1),
    ranges=st.fixed_dictionaries(
        {
            "rotation": st.sampled_from([0.0, 15.0, 180.0]),
            "scale": st.sampled_from([0.0, 0.12, 0.9]),
            "shear": st.sampled_from([0.0, 0.1, 2.0]),
            "shift": st.sampled_from([0.0, 2.0, 50.0]),
        }
    ),
)
def test_shape_type_and_range_are_kept_and_nothing_else_changes(
    count, height, width, low, seed, ranges
):
    x = np.random.default_rng(seed).uniform(low, 1, (count, height, width)).astype(np.float32)
    x.flags.writeable = False
    before = x.copy()
    found = Affine(**ranges)(x, np.random.default_rng(seed))
    assert (found.shape, found.dtype) == (x.shape, np.float32)
    assert found.max() <= max(x.max(), 0) + 1e-6
    assert found.min() >= min(x.min(), 0) - 1e-6
    np.testing.assert_array_equal(x, before)


def test_the_generator_decides_and_each_image_is_distorted_in_its_own_way():
    x = np.repeat(numbered(8, 8), 5, axis=0)
    first, again, other = (Affine()(x, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({image.tobytes() for image in first}) == 5
    # The generator goes on, so that the next batch is distorted in another way.
    random = np.random.default_rng(1)
    assert not np.array_equal(Affine()(x, random), Affine()(x, random))


@pytest.mark.parametrize("name", STILL)
def test_each_distortion_is_drawn_for_each_image(name):
    x = np.repeat(numbered(8, 8), 5, axis=0)
    found = affine(**{name: 1.0 if name != "rotation" else 30.0})(x, np.random.default_rng(0))
    assert len({image.tobytes() for image in found}) == 5


def test_height_and_width_are_scaled_each_on_its_own():
    x = np.repeat(disc(), 40, axis=0)
    shapes = [moments(image) for image in affine(scale=0.3)(x, np.random.default_rng(0))]
    ratios = np.array([shape["tall"] / shape["wide"] for shape in shapes])
    assert ratios.min() < 0.8
    assert ratios.max() > 1.25


def test_an_image_does_not_depend_on_its_neighbours():
    """The last row of one image lies beside the first of the next in memory."""
    x = np.zeros((3, 4, 4), np.float32)
    x[1] = 1
    found = affine(shift=2)(x, Extreme())
    assert not found[[0, 2]].any()
    assert found[1].sum() == 4


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_how_many_images_are_interpolated_at_once_makes_no_difference(at_once, monkeypatch):
    x = numbered(6, 7, count=2 * AT_ONCE + 3)
    expected = Affine()(x, np.random.default_rng(0))
    monkeypatch.setattr(augmentation, "AT_ONCE", at_once)
    np.testing.assert_array_equal(Affine()(x, np.random.default_rng(0)), expected)


# Colour


def coloured(height, width, count=2, channels=3):
    """Images (n, h, w, c) of which no two values are equal."""
    return numbered(height, width * channels, count).reshape(count, height, width, channels)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("outside", ["zero", "edge"])
def test_an_affine_distortion_moves_each_channel_as_it_would_an_image(channels, outside):
    x = coloured(9, 8, 2 * AT_ONCE + 1, channels)
    distort = Affine(outside=outside)
    found = distort(x, np.random.default_rng(3))
    assert found.dtype == np.float32
    for channel in range(channels):
        alone = distort(np.ascontiguousarray(x[..., channel]), np.random.default_rng(3))
        np.testing.assert_array_equal(found[..., channel], alone)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "flip-crop-cutout"])
def test_channels_are_distorted_alike(name):
    grey = numbered(12, 10, count=20)
    for axis in (0, 2):
        x = np.stack([grey, grey, grey], axis=1 + axis)
        found = augment(name, x, np.random.default_rng(5), axis)
        alone = augment(name, grey, np.random.default_rng(5))
        for channel in range(3):
            np.testing.assert_array_equal(found.take(channel, axis=1 + axis), alone)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("axis", [0, 1])
def test_where_the_channels_are_makes_no_difference(name, axis):
    last = coloured(9, 11, count=30)
    x = np.ascontiguousarray(np.moveaxis(last, -1, 1 + axis))
    found = augment(name, x, np.random.default_rng(1), axis)
    expected = augment(name, last, np.random.default_rng(1), 2)
    assert found.flags.c_contiguous
    np.testing.assert_allclose(np.moveaxis(found, 1 + axis, -1), expected, rtol=1e-6)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((8, 8), None), ((32, 32, 3), 2), ((3, 9, 8), 0), ((1, 5, 5), 0), ((6, 6, 1), 2),
        ((1, 1), None), ((2, 3, 3), 2),
    ],
)  # fmt: skip
def test_shape_type_and_range_are_kept_of_every_augmentation(name, shape, axis):
    x = np.random.default_rng(0).uniform(0.2, 0.9, (9, *shape)).astype(np.float32)
    x.flags.writeable = False
    before = x.copy()
    found = augment(name, x, np.random.default_rng(1), axis)
    assert (found.shape, found.dtype) == (x.shape, np.float32)
    low = 0 if name == "affine" else x.min()
    assert low - 1e-6 <= found.min() <= found.max() <= x.max() + 1e-6
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(augment(name, x, np.random.default_rng(1), axis), found)


def test_a_spec_can_name_every_augmentation_and_no_other():
    for name in AUGMENTATIONS:
        assert TrainingSpec(epochs=1, augmentation=name).augmentation == name
    allowed = TrainingSpec.model_fields["augmentation"].annotation
    assert allowed.__args__ == tuple(AUGMENTATIONS)


def test_none_gives_back_any_images():
    x = np.zeros((2, 5), np.float32)
    assert augment("none", x, np.random.default_rng(0)) is x


@pytest.mark.parametrize(
    ("shape", "axis", "words"),
    [
        ((64,), None, r"has the shape \(64,\); use augmentation = \"none\"$"),
        ((3, 8), 0, r"has the shape \(3, 8\); use augmentation = \"none\"$"),
        ((5, 8, 5), None, r"has the shape \(5, 8, 5\); say channel_axis$"),
        ((2, 5, 8, 5), 0, r"has the shape \(2, 5, 8, 5\); use augmentation = \"none\"$"),
    ],
)
def test_what_is_no_image_is_said_in_one_line(shape, axis, words):
    x = np.zeros((2, *shape), np.float32)
    with pytest.raises(HarnessError, match=r"^augmentation: 'flip-crop' is of images .*" + words):
        augment("flip-crop", x, np.random.default_rng(0), axis)


def test_what_comes_from_outside_can_be_the_edge():
    x = numbered(4, 5)
    found = affine(shift=40, outside="edge")(x, Extreme())
    np.testing.assert_array_equal(found[0], np.full((4, 5), x[0, -1, -1]))
    found = affine(shift=40, outside="edge")(x, Extreme(upper=False))
    np.testing.assert_array_equal(found[0], np.full((4, 5), x[0, 0, 0]))
    found = affine(shift=1, outside="edge")(x, Extreme())
    np.testing.assert_array_equal(found[0, :-1, :-1], x[0, 1:, 1:])
    np.testing.assert_array_equal(found[0, -1, :-1], x[0, -1, 1:])


# Flip and crop


@pytest.mark.parametrize(("upper", "moved"), [(True, 1), (False, -1)])
def test_a_crop_at_the_corner_mirrors_the_image_at_its_edge(upper, moved):
    x = np.arange(5, dtype=np.float32) * np.ones((1, 2, 1), np.float32)
    (found,) = FlipCrop(padding=2)(x, Extreme(upper))
    # Columns 0 1 2 3 4 with their border are 2 1 0 1 2 3 4 3 2: the last five, mirrored, or the
    # first five.
    expected = [2, 3, 4, 3, 2] if moved == 1 else [2, 1, 0, 1, 2]
    np.testing.assert_array_equal(found, [expected, expected])


def test_rows_are_moved_and_not_mirrored():
    x = np.arange(5, dtype=np.float32)[:, None] * np.ones((1, 1, 3), np.float32)
    (down,) = FlipCrop(padding=1)(x, Extreme())
    np.testing.assert_array_equal(down[:, 0], [1, 2, 3, 4, 3])


@pytest.mark.parametrize(("size", "padding"), [(1, 4), (2, 4), (3, 4), (5, 4), (6, 4), (32, 4)])
def test_the_border_is_that_of_numpy(size, padding):
    """All places, of images that may be smaller than the border is wide."""
    x = numbered(size, 2 * size, count=400)
    around = np.pad(x, ((0, 0), (padding, padding), (padding, padding)), mode="reflect")
    found = FlipCrop(padding)(x, np.random.default_rng(0))
    for image, padded in zip(found, around, strict=True):
        parts = [
            padded[row : row + size, column : column + 2 * size]
            for row in range(2 * padding + 1)
            for column in range(2 * padding + 1)
        ]
        assert any(
            np.array_equal(image, one) or np.array_equal(image, one[:, ::-1]) for one in parts
        )


def test_half_of_the_images_are_mirrored_and_every_place_is_as_likely():
    """No two pixels are equal, so that where each came from can be read from it."""
    count = 20_000
    x = np.broadcast_to(numbered(11, 11), (count, 11, 11))
    found = FlipCrop()(x, np.random.default_rng(0))
    # The middle and its neighbours never come from the border.
    mirrored = found[:, 5, 4] > found[:, 5, 6]
    row, column = np.divmod(np.rint(found[:, 5, 5] * 121).astype(int) - 1, 11)
    share = np.bincount((row - 1) * 9 + column - 1, minlength=81) / count
    # Four standard deviations.
    assert abs(mirrored.mean() - 0.5) < 4 * np.sqrt(0.25 / count)
    assert share.shape == (81,)
    assert np.abs(share - 1 / 81).max() < 4 * np.sqrt(1 / 81 / count)
    assert abs(np.corrcoef(mirrored, column)[0, 1]) < 4 / np.sqrt(count)


# Cutout


def test_a_square_of_the_images_mean_is_covered_and_nothing_else():
    x = coloured(16, 16, count=300)
    found = Cutout(share=0.25)(x, np.random.default_rng(0))
    sizes = set()
    for before, after in zip(x, found, strict=True):
        changed = np.argwhere((before != after).any(axis=-1))
        (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0) + 1
        square = after[top:bottom, left:right]
        assert len(changed) >= square[..., 0].size - 1  # but for a pixel that had the mean
        np.testing.assert_allclose(square, before.mean(dtype=np.float64), rtol=1e-6)
        sizes.add((bottom - top, right - left))
    # Whole within the image, and cut at its edges to no less than half.
    assert max(sizes) == (4, 4)
    assert min(min(size) for size in sizes) == 2


def test_a_chain_does_one_after_the_other():
    x = coloured(8, 8)
    random = np.random.default_rng(2)
    expected = Cutout()(FlipCrop()(x, random), random)
    chain = Chain((FlipCrop(), Cutout()))
    np.testing.assert_array_equal(chain(x, np.random.default_rng(2)), expected)
