"""Networks of a spec in a page of one file, which predicts, attacks and explains in the browser.

Everything that the page shows is of the weights as they are in it, rounded to float16.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness import registry
from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.attacks.sweep import sweep
from harness.data.dataset import Dataset
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.inlining import one_file
from harness.maths.channels import guessed_axis
from harness.maths.query import correct_count, predictions_of
from harness.networks.javascript import half_bytes, in_half, layers_in_json
from harness.protocol import FloatArray, IntArray, Model, Network, Wrapping
from harness.spec.spec import Spec

MOST = 2
"""Networks that a page shows side by side."""
EXAMPLES = 20
"""Test images in the page."""
CLEAN, ATTACKED = 10_000, 1000
"""Test images on which the accuracy is measured, as they are and under FGSM, at most."""
METHODS = ("gradient", "gradient-x-input", "integrated-gradients", "loss-gradient")
"""The saliency methods of the page, by the harness's names."""
SHARES = (0.05, 0.1, 0.2, 0.3)
"""Epsilons at which FGSM is measured where the spec has none, in shares of the pixel range."""


def playground(benchmark: Benchmark, networks: Sequence[tuple[str, str, Network]]) -> bytes:
    """The page as an HTML file.

    Args:
        benchmark: Whose networks they are; its test images are measured, and a few are in the page.
        networks: Name of the model, and of its backend, and the network: one or two.

    Raises:
        HarnessError: A network has a layer that the page does not know, or a weight that is too
            large for float16.
    """
    return one_file(bundle_of(benchmark, networks)).encode("utf-8")


def bundle_of(benchmark: Benchmark, networks: Sequence[tuple[str, str, Network]]) -> dict[str, Any]:
    """What the page is given, JSON-like; see ``playground`` for the arguments."""
    data = benchmark.dataset
    rounded = {name: in_half(network) for name, _, network in networks}
    models: dict[str, Model] = {
        name: registry.builder("numpy").build(network, Wrapping(data.bounds), dtype="float64")
        for name, network in rounded.items()
    }
    infos = [
        _info(benchmark, name, backend, rounded[name]) | {"accuracy": _accuracy(benchmark, model)}
        for (name, backend, _), model in zip(networks, models.values(), strict=True)
    ]
    return {"models": infos, "examples": _examples(data, models), "note": _note(infos, data)}


def _info(benchmark: Benchmark, name: str, backend: str, network: Network) -> dict[str, Any]:
    spec, data, architecture = benchmark.spec, benchmark.dataset, network.architecture
    axis = architecture.channel_axis
    low, high = data.bounds
    shape = architecture.input_shape
    attacks: list[FGSM | PGD] = [FGSM(), PGD()]
    return {
        "name": name,
        "backend": backend,
        "input": {
            "shape": list(shape),
            "channel_axis": guessed_axis(shape) if axis is None else axis,
            "bounds": [low, high],
        },
        "classes": list(data.classes) or [str(label) for label in range(architecture.classes)],
        "attacks": [
            {
                "name": attack.name, "norm": attack.norm, "epsilon_max": high - low,
                "steps": getattr(attack, "steps", None), "needs_gradient": True,
            }
            for attack in attacks
        ],
        "methods": list(METHODS),
        "top": spec.saliency.top,
        "data": spec.data.name,
        "parameters": sum(weight.size for weight in network.weights.values()),
        **told_of(spec, name, data),
        "layers": layers_in_json(architecture),
        "weights": _text(half_bytes(architecture, network.weights)),
    }  # fmt: skip


def told_of(spec: Spec, name: str, data: Dataset) -> dict[str, Any]:
    """What a page tells of a model of a spec: its recipe, and the unit that epsilon is shown in."""
    trained = spec.trained.get(name)
    return {
        "recipe": None if trained is None else trained.training.recipe,
        "adversarial": spec.models[name].defended,
        "epsilon_unit": None if data.channel_axis is None else 255,
    }


def _accuracy(benchmark: Benchmark, model: Model) -> dict[str, Any]:
    """Measured with the rounded weights; the numbers of images beside it."""
    test, spec, (low, high) = benchmark.dataset.test, benchmark.spec, benchmark.dataset.bounds
    clean, attacked = min(len(test), CLEAN), min(len(test), ATTACKED)
    epsilons: Sequence[float] = [share * (high - low) for share in SHARES]
    if "fgsm" in spec.attacks:
        epsilons = [epsilon for epsilon in spec.attacks["fgsm"].epsilons if epsilon <= high - low]
    found = sweep(model, FGSM(), test.x[:attacked], test.y[:attacked], epsilons)
    right = correct_count(predictions_of(model, test.x[:clean]), test.y[:clean])
    points = [
        [one.epsilon, correct_count(one.predictions, test.y[:attacked]) / attacked] for one in found
    ]
    return {
        "clean": right / clean, "images": clean, "attacks": {"fgsm": points}, "attacked": attacked
    }  # fmt: skip


def _examples(data: Dataset, models: Mapping[str, Model]) -> list[dict[str, Any]]:
    """The first image of each class, then others, as bytes; with what is predicted of these."""
    rows = example_rows(data.test.y, EXAMPLES)
    low, high = data.bounds
    images: FloatArray = np.asarray(data.test.x[rows], dtype=np.float64)
    pixels = np.clip(np.rint((images - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    seen = low + (high - low) * (pixels / 255)
    predicted = {name: predictions_of(model, seen).labels for name, model in models.items()}
    return [
        {
            "index": int(row), "label": int(data.test.y[row]), "image": _text(pixels[at].tobytes()),
            "predicted": {name: int(labels[at]) for name, labels in predicted.items()},
        }
        for at, row in enumerate(rows)
    ]  # fmt: skip


def example_rows(y: IntArray, count: int) -> IntArray:
    """Positions, (m,), of the first image of each class, then of the others in their order."""
    _, firsts = np.unique(y, return_index=True)
    others = np.setdiff1d(np.arange(len(y)), firsts)
    found: IntArray = np.concatenate([firsts, others])[:count]
    return found


def _note(infos: Sequence[Mapping[str, Any]], data: Dataset) -> str:
    """What a reader of the page's numbers should know."""
    parts = [f"{one['name']} {_percent(one['accuracy']['clean'])}" for one in infos]
    count = infos[0]["accuracy"]["images"]
    which = "" if count == len(data.test) else "first "
    return (
        "Weights rounded to float16, and all that is shown is computed with these, in this page; "
        f"nothing is sent anywhere. Accuracy on the {which}{count:,} test images with these "
        f"weights: {', '.join(parts)}. PGD takes 40 steps with each of two losses, as the "
        "harness does by default, from the random start that the harness gives the first image "
        "of a dataset."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
