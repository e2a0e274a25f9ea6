"""Finite differences: never an alarm about a healthy network with kinks, and every planted error.

The images have a flat background, on which the inputs of a max-pooling tie and a convolution
without a bias is exactly at the kink of its ReLU.
"""

import numpy as np
import pytest
from backends_at_hand import at_hand
from zoo.impostors import with_other_relus

from harness.checks import conformance
from harness.checks.conformance import CHECKS
from harness.checks.sanity import checks as sanity
from harness.checks.sanity.evidence import Evidence, Variants
from harness.errors import CheckFailed, NotApplicable
from harness.maths.differences import off_the_ties, slopes
from harness.maths.objectives import ClassLogit
from harness.protocol import GRADIENT, UNIT, Wrapping
from harness.saliency.methods import METHODS, gradient


def strokes(count=16, side=12, bounds=(0.0, 1.0)):
    """Grey images, each a bright stroke on black, and labels from 0 to 2."""
    random = np.random.default_rng(0)
    x = np.zeros((count, side, side), dtype=np.float32)
    for image in x:
        row, column = random.integers(2, side - 4, size=2)
        image[row : row + 2, column : column + 4] = random.random((2, 4)) > 0.3
    low, high = bounds
    return (low + (high - low) * x).astype(np.float32), random.integers(3, size=count)


def torch_net(*, bias=True, pool="max", activation="relu", seed=0):
    at_hand("torch")
    import torch
    from torch import nn

    pools = {"max": nn.MaxPool2d(2), "overlapping": nn.MaxPool2d(3, stride=2, padding=1)}
    active = {"relu": nn.ReLU, "leaky": nn.LeakyReLU, "silu": nn.SiLU, "hardtanh": nn.Hardtanh}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Unflatten(1, (1, 12)),
            nn.Conv2d(1, 8, 3, padding=1, bias=bias), active[activation](),
            pools[pool], nn.Conv2d(8, 8, 3, padding=1, bias=bias), active[activation](),
            nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(32, 3, bias=bias),
        )  # fmt: skip


def in_torch(net, bounds=(0.0, 1.0)):
    """The network in float32 and in float64."""
    import copy

    wrap = at_hand("torch").wrap
    how = Wrapping(bounds)
    return wrap(net, how), wrap(copy.deepcopy(net).double(), how)


def in_keras(**options):
    at_hand("keras")
    import keras

    made = []
    for dtype in ("float32", "float64"):
        layers = [
            keras.layers.Conv2D(8, 3, padding="same", activation="relu", dtype=dtype),
            keras.layers.MaxPooling2D(2, dtype=dtype),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu", dtype=dtype),
            keras.layers.GlobalMaxPooling2D(dtype=dtype),
            keras.layers.Dense(3, dtype=dtype),
        ]
        net = keras.Sequential(
            [keras.Input((12, 12), dtype=dtype), keras.layers.Reshape((12, 12, 1), dtype=dtype),
             *layers]
        )  # fmt: skip
        if made:
            net.set_weights(made[0].net.get_weights())
        else:
            random = np.random.default_rng(0)
            net.set_weights([random.normal(0, 0.3, w.shape) for w in net.get_weights()])
        made.append(at_hand("keras").wrap(net, UNIT))
    return made


HEALTHY = {
    "max-pool": lambda: in_torch(torch_net()),
    "no-bias": lambda: in_torch(torch_net(bias=False)),
    "overlapping-pools": lambda: in_torch(torch_net(pool="overlapping")),
    "leaky": lambda: in_torch(torch_net(activation="leaky")),
    "smooth": lambda: in_torch(torch_net(activation="silu")),
    "clipped-units": lambda: in_torch(torch_net(activation="hardtanh")),
    "keras": in_keras,
}


def evidence_of(model, exact, **options):
    x, y = strokes(**options)
    return conformance.Evidence(model, x, y, exact=exact)


def map_evidence(model, exact, name="gradient", method=None):
    variants = Variants((), model, model, exact, exact)
    return Evidence(model, *strokes(), name, method, variants=variants)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_network_of_a_framework_has_on_flat_backgrounds_the_slopes_of_its_gradient(name):
    model, exact = HEALTHY[name]()
    CHECKS["gradient"](evidence_of(model, exact))
    for method in sanity.DERIVED:
        sanity.check_finite_differences(map_evidence(model, exact, method))


def test_pixels_of_bytes_have_slopes_in_torch_too():
    model, exact = in_torch(torch_net(), bounds=(0.0, 255.0))
    CHECKS["gradient"](evidence_of(model, exact, bounds=(0.0, 255.0)))


@pytest.mark.parametrize("seed", range(6))
def test_no_torch_network_is_unlucky(seed):
    model, exact = in_torch(torch_net(seed=seed))
    CHECKS["gradient"](evidence_of(model, exact))
    sanity.check_finite_differences(map_evidence(model, exact))


# Planted errors


