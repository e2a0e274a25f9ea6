"""Training and attacks beside others' on the same net, and attacks beside the bare matrix products.

Run it alone: ``pytest suites -k speed --benchmark-only -s``. Times differ from machine to machine
and from minute to minute, so what is judged is the ratio of medians of rounds taken in turn. All
work in one thread: where other programs run too, threads wait for each other, and what is timed is
the scheduler.
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from harness.attacks import make_attack
from harness.attacks.sweep import sweep
from harness.data import Part, load_dataset
from harness.data.dataset import Floats, Integers
from harness.maths.query import BATCH, correct_count, predictions_of
from harness.networks.initial import initial_weights
from harness.protocol import Model, Network, Optimizer, Weights, Wrapping, fully_connected
from harness.registry import builder, missing
from harness.saliency.methods import STEPS, explain
from harness.spec.models import DataSpec
from harness.spec.training import TrainingSpec
from harness.training.loop import Trained, train
from suites.speed.peers import Captum, installed
from suites.speed.plain_loops import FLOORS, LOOPS, PASSES, THREADS

NET = fully_connected((28, 28), (512, 256, 128), 10, dropout=0.2)
IMAGES, BATCH_SIZE, ROUNDS = 12_800, 128, 7
ALLOWED = 1.15
FGSM_EPSILONS, FGSM_IMAGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3), 7_000
PGD_EPSILONS, PGD_IMAGES, PGD_STEPS = (0.1, 0.2, 0.3), 1_000, 40
FGSM_OF_FASTEST = {"torch": 0.45, "keras": 0.2}
PGD_OF_FASTEST = 0.5
FGSM_OF_FLOOR = 1.4
MAPS_OF_PASS, MAPS_OF_CAPTUM = 1.6, 0.8


class Workload(NamedTuple):
    """A trained network of the size that is timed, and images, mostly classified correctly."""

    weights: Weights
    x: Floats
    y: Integers


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    for name, limit in THREADS.items():
        if not missing(name):
            limit(1)


@pytest.fixture(scope="module")
def workload() -> Workload:
    """Of MNIST, if the caller says where it is; else a net of random weights and random images."""
    weights = initial_weights(NET, seed=0)
    name = next(name for name in ("torch", "keras", "numpy") if not missing(name))
    if not os.environ.get("HARNESS_DATA_DIR"):
        x = np.random.default_rng(0).random((FGSM_IMAGES, *NET.input_shape), dtype=np.float32)
        labels = predictions_of(builder(name).build(Network(NET, weights)), x).labels
        return Workload(weights, x, labels.astype(np.int64))
    data = load_dataset(DataSpec(name="mnist"))
    recipe = TrainingSpec(epochs=2, label_smoothing=0.1)
    trainer = _trainer(name, weights)
    trained = train(trainer, *data.fitted(), recipe, seed=0, title="the timed net")
    return Workload(trained.weights, np.array(data.test.x), np.array(data.test.y))


@pytest.mark.speed
@pytest.mark.parametrize("name", LOOPS)
def test_training_costs_little_more_than_a_plain_loop(name, benchmark):
    if reason := missing(name):
        pytest.skip(reason)
    random = np.random.default_rng(0)
    x = random.random((IMAGES, 28, 28), dtype=np.float32)
    y = random.integers(0, 10, IMAGES)
    calls = {"harness": _harness_loop(name, x, y), "plain": LOOPS[name](NET, x, y, BATCH_SIZE)}
    medians = _in_turn(f"{name}, training, an epoch", benchmark, calls, ROUNDS)
    ratio = medians["harness"] / medians["plain"]
    assert ratio <= ALLOWED, f"{name}: the loop costs {ratio:.2f} times the plain one"


@pytest.mark.speed
@pytest.mark.parametrize("name", FLOORS)
def test_fgsm_sweep_costs_a_fraction_of_what_others_take(name, workload, benchmark):
    if reason := missing(name):
        pytest.skip(reason)
    x, y = workload.x[:FGSM_IMAGES], workload.y[:FGSM_IMAGES]
    model = builder(name).build(Network(NET, workload.weights))
    # A forward and a backward pass for the gradient, and a forward pass per epsilon that moves.
    passes = 2 + sum(epsilon > 0 for epsilon in FGSM_EPSILONS)
    calls = {
        "harness": lambda: _counts(model, "fgsm", x, y, FGSM_EPSILONS),
        "floor": FLOORS[name](workload.weights, x, passes, BATCH),
    } | {
        other: lambda peer=peer: peer.counts(x, y, FGSM_EPSILONS, batch=BATCH)
        for other, peer in _peers(name, model).items()
    }
    medians = _in_turn(f"{name}, FGSM, {len(x)} images", benchmark, calls, ROUNDS)
    _require(medians, FGSM_OF_FASTEST[name])
    ratio = medians["harness"] / medians["floor"]
    assert ratio <= FGSM_OF_FLOOR, f"FGSM costs {ratio:.2f} times its matrix products"


@pytest.mark.speed
@pytest.mark.parametrize("name", FLOORS)
def test_pgd_costs_a_fraction_of_what_others_take(name, workload, benchmark):
    """Misclassified images are attacked no more, so this holds of nets that PGD does break."""
    if reason := missing(name):
        pytest.skip(reason)
    x, y = workload.x[:PGD_IMAGES], workload.y[:PGD_IMAGES]
    model = builder(name).build(Network(NET, workload.weights))
    calls = {
        # The others climb the cross-entropy alone.
        "harness": lambda: _counts(
            model, "pgd", x, y, PGD_EPSILONS, steps=PGD_STEPS, losses=["cross-entropy"]
        ),
    } | {
        other: lambda peer=peer: peer.counts(x, y, PGD_EPSILONS, PGD_STEPS, BATCH)
        for other, peer in _peers(name, model).items()
    }
    medians = _in_turn(f"{name}, PGD-{PGD_STEPS}, {len(x)} images", benchmark, calls, ROUNDS)
    _require(medians, PGD_OF_FASTEST)


@pytest.mark.speed
@pytest.mark.parametrize("name", PASSES)
def test_gradient_maps_cost_little_more_than_one_pass_each_way(name, workload, benchmark):
    if reason := missing(name):
        pytest.skip(reason)
    x, y = workload.x[:FGSM_IMAGES], workload.y[:FGSM_IMAGES]
    model = builder(name).build(Network(NET, workload.weights))
    calls = {
        "harness": lambda: explain(model, x, y),
        "one pass": PASSES[name](workload.weights, x, BATCH),
    }
    medians = _in_turn(f"{name}, gradient maps, {len(x)} images", benchmark, calls, ROUNDS)
    ratio = medians["harness"] / medians["one pass"]
    assert ratio <= MAPS_OF_PASS, f"gradient maps cost {ratio:.2f} times one pass each way"


@pytest.mark.speed
def test_integrated_gradients_cost_less_than_captums(workload, benchmark):
    for package in ("torch", Captum.package):
        pytest.importorskip(package)
    x, y = workload.x[:PGD_IMAGES], workload.y[:PGD_IMAGES]
    model: Any = builder("torch").build(Network(NET, workload.weights))
    captum, images, classes = Captum(model.net), model.asarray(x), model.asarray(y)
    calls = {
        "harness": lambda: explain(model, x, y, "integrated-gradients"),
        "captum": lambda: captum.integrated_gradients(images, classes, STEPS),
    }
    medians = _in_turn(f"integrated gradients, {len(x)} images", benchmark, calls, ROUNDS)
    _require(medians, MAPS_OF_CAPTUM)


def _in_turn(
    title: str, benchmark: Any, calls: dict[str, Callable[[], Any]], rounds: int
) -> dict[str, float]:
    """Median seconds of each call, after one of each to compile and warm up; prints a table."""
    times: dict[str, list[float]] = {label: [] for label in calls}
    for call in calls.values():
        call()

    def once() -> None:
        for label, call in calls.items():
            started = time.perf_counter()
            call()
            times[label].append(time.perf_counter() - started)

    benchmark.pedantic(once, rounds=rounds)
    medians = {label: statistics.median(values) for label, values in times.items()}
    print(f"\n{title}")
    for label, seconds in medians.items():
        ratio = medians["harness"] / seconds
        benchmark.extra_info[label] = {"seconds": seconds, "harness is to it as": ratio}
        print(f"  {label:14}{seconds:9.3f} s   harness / {label} = {ratio:.3f}")
    return medians


def _require(medians: dict[str, float], limit: float) -> None:
    """The harness takes at most this share of the time of the fastest of the others."""
    others = {name: value for name, value in medians.items() if name not in ("harness", "floor")}
    if not others:
        return
    fastest = min(others, key=others.__getitem__)
    ratio = medians["harness"] / others[fastest]
    assert ratio <= limit, f"it takes {ratio:.2f} of the time of {fastest}"


def _peers(name: str, model: Any) -> dict[str, Any]:
    return {
        other: peer(model.net, NET.input_shape, NET.classes)
        for other, peer in installed(name).items()
    }


def _counts(
    model: Model, attack: str, x: Floats, y: Integers, epsilons: tuple[float, ...], **options: Any
) -> list[int]:
    made = make_attack(attack, options=options)
    return [correct_count(found.predictions, y) for found in sweep(model, made, x, y, epsilons)]


def _trainer(name: str, weights: Weights) -> Any:
    return builder(name).trainer(Network(NET, weights), Wrapping((0.0, 1.0)), Optimizer(), seed=0)


def _harness_loop(name: str, x: Floats, y: Integers) -> Callable[[], Trained]:
    """One epoch of the harness's loop, without validation, as the plain loops have none."""
    trainer = _trainer(name, initial_weights(NET, seed=0))
    index = np.arange(len(y))
    data, few = Part(x, y, index), Part(x[:10], y[:10], index[:10])
    recipe = TrainingSpec(epochs=1, batch_size=BATCH_SIZE, schedule="constant")
    return lambda: train(trainer, data, few, recipe, seed=0, title=f"speed of {name}")
