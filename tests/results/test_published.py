"""Whether a published number is reproduced, by hand-computed intervals."""

from __future__ import annotations

import pytest

from harness.results.judge import judge
from harness.results.provenance import new_run
from harness.results.published import Outcome, interval
from harness.results.records import counted
from harness.spec.expect import ExpectSpec
from harness.spec.published import NumberSpec


def number(check="pgd", percent=90.0, images=100, epsilon=0.1):
    epsilon = None if check == "clean" else epsilon
    return NumberSpec(
        check=check, percent=percent, images=images, epsilon=epsilon, source="table 1", model="net"
    )


def outcome(correct, total=100, **of):
    published = number(**of)
    record = counted("net", "numpy", published.check, correct, total, published.epsilon)
    return Outcome.of(published, record)


def test_the_interval_is_wilsons_of_the_number_of_images():
    # 90 of 100: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.959964.
    assert interval(number()) == pytest.approx((0.82563, 0.94477), abs=1e-5)
    # Of ten times as many images it is about a third as wide.
    low, high = interval(number(images=1000))
    assert (low, high) == pytest.approx((0.87985, 0.91709), abs=1e-5)


@pytest.mark.parametrize(
    ("check", "correct", "verdict", "said", "failed"),
    [
        ("pgd", 90, "reproduced", "reproduced", False),
        ("pgd", 83, "reproduced", "reproduced", False),  # 0.83 is above 0.8256
        ("pgd", 94, "reproduced", "reproduced", False),
        ("pgd", 80, "stronger", "stronger by 10.00 points", False),
        ("pgd", 99, "weaker", "not reproduced: weaker by 9.00 points", True),
        ("clean", 80, "lower", "not reproduced: lower by 10.00 points", True),
        ("clean", 99, "higher", "not reproduced: higher by 9.00 points", True),
        ("clean", 91, "reproduced", "reproduced", False),
        ("certified/crown", 80, "looser", "not reproduced: looser by 10.00 points", True),
        ("certified/crown", 99, "tighter", "tighter by 9.00 points", False),
        ("certified/crown", 88, "reproduced", "reproduced", False),
    ],
)
def test_the_verdict_depends_on_what_the_accuracy_bounds(check, correct, verdict, said, failed):
    found = outcome(correct, check=check)
    assert (found.verdict, found.said, found.failed) == (verdict, said, failed)
    assert found.judged().status == ("failed" if failed else "passed")
    assert found.judged().reason == f"published 90.00 %: {said}"


def test_fewer_images_of_ours_are_allowed_their_own_wider_interval():
    # 16 of 20 has [0.584, 0.919], which holds 90 %; 160 of 200 has [0.739, 0.850].
    assert outcome(16, 20, check="clean", images=10000).verdict == "reproduced"
    assert outcome(160, 200, check="clean", images=10000).verdict == "lower"


def test_fewer_images_of_the_paper_are_allowed_theirs():
    # The paper's 18 of 20 has [0.699, 0.972].
    assert outcome(9600, 10000, check="clean", images=20).verdict == "reproduced"
    assert outcome(9800, 10000, check="clean", images=20).verdict == "higher"


@pytest.mark.parametrize("check", ["clean", "pgd", "certified/ibp"])
@pytest.mark.parametrize(("total", "images"), [(20, 1000), (50, 20), (7, 7)])
@pytest.mark.parametrize("percent", [0.0, 42.0, 90.0, 100.0])
def test_the_threshold_of_the_record_says_the_same_as_the_verdict(check, total, images, percent):
    for correct in range(total + 1):
        found = outcome(correct, total, check=check, images=images, percent=percent)
        low, high = found.threshold
        accuracy = correct / total
        within = (low is None or accuracy >= low - 1e-9) and (
            high is None or accuracy <= high + 1e-9
        )
        in_own = found.record.ci_low - 1e-9 <= percent / 100 <= found.record.ci_high + 1e-9
        in_theirs = interval(found.number)[0] <= accuracy <= interval(found.number)[1]
        assert (found.verdict == "reproduced") == (in_own or in_theirs)
        assert within != found.failed


def test_an_attack_has_no_least_accuracy_and_a_certificate_no_highest():
    assert outcome(90).threshold[0] is None
    assert outcome(90, check="certified/ibp").threshold[1] is None
    low, high = outcome(90, check="clean").threshold
    assert 0.8 < low < 0.9 < high < 1


def test_what_could_not_be_measured_is_no_reproduction():
    record = counted("net", "numpy", "pgd", 9, 10, 0.1)
    lost = {"accuracy": None, "correct": None, "total": None, "ci_low": None, "ci_high": None}
    for status, failed in (("error", True), ("skipped", False)):
        broken = record.model_copy(update=lost | {"status": status, "reason": "no memory"})
        found = Outcome.of(number(), broken)
        assert (found.verdict, found.said) == ("not measured", "not measured: no memory")
        assert (found.failed, found.points) == (failed, None)
        assert found.judged() is broken


def test_a_judged_record_is_judged_like_others():
    found = outcome(99, check="clean").judged()
    expect = ExpectSpec(clean=(0.0, 1.0))
    assert judge(found, expect, new_run({})) == found
