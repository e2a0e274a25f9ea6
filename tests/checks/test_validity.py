"""The validity checks: each defect of the zoo is found and named, and nothing else fires."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_spec import tiny_spec
from zoo.broken_attacks import BROKEN_ATTACKS, Adapter
from zoo.broken_data import BROKEN_DATA
from zoo.broken_models import BROKEN_MODELS
from zoo.healthy import HEALTHY, BlackBox
from zoo.networks import BOUNDS, NET, built, images, trained

from backends.numpy_backend import NumpyModel
from harness.attacks import make_attack
from harness.attacks.substitute import substitute_for
from harness.checks.validity import CHECKS, Attacks, Evidence, Reported, findings
from harness.checks.validity.lots import FEW, IMAGES
from harness.checks.validity.panel import is_strong
from harness.checks.validity.repeated import PIECE
from harness.checks.validity.surrogate import Transfer
from harness.errors import CheckFailed, NotApplicable
from harness.evaluation.benchmark import Benchmark
from harness.maths.statistics import ALPHA, exceeds, more_often
from harness.results.provenance import new_run
from harness.results.recorder import Recorder
from harness.spec.reading import load_spec


def evidence_of(model, **options):
    return Evidence(model, *images(model.bounds), **options)


def skipped(evidence):
    """The reasons of the checks that do not apply."""
    reasons = {}
    for rule, check in CHECKS.items():
        try:
            check(evidence)
        except NotApplicable as error:
            reasons[rule] = str(error)
        except CheckFailed:
            pass
    return reasons


def test_what_falls_short_beside_a_better_one_is_told_and_is_no_failure():
    short, apgd = (
        make_attack("short", "pgd", {"steps": 20, "rel_stepsize": 0.03}),
        make_attack("apgd"),
    )
    evidence = evidence_of(built(), reported=(Reported(short, (0.1,)), Reported(apgd, (0.1,))))
    told = CHECKS["stronger-attack"](evidence)
    assert told.startswith("at epsilon 0.1 short leaves ")
    assert told.endswith(": report the latter")
    assert " apgd " in told
    record = recorder().checked("stronger-attack", lambda: CHECKS["stronger-attack"](evidence))
    assert (record.status, record.reason) == ("passed", told)


def recorder():
    return Recorder(new_run({}), "numpy", "mlp")


# The zoo


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_fires_on_a_healthy_model(name):
    evidence = evidence_of(HEALTHY[name]())
    assert findings(evidence) == {}
    # There are no certificates to hold attacks against.
    usual = {"epsilon-scale", "certified-misclassified"}
    assert set(skipped(evidence)) <= usual or name == "numpy-black-box"


@pytest.mark.parametrize("name", BROKEN_MODELS)
def test_a_broken_model_is_found_and_named(name):
    make, fires = BROKEN_MODELS[name]
    check_findings(Evidence(make(), *images()), fires)


@pytest.mark.parametrize("name", BROKEN_ATTACKS)
def test_a_broken_attack_is_found_and_named(name):
    make, fires = BROKEN_ATTACKS[name]
    check_findings(make(), fires)


@pytest.mark.parametrize("name", BROKEN_DATA)
def test_what_is_wrong_with_data_or_epsilons_is_found_and_named(name):
    make, fires = BROKEN_DATA[name]
    check_findings(make(), fires)


def check_findings(evidence, fires):
    found = findings(evidence)
    assert set(found) == fires
    for rule, message in found.items():
        assert message.startswith(f"{rule}: ")
        assert message.endswith(".")
        assert ". " in message  # what was seen, and what to do
        assert "\n" not in message


def test_every_check_has_a_defect_that_it_finds():
    broken = [*BROKEN_MODELS.values(), *BROKEN_ATTACKS.values(), *BROKEN_DATA.values()]
    # Broken certifiers are found in test_certified_misclassified.py.
    of_certifiers = {"certified-misclassified"}
    assert set().union(*(fires for _, fires in broken)) | of_certifiers == set(CHECKS)


def test_the_zoo_is_large_enough():
    assert len(BROKEN_MODELS) + len(BROKEN_ATTACKS) >= 16
    assert len(HEALTHY) >= 8


def test_a_right_adapter_is_not_blamed():
    everywhere = Attacks(iterated=Adapter(), single=Adapter(), others=(Adapter(),))
    assert findings(evidence_of(built(), attacks=everywhere)) == {}


def test_attacks_of_different_norms_are_not_compared():
    """PGD in L2 is weaker at the same number than one step in L∞, and rightly so."""
    mixed = Attacks(iterated=make_attack("pgd-l2"))
    evidence = evidence_of(built(), attacks=mixed)
    assert findings(evidence) == {}
    assert "different norms" in skipped(evidence)["iterated-weaker"]
    assert findings(evidence_of(built(), attacks=Attacks(single=make_attack("fgm-l2")))) == {}
    others = Attacks(
        others=(make_attack("pgd-l2"),), black_box=(make_attack("noise", options={"norm": "l2"}),)
    )
    assert findings(evidence_of(built(), attacks=others)) == {}


def test_a_reported_attack_is_judged_in_its_own_norm():
    weak = make_attack("short", "pgd-l2", {"steps": 20, "rel_stepsize": 0.025})
    fair = make_attack("pgd-l2", options={"losses": ["cross-entropy", "margin"]})
    epsilons = (0.5, 1.0)
    found = findings(evidence_of(built(), reported=(Reported(weak, epsilons),)))
    assert set(found) == {"stronger-attack"}
    assert "short leaves" in found["stronger-attack"]
    assert "apgd-l2 succeeds on" in found["stronger-attack"]
    assert findings(evidence_of(built(), reported=(Reported(fair, epsilons),))) == {}


def test_attacks_that_are_weak_by_design_are_not_judged():
    names = ("noise", "fgsm", "fgsm-rs", "i-fgsm", "square", "deepfool", "mim")
    weak = [Reported(make_attack(name), (0.1,)) for name in names]
    aimed = make_attack("aimed", "pgd", {"target": "least-likely"})
    weak.append(Reported(aimed, (0.1,)))
    assert findings(evidence_of(built(), reported=tuple(weak))) == {}
    assert not any(is_strong(one.attack) for one in weak)
    assert is_strong(make_attack("pgd"))
    assert is_strong(make_attack("strongest"))
    assert not is_strong(make_attack("strongest", options={"members": ["fgsm", "square"]}))


def test_an_attack_in_another_norm_is_measured_in_it():
    l2 = Attacks(
        single=make_attack("fgm-l2"), iterated=make_attack("pgd-l2"), others=(), black_box=()
    )
    evidence = evidence_of(built(), attacks=l2)
    for rule in ("outside-ball", "outside-box", "epsilon-zero", "non-finite", "rises-with-epsilon"):
        CHECKS[rule](evidence)
    with pytest.raises(NotApplicable, match="another norm"):
        CHECKS["not-to-chance"](evidence)


# What a check says


def test_the_message_says_what_was_seen_and_what_to_do():
    make, _ = BROKEN_ATTACKS["double-epsilon"]
    with pytest.raises(CheckFailed) as caught:
        CHECKS["outside-ball"](make())
    assert str(caught.value) == (
        "outside-ball: adapter at epsilon 0.05 returns an image that is 0.1 from its original. "
        "Project onto the ball after each step, and do not round the pixels afterwards."
    )


def test_a_shift_of_the_labels_is_called_one():
    make, _ = BROKEN_MODELS["labels-from-one"]
    with pytest.raises(CheckFailed, match="shifted by -1"):
        CHECKS["labels-shifted"](Evidence(make(), *images()))


def test_labels_that_have_no_logit_are_found():
    x, y = images()
    evidence = Evidence(built(), x, y + 1)
    found = findings(evidence)
    assert set(found) == {"labels-shifted"}
    assert "labels span [1, 10], but the model has 10 classes" in found["labels-shifted"]
    assert "no logit" in skipped(evidence)["outside-ball"]


def test_the_scale_that_helps_is_named():
    for name, words in (
        ("trained-on-bytes", r"pixels in \[0, 255\]"),
        ("trained-on-standardised", "standardised pixels"),
        ("trained-on-inverted", "inverted pixels"),
    ):
        make, _ = BROKEN_MODELS[name]
        with pytest.raises(CheckFailed, match=words):
            CHECKS["input-range"](Evidence(make(), *images()))


# What does not apply


def test_without_gradients_nine_checks_do_not_apply():
    reasons = skipped(evidence_of(BlackBox(built())))
    for of_others in ("epsilon-scale", "certified-misclassified"):
        del reasons[of_others]
    assert set(reasons) == {
        "gradient-mode", "other-loss-stronger", "attack-helps", "vanishing-gradients",
        "iterated-weaker", "stronger-attack", "black-box-stronger", "not-to-chance",
        "rises-with-epsilon",
    }  # fmt: skip
    assert all("gradient" in reason and "\n" not in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan-logits", "NaN"),
        ("dropout-on", "from call to call"),
        ("batch-statistics", "depend on the batch"),
        ("outside-its-bounds", "outside the model's bounds"),
        ("constant", "no better than chance"),
    ],
)
def test_attacks_on_a_model_that_cannot_be_attacked_are_not_judged(name, words):
    make, _ = BROKEN_MODELS[name]
    reasons = skipped(Evidence(make(), *images()))
    for rule in ("iterated-weaker", "black-box-stronger", "not-to-chance", "rises-with-epsilon"):
        assert words in reasons[rule]


def test_what_is_not_allowed_is_not_counted():
    make, _ = BROKEN_ATTACKS["double-epsilon"]
    assert "may not" in skipped(make())["iterated-weaker"]


def test_images_of_one_class_tell_nothing_of_a_constant_answer():
    x, y = images()
    with pytest.raises(NotApplicable, match="one class"):
        CHECKS["constant"](Evidence(built(), x[y == 3], y[y == 3]))


# Evidence


class Counting(NumpyModel):
    """Counts the images that it is asked about."""

    asked = 0

    def through(self, x):
        self.asked += len(x)
        return super().through(x)


def test_what_an_attack_does_is_measured_once():
    model = Counting(NET, trained(), BOUNDS, "float32")
    evidence = evidence_of(model)
    assert findings(evidence) == {}
    first, model.asked = model.asked, 0
    assert findings(evidence) == {}
    scales = 6
    assert model.asked <= scales * len(evidence.y) < first / 10


@pytest.mark.parametrize("seed", [0, 1])
def test_a_bounded_number_of_images_is_chosen_evenly(seed):
    x, y = images()
    x, y = np.concatenate([x, x, x, x[y < 2]]), np.concatenate([y, y, y, y[y < 2]])
    evidence = Evidence(built(), x, y, seed=seed)
    assert len(evidence.x) == len(evidence.y) == IMAGES
    for count in (FEW, IMAGES):
        assert np.ptp(np.bincount(evidence.y[:count])) <= 1
    assert np.array_equal(evidence.y, Evidence(built(), x, y, seed=seed).y)
    assert not np.array_equal(evidence.x, Evidence(built(), x, y, seed=seed + 1).x)


def test_images_are_logits_apart_in_small_batches_of_one_class_or_two():
    x, y = images()
    label_of = {image.tobytes(): label for image, label in zip(x, y, strict=True)}
    evidence = Evidence(built(), x, y)
    _, batches = evidence.logits, []
    ask = evidence.model.logits
    evidence.model.logits = lambda given: batches.append(np.array(given)) or ask(given)
    assert np.allclose(evidence.logits_apart, evidence.logits, atol=1e-4)
    assert max(map(len, batches)) < 2 * PIECE
    assert max(len({label_of[image.tobytes()] for image in batch}) for batch in batches) <= 2


def test_read_only_images_are_not_changed():
    x, y = (values.copy() for values in images())
    before = x.copy()
    x.setflags(write=False)
    findings(Evidence(built(), x, y))
    assert np.array_equal(x, before)


def test_a_surrogate_predicts_as_the_model_and_its_images_are_allowed():
    model, (x, y) = built(), images((0.0, 255.0))
    surrogate = substitute_for(y, x, (0.0, 255.0), 10)
    unit = (x / 255).astype(np.float32)
    assert (surrogate.logits(unit).argmax(axis=1) == y).mean() > 0.95
    model.bounds = (0.0, 255.0)
    index = np.arange(len(x))
    (found,) = Transfer(surrogate).perturb(model, x, y, [25.5], index=index)
    assert found.dtype == np.float32
    assert np.abs(found - x).max() <= 25.5 * (1 + 1e-6)
    assert 0 <= found.min() <= found.max() <= 255
    assert (surrogate.logits((found / 255).astype(np.float32)).argmax(axis=1) == y).mean() < 0.6


# Significance


def test_ten_coin_tosses_of_ten_are_significant_and_nine_are_not():
    first, second = np.ones(20, bool), np.ones(20, bool)
    second[:10] = False
    assert more_often(first, second)  # 2^-10 < 1e-3
    assert not more_often(second, first)
    assert not more_often(first, second, comparisons=2)
    second[9] = True
    assert not more_often(first, second)
    assert not more_often(first, first)


def test_false_alarms_are_as_rare_as_stated():
    random = np.random.default_rng(0)
    draws = random.random((4000, 2, 200)) < 0.5
    assert np.mean([more_often(a, b) for a, b in draws[:2000]]) <= 5 * ALPHA
    counts = random.binomial(200, 0.1, 20_000)
    alarm = {count: exceeds(count, 200, 0.1) for count in set(counts.tolist())}
    assert np.mean([alarm[count] for count in counts.tolist()]) <= 2 * ALPHA
    assert not exceeds(0, 0, 0.1)


# Records


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        (None, "passed", ""),
        (CheckFailed("it is\nwrong", "Mend it.", of="made-up"), "failed",
         "made-up: it is wrong. Mend it."),
        (NotApplicable("nothing to see"), "skipped", "nothing to see"),
        (ZeroDivisionError("oh"), "error", "ZeroDivisionError: oh"),
    ],
)  # fmt: skip
def test_a_check_becomes_a_record(outcome, status, reason):
    def rule(evidence):
        if outcome:
            raise outcome

    x, y = images()
    into = recorder()
    record = into.checked("validity/made-up", lambda: rule(Evidence(built(), x, y)))
    assert into.run.records == [record]
    assert record.key[:3] == ("mlp", "numpy", "validity/made-up")
    assert (record.status, record.reason, record.accuracy) == (status, reason, None)


def test_a_model_of_a_spec_is_checked_and_measured_once(tmp_path):
    (tmp_path / "tiny.toml").write_text(tiny_spec())
    saved = []
    benchmark = Benchmark(
        load_spec(str(tmp_path / "tiny.toml")),
        save=lambda: saved.append(len(benchmark.run.records)),
    )
    records = [benchmark.evaluation("numpy", "mlp").checked("validity", rule) for rule in CHECKS]
    statuses = {record.check: record.status for record in records}
    # A spec without certificates has nothing to hold attacks against.
    assert statuses.pop("validity/certified-misclassified") == "skipped"
    assert set(statuses.values()) == {"passed"}
    assert len(statuses) == len(CHECKS) - 1
    assert saved == list(range(1, len(CHECKS) + 1))
    assert len(benchmark.run.models) == 1
