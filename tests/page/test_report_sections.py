"""Sections of the report: those of the harness, and what another package's may do to a page."""

from __future__ import annotations

import re
import sys
from unittest.mock import patch

import pytest
from synthetic import synthetic_run
from test_report import Page

from harness.registry import PLUGINS, Registry
from reports import drawing, room
from reports.page import Source, page
from reports.section import Section
from reports.sections import SECTIONS

MODULE = """
from pathlib import Path

from reports.section import Section


def count(view):
    return {"records": len(view.run.records), "name": "<b>" + view.title}


Path(__file__).with_name("counted.html.jinja").write_text(TEMPLATE)
COUNTED = Section(
    "counted", "Counted", place=95, content=count,
    template=Path(__file__).with_name("counted.html.jinja"),
)
"""
TEMPLATE = """
{% from "macros.html.jinja" import scrolling with context %}
{% call scrolling("Counted") %}<p id="how-many">{{ records }} of {{ name }}</p>{% endcall %}
"""
HEADLESS = re.compile(r"<section id=\"([^\"]+)\"")


def small():
    """A run without images, which is soon drawn."""
    run = synthetic_run(backends=["torch"])
    run.arrays.clear()
    return run


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs packages that have sections, each from the text of its module."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(module, entries="counted = their_section:COUNTED", package="their-package"):
        about = tmp_path / f"{package.replace('-', '_')}-1.2.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (about / "entry_points.txt").write_text(f"[harness.sections]\n{entries}\n")
        (tmp_path / "their_section.py").write_text(module.replace("TEMPLATE", repr(TEMPLATE)))
        monkeypatch.delitem(sys.modules, "their_section", raising=False)
        fresh = Registry("section", "harness.sections", SECTIONS.own)
        monkeypatch.setattr(drawing, "SECTIONS", fresh)

    with patch.dict(PLUGINS):  # what this process has loaded goes into later runs
        yield installed
    sys.modules.pop("their_section", None)


@pytest.fixture(scope="module")
def plain():
    return page([Source(small())])


def drawn():
    html = page([Source(small())])
    assert not Page(html).open
    return html


def part(html, name):
    (found,) = re.findall(rf'<section id="{name}".*?</section>', html, re.DOTALL)
    return found


def without(html, name):
    """A page without a section, nor the line of its contents that leads there."""
    html = html.replace(part(html, name) + "\n", "")
    return re.sub(rf'    <li><a href="#{name}">[^\n]*\n', "", html)


def test_each_section_has_a_template_of_its_own_and_a_place_of_its_own():
    own = list(SECTIONS.own.values())
    assert len({section.place for section in own}) == len(own) == 14
    assert [section.place for section in own] == sorted(section.place for section in own)
    assert all(section.file.is_file() for section in own)
    assert all(SECTIONS.own[section.id] is section for section in own)


def test_a_section_of_another_package_is_where_it_says_and_all_else_is_as_it_was(install, plain):
    install(MODULE)
    html = drawn()
    order = HEADLESS.findall(html)
    assert order[order.index("checks") :][:3] == ["checks", "counted", "speed"]
    run = small()
    assert f"{len(run.records)} of &lt;b&gt;{run.spec['name']}" in part(html, "counted")
    assert "This section is by their-package 1.2." in part(html, "counted")
    assert without(html, "counted") == plain


def test_with_several_runs_it_is_in_each_chapter_and_its_ids_are_told_apart(install):
    install(MODULE)
    html = page([Source(small(), "a"), Source(small(), "b")])
    assert re.findall(r'id="(run\d-how-many)"', html) == ["run1-how-many", "run2-how-many"]
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(set(ids)) == len(ids)


def test_one_that_has_nothing_to_show_leaves_no_trace(install, plain):
    install(MODULE.replace("    return {", "    return None\n    return {"))
    assert drawn() == plain


def test_one_that_changes_what_it_is_given_changes_it_for_no_other(install, plain):
    install(MODULE.replace("    return {", "    view.order.clear()\n    return {"))
    assert without(drawn(), "counted") == plain


def test_one_that_finds_no_room_is_left_out_before_those_of_the_harness(install, monkeypatch):
    install(MODULE.replace('"<b>"', '"<b>" * 100_000'))
    monkeypatch.setattr(room, "ONE", 500_000)
    html = drawn()
    assert room.size(html) <= room.ONE
    assert "Left out, so that the page stays small: counted." in html
    assert 'id="training"' in html


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("    return {", "    1 / 0\n    return {", "ZeroDivisionError: division by zero"),
        ("def count", "import no_such_module\ndef count", "does not import (ModuleNotFoundError"),
        ('"records": ', '"others": ', "UndefinedError: &#39;records&#39; is undefined"),
        ("= Section(", "= (lambda *_, **__: 3)(", "int, not a reports.section.Section"),
        ('"counted", "Counted"', '"others", "Counted"', "its id is others"),
        ("place=95", "place='first'", "place and rank must be whole numbers"),
        ("count(view):\n", "count(view):\n    return 3\n", "TypeError"),
        ("write_text(TEMPLATE)", "write_text('{% if %}')", "TemplateSyntaxError"),
        ("write_text(TEMPLATE)", "write_text('<div>')", "&lt;div&gt; is not closed"),
        ("write_text(TEMPLATE)", "write_text('</section>')", "&lt;/section&gt; closes nothing"),
        ("write_text(TEMPLATE)", "write_text('<!-- ')", "it ends within a tag, a comment or"),
        ("write_text(TEMPLATE)", "write_text('<p id=\\'')", "it ends within a tag, a comment or"),
        ("write_text(TEMPLATE)", "write_text('<script>')", "it ends within a tag, a comment or"),
        ('"Counted"', "3", "its title is 3, not a text"),
        ("place=95", "place=95, if_short=3", "TypeError"),
        ("write_text(TEMPLATE)", "name", "FileNotFoundError"),
    ],
)  # fmt: skip
def test_one_that_is_wrong_costs_itself_and_says_whose_it_is(install, plain, old, new, reason):
    assert old in MODULE
    install(MODULE.replace(old, new))
    html = drawn()
    said = part(html, "counted")
    assert "This section of their-package 1.2 is missing: " in said
    assert reason in said
    assert without(html, "counted") == plain


@pytest.mark.parametrize("name", ["verdict", "Two words", "a.b"])
def test_a_name_that_is_no_anchor_is_refused(install, name):
    install(MODULE.replace('"counted", "C', f'"{name}", "C'), f"{name} = their_section:COUNTED")
    assert "cannot be an anchor; choose another name" in drawn()


def test_a_name_that_two_packages_have_is_a_line_that_names_both(install, plain):
    install(MODULE)
    install(MODULE, package="another")
    said = part(html := drawn(), "counted")
    assert "another 1.2 and their-package 1.2 each have a section of this name" in said.replace(
        "their-package 1.2 and another 1.2", "another 1.2 and their-package 1.2"
    )
    assert without(html, "counted") == plain


def test_a_name_of_the_harness_cannot_be_taken(install):
    install(MODULE.replace('"counted", "C', '"speed", "C'), "speed = their_section:COUNTED")
    said = part(drawn(), "speed")
    assert "robustness-harness and their-package 1.2 each have a section of this name" in said


def test_a_section_of_the_harness_that_raises_is_not_hidden(monkeypatch):
    broken = Section("speed", "Speed", place=140, content=lambda _: 1 / 0)
    monkeypatch.setitem(SECTIONS, "speed", broken)
    with pytest.raises(ZeroDivisionError):
        drawn()
