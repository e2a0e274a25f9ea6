"""One image at a time: the numbers are those of the suites, and of hand-computed models."""

from __future__ import annotations

import numpy as np
import pytest
from live_servers import Box, live
from small_models import linear, small_images, small_net

import harness
from harness.attacks import make_attack
from harness.attacks.minimal import along_gradient, by_search
from harness.attacks.pgd import PGD
from harness.attacks.strongest import Strongest
from harness.attacks.sweep import sweep
from harness.maths.query import predictions_of
from harness.saliency.methods import METHODS, explain
from harness.serve.live import Misfit, NoSuchName, capped, plane_of

MATRIX = [[1.0, 0.0], [0.0, 2.0]]


@pytest.fixture(scope="module")
def net():
    return live(small_net(dtype="float32"))


def test_a_prediction_is_the_softmax_of_the_logits():
    model = live(
        linear(np.log(MATRIX, where=np.array(MATRIX) > 0, out=np.zeros((2, 2)))), shape=(2,)
    )
    (found,) = model.predicted(np.array([[0.0, 1.0]], np.float32))
    assert found.label == 1
    assert found.logits == pytest.approx([0.0, np.log(2)])
    assert found.probabilities == pytest.approx([1 / 3, 2 / 3])


def test_fgsm_on_a_linear_model_by_hand():
    """z = (x₀, 2·x₁): away from class 1, x₀ rises and x₁ falls."""
    model = live(linear(MATRIX), shape=(2,))
    (found,) = model.attacked(np.array([[0.5, 0.5]], np.float32), None, "fgsm", 0.25)
    assert found.label == found.clean.label == 1
    assert found.image == pytest.approx([0.75, 0.25])
    assert found.perturbation == pytest.approx([0.25, -0.25])
    assert found.distance == pytest.approx(0.25)
    assert found.adversarial.logits == pytest.approx([0.75, 0.5])
    assert found.misclassified


def test_a_label_that_is_given_is_what_the_attack_leads_away_from():
    model = live(linear(MATRIX), shape=(2,))
    (found,) = model.attacked(np.array([[0.5, 0.5]], np.float32), [0], "fgsm", 0.25)
    assert found.label == 0
    assert found.misclassified
    assert found.image == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("epsilon", [0.0, 1e-9])
def test_at_no_epsilon_nothing_changes(net, epsilon):
    x, _ = small_images(3, 0)
    for found, image in zip(net.attacked(x, None, "pgd", epsilon), x, strict=True):
        assert (found.image == image).all()
        assert found.distance == 0
        assert not found.misclassified


@pytest.mark.parametrize(
    "name", ["noise", "fgsm", "pgd", "apgd-t", "fgm-l2", "deepfool", "square", "strongest"]
)
def test_attacks_are_those_of_the_suites(net, name):
    x, y = small_images(12, 2)
    epsilon = 0.5 if "l2" in name or name == "deepfool" else 0.1
    model = small_net(dtype="float32")
    (theirs,) = sweep(model, make_attack(name), x, y, [epsilon], keep=range(len(x)))
    ours = net.attacked(x, y.tolist(), name, epsilon)
    assert [one.adversarial.label for one in ours] == theirs.predictions.labels.tolist()
    assert (np.array([one.image for one in ours]) == theirs.kept).all()
    norm = {"linf": lambda d: np.abs(d).max(), "l2": np.linalg.norm}[make_attack(name).norm]
    for found, image in zip(ours, x, strict=True):
        assert found.distance == pytest.approx(norm(found.image - image), abs=1e-6)
        assert found.distance <= epsilon + 1e-5


def test_accuracies_are_those_of_evaluate(net):
    x, y = small_images(16, 3)
    run = harness.evaluate(
        small_net(dtype="float32"), x, y, ["fgsm", "pgd"], [0.05, 0.1], progress=False
    )
    for name in ("fgsm", "pgd"):
        for epsilon in (0.05, 0.1):
            (record,) = [r for r in run.records if (r.check, r.epsilon) == (name, epsilon)]
            found = net.attacked(x, y.tolist(), name, epsilon)
            assert sum(not one.misclassified for one in found) == record.correct


@pytest.mark.parametrize("method", list(METHODS))
def test_maps_are_those_of_the_suites(net, method):
    x, y = small_images(5, 0)
    theirs = explain(small_net(dtype="float32"), x, y, method)
    for found, expected in zip(net.explained(x, y.tolist(), method, 0.25), theirs, strict=True):
        assert (found.map == expected).all()
        assert (found.scores == np.abs(expected)).all()
        assert found.mask.sum() == 4
        assert found.scores[found.mask].min() >= found.scores[~found.mask].max()


