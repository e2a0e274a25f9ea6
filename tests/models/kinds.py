"""What the lines of docs/models.md find when they are run: networks, images, files; and the count.

Every network has weights that are drawn here, and NumPy says how many images it classifies rightly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import backends_at_hand
import numpy as np
from backends_at_hand import at_hand

HEAVY = "HARNESS_TEST_MODELS"
"""Environment variable that makes a heavy package that is missing a failure."""
SIDE, CLASSES, FILTERS = 8, 3, 4
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.25)
MARGIN = 0.05
"""Least distance of the two largest logits, so that no rounding changes a prediction."""


@dataclass
class Given:
    """What is there before the lines of a row.

    Attributes:
        right: How many images the network classifies rightly, by NumPy.
        images: How many there are.
        attack: The attack that is to be recorded.
        names: What the lines use.
    """

    right: int
    images: int
    attack: str = "fgsm"
    names: dict[str, Any] = field(default_factory=dict)


SETUPS: dict[str, Callable[[], Given]] = {}
"""By the kind, as the document calls it."""


def kind(
    name: str, *backends: str, heavy: str = ""
) -> Callable[[Callable[[], Given]], Callable[[], Given]]:
    """Register a setup, with the backends and the heavy package that it needs."""

    def register(make: Callable[[], Given]) -> Callable[[], Given]:
        def setup() -> Given:
            for backend in backends:
                at_hand(backend)
            if heavy:
                package_at_hand(heavy)
            return make()

        assert name not in SETUPS, name
        SETUPS[name] = setup
        return make

    return register


def package_at_hand(name: str) -> Any:
    """A heavy package; where it is missing the test is skipped, or failed if it had to be there."""
    demanded = f"{HEAVY} is set" if os.environ.get(HEAVY) == "1" else ""
    return backends_at_hand.package_at_hand(name, demanded, "; tox -e models has it")


@dataclass(frozen=True)
class Weights:
    """A convolution of 3 × 3, ReLU, and a linear layer over all that it gives, (h, w, filters)."""

    kernel: np.ndarray
    bias: np.ndarray
    dense: np.ndarray
    last: np.ndarray

    @classmethod
    def drawn(cls, classes=CLASSES, channels=3, seed=0, normalised=False):
        random = np.random.default_rng(seed)
        inner = (SIDE - 2) ** 2 * FILTERS
        drawn = (
            random.normal(0, 0.4, (3, 3, channels, FILTERS)), random.normal(0, 0.1, FILTERS),
            random.normal(0, 0.3, (inner, classes)), np.zeros(classes),
        )  # fmt: skip
        found = cls(*(array.astype(np.float32) for array in drawn))
        return found.balanced(normalised=normalised)

    def balanced(self, normalised=False):
        """The same, so that no class is preferred."""
        shades = images_drawn(300, (SIDE, SIDE, self.kernel.shape[2]))
        last = self.last - self.scores(shades, normalised).mean(axis=0)
        return replace(self, last=last.astype(np.float32))

    def centred(self, normalised=False):
        """One to which pixels at the rim mean nothing."""
        inner = SIDE - 2
        dense = self.dense.reshape(inner, inner, FILTERS, -1).copy()
        rim = np.ones((inner, inner), dtype=bool)
        rim[2:-2, 2:-2] = False
        dense[rim] = 0
        found = replace(self, dense=dense.reshape(self.dense.shape))
        return found.balanced(normalised=normalised)

    def hidden(self, x):
        """What the linear layer is given, (n, 6 * 6 * filters), of images (n, h, w, c)."""
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
        return np.maximum(np.einsum("nhwcij,ijcf->nhwf", windows, self.kernel) + self.bias, 0)

    def scores(self, x, normalised=False):
        """Logits of images (n, h, w, c), in float64."""
        x = np.asarray(x, dtype=np.float64)
        if normalised:
            x = (x - np.array(MEAN)) / np.array(STD)
        return self.hidden(x).reshape(len(x), -1) @ self.dense.astype(np.float64) + self.last

    @property
    def channels_first(self):
        """The linear layer over (filters, h, w)."""
        inner = SIDE - 2
        return (
            self.dense.reshape(inner, inner, FILTERS, -1).transpose(2, 0, 1, 3)
            .reshape(inner * inner * FILTERS, -1)
        )  # fmt: skip


def images_drawn(count, shape, seed=0):
    """Images (n, *shape) in [0, 1], each noise around a shade of its own."""
    random = np.random.default_rng(seed)
    shades = random.random((count, *[1] * (len(shape) - 1), shape[-1]))
    return (0.5 * random.random((count, *shape)) + 0.5 * shades).astype(np.float32)


def labelled(score, count=30, shape=(SIDE, SIDE, 3), of_bytes=False, seed=1):
    """Images (n, *shape) that are clearly of one class, and labels of which a fifth is wrong.

    The last class of a score that is one number an image is that above zero.
    """
    drawn = images_drawn(40 * count, shape, seed)
    if of_bytes:
        drawn = (np.rint(drawn * 255) / 255).astype(np.float32)
    said = two(score(drawn))
    ordered = np.sort(said, axis=1)
    clear = np.flatnonzero(ordered[:, -1] - ordered[:, -2] > MARGIN * ordered.std())
    found = said.argmax(axis=1)[clear]
    classes = said.shape[1]
    chosen = [clear[found == label][: count // classes] for label in range(classes)]
    assert min(map(len, chosen)) >= 3, "the network prefers one class"
    places = np.random.default_rng(0).permutation(np.concatenate(chosen))
    x, y = drawn[places], said[places].argmax(axis=1)
    y[::5] = (y[::5] + 1) % classes
    return x, y.astype(np.int64)


def two(scores):
    """One number an image as the logits of two classes."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim == 1 or scores.shape[1] == 1:
        scores = np.stack([np.zeros(len(scores)), scores.reshape(-1)], axis=1)
    return scores


def right(score, x, y):
    """How many images a score of NumPy's classifies rightly."""
    return int((two(score(x)).argmax(axis=1) == y).sum())


def first(x):
    """Images (n, h, w, c) as (n, c, h, w)."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def given(score, x, y, attack="fgsm", **names):
    """A row's setup, of images (n, h, w, c) or as the score takes them."""
    return Given(right(score, x, y), len(x), attack, {"x": x, "y": y} | names)


def module(text):
    """A module ``my_project`` in the current directory."""
    Path("my_project.py").write_text(text, encoding="utf-8")
    sys.modules.pop("my_project", None)
