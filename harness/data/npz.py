"""Test images in an ``.npz``: those that do not fit into memory are read from it in place."""

from __future__ import annotations

import math
import struct
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from harness.data.arrays import (
    check_pixels,
    divisor_of,
    images_from,
    labels_from,
    require_images,
    require_pairs,
)
from harness.data.images import CHUNK, IN_MEMORY, Stored, floats_of, require_room, temporary, write
from harness.errors import DataError, HarnessError, one_line
from harness.progress import progress_bar
from harness.protocol import Bounds, Images, IntArray

TEST = (
    ("x_test", "y_test"), ("test_x", "test_y"), ("test_images", "test_labels"),
    ("images_test", "labels_test"), ("test_data", "test_labels"), ("x", "y"),
    ("images", "labels"), ("image", "label"), ("data", "labels"), ("data", "target"),
    ("inputs", "targets"), ("pixel_values", "labels"), ("arr_0", "arr_1"),
)  # fmt: skip
"""Names of test images and their labels, the first that are there; in any case of letters."""
TRAIN = (
    ("x_train", "y_train"), ("train_x", "train_y"), ("train_images", "train_labels"),
    ("images_train", "labels_train"), ("train_data", "train_labels"),
)  # fmt: skip
NAMES = ("classes", "class_names", "label_names", "names")
"""Names of an array of the classes' names."""
LARGEST_LABELS = 1 << 30
"""Bytes that labels, or names of classes, take at most."""
LOCAL = struct.Struct("<4s22xHH")
"""What stands before a member of a zip: a signature, ..., the lengths of its name and its extra."""
ENCRYPTED = 1


