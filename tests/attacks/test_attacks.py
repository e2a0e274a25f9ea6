"""Attacks: what any of them keeps to, FGSM and noise by hand, and how they are made."""

from dataclasses import replace

import numpy as np
import pytest
import toy_training
from backends_at_hand import NAMES
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import Counting, attacked, linear, right, small_images, small_net

from backends.numpy_backend import NumpyBackend
from harness.attacks import ATTACKS, make_attack
from harness.attacks.fgsm import FGSM
from harness.attacks.noise import Noise
from harness.attacks.pgd import MIM, PGD
from harness.attacks.sweep import sweep
from harness.errors import SpecError
from harness.maths.norms import NORMS
from harness.maths.objectives import CrossEntropy
from harness.networks.initial import initial_weights
from harness.protocol import GRADIENT, Network, Wrapping, fully_connected
from harness.spec.training import TrainingSpec

# The second logit is minus the first, so a loss for class 0 grows along (-1, +1).
DIAGONAL = [[1, -2], [-1, 2]]
# The same, and two classes that are never likely: some losses need four.
FOUR = [[1, -2], [-1, 2], [0, 0], [0, 0]], [0, 0, -9, -9]
RANDOM = (
    "noise", "fgsm-rs", "pgd", "apgd", "apgd-t", "pgd-l2", "apgd-l2", "apgd-t-l2", "square",
    "square-l2", "hopskipjump", "hopskipjump-l2", "strongest", "strongest-l2", "autoattack",
    "autoattack-l2",
)  # fmt: skip
ONE_SEARCH = ("fgsm", "fgm-l2", "deepfool", "hopskipjump", "hopskipjump-l2")
"""Attacks of which one search serves all epsilons."""
ALONE = sorted(set(ATTACKS) - {"transfer", "transfer-l2"})
"""Attacks on each image alone: a substitute is trained on all images of a batch."""
LASTING = [name for name in ALONE if name not in ("noise", *ONE_SEARCH)]
"""Attacks that leave an image alone once it is misclassified."""
SHORT = {
    "pgd": {"steps": 10}, "pgd-l2": {"steps": 10}, "apgd": {"steps": 12}, "apgd-l2": {"steps": 12},
    "apgd-t": {"steps": 6}, "apgd-t-l2": {"steps": 6}, "square": {"steps": 40},
    "square-l2": {"steps": 40}, "deepfool": {"steps": 10}, "fab": {"steps": 8},
    "fab-t": {"steps": 8}, "fab-l2": {"steps": 8}, "fab-t-l2": {"steps": 8}, "ddn": {"steps": 20},
    "fmn": {"steps": 20}, "fmn-l2": {"steps": 20}, "cw-l2": {"searches": 4, "steps": 30},
    "hopskipjump": {"queries": 300}, "hopskipjump-l2": {"queries": 300},
    "transfer": {"rounds": 0}, "transfer-l2": {"rounds": 0},
}  # fmt: skip
ENSEMBLES = ("strongest", "strongest-l2", "autoattack", "autoattack-l2")


def short(name, seed=None):
    """An attack of few steps, so that many can be tried."""
    if name in ENSEMBLES:
        whole = make_attack(name)
        return replace(whole, members=tuple(_shortened(one, seed) for one in whole.members))
    options = {"seed": seed} if seed is not None and hasattr(make_attack(name), "seed") else {}
    return make_attack(name, options=SHORT.get(name, {}) | options)


def _shortened(attack, seed):
    options = {} if seed is None or not hasattr(attack, "seed") else {"seed": seed}
    return replace(attack, **SHORT.get(attack.name, {}) | options)


def radii(attack):
    """Epsilons at which some of the small images are misclassified."""
    return [0.0, 0.05, 0.1, 0.2] if attack.norm == "linf" else [0.0, 0.1, 0.3, 0.8]


def fgsm(model, x, y, epsilons):
    return [a.tolist() for a in attacked(FGSM(), model, x, y, epsilons)]


# FGSM


def test_fgsm_steps_by_epsilon_along_the_sign_of_the_gradient():
    model = linear(DIAGONAL)
    (found,) = fgsm(model, [[0.5, 0.5], [0.5, 0.5]], [0, 1], [0.125])
    assert found == [[0.375, 0.625], [0.625, 0.375]]


