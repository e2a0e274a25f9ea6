"""Certified accuracies in the gate: compared image by image, and lower is worse."""

from __future__ import annotations

import io

import numpy as np
import pytest
from gate_runs import MODEL, changed, right, row_of, run_of, status_record
from rich.console import Console

from harness.attacks.options import CERTIFIER, UNTOLD, options_of
from harness.certification import CROWN, IBP
from harness.errors import RunError
from harness.gate import Baseline, compare
from harness.gate.markdown import as_markdown
from harness.gate.table import print_comparison
from harness.results.records import LOWER_BOUND, UPPER_BOUND, counted

OTHER = 2.0
LABEL = "torch mlp certified/crown eps=0.1"
HALF = right(500)


def certified_run(outcomes, *, signature=MODEL, options=None, images=None, **changes):
    """A run with clean accuracy, and an accuracy that is certified."""
    asked = {"epsilons": [0.1], "options": options or options_of(CROWN(), CERTIFIER)}
    if images is not None:
        asked["images"] = images
    spec = {"name": "digits", "certified": {"crown": asked}}
    run = run_of({"clean": right(800)}, signature=signature, spec=spec, **changes)
    record = counted("mlp", "torch", "certified/crown", int(outcomes.sum()), len(outcomes), 0.1)
    run.put(record.model_copy(update={"norm": "linf"}).judged("measured"))
    run.arrays["torch/mlp/certified/crown@0.1/certified"] = outcomes
    return run


def row_between(old, new):
    return row_of(compare(new, Baseline.of(old)), LABEL)


@pytest.mark.parametrize("signature", [MODEL, OTHER])
def test_fewer_certified_images_are_a_regression(signature):
    fewer = certified_run(changed(HALF, lost=100), signature=signature)
    row = row_between(certified_run(HALF), fewer)
    assert (row.verdict, row.fails, row.counted) == ("regressed", True, True)
    assert (row.old, row.new) == (0.5, 0.4)
    assert row_between(certified_run(HALF), certified_run(HALF, signature=signature)).verdict == (
        "unchanged"
    )


def test_more_certified_images_of_a_retrained_model_are_an_improvement_however_many():
    row = row_between(certified_run(HALF), certified_run(right(950), signature=OTHER))
    assert (row.verdict, row.fails, row.implausible) == ("improved", False, False)


def test_more_certified_images_of_the_same_model_say_that_the_certifier_has_changed():
    row = row_between(certified_run(HALF), certified_run(right(950)))
    assert (row.verdict, row.implausible) == ("improved", True)
    assert "so the certifier proves more" in row.detail


def test_a_certificate_that_has_gone_is_named():
    without = run_of({"clean": right(800)})
    row = row_between(certified_run(HALF), without)
    assert (row.verdict, row.fails, row.detail) == ("vanished", True, "not in the run")
    assert row_between(without, certified_run(HALF)).verdict == "new"
    skipped = status_record("skipped", "no layers", "certified/crown")
    skipped = skipped.model_copy(update={"epsilon": 0.1})
    row = row_between(certified_run(HALF), run_of({"clean": right(800)}, skipped))
    assert (row.verdict, row.detail) == ("vanished", "now skipped: no layers")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"options": options_of(IBP(name="crown"), CERTIFIER)},
         "certified.crown.certifier is IBP, was CROWN"),
        ({"options": options_of(CROWN(intermediate="ibp"), CERTIFIER)},
         "certified.crown.intermediate is ibp, was crown"),
        ({"images": 1000}, "certified.crown.images is 1000, was None"),
    ],
)  # fmt: skip
def test_a_certifier_with_other_options_is_incomparable_and_named(changes, why):
    row = row_between(certified_run(HALF), certified_run(HALF, **changes))
    assert (row.verdict, row.detail) == ("incomparable", why)


def test_outcomes_that_are_not_there_or_contradict_the_count_are_incomparable():
    run = certified_run(HALF)
    del run.arrays["torch/mlp/certified/crown@0.1/certified"]
    assert "does not hold the outcome" in row_between(certified_run(HALF), run).detail
    run = certified_run(HALF)
    run.arrays["torch/mlp/certified/crown@0.1/certified"] = right(499)
    row = row_between(certified_run(HALF), run)
    assert row.verdict == "incomparable"
    assert "499 of 1000 images are certified, but 500 of 1000 are recorded" in row.detail
    with pytest.raises(RunError, match="499 of 1000 images are certified"):
        Baseline.of(run)


def test_a_baseline_keeps_which_images_are_certified(tmp_path):
    outcomes = changed(HALF, lost=3, gained=7)
    baseline = Baseline.of(certified_run(outcomes))
    baseline.save(tmp_path / "baseline.json")
    again = Baseline.load(tmp_path / "baseline.json")
    assert again == baseline
    (entry,) = [one for one in again.runs[0].records if one.check == "certified/crown"]
    assert np.array_equal(entry.counted.right, outcomes)


def test_the_tables_say_that_these_are_lower_bounds():
    stream = io.StringIO()
    comparison = compare(certified_run(HALF, signature=OTHER), Baseline.of(certified_run(HALF)))
    print_comparison(comparison, Console(file=stream, width=200))
    assert f"{UPPER_BOUND} {LOWER_BOUND}" in stream.getvalue()
    assert f"{UPPER_BOUND} {LOWER_BOUND}" in as_markdown(comparison)
    without = compare(run_of({"clean": HALF}), Baseline.of(run_of({"clean": HALF})))
    assert LOWER_BOUND not in as_markdown(without)


class Theirs:
    """A certifier of another package, which tells no options: its attributes are these."""

    name, norm = "theirs", "linf"

    def __init__(self, tries=3, net=None):
        self.tries, self.net = tries, net

    def certified(self, network, model, x, y, epsilons):
        return iter(())


def test_the_options_of_somebodys_certifier_are_its_attributes():
    told = options_of(Theirs(tries=5), CERTIFIER)
    assert told["certifier"].endswith("Theirs")
    assert (told["tries"], told["norm"], told["net"]) == (5, "linf", None)
    assert not {"attack", "certified", "name"} & set(told)
    row = row_between(
        certified_run(HALF, options=told),
        certified_run(HALF, options=options_of(Theirs(tries=6), CERTIFIER)),
    )
    assert row.detail == "certified.crown.tries is 6, was 5"
    old = {key: value for key, value in told.items() if key != "tries"}
    new = options_of(Theirs(), CERTIFIER)  # at the default that it has had since
    row = row_between(certified_run(HALF, options=old), certified_run(HALF, options=new))
    assert row.verdict == "unchanged"


def test_options_that_cannot_be_compared_are_noted():
    told = options_of(Theirs(net=np.random.default_rng(0)), CERTIFIER)
    assert told[UNTOLD] == ["net"]
    run = certified_run(HALF, options=told)
    (note,) = [n for n in compare(run, Baseline.of(run)).notes if "cannot be compared" in n]
    assert note == "certified/crown has options that cannot be compared: net"
