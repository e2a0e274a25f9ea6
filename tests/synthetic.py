"""A run made up from a seed, for tests of what reads runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.results.records import Epoch, ModelInfo, Record, Timing, counted
from harness.results.run import Run

METHODS = ("gradient", "gradient-x-input")
EPSILONS = (0.0, 0.05, 0.1, 0.2, 0.3)


def synthetic_run(
    backends: Sequence[str] = ("torch", "keras"),
    models: Sequence[str] = ("mlp",),
    classes: Sequence[str] = ("0", "1", "2"),
    name: str = "toy",
    seed: int = 0,
) -> Run:
    """A finished, passing run with everything in it: 60 images of 6 × 6 pixels, 4 examples."""
    rng = np.random.default_rng(seed)
    run = Run(
        spec={"name": name, "description": "Made up.", "seed": seed, "data": {"seed": 7},
              "saliency": {"top": 0.15}},
        spec_sha256="5" * 64, data_sha256="d" * 64, classes=tuple(classes), commit="c0ffee",
        dirty=True, created="2024-05-06T07:08:09Z", finished=True,
        versions={"numpy": "2.0", "python": "3.12"}, machine={"system": "Linux", "cores": 4},
    )  # fmt: skip
    labels = rng.integers(len(classes), size=60).astype(np.int16)
    run.arrays["labels"] = labels
    for backend in backends:
        for model in models:
            _measure(run, rng, backend, model, labels)
            _exemplify(run, rng, f"{backend}/{model}")
            _explain(run, rng, backend, model)
            run.timings.append(Timing(model=model, backend=backend, check="fgsm", images=60,
                                      epsilons=5, seconds=0.5))  # fmt: skip
            run.put_model(_trained(rng, backend, model))
            for check in ("bounds", "gradient"):
                run.put(Record(model=model, backend=backend, check=f"conformance/{check}",
                               status="passed"))  # fmt: skip
    return run


def _measure(
    run: Run, rng: np.random.Generator, backend: str, model: str, labels: npt.NDArray[Any]
) -> None:
    k = len(run.classes)
    named = [("clean", None, 0.05), *(("fgsm", e, 0.05 + 2.5 * e) for e in EPSILONS)]
    named += [("saliency/least", None, 0.08), ("saliency/random", None, 0.3),
              ("saliency/top", None, 0.6)]  # fmt: skip
    for check, epsilon, wrong in named:
        missed = rng.random(labels.size) < wrong
        predictions = np.where(missed, (labels + 1) % k, labels).astype(np.int16)
        correct = int((predictions == labels).sum())
        norm = None if epsilon is None else "linf"
        record = counted(model, backend, check, correct, labels.size, epsilon, norm=norm)
        if check in ("clean", "fgsm"):
            record = record.judged("passed", threshold=(0.0, 1.0))
            at = "" if epsilon is None else f"@{epsilon:g}"
            run.arrays[f"{backend}/{model}/{check}{at}/predictions"] = predictions
        run.put(record)


def _exemplify(run: Run, rng: np.random.Generator, prefix: str) -> None:
    m, shape = 4, (6, 6)
    clean = rng.random((m, *shape)).astype(np.float32)
    stored = {
        "": clean,
        **{f"@{e:g}": clean + e * rng.choice([-1, 1], clean.shape) for e in EPSILONS},
    }
    for at, images in stored.items():
        name = f"{prefix}/examples/{'fgsm' + at if at else 'clean'}"
        run.arrays[name] = images.clip(0, 1).astype(np.float32)
        run.arrays[f"{name}/confidence"] = rng.random(m).astype(np.float32)
    maps = rng.random((m, *shape)).astype(np.float32)
    run.arrays[f"{prefix}/examples/index"] = np.array([3, 5, 8, 13])
    run.arrays[f"{prefix}/examples/saliency"] = maps
    run.arrays[f"{prefix}/examples/saliency/top"] = maps > 0.85


def _explain(run: Run, rng: np.random.Generator, backend: str, model: str) -> None:
    """Maps of two methods, what they say, and what the sanity checks found."""
    m, shape, prefix = 4, (6, 6), f"{backend}/{model}"
    keep = run.arrays
    keep[f"{prefix}/examples/moved"] = rng.random((m, *shape)).astype(np.float32)
    keep[f"{prefix}/examples/moved/labels"] = np.zeros(m, dtype=np.int16)
    for method in METHODS:
        keep[f"{prefix}/examples/maps/{method}"] = rng.normal(size=(m, *shape)).astype(np.float32)
        keep[f"{prefix}/examples/moved/maps/{method}"] = rng.normal(size=(m, *shape)).astype("f4")
        keep[f"{prefix}/examples/cascade/{method}"] = rng.normal(size=(2, 3, *shape)).astype("f4")
        keep[f"{prefix}/saliency/{method}/cascade"] = np.array([[0.5, 0.4], [0.125, 0.25]])
        for name in ("deletion", "insertion"):
            keep[f"{prefix}/saliency/{method}/{name}"] = np.linspace(0.9, 0.1, 21)
            run.put(Record(model=model, backend=backend, check=f"saliency/{method}/{name}",
                           value=0.375))  # fmt: skip
        for choice in ("top", "least"):
            keep[f"{prefix}/saliency/{method}/{choice}/accuracy"] = rng.random((2, 5))
    keep[f"{prefix}/saliency/random/accuracy"] = rng.random((3, 2, 5))
    keep[f"{prefix}/saliency/random/accuracy/interval"] = rng.random((2, 2, 5))
    for name in ("deletion", "insertion"):
        keep[f"{prefix}/saliency/random/{name}"] = np.linspace(0.9, 0.1, 21)


def _trained(rng: np.random.Generator, backend: str, model: str) -> ModelInfo:
    history = tuple(
        Epoch(epoch=number, loss=1 / number, accuracy=1 - 0.5 / number,
              validation_loss=1.1 / number, validation_accuracy=0.97 - 0.5 / number,
              learning_rate=1e-3, seconds=0.5)
        for number in range(1, 6)
    )  # fmt: skip
    fingerprint = rng.bytes(32).hex()
    return ModelInfo(model=model, backend=backend, fingerprint=fingerprint, cached=False,
                     best_epoch=4, history=history)  # fmt: skip
