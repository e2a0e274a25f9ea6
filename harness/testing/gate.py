"""The gate at the end of a pytest session; the plugin calls it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.gate.baseline import Baseline
from harness.gate.compare import compare
from harness.gate.store import read
from harness.gate.table import print_comparison
from harness.gate.verdicts import Comparison
from harness.results.run import Run
from harness.testing.writing import write


@dataclass
class SessionGate:
    """A baseline that a session is compared with.

    Attributes:
        path: Where the baseline lies.
        baseline: What it says.
        comparison: The outcome, once the session is over.
        refusal: Why there is none.
    """

    path: Path
    baseline: Baseline
    comparison: Comparison | None = field(default=None, init=False)
    refusal: str = field(default="", init=False)

    @classmethod
    def of(cls, config: pytest.Config) -> SessionGate | None:
        """The gate that the command line asks for, if it does.

        Raises:
            HarnessError: The baseline cannot be read, or only a part of the suites is to run.
        """
        named = config.getoption("robustness_baseline")
        if not named:
            return None
        for option, value in (("-k", config.option.keyword), ("-m", config.option.markexpr)):
            if value:
                raise HarnessError(
                    f"--baseline: leave {option} out; what it leaves out would count as vanished"
                )
        path = config.invocation_params.dir / named
        return cls(path, read(path))

    def expect(self, spec: str) -> None:
        """Refuse a spec that is not the baseline's, before anything is measured.

        Raises:
            HarnessError: It is another one.
        """
        if spec != self.baseline.spec:
            raise HarnessError(
                f"{self.path}: the baseline is of the spec {self.baseline.spec!r}, not {spec!r}; "
                "name another one, or leave --spec out"
            )

    def close(self, run: Run, backends: Collection[str], exitstatus: int) -> int:
        """Hold the session's run against the baseline.

        Args:
            run: What was measured; it may be empty.
            backends: Those that the command line names; only they are compared, if there are any.
            exitstatus: How the session ends otherwise.

        Returns:
            How it ends now.
        """
        try:
            self.comparison = compare(run, self.baseline, backends=backends, path=self.path)
        except HarnessError as error:
            self.refusal = f"{self.path}: {error}"
            return int(pytest.ExitCode.USAGE_ERROR)
        failed = not self.comparison.passed and exitstatus == pytest.ExitCode.OK
        return int(pytest.ExitCode.TESTS_FAILED) if failed else exitstatus

    def show(self, reporter: pytest.TerminalReporter) -> None:
        """Print the outcome."""
        reporter.section(f"robustness gate: {self.path}")
        if self.comparison is None:
            reporter.line(self.refusal or "the session ended before anything was compared")
            return
        comparison = self.comparison
        write(reporter, lambda console: print_comparison(comparison, console))
