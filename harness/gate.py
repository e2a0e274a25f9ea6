"""The gate: a stored run compared with an accepted baseline, record by record.

A baseline is a small JSON file, a record a line, so that accepting other numbers is a diff that
someone can review. Nothing is rerun, and no framework is imported.

What counts as worse:

- An accuracy may drop by the tolerance, that included: with 0.005 of 400 images two may be lost.
  Since binary floats hold neither number exactly, what lies beyond the tolerance is rounded to
  nine places first, far finer than one image in any test set.
- Checks without an accuracy (conformance) are compared by their status.
- ``saliency/...`` measures accuracies after occlusion, of which neither more nor less is better:
  a move beyond the tolerance is ``changed``, and fails only if the check failed with it.
- A record that broke (``error``), or failed without an accuracy, is ``regressed`` even if the
  baseline never knew it: that a check is new is no excuse for it.
- A threshold of the spec that is now missed within the tolerance is for the suites to judge.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import HarnessError, RunError
from harness.records import Key, Record, Run, Status, read_document, replacing
from harness.spec import first_problem
from harness.text import one_line

SCHEMA = 2
TOLERANCE = 0.005
ACCEPT = "harness gate RUN --baseline FILE --update"
DIRECTIONLESS = "saliency/"
"""Checks of this prefix have an accuracy of which neither more nor less is better."""

Verdict: TypeAlias = Literal["regressed", "vanished", "changed", "improved", "new", "unchanged"]
VERDICTS: tuple[Verdict, ...] = (
    "regressed", "vanished", "changed", "improved", "new", "unchanged",
)  # fmt: skip
"""All verdicts, the ones most worth reading first."""
FAILING = frozenset({"regressed", "vanished"})

Count: TypeAlias = Annotated[int, Field(ge=0)]


class Entry(BaseModel):
    """What a baseline keeps of a record; the fields are those of `harness.records.Record`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    target: str
    backend: str
    check: str
    epsilon: float | None
    correct: Count | None
    total: Annotated[int, Field(ge=1)] | None
    accuracy: Annotated[float, Field(ge=0.0, le=1.0)] | None
    status: Status

    @model_validator(mode="after")
    def _counts_agree(self) -> Entry:
        if self.correct is None and self.total is None:
            return self
        if self.correct is None or self.total is None or self.correct > self.total:
            raise ValueError(f"{self.correct} of {self.total} is not a count of images")
        # An edit of one alone would make a reviewer read another number than the one compared.
        if self.accuracy is None or not math.isclose(
            self.accuracy, self.correct / self.total, abs_tol=1e-9
        ):
            raise ValueError(f"accuracy {self.accuracy} is not {self.correct}/{self.total}")
        return self

    @property
    def key(self) -> Key:
        """What identifies a measurement across runs."""
        return (self.target, self.backend, self.check, self.epsilon)


class Baseline(BaseModel):
    """The numbers that later runs are held against, and where they came from.

    Attributes:
        accepted: Whether a person accepted them; the gate passes nothing before that.
        spec: Name of the spec.
        spec_sha256: Hash of what the spec says.
        data_sha256: Hash of the data.
        created: When the run was made.
        commit: The commit it was made at, if known.
        versions: Versions of the packages it was made with.
        records: What it measured, in the order of their keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_: int = Field(SCHEMA, alias="schema")
    accepted: bool
    spec: str
    spec_sha256: str
    data_sha256: str
    created: str
    commit: str | None
    versions: dict[str, str]
    records: list[Entry]

    @model_validator(mode="after")
    def _keys_are_unique(self) -> Baseline:
        # A merge of two branches easily keeps both sides' line of a record.
        for key, times in Counter(entry.key for entry in self.records).items():
            if times > 1:
                raise ValueError(f"{label(key)} is recorded {times} times")
        return self

    @classmethod
    def of(cls, run: Run, accepted: bool) -> Baseline:
        """The baseline that a run makes.

        Raises:
            RunError: The run's records contradict themselves.
        """
        try:
            entries = [
                Entry.model_validate(record.model_dump(include=set(Entry.model_fields)))
                for record in run.records
            ]
            # Parallel workers record in any order; sorted, equal runs make equal files.
            entries.sort(key=lambda entry: _order(entry.key))
            return cls(
                schema=SCHEMA, accepted=accepted, spec=str(run.spec.get("name", "")),
                spec_sha256=run.spec_sha256, data_sha256=run.data_sha256, created=run.created,
                commit=run.commit, versions=dict(sorted(run.versions.items())), records=entries,
            )  # fmt: skip
        except ValidationError as error:
            raise RunError(f"the run cannot be a baseline: {first_problem(error)}") from error

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Read a baseline.

        Raises:
            RunError: The file is missing, damaged, or of another schema; the message is one line.
        """
        again = shlex.join(["harness", "gate", "RUN", "--baseline", str(path), "--update"])
        document = read_document(path, SCHEMA, f"restore it, or start over without it: `{again}`")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise RunError(f"{path}: not a baseline: {first_problem(error)}") from error

    def save(self, path: Path) -> None:
        """Write the baseline, complete or not at all.

        Raises:
            RunError: The file cannot be written.
        """
        head = self.model_dump(mode="json", by_alias=True, exclude={"records"})
        lines = [f" {_json(name)}: {_json(value)}," for name, value in head.items()]
        records = ",\n".join(f"  {_json(entry.model_dump())}" for entry in self.records)
        text = "\n".join(["{", *lines, ' "records": [', records, " ]", "}", ""])
        try:
            with replacing(path) as stream:
                stream.write(text.encode())
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({one_line(error)})") from error


