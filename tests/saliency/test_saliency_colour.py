"""Images with channels: a pixel is a position, and all its channels are covered together."""

import numpy as np
import pytest
from backends_at_hand import at_hand

from harness.errors import HarnessError
from harness.evaluation.examples import Examples
from harness.evaluation.explaining import Explaining
from harness.maths.around import Around, Laid
from harness.maths.channels import channel_axis_of
from harness.networks.initial import initial_weights
from harness.protocol import Network, Wrapping, fully_connected
from harness.results.recorder import Recorder
from harness.results.run import Run
from harness.saliency import analysis, topk
from harness.saliency.maps import pixel_count, pixel_scores, pixel_shape, top_pixels
from harness.saliency.methods import explain
from harness.saliency.occlusion import occluded_correct
from harness.spec.measures import SaliencySpec

SPEC = SaliencySpec(top=0.25, random_draws=3, epsilon=0.05)
COLOUR = (3, 5, 6)


class ChannelsLast(Around):
    """A model of images (n, c, h, w) that takes them as (n, h, w, c)."""

    def logits(self, x):
        return self.inner.logits(np.moveaxis(x, -1, 1))

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = self.inner.logits_and_gradient(np.moveaxis(x, -1, 1), y, objective)
        return logits, np.moveaxis(gradient, 1, -1)


def last(images):
    return np.ascontiguousarray(np.moveaxis(images, 1, -1))


def net(shape, classes=4, dtype="float64"):
    architecture = fully_connected(shape, (12,), classes)
    weights = initial_weights(architecture, seed=0)
    return at_hand("numpy").build(Network(architecture, weights), dtype=dtype)


def images_of(model, shape, count=30, dark=0.0):
    x = np.random.default_rng(0).random((count, *shape), dtype=np.float32)
    x[x < dark] = 0.0
    return x, model.logits(x.astype(float)).argmax(axis=1)


def measured(model, x, y, method="gradient"):
    moved = analysis.under_fgsm(model, x, y, SPEC.epsilon)
    drawn = analysis.analysed_at_random(model, x, y, SPEC, seed=3)
    found = analysis.analysed(model, x, y, moved, method, SPEC)
    return found | {f"random/{name}": values for name, values in drawn.items()}


# By hand

MAP = np.array([[[[1.0, -4.0], [0.0, 2.0]], [[-1.0, 0.5], [3.0, 2.0]]]])  # two channels of 2 × 2


def test_the_score_of_a_pixel_is_the_sum_of_the_absolute_values_of_its_channels():
    assert pixel_scores(MAP, 0).tolist() == [[[[2, 4.5], [3, 4]]]]
    assert pixel_scores(last(MAP), 2).tolist() == [[[[2], [4.5]], [[3], [4]]]]
    np.testing.assert_array_equal(pixel_scores(MAP, None), np.abs(MAP))
    assert [pixel_shape((3, 8, 9), axis) for axis in (None, 0, 2)] == [
        (3, 8, 9), (1, 8, 9), (3, 8, 1)
    ]  # fmt: skip


def test_the_share_of_the_top_pixels_is_one_of_positions():
    scores = pixel_scores(MAP, 0)
    assert pixel_count(scores.shape[1:], 0.5) == 2
    assert top_pixels(scores, 0.5).tolist() == [[[[False, True], [False, True]]]]


def linear(matrix, shape):
    weights = {"layers.0.weight": np.array(matrix), "layers.0.bias": np.zeros(len(matrix))}
    return at_hand("numpy").build(
        Network(fully_connected(shape, (), len(matrix)), weights), Wrapping(), dtype="float64"
    )


def deciding():
    """Three channels of 4 × 4: class 1 if the sum 4 r - g + 2 b of one pixel is above zero."""
    matrix = np.zeros((2, 3, 4, 4))
    matrix[1, :, 1, 0] = (4.0, -1.0, 2.0)
    return linear(matrix.reshape(2, -1), (3, 4, 4))


@pytest.mark.parametrize("layout", ["first", "last"])
def test_covering_the_pixel_that_decides_covers_all_its_channels(layout):
    model, x = deciding(), np.ones((8, 3, 4, 4))
    maps = explain(model, x, np.ones(8, int))
    if layout == "last":
        model, x, maps = ChannelsLast(model), last(x), last(maps)
    scores = pixel_scores(maps, channel_axis_of(model, x.shape[1:]))
    how = {"fraction": 1 / 16, "draws": 400, "seed": 0}
    # All logits are then zero, and of equal ones the first counts.
    assert occluded_correct(model, x, np.ones(8, int), scores, "top", **how) == (0, 8)
    assert occluded_correct(model, x, np.ones(8, int), scores, "least", **how) == (8, 8)
    right, made = occluded_correct(model, x, np.ones(8, int), scores, "random", **how)
    assert right / made == pytest.approx(15 / 16, abs=0.02)  # one pixel decides


def test_the_mean_pixel_of_images_in_colour_is_a_colour():
    matrix = np.zeros((2, 3, 2, 2))
    matrix[1, 0] = 1.0  # the red ones
    model = linear(matrix.reshape(2, -1), (3, 2, 2))
    x = np.zeros((2, 3, 2, 2))
    x[:, 0], x[:, 2] = 0.5, 1.0
    scores = np.zeros((2, 1, 2, 2))
    scores[:, :, 0, 0] = 1.0
    found = topk.covered(model, x, np.ones(2, int), scores).confidence
    z = np.array([1.5, 2.0])  # the covered one black, or as red as it was
    np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-z)), rtol=1e-6)


