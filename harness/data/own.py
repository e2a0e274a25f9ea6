"""Somebody's own test images: arrays, a loader, a file, a folder, or what a function returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.arrays import images_from, labels_from, notes_on
from harness.data.batches import IMAGE_KEYS, LABEL_KEYS, items_of, names_of, read_batches
from harness.data.dataset import Dataset
from harness.data.folder import read_folder
from harness.data.npz import NAMES, TEST, TRAIN, read_npz
from harness.errors import DataError, HarnessError
from harness.factory import called
from harness.maths.conversion import JOIN
from harness.protocol import Bounds, Images, IntArray

UNIT: Bounds = (0.0, 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class OwnData:
    """Somebody's own test images.

    Attributes:
        x: Images, (n, *shape) within the bounds.
        y: Their labels, (n,) int64 from 0.
        classes: Names of the classes, where the source has them.
        train_x: Training images, where there are some, in the same shape.
        train_y: Their labels.
        notes: What was done to the images, and what is doubtful about them, a line each.
        source: A file, a folder, ``package.module:function`` or ``arrays``.
    """

    x: Images
    y: IntArray
    classes: tuple[str, ...] | None
    train_x: Images | None = None
    train_y: IntArray | None = None
    notes: tuple[str, ...] = ()
    source: str = "arrays"


def from_arrays(x: Any, y: Any, bounds: Bounds, *, name: str = "x") -> OwnData:
    """Images and labels that are in memory: of NumPy, lists, or tensors of any framework.

    Args:
        x: Images, (n, *shape), floats within the bounds; or bytes, which are divided by 255 where
            the bounds are [0, 1].
        y: Labels, (n,) or (n, 1) integers from 0.
        bounds: Lowest and highest pixel value.
        name: What messages call the images.

    Raises:
        HarnessError: They are not; the message says what to do.
    """
    images, notes = images_from(x, bounds, name)
    labels = labels_from(y)
    if len(images) != len(labels):
        batched = images.ndim > 2 and len(labels) == images.shape[0] * images.shape[1]
        remedy = f"; {JOIN}" if batched and isinstance(x, list | tuple) else ""
        raise HarnessError(
            f"{name} has {len(images)} images, but y has {len(labels)} labels{remedy}"
        )
    return OwnData(x=images, y=labels, classes=None, notes=(*notes, *notes_on(labels)))


def from_batches(batches: Iterable[Any], bounds: Bounds, name: str = "batches") -> OwnData:
    """Images and labels in batches, which are read once: of a DataLoader, tf.data, a generator.

    Args:
        batches: Pairs (x, y), or dicts of both, such as ``{"image": ..., "label": ...}``.
        bounds: Lowest and highest pixel value.
        name: What messages call them.

    Raises:
        HarnessError: A batch is none, or does not fit the first; the message says which.
    """
    x, y, notes = read_batches(batches, bounds, name)
    return OwnData(x=x, y=y, classes=names_of(batches), notes=(*notes, *notes_on(y)), source=name)


def from_npz(path: Path, bounds: Bounds) -> OwnData:
    """The arrays of an ``.npz``: x and y, images and labels, x_test and y_test, and the like.

    Raises:
        HarnessError: It is damaged, or has no such arrays; the message names the file and the key.
    """
    found = read_npz(path, bounds)
    return OwnData(
        x=found.x, y=found.y, classes=found.classes, train_x=found.train_x, train_y=found.train_y,
        notes=(*found.notes, *notes_on(found.y)), source=str(path),
    )  # fmt: skip


def from_folder(
    path: Path,
    bounds: Bounds,
    size: tuple[int, int] | None,
    classes: Sequence[str] | None = None,
    channel_axis: int | None = None,
) -> OwnData:
    """A subfolder a class, PNG or JPEG; see ``folder.read_folder``.

    Raises:
        DataError: It is no such folder, or a file cannot be taken; the message names it.
    """
    x, y, names, notes = read_folder(path, bounds, size, classes, channel_axis)
    return OwnData(x=x, y=y, classes=names, notes=notes, source=str(path))


def from_object(found: Any, bounds: Bounds, source: str) -> OwnData:
    """What a function of somebody's returned.

    Args:
        found: Arrays (x, y) or a dict of them; ((x_train, y_train), (x_test, y_test)), in tuples; a
            ``harness.data.Dataset``; an object with ``__len__`` and ``__getitem__`` that gives
            (image, label); or an iterable of batches, such as a DataLoader or a list.
        bounds: Lowest and highest pixel value.
        source: What messages call it.

    Raises:
        HarnessError: It is none of these; the message says what it is.
    """
    if isinstance(found, OwnData):
        return replace(found, source=source)
    if isinstance(found, Dataset):
        return _from_dataset(found, bounds, source)
    if isinstance(found, Mapping):
        return _from_mapping(found, bounds, source)
    if isinstance(found, tuple) and len(found) == 2:
        if all(_is_pair(part) for part in found):
            train, test = (_named(from_arrays(part[0], part[1], bounds), source) for part in found)
            return replace(test, train_x=train.x, train_y=train.y)
        return _named(from_arrays(found[0], found[1], bounds, name=f"{source}: x"), source)
    if isinstance(found, tuple):
        raise HarnessError(
            f"{source}: a tuple of {len(found)}; return (x, y), or ((x_train, y_train), (x_test, "
            "y_test))"
        )
    if hasattr(found, "__getitem__") and hasattr(found, "__len__") and not isinstance(found, list):
        if hasattr(found, "shape"):
            raise HarnessError(f"{source}: one array; return images and labels, (x, y)")
        x, y, notes = read_batches(items_of(found), bounds, source, sampled=True)
        return OwnData(
            x=x, y=y, classes=names_of(found), notes=(*notes, *notes_on(y)), source=source
        )
    if isinstance(found, Iterable) and not isinstance(found, str | bytes):
        return from_batches(found, bounds, source)
    raise HarnessError(
        f"{source}: {type(found).__name__} is no data; return arrays (x, y), a Dataset, or an "
        "iterable of batches"
    )


def own_data(
    *,
    file: str | Path | None = None,
    folder: str | Path | None = None,
    load: str | None = None,
    options: Mapping[str, Any] | None = None,
    train: str | Path | None = None,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    bounds: Bounds = UNIT,
    channel_axis: int | None = None,
    home: Path | None = None,
) -> OwnData:
    """Test images from one of three sources.

    Args:
        file: An ``.npz``.
        folder: One with a subfolder a class.
        load: ``package.module:function``, called with the options.
        options: Arguments of the function, by their names.
        train: Training images, from a source of the same kind.
        size: (height, width) that the images of a folder are resized to.
        classes: Names of the classes in the order of the labels; those of the source if None.
        bounds: Lowest and highest pixel value.
        channel_axis: The axis that is to hold the channels of a folder's images.
        home: Where functions are looked for, besides the current directory.

    Raises:
        HarnessError: There is other than one source, or it cannot be taken.
    """
    sources = {"file": file, "folder": folder, "load": load}
    given = [key for key, value in sources.items() if value is not None]
    if len(given) != 1:
        said = " and ".join(given) if given else "none"
        raise HarnessError(f"data: give one of file, folder and load, not {said}")
    (kind,) = given
    for key, value, of in (
        ("size", size, "folder"), ("channel_axis", channel_axis, "folder"),
        ("options", options or None, "load"),
    ):  # fmt: skip
        if value is not None and kind != of:
            raise HarnessError(f"data.{key}: is for {of} = ..., and the data is a {kind}; leave it")
    names = None if classes is None else _distinct(classes)

    def one(source: Any, names: Sequence[str] | None) -> OwnData:
        if kind == "file":
            return from_npz(_npz(Path(source).expanduser()), bounds)
        if kind == "folder":
            return from_folder(Path(source).expanduser(), bounds, size, names, channel_axis)
        return from_object(called(source, options or {}, home), bounds, source)

    data = one(sources[kind], names)
    if names is not None:
        data = replace(data, classes=tuple(names))
    if train is not None:
        part = one(train, data.classes if kind == "folder" else None)
        data = replace(data, train_x=part.x, train_y=part.y)
    _check(data)
    return data


def _check(data: OwnData) -> None:
    """Labels have names, where there are names, and training images the shape of test images.

    Raises:
        HarnessError: They do not.
    """
    for labels, part in ((data.y, "labels"), (data.train_y, "training labels")):
        if labels is None or not len(labels):
            continue
        low, high = int(labels.min()), int(labels.max())
        if low < 0:
            raise HarnessError(f"{data.source}: {part} begin at {low}; number the classes from 0")
        if data.classes is not None and high >= len(data.classes):
            count = len(data.classes)
            why = "; number the classes from 0" if low == 1 and high == count else ""
            raise HarnessError(
                f"{data.source}: {part} go up to {high}, and {count} classes have names, from 0: "
                f"label {high} has none{why or '; name it in classes'}"
            )
    if data.train_x is not None and data.train_x.shape[1:] != data.x.shape[1:]:
        raise HarnessError(
            f"{data.source}: training images have the shape {data.train_x.shape[1:]}, and test "
            f"images {data.x.shape[1:]}; bring both to one"
        )


def _from_dataset(found: Dataset, bounds: Bounds, source: str) -> OwnData:
    if found.bounds != bounds:
        raise HarnessError(
            f"{source}: the dataset has the bounds {list(found.bounds)}, not {list(bounds)}; say "
            f"bounds = {list(found.bounds)}"
        )
    x, y = images_from(found.test.x, bounds, f"{source}: test.x")[0], labels_from(found.test.y)
    train = found.train
    return OwnData(
        x=x, y=y, classes=tuple(found.classes) or None, source=found.name or source,
        train_x=train.x if train else None, train_y=train.y if train else None,
        notes=found.notes,
    )  # fmt: skip


def _from_mapping(found: Mapping[Any, Any], bounds: Bounds, source: str) -> OwnData:
    """A dict of arrays, under the names that they have in an ``.npz`` or in a batch."""
    batch = [(x, y) for x in IMAGE_KEYS for y in LABEL_KEYS]
    pair = next(((x, y) for x, y in (*TEST, *batch) if x in found and y in found), None)
    if pair is None:
        there = ", ".join(str(key) for key in found) or "nothing"
        raise HarnessError(f"{source}: has no images and labels named x and y; it holds {there}")
    data = _named(from_arrays(found[pair[0]], found[pair[1]], bounds), source)
    if train := next(((x, y) for x, y in TRAIN if x in found and y in found), None):
        part = from_arrays(found[train[0]], found[train[1]], bounds, name=train[0])
        data = replace(data, train_x=part.x, train_y=part.y)
    names = next((found[key] for key in NAMES if key in found), None)
    return data if names is None else replace(data, classes=tuple(str(one) for one in names))


def _named(data: OwnData, source: str) -> OwnData:
    return replace(data, source=source)


def _is_pair(part: Any) -> bool:
    return isinstance(part, tuple | list) and len(part) == 2 and np.ndim(part[0]) >= 2


def _npz(path: Path) -> Path:
    if path.suffix.lower() != ".npz":
        raise DataError(
            f"{path}: is no .npz; write one by np.savez('test.npz', x=images, y=labels), or give a "
            "folder, or load"
        )
    return path


def _distinct(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes)
    for name in names:
        if names.count(name) > 1:
            raise HarnessError(f"classes: {name} is there {names.count(name)} times; once is right")
    return names
