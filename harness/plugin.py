"""The pytest plugin: options, parametrisation, fixtures and recording; thin glue over the bench.

A test of a suite is marked ``@pytest.mark.check(NAME)`` and asks for the fixture ``target``; it
then runs once per backend and target of the spec. If it asks for ``attack`` and ``epsilon`` too, it
runs once per attack of the spec and epsilon of its sweep, and is named after these. The fixture
``judge`` holds a record against the spec.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import BackendError, DataError, HarnessError, RunError
from harness.files import check_folder
from harness.interruption import terminable
from harness.records import Record, Run, Status
from harness.registry import import_together, missing
from harness.spec import Spec, load_spec, seeded
from harness.text import one_line

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.gate.session import SessionGate
    from harness.target import Target

REFUSED = 64
"""Exit code of a session that cannot begin, because its data cannot be had."""
PARTS = ".parts"
"""Folder inside the results where the processes of a parallel session leave their runs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the suites."""
    group = parser.getgroup("robustness", "robustness-harness")
    group.addoption(
        "--spec",
        dest="robustness_spec",
        metavar="SPEC",
        help="name of a spec of the suites, or path of a .toml file (default: digits)",
    )
    group.addoption(
        "--backend",
        dest="robustness_backend",
        action="append",
        metavar="NAME",
        help="measure this backend (may be repeated); by default those of the spec that are "
        "installed",
    )
    group.addoption(
        "--seed",
        dest="robustness_seed",
        type=int,
        metavar="N",
        help="seed of the trainings, instead of the spec's",
    )
    group.addoption(
        "--results",
        dest="robustness_results",
        metavar="DIR",
        default="results",
        help="where run.json and arrays.npz are written (default: results)",
    )
    group.addoption(
        "--baseline",
        dest="robustness_baseline",
        metavar="PATH",
        help="fail if the run is worse than this baseline: a file, or a folder of numbered ones",
    )
    group.addoption(
        "--retrain",
        dest="robustness_retrain",
        action="store_true",
        help="train the models even if they are stored",
    )


@dataclass
class Session:
    """What the plugin knows in one pytest session."""

    spec: Spec
    backends: tuple[str, ...]
    absent: dict[str, str]
    results: Path
    retrain: bool
    worker: str
    uncaptured: Callable[[], AbstractContextManager[None]]
    named: tuple[str, ...] = ()
    gate: SessionGate | None = None
    bench: Bench | None = None
    targets: dict[tuple[str, str], Target] = field(default_factory=dict)
    epsilons: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    selected: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    endings: ExitStack = field(default_factory=ExitStack)

    @property
    def folder(self) -> Path:
        """Where this process writes its run."""
        return self.results / PARTS / self.worker if self.worker else self.results

    def open_bench(self) -> Bench:
        """The bench, made when the first test needs it, with its frameworks imported in order."""
        from harness.bench import Bench

        if self.bench is None:
            import_together(self.selected)
            self.bench = Bench(self.spec, retrain=self.retrain, while_training=self.uncaptured)
        return self.bench

    def begin(self) -> None:
        """Replace an earlier run by an empty one, once, and end at SIGTERM as at Ctrl-C."""
        self.endings.enter_context(terminable())
        if self.worker in ("", "gw0"):
            try:
                self.open_bench().run.begin(self.results)
            except OSError as error:
                raise pytest.UsageError(
                    f"--results: {self.results}: cannot be written to ({one_line(error)})"
                ) from error

    def save(self) -> None:
        """Write the run, so that what was measured is kept whatever comes."""
        self.open_bench().run.save(self.folder)


SESSION = pytest.StashKey[Session]()


def pytest_configure(config: pytest.Config) -> None:
    """Read the spec, and refuse what cannot be measured, before anything is collected."""
    config.addinivalue_line(
        "markers", "check(name): what a suite's test measures, as it is called in the records"
    )
    config.addinivalue_line("markers", "defended: only for adversarially trained targets")
    config.addinivalue_line("markers", "speed: a benchmark, run with --benchmark-only alone")
    if _announced(config):
        _session(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is measured, and what is missing."""
    if SESSION not in config.stash:
        return []
    session = config.stash[SESSION]
    names = ", ".join(
        _with_version(name) for name in session.backends if name not in session.absent
    )
    lines = [
        f"robustness: spec {session.spec.name} ({session.spec.sha256[:12]}), "
        f"data {session.spec.data.name} {session.spec.data.split}, backends {names or 'none'}"
    ]
    return lines + [f"robustness: skipped: {reason}" for reason in session.absent.values()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per backend and target, and per attack and epsilon."""
    if not _check_name(metafunc.definition) or "target" not in metafunc.fixturenames:
        return
    session = _session(metafunc.config)
    names = list(session.spec.targets)
    if metafunc.definition.get_closest_marker("defended"):
        names = [name for name in names if session.spec.targets[name].training.adversary]
    if "method" in metafunc.fixturenames and not session.spec.minimal.methods:
        names = []
    if "explainer" in metafunc.fixturenames and not session.spec.saliency.methods:
        names = []
    pairs = [(backend, name) for backend in session.backends for name in names]
    metafunc.parametrize(
        "target", pairs, ids=[f"{b}-{t}" for b, t in pairs], indirect=True, scope="session"
    )
    if {"attack", "epsilon"} <= set(metafunc.fixturenames):
        sweeps = session.spec.attacks.items()
        points = [(name, epsilon) for name, sweep in sweeps for epsilon in sweep.epsilons]
        ids = [f"{name}-eps={epsilon:g}" for name, epsilon in points]
        metafunc.parametrize(("attack", "epsilon"), points, ids=ids)
    if "method" in metafunc.fixturenames:
        metafunc.parametrize("method", session.spec.minimal.methods)
    if "explainer" in metafunc.fixturenames:
        _parametrize_explainers(metafunc, session.spec.saliency.methods)


def _parametrize_explainers(metafunc: pytest.Metafunc, methods: tuple[str, ...]) -> None:
    """One test per saliency method of the spec, and per sanity check that can apply to it."""
    if "rule" not in metafunc.fixturenames:
        metafunc.parametrize("explainer", methods)
        return
    from harness.saliency.sanity import rules_for

    points = [(method, rule) for method in methods for rule in rules_for(method)]
    metafunc.parametrize(("explainer", "rule"), points, ids=["-".join(p) for p in points])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the spec has no use for, and benchmarks unless they alone are wanted."""
    if SESSION not in config.stash:
        return
    timing = config.getoption("benchmark_only", False)
    out = [
        item
        for item in items
        if (_check_name(item) and not _subject_of(item)[0])
        or (item.get_closest_marker("speed") and not timing)
    ]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which backends and epsilons were selected, so that nothing else is measured."""
    if SESSION not in session.config.stash:
        return
    state = session.config.stash[SESSION]
    for item in session.items:
        backend, target, check, epsilon = _subject_of(item)
        if backend:
            state.selected.add(backend)
        if epsilon is not None:
            state.epsilons.setdefault((backend, target, check), []).append(epsilon)
    if state.selected and not session.config.option.collectonly:
        state.begin()


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """One target of the spec in one backend; its model is loaded, or trained now."""
    from harness.target import Target

    session = request.config.stash[SESSION]
    backend, name = request.param
    if backend in session.absent:
        pytest.skip(session.absent[backend])
    try:
        # Kept by the session: pytest may make the fixture again when it reorders tests.
        if (backend, name) not in session.targets:
            session.targets[backend, name] = Target(
                session.open_bench(), backend, name, session.epsilons, session.save
            )
        return session.targets[backend, name]
    except DataError as error:
        pytest.exit(str(error), returncode=REFUSED)
    except HarnessError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Callable[[Record], None]:
    """Holds a record against the spec, stores the judgement, and fails the test if it failed."""
    from harness.judge import judge as judge_record

    session = request.config.stash[SESSION]

    def judged(record: Record) -> None:
        run = session.open_bench().run
        verdict = judge_record(record, session.spec.targets[record.target].expect, run)
        run.put(verdict)
        if verdict.status in ("failed", "error"):
            pytest.fail(f"{verdict.label}: {verdict.reason}", pytrace=False)
        if verdict.status == "skipped":
            pytest.skip(verdict.reason)

    return judged


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record tests that were skipped, or broke before they could be judged."""
    report = yield
    backend, target, check, epsilon = _subject_of(item)
    if backend and report.outcome != "passed":
        session = item.config.stash[SESSION]
        run = session.open_bench().run
        record = Record(target=target, backend=backend, check=check, epsilon=epsilon)
        found = run.find(record.key)
        if found is None or (report.failed and found.status not in ("failed", "error")):
            status: Status = "skipped" if report.skipped else "error"
            run.put((found or record).judged(status, _reason(call)))
    return report


@pytest.hookimpl(wrapper=True, trylast=True)  # after xdist has ended its workers
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    """Write the run; the main process of a parallel session joins what its workers wrote."""
    yield
    if SESSION in session.config.stash:
        _finish(session, session.config.stash[SESSION], exitstatus)


def _finish(session: pytest.Session, state: Session, exitstatus: int) -> None:
    state.endings.close()
    parts = sorted((state.results / PARTS).glob("*/run.json")) if not state.worker else []
    if state.bench is None and not parts and (state.gate is None or state.worker):
        return
    run: Run = state.open_bench().run
    for part in parts:
        try:
            run.absorb(Run.load(part.parent))
        except RunError as error:  # of a worker that was killed while it wrote
            state.lost.append(str(error))
    if not state.worker:
        shutil.rmtree(state.results / PARTS, ignore_errors=True)
    stopped = bool(session.shouldstop or session.shouldfail)
    # A failure that no record tells of (a crashed worker) leaves a run that is not whole.
    told = exitstatus == 0 or any(r.status in ("failed", "error") for r in run.records)
    run.finished = exitstatus in (0, 1) and told and not stopped and not state.lost
    state.save()
    if state.gate and not state.worker:
        session.exitstatus = state.gate.close(run, state.named, exitstatus)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Accuracies at a glance, and where the run is."""
    config = terminalreporter.config
    from rich.console import Console

    from harness.summary import accuracy_tables

    state = config.stash.get(SESSION, None)
    if state is None or state.bench is None or state.worker:
        return
    terminalreporter.section(f"robustness: {state.spec.name}")
    for table in accuracy_tables(state.bench.run):
        console = Console(width=max(100, Console().width), color_system=None)
        with console.capture() as captured:
            console.print(table)
        for line in captured.get().splitlines():  # each, so that none is spoilt by another's signs
            terminalreporter.line(line)
    for reason in state.lost:
        terminalreporter.line(f"lost: {reason}")
    terminalreporter.line(f"run: {state.results / 'run.json'}")
    if state.gate:
        state.gate.show(terminalreporter)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of one target in one process, so that no sweep is measured twice."""
    if SESSION not in config.stash:
        return None
    from xdist.scheduler import LoadScopeScheduling

    session = config.stash[SESSION]
    scopes = [f"{backend}-{name}" for backend in session.backends for name in session.spec.targets]
    # The longest first, so that no name is mistaken for another that begins with it.
    scopes.sort(key=len, reverse=True)

    class ByTarget(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            parameters = nodeid.partition("[")[2]
            return next((s for s in scopes if parameters.startswith(s)), nodeid)

    return ByTarget(config, log)


def _announced(config: pytest.Config) -> bool:
    """Whether the command line says that suites are run; others are found when collected."""
    if any(config.getoption(option) for option in ("--spec", "--backend", "--baseline")):
        return True
    start = config.invocation_params.dir
    paths = [(start / argument.partition("::")[0]).resolve() for argument in config.args]
    return any("suites" in (path.name, path.parent.name) for path in paths)


def _session(config: pytest.Config) -> Session:
    """The session's state, made from the options when first asked for."""
    if SESSION in config.stash:
        return config.stash[SESSION]
    try:
        gate = _gate(config)
        of = gate.baseline.spec if gate else "digits"
        spec = seeded(
            load_spec(config.getoption("--spec") or of), config.getoption("robustness_seed")
        )
        if gate:
            gate.expect(spec.name)
        named = config.getoption("--backend")
        backends = tuple(dict.fromkeys(named or spec.backends))
        absent = {name: reason for name in backends if (reason := missing(name))}
        if named and absent:
            raise BackendError(next(iter(absent.values())))
        results = config.invocation_params.dir / config.getoption("--results")
        worker = getattr(config, "workerinput", {}).get("workerid", "")
        if not worker and not config.option.collectonly:
            check_folder(results, "--results")
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    if worker and not _announced(config):
        raise pytest.UsageError("name the spec: in a parallel session --spec is needed")
    if not worker:
        shutil.rmtree(results / PARTS, ignore_errors=True)
    session = config.stash[SESSION] = Session(
        spec=spec,
        backends=backends,
        absent=absent,
        results=results,
        retrain=config.getoption("--retrain"),
        worker=worker,
        uncaptured=_uncaptured(config),
        named=tuple(named or ()),
        gate=gate,
    )
    return session


def _gate(config: pytest.Config) -> SessionGate | None:
    """The baseline that the session is held against; without one the gate is not imported."""
    if not config.getoption("robustness_baseline"):
        return None
    from harness.gate.session import SessionGate

    return SessionGate.of(config)


def _uncaptured(config: pytest.Config) -> Callable[[], AbstractContextManager[None]]:
    """Lets output through pytest's capture for a while, as a progress bar needs."""
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled if capture else nullcontext


def _check_name(node: pytest.Item | Any) -> str:
    marker = node.get_closest_marker("check")
    return marker.args[0] if marker and marker.args else ""


def _subject_of(item: pytest.Item) -> tuple[str, str, str, float | None]:
    """Backend, target, check and epsilon of a suite's test; empty names for other tests."""
    if SESSION not in item.config.stash or not _check_name(item):
        return "", "", "", None
    parameters = dict(getattr(getattr(item, "callspec", None), "params", {}))
    pair = parameters.pop("target", None)
    epsilon = parameters.pop("epsilon", None)
    # Where there is nothing to measure, pytest passes a placeholder.
    if not isinstance(pair, tuple) or not isinstance(epsilon, (float, NoneType)):
        return "", "", "", None
    attack = parameters.pop("attack", None)
    check = "/".join([_check_name(item), *map(str, parameters.values())])
    return *pair, attack or check, epsilon


def _reason(call: pytest.CallInfo[None]) -> str:
    if call.excinfo is None:
        return "no reason given"
    error = call.excinfo.value
    message = getattr(error, "msg", None) or error
    own = isinstance(error, (pytest.skip.Exception, pytest.fail.Exception))
    return one_line(message if own else f"{type(error).__name__}: {message}")


def _with_version(name: str) -> str:
    from harness.provenance import installed_version

    # A backend is mostly named after its package; the oracle needs none of its own.
    return f"{name} {installed_version(name)}".strip()
