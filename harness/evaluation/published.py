"""A published table measured again: its numbers one by one, in a run that goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path

from harness import registry
from harness.errors import BackendError, HarnessError, RunError, SpecError, unknown
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.evaluation import Evaluation
from harness.evaluation.imported import default_backend
from harness.files import as_json, document_of, model_path
from harness.results.published import Outcome
from harness.results.records import Record
from harness.results.run import Run
from harness.spec.own import OwnModelSpec
from harness.spec.published import CERTIFIED, CLEAN, NumberSpec, Table

NOTE = "published"
"""What the notes of a run begin with that tell of a number."""

BRACKET = ("validity", "certified-misclassified")
"""Suite and name of the check that holds attacks and certificates against each other."""


class Reproduction:
    """Measures the numbers of a published table.

    Args:
        table: What is published.
        out: The folder of the run. One that is there and of the same table, data, models and
            versions goes on; any other is replaced.
        backend: In which networks are built; by default the first of the table's that is installed.
        shown: Entered around each measurement, as in ``Benchmark``.

    Raises:
        SpecError: A name in the table's spec is unknown, or a file of it is not there.
        BackendError: There is no such backend, or it is not installed.
    """

    def __init__(
        self,
        table: Table,
        out: Path,
        backend: str | None = None,
        shown: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        require_files(table)
        self.table, self.out = table, out
        self._backend = _backend_for(table, backend)
        self._benchmark = Benchmark(table.spec, shown=shown, save=self._save)
        self._begun = False

    @property
    def run(self) -> Run:
        """What was measured until now."""
        return self._benchmark.run

    def measured(self, number: NumberSpec) -> Outcome:
        """A number of the table, measured now unless it is in the run, and judged.

        Raises:
            HarnessError: Data or model cannot be loaded.
        """
        evaluation = self._evaluation(str(number.model))
        if not self._begun:
            self._begin()
        outcome = Outcome.of(number, _record(evaluation, number))
        self.run.put(outcome.judged())
        self._note(outcome)
        self._save()
        return outcome

    def finish(self) -> None:
        """Say that all that was asked for has been measured.

        Attacks and certificates are held against each other first.
        """
        certified = {r.model for r in self.run.records if r.check.startswith(CERTIFIED)}
        for model in certified:
            self._evaluation(model).checked(*BRACKET)
        self.run.finished = True
        self._save()

    def seconds(self, outcome: Outcome) -> float | None:
        """How long a measurement took; None if it was not timed."""
        record = outcome.record
        times = [
            timing.seconds for timing in self.run.timings
            if (timing.model, timing.backend, timing.check)
            == (record.model, record.backend, record.check)
        ]  # fmt: skip
        return times[-1] if times else None

    @cached_property
    def _backends(self) -> dict[str, str]:
        """The backend of each model."""
        return {name: backend for backend, name in self._benchmark.pairs((self._backend,))}

    def _evaluation(self, model: str) -> Evaluation:
        return self._benchmark.evaluation(self._backends[model], model)

    def _begin(self) -> None:
        """Take over what an earlier call has measured, or put this run in its place."""
        self._begun = True
        for model in dict.fromkeys(str(number.model) for number in self.table.numbers):
            self._benchmark.loaded(self._backends[model], model)
        earlier = _earlier(self.out, self.run)
        if earlier is None:
            self.run.begin(self.out)
            return
        models = list(self.run.models)
        earlier.records = [
            record for record in earlier.records
            if record.status not in ("error", "skipped") and record.check != "/".join(BRACKET)
        ]  # fmt: skip
        self.run.absorb(earlier)
        self.run.models = models

    def _note(self, outcome: Outcome) -> None:
        """Tell a reader of the run of a number."""
        number, notes = outcome.number, self.run.notes
        begin = f"{NOTE}: {number.model} {number.label}: "
        budget = f"; {number.smaller}" if number.smaller else ""
        told = f"{begin}{number.percent:.2f} % ({number.source}): {outcome.said}{budget}"
        self.run.notes = [note for note in notes if not note.startswith(begin)] + [told]

    def _save(self) -> None:
        if self._begun:
            self.run.save(self.out)


def require_files(table: Table) -> None:
    """Find out, before anything is measured, whether the files of a table's models are there.

    Raises:
        SpecError: One is not; the line says where it was looked for.
    """
    for name, reason in missing_files(table):
        raise SpecError(f"{table.name}: models.{name}.file: {reason}")


def missing_files(table: Table) -> Iterator[tuple[str, str]]:
    """The models of a table whose files are nowhere, each with the reason."""
    for name, model in table.spec.models.items():
        if isinstance(model, OwnModelSpec) and model.file is not None:
            try:
                model_path(model.file, table.spec.home)
            except HarnessError as error:
                yield name, str(error)


def _record(evaluation: Evaluation, number: NumberSpec) -> Record:
    if number.check == CLEAN:
        return evaluation.clean()
    epsilon = number.epsilon or 0.0
    if number.check.startswith(CERTIFIED):
        return evaluation.certified(number.check.removeprefix(CERTIFIED), epsilon)
    return evaluation.attacked(number.check, epsilon)


def _backend_for(table: Table, backend: str | None) -> str:
    known = registry.builders()
    if backend is not None and backend not in known:
        raise BackendError(f"--backend: {unknown(backend, 'backend', known)}")
    there = [name for name in table.spec.backends if not registry.missing(name)]
    chosen = backend or (there[0] if there else default_backend())
    if reason := registry.missing(chosen):
        raise BackendError(reason)
    return chosen


def _earlier(folder: Path, run: Run) -> Run | None:
    """The run in a folder, if it is of the same table, data, models and versions."""
    if not (folder / "run.json").is_file():
        return None
    try:
        found = Run.load(folder)
    except RunError:
        return None
    return found if _identity(found) == _identity(run) else None


def _identity(run: Run) -> str:
    """What must be the same for measurements to be taken over."""
    models = [(one.model, one.backend, one.fingerprint) for one in run.models]
    kept = {"spec", "data_sha256", "versions", "machine"}
    return as_json([sorted(models), document_of(run, include=kept)])
