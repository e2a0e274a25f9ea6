"""Every row of the tables in docs/models.md is run as it stands there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from kinds import SETUPS
from kinds_boxes import ENDPOINT

import harness

for _name in ("torch", "keras", "jax", "data"):  # each registers its setups, as kinds_boxes does
    importlib.import_module(f"kinds_{_name}")

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
ROW = re.compile(r"^\| (?P<kind>.+?) \| (?P<code>`.+`) \|$", re.MULTILINE)
HEAD = "| kind | what you write |\n|---|---|\n"
LINES = 3


def tables():
    """The rows: kind and lines of code."""
    found = {}
    for table in DOCUMENT.read_text(encoding="utf-8").split(HEAD)[1:]:
        for row in ROW.finditer(table.partition("\n\n")[0] + "\n"):
            assert row["kind"] not in found, f"{row['kind']} is there twice"
            found[row["kind"]] = [line.strip("`") for line in row["code"].split("<br>")]
    return found


ROWS = tables()


def test_every_row_has_a_setup_and_every_setup_a_row():
    assert set(SETUPS) == set(ROWS)
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = sum(len(t.partition("\n\n")[0].splitlines()) for t in text.split(HEAD)[1:])
    assert len(ROWS) == rows >= 40  # so that none has been overlooked
    assert max(map(len, ROWS.values())) <= LINES


@pytest.fixture(scope="module")
def endpoint():
    """The server of the example, and what asks it."""
    path = Path(__file__).parents[2] / "examples" / "http_endpoint.py"
    spec = importlib.util.spec_from_file_location("http_endpoint", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.serving() as url:
        yield {"url": url, "ask": module.ask}


@pytest.mark.parametrize("kind", ROWS)
def test_the_lines_of_a_row(kind, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    given = SETUPS[kind]()
    names = {"harness": harness, "np": np} | given.names
    if kind == ENDPOINT:
        names |= request.getfixturevalue("endpoint")
    exec(compile("\n".join(ROWS[kind]), f"<{kind}>", "exec"), names)  # noqa: S102  # our document
    run = names["run"]
    (clean,) = [record for record in run.records if record.check == "clean"]
    assert (clean.correct, clean.total) == (given.right, given.images)
    assert 0.5 < given.right / given.images < 1
    (attacked,) = [record for record in run.records if record.check == given.attack]
    assert attacked.epsilon > 0
    assert attacked.status == "measured", attacked.reason
    assert attacked.total == given.images
    assert attacked.correct < given.right
    assert not [record.reason for record in run.records if record.status in ("failed", "error")]
    assert run.verdict != "failed"
