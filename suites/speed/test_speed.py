"""Training and attacks beside others' on the same net, and attacks beside the bare matrix products.

Run it alone: ``pytest suites -k speed --benchmark-only -s``. Times differ from machine to machine
and from minute to minute, so what is judged is the ratio of medians of rounds taken in turn. All
work in one thread: where other programs run too, threads wait for each other, and what is timed is
the scheduler.

The others attack a network of the framework's own layers with the same weights, each at the batch
size at which it is fastest; the harness chooses its own.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from harness.attacks import make_attack
from harness.attacks.sweep import sweep
from harness.data import Part, load_dataset
from harness.data.dataset import Floats, Integers
from harness.maths.query import BATCH, correct_count, predictions_of
from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights
from harness.protocol import (
    Architecture,
    Model,
    Network,
    Optimizer,
    Weights,
    Wrapping,
    fully_connected,
)
from harness.registry import builder, missing
from harness.saliency.methods import STEPS, explain
from harness.spec.models import DataSpec
from harness.spec.training import TrainingSpec
from harness.training.loop import Trained, train
from suites.speed.floors import FLOORS, PASSES
from suites.speed.peers import PEERS, Captum, Peer, installed
from suites.speed.plain_loops import COPIES, LOOPS, THREADS

NETS = {
    "mlp": fully_connected((28, 28), (512, 256, 128), 10, dropout=0.2),
    "cnn": architecture_of(
        "cnn",
        {"channels": [16, 32, 64], "pool": [2, 2, 1], "dense": [128], "batch_norm": True},
        ImageKind((28, 28), 10),
    ),
}
"""The networks of the specs ``mnist`` and ``mnist-cnn``."""
BATCH_SIZE, ROUNDS = 128, 7
IMAGES = {"mlp": 12_800, "cnn": 6_400}
ALLOWED = 1.15
SIZES = (64, 250, BATCH)
"""Batch sizes that the other libraries are tried at."""
FGSM_EPSILONS, FGSM_IMAGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3), {"mlp": 7_000, "cnn": 2_000}
PGD_EPSILONS, PGD_IMAGES, PGD_STEPS = (0.1, 0.2, 0.3), {"mlp": 1_000, "cnn": 500}, 40
FGSM_OF_FASTEST = {
    ("mlp", "torch"): 0.4, ("mlp", "keras"): 0.4, ("mlp", "jax"): 0.5,
    ("cnn", "torch"): 0.4, ("cnn", "keras"): 0.4, ("cnn", "jax"): 0.5,
}  # fmt: skip
PGD_OF_FASTEST = {
    ("mlp", "torch"): 0.5, ("mlp", "keras"): 0.5, ("mlp", "jax"): 0.5,
    ("cnn", "torch"): 0.45, ("cnn", "keras"): 0.25, ("cnn", "jax"): 0.5,
}  # fmt: skip
FGSM_OF_FLOOR = 1.4
MAPS_OF_PASS, MAPS_OF_CAPTUM = 1.6, 0.8
AS_STRONG = 0.02
"""Share of the images that PGD may leave right beyond what others leave: random starts differ."""


class Workload(NamedTuple):
    """A network that is timed, and images, mostly classified correctly; trained, or random."""

    net: Architecture
    weights: Weights
    x: Floats
    y: Integers
    trained: bool

    def first(self, count: int) -> tuple[Floats, Integers]:
        """So many images, and their labels."""
        return self.x[:count], self.y[:count]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    for name, limit in THREADS.items():
        if not missing(name):
            limit(1)


@pytest.fixture(scope="module")
def workloads() -> Callable[[str], Workload]:
    """Of MNIST, if the caller says where it is; else nets of random weights and random images."""
    made: dict[str, Workload] = {}

    def workload(kind: str) -> Workload:
        if kind not in made:
            made[kind] = _workload(NETS[kind])
        return made[kind]

    return workload


@pytest.mark.speed
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", LOOPS)
def test_training_costs_little_more_than_a_plain_loop(name, kind, benchmark):
    if reason := missing(name):
        pytest.skip(reason)
    random, net = np.random.default_rng(0), NETS[kind]
    x = random.random((IMAGES[kind], 28, 28), dtype=np.float32)
    y = random.integers(0, 10, len(x))
    calls = {
        "harness": _harness_loop(name, net, x, y),
        "plain": LOOPS[name](net, x, y, BATCH_SIZE),
    }
    medians = _in_turn(f"{name}, {kind}, training, an epoch", benchmark, calls, ROUNDS)
    ratio = medians["harness"] / medians["plain"]
    assert ratio <= ALLOWED, f"{name}: the loop costs {ratio:.2f} times the plain one"


@pytest.mark.speed
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", PEERS)
def test_fgsm_sweep_costs_a_fraction_of_what_others_take(name, kind, workloads, benchmark):
    if reason := missing(name):
        pytest.skip(reason)
    work = workloads(kind)
    x, y = work.first(FGSM_IMAGES[kind])
    model = _model(name, work)
    calls: dict[str, Callable[[], Any]] = {
        "harness": lambda: _counts(model, "fgsm", x, y, FGSM_EPSILONS)
    }
    if name in FLOORS:
        # A forward and a backward pass for the gradient, and a forward pass per epsilon that moves.
        passes = 2 + sum(epsilon > 0 for epsilon in FGSM_EPSILONS)
        calls["floor"] = FLOORS[name](work.net, work.weights, x, passes, BATCH)
    for other, peer in _peers(name, work):
        calls[other] = _at_best(peer, x, y, FGSM_EPSILONS)
    if work.trained:
        found = {label: call() for label, call in calls.items() if label != "floor"}
        assert all(counts == found["harness"] for counts in found.values()), found
    medians = _in_turn(f"{name}, {kind}, FGSM, {len(x)} images", benchmark, calls, ROUNDS)
    _require(medians, FGSM_OF_FASTEST[kind, name])
    if kind == "mlp" and name in FLOORS:
        ratio = medians["harness"] / medians["floor"]
        assert ratio <= FGSM_OF_FLOOR, f"FGSM costs {ratio:.2f} times its matrix products"


@pytest.mark.speed
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", PEERS)
def test_pgd_costs_a_fraction_of_what_others_take(name, kind, workloads, benchmark):
    """Misclassified images are attacked no more, so this holds of nets that PGD does break."""
    if reason := missing(name):
        pytest.skip(reason)
    work = workloads(kind)
    x, y = work.first(PGD_IMAGES[kind])
    model = _model(name, work)
    calls: dict[str, Callable[[], Any]] = {
        # The others climb the cross-entropy alone.
        "harness": lambda: _counts(
            model, "pgd", x, y, PGD_EPSILONS, steps=PGD_STEPS, losses=["cross-entropy"]
        ),
    }
    for other, peer in _peers(name, work):
        calls[other] = _at_best(peer, x, y, PGD_EPSILONS, PGD_STEPS)
    if work.trained:
        found = {label: call() for label, call in calls.items()}
        allowed = AS_STRONG * len(x)
        assert all(
            ours <= count + allowed
            for counts in found.values()
            for ours, count in zip(found["harness"], counts, strict=True)
        ), found
    medians = _in_turn(
        f"{name}, {kind}, PGD-{PGD_STEPS}, {len(x)} images", benchmark, calls, ROUNDS
    )
    _require(medians, PGD_OF_FASTEST[kind, name])


@pytest.mark.speed
@pytest.mark.parametrize("name", PASSES)
def test_gradient_maps_cost_little_more_than_one_pass_each_way(name, workloads, benchmark):
    if reason := missing(name):
        pytest.skip(reason)
    work = workloads("mlp")
    x, y = work.first(FGSM_IMAGES["mlp"])
    model = _model(name, work)
    calls = {
        "harness": lambda: explain(model, x, y),
        "one pass": PASSES[name](work.net, work.weights, x, BATCH),
    }
    medians = _in_turn(f"{name}, gradient maps, {len(x)} images", benchmark, calls, ROUNDS)
    ratio = medians["harness"] / medians["one pass"]
    assert ratio <= MAPS_OF_PASS, f"gradient maps cost {ratio:.2f} times one pass each way"


@pytest.mark.speed
def test_integrated_gradients_cost_less_than_captums(workloads, benchmark):
    for package in ("torch", Captum.package):
        pytest.importorskip(package)
    work = workloads("mlp")
    x, y = work.first(PGD_IMAGES["mlp"])
    model: Any = _model("torch", work)
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


def _workload(net: Architecture) -> Workload:
    weights = initial_weights(net, seed=0)
    name = next(name for name in ("torch", "keras", "jax", "numpy") if not missing(name))
    if not os.environ.get("HARNESS_DATA_DIR"):
        shape = (max(FGSM_IMAGES.values()), *net.input_shape)
        x = np.random.default_rng(0).random(shape, dtype=np.float32)
        labels = predictions_of(builder(name).build(Network(net, weights)), x).labels
        return Workload(net, weights, x, labels.astype(np.int64), False)
    data = load_dataset(DataSpec(name="mnist"))
    recipe = TrainingSpec(epochs=2, label_smoothing=0.1)
    trainer = _trainer(name, net, weights)
    trained = train(trainer, *data.fitted(), recipe, seed=0, title="the timed net")
    return Workload(net, trained.weights, np.array(data.test.x), np.array(data.test.y), True)


def _model(name: str, work: Workload) -> Model:
    return builder(name).build(Network(work.net, work.weights))


def _peers(name: str, work: Workload) -> Iterator[tuple[str, Peer]]:
    """The libraries, each with a plain network that classifies the images as the harness's does."""
    model, few = _model(name, work), work.x[:BATCH]
    for other, peer in installed(name).items():
        copy = COPIES[name](work.net, work.weights)
        made = peer(copy, work.net.input_shape, work.net.classes)
        labels = made.labels(made.asarray(few))
        assert np.array_equal(labels, predictions_of(model, few).labels)
        yield other, made


