"""Commands and calls that the documentation shows exist, with the options that it gives them."""

from __future__ import annotations

import inspect
import re
import shlex

import pytest
from documentation_pages import DOCS, ROOT, blocks
from typer.main import get_command

import harness
from harness.cli import app

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not in a checkout")
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
CALL = re.compile(r"^\$ (?:\S*/)?harness\b(.*)$|&& harness\b(.*)$", re.MULTILINE)


def shown(page):
    """The lines that call the command in consoles of a page, without their comments."""
    text = "".join(blocks(page.read_text(encoding="utf-8"), "console"))
    for first, second in CALL.findall(re.sub(r"\\\n\s*", " ", text)):
        told = re.split(r" #|&&|\||>", first or second)[0]
        yield shlex.split(told)


def command_of(words):
    """The command that words call, and what they give it."""
    found = get_command(app)
    while words and words[0] in getattr(found, "commands", {}):
        found, words = found.commands[words[0]], words[1:]
    return found, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_have_the_options_that_they_are_shown_with(page):
    for words in shown(page):
        found, given = command_of(words)
        assert not hasattr(found, "commands") or given in ([], ["--help"]), words
        options = {option for one in found.params for option in one.opts} | {"--help"}
        for word in given:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in options, (words, word)


def test_the_walk_finds_commands():
    assert len([words for page in PAGES for words in shown(page)]) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_of_the_library_that_are_shown_exist_and_take_what_they_are_given(page):
    for code in blocks(page.read_text(encoding="utf-8"), r"(?:python|\{code-cell\} \w+)"):
        for name, arguments in re.findall(r"\bharness\.(\w+)\(([^()]*)", code):
            assert name in harness.__all__, name
            parameters = inspect.signature(getattr(harness, name)).parameters
            for keyword in re.findall(r"(\w+)=(?!=)", arguments):
                assert keyword in parameters, (name, keyword)
