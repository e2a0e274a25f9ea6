"""A baseline: one or several accepted runs, with every image's outcome, as a JSON file.

A record takes a line, so that a change of one is a change of one line; what a person reviews is the
plain table beside it (see ``store.py``).
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import RunError, encoded, first_problem, one_line
from harness.files import as_json, document_of, read_document, replacing
from harness.gate.outcomes import Counted, outcomes_of, pack, unpack
from harness.gate.paired import Floats
from harness.names import CheckName, Name, checked_path
from harness.results.records import Key, Record, Status
from harness.results.run import Run

SCHEMA = 4
STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
Count: TypeAlias = Annotated[int, Field(ge=0)]
Model: TypeAlias = tuple[str, str]
"""Backend and model."""


class Entry(BaseModel):
    """What a baseline keeps of a record; the fields are those of `harness.results.records.Record`.

    Attributes:
        outcomes: Which images were classified correctly, packed (see ``outcomes.py``); None where
            the check counts no images, or is the sum of several draws. They are of all images;
            ``total`` counts those that were answered.
        unanswered: Positions of the others, in rising order; None if there are none.
    """

    model_config = STRICT

    model: Name
    backend: Name
    check: CheckName
    epsilon: float | None = None
    status: Status
    correct: Count | None = None
    total: Annotated[int, Field(ge=1)] | None = None
    accuracy: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    outcomes: str | None = None
    unanswered: Annotated[list[Count], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _counts_agree(self) -> Entry:
        if (self.correct is None) != (self.total is None):
            raise ValueError(f"{self.correct} of {self.total} is not a count of images")
        if self.correct is None or self.total is None:
            if self.outcomes is not None:
                raise ValueError(f"{label(self.key)} has outcomes, but counts no images")
            return self
        if self.correct > self.total:
            raise ValueError(f"{self.correct} of {self.total} is not a count of images")
        # An edit of one alone would make a reviewer read another number than the one compared.
        if self.accuracy is None or not math.isclose(
            self.accuracy, self.correct / self.total, abs_tol=1e-9
        ):
            raise ValueError(f"accuracy {self.accuracy} is not {self.correct}/{self.total}")
        if (counted := self.counted) is None:
            return self
        if int(counted.right.sum()) != self.correct:
            raise ValueError(
                f"{label(self.key)}: the outcomes hold {int(counted.right.sum())} correct "
                f"predictions, not {self.correct}"
            )
        missing = counted.unanswered
        if (np.diff(missing) <= 0).any() or (missing >= len(counted.right)).any():
            raise ValueError(f"{label(self.key)}: unanswered is no rising list of images")
        if counted.right[missing].any():
            raise ValueError(f"{label(self.key)}: an image that was not answered is correct")
        return self

    @property
    def key(self) -> Key:
        """What identifies a measurement across runs."""
        return (self.model, self.backend, self.check, self.epsilon)

    @property
    def counted(self) -> Counted | None:
        """Which images were classified correctly, if that is known."""
        if self.outcomes is None or self.total is None:
            return None
        missing = np.array(self.unanswered or [], dtype=np.int64)
        return Counted(unpack(self.outcomes, self.total + len(missing)), missing)


class Accepted(BaseModel):
    """An accepted run, and where it came from.

    Attributes:
        created: When the run was made.
        commit: The commit it was made at, if known.
        dirty: Whether there were changes beside the commit.
        versions: Versions of the packages it was made with.
        machine: What it was made on.
        spec: The whole spec.
        signatures: By ``BACKEND/MODEL`` how a model is identified: the run's array ``signature``,
            as base64 of little-endian float32.
        records: What it measured, in the order of their keys.
    """

    model_config = STRICT

    created: str
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    machine: dict[str, str | int]
    spec: dict[str, Any]
    signatures: dict[str, str]
    records: list[Entry]

    @model_validator(mode="after")
    def _keys_are_unique(self) -> Accepted:
        # A merge of two branches easily keeps both sides' line of a record.
        for key, times in Counter(entry.key for entry in self.records).items():
            if times > 1:
                raise ValueError(f"{label(key)} is recorded {times} times")
        for name in self.signatures:
            checked_path(name)
            self.signature(name)
        return self

    @classmethod
    def of(cls, run: Run) -> Accepted:
        """What is kept of a run.

        Raises:
            RunError: The run's records contradict themselves.
        """
        try:
            # Parallel workers record in any order; sorted, equal runs make equal files.
            entries = sorted((_entry(run, r) for r in run.records), key=lambda e: order(e.key))
            return cls(
                created=run.created, commit=run.commit, dirty=run.dirty,
                versions=dict(sorted(run.versions.items())),
                machine=dict(sorted(run.machine.items())), spec=run.spec,
                signatures={
                    key.removesuffix("/signature"): _encode(value)
                    for key, value in sorted(run.arrays.items())
                    if key.endswith("/signature")
                },
                records=entries,
            )  # fmt: skip
        except ValidationError as error:
            raise RunError(f"the run cannot be a baseline: {first_problem(error)}") from error
        except ValueError as error:
            raise RunError(f"the run cannot be a baseline: {one_line(error)}") from error

    def signature(self, name: str) -> Floats | None:
        """The signature of ``BACKEND/MODEL``, (m,), if there is one."""
        if name not in self.signatures:
            return None
        try:
            values = np.frombuffer(base64.b64decode(self.signatures[name], validate=True), "<f4")
        except ValueError as error:
            raise ValueError(f"signatures.{name} is damaged ({error})") from error
        return values.astype(float)


class Baseline(BaseModel):
    """The accepted runs that later ones are compared with; all of one spec, on the same data.

    Attributes:
        spec: Name of the spec.
        data_sha256: Hash of the data.
        runs: The accepted runs, the oldest first.
    """

    model_config = STRICT

    schema_: int = Field(SCHEMA, alias="schema")
    spec: Name | Literal[""]
    data_sha256: str
    runs: Annotated[list[Accepted], Field(min_length=1)]

    @classmethod
    def of(cls, *runs: Run) -> Baseline:
        """The baseline that some runs of one spec make.

        Raises:
            RunError: A run's records contradict themselves.
        """
        first = runs[0]
        return cls(
            schema=SCHEMA, spec=name_of(first), data_sha256=first.data_sha256,
            runs=[Accepted.of(run) for run in runs],
        )  # fmt: skip

    @property
    def keys(self) -> set[Key]:
        """All that any of its runs measured."""
        return {entry.key for run in self.runs for entry in run.records}

    @classmethod
    def load(cls, path: Path, remedy: str = "restore it", anew: str = "") -> Baseline:
        """Read a baseline file.

        Args:
            path: The file.
            remedy: What to do where it cannot be read.
            anew: What to do where it is of an older schema, if it is something else.

        Raises:
            RunError: The file is missing, damaged, or of another schema; the message is one line.
        """
        document = read_document(path, SCHEMA, remedy, anew=anew, kind="baseline", holds="runs")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise RunError(f"{path}: not a baseline: {first_problem(error)}; {remedy}") from error

    def save(self, path: Path) -> None:
        """Write the baseline, complete or not at all.

        Raises:
            RunError: The file cannot be written.
        """
        head = document_of(self, exclude={"runs"})
        runs = ",\n".join(_run_lines(run) for run in self.runs)
        lines = [f" {as_json(name)}: {as_json(value)}," for name, value in head.items()]
        write(path, "\n".join(["{", *lines, ' "runs": [', runs, " ]", "}", ""]))


def write(path: Path, content: str | bytes) -> None:
    """Write a file, complete or not at all.

    Raises:
        RunError: It cannot be written.
    """
    try:
        with replacing(path) as stream:
            stream.write(encoded(content) if isinstance(content, str) else content)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({one_line(error)})") from error


def name_of(run: Run) -> str:
    """Name of a run's spec."""
    return str(run.spec.get("name", ""))


