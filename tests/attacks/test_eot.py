"""Models that are random on purpose: gradients over draws, success and accuracies by votes."""

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from small_models import attacked, linear, small_images, small_net

import harness
from harness.attacks import ATTACKS, make_attack
from harness.attacks.apgd import APGD
from harness.attacks.ball import BestSoFar
from harness.attacks.fgsm import FGSM
from harness.attacks.iterated import Iterated
from harness.attacks.minimal import along_gradient, by_search
from harness.attacks.options import options_of
from harness.attacks.pgd import MIM, PGD
from harness.attacks.square import Square
from harness.attacks.sweep import sweep
from harness.maths.adaptive import Averaged, Randomised
from harness.maths.around import Around
from harness.maths.query import answered_predictions, correct_count, predictions_of, voted

PIXELS, FREQUENCY, HEIGHT = 60, 300.0, 0.02


class Rippled(Around):
    """Class 1 where the pixels' mean is high, behind ripples; noise is added to the images.

    At a point the ripples decide the gradient, and over the noise they cancel.
    """

    def __init__(self, seed=0):
        super().__init__(linear([[-1.0] * PIXELS, [1.0] * PIXELS], [PIXELS / 2, -PIXELS / 2]))
        self.random = np.random.default_rng(seed)

    def _noisy(self, x):
        return x + self.random.uniform(-0.05, 0.05, x.shape)

    def _rippled(self, x):
        return x + HEIGHT * np.sin(FREQUENCY * x)

    def logits(self, x):
        return self.inner.logits(self._rippled(self._noisy(x)))

    def logits_and_gradient(self, x, y, objective):
        noisy = self._noisy(x)
        logits, gradient = self.inner.logits_and_gradient(self._rippled(noisy), y, objective)
        return logits, gradient * (1 + HEIGHT * FREQUENCY * np.cos(FREQUENCY * noisy))


def rippled(count=30):
    """The model, and images of class 0, each a twentieth below the boundary in every pixel."""
    x = 0.45 + 0.05 * np.random.default_rng(1).uniform(-1, 1, (count, PIXELS))
    x += 0.45 - x.mean(axis=1, keepdims=True)
    return harness.wrap(Rippled(), randomised=True, votes=7), x, np.zeros(count, int)


@pytest.mark.parametrize("kind", [PGD, MIM, APGD])
def test_gradients_over_draws_find_what_single_ones_do_not(kind):
    options = {"steps": 8, "start": "clean", "losses": ("margin",)}
    counts = []
    for eot in (1, 40):
        model, x, y = rippled()
        (found,) = sweep(model, kind(eot=eot, **options), x, y, [0.1])
        counts.append(correct_count(found.predictions, y))
    plain, averaged = counts
    assert plain > 20
    assert averaged < 5


def test_fgsm_too():
    steps = []
    for eot in (1, 40):
        model, x, y = rippled()
        (found,) = attacked(FGSM(eot=eot), model, x, y, [0.06])
        steps.append(np.mean(np.sign(found - x)))
    assert steps[0] < 0.3  # of the pixels as many go down as the ripples say
    assert steps[1] > 0.5


class Fickle(Around):
    """Says the truth in most calls of an image, and in others the next class, and that loudly."""

    def __init__(self, inner, share=0.15, loud=100.0, seed=0):
        super().__init__(inner)
        self.share, self.loud, self.random = share, loud, np.random.default_rng(seed)

    def _disturbed(self, logits):
        told = np.array(self.inner.numpy(logits))
        lies = self.random.random(len(told)) < self.share
        next_ = (told.argmax(axis=1) + 1) % told.shape[1]
        told[lies, next_[lies]] = told.max() + self.loud
        return self.inner.asarray(told)

    def logits(self, x):
        return self._disturbed(self.inner.logits(x))

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = self.inner.logits_and_gradient(x, y, objective)
        return self._disturbed(logits), gradient


def test_a_single_noisy_hit_is_no_success():
    x, y = small_images(40, wrong=0)
    x = x.astype(float)
    alone = BestSoFar(Fickle(small_net()), x, y)
    assert alone.open.sum() < 39
    for model in (Randomised(Fickle(small_net()), 41), Averaged(Fickle(small_net()), 41)):
        best = BestSoFar(model, x, y)
        # The mean logits of the second are led astray by few loud answers, and votes are not.
        assert best.open.all()
        part = best.part(best.rows())
        for _ in range(20):
            part.offer(x, model.logits(x))
        assert part.open.all()
        part.finish(x, model.logits(x), "last")
        assert best.open.all()


def test_a_hit_in_most_draws_is_one():
    x, y = small_images(20, wrong=0)
    x = x.astype(float)
    model = Randomised(Fickle(small_net(), share=0.9), 41)
    best = BestSoFar(model, x, y)
    assert best.open.sum() < 10  # where the first answer was the truth
    part = best.part(best.rows())
    for _ in range(5):
        part.offer(x[part.rows], model.logits(x[part.rows]))
    assert not part.open.any()