@dataclass(frozen=True)
class Found:
    """What an ``.npz`` holds.

    Attributes:
        x: Test images.
        y: Their labels.
        train_x: Training images, where there are some.
        train_y: Their labels.
        classes: Names of the classes, likewise.
        notes: What was done to the images.
    """

    x: Images
    y: IntArray
    train_x: Images | None
    train_y: IntArray | None
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """An array in a zip, of which the header alone has been read.

    Attributes:
        info: Its entry in the directory.
        shape: Of the array.
        fortran: Whether the first index runs fastest.
        dtype: Of its numbers, or text.
        start: Where the numbers begin, in bytes from the beginning of the member.
    """

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(path: Path, bounds: Bounds) -> Found:
    """The test images of an ``.npz``, their labels, and what else it tells.

    No pickle is loaded. What would take more than ``IN_MEMORY`` as floats is read in place, or
    unpacked once into a temporary file, if it is compressed.

    Raises:
        HarnessError: The file is missing, damaged, or has no such arrays; the message names the
            file and the key.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        remedy = "write one by np.savez(file, x=images, y=labels)"
        raise DataError(one_line(f"{path}: is no .npz ({error}); {remedy}")) from error
    with archive:
        return _Reader(path, archive).found(bounds)


class _Reader:
    """An open ``.npz``."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        self._infos = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}

    def found(self, bounds: Bounds) -> Found:
        test = self._pair(TEST)
        if test is None:
            raise DataError(f"{self._path}: {self._lacking()}")
        x, y, notes = self._part(*test, bounds)
        train_x = train_y = None
        if (train := self._pair(TRAIN)) is not None:
            train_x, train_y, _ = self._part(*train, bounds)
        key = self._key(NAMES)
        classes = None if key is None else self._names(key)
        return Found(x, y, train_x, train_y, classes, notes)

    def _part(
        self, image_key: str, label_key: str, bounds: Bounds
    ) -> tuple[Images, IntArray, tuple[str, ...]]:
        y = labels_from(self._small(label_key), f"{self._path}: {label_key}")
        x, notes = self._images(image_key, bounds)
        require_pairs(x, y, f"{self._path}: {image_key}", label_key)
        return x, y, notes

    def _pair(self, pairs: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
        for names in pairs:
            found = [self._key([name]) for name in names]
            if found[0] is not None and found[1] is not None:
                return found[0], found[1]
        return None

    def _key(self, names: Iterable[str]) -> str | None:
        for name in names:
            if name in self._infos:
                return name
            if found := next((key for key in self._infos if key.lower() == name), None):
                return found
        return None

    def _lacking(self) -> str:
        there = ", ".join(self._infos) or "nothing"
        for image_name, label_name in TEST:
            if (key := self._key([image_name])) is not None:
                return f"has images, {key}, but no labels for them, {label_name}; it holds {there}"
        return f"has no images and labels named x and y; it holds {there}"

    def _member(self, key: str) -> Member:
        """The header of an array, which has been found to want just what the directory says."""
        info, name = self._infos[key], f"{self._path}: {key}"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{name}: is packed in an unusual way; use np.savez_compressed")
        if info.flag_bits & ENCRYPTED:
            raise DataError(f"{name}: is encrypted; store it without a password")
        try:
            with self._archive.open(info) as member, warnings.catch_warnings():
                warnings.simplefilter("error")  # of what only Python 2 would have written
                version = np.lib.format.read_magic(member)
                if version not in ((1, 0), (2, 0)):
                    raise ValueError("of another version of the format")
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = read(member)
                start = member.tell()
        except Exception as error:  # zipfile, zlib and NumPy each raise several of their own
            raise DataError(one_line(f"{name}: is damaged, or no array ({error})")) from error
        if dtype.hasobject:
            raise DataError(
                f"{name}: holds Python objects, as a pickle, which is not loaded; store an array "
                "of numbers (np.stack)"
            )
        found = Member(info, shape, fortran, dtype, start)
        if min(shape, default=0) < 0 or found.nbytes + start != info.file_size:
            raise DataError(f"{name}: is damaged: its length is not that of the shape {shape}")
        return found

    def _small(self, key: str) -> npt.NDArray[Any]:
        member = self._member(key)
        if member.nbytes > LARGEST_LABELS:
            raise DataError(f"{self._path}: {key}: has {member.nbytes:,} bytes; are these labels?")
        return self._whole(key, member)

    def _whole(self, key: str, member: Member) -> npt.NDArray[Any]:
        try:
            with self._archive.open(member.info) as packed:
                array = np.lib.format.read_array(packed, allow_pickle=False)
                packed.read(1)  # at the end the checksum is compared
        except Exception as error:
            raise DataError(one_line(f"{self._path}: {key}: is damaged ({error})")) from error
        return array

    def _names(self, key: str) -> tuple[str, ...] | None:
        """Names of classes; something else under that name is none of them."""
        names = self._small(key)
        if names.ndim != 1 or names.dtype.kind not in "US":
            return None
        return tuple(
            name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            for name in names
        )

    def _images(self, key: str, bounds: Bounds) -> tuple[Images, tuple[str, ...]]:
        member, name = self._member(key), f"{self._path}: {key}"
        floats = math.prod(member.shape) * floats_of(member.dtype).itemsize
        # In the other order no image lies in one piece.
        if floats <= IN_MEMORY or member.fortran:
            return images_from(self._whole(key, member), bounds, name)
        require_images(member.shape, name)
        divisor, notes = divisor_of(member.dtype, bounds, name)
        stored = self._stored(member, name)
        check_pixels(stored, bounds, divisor, name)
        return stored.divided(divisor), notes

    def _stored(self, member: Member, name: str) -> Stored:
        """Where the numbers lie, or have been unpacked to; their checksum is compared."""
        in_place = member.info.compress_type == zipfile.ZIP_STORED
        stream: IO[bytes]
        if in_place:
            stream = self._path.open("rb", buffering=0)
            offset = _offset(stream, member, name)
        else:
            require_room(member.nbytes, name)
            stream, offset = temporary(name), 0
        steps = math.ceil(member.nbytes / CHUNK)
        try:
            with (
                self._archive.open(member.info) as packed,
                progress_bar(f"reading {name}", steps) as step,
            ):
                packed.read(member.start)
                while chunk := packed.read(CHUNK):
                    if not in_place:
                        write(stream, [np.frombuffer(chunk, np.uint8)], name)
                    step("")
        except HarnessError:
            raise
        except Exception as error:
            raise DataError(one_line(f"{name}: is damaged ({error})")) from error
        return Stored(stream, offset, member.shape, member.dtype, name=name)


def _offset(stream: IO[bytes], member: Member, name: str) -> int:
    """Where in the file of a zip the numbers of an uncompressed member begin."""
    stream.seek(member.info.header_offset)
    signature, names, extra = LOCAL.unpack(stream.read(LOCAL.size))
    if signature != b"PK\x03\x04":
        raise DataError(f"{name}: is damaged: it does not lie where the directory says")
    return int(member.info.header_offset + LOCAL.size + names + extra + member.start)