def test_fgsm_yields_the_epsilons_in_their_order():
    model = linear(DIAGONAL)
    found = fgsm(model, [[0.5, 0.5]], [0], [0.25, 0.0, 0.5, 0.125])
    assert found == [[[0.25, 0.75]], [[0.5, 0.5]], [[0.0, 1.0]], [[0.375, 0.625]]]


def test_fgsm_clips_to_the_box_of_the_model():
    x = [[0.0625, 0.9375]]
    assert fgsm(linear(DIAGONAL), x, [0], [0.125]) == [[[0.0, 1.0]]]
    assert fgsm(linear(DIAGONAL), x, [1], [0.125]) == [[[0.1875, 0.8125]]]
    assert fgsm(linear(DIAGONAL, bounds=(-1, 2)), x, [0], [0.125]) == [[[-0.0625, 1.0625]]]


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_epsilon_zero_returns_the_images_to_the_last_bit(name):
    x = np.random.default_rng(0).random((20, 2), dtype=np.float32)
    x[0], x[1] = 0, 1
    model = linear(*FOUR, dtype="float32")
    found, _ = attacked(short(name), model, x, np.arange(20) % 2, [0.0, 0.1])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x)


def test_one_gradient_serves_all_epsilons():
    model = Counting(linear(DIAGONAL))
    x, y = np.full((3, 2), 0.5, np.float32), np.array([0, 1, 0])
    assert len(attacked(FGSM(), model, x, y, [0.0, 0.1, 0.2, 0.3])) == 4
    assert model.rows == [3]


def test_a_misclassified_image_moves_further_from_its_true_label():
    model = linear(DIAGONAL)
    x, y = np.array([[0.25, 0.75]]), np.array([0])
    assert model.logits(x).argmax() == 1
    # With the predicted label the signs would be the other way round.
    assert fgsm(model, x, y, [0.125]) == [[[0.125, 0.875]]]


@pytest.mark.parametrize("margin", [1, 40, 80])
def test_a_confident_image_moves_as_far_as_any_other(margin):
    model = linear([[margin, 0], [0, margin]], dtype="float32")
    x = np.array([[1, 0]], np.float32)
    assert fgsm(model, x, [0], [0.25]) == [[[0.75, 0.25]]]


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_the_images_are_not_changed(name):
    x = np.full((2, 2), 0.5)
    x.flags.writeable = False
    y, index = np.array([0, 1]), np.arange(2)
    list(short(name).perturb(linear(*FOUR), x, y, [0.1, 0.2], index=index))


def test_in_l2_the_step_is_the_scaled_gradient():
    # The gradient of the loss for class 0 is along (-3, 4), of which the length is five.
    model = linear([[3, -4], [-3, 4]])
    found = attacked(make_attack("fgm-l2"), model, [[0.5, 0.5]], [0], [0.0, 0.25, 1.0])
    np.testing.assert_allclose(found[1], [[0.35, 0.7]], atol=1e-12)
    np.testing.assert_allclose(found[2], [[0.0, 1.0]], atol=1e-12)


# Noise


def test_noise_needs_no_gradient_and_counts_what_any_draw_misclassifies():
    """A pixel of 0.45 is right below a half; in the ball of radius 0.1 a quarter is beyond."""
    model = linear([[-1], [1]], [0.5, -0.5])
    x, y = np.full((400, 1), 0.45), np.zeros(400, int)
    for draws, share in ((1, 1 / 2), (2, 5 / 8)):  # the first is as long as it can be
        attack = Noise(draws=draws)
        (found,) = attacked(attack, model, x, y, [0.1])
        assert right(model, found, y) / 400 == pytest.approx(1 - share, abs=0.06)
    assert attack.requires == frozenset()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_first_noise_is_as_long_as_it_can_be_and_the_same_at_every_epsilon(norm):
    model = linear(np.eye(4), bounds=(-9.0, 9.0))
    x, y = np.zeros((50, 4)), np.arange(50) % 4
    small, large = attacked(Noise(norm=norm, draws=1), model, x, y, [0.1, 0.2])
    np.testing.assert_allclose(NORMS[norm].length(np, small[y == 0]), 0.1, rtol=1e-6)
    np.testing.assert_allclose(large[y == 0], 2 * small[y == 0], rtol=1e-6)


