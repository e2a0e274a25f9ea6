"""What a session leaves behind: records of tests that broke, the run, and a summary."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Generator
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import pytest

from harness.errors import RunError, one_line
from harness.results.records import Record, Status
from harness.results.run import Run
from harness.testing.axes import measured_by
from harness.testing.session import PARTS, one_line_each
from harness.testing.writing import write

if TYPE_CHECKING:
    from rich.console import Console

    from harness.testing.session import Session


class Recording:
    """Hooks that write the run of a session, and say what is in it.

    Args:
        session: The session.
        drawn: Whether who has begun it draws the report; else it says how to.
    """

    def __init__(self, session: Session, *, drawn: bool) -> None:
        self.session, self.drawn = session, drawn

    def pytest_report_header(self) -> list[str]:
        """What is measured, and what is missing."""
        session, spec = self.session, self.session.spec
        used = dict.fromkeys(backend for backend, _ in session.pairs)
        names = ", ".join(_with_version(name) for name in used if name not in session.absent)
        lines = [
            f"robustness: spec {spec.name} ({spec.sha256[:12]}), "
            f"data {spec.data.told}, backends {names or 'none'}"
        ]
        return lines + [f"robustness: skipped: {reason}" for reason in session.absent.values()]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Models are loaded when a test first asks them."""
        with one_line_each() if measured_by(self.session, item) else nullcontext():
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Record tests that were skipped, or broke before they could be judged."""
        report = yield
        of = measured_by(self.session, item)
        if of is not None and report.outcome != "passed":
            run = self.session.open().run
            record = Record(model=of.model, backend=of.backend, check=of.check, epsilon=of.epsilon)
            found = run.find(record.key)
            if found is None or (report.failed and found.status not in ("failed", "error")):
                status: Status = "skipped" if report.skipped else "error"
                run.put((found or record).judged(status, _reason(call)))
        return report

    @pytest.hookimpl(wrapper=True, trylast=True)  # after xdist has ended its workers
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, None, None]:
        """Write the run; the main process of a parallel session joins what its workers wrote."""
        yield
        state = self.session
        state.endings.close()
        parts = sorted((state.results / PARTS).glob("*/run.json")) if not state.worker else []
        if state.benchmark is None and not parts and (state.gate is None or state.worker):
            return
        run: Run = state.open().run
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
        if run.records or parts or state.begun:  # else nothing was selected, or asked wrongly
            if not state.worker:
                state.begin()
            state.save()
        if state.gate and not state.worker:
            session.exitstatus = state.gate.close(run, state.named, exitstatus)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Accuracies at a glance, and where the run is."""
        from harness.results.summary import accuracy_tables, note_lines

        state = self.session
        if state.benchmark is None or state.worker:
            return
        terminalreporter.section(f"robustness: {state.spec.name}")
        run = state.benchmark.run

        def tables(console: Console) -> None:
            for table in accuracy_tables(run, console.width):
                console.print(table)

        write(terminalreporter, tables)
        for line in note_lines(state.benchmark.run):
            terminalreporter.line(line)
        for reason in state.lost:
            terminalreporter.line(f"lost: {reason}")
        if state.gate:
            state.gate.show(terminalreporter)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Where the run is, and what draws it: the last that is said, below pytest's own sum."""
        state, reporter = self.session, config.pluginmanager.get_plugin("terminalreporter")
        if state.benchmark is None or state.worker or reporter is None or not state.begun:
            return
        reporter.line(f"run: {state.results / 'run.json'}")
        if not self.drawn:
            folder = state.results
            with suppress(ValueError):  # it lies elsewhere
                folder = folder.relative_to(config.invocation_params.dir)
            reporter.line(f"draw its report: {shlex.join(['harness', 'report', str(folder)])}")


def _reason(call: pytest.CallInfo[None]) -> str:
    if call.excinfo is None:
        return "no reason given"
    error = call.excinfo.value
    message = getattr(error, "msg", None) or error
    own = isinstance(error, (pytest.skip.Exception, pytest.fail.Exception))
    return one_line(message if own else f"{type(error).__name__}: {message}")


def _with_version(name: str) -> str:
    from harness.results.provenance import installed_version

    # A backend is mostly named after its package; the oracle needs none of its own.
    return f"{name} {installed_version(name)}".strip()
