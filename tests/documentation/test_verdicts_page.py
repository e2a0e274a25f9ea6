"""The page on verdicts has each word that a record, a run, the gate and a table can say."""

from __future__ import annotations

import re
from typing import get_args, get_type_hints

import pytest
from documentation_pages import DOCS, read

from harness.gate import FAILING, VERDICTS
from harness.results.published import FAILED
from harness.results.published import Verdict as Published
from harness.results.records import Status
from harness.results.run import Run

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not in a checkout")


def rows(page, heading):
    """The cells of the table below a heading, without its head."""
    text = read(page).partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words(cell):
    return re.findall(r"[a-z][a-z ]*[a-z]", cell)


def test_statuses_of_a_record_and_which_of_them_fail_a_run():
    table = rows("reference/verdicts.md", "A record")
    assert [row[0].strip("`") for row in table] == list(get_args(Status))
    assert {row[0].strip("`") for row in table if row[-1] == "yes"} == {"failed", "error"}


def test_verdicts_of_a_run():
    table = rows("reference/verdicts.md", "A run")
    said = get_args(get_type_hints(Run.verdict.fget)["return"])
    assert {row[0].strip("`") for row in table} == set(said)


def test_verdicts_of_the_gate_are_those_of_its_own_page():
    table = rows("gate.md", "Verdicts")
    assert [row[0] for row in table] == list(VERDICTS)
    assert {row[0] for row in table if row[-1] == "yes"} == set(FAILING)
    assert 'gate.md\n:start-after: "## Verdicts"' in read("reference/verdicts.md")
    assert "Accuracies after occlusion" in read("gate.md")  # where what is included ends


def test_verdicts_of_a_published_number():
    table = rows("reference/verdicts.md", "A published number")
    found = {word: row[-1] for row in table for word in words(row[0])}
    assert set(found) == set(get_args(Published))
    assert {word for word, fails in found.items() if fails == "yes"} == set(FAILED)
