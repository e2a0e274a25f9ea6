"""Pixels as they are stored, in memory or in a file, which are read as floats batch by batch."""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.errors import DataError, one_line
from harness.files import cache_dir
from harness.maths.images import LazyImages
from harness.protocol import FloatArray, Images, IntArray

Raw: TypeAlias = npt.NDArray[Any]
"""Pixels as they are stored: bytes, or floats of any width."""

IN_MEMORY = 64 << 20
"""Bytes that images take up in memory as floats, at most; of more a batch at a time is read."""
CHUNK = 16 << 20
"""Bytes that are read, checked or copied at a time."""
SPARE = 256 << 20
"""Bytes that are left free on the disk."""


def floats_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What stored pixels become: float32; of doubles and wider floats float64."""
    return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize >= 8 else np.float32)


def scaled(raw: Raw, divisor: float) -> FloatArray:
    """Stored pixels as floats, each divided by a number."""
    floats = raw.astype(floats_of(raw.dtype), copy=False)
    return floats if divisor == 1 else floats / floats.dtype.type(divisor)


def batch_of(shape: tuple[int, ...], itemsize: int) -> int:
    """How many images (n, *shape) of numbers of that size fit into ``CHUNK``, at least one."""
    return max(1, CHUNK // max(1, math.prod(shape[1:]) * itemsize))


def held(raw: Raw, divisor: float = 1) -> Images:
    """Images of an array that somebody has in memory; where it is large, not yet as floats.

    Args:
        raw: Stored pixels, (n, *shape).
        divisor: What they are divided by.
    """
    floats = floats_of(raw.dtype)
    if floats == raw.dtype and divisor == 1:
        return raw
    small = raw.size * floats.itemsize <= IN_MEMORY
    return scaled(raw, divisor) if small else Held(raw, divisor)


class Held(LazyImages):
    """Images that are in memory as bytes, or in another form that takes less than floats do."""

    def __init__(self, raw: Raw, divisor: float) -> None:
        super().__init__(raw.shape, floats_of(raw.dtype))
        self._raw, self._divisor = raw, divisor

    def read(self, rows: IntArray) -> FloatArray:
        """See ``LazyImages``."""
        return scaled(np.asarray(self._raw[rows]), self._divisor)


class Stored(LazyImages):
    """Images that lie in an open file, one behind the other.

    They are read at their offsets: a mapped file would count as memory of the process.

    Args:
        stream: The file, unbuffered; it is kept open.
        offset: Where the first image begins, in bytes.
        shape: (n, *shape).
        dtype: In which the pixels are stored.
        divisor: What they are divided by.
        name: What the file is called in messages.
    """

    def __init__(
        self,
        stream: IO[bytes],
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        divisor: float = 1,
        name: str = "images",
    ) -> None:
        super().__init__(shape, floats_of(dtype))
        self._stream, self._offset, self._dtype = stream, offset, dtype
        self._divisor, self._name = divisor, name
        self._lock = threading.Lock()

    def divided(self, divisor: float) -> Stored:
        """The same images, whose pixels are divided by a number."""
        return Stored(self._stream, self._offset, self.shape, self._dtype, divisor, self._name)

    def read(self, rows: IntArray) -> FloatArray:
        """See ``LazyImages``.

        Raises:
            DataError: The file has become shorter, or cannot be read any more.
        """
        return scaled(self.raw(rows), self._divisor)

    def raw(self, rows: IntArray) -> Raw:
        """The pixels at these positions as they are stored, in this machine's byte order."""
        found = np.empty((len(rows), *self.shape[1:]), self._dtype)
        size = math.prod(self.shape[1:]) * self._dtype.itemsize
        target = as_bytes(found)
        # Images that lie beside each other are read at once.
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            piece = target[start * size : stop * size]
            self._fill(piece, self._offset + int(rows[start]) * size)
        return found.astype(self._dtype.newbyteorder("="), copy=False)

    def _fill(self, target: memoryview, offset: int) -> None:
        try:
            with self._lock:
                self._stream.seek(offset)
                while target:
                    count = self._stream.readinto(target)  # type: ignore[attr-defined]  # unbuffered
                    if not count:
                        raise DataError(f"{self._name}: has become shorter while it was read")
                    target = target[count:]
        except OSError as error:
            raise DataError(f"{self._name}: cannot be read ({one_line(error)})") from error


class Spool:
    """Images that can be read once, kept for many passes: in memory, or in a temporary file.

    The file has no name on POSIX systems, so that nothing is left behind however a run ends.

    Args:
        name: What they come from, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0
        self._parts: list[Raw] = []
        self._waiting = 0
        self._stream: IO[bytes] | None = None

    def add(self, batch: Raw) -> None:
        """Append images (m, *shape), all of one shape and dtype; the batch is not kept.

        Raises:
            DataError: The disk has no room for them.
        """
        self._parts.append(np.array(batch, order="C"))
        self._count += len(batch)
        self._waiting += batch.nbytes
        floats = batch.size // max(1, len(batch)) * floats_of(batch.dtype).itemsize * self._count
        if floats > IN_MEMORY and self._waiting > CHUNK:
            self._flush()

    def images(self, divisor: float = 1) -> Images:
        """All that was added, (n, *shape) with n ≥ 1; each pixel is divided by a number."""
        first = self._parts[0]
        shape = (self._count, *first.shape[1:])
        if self._stream is None and math.prod(shape) * floats_of(first.dtype).itemsize <= IN_MEMORY:
            return scaled(np.concatenate(self._parts), divisor)
        stream = self._flush()
        return Stored(stream, 0, shape, first.dtype, divisor, self._name)

    def _flush(self) -> IO[bytes]:
        if self._stream is None:
            self._stream = temporary(self._name)
        write(self._stream, self._parts, self._name)
        self._parts, self._waiting = [self._parts[0][:0]], 0
        return self._stream


def temporary(name: str) -> IO[bytes]:
    """A file beside the cache that goes when the process does.

    Raises:
        DataError: None can be made.
    """
    try:
        folder = cache_dir() / "data"
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder, buffering=0)
    except OSError as error:
        raise DataError(
            f"{name}: does not fit into memory, and cannot be unpacked ({one_line(error)}); "
            "set HARNESS_CACHE_DIR to a folder that can be written"
        ) from error


def require_room(wanted: int, name: str) -> None:
    """Refuse to unpack what the disk of the cache has no room for.

    Raises:
        DataError: It has not.
    """
    folder = cache_dir()
    there = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
    free = shutil.disk_usage(there).free
    if wanted + SPARE > free:
        raise DataError(
            f"{name}: {wanted / 2**30:.3g} GiB are to be unpacked, and {folder} has "
            f"{free / 2**30:.3g} GiB; set HARNESS_CACHE_DIR to a folder with room, or take fewer "
            "images"
        )


def write(stream: IO[bytes], parts: list[Raw], name: str) -> None:
    """Append arrays to an unbuffered file.

    Raises:
        DataError: The disk has no room for them.
    """
    require_room(sum(part.nbytes for part in parts), name)
    try:
        for part in parts:
            left = as_bytes(part)
            while left:
                left = left[stream.write(left) :]
    except OSError as error:
        raise DataError(
            f"{name}: cannot be unpacked ({one_line(error)}); set HARNESS_CACHE_DIR to a folder "
            "with room"
        ) from error


def as_bytes(array: Raw) -> memoryview:
    """The memory of an array in C order."""
    return memoryview(array.reshape(-1).view(np.uint8).data)