@dataclass(frozen=True)
class Row:
    """One measurement in a comparison.

    Attributes:
        key: Target, backend, check and epsilon.
        verdict: What became of it.
        old: The baseline's side, if it has one.
        new: The run's side, if it has one.
        detail: Why, where the numbers alone do not say it.
    """

    key: Key
    verdict: Verdict
    old: Entry | None
    new: Record | None
    detail: str = ""

    @property
    def label(self) -> str:
        """The key for people: ``torch mlp fgsm eps=0.1``."""
        return label(self.key)

    @property
    def fails(self) -> bool:
        """Whether this alone fails the gate."""
        return self.verdict in FAILING

    @property
    def change(self) -> float | None:
        """Rise of the accuracy over the baseline, or None where not both sides have one."""
        before = None if self.old is None else _accuracy(self.old)
        after = None if self.new is None else _accuracy(self.new)
        return None if before is None or after is None else after - before


@dataclass(frozen=True)
class Comparison:
    """A run held against a baseline.

    Attributes:
        rows: A row a measurement; none if the two are incomparable.
        passed: Whether the gate passes.
        message: The outcome in one line, with the command to type where there is one.
    """

    rows: tuple[Row, ...]
    passed: bool
    message: str


def gate(
    folder: Path, baseline_path: Path, tolerance: float = TOLERANCE, update: bool = False
) -> Comparison:
    """Hold a stored run against a baseline file, or accept the run as the new baseline.

    A missing baseline is written for review, but does not pass: not now, and not the next time,
    until someone accepts it with ``update``. Without ``update`` a file that exists is never
    written to. What could not be accepted is not written either.

    Args:
        folder: Where the run was saved.
        baseline_path: The baseline file.
        tolerance: How far an accuracy may drop, in [0, 1].
        update: Accept the run. The rows then show what it changes in an earlier baseline.

    Raises:
        RunError: The run or the baseline cannot be read, or the update is refused.
        HarnessError: The tolerance is not in [0, 1].
    """
    _check(tolerance)
    run = Run.load(folder)
    accept = shlex.join(
        ["harness", "gate", str(folder), "--baseline", str(baseline_path), "--update"]
    )
    # Read before an update too: a mistyped path must not replace a file that is no baseline.
    baseline = Baseline.load(baseline_path) if baseline_path.exists() else None
    refusal = _unacceptable(run)
    if update:
        if refusal:
            raise RunError(f"{folder}: not accepted as a baseline: {refusal}")
        Baseline.of(run, accepted=True).save(baseline_path)
        rows = () if baseline is None else compare(run, baseline, tolerance, accept).rows
        return Comparison(rows, True, f"{baseline_path}: {folder} accepted as the baseline")
    if baseline is not None:
        return compare(run, baseline, tolerance, accept)
    if refusal:
        return Comparison(
            (), False, f"{baseline_path}: missing, and this run cannot become it: {refusal}"
        )
    Baseline.of(run, accepted=False).save(baseline_path)
    return Comparison(
        (), False, f"{baseline_path}: was missing and is written for review; accept it: `{accept}`"
    )


