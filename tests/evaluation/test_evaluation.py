"""What a model under test leaves in the run, also when something breaks."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from backends.numpy_backend import NumpyBackend
from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.checks import conformance
from harness.checks.conformance import CHECKS
from harness.errors import CheckFailed, NotApplicable
from harness.evaluation.checking import Checking
from harness.evaluation.evaluation import Evaluation, Measures, Sweep
from harness.evaluation.explaining import Explaining
from harness.evaluation.models import LoadedModel
from harness.maths.statistics import wilson
from harness.networks.initial import initial_weights
from harness.protocol import GRADIENT, Network, fully_connected
from harness.results.recorder import Recorder
from harness.results.run import Run
from harness.results.summary import accuracy_tables
from harness.saliency.methods import explain
from harness.spec.measures import MinimalSpec, SaliencySpec, SanitySpec

SHAPE, CLASSES, N = (3, 4), 3, 50
LABELS = np.array([2, 0, 2, 2, 1] * (N // 5))
EPSILONS = [0.0, 0.05, 0.25]
SALIENCY = SaliencySpec(top=0.25, random_draws=3)


def make_model(dtype="float32"):
    architecture = fully_connected(SHAPE, (8,), CLASSES)
    return NumpyBackend().build(
        Network(architecture, initial_weights(architecture, seed=0)), dtype=dtype
    )


class Evaluated:
    """What measures one model, with one recorder."""

    def __init__(self, run, model, x, y):
        self.run, self.model, self.x, self.y = run, model, x, y
        self.recorder = Recorder(run, "numpy", "mlp")
        self.measured = Evaluation(LoadedModel(model, "numpy"), x, y, self.recorder, Measures())
        self.examples, self.clean = self.measured.examples, self.measured.clean

    def attacked(self, attack, epsilons, images=None):
        """Records at each epsilon, of an attack that no spec names."""
        sweeps = {attack.name: Sweep(attack, tuple(epsilons), images)}
        self.measured.measures = replace(self.measured.measures, sweeps=sweeps)
        return [self.measured.attacked(attack.name, epsilon) for epsilon in epsilons]

    def smallest_epsilon(self, method, settings, attack):
        measures = self.measured.measures
        self.measured.measures = replace(measures, minimal=settings, climbers={method: attack})
        return self.measured.smallest_epsilon(method)

    def clean_labels(self):
        self.clean()
        return self.measured.counting.clean_labels()

    def explaining(self, seed=0, **settings):
        asked = SALIENCY.model_copy(update=settings)
        return Explaining(self.model, self.x, self.y, self.examples, self.recorder, asked, seed)


def make_evaluation(model=None, y=LABELS):
    run = Run(spec={}, spec_sha256="", data_sha256="", created="now")
    x = np.random.default_rng(0).random((len(y), *SHAPE), dtype=np.float32)
    x.flags.writeable = False
    return Evaluated(run, model or make_model(), x, y)


def by_hand(model, x):
    """Logits of the network of one hidden layer, and the softmax of the highest."""
    w = {name: value.astype(float) for name, value in model.weights().items()}
    hidden = np.maximum(x.reshape(len(x), -1) @ w["layers.0.weight"].T + w["layers.0.bias"], 0)
    logits = hidden @ w["layers.1.weight"].T + w["layers.1.bias"]
    odds = np.exp(logits)
    return logits.argmax(axis=1), odds.max(axis=1) / odds.sum(axis=1), hidden


class Raising:
    """An attack that breaks at its second epsilon."""

    name = "raising"
    norm = "linf"
    requires = frozenset()

    def perturb(self, model, x, y, epsilons, *, index):
        yield x
        raise ZeroDivisionError("division\nby zero")


class Leaving(Raising):
    """An attack that leaves the ball."""

    name = "leaving"

    def perturb(self, model, x, y, epsilons, *, index):
        return (np.full_like(x, 0.5) for _ in epsilons)


# Clean accuracy


def test_clean_accuracy_is_recorded_with_its_predictions():
    evaluation = make_evaluation()
    record = evaluation.clean()
    labels, _, _ = by_hand(evaluation.model, evaluation.x)
    assert evaluation.run.records == [record]
    assert record.key == ("mlp", "numpy", "clean", None)
    assert (record.correct, record.total) == (int((labels == LABELS).sum()), N)
    assert record.accuracy == record.correct / N
    assert record.ci_low < record.accuracy < record.ci_high
    assert record.status == "measured"
    np.testing.assert_array_equal(evaluation.run.arrays["numpy/mlp/clean/predictions"], labels)


def test_the_examples_are_the_first_image_of_each_class_in_their_order():
    evaluation = make_evaluation()
    evaluation.clean()
    arrays = evaluation.run.arrays
    assert arrays["numpy/mlp/examples/index"].tolist() == [0, 1, 4]  # of classes 2, 0 and 1
    np.testing.assert_array_equal(arrays["numpy/mlp/examples/clean"], evaluation.x[[0, 1, 4]])


def test_a_class_without_images_has_no_example():
    evaluation = make_evaluation(y=np.array([2, 2, 0, 2]))
    evaluation.clean()
    assert evaluation.run.arrays["numpy/mlp/examples/index"].tolist() == [0, 2]


# Targets


def test_an_attack_with_targets_records_how_many_images_are_taken_for_them():
    evaluation = make_evaluation()
    attack = PGD(name="aimed", target="next", steps=5)
    records = evaluation.attacked(attack, EPSILONS)
    for record in records:
        labels = evaluation.run.arrays[f"numpy/mlp/aimed@{record.epsilon:g}/predictions"]
        assert record.value == np.mean(labels == (LABELS + 1) % CLASSES)
        assert record.correct == np.sum(labels == LABELS)
    assert records[-1].value > records[0].value
    (table,) = accuracy_tables(evaluation.run)
    console = Console(width=200, file=io.StringIO())
    console.print(table)
    last = records[-1]
    accuracies, successes = (line.split() for line in console.file.getvalue().splitlines()[3:5])
    assert accuracies[-1] == f"{100 * last.accuracy:.2f}"
    assert (successes[0], successes[-1]) == ("success", f"{100 * last.value:.2f}")


@pytest.mark.parametrize("target", ["none", "each"])
def test_an_attack_that_takes_any_false_class_records_accuracy_alone(target):
    (record,) = make_evaluation().attacked(PGD(target=target, steps=2), [0.1])
    assert record.value is None


# Everything


def test_a_run_holds_exactly_the_arrays_that_it_documents():
    evaluation = make_evaluation()
    evaluation.clean()
    evaluation.attacked(FGSM(), EPSILONS)
    for choice in ("top", "random", "least"):
        evaluation.explaining().occluded(choice)
    m = (CLASSES,)
    expected = {
        "clean/predictions": (np.int32, (N,)),
        "signature": (np.float32, (N,)),
        "examples/index": (np.int64, m),
        "examples/clean": (np.float32, (*m, *SHAPE)),
        "examples/clean/confidence": (np.float32, m),
        "examples/saliency": (np.float32, (*m, *SHAPE)),
        "examples/saliency/top": (np.bool_, (*m, *SHAPE)),
    }
    for at in ("0", "0.05", "0.25"):
        expected |= {
            f"fgsm@{at}/predictions": (np.int32, (N,)),
            f"examples/fgsm@{at}": (np.float32, (*m, *SHAPE)),
            f"examples/fgsm@{at}/confidence": (np.float32, m),
        }
    found = {key: (value.dtype, value.shape) for key, value in evaluation.run.arrays.items()}
    assert found == {f"numpy/mlp/{key}": value for key, value in expected.items()}


def test_what_is_kept_is_of_the_example_images():
    evaluation = make_evaluation()
    evaluation.clean()
    evaluation.attacked(FGSM(), EPSILONS)
    evaluation.explaining().occluded("top")
    arrays = {k.removeprefix("numpy/mlp/"): v for k, v in evaluation.run.arrays.items()}
    chosen, model = [0, 1, 4], evaluation.model
    _, confidence, hidden = by_hand(model, evaluation.x)
    np.testing.assert_allclose(arrays["examples/clean/confidence"], confidence[chosen], rtol=1e-5)
    for epsilon in EPSILONS:
        images = arrays[f"examples/fgsm@{epsilon:g}"]
        moved = np.abs(images - evaluation.x[chosen])
        assert moved.max() == pytest.approx(epsilon, abs=1e-6)
        labels, confidence, _ = by_hand(model, images)
        predicted = arrays[f"fgsm@{epsilon:g}/predictions"]
        np.testing.assert_array_equal(predicted[chosen], labels)
        np.testing.assert_allclose(
            arrays[f"examples/fgsm@{epsilon:g}/confidence"], confidence, rtol=1e-5
        )
        record = evaluation.run.find(("mlp", "numpy", "fgsm", epsilon))
        assert record.correct == int((predicted == LABELS).sum())
    w = model.weights()
    active = (hidden[chosen] > 0) * w["layers.1.weight"][LABELS[chosen]]
    maps = np.abs(active @ w["layers.0.weight"]).reshape(3, *SHAPE)
    np.testing.assert_allclose(arrays["examples/saliency"], maps, rtol=1e-5)
    top = arrays["examples/saliency/top"]
    assert top.reshape(3, -1).sum(axis=1).tolist() == [3, 3, 3]  # a quarter of 12
    for image, mask in zip(maps, top, strict=True):
        assert image[mask].min() >= image[~mask].max()


# Attacks


def test_an_attack_has_a_record_per_epsilon_and_epsilon_zero_is_clean():
    evaluation = make_evaluation()
    records = evaluation.attacked(FGSM(), EPSILONS)
    assert [r.key for r in records] == [("mlp", "numpy", "fgsm", e) for e in EPSILONS]
    assert evaluation.run.records == records
    assert {r.status for r in records} == {"measured"}
    assert records[0].correct == evaluation.clean().correct
    assert records[2].correct < records[0].correct
    arrays = evaluation.run.arrays
    np.testing.assert_array_equal(
        arrays["numpy/mlp/fgsm@0/predictions"], arrays["numpy/mlp/clean/predictions"]
    )


def test_an_attack_keeps_the_clean_predictions_that_epsilon_zero_is_judged_beside():
    evaluation = make_evaluation()
    evaluation.attacked(FGSM(), [0.0])
    assert "numpy/mlp/clean/predictions" in evaluation.run.arrays


def test_an_attack_may_see_the_first_images_alone():
    evaluation = make_evaluation()
    (record,) = evaluation.attacked(FGSM(name="mine"), [0.1], images=10)
    (whole,) = evaluation.attacked(FGSM(), [0.1])
    assert (record.check, record.total, whole.total) == ("mine", 10, N)
    arrays = {k.removeprefix("numpy/mlp/"): v for k, v in evaluation.run.arrays.items()}
    predicted = arrays["mine@0.1/predictions"]
    np.testing.assert_array_equal(predicted, arrays["fgsm@0.1/predictions"][:10])
    assert record.correct == (predicted == LABELS[:10]).sum()
    np.testing.assert_array_equal(arrays["examples/mine@0.1"], arrays["examples/fgsm@0.1"])
    # With too few images for an example of each class, none is kept.
    evaluation.attacked(FGSM(name="few"), [0.1], images=3)
    assert "numpy/mlp/examples/few@0.1" not in evaluation.run.arrays
    assert len(evaluation.run.arrays["numpy/mlp/few@0.1/predictions"]) == 3


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (Raising(), "ZeroDivisionError: division by zero"),
        (Leaving(), "an adversarial image is "),
    ],
    ids=["raising", "leaving"],
)
def test_an_attack_that_breaks_is_an_error_at_each_epsilon_and_never_a_number(attack, reason):
    evaluation = make_evaluation()
    clean = evaluation.clean()
    before = evaluation.attacked(FGSM(), [0.1])
    arrays = set(evaluation.run.arrays)
    records = evaluation.attacked(attack, EPSILONS)
    assert [(r.check, r.epsilon, r.status) for r in records] == [
        (attack.name, epsilon, "error") for epsilon in EPSILONS
    ]
    for record in records:
        assert (record.correct, record.total, record.accuracy) == (None, None, None)
        assert record.reason.startswith(reason)
        assert "\n" not in record.reason
    assert evaluation.run.records == [clean, *before, *records]
    assert set(evaluation.run.arrays) == arrays


def test_a_black_box_is_measured_clean_and_the_rest_is_skipped():
    model = make_model()
    model.capabilities = model.capabilities - {GRADIENT}
    evaluation = make_evaluation(model)
    assert evaluation.clean().status == "measured"
    (attacked,) = evaluation.attacked(FGSM(), [0.1])
    assert attacked.status == "skipped"
    assert attacked.reason.startswith("fgsm needs gradient, which the model lacks")
    occluded = evaluation.explaining().occluded("top")
    assert (occluded.check, occluded.status) == ("saliency/top", "skipped")
    assert occluded.reason == "maps are gradients, and the model gives none"


def test_a_model_of_nans_has_no_accuracy():
    model = make_model()
    model.named["layers.1.bias"][1] = np.nan
    evaluation = make_evaluation(model)
    clean = evaluation.clean()
    assert (clean.status, clean.accuracy) == ("error", None)
    assert clean.reason == "a logit is NaN or infinite"
    assert [r.status for r in evaluation.attacked(FGSM(), [0.0, 0.1])] == ["error", "error"]
    assert len(evaluation.run.records) == 3


# Saliency


def test_occlusion_counts_an_answer_per_image_and_draw():
    evaluation = make_evaluation()
    records = {c: evaluation.explaining().occluded(c) for c in ("top", "random", "least")}
    assert [r.check for r in evaluation.run.records] == [f"saliency/{c}" for c in records]
    assert {c: r.total for c, r in records.items()} == {"top": N, "random": 3 * N, "least": N}
    assert all(r.epsilon is None and r.status == "measured" for r in records.values())


def test_the_interval_of_random_occlusion_is_that_of_one_draw():
    """Three draws ask the same images three times, which are no three times as many images."""
    record = make_evaluation().explaining().occluded("random")
    assert record.total == 3 * N
    assert (record.ci_low, record.ci_high) == wilson(round(record.correct / 3), N)


@pytest.mark.parametrize("method", ["gradient", "gradient-x-input", "integrated-gradients"])
def test_the_method_that_ranks_the_covered_pixels_can_be_chosen(method):
    evaluation = make_evaluation()
    record = evaluation.explaining(occlusion=method).occluded("top")
    maps = np.abs(explain(evaluation.model, evaluation.x, evaluation.y, method))
    rank = maps.reshape(N, -1).argsort(axis=1, kind="stable")[:, ::-1]
    covered = evaluation.x.reshape(N, -1).copy()
    np.put_along_axis(covered, rank[:, : covered.shape[1] // 4], 0, axis=1)
    labels, _, _ = by_hand(evaluation.model, covered)
    assert record.correct == int((labels == LABELS).sum())
    kept = evaluation.run.arrays["numpy/mlp/examples/saliency"]
    np.testing.assert_array_equal(kept, maps[[0, 1, 4]])


def test_random_occlusion_follows_the_seed():
    first, again = (make_evaluation().explaining(5).occluded("random") for _ in range(2))
    assert first == again
    assert len({make_evaluation().explaining(s).occluded("random").correct for s in range(6)}) > 1


# Conformance


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        (None, "passed", ""),
        (CheckFailed("logits are\nwrong"), "failed", "logits are wrong"),
        (NotApplicable("nothing to compare with"), "skipped", "nothing to compare with"),
    ],
)
def test_a_conformance_check_becomes_a_record(monkeypatch, outcome, status, reason):
    def rule(evidence):
        if outcome:
            raise outcome

    monkeypatch.setitem(CHECKS, "made-up", rule)
    evaluation = make_evaluation()
    record = Checking(
        LoadedModel(evaluation.model, "numpy"), evaluation.x, LABELS, evaluation.examples,
        evaluation.recorder,
        reported=(), bounds=SanitySpec(), seed=0, clean_labels=lambda: None,
    ).checked("conformance", "made-up")  # fmt: skip
    assert evaluation.run.records == [record]
    assert record.key == ("mlp", "numpy", "conformance/made-up", None)
    assert (record.status, record.reason, record.accuracy) == (status, reason, None)


def test_the_numpy_network_conforms():
    evaluation = make_evaluation()
    exact = make_model("float64")
    evidence = conformance.Evidence(
        evaluation.model, evaluation.x[:6], LABELS[:6], exact, exact, evaluation.x, LABELS
    )
    for rule in CHECKS:
        record = evaluation.recorder.checked(rule, lambda rule=rule: CHECKS[rule](evidence))
        assert (record.status, record.reason) == ("passed", "")


def test_the_most_fragile_and_the_most_robust_are_kept_as_misclassified():
    model = make_model()
    evaluation = make_evaluation(model)
    record = evaluation.smallest_epsilon("fgsm", MinimalSpec(images=40, limit=0.5), FGSM())
    kept = {
        key.removeprefix("numpy/mlp/minimal-epsilon/fgsm/extremes/"): array
        for key, array in evaluation.run.arrays.items()
        if "/extremes/" in key
    }
    found = evaluation.run.arrays["numpy/mlp/minimal-epsilon/fgsm"]
    wrong = make_evaluation(model).clean_labels()[:40] != LABELS[:40]
    right = np.sort(found[~wrong])
    count = min(6, len(right) // 2)
    assert record.value == np.quantile(found, 0.5, method="lower")
    assert found[kept["index"]].tolist() == [*right[:count], *right[-count:]]
    assert (kept["clean"] == evaluation.x[kept["index"]]).all()
    wrong = np.isfinite(found[kept["index"]])
    assert ((kept["labels"] != LABELS[kept["index"]]) == wrong).all()
    distance = np.abs(kept["adversarial"] - kept["clean"]).reshape(len(wrong), -1).max(axis=1)
    assert (distance <= found[kept["index"]] + 1e-6).all()


def test_where_all_are_misclassified_no_image_is_the_most_robust():
    evaluation = make_evaluation(y=(make_evaluation().clean_labels().astype(int) + 1) % CLASSES)
    evaluation.smallest_epsilon("fgsm", MinimalSpec(images=40), FGSM())
    assert not any("extremes" in key for key in evaluation.run.arrays)


def test_maps_of_the_examples_are_kept_clean_and_under_fgsm():
    evaluation = make_evaluation()
    evaluation.explaining().explained("gradient")
    kept = {key.removeprefix("numpy/mlp/"): array for key, array in evaluation.run.arrays.items()}
    model, y = evaluation.model, LABELS[kept["examples/index"]]
    moved = kept["examples/moved"]
    change = np.abs(moved - kept["examples/clean"])
    assert change.max() == pytest.approx(SALIENCY.epsilon, abs=1e-6)
    assert kept["examples/moved/labels"].tolist() == by_hand(model, moved)[0].tolist()
    for name, images in (("examples/", kept["examples/clean"]), ("examples/moved/", moved)):
        assert kept[f"{name}maps/gradient"] == pytest.approx(explain(model, images, y), abs=1e-6)


def test_what_was_measured_is_timed_and_what_broke_is_not():
    evaluation = make_evaluation()
    evaluation.clean()
    evaluation.attacked(FGSM(), EPSILONS, images=20)
    evaluation.attacked(Raising(), EPSILONS)
    assert [(t.check, t.images, t.epsilons) for t in evaluation.run.timings] == [
        ("clean", N, 1), ("fgsm", 20, 3),
    ]  # fmt: skip
    assert all(t.seconds > 0 for t in evaluation.run.timings)