# PGD beside FGSM


@pytest.fixture(scope="module")
def toy():
    """A network that was trained on the toy images, and such images."""
    recipe = TrainingSpec(epochs=8, batch_size=12, learning_rate=0.01)
    trained = toy_training.toy_train("numpy", recipe)
    model = NumpyBackend().build(Network(toy_training.toy_net("numpy"), trained.weights))
    part = toy_training.toy_part(90, seed=9)
    return model, part.x, part.y


def test_pgd_is_at_least_as_strong_as_fgsm(toy):
    model, x, y = toy
    epsilons = [0.1, 0.15, 0.2, 0.25]
    true = np.arange(3) == y[:, None]
    attacks = FGSM(), PGD(losses=("cross-entropy",))
    weak, strong = (attacked(attack, model, x, y, epsilons) for attack in attacks)
    counts = [[right(model, images, y) for images in found] for found in (weak, strong)]
    assert 0 < sum(counts[0]) < 4 * len(y)  # there is something to compare
    assert sum(counts[1]) < sum(counts[0])
    assert all(ours <= theirs for theirs, ours in zip(*counts, strict=True))
    for theirs, ours in zip(weak, strong, strict=True):
        # Where PGD has won, it goes no further.
        left = model.logits(ours).argmax(axis=1) == y
        losses = [CrossEntropy().value(np, model.logits(a), true)[left] for a in (theirs, ours)]
        assert not left.any() or losses[1].mean() > losses[0].mean()


# Any attack


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(1,), (5,), (2, 3)]))
    hidden = draw(st.sampled_from([(), (4,), (6, 3)]))
    classes = draw(st.integers(4, 6))
    low, high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-0.5, 2.5)]))
    architecture = fully_connected(shape, hidden, classes)
    weights = initial_weights(architecture, seed=int(rng.integers(1000)))
    scale = draw(st.sampled_from([1, 30]))
    weights = {name: scale * value for name, value in weights.items()}
    model = NumpyBackend().build(Network(architecture, weights), Wrapping((low, high)))
    n = draw(st.integers(1, 6))
    x = rng.uniform(low, high, (n, *shape)).clip(low, high)
    x[rng.random(x.shape) < 0.2] = draw(st.sampled_from([low, high]))
    epsilons = draw(st.lists(st.floats(0, 3, width=32), min_size=1, max_size=4))
    return model, x.astype(np.float32), rng.integers(classes, size=n), sorted(epsilons)


@pytest.mark.parametrize("name", sorted(ATTACKS))
@settings(deadline=None, max_examples=25, database=None)
@given(problem=problems())
def test_adversarial_images_stay_in_the_ball_and_the_box(name, problem):
    model, x, y, epsilons = problem
    attack = short(name)
    found = attacked(attack, model, x, y, epsilons)
    assert len(found) == len(epsilons)
    for epsilon, adversarial in zip(epsilons, found, strict=True):
        assert adversarial.shape == x.shape
        assert adversarial.dtype == np.float32
        lengths = NORMS[attack.norm].length(np, adversarial.astype(float) - x)
        assert lengths.max() <= epsilon * (1 + 1e-6) + 1e-6
        assert adversarial.min() >= model.bounds[0] - 1e-6
        assert adversarial.max() <= model.bounds[1] + 1e-6


@settings(deadline=None, max_examples=60, database=None)
@given(
    matrix=st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=2, max_size=2),
    label=st.integers(0, 1),
    epsilon=st.sampled_from([0.01, 0.1, 0.4]),
)
def test_fgsm_reaches_the_highest_loss_in_the_ball_of_a_linear_model(matrix, label, epsilon):
    model = linear(matrix)
    x, y = np.array([[0.5, 0.5, 0.5]]), np.array([label])
    true = np.arange(2) == label
    (adversarial,) = attacked(FGSM(), model, x, y, [epsilon])
    found = CrossEntropy().value(np, model.logits(adversarial), true)
    corners = x + epsilon * (np.indices((2, 2, 2)).reshape(3, 8).T * 2 - 1)
    assert found >= CrossEntropy().value(np, model.logits(corners), true).max() - 1e-12


