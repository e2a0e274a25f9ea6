"""The accuracies of a run in blocks: what a table, a notebook and a terminal have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.protocol import NormName
from harness.results import keys
from harness.results.records import Bound, Record, bound_of, bounds_told
from harness.results.run import Run

NORMS: dict[NormName | None, str] = {None: "clean", "linf": "L∞", "l2": "L2"}
"""The norms as they are written."""


@dataclass(frozen=True)
class Line:
    """An attack on a model, or a certifier of it, with the record of each epsilon.

    Attributes:
        backend: Of the model.
        model: Its name.
        check: Name of the attack or certifier; empty where neither was asked for.
        clean: The record of clean accuracy, if there is one.
        cells: A record for each epsilon of the block, in order; None where there is none.
    """

    backend: str
    model: str
    check: str
    clean: Record | None
    cells: tuple[Record | None, ...]

    @property
    def method(self) -> str:
        """The attack or certifier, without what certifiers follow in the records."""
        return keys.certifier_of(self.check) or self.check

    @property
    def names(self) -> tuple[str, str, str]:
        """What names the line, in the order of ``Block.headings``."""
        return self.backend, self.model, self.method


@dataclass(frozen=True)
class Block:
    """Accuracies that share a norm, and are all upper bounds, or all lower ones.

    Attributes:
        norm: The norm of the epsilons; None where nothing was attacked or certified.
        bound: What the accuracies are of robust accuracy.
        epsilons: The radii in pixel units, rising.
        lines: One for each model and method.
    """

    norm: NormName | None
    bound: Bound
    epsilons: tuple[float, ...]
    lines: tuple[Line, ...]

    @property
    def what(self) -> str:
        """What is counted."""
        return "certified accuracy" if self.bound == "lower" else "accuracy"

    @property
    def headings(self) -> tuple[str, ...]:
        """What names a line; methods only where there are any."""
        named = ("backend", "model", "certifier" if self.bound == "lower" else "attack")
        return named if any(line.check for line in self.lines) else named[:2]

    @property
    def told(self) -> str:
        """What stands beside such accuracies; empty where they are exact."""
        return bounds_told([self.bound])


def blocks(run: Run) -> Iterator[Block]:
    """A block for each norm of attacks, and of certifiers; one of clean accuracies without any."""
    swept = [record for record in run.records if record.epsilon is not None and record.norm]
    kinds = dict.fromkeys((record.norm, bound_of(record.check, 0.0)) for record in swept)
    for norm, bound in kinds:
        of = [r for r in swept if (r.norm, bound_of(r.check, 0.0)) == (norm, bound)]
        yield _block(run, of, norm, bound)
    if not kinds and any(record.check == "clean" for record in run.records):
        rest = [record for record in run.records if record.epsilon is not None]
        yield _block(run, rest, None, "upper" if rest else "exact")


def _block(run: Run, records: Sequence[Record], norm: NormName | None, bound: Bound) -> Block:
    epsilons = tuple(sorted({r.epsilon for r in records if r.epsilon is not None}))
    rows = dict.fromkeys((r.backend, r.model, r.check) for r in records)
    if not rows:
        rows = dict.fromkeys((r.backend, r.model, "") for r in run.records if r.check == "clean")
    found = {record.key: record for record in run.records}
    lines = tuple(
        Line(
            backend, model, check, found.get((model, backend, "clean", None)),
            tuple(found.get((model, backend, check, epsilon)) for epsilon in epsilons),
        )
        for backend, model, check in rows
    )  # fmt: skip
    return Block(norm, bound, epsilons, lines)
