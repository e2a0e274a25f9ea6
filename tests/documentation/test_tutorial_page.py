"""The code of docs/tutorial.md runs without the site, and says the same by hand and by harness."""

from __future__ import annotations

import pytest
from documentation_pages import DOCS, blocks, read

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not in a checkout")


@pytest.fixture
def cells():
    return blocks(read("tutorial.md"), r"\{code-cell\} ipython3")


def test_a_digit_is_attacked_in_twenty_lines(cells):
    lines = [line for cell in cells[:2] for line in cell.splitlines() if line.strip()]
    assert lines[-3].startswith("def fgsm")
    assert len(lines) - 1 == 20  # but for the one that prints accuracies


def test_by_hand_and_by_harness_the_accuracies_are_the_same(cells):
    names = {}
    for cell in cells:
        exec(cell, names)  # noqa: S102
    for epsilon in (0.0, 0.1, 0.3):
        moved = names["fgsm"](names["test_x"], names["test_y"], epsilon)
        by_hand = (names["predict"](moved) == names["test_y"]).sum()
        record = names["run"].find(("model", "numpy", "fgsm", epsilon))
        assert abs(record.correct - by_hand) <= 1  # float32 and float64
    clean = names["run"].find(("model", "numpy", "clean", None))
    assert clean.accuracy > 0.85
    noise = names["run"].find(("model", "numpy", "noise", 0.1))
    pgd = names["run"].find(("model", "numpy", "pgd", 0.1))
    assert noise.accuracy > pgd.accuracy + 0.2
