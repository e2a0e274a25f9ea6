"""Each mistake of docs/mistakes.md is made, and the checks that the page names fail."""

from __future__ import annotations

import re

import pytest
from documentation_pages import DOCS, read
from zoo.broken_attacks import BROKEN_ATTACKS
from zoo.broken_data import BROKEN_DATA
from zoo.broken_models import BROKEN_MODELS
from zoo.networks import images

from harness.checks.validity import CHECKS, Evidence
from harness.errors import CheckFailed

MARK = re.compile(r"<!-- mistake: ([\w-]+): (.+) -->")
PAGE = read("mistakes.md") if DOCS.is_dir() else ""
SECTIONS = re.split(r"^## \d+\. ", PAGE, flags=re.MULTILINE)[1:]
MISTAKES = dict(MARK.findall(PAGE))
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not in a checkout")


def evidence_of(name):
    """That of the broken model, attack or data of this name in the zoo."""
    if name in BROKEN_MODELS:
        return Evidence(BROKEN_MODELS[name][0](), *images())
    make, _ = (BROKEN_ATTACKS | BROKEN_DATA)[name]
    return make()


@pytest.mark.parametrize("name", MISTAKES)
def test_the_checks_that_the_page_names_fail(name):
    evidence = evidence_of(name)
    for check in MISTAKES[name].split(", "):
        rule = check.removeprefix("validity/")
        with pytest.raises(CheckFailed, match=f"^{rule}: "):
            CHECKS[rule](evidence)


def test_each_section_has_a_mistake_some_code_and_says_which_check_fails():
    assert len(SECTIONS) == len(MISTAKES) >= 12
    for section in SECTIONS:
        title, code = section.partition("\n")[0], re.findall(r"```python\n(.*?)```", section, re.S)
        (mark,) = MARK.findall(section)
        assert len(code) == 1, title
        compile(code[0], title, "exec")
        assert len(code[0].splitlines()) <= 6, title
        told = " ".join(section.partition("```")[2].split())
        for check in mark[1].split(", "):
            assert f"**`{check}`**" in told, title
