"""The generated parts of the reference say all that the code has, and say it in words."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import sys
from typing import get_origin

import pytest
from documentation_pages import DOCS
from pydantic import BaseModel

import harness
import harness.spec
from harness.attacks import ATTACKS
from harness.certification import CERTIFIERS
from harness.checks import conformance, validity
from harness.checks.sanity import checks as sanity
from harness.networks.families import FAMILIES
from harness.saliency.methods import METHODS
from harness.spec.part import Part, Sparse
from harness.spec.published import NumberSpec, PaperSpec, Table
from harness.spec.training import RECIPES

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not in a checkout")
SHARED = {"Part", "Sparse", "SweepSpec", "MeasuresSpec", "Table", "_Published"}
"""What others derive from, or hold together; it is no table of a file."""


@pytest.fixture(scope="module")
def generated():
    spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(table):
    """Rows of the tables in a text, but for their heads."""
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    split = (re.split(r"(?<!\\)\|", row.strip("|")) for row in rows)
    return [[cell.strip() for cell in row] for row in split if "---" not in row[0]]


def test_every_model_of_a_spec_is_a_table(generated):
    told = {part for _, part in generated.spec_parts()} | {PaperSpec, NumberSpec}
    for module in pkgutil.iter_modules(harness.spec.__path__, "harness.spec."):
        __import__(module.name)
        for thing in vars(sys.modules[module.name]).values():
            # Up to Python 3.10 list[str] is a class, too.
            is_class = isinstance(thing, type) and get_origin(thing) is None
            if is_class and issubclass(thing, BaseModel) and thing is not BaseModel:
                assert thing in told or thing.__name__ in SHARED, thing
    assert {Part, Sparse, Table}.isdisjoint(told)


def test_every_key_is_there_with_a_kind_and_a_meaning(generated):
    text = generated.spec_keys() + generated.published_keys()
    for path, part in [*generated.spec_parts(), ("paper", PaperSpec), ("published", NumberSpec)]:
        for key in set(part.model_fields) - {"home"} - set(getattr(part, "ELSEWHERE", ())):
            assert f"| `{key}` |" in text, (path, key)
    rows = [row for row in cells(text) if row[0] != "key"]
    assert len(rows) > 120
    for key, kind, _, meaning in rows:
        assert kind not in ("", "any"), key
        assert meaning, key
    assert next(row[:2] for row in rows if row[0] == "`split`") == [
        "`split`",
        '`"70-20-10"`, `"canonical"`, `"canonical-shuffled"`',
    ]


def test_limits_and_defaults_are_those_of_the_models(generated):
    rows = {(row[0], row[1], row[2]) for row in cells(generated.spec_keys())}
    assert ("`top`", "number > 0, ≤ 1", "`0.15`") in rows
    assert ("`seed`", "whole number ≥ 0, < 4294967296", "`0`") in rows
    assert ("`trades_beta`", "number > 0", "") in rows
    assert ("`epsilons`", "list of number ≥ 0", "required") in rows
    assert ("`size`", "list of 2: whole number ≥ 1", "") in rows


def test_headings_are_the_paths_in_a_file(generated):
    text = generated.spec_keys()
    for path in (
        "data", "models.NAME.training.adversary", "attacks.NAME", "saliency.sanity", "grid", "gate",
        "models.NAME.expect",
    ):  # fmt: skip
        assert f"## `[{path}]`" in text
    headings = re.findall("^## .*", text, re.MULTILINE)
    assert len(set(headings)) == len(headings)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("attacks", ATTACKS), ("certifiers", CERTIFIERS), ("architectures", FAMILIES),
        ("recipes", RECIPES), ("saliency-methods", METHODS), ("public-names", harness.__all__),
        ("validity-checks", [f"validity/{name}" for name in validity.CHECKS]),
        ("conformance-checks", [f"conformance/{name}" for name in conformance.CHECKS]),
        ("sanity-checks", [f"saliency-sanity/METHOD/{name}" for name in sanity.CHECKS]),
    ],
)  # fmt: skip
def test_all_that_has_a_name_is_there(generated, part, names):
    text = generated.PARTS[part]()
    for name in names:
        assert f"`{name}`" in text
    for row in cells(text):
        assert row[-1], row


def test_options_have_the_defaults_of_the_attack_they_belong_to(generated):
    sections = dict(re.findall(r"## `([\w-]+)`\n(.*?)(?=\n## |\Z)", generated.attacks(), re.DOTALL))
    assert next(row[:2] for row in cells(sections["pgd"]) if row[0] == "`steps`") == [
        "`steps`",
        "`40`",
    ]
    assert next(row[:2] for row in cells(sections["i-fgsm"]) if row[0] == "`steps`") == [
        "`steps`",
        "`10`",
    ]
    assert "L2; needs `gradient`" in sections["pgd-l2"]
    assert "needs" not in sections["square"].partition("|")[0]
    assert "`source`" in sections["transfer"]


def test_marks_are_filled_and_links_out_of_docs_lead_to_the_repository(generated):
    links = "[a](../harness/x.py) [b](../docs/gate.md) [c](gate.md)"
    text = f"*Written later.* <!-- generated: recipes -->\n{links}"
    found = generated.filled(text, "page", "https://example.org/blob/main")
    assert found.startswith("| recipe |")
    assert "| `trades` |" in found
    assert "[a](https://example.org/blob/main/harness/x.py)" in found
    assert "[b](../docs/gate.md) [c](gate.md)" in found
    found = generated.filled("[a](../../suites/x.toml) [b](../gate.md)", "learn/p", "https://e")
    assert found == "[a](https://e/suites/x.toml) [b](../gate.md)"


def test_every_part_has_a_page_and_every_mark_a_part(generated):
    marked = {
        name
        for path in DOCS.rglob("*.md")
        for name in generated.MARK.findall(path.read_text("utf-8"))
    }  # fmt: skip
    assert marked == set(generated.PARTS)


def test_the_commands_are_there_with_their_options(generated):
    text = generated.commands()
    assert "## `harness baseline accept`" in text
    assert "## `harness gate`" in text
    assert ["`--baseline PATH`"] in [row[:1] for row in cells(text)]
