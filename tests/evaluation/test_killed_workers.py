"""Worker processes that are killed at random moments: the run is as if they had not been."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_spec import tiny_spec

from harness.evaluation.benchmark import Benchmark
from harness.evaluation.pieces import Wanted
from harness.evaluation.resolve import open_spec
from harness.evaluation.store import Store
from harness.evaluation.tasks import Tasks
from harness.executors import Processes, Workers
from harness.executors.inline import Inline

KILLS = int(os.environ.get("HARNESS_TEST_KILLS", "3"))
"""As often as this; each costs the start of a process."""
WORKERS = 4
TASKS = Path("/proc/self/task")
ATTACKS = """
[attacks.pgd]
epsilons = [0.1, 0.2]
steps = 10
[attacks.square]
epsilons = [0.2]
steps = 400
"""
CHECKS = [
    ("clean", None),
    ("fgsm", 0.1),
    ("fgsm", 0.3),
    ("pgd", 0.1),
    ("pgd", 0.2),
    ("square", 0.2),
]


def run_of(spec, folder, workers):
    wanted = [Wanted("numpy", "mlp", check, epsilon) for check, epsilon in CHECKS]
    benchmark = Benchmark(spec)
    tasks = Tasks(benchmark, wanted, Store(folder), parts=15)
    outcome = tasks.found()
    tasks.measured(workers, outcome)
    tasks.put_into(benchmark.run, outcome)
    return benchmark.run, outcome


def children():
    """Process numbers of the living children of this process, whichever thread started them."""
    found = [path.read_text() for path in TASKS.glob("*/children")]
    return {int(number) for line in found for number in line.split()}


@pytest.mark.skipif(not TASKS.is_dir(), reason="children are read from /proc")
def test_workers_that_are_killed_cost_no_record(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(tiny_spec(attacks=ATTACKS))
    spec = open_spec(str(path))
    alone, _ = run_of(spec, tmp_path / "alone", Workers(Inline(), 1, ahead=1))
    before, killed, over = children(), [], threading.Event()

    def kill():
        draw = np.random.default_rng(0)
        while len(killed) < KILLS and not over.wait(draw.uniform(0.1, 1.0)):
            living, chosen = sorted(children() - before), int(draw.integers(WORKERS))
            if chosen < len(living):  # as long as there is one training, no other worker is busy
                killed.append(living[chosen])
                os.kill(killed[-1], signal.SIGKILL)

    executor = Processes(WORKERS)
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        run, outcome = run_of(spec, tmp_path / "killed", Workers(executor, WORKERS))
    finally:
        over.set()
        killer.join()
        executor.shutdown(cancel_futures=True)
    assert killed
    assert outcome.lost == {}
    plain = {"measured": None, "forwards": None, "backwards": None}
    assert [r.model_copy(update=plain) for r in run.records] == [
        r.model_copy(update=plain) for r in alone.records
    ]
