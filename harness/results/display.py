"""A run in a notebook: a table, its HTML, and a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from harness.errors import HarnessError, printable
from harness.maths.norms import written
from harness.protocol import NormName
from harness.results.blocks import NORMS, Block, Line, blocks
from harness.results.records import Record, bounds_told
from harness.results.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ROWS = 40
"""So many rows of a block are shown in a notebook; ``table`` has them all."""
INDEX = ("backend", "model", "method", "norm")
"""What the rows of the table are named by."""


def table_of(run: Run) -> pd.DataFrame:
    """See ``Run.table``."""
    import pandas as pd

    found = list(blocks(run))
    epsilons = sorted({epsilon for block in found for epsilon in block.epsilons})
    rows, names = [], []
    for block in found:
        for line in block.lines:
            at = dict(zip(block.epsilons, line.cells, strict=True))
            cells = [line.clean, *(at.get(epsilon) for epsilon in epsilons)]
            rows.append(
                [math.nan if c is None or c.accuracy is None else c.accuracy for c in cells]
            )
            names.append((line.backend, line.model, line.check or "clean", block.norm or ""))
    table: pd.DataFrame = pd.DataFrame(
        rows,
        index=pd.MultiIndex.from_tuples(names, names=INDEX) if names else None,
        columns=pd.Index(["clean", *epsilons], dtype=object, name="ε"),
        dtype=float,
    )
    table.attrs["accuracy"] = bounds_told(block.bound for block in found)
    return table


def html_of(run: Run) -> str:
    """The accuracies in percent as HTML tables, with every name escaped.

    Cells of checks that failed are bold and red, and say so to who hovers over them.
    """
    head = f"<p><b>{_text(run.spec.get('name', 'run'))}</b>: {_text(run.verdict)}</p>"
    notes = "".join(f"<p><small>note: {_text(note)}</small></p>" for note in run.notes)
    return f"<div>{head}{''.join(map(_html, blocks(run)))}{notes}</div>"


def plot_of(run: Run, norm: NormName | None, ax: Axes | None) -> Axes:
    """See ``Run.plot``."""
    drawn = [block for block in blocks(run) if block.norm is not None]
    norms = list(dict.fromkeys(block.norm for block in drawn))
    if not norms:
        raise HarnessError("plot: the run holds no accuracy at an epsilon; clean accuracy is one")
    if norm is not None and norm not in norms:
        there = ", ".join(str(one) for one in norms)
        raise HarnessError(f"plot: norm: {norm!r} is not in the run; it holds {there}")
    shown = norm or norms[0]
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots()
    for block in drawn:
        if block.norm == shown:
            _draw(block, ax)
    ax.set(
        xlabel=f"ε ({NORMS[shown]}, in pixel units)", ylabel="accuracy in %", ylim=(-2, 102),
        title=printable(f"{run.spec.get('name', '')}, {NORMS[shown]}"),
    )  # fmt: skip
    ax.legend()
    return ax


def _draw(block: Block, ax: Axes) -> None:
    """A line for each model and method, through the mean of the backends and within their range."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in block.lines:
        groups.setdefault((line.model, line.method), []).append(line)
    for (model, method), lines in groups.items():
        points = [(0.0, [line.clean for line in lines])] * (0.0 not in block.epsilons)
        points += [(e, [line.cells[at] for line in lines]) for at, e in enumerate(block.epsilons)]
        measured = [(e, percent) for e, records in points if (percent := _percent(records))]
        if not measured:
            continue
        x = [epsilon for epsilon, _ in measured]
        means = [sum(percent) / len(percent) for _, percent in measured]
        several = f" ({len(lines)} backends)" if len(lines) > 1 else ""
        label = printable(f"{model} {method}{several}").replace("$", r"\$")  # no formula
        (drawn,) = ax.plot(
            x, means, marker="o", label=label, linestyle="--" if block.bound == "lower" else "-"
        )
        lows, highs = ([end(percent) for _, percent in measured] for end in (min, max))
        ax.fill_between(x, lows, highs, color=drawn.get_color(), alpha=0.2)


def _percent(records: list[Record | None]) -> list[float]:
    return [100 * r.accuracy for r in records if r is not None and r.accuracy is not None]


def _html(block: Block) -> str:
    named = block.headings
    heads = [*named, "clean", *(f"ε = {written(e)}" for e in block.epsilons)]
    shown = block.lines[:ROWS]
    rows = "".join(f"<tr>{''.join(_cells(line, len(named)))}</tr>" for line in shown)
    more = len(block.lines) - ROWS
    rest = f"<p><small>and {more} more rows: see run.table()</small></p>" if more > 0 else ""
    return (
        f"<table><caption>{block.what} in % ({NORMS[block.norm]})</caption>"
        f"<thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{rest}<p><small>{block.told}</small></p>"
    )


def _cells(line: Line, named: int) -> Iterator[str]:
    """A line as cells, of which so many are names."""
    for name in line.names[:named]:
        yield f"<th>{_text(name)}</th>"
    for record in (line.clean, *line.cells):
        if record is None:
            yield "<td></td>"
            continue
        said = record.status if record.accuracy is None else f"{100 * record.accuracy:.2f}"
        if record.status in ("failed", "error"):
            why = f' style="color: #b3261e; font-weight: bold" title="{_text(record.reason)}"'
            yield f"<td{why}>{said}</td>"
        else:
            yield f"<td>{said}</td>"


def _text(value: object) -> str:
    return escape(printable(str(value)))