@pytest.mark.parametrize("name", ALONE)
def test_an_image_is_attacked_alike_whatever_batch_it_comes_in(name):
    attack, model, (x, y) = short(name), small_net(), small_images()
    epsilons = radii(attack)
    whole = attacked(attack, model, x, y, epsilons)
    again = attacked(attack, model, x, y, epsilons)
    np.testing.assert_array_equal(whole, again)  # to the last bit
    order = np.random.default_rng(1).permutation(len(x))
    for size in (1, 7):
        for start in range(0, len(x), 2 * size):  # not all, for the sake of time
            some = order[start : start + size]
            found = attacked(attack, model, x[some], y[some], epsilons, index=some)
            for ours, theirs in zip(found, whole, strict=True):
                np.testing.assert_allclose(ours, theirs[some], atol=1e-9)


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_the_seed_decides_what_is_random_and_nothing_else(name):
    model, (x, y) = small_net(), small_images()
    first, other = (attacked(short(name, seed), model, x, y, [0.1]) for seed in (0, 1))
    assert np.array_equal(first, other) is (name not in RANDOM)


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"fgsm", "fgm-l2"}))
def test_an_image_that_is_misclassified_already_is_left_alone(name):
    attack, model, (x, y) = short(name), small_net(), small_images(wrong=4)
    found = attacked(attack, model, x, y, radii(attack))
    for adversarial in found:
        np.testing.assert_array_equal(adversarial[:4], x[:4].astype(float))
    assert (found[-1][4:] != x[4:]).any(axis=(1, 2)).mean() > 0.5


@pytest.mark.parametrize("name", LASTING)
def test_a_misclassified_image_stays_as_it_is_and_is_not_attacked_again(name):
    attack, (x, y) = short(name), small_images()
    model, epsilons = Counting(small_net()), radii(attack)
    batches = attack.perturb(model, x.astype(float), y, epsilons, index=np.arange(len(x)))
    before, misclassified = next(batches), np.zeros(len(x), bool)
    for _ in epsilons[1:]:
        misclassified = model.model.logits(before).argmax(axis=1) != y
        model.asked.clear()
        adversarial = next(batches)
        assert max(model.rows) == (~misclassified).sum()
        np.testing.assert_array_equal(adversarial[misclassified], before[misclassified])
        before = adversarial
    assert 5 < misclassified.sum() < len(x)  # there is something to see


@pytest.mark.parametrize("name", LASTING)
def test_accuracy_never_rises_with_epsilon(name):
    attack, model, (x, y) = short(name), small_net(), small_images()
    counts = [right(model, found, y) for found in attacked(attack, model, x, y, radii(attack))]
    assert counts[0] == len(x) - 4
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0] - 5


@pytest.mark.parametrize("name", [n for n in LASTING if n not in ("fgsm-rs", *ENSEMBLES)])
def test_misclassified_images_leave_the_batch(name):
    attack, (x, y) = short(name), small_images()
    model = Counting(small_net())
    attacked(attack, model, x, y, [radii(attack)[-1]])
    assert model.rows[0] == len(x)
    assert min(model.rows[:-1]) < 0.8 * len(x)


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_backend_gives_the_same_images(name):
    attack, (x, y) = short(name), small_images(16)
    counts, images = {}, {}
    for backend, dtype in (*((b, "float64") for b in NAMES), ("torch", "float32")):
        model = small_net(backend, dtype)
        found = attacked(attack, model, x, y, radii(attack))
        assert {batch.dtype for batch in found} == {np.dtype(dtype)}
        counts[backend, dtype] = [right(model, batch, y) for batch in found]
        images[backend, dtype] = found
    for (backend, dtype), count in counts.items():
        assert np.abs(np.subtract(count, counts["numpy", "float64"])).max() <= 1
        if dtype == "float64":
            np.testing.assert_allclose(images[backend, dtype], images["numpy", dtype], atol=1e-6)
    assert counts["numpy", "float64"][-1] < counts["numpy", "float64"][0]


