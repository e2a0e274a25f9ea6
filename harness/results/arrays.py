"""The arrays of a run on disk: a zip of .npy files, each of which is validated when it is read."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import shutil
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from harness.files import replacing

Arrays = dict[str, npt.NDArray[Any]]
LARGEST = 1 << 30
"""Bytes that the arrays of a run take, unpacked, at most."""
DIRECTORY = 16 << 20
"""Bytes that the directory of the zip takes, at most: some 100,000 arrays."""
HEADER = 256
"""Bytes that the header of an array takes, at most."""
PICTURES = re.compile("/(examples|extremes)/")
"""In keys of arrays that a report shows, and that nothing is measured or compared by."""
CHUNK = 1 << 20
END = struct.Struct("<4s4H2LH")
"""The last record of a zip: its signature, ..., the size of the directory, where it is, ..."""


class ArraysError(Exception):
    """A file of arrays that is not what ``write_arrays`` writes."""


@dataclass(frozen=True)
class Written:
    """A file of arrays as it was written, by which is known what of it holds still.

    Attributes:
        path: The file.
        digest: SHA-256 of it.
        state: By which is seen whether somebody has changed or replaced it.
        members: CRC-32 and bytes of each array as it lies there, by its key.
    """

    path: Path
    digest: str
    state: tuple[int, ...]
    members: Mapping[str, tuple[int, int]]

    @property
    def intact(self) -> bool:
        """Whether the file is there, and nobody has touched it."""
        try:
            return _state(self.path.stat()) == self.state
        except OSError:
            return False


def write_arrays(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], before: Written | None = None
) -> Written:
    """Write arrays, complete or not at all.

    What was written before is not packed again: a run is saved after each measurement, and most of
    its arrays have been in the file for long.

    Where they are too many to be read back, the images among them are left out, with a warning.

    Args:
        path: The file.
        arrays: What is to be in it, by key.
        before: What an earlier call has written there.
    """
    kept = dict(arrays)
    if sum(array.nbytes + HEADER for array in kept.values()) > LARGEST:
        kept = {key: array for key, array in kept.items() if not PICTURES.search(key)}
        warnings.warn(f"{path}: more than {LARGEST:,} bytes; saved without images", stacklevel=2)
    members = {key: _checksum(array) for key, array in kept.items()}
    if before is not None and before.path == path and before.intact:
        if members == before.members:
            return before
        new = {key: kept[key] for key in members if key not in before.members}
        if {key: members[key] for key in members if key not in new} == before.members:
            return _write(path, new, members, before.path)
    return _write(path, kept, members)


def _write(
    path: Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    members: Mapping[str, tuple[int, int]],
    beside: Path | None = None,
) -> Written:
    """Write a file of arrays, beside those that are in a file already."""
    with replacing(path) as stream:
        if beside is not None:
            with beside.open("rb") as old:
                shutil.copyfileobj(old, stream, CHUNK)
        mode: Literal["a", "w"] = "w" if beside is None else "a"
        with zipfile.ZipFile(stream, mode, zipfile.ZIP_DEFLATED) as archive:
            for key, array in arrays.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
        digest = _sha256(stream)
        # Of this very file, whoever replaces it afterwards.
        state = _state(os.fstat(stream.fileno()))
    return Written(path, digest, state, members)


def _state(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class _Checksum(io.RawIOBase):
    """Takes what would be written, and keeps its CRC-32 and length alone."""

    crc, size = 0, 0

    def write(self, data: Any) -> int:
        self.crc = zlib.crc32(data, self.crc)
        self.size += len(data)
        return len(data)


def _checksum(array: npt.NDArray[Any]) -> tuple[int, int]:
    """CRC-32 and length of an array as it lies in the file."""
    taken = _Checksum()
    np.lib.format.write_array(taken, np.asanyarray(array), allow_pickle=False)
    return taken.crc, taken.size


def read_arrays(path: Path) -> tuple[Arrays, str]:
    """The arrays of a file, and its SHA-256. No pickle is loaded, and no more than ``LARGEST``.

    Raises:
        OSError: It cannot be read.
        ArraysError: It is damaged, too large, or holds something else than arrays of numbers.
    """
    with path.open("rb") as stream:
        try:
            _check_directory(stream)
            digest = _sha256(stream)
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                _check_members(members)
                return {m.filename[:-4]: _array(archive, m) for m in members}, digest
        except ArraysError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy each raise several of their own
            raise ArraysError(str(error) or type(error).__name__) from error


def _check_directory(stream: IO[bytes]) -> None:
    """Refuse what would take much memory before a single array is read."""
    size = stream.seek(0, 2)
    if size > LARGEST:
        raise ArraysError(f"it has {size:,} bytes, and {LARGEST:,} are the most")
    stream.seek(max(size - END.size, 0))
    tail = stream.read()
    if len(tail) < END.size or tail[:4] != b"PK\x05\x06":
        raise ArraysError("it is no zip file, or cut off")
    directory = END.unpack(tail)[5]
    if directory > DIRECTORY:
        raise ArraysError(
            f"its directory takes {directory:,} bytes, and {DIRECTORY:,} are the most"
        )


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    for name, times in Counter(member.filename for member in members).items():
        if times > 1:
            raise ArraysError(f"{name} is there {times} times")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise ArraysError(f"{member.filename} is no .npy")
        # The others of Python's unpack without a bound.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArraysError(f"{member.filename} is packed in an unusual way")
    if (total := sum(member.file_size for member in members)) > LARGEST:
        raise ArraysError(f"its arrays take {total:,} bytes, and {LARGEST:,} are the most")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """An array, once its header has been found to want just what the directory says."""
    with archive.open(member) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ArraysError(f"{member.filename} is of another version of the format")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what only Python 2 would have written
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.kind not in "biuf" or dtype.shape or not shape:
            raise ArraysError(f"{member.filename} holds {dtype} of shape {shape}, not numbers")
        wanted = math.prod(shape) * dtype.itemsize + stream.tell()
        if min(shape) < 0 or wanted != member.file_size:
            raise ArraysError(f"{member.filename} has another length than its shape {shape} says")
    # Unpacked no further than the directory says, and compared with its checksum.
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    stream.seek(0)
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
