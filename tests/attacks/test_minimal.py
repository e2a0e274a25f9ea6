"""The smallest epsilon at which an image is misclassified, where it can be worked out by hand."""

import numpy as np
import pytest
from small_models import linear

from harness.attacks import make_attack
from harness.attacks.minimal import along_gradient, by_search, searches
from harness.protocol import GRADIENT

# Logits (a, b) of a - b = 2p + 6q - 4 at pixels (p, q): a change of e in both moves it by 8e.
LINES = [[1, 3], [-1, -3]]
OFFSET = [-2, 2]
X = np.array([[0.9, 0.9], [0.5, 0.6], [0.5, 0.51], [0.1, 0.1]], np.float32)
Y = np.array([0, 0, 0, 0])
# (2p + 6q - 4) / 8; the last is wrong already.
BY_HAND = [0.4, 0.075, 0.0075, 0.0]


def methods(model, x, y, limit):
    yield along_gradient(model, x, y, limit).epsilons
    pgd = make_attack("pgd", options={"steps": 20, "start": "clean"})
    yield by_search(model, pgd, x, y, limit).epsilons


@pytest.fixture(params=["numpy", "torch", "keras"])
def model(request):
    return linear(LINES, OFFSET, backend=request.param)


def test_a_linear_model_errs_at_its_margin_over_the_weights(model):
    for found in methods(model, X, Y, 1.0):
        assert found == pytest.approx(BY_HAND, abs=1 / 1024 + 1e-6)
        assert (found >= np.array(BY_HAND) - 1e-6).all()


def test_the_limit_sets_how_finely_is_searched(model):
    for found in methods(model, X[1:3], Y[1:3], 0.1):
        assert found == pytest.approx(BY_HAND[1:3], abs=0.1 / 1024 + 1e-6)


def test_what_is_correct_at_the_limit_has_no_smallest_epsilon(model):
    for found in methods(model, X, Y, 0.25):
        assert np.isinf(found).tolist() == [True, False, False, False]


def test_images_do_not_change_each_other(model):
    whole = list(methods(model, X, Y, 1.0))
    alone = zip(*(methods(model, X[i : i + 1], Y[i : i + 1], 1.0) for i in range(4)), strict=True)
    for together, apart in zip(whole, alone, strict=True):
        assert together == pytest.approx(np.concatenate(apart), abs=1e-6)


def test_each_image_is_told_with_what_fooled_the_model(model):
    pgd = make_attack("pgd", options={"steps": 20, "start": "clean"})
    for found in (along_gradient(model, X, Y, 0.25), by_search(model, pgd, X, Y, 0.25)):
        distance = np.abs(found.images - X).max(axis=1)
        # The first is robust at the limit, and the last is misclassified as it is.
        assert distance == pytest.approx([0, *found.epsilons[1:3], 0], abs=1e-6)
        said = model.numpy(model.logits(model.asarray(found.images))).argmax(axis=1)
        assert said.tolist() == [0, 1, 1, 1]


def test_a_direction_may_lead_back_but_the_first_error_counts():
    """Along its gradient this one-pixel image is wrong from 0.1 to 0.2, and right further out."""

    class Gap:
        """Class 0 outside of (0.3, 0.4)."""

        xp, bounds, capabilities = np, (0.0, 1.0), frozenset({GRADIENT})
        asarray = numpy = staticmethod(np.asarray)

        def logits(self, x):
            inside = (x[:, 0] > 0.3) & (x[:, 0] < 0.4)
            return np.stack([1.0 - 2 * inside, np.zeros(len(x))], axis=1)

        def logits_and_gradient(self, x, y, objective):
            return self.logits(x), np.ones_like(x)

    (found,) = along_gradient(Gap(), np.array([[0.2]]), np.array([0]), 0.8).epsilons
    assert found == pytest.approx(0.1, abs=0.8 / 1024 + 1e-9)


class Around:
    """An attack that hands on what another has."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_an_attack_searches_by_what_it_has_be_it_handed_on():
    # From Python 3.12 on isinstance does not see what __getattr__ hands on.
    assert searches(make_attack("pgd"))
    assert searches(Around(make_attack("pgd")))
    assert not searches(Around(make_attack("fgsm")))
