"""Before tests judge: what is stored is taken over, and workers measure what is lacking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError
from harness.evaluation.request import REFUSED, Request
from harness.testing.axes import measured_by

if TYPE_CHECKING:
    from harness.evaluation.pieces import Wanted
    from harness.evaluation.store import Store
    from harness.evaluation.tasks import Outcome, Tasks
    from harness.testing.session import Session


class Measuring:
    """Hooks by which records are in the run before the tests ask for them.

    Args:
        session: The session.
        request: How it is to measure; without one, only what is stored is taken over, and each test
            measures what it finds lacking.
    """

    def __init__(self, session: Session, request: Request | None) -> None:
        self.session, self.request = session, request

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Take over and measure."""
        option = session.config.option
        if session.testsfailed or option.collectonly or getattr(option, "setupplan", False):
            return
        try:
            self._measure(session.items)
        except HarnessError as error:
            if self.request is None:
                pytest.exit(str(error), returncode=REFUSED)
            self.request.refused = error  # which is said once, at the end
            pytest.exit("nothing is measured", returncode=REFUSED)

    def _measure(self, items: list[pytest.Item]) -> None:
        from harness.evaluation.pieces import Wanted
        from harness.evaluation.store import Store

        state, request = self.session, self.request
        store = Store(state.results)
        measured = [of for item in items if (of := measured_by(state, item)) is not None]
        wanted = [Wanted(*of) for of in measured if of.backend not in state.absent]
        if not wanted or (request is None and not store.there):
            return
        self._run(wanted, store)

    def _run(self, wanted: list[Wanted], store: Store) -> None:
        from harness.evaluation.tasks import Outcome, Tasks
        from harness.evaluation.working import adopt
        from harness.executors import opened
        from harness.results.judge import judge

        state, request = self.session, self.request
        benchmark = state.open()
        tasks = Tasks(benchmark, wanted, store, retrain=state.retrain)
        anew = state.retrain or (request is not None and request.fresh)
        outcome = Outcome({}, {}) if anew else tasks.found()
        try:
            if request is None or len(outcome.finished) == len(tasks.pieces):
                self._begin(store, anew)
            else:
                if not state.retrain:  # should this very process be the worker
                    adopt(tasks.setting, benchmark)
                with opened(request.address, tasks.stamp) as workers:
                    # Not before: workers that cannot be had must cost nothing.
                    self._begin(store, anew)
                    benchmark.run.notes += workers.notes
                    tasks.measured(workers, outcome, state.uncaptured)
        except BaseException:
            if not state.begun:
                raise
            # Such as Ctrl-C: what was finished until then is kept, and judged now.
            self._keep(tasks, outcome)
            for record in list(benchmark.run.records):
                expect = state.spec.models[record.model].expect
                benchmark.run.put(judge(record, expect, benchmark.run))
            raise
        self._keep(tasks, outcome)
        store.prune()

    def _begin(self, store: Store, anew: bool) -> None:
        self.session.begin()
        if anew:
            store.clear()

    def _keep(self, tasks: Tasks, outcome: Outcome) -> None:
        if outcome.finished or outcome.lost:
            tasks.put_into(tasks.benchmark.run, outcome)
            self.session.save()