class Planted:
    """A network whose gradient is another than its own."""

    def __init__(self, model, wrong):
        self.model, self.wrong = model, wrong

    def __getattr__(self, name):
        return getattr(self.model, name)

    def logits_and_gradient(self, x, y, objective):
        logits, found = self.model.logits_and_gradient(x, y, objective)
        return logits, self.wrong(self.model, found, x, y, objective)


def flipped_in_one_quarter(model, found, x, y, objective):
    found = found.clone()
    found[:, :6, :6] *= -1
    return found


def of_another_class(model, found, x, y, objective):
    return model.logits_and_gradient(x, (y + 1) % 3, objective)[1]


def of_smoothed_relus(model, found, x, y, objective):
    """The backward pass of softplus (β = 5) in the place of that of ReLU."""
    other = with_other_relus(model, lambda flow, values: flow * (5 * values).sigmoid())
    return other.logits_and_gradient(x, y, objective)[1]


WRONG = {
    "negated": lambda model, found, *_: -found,
    "a-thousandth-too-large": lambda model, found, *_: 1.001 * found,
    "doubled": lambda model, found, *_: 2 * found,
    "zero": lambda model, found, *_: 0 * found,
    "shifted": lambda model, found, *_: found.roll(1, 2),
    "transposed": lambda model, found, *_: found.swapaxes(1, 2),
    "flipped-in-one-quarter": flipped_in_one_quarter,
    "of-another-class": of_another_class,
    "of-smoothed-relus": of_smoothed_relus,
    "clipped": lambda model, found, *_: found.clip(-0.01, 0.01),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_planted_in_a_torch_network_is_found(name):
    model, exact = (Planted(one, WRONG[name]) for one in in_torch(torch_net()))
    with pytest.raises(CheckFailed, match="off finite differences"):
        CHECKS["gradient"](evidence_of(model, exact))
    with pytest.raises(sanity.CheckFailed, match="have another slope"):
        sanity.check_finite_differences(map_evidence(model, exact))


def test_a_method_that_does_not_multiply_by_the_image_is_found_in_torch():
    model, exact = in_torch(torch_net())
    with pytest.raises(sanity.CheckFailed, match="have another slope"):
        sanity.check_finite_differences(map_evidence(model, exact, "gradient-x-input", gradient))
    with pytest.raises(sanity.CheckFailed, match="have another slope"):
        sanity.check_finite_differences(
            map_evidence(model, exact, "gradient", METHODS["loss-gradient"])
        )


# Slopes by hand


class Kinked:
    """The logits of a pixel p: max(p, 1/2) or 2 (p - 1/2)², in float64."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset({GRADIENT})

    def asarray(self, values):
        return values

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        return np.concatenate([np.maximum(x, 0.5), 2 * (x - 0.5) ** 2], axis=1)


def test_slopes_by_hand_and_none_at_a_kink():
    x = np.array([[0.2], [0.5], [0.8]])
    pixel = np.zeros((3, 1), dtype=int)
    bent = slopes(Kinked(), x, np.array([0, 0, 0]), ClassLogit(), pixel, 1e-4)
    assert bent.smooth[:, 0].tolist() == [True, False, True]
    np.testing.assert_allclose(bent.values[[0, 2], 0], [0.0, 1.0], atol=1e-8)
    round_ = slopes(Kinked(), x, np.array([1, 1, 1]), ClassLogit(), pixel, 1e-4)
    assert round_.smooth.all()
    np.testing.assert_allclose(round_.values[:, 0], [-1.2, 0.0, 1.2], atol=1e-6)


def test_without_slopes_nothing_is_said():
    class Sawtooth(Kinked):
        """Up and down within less than the shortest step."""

        def logits(self, x):
            wave = np.abs((x * 1.2345678e9) % 2 - 1)
            return np.concatenate([wave, -wave], axis=1)

        def logits_and_gradient(self, x, y, objective):
            return self.logits(x), np.zeros_like(x)

    case = conformance.Evidence(
        Sawtooth(), np.full((3, 1), 0.3, np.float32), np.array([0, 1, 0]), Sawtooth()
    )
    with pytest.raises(NotApplicable, match="differences say nothing"):
        CHECKS["gradient"](case)


def test_images_leave_the_ties_but_not_the_bounds():
    x = np.array([[-1.0, -1.0, 0.0, 3.0, 3.0]], dtype=np.float32)
    moved = off_the_ties(x, (-1.0, 3.0))
    assert moved.dtype == np.float64
    assert len(np.unique(moved)) == 5
    assert (moved > -1.0).all()
    assert (moved < 3.0).all()
    assert 0 < np.abs(moved - x).max() <= 4e-3


def test_the_cross_entropy_of_a_confident_image_is_flat_in_torch_and_not_wrong():
    model, exact = in_torch(torch_net())
    import torch

    for one in (model, exact):
        with torch.no_grad():
            one.net[-1].weight *= 3000
            one.net[-1].bias *= 3000
    x, _ = strokes()
    y = exact.numpy(exact.logits(exact.asarray(x))).argmax(axis=1)
    sure = Evidence(model, x, y, "loss-gradient", variants=Variants((), model, model, exact, exact))
    sanity.check_finite_differences(sure)