def test_a_goal_is_reached_by_votes():
    x, y = small_images(20, wrong=0)
    x, goals = x.astype(float), (y + 1) % 5
    for share, missed in ((1.0, 0), (0.15, 20)):
        best = BestSoFar(Randomised(Fickle(small_net(), share=share), 41), x, y)
        best.aim(goals)
        assert best.open.sum() == missed


def test_accuracies_are_counted_by_votes():
    x, y = small_images(200, wrong=20)
    one = predictions_of(Fickle(small_net(dtype="float32")), x)
    assert correct_count(one, y) < 165
    model = Randomised(Fickle(small_net(dtype="float32")), 41)
    for ask in (predictions_of, answered_predictions):
        assert correct_count(ask(model, x), y) >= 178
    attack = PGD(steps=1, rel_stepsize=1.0, losses=("margin",))
    (found,) = sweep(model, attack, x, y, [0.0])
    assert correct_count(found.predictions, y) >= 178


class Says(Around):
    """Gives one list of logits after the other, whatever it is asked."""

    def __init__(self, *logits):
        super().__init__(small_net())
        self.told = list(logits)

    def logits(self, x):
        return np.array([self.told.pop(0)])


def test_votes_by_hand():
    # Two of three say class 1; its mean probability is (0.5 + 0.75 + 0.1) / 3.
    said = [[0, 0.0001], [0, np.log(3)], [np.log(9), 0]]
    found = voted(Randomised(Says(*said), 3), np.zeros((1, 4, 4)))
    assert found.labels.tolist() == [1]
    assert found.confidence == pytest.approx([(0.5 + 0.75 + 0.1) / 3], abs=1e-4)
    # One vote each: the surer one counts, wherever it stands.
    for said in ([[2.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [2.0, 0.0]]):
        assert voted(Randomised(Says(*said), 2), np.zeros((1, 4, 4))).labels.tolist() == [0]


def test_passes_count_every_draw():
    x, y = small_images(10, wrong=10)
    model = Randomised(small_net(dtype="float32"), 4)
    (found,) = sweep(model, FGSM(eot=6), x, y, [0.1])
    assert (found.forwards, found.backwards) == (6, 6)
    # Six clean draws, and four votes on each image, that they say is misclassified.
    (found,) = sweep(model, PGD(eot=6), x, y, [0.1])
    assert (found.forwards, found.backwards) == (6 + 4, 0)


def test_smallest_epsilons_are_found_by_votes():
    x, y = small_images(30, wrong=0)
    plain = along_gradient(small_net(dtype="float32"), x, y, 1.0).epsilons
    model = Randomised(Fickle(small_net(dtype="float32")), 41)
    found = along_gradient(model, x, y, 1.0).epsilons
    assert (found >= 0.8 * plain).all()
    searched = by_search(model, PGD(steps=4), x, y, 1.0).epsilons
    assert (searched > 0).all()


@pytest.mark.parametrize("backend", NAMES)
def test_a_mean_of_one_answer_changes_nothing_in_any_backend(backend):
    x, y = small_images(12, wrong=2)
    model = small_net(backend, "float32")
    options = {"steps": 4, "losses": ("margin",)}
    (plain,) = attacked(PGD(**options), model, x, y, [0.1])
    (mean,) = attacked(PGD(eot=3, **options), model, x, y, [0.1])
    np.testing.assert_allclose(mean, plain, atol=1e-6)


@pytest.mark.parametrize("backend", NAMES)
def test_attacks_of_every_kind_take_votes_in_every_backend(backend):
    x, y = small_images(12, wrong=2)
    model = Randomised(Fickle(small_net(backend, "float32"), share=0.2), 21)
    for attack in (PGD(steps=3, eot=2, losses=("margin",)), Square(steps=5)):
        (found,) = sweep(model, attack, x, y, [1e-6])
        assert correct_count(found.predictions, y) == 10


def test_options_tell_of_draws_only_where_there_are_several():
    assert "eot" not in options_of(PGD())
    assert options_of(PGD(eot=5)) == options_of(PGD()) | {"eot": 5}
    assert "eot" not in options_of(FGSM())
    assert options_of(FGSM(eot=2))["eot"] == 2
    for name in ATTACKS:
        if isinstance(make_attack(name), Iterated | FGSM):
            assert make_attack(name, options={"eot": 3}).eot == 3


def test_a_torch_network_that_draws_is_measured_once_it_is_marked():
    at_hand("torch")
    import torch

    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Linear(16, 3)

        def forward(self, x):
            return self.last(x.flatten(1) + 0.3 * torch.randn(len(x), 16))

    torch.manual_seed(0)
    model = harness.wrap(Noisy().eval(), randomised=True)
    x = np.random.default_rng(0).random((30, 4, 4), dtype=np.float32)
    y = predictions_of(model, x).labels.astype(int)
    (found,) = sweep(model, PGD(steps=5, eot=10), x, y, [0.3])
    assert correct_count(found.predictions, y) < correct_count(predictions_of(model, x), y)
