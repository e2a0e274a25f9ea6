"""What came of a part of the test images, before it is counted; and as it is stored and sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeAlias, TypeVar, get_args, get_type_hints

import numpy as np
import numpy.typing as npt

from harness.attacks.sweep import Swept
from harness.checks.validity import Basis, Known, Probed
from harness.protocol import BoolArray, FloatArray, IntArray

T = TypeVar("T")
Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class CleanPart:
    """Predictions on n images as they are.

    Attributes:
        labels: Predicted labels, (n,) int32; ``query.NO_LABEL`` of an image that is not answered.
        confidence: Softmax probability of the predicted class, (n,) float32; 0 likewise.
        signature: By which the model is identified, (m,) float32: see ``Run``; of the part with the
            first images only.
        why: Why an image is not answered; empty if all are.
        seconds: Wall time.
    """

    labels: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]
    signature: npt.NDArray[np.float32] | None
    why: str
    seconds: float


@dataclass(frozen=True)
class AttackedPart:
    """An attack on n images.

    Attributes:
        swept: What came of it.
        goals: The class that each image is to be taken for, (n,); None of untargeted attacks. Of
            an image that is not answered, ``query.NO_LABEL``.
        seconds: Wall time.
    """

    swept: Swept
    goals: IntArray | None
    seconds: float


@dataclass(frozen=True)
class CertifiedPart:
    """Which of n images are certified at e epsilons, (e, n) bool; and the wall time."""

    certified: BoolArray
    seconds: float


@dataclass(frozen=True)
class SmallestPart:
    """The smallest epsilons of n images, and pictures of the ends of their distribution.

    Attributes:
        epsilons: (n,) float64; see ``minimal.SmallestEpsilons``.
        index: Positions, among all test images, of the most fragile and most robust, (c,).
        images: These at their smallest epsilon, (c, *shape).
        labels: What they are taken for then, (c,) int32.
        seconds: Wall time.
    """

    epsilons: FloatArray
    index: IntArray
    images: FloatArray
    labels: IntArray
    seconds: float


Part: TypeAlias = CleanPart | AttackedPart | CertifiedPart | SmallestPart | Basis | Probed


@dataclass(frozen=True)
class Seen:
    """What a piece looks at, of other pieces of the same model.

    Attributes:
        arrays: What was counted, by key.
        known: What the checks of validity need not ask again.
    """

    arrays: Arrays = field(default_factory=dict)
    known: Known = field(default_factory=Known)


def packed(part: Any, prefix: str = "") -> tuple[dict[str, Any], Arrays]:
    """A part as JSON-like data, and its arrays by key; a tuple is one of such parts."""
    document: dict[str, Any] = {}
    arrays: Arrays = {}
    for one in fields(part):
        name = one.name
        value, key = getattr(part, name), f"{prefix}{name}"
        if is_dataclass(value):
            document[name], inner = packed(value, f"{key}.")
            arrays |= inner
        elif isinstance(value, tuple):
            document[name] = []
            for place, item in enumerate(value):
                said, inner = packed(item, f"{key}.{place}.")
                document[name].append({"kind": type(item).__name__, **said})
                arrays |= inner
        elif isinstance(value, np.ndarray):
            arrays[key] = value
        else:
            document[name] = value
    return document, arrays


def unpacked(kind: type[T], document: Mapping[str, Any], arrays: Arrays, prefix: str = "") -> T:
    """The part of a kind that was packed.

    Raises:
        KeyError: Something of it is missing.
    """
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name in (one.name for one in fields(kind)):  # type: ignore[arg-type]
        key = f"{prefix}{name}"
        if is_dataclass(hints[name]):
            values[name] = unpacked(hints[name], document[name], arrays, f"{key}.")
        elif isinstance(document.get(name), list):
            kinds = {one.__name__: one for one in get_args(get_args(hints[name])[0])}
            values[name] = tuple(
                unpacked(kinds[said["kind"]], said, arrays, f"{key}.{place}.")
                for place, said in enumerate(document[name])
            )
        else:
            values[name] = arrays[key] if key in arrays else document[name]
    return kind(**values)
