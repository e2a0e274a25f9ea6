"""Colour images are drawn in either layout, and nothing is left out without a word."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from synthetic import EPSILONS, METHODS, synthetic_run

from harness.results.records import DataInfo
from reports import stored, tiles
from reports.page import Source, page
from reports.sections import examples, minimal, saliency
from reports.stored import Pair
from reports.view import RunView

TORCH = Pair("torch", "mlp")
PICTURED = re.compile("/(examples|extremes)/")


def reshaped(shape, axis=None, bounds=(0.0, 1.0), *, told=True):
    """A run of one model whose images have that shape, with values of their own."""
    run = synthetic_run(backends=["torch"])
    run.arrays["torch/mlp/minimal-epsilon/pgd"] = np.linspace(0.1, 0.6, 60)
    begin = "torch/mlp/minimal-epsilon/pgd/extremes"
    run.arrays[f"{begin}/index"] = np.array([0, 1, 58, 59])
    run.arrays[f"{begin}/labels"] = np.zeros(4, np.int16)
    for name in ("clean", "adversarial"):
        run.arrays[f"{begin}/{name}"] = np.zeros((4, 6, 6), np.float32)
    random = np.random.default_rng(0)
    low, high = bounds
    for key, values in run.arrays.items():
        if PICTURED.search(key) and values.shape[-2:] == (6, 6):
            maps = "/maps/" in key or "cascade" in key or key.endswith("saliency")
            new = random.random((*values.shape[:-2], *shape), dtype=np.float32)
            new = new - np.float32(0.5) if maps else low + (high - low) * new
            run.arrays[key] = new > 0.5 if values.dtype == bool else new.astype(np.float32)
    if told:
        run.data = DataInfo(source="made", images=60, shape=shape, dtype="float32", bounds=bounds,
                            channel_axis=axis)  # fmt: skip
    return run


def pixels(uri):
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


SHAPES = [
    ((3, 8, 9), 0), ((8, 9, 3), 2), ((1, 8, 9), 0), ((8, 9, 1), 2), ((4, 8, 9), 0), ((8, 9, 4), 2),
    ((8, 9), None), ((3, 40, 3), 0), ((3, 40, 3), 2),
]  # fmt: skip


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_every_picture_of_a_run_is_drawn_in_its_colours(shape, axis, told):
    run = reshaped(shape, axis, told=told)
    if not told and shape == (3, 40, 3):
        assert examples.gallery_of(run, TORCH, "fgsm", EPSILONS) is None
        return
    clean = run.arrays["torch/mlp/examples/clean"]
    last = clean if axis is None else np.moveaxis(clean, axis + 1, -1)[..., :3]
    colour = last.ndim == 4 and last.shape[3] == 3
    wanted = last if colour else np.repeat(last.reshape(*last.shape[:3], 1), 3, axis=3)
    gallery = examples.gallery_of(run, TORCH, "fgsm", EPSILONS)
    found = [pixels(tile.uri) for tile in gallery.rows[0][1]]
    # Grey pictures have 64 shades.
    np.testing.assert_allclose(found, 255 * wanted, atol=0.51 if colour else 3.1)
    assert len(gallery.rows) == len(EPSILONS)
    assert len(gallery.change) == 4
    (extremes,) = minimal.extremes_of(run, [TORCH])
    assert len(extremes.fragile + extremes.robust) == 4
    (explained,) = saliency.section_of(run, RunView(run).frame, [TORCH], 0.15)
    assert explained.methods == list(METHODS)
    assert [len(row.tiles) for row in explained.cascade] == [3, 3]
    assert explained.colours == gallery.colours == colour
    if shape not in ((3, 8, 9), (8, 9, 1)):
        return  # a page takes its time
    html = page([Source(run)])
    assert "cannot be drawn" not in html
    assert ("summed" in html) == colour


@pytest.mark.parametrize("axis", [0, 2])
def test_a_map_of_colours_is_the_sum_of_absolute_values_over_channels(axis):
    run = reshaped((3, 8, 9) if axis == 0 else (8, 9, 3), axis)
    signed = run.arrays["torch/mlp/examples/maps/gradient"]
    np.testing.assert_allclose(
        stored.saliency_maps(run, TORCH, "gradient"), np.abs(signed).sum(axis=axis + 1), rtol=1e-6
    )


def test_a_change_of_colours_is_the_mean_over_channels():
    clean = np.full((2, 2, 3), 0.5)
    moved = clean + np.array([0.25, 0.25, -0.5])  # which is no change on the mean
    np.testing.assert_array_equal(
        pixels(tiles.changed(moved, clean, 0.2)), pixels(tiles.changed(clean, clean, 0.2))
    )
    one = np.zeros((2, 2, 3))
    one[..., 0] = 0.75
    grey = np.zeros((2, 2))
    assert tiles.changed(one, 0 * one, 0.5) == tiles.changed(grey + 0.25, grey, 0.5)


@pytest.mark.parametrize("bounds", [(0.0, 255.0), (-1.0, 1.0), (-2.5, 3.0)])
def test_pictures_are_drawn_between_the_bounds_of_the_images(bounds):
    run = reshaped((3, 8, 9), 0, bounds)
    clean = np.moveaxis(run.arrays["torch/mlp/examples/clean"], 1, -1)
    wanted = 255 * (clean - bounds[0]) / (bounds[1] - bounds[0])
    gallery = examples.gallery_of(run, TORCH, "fgsm", EPSILONS)
    found = [pixels(tile.uri) for tile in gallery.rows[0][1]]
    np.testing.assert_allclose(found, wanted, atol=0.51)


def test_large_colour_pictures_have_few_colours_and_the_right_ones():
    ramp = np.linspace(0, 1, 64)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 0.5), axis=-1)
    found = pixels(tiles.drawn(image, 0, 1))
    assert len(np.unique(found.reshape(-1, 3), axis=0)) <= tiles.COLOURS
    assert np.abs(found - 255 * image).mean() < 8


@pytest.mark.parametrize("shape", [(36,), (2, 6, 6), (6, 6, 12), (2, 3, 6, 6), (3, 3, 3)])
def test_images_that_cannot_be_drawn_are_left_out_with_a_sentence(shape):
    run = reshaped(shape)
    html = page([Source(run)])
    sentence = f"Images of shape {shape} cannot be drawn"
    assert html.count(sentence) == 3  # examples, extremes and maps
    assert "<img" not in html
    assert "This run holds nothing for: example images" not in html


def test_epsilons_without_pictures_are_named():
    run = synthetic_run(backends=["torch"])
    for epsilon in (0.05, 0.2):
        del run.arrays[f"torch/mlp/examples/fgsm@{epsilon}"]
    html = page([Source(run)]).replace("&nbsp;", " ")
    assert "Pictures at ε = 0.05, ε = 0.2 are not stored" in html
    assert "are not stored" not in page([Source(synthetic_run(backends=["torch"]))])


def test_an_answer_that_was_not_given_is_no_class():
    run = reshaped((6, 6))
    run.arrays["torch/mlp/clean/predictions"][3] = -1
    run.arrays["torch/mlp/examples/moved/labels"][0] = -1
    run.arrays["torch/mlp/minimal-epsilon/pgd/extremes/labels"][0] = -1
    (first, second, *_) = examples.gallery_of(run, TORCH, "fgsm", EPSILONS).rows[0][1]
    assert first.predicted is None
    assert not first.wrong
    assert first.alt.endswith("; not answered")
    assert second.predicted is not None
    (extremes,) = minimal.extremes_of(run, [TORCH])
    assert extremes.fragile[0].adversarial.predicted is None
    assert not extremes.fragile[0].adversarial.wrong
    # A clean image and an extreme one, and the first two of the images under their maps: one clean,
    # one under FGSM, by each of two methods and without a map.
    assert page([Source(run)]).count(">not answered<") == 1 + 1 + 2 * 3
