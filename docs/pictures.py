"""The pictures of ``docs/learn``, drawn from a stored run: ``python docs/pictures.py results``.

The run is one of ``harness run digits --backend numpy --out results``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.results import keys
from harness.results.run import Run

HERE = Path(__file__).parent / "learn"
BACKEND, MODEL = "numpy", "mlp"
WIDTH = 6.4
INK, ACCENTS = "#333333", {"noise": "#7f7f7f", "fgsm": "#1f77b4", "pgd": "#d62728"}


class Stored:
    """The network's part of a run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.labels = run.arrays["labels"]
        self.shown = self.labels[self.array("examples/index")]

    def array(self, name: str) -> Any:
        """An array of the network."""
        return self.run.arrays[keys.of(BACKEND, MODEL, name)]

    def predicted(self, check: str, epsilon: float | None = None) -> Any:
        """What the network takes the shown images for."""
        return self.array(keys.predictions(check, epsilon))[self.array("examples/index")]

    def confidence(self, name: str) -> Any:
        """How sure it is."""
        return self.array(keys.example(name, "confidence"))


def image(axis: Axes, pixels: Any, below: str = "", **how: Any) -> None:
    """One image of 8 × 8 pixels, and a line below it."""
    axis.imshow(pixels, **({"cmap": "gray", "vmin": 0, "vmax": 1} | how))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(below, fontsize=8, color=INK)


def data(stored: Stored) -> Figure:
    """A digit of each class."""
    figure = Figure((WIDTH, 0.95), layout="constrained")
    for axis, row in zip(figure.subplots(1, 10), np.argsort(stored.shown), strict=True):
        image(axis, stored.array("examples/clean")[row], str(stored.shown[row]))
    return figure


def mlp(stored: Stored) -> Figure:
    """Loss and accuracies of each epoch."""
    (model,) = [one for one in stored.run.models if (one.model, one.backend) == (MODEL, BACKEND)]
    epochs = range(1, len(model.history) + 1)
    figure = Figure((WIDTH, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    sides = (("training", "", "noise"), ("validation", "validation_", "pgd"))
    for axis, name, scale, title in (
        (left, "loss", 1, "loss, nats an image"), (right, "accuracy", 100, "accuracy, %"),
    ):  # fmt: skip
        for told, before, color in sides:
            values = [scale * getattr(epoch, f"{before}{name}") for epoch in model.history]
            axis.plot(epochs, values, color=ACCENTS[color], label=told)
        axis.set_title(title, fontsize=9)
    right.legend(fontsize=8, frameon=False)
    for axis in (left, right):
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=8)
    return figure


def fgsm(stored: Stored) -> Figure:
    """Digits at three epsilons."""
    fooled = stored.predicted("fgsm", 0.1) != stored.shown
    rows = np.flatnonzero(fooled & (stored.predicted("fgsm", 0.0) == stored.shown))[:2]
    figure = Figure((WIDTH * 0.6, 2.9), layout="constrained")
    for axes, row in zip(figure.subplots(2, 3), rows, strict=True):
        for axis, epsilon in zip(axes, (0.0, 0.1, 0.3), strict=True):
            pixels = stored.array(keys.example(keys.at("fgsm", epsilon)))[row]
            image(axis, pixels, f"read as {stored.predicted('fgsm', epsilon)[row]}")
            if row == rows[0]:
                axis.set_title(f"ε = {epsilon:g}", fontsize=9)
    return figure


def curves(stored: Stored) -> Figure:
    """Accuracy against epsilon, all of them from clean on."""
    figure = Figure((WIDTH * 0.75, 2.8), layout="constrained")
    axis = figure.subplots()
    clean = stored.run.find((MODEL, BACKEND, "clean", None))
    for attack, color in ACCENTS.items():
        found = [
            record for record in stored.run.records
            if (record.model, record.backend, record.check) == (MODEL, BACKEND, attack)
            and record.epsilon
        ]  # fmt: skip
        at = [0.0, *(record.epsilon for record in found)]
        lines = [
            [100 * getattr(record, name) for record in (clean, *found)]
            for name in ("accuracy", "ci_low", "ci_high")
        ]
        axis.plot(at, lines[0], marker="o", markersize=3, color=color, label=attack)
        axis.fill_between(at, lines[1], lines[2], color=color, alpha=0.15, linewidth=0)
    axis.set_xlabel("ε", fontsize=8)
    axis.set_ylabel("accuracy, %", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False)
    return figure


def confusion(stored: Stored) -> Figure:
    """How many of each class are taken for each, before and after."""
    figure = Figure((WIDTH, 3.1), layout="constrained")
    titles = ("clean", "FGSM, ε = 0.1")
    for axis, (check, epsilon), title in zip(
        figure.subplots(1, 2), (("clean", None), ("fgsm", 0.1)), titles, strict=True
    ):
        counts = np.zeros((10, 10), dtype=int)
        np.add.at(counts, (stored.labels, stored.array(keys.predictions(check, epsilon))), 1)
        axis.imshow(counts, cmap="Blues", vmin=0, vmax=20)
        for row, column in np.argwhere(counts):
            count = counts[row, column]
            color = "white" if count > 10 else INK
            axis.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)
        axis.set_title(title, fontsize=9)
        axis.set_xticks(range(10))
        axis.set_yticks(range(10))
        axis.set_xlabel("taken for", fontsize=8)
        axis.set_ylabel("true class", fontsize=8)
        axis.tick_params(labelsize=7, length=0)
    return figure


def samples(stored: Stored) -> Figure:
    """Images, what was added, and what came of it."""
    right = stored.predicted("clean") == stored.shown
    rows = np.flatnonzero(right & (stored.predicted("pgd", 0.1) != stored.shown))[:3]
    figure = Figure((WIDTH * 0.6, 4.2), layout="constrained")
    moved, clean = stored.array("examples/pgd@0.1"), stored.array("examples/clean")
    for axes, row in zip(figure.subplots(3, 3), rows, strict=True):
        before, after = stored.confidence("clean")[row], stored.confidence("pgd@0.1")[row]
        image(axes[0], clean[row], f"{stored.predicted('clean')[row]}, {before:.0%}")
        image(axes[1], moved[row] - clean[row], "the change", vmin=-0.1, vmax=0.1)
        image(axes[2], moved[row], f"{stored.predicted('pgd', 0.1)[row]}, {after:.0%}")
    return figure


def saliency(stored: Stored) -> Figure:
    """A digit, its map, and the digit with the most salient pixels covered."""
    maps, clean = stored.array(keys.maps("gradient")), stored.array("examples/clean")
    figure = Figure((WIDTH * 0.6, 2.9), layout="constrained")
    for axes, row in zip(figure.subplots(2, 3), (3, 8), strict=True):
        largest = np.abs(maps[row]).max()
        top = np.argsort(-np.abs(maps[row]), axis=None)[: round(0.15 * 64)]
        covered = clean[row].copy()
        covered.flat[top] = 0
        image(axes[0], clean[row], f"a {stored.shown[row]}")
        image(axes[1], maps[row], "its gradient", cmap="RdBu_r", vmin=-largest, vmax=largest)
        image(axes[2], covered, "top 15 % covered")
    return figure


PICTURES: tuple[Callable[[Stored], Figure], ...] = (
    data, mlp, fgsm, curves, confusion, samples, saliency,
)  # fmt: skip


def main(folder: Path) -> None:
    """Draw them all."""
    stored = Stored(Run.load(folder))
    for draw in PICTURES:
        figure = draw(stored)
        figure.savefig(HERE / f"{draw.__name__}.png", dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
