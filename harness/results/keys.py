"""The keys of a run's arrays, ``BACKEND/MODEL/...``: how they are spelled, and what lies there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

from harness.names import checked_name

LABELS = "labels"
"""True labels of the test images, for the whole run: the one key without backend and model."""
SIGNATURE = "signature"
CERTIFIED = "certified/"
"""What the names of certifiers follow in the names of their checks."""
INDEX = "examples/index"
MAPS = "examples/saliency"
"""The maps by which pixels are occluded, of the examples."""
TOP = f"{MAPS}/top"


def of(backend: str, model: str, name: str) -> str:
    """The whole key of what one model has under a name."""
    return f"{backend}/{model}/{name}"


def at(check: str, epsilon: float | None = None) -> str:
    """A check at an epsilon: ``clean``, ``fgsm@0.1``."""
    return check if epsilon is None else f"{check}@{epsilon:g}"


def predictions(check: str, epsilon: float | None = None) -> str:
    """Predicted labels."""
    return f"{at(check, epsilon)}/predictions"


def certificate(name: str) -> str:
    """What records call a certifier."""
    return f"{CERTIFIED}{name}"


def is_certified(check: str) -> bool:
    """Whether records of that name hold certified accuracies."""
    return check.startswith(CERTIFIED)


def certifier_of(check: str) -> str | None:
    """The certifier whose accuracies records of that name hold; None of other records."""
    return check.removeprefix(CERTIFIED) if is_certified(check) else None


def certified(name: str, epsilon: float | None) -> str:
    """Which images a certifier certifies at an epsilon."""
    return f"{at(certificate(name), epsilon)}/certified"


def example(name: str, part: Literal["", "confidence", "labels"] = "") -> str:
    """The examples under a name, such as ``clean`` or ``fgsm@0.1``; or what is said of them."""
    return f"examples/{name}/{part}" if part else f"examples/{name}"


def maps(method: str, *, moved: bool = False) -> str:
    """A saliency method's maps of the examples, or of the examples under FGSM."""
    return f"examples/{'moved/' if moved else ''}maps/{method}"


def cascade_maps(method: str) -> str:
    """A method's maps by models of which more and more layers are random."""
    return f"examples/cascade/{method}"


def curve(method: str, name: str) -> str:
    """What a method's maps say of the first images, by the names of ``saliency.analysis``."""
    return f"saliency/{method}/{name}"


def smallest(method: str) -> str:
    """The smallest epsilons at which images are misclassified; the check has this name too."""
    return f"minimal-epsilon/{method}"


def extremes(method: str, part: str) -> str:
    """The most fragile and the most robust of these images."""
    return f"{smallest(method)}/extremes/{part}"


def is_picture(name: str) -> bool:
    """Whether what one model has under a name are pictures, for which there is bounded room."""
    last = name.rpartition("/")[2]
    if "/extremes/" in name:
        return last in ("clean", "adversarial")
    return name.startswith("examples/") and last not in ("index", "labels", "confidence")


Rule: TypeAlias = tuple[str, str, tuple[int, int]]
IMAGES = (2, 32)
"""Dimensions of a stack of images, whatever their own shape: from 2 to as many as NumPy has."""
ONE = r"[^/]+"
# A pattern of what follows BACKEND/MODEL/, kinds of dtype, and how many dimensions.
RULES: tuple[Rule, ...] = (
    (predictions(".+"), "iu", (1, 1)),
    (f"{certificate(ONE)}/certified", "b", (1, 1)),
    (SIGNATURE, "f", (1, 1)),
    (smallest(ONE), "f", (1, 1)),
    (extremes(ONE, "(index|labels)"), "iu", (1, 1)),
    (extremes(ONE, "(clean|adversarial)"), "f", IMAGES),
    (INDEX, "iu", (1, 1)),
    (example("moved", "labels"), "iu", (1, 1)),
    (example(ONE, "confidence"), "f", (1, 1)),
    (TOP, "b", IMAGES),
    (maps(ONE), "f", IMAGES),
    (maps(ONE, moved=True), "f", IMAGES),
    (cascade_maps(ONE), "f", (3, 32)),
    (example(ONE), "f", IMAGES),
    (curve("random", f"{ONE}/interval"), "f", (3, 3)),
    (curve("random", "(accuracy|confidence)"), "f", (3, 3)),
    (curve(ONE, "(top|least)/(accuracy|confidence)"), "f", (2, 2)),
    (curve(ONE, "(deletion|insertion|stability|strokes)"), "f", (1, 1)),
    (curve(ONE, "cascade"), "f", (2, 2)),
)
ANY: Rule = ("", "biuf", (1, 32))
"""What may lie under a key of a later version."""


def check_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse arrays that cannot be what their keys say.

    Raises:
        ValueError: A key is none, or an array is of another kind or number of dimensions; or there
            are more predictions or certificates than labels.
    """
    for key, array in arrays.items():
        _, kinds, (fewest, most) = rule = _rule(key)
        if array.dtype.kind not in kinds or not fewest <= array.ndim <= most:
            wanted = "" if rule is ANY else f", not {_wanted(kinds, fewest, most)}"
            raise ValueError(f"{key} is {array.dtype} of shape {array.shape}{wanted}")
        labels = arrays.get(LABELS)
        of_images = key.endswith(("/predictions", "/certified"))
        if of_images and labels is not None and len(array) > len(labels):
            raise ValueError(f"{key} holds {len(array)} values, but there are {len(labels)} images")


def _rule(key: str) -> Rule:
    if key == LABELS:
        return (key, "iu", (1, 1))
    parts = key.split("/")
    for part in parts:
        checked_name(part)
    rest = "/".join(parts[2:])
    return next((rule for rule in RULES if re.fullmatch(rule[0], rest)), ANY)


def _wanted(kinds: str, fewest: int, most: int) -> str:
    words = {"iu": "integers", "f": "floats", "b": "truth values"}[kinds]
    many = str(fewest) if fewest == most else f"{fewest} or more"
    return f"{words} in {many} dimension{'s' if many != '1' else ''}"
