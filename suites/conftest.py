"""The short names of the suites, which hold in this folder alone: options, markers and fixtures."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pytest_robustness_harness as plugin

if TYPE_CHECKING:
    from harness.evaluation.evaluation import Evaluation
    from harness.results.records import Record

HERE = Path(__file__).parent
PUBLISHED = HERE / "published"
claimed: list[str] = []
"""Short options that belong to another plugin of this environment."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """The options without their prefix, where they are free."""
    # Where plugins are not loaded by themselves the suites need theirs all the same.
    if not pluginmanager.is_registered(plugin):
        pluginmanager.register(plugin, "robustness-harness-of-suites")
    taken = _taken(parser)
    for name in plugin.OPTIONS:
        if f"--{name}" in taken:
            claimed.append(name)
        else:
            plugin.add_option(parser, f"--{name}", name)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the short markers, and begin to measure."""
    config.addinivalue_line("markers", "check(name): robustness_check, in the suites")
    config.addinivalue_line("markers", "defended: robustness_defended, in the suites")
    config.addinivalue_line("markers", "speed: a benchmark, run with --benchmark-only alone")
    plugin.start(config, HERE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave published tables out unless they are named: their weights are of others, and large."""
    if collection_path != PUBLISHED:
        return None
    named = (config.invocation_params.dir / arg.partition("::")[0] for arg in config.args)
    return None if any(PUBLISHED in (path, *path.parents) for path in named) else True


@pytest.hookimpl(wrapper=True)
def pytest_report_header(config: pytest.Config) -> Generator[None, list[Any], list[Any]]:
    """Which short options another plugin has, and what to use instead.

    What pytest-benchmark says of its settings is left out, unless benchmarks are run.
    """
    lines = yield
    if not config.getoption("benchmark_only", False):
        lines = [one for one in lines if not str(one).startswith("benchmark: ")]
    told = [
        f"robustness: --{name} is another plugin's here; use --robustness-{name}"
        for name in claimed
    ]
    return [*lines, told]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave benchmarks out unless they alone are wanted: they take minutes."""
    if config.getoption("benchmark_only", False):
        return
    out = [item for item in items if HERE in item.path.parents and item.get_closest_marker("speed")]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.fixture(scope="session")
def model(robustness_model: Evaluation) -> Evaluation:
    """One model of the spec in one backend."""
    return robustness_model


@pytest.fixture
def judge(robustness_judge: Callable[[Record], None]) -> Callable[[Record], None]:
    """Judges a record by the spec."""
    return robustness_judge


def _taken(parser: pytest.Parser) -> set[str]:
    """Every option there is; pytest 8 would find a second one of a name only when it parses."""
    groups = [*parser._groups, parser._anonymous]
    return {name for group in groups for option in group.options for name in option.names()}
