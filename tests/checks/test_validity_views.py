"""Orders of data, layouts, colours and epsilons that mean something else to the model."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from zoo.broken_models import ForgotAClass
from zoo.healthy import in_bytes
from zoo.networks import built, images

import harness
from harness.attacks import make_attack
from harness.checks.validity import CHECKS, Evidence, Reported
from harness.checks.validity.answers import MANY
from harness.checks.validity.views import layouts, views
from harness.errors import CheckFailed, NotApplicable
from harness.maths.around import Laid
from harness.protocol import Network, Wrapping, fully_connected

LAYOUTS = {
    "rows and columns exchanged": lambda x: x.swapaxes(1, 2),
    "rows and columns exchanged from the last to the first": lambda x: x[:, ::-1, ::-1].swapaxes(
        1, 2
    ),
    "the images turned by 180°": lambda x: x[:, ::-1, ::-1],
    "the images mirrored": lambda x: x[:, :, ::-1],
}
FORGOTTEN = 4
"""Which class ``ForgotAClass`` never predicts."""
ORDERS = ["RBG", "GRB", "GBR", "BRG", "BGR"]


def record(rule, model, x, y, attacks="fgsm", epsilons=(0.1,)):
    run = harness.evaluate(model, np.ascontiguousarray(x), y, attacks, epsilons)
    return next(r for r in run.records if r.check == f"validity/{rule}")


@pytest.mark.parametrize("name", LAYOUTS)
def test_evaluate_names_the_layout_that_most_images_are_wrong_by(name):
    x, y = images()
    found = record("no-better-than-chance", built(), LAYOUTS[name](x), y)
    assert found.status == "failed"
    assert f" with {name}. Give the network the images" in found.reason


@pytest.mark.parametrize("epochs", [1, 15])
def test_evaluate_blames_no_layout_of_what_is_right(epochs):
    assert record("no-better-than-chance", built(epochs=epochs), *images()).status == "passed"


def coloured(order="RGB"):
    """Images of three by three classes: which colour, and which of three places is light."""
    random = np.random.default_rng(0)
    y = np.arange(450) % 9
    x = 0.2 * random.random((450, 3, 3, 3))
    x[np.arange(450), y // 3, y % 3, 1] += 0.8
    return x[:, ["RGB".index(sign) for sign in order]].astype(np.float32), y


def knows_colours():
    weights = np.zeros((27, 9), dtype=np.float32)
    for label in range(9):
        weights[np.ravel_multi_index((label // 3, label % 3, 1), (3, 3, 3)), label] = 10
    net = fully_connected((3, 3, 3), (), 9)
    given = {"layers.0.weight": weights.T, "layers.0.bias": np.zeros(9, np.float32)}
    return at_hand("numpy").build(Network(net, given), Wrapping((0.0, 1.0)))


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_the_channels_is_tried_before_the_labels_are_blamed(order):
    evidence = Evidence(knows_colours(), *coloured(order))
    with pytest.raises(CheckFailed, match="with the channels in "):
        CHECKS["input-range"](evidence)
    with pytest.raises(NotApplicable, match="the model is accurate with the channels in "):
        CHECKS["labels-shifted"](evidence)


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("bands", [3, 6])
def test_rows_and_columns_are_those_beside_the_axis_of_the_channels(axis, bands):
    """Where three pixels in a row leave doubt, the model may say which axis it is."""
    place = 0 if axis is None else axis
    shape = [3, 3, 3]
    shape[place] = bands
    x = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    found = layouts(x, axis)
    if axis is None and bands == 6:  # it could be anything
        assert found == {}
        return
    rows, columns = (each + 1 for each in range(3) if each != place)
    np.testing.assert_array_equal(found["the images upside down"], np.flip(x, rows))
    np.testing.assert_array_equal(found["the images mirrored"], np.flip(x, columns))
    np.testing.assert_array_equal(
        found["rows and columns exchanged"], np.swapaxes(x, rows, columns)
    )
    assert ("the channels in reverse order (BGR for RGB)" in found) == (bands == 3)
    assert any("read as channels" in name for name in found) == (bands == 3 and place != 1)


def test_the_views_are_those_of_the_axis_that_the_model_says():
    x = coloured()[0][:4]
    model = knows_colours()
    for one, axis in ((model, 0), (Laid(model, 0), 0), (Laid(model, -1), 2)):
        found = {name: images for name, _, images in views(x, one)}
        reverse = found["the channels in reverse order (BGR for RGB)"]
        np.testing.assert_array_equal(reverse, np.flip(x, axis + 1))


def test_labels_that_are_exchanged_are_still_called_so():
    x, y = images()
    exchanged = np.where(y == 3, 8, np.where(y == 8, 3, y))
    with pytest.raises(CheckFailed, match="predicted classes exchanged"):
        CHECKS["labels-shifted"](Evidence(built(), x, exchanged))


def test_a_class_that_is_never_predicted_is_found_in_data_sorted_by_class():
    x, y = images()
    x, y = np.tile(x, (15, 1, 1)), np.tile(y, 15)
    order = np.argsort((y - 1 - FORGOTTEN) % 10, kind="stable")  # it comes last
    assert FORGOTTEN not in y[order][:MANY]
    with pytest.raises(CheckFailed, match=f"class {FORGOTTEN} is never predicted"):
        CHECKS["never-predicted"](Evidence(ForgotAClass(), x[order], y[order]))


@pytest.mark.parametrize("sort", [False, True])
def test_many_images_are_an_even_choice(sort):
    x, y = images()
    x, y = np.tile(x, (15, 1, 1)), np.tile(y, 15)
    order = np.argsort(y, kind="stable") if sort else np.arange(len(y))
    evidence = Evidence(built(), x[order], y[order])
    assert np.ptp(np.bincount(evidence.test_y[evidence.many])) <= 1
    assert len(np.unique(evidence.many)) == len(evidence.many_labels) == MANY


# Epsilons


@pytest.mark.parametrize(
    ("model", "attack", "epsilons", "odd"),
    [
        (built, "fgsm", (8,), True),
        (built, "fgsm", (0.5 / 255,), False),
        (built, "fgsm", (0.001, 0.1), False),
        (built, "fgsm", (0.0,), False),
        (built, "fgsm", (1.0,), False),
        (built, "pgd-l2", (0.05,), False),
        (built, "pgd-l2", (20.0,), True),
        (built, "pgd-l2", (0.5 / 255,), True),
        (in_bytes, "fgsm", (0.3,), True),
        (in_bytes, "fgsm", (0.1, 0.2, 0.3), True),
        (in_bytes, "fgsm", (0.5,), False),
        (in_bytes, "fgsm", (8,), False),
        (in_bytes, "pgd-l2", (0.5,), True),
        (in_bytes, "pgd-l2", (128,), False),
    ],
)
def test_evaluate_says_which_epsilons_are_out_of_proportion(model, attack, epsilons, odd):
    one = model()
    found = record("epsilon-scale", one, *images(one.bounds), attack, epsilons)
    assert found.status == ("failed" if odd else "passed")


@pytest.mark.parametrize(
    ("side", "width", "epsilon", "odd"),
    [
        (32, 1.0, 0.05, False),
        (32, 255.0, 2.0, True),
        (32, 255.0, 12.75, False),
        (224, 1.0, 0.05, False),
        (224, 255.0, 3.0, True),
        (224, 255.0, 12.75, False),
    ],
)
def test_lengths_in_l2_are_held_against_the_number_of_pixels(side, width, epsilon, odd):
    class Model:
        bounds = (0.0, width)

    x = np.zeros((1, 3, side, side), np.float32)
    reported = (Reported(make_attack("pgd-l2"), (epsilon,)),)
    evidence = Evidence(Model(), x, np.zeros(1, np.int64), reported=reported)
    if odd:
        with pytest.raises(CheckFailed, match="less than half one grey level"):
            CHECKS["epsilon-scale"](evidence)
    else:
        CHECKS["epsilon-scale"](evidence)
