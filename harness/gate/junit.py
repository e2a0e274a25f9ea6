"""A comparison as JUnit XML, which CI systems show as test results."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from harness.gate.table import COLUMNS, cells
from harness.gate.verdicts import Comparison

ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, section 2.2."""


def as_junit(comparison: Comparison) -> bytes:
    """A test case a check, and one for the gate itself, as UTF-8."""
    failing = [row for row in comparison.rows if row.fails]
    suite = ElementTree.Element(
        "testsuite", name="robustness-gate", tests=str(len(comparison.rows) + 1),
        failures=str(len(failing) + (not comparison.passed)), errors="0", skipped="0",
    )  # fmt: skip
    case = ElementTree.SubElement(suite, "testcase", classname="gate", name="gate", time="0")
    if not comparison.passed:
        ElementTree.SubElement(case, "failure", message=_legal(comparison.message))
    notes = ElementTree.SubElement(case, "system-out")
    notes.text = _legal("\n".join((comparison.message, *comparison.notes)))
    for row in comparison.rows:
        model, backend, check, epsilon = row.key
        name = check if epsilon is None else f"{check} eps={epsilon:g}"
        case = ElementTree.SubElement(
            suite, "testcase", classname=_legal(f"{backend}.{model}"), name=_legal(name), time="0"
        )
        told = zip(COLUMNS, cells(row), strict=True)
        lines = _legal("\n".join(f"{column}: {cell}" for column, cell in told if cell))
        if row.fails:
            message = _legal(f"{row.outcome}: {row.detail}" if row.detail else row.outcome)
            ElementTree.SubElement(case, "failure", message=message).text = lines
        else:
            ElementTree.SubElement(case, "system-out").text = lines
    text: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _legal(text: str) -> str:
    return ILLEGAL.sub("\ufffd", text)
