"""The keys of a run's arrays, as ``run.Run`` lists them: what may lie under which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy.typing as npt

from harness.names import checked_name

Rule: TypeAlias = tuple[str, str, tuple[int, int]]
IMAGES = (2, 32)
"""Dimensions of a stack of images, whatever their own shape: from 2 to as many as NumPy has."""
ONE = r"[^/]+"
# A pattern of what follows BACKEND/MODEL/, kinds of dtype, and how many dimensions.
RULES: tuple[Rule, ...] = (
    (r".+/predictions", "iu", (1, 1)),
    (r"signature", "f", (1, 1)),
    (rf"minimal-epsilon/{ONE}", "f", (1, 1)),
    (rf"minimal-epsilon/{ONE}/extremes/(index|labels)", "iu", (1, 1)),
    (rf"minimal-epsilon/{ONE}/extremes/(clean|fallen)", "f", IMAGES),
    (r"examples/(index|moved/labels)", "iu", (1, 1)),
    (rf"examples/{ONE}/confidence", "f", (1, 1)),
    (r"examples/saliency/top", "b", IMAGES),
    (rf"examples/(moved/)?maps/{ONE}", "f", IMAGES),
    (rf"examples/cascade/{ONE}", "f", (3, 32)),
    (rf"examples/{ONE}", "f", IMAGES),
    (rf"saliency/random/{ONE}/interval", "f", (3, 3)),
    (r"saliency/random/(accuracy|confidence)", "f", (3, 3)),
    (rf"saliency/{ONE}/(top|least)/(accuracy|confidence)", "f", (2, 2)),
    (rf"saliency/{ONE}/(deletion|insertion|stability|strokes)", "f", (1, 1)),
    (rf"saliency/{ONE}/cascade", "f", (2, 2)),
)
ANY: Rule = ("", "biuf", (1, 32))
"""What may lie under a key of a later version."""


def check_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse arrays that cannot be what their keys say.

    Raises:
        ValueError: A key is none, or an array is of another kind or number of dimensions; or there
            are more predictions than labels.
    """
    for key, array in arrays.items():
        _, kinds, (fewest, most) = rule = _rule(key)
        if array.dtype.kind not in kinds or not fewest <= array.ndim <= most:
            wanted = "" if rule is ANY else f", not {_wanted(kinds, fewest, most)}"
            raise ValueError(f"{key} is {array.dtype} of shape {array.shape}{wanted}")
        labels = arrays.get("labels")
        if key.endswith("/predictions") and labels is not None and len(array) > len(labels):
            raise ValueError(f"{key} holds {len(array)} labels, but there are {len(labels)} images")


def _rule(key: str) -> Rule:
    if key == "labels":
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
