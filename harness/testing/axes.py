"""Which tests there are: one per backend, model, attack or certifier, and epsilon."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from harness.testing.session import ANNOUNCED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.spec.measures import SweepSpec
    from harness.testing.session import Session

MODEL = "robustness_model"


class Measured(NamedTuple):
    """What a test measures."""

    backend: str
    model: str
    check: str
    epsilon: float | None


class Axes:
    """Hooks that multiply the tests of a session, and say what each of them measures."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per backend and model, and per attack or certifier and epsilon."""
        if not _check_name(self.session, metafunc.definition):
            return
        if MODEL not in metafunc.fixturenames:
            return
        spec = self.session.spec
        names = list(spec.models)
        if _marker(self.session, metafunc.definition, "defended"):
            names = [name for name in names if spec.models[name].defended]
        if "method" in metafunc.fixturenames and not spec.minimal.methods:
            names = []
        if "certifier" in metafunc.fixturenames and not spec.certified:
            names = []
        if "explainer" in metafunc.fixturenames and not spec.saliency.methods:
            names = []
        pairs = [pair for pair in self.session.pairs if pair[1] in names]
        metafunc.parametrize(
            MODEL, pairs, ids=[f"{b}-{m}" for b, m in pairs], indirect=True, scope="session"
        )
        _parametrize_sweeps(metafunc, "attack", spec.attacks)
        _parametrize_sweeps(metafunc, "certifier", spec.certified)
        if "method" in metafunc.fixturenames:
            metafunc.parametrize("method", spec.minimal.methods)
        if "explainer" in metafunc.fixturenames:
            _parametrize_explainers(metafunc, spec.saliency.methods or ())

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out what the spec has no use for, and suites that nobody has asked for by name.

        Those are only run beside tests that do not measure: a project's own take their place.
        """
        session = self.session
        if session.suites_added:
            own = [item for item in items if measured_by(session, item)]
            if any(session.suites not in item.path.parents for item in own):
                items[:] = [item for item in items if session.suites not in item.path.parents]
        out = [
            item for item in items if _check_name(session, item) and not measured_by(session, item)
        ]
        if out:
            config.hook.pytest_deselected(items=out)
            items[:] = [item for item in items if item not in out]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which backends and epsilons were selected, so that nothing else is measured."""
        state = self.session
        for item in session.items:
            of = measured_by(state, item)
            if of is None:
                continue
            state.selected.add(of.backend)
            if of.epsilon is not None:
                state.epsilons.setdefault(of[:3], []).append(of.epsilon)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker that this session measures: it may learn of the suites too late."""
        node.workerinput[ANNOUNCED] = True

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Keep the tests of one model in one process, so that no sweep is measured twice."""
        from xdist.scheduler import LoadScopeScheduling

        scopes = [f"{backend}-{name}" for backend, name in self.session.pairs]
        # The longest first, so that no name is mistaken for another that begins with it.
        scopes.sort(key=len, reverse=True)

        class ByModel(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
            def _split_scope(self, nodeid: str) -> str:
                parameters = nodeid.partition("[")[2]
                return next((s for s in scopes if parameters.startswith(s)), nodeid)

        return ByModel(config, log)


def measured_by(session: Session, item: pytest.Item) -> Measured | None:
    """What a test measures; None of other tests."""
    check = _check_name(session, item)
    parameters = dict(getattr(getattr(item, "callspec", None), "params", {}))
    pair = parameters.pop(MODEL, None)
    epsilon = parameters.pop("epsilon", None)
    # Where there is nothing to measure, pytest passes a placeholder.
    if not check or not isinstance(pair, tuple) or not isinstance(epsilon, (float, NoneType)):
        return None
    attack = parameters.pop("attack", None)
    backend, model = pair
    named = attack or "/".join([check, *map(str, parameters.values())])
    return Measured(backend, model, named, epsilon)


def _parametrize_sweeps(
    metafunc: pytest.Metafunc, axis: str, sweeps: Mapping[str, SweepSpec]
) -> None:
    """One test per attack or certifier of the spec, and per epsilon of its sweep."""
    if {axis, "epsilon"} <= set(metafunc.fixturenames):
        points = [(name, epsilon) for name, sweep in sweeps.items() for epsilon in sweep.epsilons]
        ids = [f"{name}-eps={epsilon:g}" for name, epsilon in points]
        metafunc.parametrize((axis, "epsilon"), points, ids=ids)


def _parametrize_explainers(metafunc: pytest.Metafunc, methods: tuple[str, ...]) -> None:
    """One test per saliency method of the spec, and per sanity check that can apply to it."""
    if "rule" not in metafunc.fixturenames:
        metafunc.parametrize("explainer", methods)
        return
    from harness.checks.sanity.checks import rules_for

    points = [(method, rule) for method in methods for rule in rules_for(method)]
    metafunc.parametrize(("explainer", "rule"), points, ids=["-".join(p) for p in points])


def _check_name(session: Session, node: pytest.Item | Any) -> str:
    marker = _marker(session, node, "check")
    return str(marker.args[0]) if marker and marker.args else ""


def _marker(session: Session, node: pytest.Item | Any, name: str) -> pytest.Mark | None:
    """A marker by its full name, or in the suites by its short one."""
    found: pytest.Mark | None = node.get_closest_marker(f"robustness_{name}")
    if found is None and session.suites in node.path.parents:
        found = node.get_closest_marker(name)
    return found