def label(key: Key) -> str:
    """A key for people: ``torch mlp fgsm eps=0.1``."""
    model, backend, check, epsilon = key
    return Record(model=model, backend=backend, check=check, epsilon=epsilon).label


def order(key: Key) -> tuple[str, str, str, float]:
    """Sorting of keys; those without an epsilon come before those with one."""
    model, backend, check, epsilon = key
    return (model, backend, check, -math.inf if epsilon is None else epsilon)


def _entry(run: Run, record: Record) -> Entry:
    fields: dict[str, Any] = record.model_dump(include=set(Entry.model_fields))
    if (counted := outcomes_of(run, record)) is not None:
        fields["outcomes"] = pack(counted.right)
        fields["unanswered"] = counted.unanswered.tolist() or None
    return Entry.model_validate(fields)


def _encode(signature: Any) -> str:
    return base64.b64encode(np.asarray(signature, "<f4").tobytes()).decode()


def _run_lines(run: Accepted) -> str:
    head = document_of(run, exclude={"records"})
    lines = [f"   {as_json(name)}: {as_json(value)}," for name, value in head.items()]
    records = ",\n".join(
        f"    {as_json(entry.model_dump(exclude_none=True))}" for entry in run.records
    )
    return "\n".join(["  {", *lines, '   "records": [', records, "   ]", "  }"])
