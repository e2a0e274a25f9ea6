"""Datasets in the four files of MNIST: gzipped arrays of unsigned bytes in the IDX format."""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.dataset import Bytes, Source
from harness.data.download import RemoteFile, damaged, locate
from harness.data.packed import read_packed, unzip
from harness.errors import DataError

SLACK = 1 << 16
"""Bytes by which a file may be longer than the array in it, which some packers cannot shorten."""


@dataclass(frozen=True)
class IdxFile(RemoteFile):
    """A gzipped IDX file of unsigned bytes.

    A download must be the publisher's file. One that is found may have been compressed anew, as
    distributions do, so that it is known by its content.

    Attributes:
        shape: Shape of the array in it.
        content: SHA-256 of the unpacked file, in hexadecimal.
    """

    shape: tuple[int, ...]
    content: str

    @property
    def length(self) -> int:
        """Bytes of the unpacked file: the header's numbers of four bytes each, and the array."""
        return 4 * (1 + len(self.shape)) + math.prod(self.shape)


@dataclass(frozen=True)
class IdxDataset:
    """Images and labels for training and for testing, in a file each.

    Attributes:
        name: Name of the dataset, and of the folder that holds its files.
        files: Training images, training labels, test images, test labels.
        mirrors: Where they are downloaded from.
        classes: Name of each class, in the order of the labels.
        system: A folder in which the system's package manager puts them.
    """

    name: str
    files: tuple[IdxFile, IdxFile, IdxFile, IdxFile]
    mirrors: tuple[str, ...]
    classes: tuple[str, ...]
    system: Path | None = None

    def prepare(self) -> list[Path]:
        """Make sure that the four files are there and intact, downloading what is missing.

        Returns:
            Where each file is: in the folder of the dataset's name in ``$HARNESS_DATA_DIR``, else
            in ``data`` of the user cache, else in the system's.

        Raises:
            DataError: A file is damaged, or missing and cannot be downloaded.
        """
        paths = self._locate()
        for path, file in zip(paths, self.files, strict=True):
            read_idx(path, file, self.name)
        return paths

    def load(self) -> Source:
        """All images with pixels 0 … 255, those for training first, and their labels.

        Raises:
            DataError: A file is damaged, or missing and cannot be downloaded.
        """
        train_x, train_y, test_x, test_y = (
            read_idx(path, file, self.name)
            for path, file in zip(self._locate(), self.files, strict=True)
        )
        return Source(
            pixels=np.concatenate([train_x, test_x]),
            peak=255,
            y=np.concatenate([train_y, test_y]).astype(np.int64),
            classes=self.classes,
            published_train=len(train_y),
        )

    def _locate(self) -> list[Path]:
        return locate(self.name, self.files, self.mirrors, self._of_the_system)

    def _of_the_system(self, file: IdxFile) -> Path | None:
        """The system's copy of a file, unless it is another file of that name."""
        if self.system is None:
            return None
        try:
            read_idx(self.system / file.name, file, self.name)
        except DataError:
            return None
        return self.system / file.name


def read_idx(path: Path, file: IdxFile, dataset: str) -> Bytes:
    """The array in a file, after every check.

    The checksum alone would catch all damage. It comes last, because the other checks can tell
    what the damage is.

    Args:
        path: The file.
        file: What it must be.
        dataset: Name of the dataset that it belongs to, which errors name.

    Raises:
        DataError: The file cannot be read, or its content is not what was published.
    """
    packed = read_packed(path, file.length + SLACK, dataset)
    content = unzip(packed, path, file, file.length, dataset)
    array = parse_idx(content, path, file.shape, dataset)
    found = hashlib.sha256(content).hexdigest()
    if found != file.content:
        flaw = f"SHA-256 of its content is {found}, expected {file.content}"
        raise damaged(path, flaw, dataset)
    return array


def parse_idx(content: bytes, path: Path, shape: tuple[int, ...], dataset: str) -> Bytes:
    """The array of an IDX file of unsigned bytes, uint8 and read-only.

    An IDX file is a magic number (two zero bytes, 8 for unsigned bytes, the number of dimensions),
    the size of each dimension, and the values; its numbers are 32-bit big-endian.

    Args:
        content: The file, unpacked.
        path: Where it is from, which errors name.
        shape: The shape that it must have; its length gives the magic number, such as 2051 for
            images.
        dataset: Name of the dataset that the file belongs to, which errors name.

    Raises:
        DataError: Magic number, dimensions or length are not as expected.
    """
    header = struct.Struct(f">{1 + len(shape)}I")
    if len(content) < header.size:
        flaw = f"truncated: its header has {len(content)} of {header.size} bytes"
        raise damaged(path, flaw, dataset)
    magic, *sizes = header.unpack_from(content)
    expected_magic = 0x0800 + len(shape)
    if magic != expected_magic:
        raise damaged(path, f"magic number is {magic}, expected {expected_magic}", dataset)
    if tuple(sizes) != shape:
        raise damaged(path, f"holds {_times(sizes)} values, expected {_times(shape)}", dataset)
    values = len(content) - header.size
    if values < math.prod(shape):
        raise damaged(path, f"truncated: {values:,} of {math.prod(shape):,} values", dataset)
    if values > math.prod(shape):
        raise damaged(path, f"too long: more than {math.prod(shape):,} values", dataset)
    return np.frombuffer(content, np.uint8, offset=header.size).reshape(shape)


def _times(sizes: list[int] | tuple[int, ...]) -> str:
    return " × ".join(f"{size:,}" for size in sizes)