def test_the_mask_has_the_share_of_the_spec_if_none_is_said():
    model = live(small_net(dtype="float32"), top=0.5)
    assert model.explained(small_images(1, 0)[0], None, "gradient", None)[0].mask.sum() == 8


def test_smallest_epsilons_are_those_of_the_suites(net):
    x, y = small_images(6, 1)
    model = small_net(dtype="float32")
    labels, epsilons, limit = net.smallest(x, y.tolist(), "fgsm", None)
    assert limit == 1.0
    assert (labels == y).all()
    assert (epsilons == along_gradient(model, x, y, 1.0).epsilons).all()
    assert epsilons[0] == 0  # misclassified as it is
    _, epsilons, _ = net.smallest(x, y.tolist(), "pgd", 0.25)
    assert (epsilons == by_search(model, PGD(), x, y, 0.25).epsilons).all()


def test_a_black_box_is_attacked_without_gradients_only():
    model = live(Box(small_net(dtype="float32")), "box")
    assert set(model.attacks) == {
        "noise", "square", "square-l2", "hopskipjump", "hopskipjump-l2", "transfer",
        "transfer-l2", "strongest", "strongest-l2", "autoattack", "autoattack-l2",
    }  # fmt: skip
    assert model.methods == ()
    assert model.climbers == ()
    x, _ = small_images(2, 0)
    for ask in (
        lambda: model.attacked(x, None, "pgd", 0.1),
        lambda: model.explained(x, None, "gradient", 0.15),
        lambda: model.smallest(x, None, "fgsm", None),
    ):
        with pytest.raises(Misfit, match="needs gradient, which box does not give"):
            ask()
    assert len(model.attacked(x, None, "square", 0.1)) == 2


@pytest.mark.parametrize(
    ("ask", "what", "error"),
    [
        (lambda net, x: net.attacked(x, None, "pdg", 0.1), "did you mean pgd?", NoSuchName),
        (lambda net, x: net.explained(x, None, "gradent", 0.1), "mean gradient?", NoSuchName),
        (lambda net, x: net.smallest(x, None, "apgd", None), "attacks are fgsm, pgd", NoSuchName),
        (lambda net, x: net.attacked(x, None, "fgsm", 1.5), "not from 0 to 1,", Misfit),
        (lambda net, x: net.attacked(x, None, "fgm-l2", 4.5), "not from 0 to 4,", Misfit),
        (lambda net, x: net.smallest(x, None, "fgsm", 2.0), "limit: 2", Misfit),
        (lambda net, x: net.attacked(x, [5, 0], "fgsm", 0.1), "labels: 5 is none", Misfit),
        (lambda net, x: net.attacked(x, [0], "fgsm", 0.1), "there are 1, but 2 images", Misfit),
    ],
)
def test_what_does_not_fit_is_refused_in_words(net, ask, what, error):
    with pytest.raises(Misfit) as refused:
        ask(net, small_images(2, 0)[0])
    assert type(refused.value) is error
    assert what in str(refused.value)


def test_steps_are_capped_and_the_harness_s_own_defaults_are_not():
    for name in ("pgd", "apgd", "apgd-t", "square", "strongest", "deepfool"):
        assert capped(make_attack(name)) == make_attack(name)
    assert capped(PGD(steps=5000, restarts=9)) == PGD(steps=100, restarts=1)
    strongest = capped(Strongest(members=(PGD(steps=5000), make_attack("fgsm"))))
    assert strongest.members == (PGD(steps=100), make_attack("fgsm"))


def test_height_and_width():
    assert plane_of((28, 28), None) == (28, 28)
    assert plane_of((3, 8, 6), 0) == (8, 6)
    assert plane_of((8, 6, 1), 2) == (8, 6)
    assert plane_of((49,), None) == (7, 7)
    assert plane_of((50,), None) == (1, 50)


def test_the_same_images_are_predicted_as_everywhere(net):
    x, _ = small_images(9, 0)
    expected = predictions_of(small_net(dtype="float32"), x)
    found = net.predicted(x)
    assert [one.label for one in found] == expected.labels.tolist()
    confidences = [one.probabilities.max() for one in found]
    assert confidences == pytest.approx(expected.confidence.tolist())