@pytest.mark.parametrize("name", ALONE)
def test_a_sweep_of_any_attack_does_not_depend_on_the_batch_size(name):
    attack, model, (x, y) = short(name), small_net(), small_images(20)
    keep = [0, 5, 19]
    whole, parts = (
        sweep(model, attack, x, y, radii(attack), keep=keep, batch_size=size) for size in (20, 6)
    )
    for ours, theirs in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(ours.predictions.labels, theirs.predictions.labels)
        np.testing.assert_allclose(ours.kept, theirs.kept, atol=1e-9)


# Making them


def test_attacks_are_made_by_name():
    attack = make_attack("fgsm")
    assert isinstance(attack, FGSM)
    assert attack.requires == {GRADIENT}
    assert all(make_attack(name).name == name for name in ATTACKS)
    assert make_attack("mine", "pgd", {"steps": 3}) == PGD(name="mine", steps=3)
    assert make_attack("mim") == MIM() == MIM(steps=10, start="clean")


def test_the_named_variants_are_what_they_are_called():
    found = make_attack("fgsm-rs")
    assert (found.steps, found.rel_stepsize, found.start) == (1, 1.25, "random")
    found = make_attack("i-fgsm")
    assert (found.steps, found.rel_stepsize, found.start) == (10, 0.1, "clean")
    found = make_attack("apgd-t")
    assert (found.target, found.targets, found.losses) == ("each", 9, ("dlr",))
    assert make_attack("apgd-t-l2") == replace(found, name="apgd-t-l2", norm="l2")
    assert make_attack("apgd-l2") == replace(make_attack("apgd"), name="apgd-l2", norm="l2")
    black = {name for name in ATTACKS if not make_attack(name).requires}
    assert black == {
        "noise", "square", "square-l2", "hopskipjump", "hopskipjump-l2", "transfer",
        "transfer-l2", *ENSEMBLES,
    }  # fmt: skip
    in_l2 = {name for name in ATTACKS if make_attack(name).norm == "l2"}
    assert in_l2 == {
        "fgm-l2", "pgd-l2", "apgd-l2", "apgd-t-l2", "deepfool", "square-l2", "hopskipjump-l2",
        "transfer-l2", "fab-l2", "fab-t-l2", "ddn", "fmn-l2", "cw-l2", "strongest-l2",
        "autoattack-l2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("pgd", {"stepz": 3}, r"stepz: pgd has no such option; did you mean steps\?"),
        ("pgd", {"name": "other"}, "name: pgd has no such option"),
        ("deepfool", {"norm": "linf"}, "norm: deepfool has no such option"),
        ("square", {"requires": []}, "requires: square has no such option"),
        ("pgd", {"steps": "3"}, r"steps: [^\n]* \(got '3'\)"),
        ("pgd", {"steps": True}, r"steps: [^\n]* \(got True\)"),
        ("apgd", {"steps": 0}, r"steps: [^\n]* \(got 0\)"),
        ("mim", {"rel_stepsize": float("nan")}, r"rel_stepsize: [^\n]* \(got nan\)"),
        ("pgd", {"losses": ["hinge"]}, r"losses\.0: [^\n]* \(got 'hinge'\)"),
        ("pgd", {"losses": []}, r"losses: [^\n]*"),
        ("square", {"area": 1.5}, r"area: [^\n]* \(got 1\.5\)"),
        ("fgsm", {"norm": "l1"}, r"norm: [^\n]* \(got 'l1'\)"),
        ("noise", {"seed": -1}, r"seed: [^\n]* \(got -1\)"),
        ("strongest", {"steps": 3}, "steps: strongest has no such option"),
        (
            "pgd",
            {"start": "clean", "restarts": 2},
            r"restarts: 2 attempts [^\n]*",
        ),
        ("mim", {"restarts": 3}, r"restarts: 3 attempts from the clean image [^\n]*"),
    ],
)
def test_an_option_that_is_wrong_is_named_in_one_line(name, options, complaint):
    with pytest.raises(SpecError, match=rf"^{complaint}$"):
        make_attack(name, options=options)


def test_an_unknown_attack_is_named_in_one_line_with_the_known_ones():
    with pytest.raises(SpecError, match=r"^fgms: no such attack; [^\n]*\bfgsm\b[^\n]*$"):
        make_attack("fgms")