class Seeing(Around):
    """Notes how many pixels of the first image are black, and that all channels of them are."""

    def __init__(self, inner):
        super().__init__(inner)
        self.black = []

    def logits(self, x):
        dark = np.asarray(x[0] == 0)
        channels = dark.reshape(3, -1) if dark.shape[0] == 3 else dark.reshape(-1, 3).T
        assert (channels == channels[0]).all()
        self.black.append(int(channels[0].sum()))
        return self.inner.logits(x)


@pytest.mark.parametrize("layout", ["first", "last"])
def test_shares_are_those_of_positions(layout):
    model, x, y = net((3, 4, 5)), np.ones((2, 3, 4, 5)), np.zeros(2, int)
    if layout == "last":
        model, x = ChannelsLast(model), last(x)
    seeing = Seeing(model)
    shape = topk.scores_shape(seeing, x)
    scores = topk.random_scores(shape, 0, 0)
    topk.covered(seeing, x, y, scores)
    assert seeing.black[:5] == [1, 2, 3, 4, 6]  # of 20; then with their mean, which is no black
    seeing.black.clear()
    topk.deletion(seeing, x, y, scores)
    assert seeing.black == list(range(21))
    seeing.black.clear()
    topk.insertion(seeing, x, y, scores)
    assert seeing.black == list(range(20, -1, -1))


# Properties


@pytest.mark.parametrize("method", ["gradient", "smoothgrad", "integrated-gradients"])
def test_the_numbers_are_the_same_in_both_layouts(method):
    model = net(COLOUR)
    x, y = images_of(model, COLOUR)
    first = measured(model, x, y, method)
    found = measured(ChannelsLast(model), last(x), y, method)
    assert found.keys() == first.keys()
    assert "strokes" not in first
    for name, values in first.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("shape", [(1, 5, 6), (5, 6, 1)])
@pytest.mark.parametrize("method", ["gradient", "smoothgrad"])
def test_grey_images_of_one_channel_have_the_numbers_of_those_without(shape, method):
    flat, with_channel = net((5, 6), dtype="float32"), net(shape, dtype="float32")
    x, y = images_of(flat, (5, 6), dark=0.6)
    first = measured(flat, x, y, method)
    found = measured(with_channel, x.reshape(-1, *shape), y, method)
    assert "strokes" in found
    for name, values in first.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_what_a_model_says_of_its_channels_counts():
    model = net((5, 6, 2))
    x, _ = images_of(model, (5, 6, 2))
    assert topk.scores_shape(model, x) == (30, 5, 6, 2)
    assert topk.scores_shape(Laid(model, -1), x) == (30, 5, 6, 1)
    with pytest.raises(HarnessError, match="channel_axis: 4 is no axis of images of shape"):
        topk.scores_shape(Laid(model, 4), x)


# Strokes


@pytest.mark.parametrize(
    ("x", "axis", "why"),
    [
        (np.array([[[0.0, 0.0], [0.9, 1.0]]]), None, ""),
        (np.array([[[[0.01, 0.0], [0.9, 1.0]]]]), 0, ""),
        (np.array([[0.0, 0.0, 0.0, 0.9, 0.9]]), None, ""),
        (np.array([[0.0, 0.9, 0.9, 0.9]]), None, "dark background: 25% of their pixels are black"),
        (np.full((2, 4, 4), 0.02), None, "the images have no dark background: 0%"),
        (np.zeros((2, 3, 4, 4)), 0, "the images are in colour"),
        (np.zeros((2, 5, 4, 6)), None, "the images are in colour"),
    ],
)
def test_strokes_are_those_of_grey_images_on_black(x, axis, why):
    found = topk.why_no_strokes(x, (0.0, 1.0), axis)
    assert why in found
    assert bool(found) == bool(why)
    moved = topk.why_no_strokes(255 * x - 100, (-100.0, 155.0), axis)
    assert moved == found


def explaining(shape, dark):
    model = net(shape, dtype="float32")
    x, y = images_of(model, shape, dark=dark)
    recorder = Recorder(Run(spec={}, spec_sha256="", data_sha256="", created="now"), "numpy", "m")
    return Explaining(model, x, y, Examples(x, y, recorder), recorder, SPEC, 0), recorder


@pytest.mark.parametrize(
    ("shape", "dark", "reason"),
    [
        ((5, 6), 0.6, None),
        ((5, 6), 0.0, "the images have no dark background: 1% of their pixels are black"),
        (COLOUR, 0.6, "the images are in colour: strokes are the bright pixels of grey ones on"),
    ],
)
def test_images_without_strokes_skip_that_measure_alone_and_say_why(shape, dark, reason):
    made, _ = explaining(shape, dark)
    records = {record.check.rpartition("/")[2]: record for record in made.explained("gradient")}
    strokes = records.pop("strokes")
    assert {record.status for record in records.values()} == {"measured"}
    if reason is None:
        assert (strokes.status, strokes.reason) == ("measured", "")
        assert 0 <= strokes.value <= 1
    else:
        assert (strokes.status, strokes.value) == ("skipped", None)
        assert strokes.reason.startswith(reason)


def test_the_mask_of_an_example_is_that_of_all_its_channels():
    made, recorder = explaining(COLOUR, 0.0)
    assert made.occluded("top").status == "measured"
    mask, maps = recorder.kept("examples/saliency/top"), recorder.kept("examples/saliency")
    assert mask.dtype == np.bool_
    assert mask.shape == maps.shape == (len(made.examples.index), *COLOUR)
    assert (mask == mask[:, :1]).all()
    assert mask[:, 0].sum(axis=(1, 2)).tolist() == [round(0.25 * 30)] * len(mask)
    np.testing.assert_array_equal(mask[:, :1], top_pixels(maps.sum(axis=1, keepdims=True), 0.25))
