"""A part of the published tables, with the weights of their authors, in a minute or two."""

from __future__ import annotations

import os

import pytest
from backends_at_hand import at_hand, required
from kinds import HEAVY

from harness.evaluation.published import Reproduction, missing_files
from harness.spec.published import load_table, table_paths

TABLES = ("trades", "wong-kolter-mnist", "wong-kolter-fashion-mnist")
QUICK = {"clean", "fgsm", "pgd", "pgd-40", "certified/crown"}
"""What takes seconds on the first images."""
IMAGES = 200


@pytest.mark.mnist
@pytest.mark.fashion_mnist
@pytest.mark.parametrize("name", TABLES)
def test_the_first_images_reproduce_what_is_published(name, tmp_path, request):
    if os.environ.get(HEAVY) != "1":
        pytest.skip("takes a minute; tox -e models runs it")
    (path,) = table_paths(name)
    table = load_table(path).of_first(IMAGES)
    for _, reason in missing_files(table):
        given = os.environ.get("HARNESS_MODELS_DIR", "")
        if given and os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and in CI it should be there")
        pytest.skip(reason)
    request.getfixturevalue("fashion_mnist_files" if "fashion" in name else "mnist_dir")
    backend = "torch" if "torch" in required() else "numpy"
    at_hand(backend)
    reproduction = Reproduction(table, tmp_path, backend)
    for number in table.numbers:
        if number.check in QUICK:
            outcome = reproduction.measured(number)
            assert outcome.record.accuracy is not None, outcome.said
            assert not outcome.failed, f"{number.label}: {outcome.said}"
            if number.check == "clean":  # of all images: these are the weights of the paper
                assert abs(outcome.points) < 0.05
    reproduction.finish()
    assert reproduction.run.verdict == "passed"
