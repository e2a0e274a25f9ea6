"""The images that ``evaluate`` is given, in whatever they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.data.assembled import dataset_of
from harness.data.dataset import Dataset
from harness.data.own import OwnData, from_arrays, from_object, own_data
from harness.errors import HarnessError, one_line
from harness.factory import is_function
from harness.protocol import Bounds


def data_from(
    x: Any,
    y: Any,
    bounds: Bounds,
    *,
    classes: Sequence[str] | None = None,
    train: Any = None,
    seed: int = 0,
    channel_axis: int | None = None,
) -> Dataset:
    """Test images and labels, and training images, as a dataset.

    Args:
        x: Images, or what gives images and labels, as in ``evaluate``.
        y: Labels, or None.
        bounds: Lowest and highest pixel value of the model.
        classes: Name of each class.
        train: Training images and labels, (x, y).
        seed: Of the split of the latter.
        channel_axis: Axis of one image that holds its channels.

    Raises:
        HarnessError: They are not what they should be.
    """
    found, source = _found(x, y, bounds, channel_axis)
    named = found.classes if classes is None else _names(classes)
    learned = None if train is None else _pair(train, bounds)
    own = OwnData(
        x=found.x, y=found.y, classes=named, notes=found.notes, source=source,
        train_x=learned.x if learned else found.train_x,
        train_y=learned.y if learned else found.train_y,
    )  # fmt: skip
    return dataset_of(own, bounds, source, seed, channel_axis)


def _found(x: Any, y: Any, bounds: Bounds, channel_axis: int | None) -> tuple[OwnData, str]:
    if y is not None:
        return from_arrays(x, y, bounds), "arrays"
    if isinstance(x, str | Path):
        path = Path(x)
        if isinstance(x, str) and is_function(x):
            return own_data(load=x, bounds=bounds), x
        if path.is_dir():
            return own_data(folder=path, bounds=bounds, channel_axis=channel_axis), str(x)
        return own_data(file=path, bounds=bounds), str(x)
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        raise HarnessError("y: missing; pass the true labels, (n,) integers, beside the images")
    found = from_object(x, bounds, type(x).__name__)
    return found, found.source


def _pair(train: Any, bounds: Bounds) -> OwnData:
    if not isinstance(train, tuple | list) or len(train) != 2:
        raise HarnessError(one_line(f"train: {type(train).__name__} is not (x, y)"))
    return from_arrays(train[0], train[1], bounds, name="train")


def _names(classes: Any) -> tuple[str, ...]:
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise HarnessError(one_line(f"classes: {classes!r} are not names, one for each class"))
    return tuple(classes)
