"""Sanity checks on a CNN of images in colour: the same verdicts and numbers in either layout."""

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from backends_at_hand import at_hand
from zoo.networks import BOUNDS, digits

from harness.checks.sanity.checks import CHECKS, DRAWS, TOP, _not_by_the_pixel, findings
from harness.checks.sanity.evidence import Evidence, Variants
from harness.errors import CheckFailed, HarnessError
from harness.maths.around import Laid
from harness.protocol import Wrapping
from harness.saliency.maps import pixel_scores
from harness.saliency.methods import gradient
from harness.saliency.occlusion import occluded_correct
from harness.spec.measures import SanitySpec

METHODS = ("gradient", "smoothgrad", "integrated-gradients")


def in_colour(x):
    """Digits (n, 8, 8) in one of six colours each, on grounds that are not black."""
    random = np.random.default_rng(0)
    light, ground = random.random((2, len(x), 3, 1, 1))
    found = 0.3 * ground + (0.4 + 0.3 * light) * x[:, None]
    return (found + 0.02 * random.random(found.shape)).astype(np.float32)


def cnn():
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 10),
    )  # fmt: skip


def channels_last(net):
    """The same weights for images (n, h, w, c)."""
    from torch import nn

    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.permute(0, 3, 1, 2))

    return Transposed()


def fitted(net, x, y, epochs):
    import torch

    optimizer = torch.optim.Adam(net.parameters(), 0.005)
    x, y = torch.tensor(x), torch.tensor(y)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    return net


def cascade(net):
    net = copy.deepcopy(net)
    for layer in reversed([part for part in net if hasattr(part, "weight")]):
        layer.reset_parameters()
        yield copy.deepcopy(net)


@cache
def networks():
    """A trained one, and its variants: a cascade, a random one, of random labels, in float64."""
    at_hand("torch")
    import torch

    part = digits().train
    x = in_colour(part.x)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = fitted(cnn(), x, part.y, epochs=8)
        random_labels = np.random.default_rng(0).integers(10, size=500)
        relabelled = fitted(cnn(), x[:500], random_labels, epochs=15)
        nets = [net, cnn(), relabelled, copy.deepcopy(net), *cascade(net)]
    # In float32 a ReLU on the way of integrated gradients may switch by the rounding of a layout.
    return [net.double() for net in nets]


@cache
def evidence(layout, name="gradient"):
    x, y = in_colour(digits().test.x), digits().test.y
    wrap, nets = at_hand("torch").wrap, networks()
    if layout == "last":
        x, nets = np.moveaxis(x, 1, -1).copy(), [channels_last(net) for net in nets]
    model, random, relabelled, exact, *layers = (wrap(net, Wrapping(BOUNDS)) for net in nets)
    variants = Variants(tuple(layers), random, relabelled, exact, exact)
    return Evidence(model, x, y, name, variants=variants)


@pytest.mark.parametrize("name", METHODS)
def test_both_layouts_have_the_same_verdicts_and_numbers(name):
    first, last = (evidence(layout, name) for layout in ("first", "last"))
    assert (first.axis, last.axis) == (0, 2)
    np.testing.assert_allclose(np.moveaxis(last.maps, -1, 1), first.maps, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(last.likenesses, first.likenesses, atol=1e-6)
    for variant in ("random", "random_labels"):
        likeness = [one.likeness(getattr(one.variants, variant)) for one in (first, last)]
        np.testing.assert_allclose(*likeness, atol=1e-6)
    assert findings(first) == findings(last) == {}


def occluded(found, choice):
    scores = pixel_scores(found.maps, found.axis)
    return occluded_correct(
        found.model, found.x, found.y, scores, choice,
        fraction=TOP, draws=DRAWS, seed=0, channel_axis=found.axis, cover="blurred",
    )  # fmt: skip


def test_the_same_pixels_are_covered_in_both_layouts():
    for choice in ("top", "random", "least"):
        assert occluded(evidence("first"), choice) == occluded(evidence("last"), choice)


@pytest.mark.parametrize("layout", ["first", "last"])
def test_the_check_of_occlusion_covers_whole_pixels(layout):
    few = replace(evidence(layout), bounds=SanitySpec(margin=1.0))
    few = replace(few, test_x=few.test_x[:100], test_y=few.test_y[:100])
    shares = {choice: right / made for choice in ("top", "random")
              for right, made in [occluded(few, choice)]}  # fmt: skip
    with pytest.raises(CheckFailed) as caught:
        CHECKS["occlusion"](few)
    said = str(caught.value)
    assert f" falls to {shares['top']:.3f} with the 15% most salient pixels blurred, " in said
    assert f" and to {shares['random']:.3f} with random ones" in said


@pytest.mark.parametrize("layout", ["first", "last"])
def test_a_factor_of_the_image_is_found_and_attribution_is_none(layout):
    def edges(model, x, y, index):
        """The gradient times how far each pixel is from its neighbour, whatever the model is."""
        images = model.numpy(x)
        rows = 2 if layout == "first" else 1
        factor = np.abs(images - np.roll(images, 1, rows)) + 0.01
        return model.asarray(factor) * gradient(model, x, y, index)

    def from_a_colour(model, x, y, index):
        """Gradient × (image - a colour)."""
        baseline = np.array([0.9, 0.1, 0.5], np.float32)
        shape = (3, 1, 1) if layout == "first" else (1, 1, 3)
        return (x - model.asarray(baseline.reshape(shape))) * gradient(model, x, y, index)

    found = replace(evidence(layout), name="mine")
    assert "image-factor" in findings(replace(found, method=edges))
    assert "image-factor" not in findings(replace(found, method=from_a_colour))


def test_the_distance_from_a_colour_is_decided_by_the_pixel_in_each_channel():
    x = np.random.default_rng(0).random((2, 3, 5, 5))
    factor = np.abs(x - np.array([0.9, 0.1, 0.5]).reshape(3, 1, 1))
    kept = np.ones(x.shape, bool)
    assert _not_by_the_pixel(factor, x, kept, 0).max() < 1e-20
    assert _not_by_the_pixel(factor, x, kept, None).min() > 0.01
    moved = (np.moveaxis(array, 1, -1) for array in (factor, x, kept))
    assert _not_by_the_pixel(*moved, 2).max() < 1e-20
    kept[:, 1] = False  # a channel of which nothing is kept
    assert _not_by_the_pixel(factor, x, kept, 0).max() < 1e-20


def test_the_axis_is_what_is_said_or_else_what_the_model_says():
    found = evidence("last")
    assert replace(found, channel_axis=-1).axis == 2
    assert replace(found, model=Laid(found.model, 1)).axis == 1
    with pytest.raises(HarnessError, match="channel_axis: 3 is no axis"):
        _ = replace(found, channel_axis=3).axis
    with pytest.raises(HarnessError, match="channel_axis: 3 is no axis"):
        CHECKS["occlusion"](replace(found, channel_axis=3))
