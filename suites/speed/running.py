"""How long whole runs take: from nothing, with one process and with all cores, and again.

``python -m suites.speed.running [SPEC] [--rounds N]`` calls the commands as a user does, in folders
that are thrown away, prints the medians, and where the time of the run from nothing went. Models
are trained anew in each of these.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.results.run import Run

COMMAND = [sys.executable, "-m", "harness"]
QUICK = 5
"""How often what takes seconds is called."""
BOX = """
name = "waiting"
[data]
name = "digits"
[models.box]
load = "suites.speed.waiting:load"
[attacks.noise]
epsilons = [0.1, 0.2]
[attacks.square]
epsilons = [0.1]
steps = 300
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m suites.speed.running", description=__doc__)
    parser.add_argument("spec", nargs="?", default="digits")
    parser.add_argument("--rounds", type=int, default=1, help="Runs from nothing of each kind.")
    parser.add_argument("--only", choices=("quick", "cold", "box"), help="One group alone.")
    asked = parser.parse_args(arguments)
    groups = {"quick": quick, "cold": lambda: cold(asked.spec, asked.rounds), "box": box}
    for name, group in groups.items():
        if asked.only in (None, name):
            for line in group():
                print(line, flush=True)
    return 0


def quick() -> Iterator[str]:
    """The commands that should answer at once."""
    with tempfile.TemporaryDirectory() as folder:
        taken = [_seconds([*COMMAND, "--help"], {}) for _ in range(QUICK)]
        yield f"{'harness --help':44}{statistics.median(taken):8.2f} s"
        results = f"{folder}/results"
        _seconds([*COMMAND, "run", "digits", "--out", results], {})
        tests = [sys.executable, "-m", "pytest", "suites", "-v", "-k", "fgsm"]
        tests += ["-p", "no:cacheprovider", "--robustness-results", results]
        taken = [_until(tests, "PASSED") for _ in range(QUICK)]
        yield f"{'pytest suites -k fgsm, first result':44}{statistics.median(taken):8.2f} s"


def cold(spec: str, rounds: int) -> Iterator[str]:
    """A run from nothing in one process, and in as many as there are cores; and each again."""
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for jobs in ("1", "auto"):
            with tempfile.TemporaryDirectory() as folder:
                call = [*COMMAND, "run", spec, "--jobs", jobs, "--out", f"{folder}/results"]
                own = {"HARNESS_CACHE_DIR": f"{folder}/cache"}
                first = _seconds(call, own)
                taken.setdefault(f"harness run {spec} --jobs {jobs}", []).append(first)
                warm = statistics.median(_seconds(call, own) for _ in range(QUICK))
                taken.setdefault("  the same again", []).append(warm)
                run = Run.load(Path(folder) / "results")
    for name, seconds in taken.items():
        yield f"{name:44}{statistics.median(seconds):8.2f} s"
    # Of the last run, in which all cores worked.
    yield from _spent(run, first * (os.cpu_count() or 1))


def box() -> Iterator[str]:
    """A black box that waits, on one worker of Dask, and on eight."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "waiting.toml"
        spec.write_text(BOX)
        for count in (1, 8):
            call = [*COMMAND, "run", str(spec), "--cluster", f"local:{count}"]
            seconds = _seconds([*call, "--out", f"{folder}/{count}"], {})
            yield f"{f'a box of 5 ms an image, --cluster local:{count}':44}{seconds:8.2f} s"


def _spent(run: Run, whole: float) -> Iterator[str]:
    """Where the seconds of all cores went."""
    spent: dict[str, float] = defaultdict(float)
    for model in run.models:
        spent["training"] += sum(epoch.seconds for epoch in model.history)
    for timing in run.timings:
        spent[timing.check.partition("/")[0]] += timing.seconds
    spent["checks, starting, loading, the report"] = whole - sum(spent.values())
    for name, seconds in sorted(spent.items(), key=lambda one: -one[1]):
        yield f"    {name:40}{seconds:8.1f} s  {seconds / whole:6.1%}"


def _seconds(call: Sequence[str], own: dict[str, str]) -> float:
    """How long a command takes; it may say that something failed, as judged, but not more."""
    began = time.perf_counter()
    done = subprocess.run(
        call, env=os.environ | own, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(call)}: exit code {done.returncode}\n{done.stdout[-2000:]}")
    return time.perf_counter() - began


def _until(call: Sequence[str], sign: str) -> float:
    """How long it takes until a command prints a line with that in it."""
    began = time.perf_counter()
    with subprocess.Popen(
        call, env=os.environ | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            if sign in line:
                taken = time.perf_counter() - began
                process.kill()
                return taken
    raise SystemExit(f"{' '.join(call)}: no {sign}")


if __name__ == "__main__":
    sys.exit(main())
