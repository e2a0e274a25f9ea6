"""The pytest plugin as every session of an environment meets it: names with a prefix, and no more.

A session that names a spec by an option, and no tests, runs the suites beside its own tests,
unless some of these measure themselves.
The package ``harness`` is imported, and hooks are registered, only in a session that measures: one
that names a spec, a backend or a baseline by an option below, or a spec in its ini file, or that
runs the suites (whose ``conftest.py`` adds the short names).

A test that is marked ``@pytest.mark.robustness_check(NAME)`` and asks for ``robustness_model``
runs once per backend and model of the spec; if it asks for ``attack`` and ``epsilon`` too, once
per attack of the spec and epsilon of its sweep; and likewise of ``certifier`` and ``epsilon``.
``robustness_judge`` judges a record by what the spec expects.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.evaluation.evaluation import Evaluation
    from harness.results.records import Record
    from harness.testing.session import Session

OPTIONS: dict[str, dict[str, Any]] = {
    "spec": {
        "metavar": "SPEC",
        "help": "name of a spec of the suites, or path of a .toml file (default: digits)",
    },
    "backend": {
        "action": "append",
        "metavar": "NAME",
        "help": "measure this backend (may be repeated); by default those of the spec that are "
        "installed",
    },
    "seed": {
        "type": int,
        "metavar": "N",
        "help": "seed of the trainings, instead of the spec's",
    },
    "device": {
        "metavar": "NAME",
        "help": "where models are computed that do not say so: cpu, cuda, cuda:1 or mps",
    },
    "results": {
        "metavar": "DIR",
        "help": "where run.json and arrays.npz are written (default: results)",
    },
    "baseline": {
        "metavar": "PATH",
        "help": "fail if the run is worse than this baseline: a file, or a folder of numbered ones",
    },
    "retrain": {
        "action": "store_true",
        "help": "train the models even if they are stored",
    },
}
"""The options by the name that follows ``--robustness-``, or ``--`` in the suites."""
SESSION = "robustness-session"
"""Name under which the state of a session that measures is registered with pytest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options and the ini keys."""
    for name in OPTIONS:
        add_option(parser, f"--robustness-{name}", name)
    parser.addini("robustness_spec", "the spec of --robustness-spec; every session then measures")
    parser.addini("robustness_backend", "the backends of --robustness-backend", type="args")
    parser.addini("robustness_results", "the folder of --robustness-results")


def add_option(parser: pytest.Parser, flag: str, name: str) -> None:
    """Let a flag set one of the options."""
    group = parser.getgroup("robustness", "robustness-harness")
    group.addoption(flag, dest=f"robustness_{name}", **OPTIONS[name])


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; begin to measure if that is asked for."""
    config.addinivalue_line(
        "markers",
        "robustness_check(name): what a test measures, as it is called in the records",
    )
    config.addinivalue_line("markers", "robustness_defended: only for adversarially trained models")
    asked = any(config.getoption(f"robustness_{name}") for name in ("spec", "backend", "baseline"))
    if asked or config.getini("robustness_spec"):
        session = start(config)
        if config.getoption("robustness_spec") and config.args_source != config.ArgsSource.ARGS:
            _add_suites(config, session)


def _add_suites(config: pytest.Config, session: Session) -> None:
    """Collect the suites, too, where a spec is named, but no test."""
    from harness.spec.reading import suites_folder

    folder = suites_folder()
    if not any(Path(arg).resolve() in (folder, *folder.parents) for arg in config.args):
        config.args.append(str(folder))
        session.suites_added = True


def start(config: pytest.Config, suites: Path | None = None) -> Session:
    """Make this session one that measures; once it is, only learn where the suites are.

    Args:
        config: Of the session.
        suites: The folder in which the markers have short names too.

    Raises:
        pytest.UsageError: It cannot, for one of the reasons of ``begin``, or since a package of the
            harness is hidden by another of its name.
    """
    session: Session | None = config.pluginmanager.get_plugin(SESSION)
    if session is None:
        from robustness_harness import shadowed

        if reason := shadowed():
            raise pytest.UsageError(reason)
        from harness.testing.session import begin

        session = begin(config)
        config.pluginmanager.register(session, SESSION)
    session.suites = suites or session.suites
    return session


@pytest.fixture(scope="session")
def robustness_model(request: pytest.FixtureRequest) -> Evaluation:
    """One model of the spec in one backend; it is loaded, or trained now."""
    session = _measuring(request)
    if not hasattr(request, "param"):
        pytest.fail(
            "robustness_model: mark the test with @pytest.mark.robustness_check(NAME)",
            pytrace=False,
        )
    return session.evaluation(*request.param)


@pytest.fixture
def robustness_judge(request: pytest.FixtureRequest) -> Callable[[Record], None]:
    """Judges a record by the spec, stores the judgement, and fails the test if it failed."""
    return _measuring(request).judge


def _measuring(request: pytest.FixtureRequest) -> Session:
    session: Session | None = request.config.pluginmanager.get_plugin(SESSION)
    if session is None:
        pytest.fail(
            f"{request.fixturename}: nothing is measured in this session; name a spec with "
            "--robustness-spec, or as robustness_spec in the ini file",
            pytrace=False,
        )
    return session
