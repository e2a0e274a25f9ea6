"""A run's numbers as files that the page carries within itself."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

import pandas as pd

from harness.files import finite
from harness.records import COLUMNS, Run


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
    table = frame[list(COLUMNS)].to_csv(index=False)
    document = json.dumps(finite(run.model_dump(mode="json", by_alias=True)), allow_nan=False)
    return [
        _download("measurements.csv", "every measurement, a row each", "text/csv", table),
        _download("run.json", "the run: spec, models, records", "application/json", document),
    ]


def _download(name: str, words: str, kind: str, text: str) -> Download:
    # A run may hold text that is no Unicode, such as half a surrogate pair.
    content = text.encode("utf-8", "replace")
    uri = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return Download(name, words, uri, len(content))
