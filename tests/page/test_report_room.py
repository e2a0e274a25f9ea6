"""The report's size is bounded, and what a spreadsheet or a terminal gets from it is harmless."""

import base64
import csv
import io
import json
import re

import numpy as np
import pytest
from synthetic import synthetic_run

from harness.errors import HarnessError
from harness.results.records import Record, counted
from reports import downloads, page, room, tiles
from reports.page import Source
from reports.section import Section
from reports.sections import SECTIONS

FORMULAS = ("=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1")


def attached(html, kind):
    (found,) = re.findall(rf"data:{kind};base64,([^\"]+)", html)
    return base64.b64decode(found).decode()


def run_with(names):
    run = synthetic_run(backends=["torch"])
    for name in names:
        run.put(counted(name, "torch", "pgd", 1, 2, epsilon=0.1, norm="linf"))
        run.put(Record(model="mlp", backend="torch", check=name, status="error", reason=name))
    run.put(Record(model="mlp", backend="torch", check="pgd", epsilon=0.3, value=-0.25))
    return run


def test_no_text_of_the_csv_is_a_formula_and_numbers_stay_numbers():
    rows = list(
        csv.DictReader(io.StringIO(attached(page.page([Source(run_with(FORMULAS))]), "text/csv")))
    )
    texts = [row[name] for row in rows for name in ("model", "backend", "check", "reason")]
    assert {text for text in texts if text.lstrip()[:1] in tuple("=+-@＝")} == set()
    assert {"'=1+1", "'@SUM(A1)", "'\\t=1", "' =1"} - set(texts) <= {"'\\t=1"}
    assert [float(row["value"]) for row in rows if row["value"].startswith("-")] == [-0.25]


@pytest.mark.parametrize("value", [-0.25, 3, None, float("nan"), (0.1, None)])
def test_what_is_no_text_is_left_alone(value):
    assert downloads.cell(value) is value


def test_text_for_a_spreadsheet_by_hand():
    assert downloads.cell("mlp") == "mlp"
    assert downloads.cell("a=b") == "a=b"
    assert downloads.cell("=a") == "'=a"
    assert downloads.cell("\x1b[31m=a") == "\\x1b[31m=a"
    assert downloads.cell("a\rb\ud800") == "a\\rb\\ud800"


def test_signs_that_are_obeyed_reach_neither_page_nor_files():
    name = "\x1b[31mred\x07\ud800\u202eback\u2028line"
    html = page.page([Source(run_with([name]))])
    for text in (html, attached(html, "text/csv")):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\ud800-\udfff]", text)
        assert "\\x1b[31mred\\x07\\ud800\\u202eback\\u2028line" in text
    document = attached(html, "application/json")
    assert document.isascii()
    assert name in {record["check"] for record in json.loads(document)["records"]}


# Size


def large_run(side, models=4):
    """A run of grey images of that side, with pictures that compress badly."""
    run = synthetic_run(models=[f"m{place}" for place in range(models)])
    random = np.random.default_rng(0)
    for key, values in run.arrays.items():
        if values.shape[-2:] == (6, 6):
            grown = random.random((*values.shape[:-2], side, side))
            run.arrays[key] = grown > 0.5 if values.dtype == bool else grown.astype(np.float32)
    return run


def test_a_run_of_large_images_has_a_small_page():
    html = page.page([Source(large_run(160))])
    assert room.size(html) <= room.ONE
    assert "Accuracy under attack" in html


def test_what_finds_no_room_is_named_and_all_references_hold(monkeypatch):
    run = synthetic_run()
    whole = page.page([Source(run)])
    assert "Left out" not in whole
    monkeypatch.setattr(room, "ONE", room.size(whole) * 2 // 3)
    html = page.page([Source(run)])
    assert room.size(html) <= room.ONE
    named = re.search(r"Left out, so that the page stays small: ([^.]+)\.", html)[1]
    assert "saliency" in named  # by far the largest
    assert 'id="saliency"' not in html
    assert 'id="accuracy"' in html
    assert 'id="training"' in html
    targets = set(re.findall(r'href="#([^"]+)"', html))
    assert targets <= set(re.findall(r' id="([^"]+)"', html))


def test_evidence_that_finds_no_room_is_not_led_to(monkeypatch):
    run = synthetic_run(backends=["torch"])
    bad = counted("mlp", "torch", "clean", 30, 60).judged("failed", "low", (0.9, None))
    run.put(bad)
    link = re.compile(r'href="#([^"]+)">clean</a>')
    assert link.search(page.page([Source(run)]))[1].startswith("record-")
    whole = room.size(page.page([Source(run)]))
    monkeypatch.setattr(room, "kept", lambda sizes, _: set(sizes) - {"checks"})
    html = page.page([Source(run)])
    assert room.size(html) < whole
    assert link.search(html)[1] == "verdict"


@pytest.mark.parametrize("runs", [2, 5])
def test_several_runs_share_a_bound(runs, monkeypatch):
    run = synthetic_run(backends=["torch"])
    monkeypatch.setattr(room, "SEVERAL", room.FRAME + 100_000 * runs)
    html = page.page([Source(run, f"run {place}") for place in range(runs)])
    assert room.size(html) <= room.SEVERAL
    assert html.count("Left out, so that the page stays small") == runs
    assert html.count("Robustness report:") >= runs


def test_more_runs_than_a_page_holds_are_refused():
    run = synthetic_run(backends=["torch"])
    with pytest.raises(HarnessError, match=r"^51 runs: a report holds 50 at most; [^\n]+$"):
        page.page([Source(run, str(place)) for place in range(51)])


def test_what_is_named_first_gets_room_first():
    sizes = {"accuracy": 60, "validity": 30, "examples": 50, "training": 10}
    assert room.kept(sizes, 100) == {"accuracy", "validity", "training"}
    assert room.kept(sizes, 150) == set(sizes)
    assert room.kept(sizes, 5) == set()


def test_sections_get_room_by_their_rank():
    own = sorted(SECTIONS.own.values(), key=lambda section: section.rank)
    assert [section.id for section in own] == [
        "baseline", "accuracy", "bounds", "checks", "provenance", "saliency", "examples",
        "backends", "search", "speed", "minimal", "confusion", "classes", "training",
    ]  # fmt: skip
    assert all(section.rank < Section("x", "X", 5, lambda _: None).rank for section in own)


@pytest.mark.parametrize("shape", [(64, 64), (65, 64), (224, 224), (300, 40), (129, 1)])
def test_a_large_picture_is_shrunk_to_means_of_its_blocks(shape):
    pixels = np.random.default_rng(0).random(shape)
    small = tiles.shrunk(pixels)
    assert max(small.shape) <= tiles.SIDE
    factor = -(-max(shape) // tiles.SIDE)
    assert small[0, 0] == pytest.approx(pixels[:factor, :factor].mean())
    row, column = (size - 1 for size in small.shape)
    assert small[-1, -1] == pytest.approx(pixels[row * factor :, column * factor :].mean())
