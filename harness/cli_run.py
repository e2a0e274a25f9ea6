"""The command ``harness run``: a spec, measured and judged by the suites."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from harness.cli_options import Backends, Device, Jobs, Retrain, SpecName, installed
from harness.errors import HarnessError
from harness.executors.environment import threads
from harness.interruption import INTERRUPTED
from harness.terminal import as_path, jobs_from


class Ended(NamedTuple):
    """A run that is stored, and is to be drawn.

    Attributes:
        folder: Where it lies.
        code: The exit code, unless the run's verdict is worse; that of an interruption stays.
    """

    folder: Path
    code: int


def run(
    asked_by: typer.Context,
    spec: SpecName = "digits",
    out: Annotated[
        Path,
        typer.Option(parser=as_path, metavar="PATH", help="Where the run and its report go."),
    ] = Path("results"),
    backend: Backends = None,
    select: Annotated[
        str, typer.Option("-k", metavar="EXPRESSION", help="Only tests that match, as in pytest.")
    ] = "",
    jobs: Jobs = "auto",
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Workers of a cluster in place of --jobs: tcp://scheduler:8786 of Dask, local:4, "
            "or an executor of another package.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure everything, whatever is stored in the folder.")
    ] = False,
    retrain: Retrain = False,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of the trainings, instead of the spec's.")
    ] = None,
    device: Device = None,
) -> int | Ended:
    """Train or load the models, run the suites, and write run.json and report.html.

    What is finished is kept: the same command in the same folder goes on from there, and measures
    only what is missing or changed.
    """
    # Not what the environment says, which is meant for runs without a cluster.
    source = asked_by.get_parameter_source("jobs")
    if cluster is not None and source is not None and source.name == "COMMANDLINE":
        raise HarnessError("--jobs and --cluster: each says where to measure; leave one out")
    address = f"jobs:{jobs_from(jobs)}" if cluster is None else cluster
    if address == "jobs:1":
        # This very process measures; what computes reads these when it is imported.
        os.environ.update(threads(os.environ))
    import pytest

    from harness.data import require_data
    from harness.evaluation.request import REFUSED, Request
    from harness.evaluation.resolve import open_spec
    from harness.executors import require_address, require_answer
    from harness.files import check_folder
    from harness.spec.reading import suites_folder

    # What is wrong with the request is said once and at once, not by every test.
    backends = installed(backend)
    require_address(address)
    request = Request(address, fresh)
    asked = open_spec(spec, seed)
    require_data(asked.data, asked.home)
    check_folder(out, "--out")
    require_answer(address)
    suites = suites_folder()
    arguments = [str(suites), "-c", str(suites / "pytest.ini"), "--rootdir", str(suites)]
    # An installed suite has no place for a cache of its own, and a run holds no benchmark.
    arguments += ["-p", "no:cacheprovider", "-p", "no:benchmark"]
    # By their long names, which no other plugin claims.
    arguments += ["--robustness-spec", spec, "--robustness-results", str(out)]
    arguments += [f"--robustness-backend={name}" for name in backends]
    arguments += ["-k", select] if select else []
    arguments += ["--robustness-retrain"] if retrain else []
    arguments += [f"--robustness-seed={seed}"] if seed is not None else []
    arguments += [f"--robustness-device={device}"] if device is not None else []
    before = _written(out)
    code = pytest.main(arguments, plugins=[request])
    if request.refused is not None:
        raise request.refused
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise HarnessError(f"-k {select}: no test of the suites matches")
    if code in (REFUSED, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
        return 2
    interrupted = code == pytest.ExitCode.INTERRUPTED
    if interrupted and _written(out) == before:
        typer.echo("harness: stopped before anything was measured", err=True)
        return INTERRUPTED
    # Also drawn when interrupted: what was measured until then is kept.
    return Ended(out, INTERRUPTED if interrupted else int(code))


def _written(folder: Path) -> tuple[int, int] | None:
    """What tells whether a folder's run has been written anew."""
    try:
        found = (folder / "run.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