def compare(
    run: Run, baseline: Baseline, tolerance: float = TOLERANCE, accept: str = ACCEPT
) -> Comparison:
    """Compare a run with a baseline by target, backend, check and epsilon.

    Args:
        run: The run.
        baseline: What it is held against.
        tolerance: How far an accuracy may drop, in [0, 1]; a drop of exactly that much passes.
        accept: The command that accepts the run, for the message.

    Raises:
        HarnessError: The tolerance is not in [0, 1].
    """
    _check(tolerance)
    pairs = (
        ("spec", baseline.spec_sha256, run.spec_sha256),
        ("data", baseline.data_sha256, run.data_sha256),
    )
    differ = [
        f"the {what} differs (baseline {old[:12] or 'unknown'}, run {new[:12] or 'unknown'})"
        for what, old, new in pairs
        if old != new
    ]
    rows = () if differ else _rows(run, baseline, tolerance)
    if not baseline.accepted:
        return Comparison(rows, False, f"the baseline is not accepted yet; accept it: `{accept}`")
    # Before the hashes, since a run that broke off may not have got as far as to know its data.
    incomplete = _incomplete(run)
    if incomplete:
        return Comparison(rows, False, f"failed: {incomplete}")
    if differ:
        return Comparison(
            rows, False, f"incomparable: {' and '.join(differ)}; accept the new one: `{accept}`"
        )
    counts = Counter(row.verdict for row in rows)
    passed = not any(row.fails for row in rows)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return Comparison(rows, passed, f"{'passed' if passed else 'failed'}: {summary}")


def label(key: Key) -> str:
    """A key for people: ``torch mlp fgsm eps=0.1``."""
    target, backend, check, epsilon = key
    return Record(target=target, backend=backend, check=check, epsilon=epsilon).label


def _rows(run: Run, baseline: Baseline, tolerance: float) -> tuple[Row, ...]:
    """A row for every key of either side, in the order of the keys."""
    before = {entry.key: entry for entry in baseline.records}
    after = {record.key: record for record in run.records}
    rows = []
    for key in sorted(before.keys() | after.keys(), key=_order):
        old, new = before.get(key), after.get(key)
        verdict, detail = _judge(old, new, tolerance)
        rows.append(Row(key, verdict, old, new, detail))
    return tuple(rows)


def _judge(old: Entry | None, new: Record | None, tolerance: float) -> tuple[Verdict, str]:
    """The verdict on one key, and why where the numbers do not show it."""
    if new is None:
        return "vanished", "not in the run"
    reason = f"{new.status}: {new.reason}" if new.reason else new.status
    if new.status == "error":
        return "regressed", reason
    failed_before = old is not None and old.status == "failed"
    if new.status == "failed" and _accuracy(new) is None:
        return ("unchanged" if failed_before else "regressed"), reason
    if old is None:
        return "new", ""
    if not _says_something(old):
        return ("new", f"was {old.status}") if _says_something(new) else ("unchanged", "")
    before, after = _accuracy(old), _accuracy(new)
    if not _says_something(new) or (before is not None and after is None):
        return "vanished", reason
    if before is None or after is None:
        # The failures are dealt with, so what is left to happen to a status is good.
        return ("improved", "failed before") if failed_before else ("unchanged", "")
    if round(abs(after - before) - tolerance, 9) <= 0:
        return "unchanged", ""
    if new.check.startswith(DIRECTIONLESS):
        lost = new.status == "failed" and not failed_before
        return ("regressed", reason) if lost else ("changed", "")
    return ("improved" if after > before else "regressed"), ""


def _accuracy(side: Entry | Record) -> float | None:
    """The accuracy of one side, or None if it was not measured."""
    if side.status in ("skipped", "error") or side.accuracy is None:
        return None
    return side.accuracy if math.isfinite(side.accuracy) else None


def _says_something(side: Entry | Record) -> bool:
    """Whether a record holds a number or a judgement at all."""
    return side.status in ("passed", "failed") or _accuracy(side) is not None


def _check(tolerance: float) -> None:
    """Refuse a tolerance that is no fraction; written this way around, NaN is refused too."""
    if not 0.0 <= tolerance <= 1.0:
        raise HarnessError(f"tolerance {tolerance:g}: give a fraction of the images, 0 to 1")


def _incomplete(run: Run) -> str:
    """Why a run says too little to be compared, or nothing."""
    if not run.finished:
        return "the run did not finish; run `harness run` again"
    if not run.records:
        return "the run has no records"
    # Skips alone would agree with a baseline of skips for ever.
    if not any(_says_something(record) for record in run.records):
        return f"the run measured nothing: {run.records[0].label} was {run.records[0].status}"
    return ""


def _unacceptable(run: Run) -> str:
    """Why a run must not become a baseline, or nothing."""
    broken = [record for record in run.records if record.status in ("failed", "error")]
    if not broken or _incomplete(run):
        return _incomplete(run)
    first = broken[0]
    because = f" ({first.reason})" if first.reason else ""
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    return f"{first.label}: {first.status}{because}{more}"


def _order(key: Key) -> tuple[str, str, str, float]:
    """Sorting of keys; those without an epsilon come before those with one."""
    target, backend, check, epsilon = key
    return (target, backend, check, -math.inf if epsilon is None else epsilon)


def _json(value: object) -> str:
    """A value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
