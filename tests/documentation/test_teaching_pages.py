"""The pages that the report links to are there, with pictures and numbers that were measured."""

from __future__ import annotations

import re

import pytest
from documentation_pages import DOCS, ROOT, read

from harness.gate import store
from harness.maths.statistics import wilson

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not in a checkout")
TOPICS = ("data", "mlp", "grid-search", "fgsm", "saliency", "confusion", "curves", "samples")

COVERED = {
    "nothing": "clean",
    "the least": "saliency/least",
    "random": "saliency/random",
    "the most": "saliency/top",
}
"""Rows of the page on saliency, and whose accuracies they are."""


@pytest.fixture(scope="module")
def accepted():
    """Accuracies in percent of the first run that was accepted, by check and epsilon."""
    baseline = store.read(ROOT / "suites" / "baselines" / "digits")
    return {
        (entry.check, entry.epsilon): f"{100 * entry.accuracy:.1f} %"
        for entry in baseline.runs[0].records
        if (entry.backend, entry.model) == ("numpy", "mlp") and entry.accuracy is not None
    }


@pytest.mark.parametrize("topic", TOPICS)
def test_each_topic_has_a_page_in_the_contents(topic):
    page = read(f"learn/{topic}.md")
    assert page.startswith("# ")
    assert len(page.split()) > 150
    assert f"\n{topic}\n" in read("learn/index.md")


def test_pictures_are_there_and_small():
    pictures = sorted(DOCS.glob("learn/*.png"))
    shown = {
        name
        for topic in TOPICS
        for name in re.findall(r"\]\((\w+\.png)\)", read(f"learn/{topic}.md"))
    }
    assert {path.name for path in pictures} == shown
    assert len(shown) >= 7
    assert sum(path.stat().st_size for path in pictures) < 300_000


def test_accuracies_of_the_pages_are_those_of_the_accepted_run(accepted):
    head, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in read("learn/curves.md").splitlines() if line.startswith("| ")
    ]  # fmt: skip
    for name, *cells in rows:
        for epsilon, cell in zip(head[1:], cells, strict=True):
            assert cell == accepted.get((name.strip("`"), float(epsilon)), ""), (name, epsilon)
    clean = accepted["clean", None]
    assert f"| {clean} |" in read("learn/fgsm.md")
    for check, epsilon in (("fgsm", 0.1), ("fgsm", 0.3)):
        assert f"| {accepted[check, epsilon]} |" in read("learn/fgsm.md")
    for epsilon in (0.1, 0.3):
        assert accepted["noise", epsilon] in read("learn/fgsm.md")
    saliency = read("learn/saliency.md")
    for covered, check in COVERED.items():
        (line,) = [line for line in saliency.splitlines() if line.startswith(f"| {covered}")]
        assert f"| {accepted[check, None]} |" in line


def test_numbers_of_the_reference_system_are_those_of_its_table():
    tables = read("networks.md")
    for page in ("learn/fgsm.md", "learn/mlp.md"):
        for found in re.findall(r"\d\d\.\d\d %|\b(?:72\.8|15\.2|94\.2|5\.6) %", read(page)):
            assert found in tables, (page, found)


def test_intervals_are_those_that_are_said():
    low, high = wilson(171, 180)
    assert f"from {100 * low:.1f} % to {100 * high:.1f} %" in " ".join(
        read("learn/data.md").split()
    )
    assert f"0 to {100 * wilson(0, 180)[1]:.1f} %" in read("glossary.md")


def test_the_glossary_has_the_words_that_the_report_uses():
    words = re.findall("^## (.*)$", read("glossary.md"), re.MULTILINE)
    assert words[1:] == sorted(words[1:], key=lambda word: word.replace("∞", "").lower())
    for word in ("Logits", "L∞ and L2", "Wilson interval", "APGD", "Gradient masking"):
        assert word in words
