"""What is certified no attack may misclassify: such an image is named, with both numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from zoo.broken_attacks import DoubleEpsilon, LeavesTheBall
from zoo.broken_certifiers import BROKEN, Intervals
from zoo.networks import NET, built, images, trained

from harness.attacks import make_attack
from harness.attacks import sweep as sweeping
from harness.certification import make_certifier
from harness.checks.validity import CHECKS, Certificate, Evidence, Reported, findings
from harness.errors import CheckFailed, NotApplicable
from harness.evaluation.evaluation import CertifiedSweep, Evaluation, Measures, Sweep
from harness.evaluation.models import LoadedModel
from harness.maths.query import NO_LABEL
from harness.protocol import Network
from harness.results import keys
from harness.results.recorder import Recorder
from harness.results.run import Run
from harness.spec.measures import MinimalSpec

RULE = "certified-misclassified"
Y = np.array([0, 1, 0, 1, 1])
PGD, L2 = make_attack("pgd"), make_attack("pgd-l2")


def certified(*which, name="crown", norm="linf", epsilon=0.1):
    return Certificate(name, norm, epsilon, np.isin(np.arange(len(Y)), which))


def wrong_on(*which):
    """Labels that are right but for some images."""
    return np.where(np.isin(np.arange(len(Y)), which), 1 - Y, Y)


def evidence_of(*certificates, counted=None, clean=None, searched=None):
    """What a run has counted, by attack and epsilon."""
    counted = counted or {}
    points = {}
    for attack, epsilon in counted:
        points.setdefault(attack, []).append(epsilon)
    return Evidence(
        None, np.zeros((5, 2), np.float32), Y,
        reported=tuple(Reported(attack, tuple(radii)) for attack, radii in points.items()),
        measured=lambda: clean, counted=lambda attack, epsilon: counted.get((attack, epsilon)),
        certificates=lambda: certificates, searched=lambda: searched or {},
    )  # fmt: skip


def finding(evidence):
    with pytest.raises(CheckFailed) as caught:
        CHECKS[RULE](evidence)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# By hand


def test_an_image_that_is_both_is_named_with_the_attack_and_both_numbers():
    evidence = evidence_of(
        certified(0, 2, 3), counted={(PGD, 0.05): wrong_on(3, 4), (PGD, 0.1): wrong_on(4)}
    )
    said = finding(evidence)
    assert said.startswith(
        "certified-misclassified: crown certifies image 3 at epsilon 0.1, but pgd misclassifies it "
        "at epsilon 0.05: certified accuracy is 60.00 %, and 60.00 % are classified correctly there"
    )


def test_where_several_contradict_each_other_the_most_are_told():
    counted = {(PGD, 0.05): wrong_on(0), (PGD, 0.1): wrong_on(1, 2)}
    said = finding(evidence_of(certified(0, 1, 2), counted=counted))
    assert "image 1 at epsilon 0.1, but pgd misclassifies it at epsilon 0.1" in said
    assert "one of 2 such images" in said


@pytest.mark.parametrize(
    "counted",
    [
        {(PGD, 0.1): wrong_on(1)},  # which is not certified
        {(PGD, 0.2): wrong_on(0, 1), (PGD, 0.1): wrong_on()},  # beyond the ball
        {(L2, 0.05): wrong_on(0), (PGD, 0.1): wrong_on()},  # in another one
        {(PGD, 0.1): np.full(5, NO_LABEL)},  # not answered
        {(PGD, 0.1): wrong_on(3, 4)[:3]},  # of fewer images
    ],
)
def test_what_contradicts_nothing_passes(counted):
    assert CHECKS[RULE](evidence_of(certified(0, 2), counted=counted)) is None


def test_an_attack_is_held_against_certificates_of_its_own_norm():
    counted = {(L2, 0.05): wrong_on(0)}
    said = finding(evidence_of(certified(0, norm="l2"), certified(0), counted=counted))
    assert "pgd-l2" in said


def test_images_as_they_are_are_in_every_ball():
    said = finding(evidence_of(certified(0, epsilon=0.0), clean=wrong_on(0)))
    assert "as it is it is misclassified already" in said


def test_the_search_for_the_smallest_epsilons_is_an_attack_too():
    smallest = np.array([0.07, 0.0, np.inf, 0.12, np.inf])
    said = finding(evidence_of(certified(0, 2, 3), searched={"pgd": smallest}))
    assert (
        "image 0 at epsilon 0.1, but the search with pgd misclassifies it at epsilon 0.07" in said
    )
    assert "60.00 % are classified correctly there" in said
    assert CHECKS[RULE](evidence_of(certified(2, 3), searched={"pgd": smallest})) is None


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        (evidence_of(counted={(PGD, 0.1): wrong_on(0)}), "nothing is certified"),
        (evidence_of(certified(0), clean=Y), "no attack was counted in a ball"),
        (evidence_of(certified(0), counted={(L2, 0.1): Y}), "no attack was counted in a ball"),
        (evidence_of(certified(0), counted={(PGD, 0.2): Y}), "no attack was counted in a ball"),
    ],
)
def test_without_anything_to_compare_it_does_not_apply(evidence, why):
    with pytest.raises(NotApplicable, match=why):
        CHECKS[RULE](evidence)


def test_evidence_without_a_run_has_no_certificates():
    assert RULE not in findings(Evidence(built(), *images()))


# Whole runs, with one thing wrong


def checked(certifier, attack, epsilons=(0.02, 0.05), climbers=()):
    """What the check says of a defended network, with what was counted."""
    run = Run(spec={}, spec_sha256="", data_sha256="", created="now")
    network = Network(NET, trained(adversary=True))
    loaded = LoadedModel(built(adversary=True), "numpy", network=network)
    x, y = images()
    measures = Measures(
        {attack.name: Sweep(attack, epsilons)}, MinimalSpec(methods=climbers, images=50),
        {name: make_attack(name) for name in climbers},
        certified={certifier.name: CertifiedSweep(certifier, epsilons)},
    )  # fmt: skip
    evaluation = Evaluation(loaded, x[:100], y[:100], Recorder(run, "numpy", "net"), measures)
    for epsilon in epsilons:
        evaluation.certified(certifier.name, epsilon)
        assert evaluation.attacked(attack.name, epsilon).status == "measured"
    for method in climbers:
        evaluation.smallest_epsilon(method)
    return evaluation.checked("validity", RULE), run


@pytest.mark.parametrize("certifier", [Intervals(), make_certifier("ibp"), make_certifier("crown")])
def test_a_sound_certifier_and_an_attack_within_the_ball_pass(certifier):
    record, run = checked(certifier, make_attack("pgd"), climbers=("fgsm",))
    assert (record.status, record.reason) == ("passed", "")
    share = run.find(("net", "numpy", f"certified/{certifier.name}", 0.02)).accuracy
    assert 0.1 < share <= run.find(("net", "numpy", "pgd", 0.02)).accuracy


@pytest.mark.parametrize("kind", BROKEN)
def test_a_certifier_that_proves_too_much_is_found(kind):
    record, run = checked(kind(), make_attack("pgd"), (0.02, 0.05, 0.1))
    assert record.status == "failed"
    number, certified_at, attacked_at = re.search(
        rf"{kind.name} certifies image (\d+) at epsilon ([\d.]+), but pgd misclassifies it at "
        r"epsilon ([\d.]+)",
        record.reason,
    ).groups()
    assert float(attacked_at) <= float(certified_at)
    found = run.arrays[keys.of("numpy", "net", keys.certified(kind.name, float(certified_at)))]
    labels = run.arrays[keys.of("numpy", "net", keys.predictions("pgd", float(attacked_at)))]
    assert found[int(number)]
    assert labels[int(number)] != images()[1][int(number)]


@pytest.mark.parametrize("attack", [LeavesTheBall(), DoubleEpsilon()])
def test_an_attack_that_leaves_the_ball_is_found(attack, monkeypatch):
    record, _ = checked(make_certifier("crown"), make_attack("pgd"))
    assert record.status == "passed"
    # No sweep counts such an attack, unless what refuses its images is broken itself.
    monkeypatch.setattr(sweeping, "check_perturbation", lambda *_: 1.0)
    record, _ = checked(make_certifier("crown"), attack)
    assert record.status == "failed"
    assert "but adapter misclassifies it at epsilon" in record.reason
    assert "keeps to the ball" in record.reason
