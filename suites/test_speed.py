"""Training throughput: the harness's loop beside a plain one, on the same net, in the same run.

Run it alone: ``pytest suites -k speed --benchmark-only``. Times differ from machine to machine
and from minute to minute, so what is judged is the ratio of medians of rounds taken in turn.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest

from harness.data.dataset import Floats, Integers, Part
from harness.protocol import Architecture, Penalties
from harness.registry import backend as backend_of
from harness.registry import missing
from harness.spec import TrainingSpec
from harness.training import Trained, initial_weights, train
from suites.plain_loops import LOOPS

NET = Architecture((28, 28), (512, 256, 128), 10, dropout=0.2)
IMAGES, BATCH, ROUNDS = 12_800, 128, 7
ALLOWED = 1.15


@pytest.mark.speed
@pytest.mark.parametrize("name", LOOPS)
def test_training_costs_little_more_than_a_plain_loop(name, benchmark):
    if reason := missing(name):
        pytest.skip(reason)
    random = np.random.default_rng(0)
    x = random.random((IMAGES, 28, 28), dtype=np.float32)
    y = random.integers(0, 10, IMAGES)
    ours, plain = _harness_loop(name, x, y), LOOPS[name](NET, x, y, BATCH)
    ours(), plain()  # compiles, and warms up
    times: dict[str, list[float]] = {"harness": [], "plain": []}

    def both():
        for label, epoch in (("harness", ours), ("plain", plain)):
            started = time.perf_counter()
            epoch()
            times[label].append(time.perf_counter() - started)

    benchmark.pedantic(both, rounds=ROUNDS)
    medians = {label: statistics.median(values) for label, values in times.items()}
    ratio = medians["harness"] / medians["plain"]
    benchmark.extra_info |= {f"{k} images/s": round(IMAGES / v) for k, v in medians.items()}
    benchmark.extra_info["ratio"] = round(ratio, 3)
    print(f"\n{name}: {benchmark.extra_info}")
    assert ratio <= ALLOWED, f"{name}: the loop costs {ratio:.2f} times the plain one"


def _harness_loop(name: str, x: Floats, y: Integers) -> Callable[[], Trained]:
    """One epoch of the harness's loop, without validation, as the plain loops have none."""
    backend = backend_of(name)
    weights = initial_weights(NET, seed=0)
    trainer = backend.trainer(NET, weights, bounds=(0.0, 1.0), penalties=Penalties(), seed=0)
    index = np.arange(len(y))
    data, few = Part(x, y, index), Part(x[:10], y[:10], index[:10])
    recipe = TrainingSpec(epochs=1, batch_size=BATCH, schedule="constant")
    return lambda: train(trainer, data, few, recipe, seed=0, title=f"speed of {name}")
