"""The arrays of a run on disk: a zip of .npy files, each of which is validated when it is read."""

from __future__ import annotations

import hashlib
import math
import re
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

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


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Write arrays, complete or not at all.

    Where they are too many to be read back, the images among them are left out, with a warning.

    Returns:
        SHA-256 of the file.
    """
    kept = dict(arrays)
    if sum(array.nbytes + HEADER for array in kept.values()) > LARGEST:
        kept = {key: array for key, array in kept.items() if not PICTURES.search(key)}
        warnings.warn(f"{path}: more than {LARGEST:,} bytes; saved without images", stacklevel=2)
    with replacing(path) as stream:
        np.savez_compressed(stream, **cast(dict[str, Any], kept))
        return _sha256(stream)


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
