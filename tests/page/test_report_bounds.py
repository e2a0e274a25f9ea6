"""Robust accuracy between its bounds: by image, by record, and where they contradict each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_report import Page, html_of, seen

from harness.results import keys
from harness.results.records import Record, counted
from harness.results.run import Run
from reports import agreement, tables, worst
from reports.brackets import Bracket, Brackets, Told, brackets_of, fewest_left
from reports.page import Source, page
from reports.stored import Pair

PAIR = Pair("torch", "mlp")
IMAGES = 10


def empty(images: int = IMAGES) -> Run:
    """A run of two classes; every image is of the first."""
    run = Run(spec={"name": "toy"}, spec_sha256="5" * 64, data_sha256="d" * 64, created="now",
              classes=("a", "b"), finished=True)  # fmt: skip
    run.arrays["labels"] = np.zeros(images, np.int16)
    return run


def right(run: Run, check: str, epsilon: float | None, images: Any, of: int = IMAGES,
          norm: Any = "linf", backend: str = "torch", **changes: Any) -> None:  # fmt: skip
    """Of the first images those are classified correctly that are named."""
    wrong = np.ones(of, np.int16)
    wrong[list(images)] = 0
    record = counted("mlp", backend, check, int((wrong == 0).sum()), of, epsilon,
                     norm=norm if epsilon is not None else None)  # fmt: skip
    run.put(record.model_copy(update=changes))
    run.arrays[keys.of(backend, "mlp", keys.predictions(check, epsilon))] = wrong


def sure(run: Run, certifier: str, epsilon: float, images: Any, of: int = IMAGES,
         norm: Any = "linf", backend: str = "torch") -> None:  # fmt: skip
    """Of the first images those are certified that are named."""
    found = np.zeros(of, bool)
    found[list(images)] = True
    check = keys.certificate(certifier)
    run.put(counted("mlp", backend, check, int(found.sum()), of, epsilon, norm=norm))
    run.arrays[keys.of(backend, "mlp", keys.certified(certifier, epsilon))] = found


def by_hand(backend: str = "torch", run: Run | None = None) -> Run:
    """PGD and Square, which find other images each, against CROWN; the last image is no good."""
    run = empty() if run is None else run
    right(run, "clean", None, range(9), backend=backend)
    right(run, "pgd", 0.1, range(7), backend=backend)
    right(run, "pgd", 0.2, range(4), backend=backend)
    right(run, "square", 0.1, [0, 1, 2, 3, 4, 5, 7], backend=backend)
    sure(run, "crown", 0.1, range(5), backend=backend)
    sure(run, "crown", 0.3, [0], backend=backend)
    return run


def found_in(run: Run, norm: str = "linf") -> Brackets:
    (found,) = (one for one in brackets_of(run, tables.measurements(run), PAIR) if one.norm == norm)
    return found


def ends(row: Bracket) -> list[tuple[str, float, int, int] | None]:
    return [
        None if end is None else (end.by, end.epsilon, end.correct, end.total)
        for end in (row.lower, row.upper)
    ]


def counts(row: Bracket) -> list[int]:
    is_ = row.outcomes
    assert is_ is not None
    return [is_.certified, is_.unknown, is_.misclassified, is_.both]


def words(run: Run) -> str:
    return " ".join(seen(run).text.split())


def test_every_epsilon_is_bounded_by_what_is_known_further_out_and_nearer() -> None:
    found = found_in(by_hand())
    assert found.images == IMAGES
    assert found.clean is not None
    assert found.clean.accuracy == 0.9
    assert [row.epsilon for row in found.rows] == [0.1, 0.2, 0.3]
    # At 0.1 PGD misses 7, 8, 9, and Square 6, 8, 9: together they leave six of ten.
    assert ends(found.rows[0]) == [("crown", 0.1, 5, 10), ("", 0.1, 6, 10)]
    upper = found.rows[0].upper
    assert upper is not None
    assert upper.alone is not None
    assert (upper.alone.by, upper.alone.correct) == ("pgd", 7)
    # At 0.2 what is certified at 0.3, and at 0.3 what PGD found at 0.2.
    assert ends(found.rows[1]) == [("crown", 0.3, 1, 10), ("pgd", 0.2, 4, 10)]
    assert ends(found.rows[2]) == [("crown", 0.3, 1, 10), ("pgd", 0.2, 4, 10)]
    assert [counts(row) for row in found.rows] == [[5, 1, 4, 0], [1, 3, 6, 0], [1, 3, 6, 0]]
    assert [row.measured for row in found.rows] == [True, False, False]


def test_before_the_first_attack_clean_accuracy_is_the_bound_and_beyond_certificates_none() -> None:
    run = empty()
    right(run, "clean", None, range(9))
    right(run, "pgd", 0.2, range(3))
    sure(run, "ibp", 0.1, range(2))
    rows = found_in(run).rows
    assert ends(rows[0]) == [("ibp", 0.1, 2, 10), ("clean", 0.0, 9, 10)]
    assert ends(rows[1]) == [None, ("pgd", 0.2, 3, 10)]


def test_the_gap_is_a_sentence_and_the_images_are_counted() -> None:
    shown = seen(by_hand())
    text = " ".join(shown.text.split())
    assert (
        "At ε = 0.1 robust accuracy lies between 50.0 and 60.0 %: certified by CROWN, "
        "and under several attacks together."
    ) in text
    assert "PGD alone: 70.0 %" in text
    (table,) = (rows for rows in shown.tables if "Unknown" in rows[0])
    assert [row[:4] for row in table] == [
        ["ε", "Certified", "Unknown", "Misclassified"],
        ["0.1", "5", "1", "4"],
        ["0.2", "1", "3", "6"],
        ["0.3", "1", "3", "6"],
    ]
    assert "cannot be" not in text
    (label,) = (
        svg["aria-label"] for svg in shown.all("svg") if "bounds on" in str(svg.get("aria-label"))
    )
    assert "At epsilon 0.1: certified 50.0\u202f%, under attack 60.0\u202f%." in str(label)


def test_bounds_that_meet_are_one_number() -> None:
    run = by_hand()
    sure(run, "crown", 0.1, range(6))
    assert "At ε = 0.1 robust accuracy is 60.0 %" in words(run)


def test_certificates_are_no_attacks() -> None:
    run = by_hand()
    shown = seen(run)
    (ladder,) = (rows for rows in shown.tables if rows[0][0] == "Attack")
    assert [row[0] for row in ladder] == ["Attack", "PGD", "square"]
    frame = tables.measurements(run)
    assert set(tables.sweeps(frame)) == {"pgd", "square"}
    (curve,) = worst.curves_of(run, frame, agreement.groups_of(frame, [PAIR]))
    # Image by image, as in the bounds: 9 clean, six that both attacks leave at 0.1, four at 0.2.
    assert [(row.epsilon, row.accuracy) for row in curve.rows] == [(0, 0.9), (0.1, 0.6), (0.2, 0.4)]
    assert [row.by for row in curve.rows] == ["clean", "", "pgd"]
    assert [(row.epsilon, row.accuracy) for row in curve.certified] == [(0.1, 0.5), (0.3, 0.1)]
    assert curve.fragile
    assert "leaves 60 % of the images classified correctly, and 40 % at ε = 0.2." in words(run)
    assert "At least 10 % are certified at ε = 0.3." in words(run)
    # With certificates in, 0.3 would be measured as often as 0.2.
    assert tables.headline_epsilon(frame) == 0.1


def test_of_fewer_images_certified_only_these_are_counted_on_both_sides() -> None:
    run = by_hand()
    sure(run, "crown", 0.1, range(3), of=4)
    sure(run, "crown", 0.3, [0], of=4)
    found = found_in(run)
    assert found.images == 4
    assert ends(found.rows[0]) == [("crown", 0.1, 3, 4), ("pgd", 0.1, 4, 4)]
    assert counts(found.rows[0]) == [3, 1, 0, 0]
    assert "Counted on the first 4 of 10 test images" in words(run)


def test_of_fewer_images_attacked_likewise() -> None:
    run = by_hand()
    run.records = [record for record in run.records if record.check != "square"]
    right(run, "pgd", 0.1, range(2), of=3)
    right(run, "pgd", 0.2, [0], of=3)
    found = found_in(run)
    assert found.images == 3
    assert [counts(row) for row in found.rows[:1]] == [[2, 0, 0, 1]], "pgd misses a certified one"


def test_the_certifier_that_is_best_on_the_images_of_all_says_which_are_counted() -> None:
    run = by_hand()
    sure(run, "ibp", 0.1, [0, 5])
    assert found_in(run).images == IMAGES
    assert ends(found_in(run).rows[0])[0] == ("", 0.1, 6, 10), "image 5 by ibp, the others by crown"
    sure(run, "crown", 0.1, range(4), of=4)
    sure(run, "crown", 0.3, [0], of=4)
    assert found_in(run).images == 4, "of the first four, crown has more than ibp"
    sure(run, "ibp", 0.1, range(5))
    sure(run, "ibp", 0.3, range(2))
    assert found_in(run).images == IMAGES


@pytest.mark.parametrize("lost", ["certified/crown@0.1", "square@0.1/predictions", "labels"])
def test_without_the_outcome_of_each_image_the_records_are_held_against_each_other(
    lost: str,
) -> None:
    run = by_hand()
    for key in [key for key in run.arrays if lost in key]:
        del run.arrays[key]
    found = found_in(run)
    assert found.images is None
    assert ends(found.rows[0]) == [("crown", 0.1, 5, 10), ("pgd", 0.1, 7, 10)]
    assert all(row.outcomes is None for row in found.rows)
    text = words(run)
    assert "between 50.0 and 70.0 %" in text
    assert "Image by image" not in text


def test_accuracies_of_different_images_are_given_with_their_counts() -> None:
    run = by_hand()
    run.arrays.clear()
    run.put(counted("mlp", "torch", "certified/crown", 4, 4, 0.1, norm="linf"))
    text = words(run)
    assert (
        "between 100.0 % (certified by CROWN, 4 images) and 70.0 % (under PGD, 10 images), "
        "as far as accuracies of different images can say"
    ) in text
    assert "contradict" not in text


@pytest.mark.parametrize(
    "array", [np.ones(11, bool), np.ones(10), np.ones((10, 1), bool), np.ones(0, bool)]
)
def test_certificates_that_do_not_fit_break_nothing(array: np.ndarray[Any, Any]) -> None:
    run = by_hand()
    run.arrays["torch/mlp/certified/crown@0.1/certified"] = array
    assert found_in(run).images is None
    assert "bounds" in seen(run).sections


def test_an_image_that_is_both_is_a_contradiction_with_the_way_to_its_check() -> None:
    run = by_hand()
    sure(run, "crown", 0.1, [0, 1, 2, 3, 4, 6, 9])  # Square misclassifies 6, and 9 is wrong already
    found = found_in(run)
    assert counts(found.rows[0]) == [5, 1, 2, 2]
    assert [row.wrong for row in found.rows] == [True, False, False]
    text = words(run)
    assert "At ε = 0.1 the bounds contradict each other: 2 images are both" in text
    assert "certified-misclassified, which this run does not hold" in text
    run.put(Record(model="mlp", backend="torch", check="validity/certified-misclassified",
                   status="failed", reason="square misclassifies image 6"))  # fmt: skip
    html = html_of(run)
    assert '<a href="#verdict">certified-misclassified</a>' in html
    (row,) = (rows[1] for rows in Page(html).tables if "Both" in rows[0])
    assert row[:5] == ["0.1", "5", "1", "2", "2"]


def test_more_certified_than_an_attack_leaves_is_one_too_where_images_are_not_stored() -> None:
    run = by_hand()
    run.arrays.clear()
    run.put(counted("mlp", "torch", "certified/crown", 8, 10, 0.1, norm="linf"))
    assert found_in(run).rows[0].wrong
    assert "80.0 % certified by CROWN, but only 70.0 % under PGD" in words(run)


def test_images_that_were_not_answered_are_unknown() -> None:
    run = by_hand()
    run.arrays["torch/mlp/clean/predictions"][:] = -1
    for key in [key for key in run.arrays if "pgd" in key or "square" in key]:
        run.arrays[key][:] = -1
    assert counts(found_in(run).rows[0]) == [5, 5, 0, 0]


def test_norms_are_apart() -> None:
    run = by_hand()
    right(run, "pgd-l2", 0.1, [0], norm="l2")
    assert ends(found_in(run).rows[0])[1] == ("", 0.1, 6, 10)
    sure(run, "crown-l2", 0.1, [0], norm="l2")
    assert ends(found_in(run, "l2").rows[0]) == [("crown-l2", 0.1, 1, 10), ("pgd-l2", 0.1, 1, 10)]
    assert "Robust accuracy in L2" in words(run)


def test_a_search_for_the_smallest_epsilons_says_it_of_every_epsilon() -> None:
    run = by_hand()
    run.arrays["torch/mlp/minimal-epsilon/pgd"] = np.array([np.inf, 0.2, 0.15, 0.3, 0.1, 0.05])
    rows = found_in(run).rows
    assert found_in(run).images == IMAGES
    # Images 4 and 5 of six; the attacks miss 6, 7, 8, 9. CROWN certifies 4 at 0.1.
    assert ends(rows[0])[1] == ("", 0.1, 4, 10)
    assert counts(rows[0]) == [4, 0, 5, 1]
    # At 0.2 images 1, 2, 4, 5, and those that PGD found there, 4 to 9.
    assert ends(rows[1])[1] == ("", 0.2, 2, 10)
    assert ends(rows[2])[1] == ("", 0.3, 1, 10)
    right(run, "pgd-l2", 0.1, range(9), norm="l2")
    sure(run, "crown-l2", 0.1, [0], norm="l2")
    assert ends(found_in(run, "l2").rows[0])[1] == ("pgd-l2", 0.1, 9, 10)
    run.records = [record for record in run.records if record.check not in ("pgd", "square")]
    assert found_in(run).images == 6, "those that were searched"
    assert ends(found_in(run).rows[0]) == [("crown", 0.1, 5, 6), ("the search with pgd", 0.1, 4, 6)]


def test_by_image_as_by_brute_force() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        run, images = empty(), range(IMAGES)
        pick = [np.flatnonzero(random.random(IMAGES) < 0.6) for _ in range(7)]
        right(run, "clean", None, pick[0])
        attacks = [("pgd", 0.1), ("pgd", 0.3), ("square", 0.2)]
        proofs = [("crown", 0.1), ("crown", 0.2), ("ibp", 0.3)]
        for (name, epsilon), chosen in zip(attacks, pick[1:4], strict=True):
            right(run, name, epsilon, chosen)
        for (name, epsilon), chosen in zip(proofs, pick[4:], strict=True):
            sure(run, name, epsilon, chosen)
        for row in found_in(run).rows:
            held = [
                any(i in chosen for (_, e), chosen in zip(proofs, pick[4:], strict=True)
                    if e >= row.epsilon)
                for i in images
            ]  # fmt: skip
            lost = [
                i not in pick[0]
                or any(i not in chosen for (_, e), chosen in zip(attacks, pick[1:4], strict=True)
                       if e <= row.epsilon)
                for i in images
            ]  # fmt: skip
            both = sum(a and b for a, b in zip(held, lost, strict=True))
            neither = sum(not (a or b) for a, b in zip(held, lost, strict=True))
            assert counts(row) == [sum(held) - both, neither, sum(lost) - both, both]
            assert row.lower is not None
            assert row.upper is not None
            assert (row.lower.correct, row.upper.correct) == (sum(held), IMAGES - sum(lost))


def test_runs_and_backends_with_certificates_are_held_against_each_other() -> None:
    one = by_hand("keras", by_hand())
    shown = Page(page([Source(one, "before"), Source(by_hand(), "after")]))
    rows = [[" ".join(cell.split()) for cell in row] for table in shown.tables for row in table]
    assert ["certified by CROWN, ε = 0.1 lower bound", "50.0 %", "50.0 % 0.0"] in rows
    both = "50.0 % 23.7–76.3"  # Wilson's interval of 5 of 10
    assert ["certified by CROWN, ε = 0.1", both, both, "0.0", "—"] in rows


def test_judged_accuracies_say_what_they_bound() -> None:
    run = by_hand()
    assert "Bound" not in {cell for rows in seen(run).tables for cell in rows[0]}
    for record in list(run.records):
        run.put(record.judged("passed", threshold=(0.0, 1.0)))
    (table,) = (rows for rows in seen(run).tables if "Passes at" in rows[0])
    place = table[0].index("Bound")
    assert {row[0].split(" ε")[0]: row[place] for row in table[1:]} == {
        "clean": "exact", "PGD": "upper", "square": "upper", "certified by CROWN": "lower",
    }  # fmt: skip


def test_without_certificates_nothing_is_said_of_bounds() -> None:
    run = by_hand()
    run.records = [record for record in run.records if record.bound != "lower"]
    shown = seen(run)
    assert "bounds" not in shown.sections
    assert "ertified" not in shown.text


def test_certificates_alone_are_a_page() -> None:
    run = empty()
    sure(run, "ibp", 0.1, range(4))
    sure(run, "ibp", 0.0, range(4))
    assert ends(found_in(run).rows[0]) == [("ibp", 0.1, 4, 10), None]
    assert "bounds" in seen(run).sections
    run.records = run.records[1:]
    assert "bounds" not in seen(run).sections, "at zero nothing is certified"


def test_passes_of_the_model_are_told() -> None:
    run = by_hand()
    right(run, "pgd", 0.1, range(7), forwards=41.25, backwards=40.0)
    right(run, "pgd", 0.2, range(4), forwards=1234.25, backwards=7.5)
    (table,) = (rows for rows in seen(run).tables if rows[0][:1] == ["Attack"] and len(rows) == 2)
    assert table[1] == ["PGD", "1,234 / 40"]


def test_models_that_are_random_on_purpose_are_marked() -> None:
    run = by_hand("keras", by_hand())
    assert "andomised" not in seen(run).text
    right(run, "pgd", 0.1, range(7), randomised=True)
    text = words(run)
    assert "mlp randomised torch, keras" in text
    assert "Randomised: torch · mlp." in text


def test_the_first_images_count_alone_where_surely_fewer_of_them_are_left():
    places = np.arange(1000)
    many = Told("pgd", 0.1, places % 5 >= 2)  # 400 are left
    few = Told("strongest", 0.1, places[:100] > 10)  # of the first 100 those of 0, 1, 5, 6, 10
    found = fewest_left([many, few], 0.1)
    assert (found.correct, found.total) == (5, 100)


def test_no_difference_by_chance_makes_the_first_images_count_alone():
    places = np.arange(1000)
    many = Told("pgd", 0.1, places % 5 >= 2)
    few = Told("strongest", 0.1, (places[:100] % 5 >= 2) | (places[:100] == 50))  # 39 of 100
    found = fewest_left([many, few], 0.1)
    assert (found.correct, found.total) == (399, 1000)
