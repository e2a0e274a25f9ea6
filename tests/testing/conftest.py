"""The suites on a tiny spec, in a pytest session inside the session."""

from __future__ import annotations

import pytest
from inner_sessions import QUICK, SUITES
from tiny_spec import tiny_spec

from harness import registry
from harness.results.run import Run


@pytest.fixture
def suites(pytester):
    """Run the suites, or tests of one's own, on a tiny spec; gives pytest's own result, and the run
    if there is one."""

    def run(*arguments, suites=SUITES, spec=None, option="--spec", **changes):
        if spec is None:
            spec = pytester.makefile(".toml", tiny=tiny_spec(**changes))
        result = pytester.runpytest_inprocess(
            suites, "-c", SUITES / "pytest.ini", "--rootdir", SUITES, "-p", "no:cacheprovider",
            *QUICK, option, spec, *arguments,
        )  # fmt: skip
        folder = pytester.path / "results"
        return result, Run.load(folder) if (folder / "run.json").is_file() else None

    return run


@pytest.fixture
def ghost(monkeypatch):
    """A backend of which the package is not installed."""
    entry = registry.BackendEntry("backends.ghost", "Ghost", ("no_such_package",))
    monkeypatch.setitem(registry.BACKENDS, "ghost", entry)
