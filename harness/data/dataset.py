"""A dataset in three parts, and the seeded stratified splits that make them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.protocol import Bounds
from harness.spec.models import DataSpec

Floats: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Integers: TypeAlias = npt.NDArray[np.int64]
Indices: TypeAlias = tuple[Integers, Integers, Integers]
"""Positions of the training, validation and test images in the full dataset."""


@dataclass(frozen=True, eq=False)
class Part:
    """Images for one purpose. The arrays are read-only, so that no attack can alter the data.

    Attributes:
        x: Images (n, *shape), floats within the bounds of the dataset; of somebody's own data they
            may be read when they are asked for.
        y: Labels (n,), int64, from 0 to the number of classes - 1.
        index: Position of each image in the full dataset, (n,), int64.
    """

    x: Floats
    y: Integers
    index: Integers

    def __post_init__(self) -> None:
        for name in ("x", "y", "index"):
            # A view: whoever made the array keeps the right to write to it.
            if not isinstance(getattr(self, name), np.ndarray):
                continue  # read anew each time
            view = getattr(self, name).view()
            view.setflags(write=False)
            object.__setattr__(self, name, view)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.y)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """A dataset, split.

    Attributes:
        name: Name in the registry, or where somebody's own images are from.
        train: What models are fitted to; None where there are test images alone.
        validation: What early stopping and searches look at; None likewise.
        test: What is measured.
        classes: Name of each class, in the order of the labels; empty where nobody has said them,
            and models do.
        bounds: Lowest and highest pixel value.
        channel_axis: Axis of one image that holds its channels, where that is said.
        notes: What was done to the images, a line each.
        sha256: Hash over pixels, labels and which image is in which part: two datasets with the
            same hash give the same numbers.
    """

    name: str
    train: Part | None = None
    validation: Part | None = None
    test: Part
    classes: tuple[str, ...]
    bounds: Bounds = (0.0, 1.0)
    channel_axis: int | None = None
    notes: tuple[str, ...] = ()
    sha256: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return tuple(self.test.x.shape[1:])

    def fitted(self) -> tuple[Part, Part]:
        """Training and validation images.

        Raises:
            DataError: There are none.
        """
        if self.train is None or self.validation is None:
            raise DataError(
                f"{self.name}: holds test images alone, so that no model can be trained on it; "
                "name training images: data.train, or let data.load return them, too"
            )
        return self.train, self.validation


@dataclass(frozen=True, eq=False)
class Source:
    """A dataset as published, before its split.

    Attributes:
        pixels: Images (n, *shape), uint8 from 0 to ``peak``. They stay bytes until they are split,
            which takes a quarter of the memory.
        peak: The pixel value that becomes 1.0.
        y: Labels (n,), int64.
        classes: Name of each class, in the order of the labels.
        published_train: So many images at the front are the publisher's training set, and the
            others its test set; None if the publisher made no such cut.
        channel_axis: Axis of one image that holds its channels; None for grey.
    """

    pixels: Bytes
    peak: int
    y: Integers
    classes: tuple[str, ...]
    published_train: int | None = None
    channel_axis: int | None = None


def split(source: Source, spec: DataSpec) -> Dataset:
    """Split a dataset as a spec says, and scale its pixels to float32 in [0, 1].

    Raises:
        DataError: The dataset has no canonical split, or the seed is out of range.
    """
    indices = split_indices(source, spec)
    train, validation, test = (_part(source, index) for index in indices)
    return Dataset(
        name=spec.source,
        train=train,
        validation=validation,
        test=test,
        classes=source.classes,
        channel_axis=source.channel_axis,
        sha256=_content_hash(source, indices),
    )


def split_indices(source: Source, spec: DataSpec) -> Indices:
    """Which images go into training, validation and test; each image goes into one of them.

    ``70-20-10`` rounds to whole images, and training takes what rounding leaves. What is drawn is
    in random order, so that the first images of a part are a fair sample of it; a canonical test
    set has its publisher's order unless the spec says that it is shuffled.

    Raises:
        DataError: The dataset has no canonical split, or the seed is out of range.
    """
    if spec.seed >= 2**32:
        raise DataError(f"data.seed: {spec.seed} is too large; use one below 2**32 = {2**32}")
    everything = np.arange(len(source.y), dtype=np.int64)
    if spec.split == "70-20-10":
        # Halves are rounded up, in integers: floats would round 0.5 to even.
        validation_size, test_size = ((share * len(everything) + 5) // 10 for share in (2, 1))
        rest, test = _draw(everything, source.y, test_size, spec.seed)
    else:
        if source.published_train is None:
            raise DataError(
                f"{spec.source}: its publisher made no test set, so there is no canonical split; "
                'use split = "70-20-10"'
            )
        validation_size = source.published_train // 6
        rest, test = np.split(everything, [source.published_train])
        if spec.split == "canonical-shuffled":
            test = np.random.default_rng(spec.seed).permutation(test)
    train, validation = _draw(rest, source.y, validation_size, spec.seed)
    return train, validation, test


def one_hot(y: npt.NDArray[np.integer], classes: int) -> Floats:
    """Labels (n,) as rows of zeros with a single one, (n, classes), float32.

    Raises:
        ValueError: A label is not in 0 … classes - 1.
    """
    if y.size and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(f"labels {y.min()} … {y.max()} do not fit {classes} classes")
    rows: Floats = np.eye(classes, dtype=np.float32)[y]
    return rows


def validation_of(y: Integers, seed: int) -> tuple[Integers, Integers]:
    """Positions of training and validation images: of each class a seeded sixth is the latter."""
    return _draw(np.arange(len(y), dtype=np.int64), y, len(y) // 6, seed)


def _draw(pool: Integers, y: Integers, size: int, seed: int) -> tuple[Integers, Integers]:
    """Take ``size`` images out of a pool, of each class its share: (what stays, what was taken)."""
    from sklearn.model_selection import train_test_split

    stays, taken = train_test_split(
        pool, test_size=size, train_size=len(pool) - size, stratify=y[pool], random_state=seed
    )
    return stays, taken


def _part(source: Source, index: Integers) -> Part:
    x = source.pixels[index].astype(np.float32)
    x /= np.float32(source.peak)
    return Part(x=x, y=source.y[index], index=index)


def _content_hash(source: Source, indices: Indices) -> str:
    digest = hashlib.sha256(f"peak {source.peak}".encode())
    for array in (source.pixels, source.y, *indices):
        # Type and shape go in too: without them, cuts at other places could hash alike.
        portable = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{portable.dtype.str} {portable.shape}".encode())
        digest.update(portable.tobytes())
    return digest.hexdigest()
