"""What a pytest session that measures knows: spec, backends, results, and the benchmark."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import BackendError, DataError, HarnessError, one_line
from harness.evaluation.request import REFUSED, Request
from harness.evaluation.resolve import open_spec
from harness.files import check_folder
from harness.interruption import terminable
from harness.registry import missing
from harness.results.records import Record
from harness.spec.spec import Spec

if TYPE_CHECKING:
    from harness.evaluation.benchmark import Benchmark
    from harness.evaluation.evaluation import Evaluation
    from harness.testing.gate import SessionGate

PARTS = ".parts"
"""Folder inside the results where the processes of a parallel session leave their runs."""
BEGUN = "begun"
"""Its file that says that one of them has begun to measure."""
ANNOUNCED = "robustness"
"""Key under which the main process of a parallel session tells its workers that it measures."""


@contextmanager
def one_line_each() -> Iterator[None]:
    """Fail a test whose model cannot be had, in one line; without data end the session."""
    try:
        yield
    except DataError as error:
        pytest.exit(str(error), returncode=REFUSED)
    except HarnessError as error:
        # Without the error that it was, which pytest would print once more.
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@dataclass(eq=False)
class Session:
    """The state of one session.

    Attributes:
        spec: The benchmark.
        backends: Those to be measured, missing ones too.
        absent: Why some are missing, by name.
        results: Where the run is written.
        retrain: Train the models even if they are stored.
        worker: Name of this process in a parallel session; empty in the main one.
        uncaptured: Lets output through pytest's capture for a while.
        named: The backends that the command line names.
        gate: The baseline that the session is compared with.
        suites: The folder in which the markers have short names.
        suites_added: Whether they are collected although nobody has named them.
        benchmark: Everything the spec speaks of, once a test needed it.
        epsilons: Those of the selected tests, by backend, model and attack.
        selected: The backends of the selected tests.
        lost: What was measured by processes that were killed, a reason each.
        endings: What is to be done when the session ends.
        begun: Whether an earlier run has been replaced.
    """

    spec: Spec
    backends: tuple[str, ...]
    absent: dict[str, str]
    results: Path
    retrain: bool
    worker: str
    uncaptured: Callable[[], AbstractContextManager[None]]
    named: tuple[str, ...] = ()
    gate: SessionGate | None = None
    suites: Path | None = None
    suites_added: bool = False
    benchmark: Benchmark | None = None
    epsilons: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    selected: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    endings: ExitStack = field(default_factory=ExitStack)
    begun: bool = False

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Backend and name of each model, in the order of the tests.

        Raises:
            HarnessError: An own model of the spec cannot be loaded.
        """
        if len(self.spec.trained) == len(self.spec.models):
            return [(backend, name) for backend in self.backends for name in self.spec.trained]
        # They are loaded here, so what else will be needed is imported before them, in order.
        built = self.spec.trained or self.spec.weights
        self.selected |= {*self.backends} - {*self.absent} if built else set()
        return self.open().pairs(self.backends, self.named)

    @property
    def folder(self) -> Path:
        """Where this process writes its run."""
        return self.results / PARTS / self.worker if self.worker else self.results

    def open(self) -> Benchmark:
        """The benchmark, made when first needed; frameworks are imported with its first model."""
        from harness.evaluation.benchmark import Benchmark

        if self.benchmark is None:
            self.benchmark = Benchmark(
                self.spec, retrain=self.retrain, shown=self.uncaptured,
                save=self.save, selected=self.epsilons, together=self.selected,
            )  # fmt: skip
        return self.benchmark

    def begin(self) -> None:
        """Replace an earlier run by an empty one, once, and end at SIGTERM as at Ctrl-C.

        Not before something is measured: a request that is mistyped must cost no run.
        """
        if self.begun:
            return
        self.begun = True
        self.endings.enter_context(terminable())
        try:
            if not self.worker or self._first():
                self.open().run.begin(self.results)
        except OSError as error:
            pytest.exit(
                f"--results: {self.results}: cannot be written to ({one_line(error)})",
                returncode=REFUSED,
            )

    def _first(self) -> bool:
        """Whether this process is the first of several that measures."""
        mark = self.results / PARTS / BEGUN
        mark.parent.mkdir(parents=True, exist_ok=True)
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def save(self) -> None:
        """Write the run, so that what was measured is kept whatever comes."""
        self.open().run.save(self.folder)

    def evaluation(self, backend: str, name: str) -> Evaluation:
        """A model of the spec in a backend; skips, fails or ends the session if there is none."""
        self.begin()
        if backend in self.absent:
            pytest.skip(self.absent[backend])
        with one_line_each():
            return self.open().evaluation(backend, name)

    def judge(self, record: Record) -> None:
        """Judge a record by the spec, store the judgement, and fail the test if it failed."""
        from harness.results.judge import judge

        run = self.open().run
        verdict = judge(record, self.spec.models[record.model].expect, run)
        run.put(verdict)
        if verdict.status in ("failed", "error"):
            pytest.fail(f"{verdict.label}: {verdict.reason}", pytrace=False)
        if verdict.status == "skipped":
            pytest.skip(verdict.reason)


