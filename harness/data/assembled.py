"""Somebody's own images as a dataset, like those of the harness."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import numpy as np

from harness.data.dataset import Dataset, Floats, Integers, Part, validation_of
from harness.data.own import OwnData, own_data
from harness.errors import DataError
from harness.files import data_path
from harness.maths.query import batches
from harness.protocol import Bounds, IntArray
from harness.spec.models import DataSpec

HASHED = 2**24
"""Bytes of the data that are hashed at a time."""


def own_dataset(spec: DataSpec, home: Path) -> Dataset:
    """The images that a spec names by ``load``, ``file`` or ``folder``.

    Args:
        spec: Says which.
        home: The folder that paths are relative to (``files.data_path``), and functions are looked
            for in.

    Raises:
        DataError: They are not there, or not what they should be; one line.
    """
    found = own_data(
        load=spec.load, options=spec.options, bounds=spec.bounds, size=spec.size,
        file=_path(spec.file, home),
        folder=_path(spec.folder, home),
        train=_path(spec.train, home),
        classes=spec.classes, home=home,
        channel_axis=None if spec.folder is None else spec.channel_axis,
    )  # fmt: skip
    return dataset_of(found, spec.bounds, spec.source, spec.seed, spec.channel_axis)


def _path(said: str | None, home: Path) -> Path | None:
    return None if said is None else data_path(said, home)


def dataset_of(
    own: OwnData, bounds: Bounds, source: str, seed: int = 0, channel_axis: int | None = None
) -> Dataset:
    """Images and labels as a dataset; of training images a seeded sixth is for validation."""
    if not len(own.y):
        raise DataError(f"{source}: holds no images")
    train = validation = None
    digest = hashlib.sha256(content_hash(own.x, own.y).encode())
    if own.train_x is not None and own.train_y is not None:
        labels = own.train_y.astype(np.int64)
        stays, taken = validation_of(labels, seed)
        train, validation = (
            Part(x=np.asarray(own.train_x[rows]), y=labels[rows], index=rows)
            for rows in (stays, taken)
        )
        digest.update(f"{content_hash(own.train_x, own.train_y)} {seed}".encode())
    return Dataset(
        name=source,
        train=train,
        validation=validation,
        # They may be read batch by batch; whoever measures takes them so.
        test=Part(x=cast("Floats", own.x), y=own.y.astype(np.int64), index=_all(len(own.y))),
        classes=own.classes or _numbered(own),
        bounds=bounds,
        channel_axis=channel_axis,
        notes=own.notes,
        sha256=content_hash(own.x, own.y) if train is None else digest.hexdigest(),
    )


def _numbered(own: OwnData) -> tuple[str, ...]:
    """Numbers for names, as many as there are labels to train on; none where models tell."""
    if own.train_y is None:
        return ()
    return tuple(str(label) for label in range(int(max(own.y.max(), own.train_y.max())) + 1))


def content_hash(images: Any, labels: IntArray) -> str:
    """SHA-256 of images and labels, by which the gate knows the same data; read in parts."""
    digest = hashlib.sha256()
    for array in (images, labels):
        digest.update(f"{array.dtype.str} {tuple(array.shape)}".encode())
        image = max(1, array.nbytes // max(1, len(array)))
        for part in batches(len(array), max(1, HASHED // image)):
            digest.update(np.ascontiguousarray(array[part]).data)
    return digest.hexdigest()


def _all(count: int) -> Integers:
    return np.arange(count, dtype=np.int64)
