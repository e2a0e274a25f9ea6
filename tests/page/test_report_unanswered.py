"""Images that a black box did not answer: left out of what the report counts."""

from __future__ import annotations

import numpy as np
from synthetic import synthetic_run
from test_report import Page

from harness.results.run import Run
from reports import confusions, stored
from reports.page import Source, page
from reports.sections import backends, classes, examples
from reports.stored import Pair

TORCH = Pair("torch", "mlp")


def run_without(*missing: int, key: str = "torch/mlp/clean") -> Run:
    """A run in which the first model did not answer some images of a check."""
    run = synthetic_run()
    run.arrays[f"{key}/predictions"][list(missing)] = -1
    return run


def test_a_confusion_matrix_counts_the_others() -> None:
    before = confusions.confusion(synthetic_run(), TORCH, "clean", "Clean")
    run = run_without(0, 1, 2)
    matrix = confusions.confusion(run, TORCH, "clean", "Clean")
    assert before is not None
    assert matrix is not None
    assert matrix.counts.to_numpy().sum() == before.counts.to_numpy().sum() - 3 == 57
    labels, said = run.arrays["labels"][3:], run.arrays["torch/mlp/clean/predictions"][3:]
    assert matrix.accuracy == (labels == said).mean()
    nothing = confusions.confusion(run_without(*range(60)), TORCH, "clean", "Clean")
    assert nothing is None or nothing.unanswered == 60


def test_so_does_the_accuracy_of_each_class() -> None:
    run = synthetic_run()
    labels, said = run.arrays["labels"], run.arrays["torch/mlp/clean/predictions"]
    own = np.flatnonzero(labels == 0)
    said[own[1:]] = -1
    said[own[0]] = 0
    said[labels == 1] = -1
    found = classes.per_class_of(run, TORCH, "fgsm", [0.1])
    assert found is not None
    assert [row[2][0] for row in found.rows[:2]] == [1.0, None]


def test_backends_agree_on_images_that_all_of_them_answer() -> None:
    run = synthetic_run()
    labels = run.arrays["labels"]
    for name in ("torch", "keras"):
        run.arrays[f"{name}/mlp/clean/predictions"][...] = labels
    run.arrays["torch/mlp/clean/predictions"][:10] = -1
    run.arrays["keras/mlp/clean/predictions"][5:15] = (labels[5:15] + 1) % 3
    pairs = [Pair("torch", "mlp"), Pair("keras", "mlp")]
    # Of the 50 images from 10 on they differ on 5.
    assert backends._agreement(run, pairs, "clean") == 0.9
    run.arrays["torch/mlp/clean/predictions"][...] = -1
    assert backends._agreement(run, pairs, "clean") is None


def test_an_example_that_was_not_answered_says_so() -> None:
    index = stored.example_index(synthetic_run(), TORCH)
    assert index is not None
    run = run_without(int(index[0]), key="torch/mlp/fgsm@0.1")
    gallery = examples.gallery_of(run, TORCH, "fgsm", [0.1])
    assert gallery is not None
    first, second = gallery.rows[-1][1][:2]
    assert first.predicted is None
    assert first.alt.endswith("; not answered")
    assert second.predicted is not None


def test_the_page_of_such_a_run_is_whole_and_says_how_many() -> None:
    run = run_without(0, 1, 2)
    for number, record in enumerate(run.records):
        if (record.backend, record.check) == ("torch", "clean"):
            run.records[number] = record.judged("passed", "3 of 60 images were not answered: busy")
    seen = Page(page([Source(run, "run")]))
    assert "3 of 60 images were not answered: busy" in seen.text
    assert "Confusions" in seen.text