def _at_best(
    peer: Peer, x: Floats, y: Integers, epsilons: tuple[float, ...], steps: int = 0
) -> Callable[[], list[int]]:
    """What counts at the batch size that takes the least time, by a round of some images."""
    few, times = min(len(x), BATCH), {}
    for size in SIZES:
        peer.counts(x[:size], y[:size], epsilons[-1:], steps, size)  # compiles, if it does
        started = time.perf_counter()
        peer.counts(x[:few], y[:few], epsilons[-1:], steps, size)
        times[size] = time.perf_counter() - started
    best = min(times, key=times.__getitem__)
    return partial(peer.counts, x, y, epsilons, steps, best)


def _counts(
    model: Model, attack: str, x: Floats, y: Integers, epsilons: tuple[float, ...], **options: Any
) -> list[int]:
    made = make_attack(attack, options=options)
    return [correct_count(found.predictions, y) for found in sweep(model, made, x, y, epsilons)]


def _trainer(name: str, net: Architecture, weights: Weights) -> Any:
    return builder(name).trainer(Network(net, weights), Wrapping((0.0, 1.0)), Optimizer(), seed=0)


def _harness_loop(name: str, net: Architecture, x: Floats, y: Integers) -> Callable[[], Trained]:
    """One epoch of the harness's loop, without validation, as the plain loops have none."""
    trainer = _trainer(name, net, initial_weights(net, seed=0))
    index = np.arange(len(y))
    data, few = Part(x, y, index), Part(x[:10], y[:10], index[:10])
    recipe = TrainingSpec(epochs=1, batch_size=BATCH_SIZE, schedule="constant")
    return lambda: train(trainer, data, few, recipe, seed=0, title=f"speed of {name}")