def begin(config: pytest.Config) -> Session:
    """Read the spec, refuse what cannot be measured, and register the hooks that measure.

    Raises:
        pytest.UsageError: A spec, backend, seed or baseline that cannot be; one line.
    """
    from harness.testing.axes import Axes
    from harness.testing.measuring import Measuring
    from harness.testing.recording import Recording

    session = _session(config)
    try:
        _ = session.pairs
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(Axes(session), "robustness-axes")
    given = [one for one in config.pluginmanager.get_plugins() if isinstance(one, Request)]
    request = given[0] if given else None
    recording = Recording(session, drawn=request is not None)
    config.pluginmanager.register(recording, "robustness-recording")
    config.pluginmanager.register(Measuring(session, request), "robustness-measuring")
    return session


def _session(config: pytest.Config) -> Session:
    """The state as options and ini file have it; what an earlier session left behind goes."""
    try:
        gate = _gate(config)
        of = gate.baseline.spec if gate else "digits"
        asked = config.getoption("robustness_spec", None) or _spec_of_ini(config) or of
        spec = open_spec(asked, config.getoption("robustness_seed", None))
        if device := config.getoption("robustness_device", None):
            spec = spec.model_copy(update={"device": device})
        if gate:
            gate.expect(spec.name)
        named = config.getoption("robustness_backend", None) or _ini(config, "backend")
        backends = tuple(dict.fromkeys(named or spec.backends))
        absent = {name: reason for name in backends if (reason := missing(name))}
        if named and absent:
            raise BackendError(next(iter(absent.values())))
        results, workerinput = _results(config), getattr(config, "workerinput", {})
        if not workerinput and not config.option.collectonly:
            check_folder(results, "--results")
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    if workerinput and ANNOUNCED not in workerinput:
        raise pytest.UsageError(
            "name the spec: in a parallel session that collects more than the suites, "
            "--robustness-spec is needed"
        )
    if not workerinput:
        shutil.rmtree(results / PARTS, ignore_errors=True)
    return Session(
        spec=spec,
        backends=backends,
        absent=absent,
        results=results,
        retrain=config.getoption("robustness_retrain", False),
        worker=workerinput.get("workerid", ""),
        uncaptured=_uncaptured(config),
        named=tuple(named or ()),
        gate=gate,
    )


def _results(config: pytest.Config) -> Path:
    if given := config.getoption("robustness_results", None):
        return Path(config.invocation_params.dir, given)
    if given := _ini(config, "results"):
        return _beside_ini(config) / str(given)
    return Path(config.invocation_params.dir, "results")


def _spec_of_ini(config: pytest.Config) -> str:
    """A name stays one; a path is meant from the ini file's folder."""
    named = str(_ini(config, "spec") or "")
    return str(_beside_ini(config) / named) if named.endswith(".toml") else named


def _ini(config: pytest.Config, name: str) -> Any:
    """A key of the ini file; None where the plugin that declares it is switched off."""
    try:
        return config.getini(f"robustness_{name}")
    except ValueError:
        return None


def _beside_ini(config: pytest.Config) -> Path:
    return config.inipath.parent if config.inipath else config.rootpath


def _gate(config: pytest.Config) -> SessionGate | None:
    """The baseline that the session is compared with; without one the gate is not imported."""
    if not config.getoption("robustness_baseline", None):
        return None
    from harness.testing.gate import SessionGate

    return SessionGate.of(config)


def _uncaptured(config: pytest.Config) -> Callable[[], AbstractContextManager[None]]:
    """Lets output through pytest's capture for a while, as a progress bar on a terminal needs."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return nullcontext
    shown: Callable[[], AbstractContextManager[None]] = capture.global_and_fixture_disabled
    with shown():
        on_terminal = sys.stderr.isatty()
    return shown if on_terminal else nullcontext
