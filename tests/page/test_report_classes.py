"""Many classes: what is shown of their confusions and accuracies is bounded, and adds up."""

import numpy as np
import pytest
from synthetic import synthetic_run

from harness.results.run import Run
from reports import room
from reports.confusions import FREQUENT, READABLE, confusion
from reports.page import Source, page
from reports.sections import classes
from reports.sections import confusion as section
from reports.stored import Pair

PAIR = Pair("t", "m")
CLEAN, ATTACKED = "t/m/clean/predictions", "t/m/fgsm@0.1/predictions"


def run_of(labels, predictions, count, key=CLEAN):
    run = Run(spec={}, spec_sha256="", data_sha256="", created="now",
              classes=tuple(f"class {at}" for at in range(count)))  # fmt: skip
    run.arrays["labels"] = np.array(labels, np.int32)
    run.arrays[key] = np.array(predictions, np.int32)
    return run


def test_a_matrix_counts_true_classes_by_row():
    run = run_of([0, 0, 0, 1], [0, 1, 1, 2], 3)
    matrix = confusion(run, PAIR, "clean", "Clean")
    assert matrix.counts.to_numpy().tolist() == [[1, 2, 0], [0, 0, 1], [0, 0, 0]]
    assert matrix.shares.loc["class 0"].tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert matrix.shares.loc["class 2"].tolist() == [0, 0, 0]
    assert (matrix.accuracy, matrix.wrong, matrix.frequent) == (0.25, 3, [])


def test_of_many_classes_the_most_frequent_confusions_by_hand():
    #         four of 7, of which two are taken for 2 and one for 3; 30 of 9, one taken for 0
    labels = [7, 7, 7, 7, *[9] * 30, 5]
    said = [2, 3, 2, 7, *[9] * 29, 0, -1]
    found = confusion(run_of(labels, said, READABLE + 1), PAIR, "clean", "Clean")
    assert found.counts.empty
    assert [tuple(row) for row in found.frequent] == [
        ("class 7", "class 2", 2, 0.5), ("class 7", "class 3", 1, 0.25),
        ("class 9", "class 0", 1, 1 / 30),
    ]  # fmt: skip
    assert (found.wrong, found.unanswered) == (4, 1)
    assert found.accuracy == pytest.approx(30 / 34)


def test_the_table_of_confusions_is_bounded_and_falls():
    random = np.random.default_rng(0)
    labels, said = random.integers(1000, size=(2, 5000))
    found = confusion(run_of(labels, said, 1000), PAIR, "clean", "Clean")
    counts = [row.images for row in found.frequent]
    assert len(counts) == FREQUENT
    assert counts == sorted(counts, reverse=True)
    pairs = {}
    for pair in zip(labels.tolist(), said.tolist(), strict=True):
        pairs[pair] = pairs.get(pair, 0) + (pair[0] != pair[1])
    assert counts == sorted(pairs.values(), reverse=True)[:FREQUENT]


def test_of_few_classes_unanswered_images_are_in_no_cell_and_counted():
    found = confusion(run_of([0, 0, 1], [0, -1, -1], 2), PAIR, "clean", "Clean")
    assert found.counts.to_numpy().tolist() == [[1, 0], [0, 0]]
    assert (found.accuracy, found.unanswered, found.wrong) == (1.0, 2, 0)


def test_nothing_answered_is_no_accuracy_of_nan():
    found = confusion(run_of([0, 1], [-1, -1], 2), PAIR, "clean", "Clean")
    assert (found.accuracy, found.unanswered) == (0.0, 2)


def test_accuracy_by_class_leaves_unanswered_images_out():
    run = run_of([0, 0, 0, 1, 2], [0, 1, -1, -1, 2], 3, ATTACKED)
    found = classes.per_class_of(run, PAIR, "fgsm", [0.1])
    assert found.rows == [
        ("class 0", 3, [0.5]), ("class 1", 1, [None]), ("class 2", 1, [1.0]),
    ]  # fmt: skip
    assert found.unanswered == 2


def test_of_many_classes_the_lowest_and_the_highest_accuracies_are_shown():
    count = 30
    labels = np.repeat(np.arange(count), count)
    # Of class c the first c images are right.
    said = np.where(np.tile(np.arange(count), count) < labels, labels, (labels + 1) % count)
    run = run_of(labels, said, count, ATTACKED)
    found = classes.per_class_of(run, PAIR, "fgsm", [0.1])
    names = [name for name, _, _ in found.rows]
    assert names == [f"class {at}" for at in [*range(10), *range(20, 30)]]
    assert [shares for *_, shares in found.rows][10] == [20 / 30]


def test_a_page_of_a_thousand_classes_is_small_and_says_what_it_shows():
    run = synthetic_run(backends=["torch"], classes=[f"kind {at}" for at in range(1000)])
    run.arrays["torch/mlp/clean/predictions"][:2] = -1
    html = page([Source(run)])
    assert room.size(html) < room.ONE / 3
    assert "Of 1,000 classes, the pairs that are confused most often" in html
    assert "of 1,000 classes those with the lowest mean" in html
    assert "2 images not answered and left out" in html
    assert "matrices-by-epsilon" not in html.replace("script.matrices-by-epsilon", "")


def test_without_a_mistake_no_table_of_confusions_is_empty():
    run = run_of([3, 4], [3, 4], 30)
    found = section.confusions_of(run, PAIR, "fgsm", [], None)
    assert found.clean.frequent == []
    assert found.attacked is None
