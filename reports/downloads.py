"""A run's numbers as files that the page carries within itself."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pandas as pd

from harness.errors import encoded, printable
from harness.files import as_json, document_of
from harness.results.run import COLUMNS, Run

FORMULA = tuple("=+-@＝＋－＠")
"""What begins a formula, once tabs and returns are out of the way."""


@dataclass(frozen=True)
class Download:
    """A file inside the page.

    Attributes:
        name: What it is saved as.
        words: What it holds.
        uri: Its content as a data URI.
        size: Its length in bytes.
    """

    name: str
    words: str
    uri: str
    size: int


def downloads_of(run: Run, frame: pd.DataFrame) -> list[Download]:
    """Every record as CSV, and the whole run but its arrays as JSON."""
    columns = {name: frame[name].map(cell) for name in COLUMNS}
    table = pd.DataFrame(columns).to_csv(index=False)
    document = as_json(document_of(run))
    return [
        _download("measurements.csv", "every measurement, a row each", "text/csv", table),
        _download("run.json", "the run: spec, models, records", "application/json", document),
    ]


def cell(value: object) -> object:
    r"""A value as a spreadsheet may be given it: text stays text, and numbers numbers.

    A cell that begins with ``=``, ``+``, ``-`` or ``@`` is a formula to a spreadsheet, and may run
    what a stranger wrote into a name or a reason. Such text gets an apostrophe in front (OWASP, CSV
    Injection), and what a terminal would obey becomes visible: an escape is ``\x1b``.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip()[:1] in FORMULA else text


def _download(name: str, words: str, kind: str, text: str) -> Download:
    content = encoded(text)
    uri = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return Download(name, words, uri, len(content))
