"""Gzipped files of a dataset, read and unpacked within bounds."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

from harness.data.download import RemoteFile, damaged
from harness.errors import DataError, one_line


def read_packed(path: Path, longest: int, dataset: str) -> bytes:
    """The content of a file of at most so many bytes.

    Raises:
        DataError: It cannot be read, or is longer; no more than that has been read.
    """
    try:
        with path.open("rb") as stream:
            packed = stream.read(longest + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from error
    if len(packed) > longest:
        raise damaged(path, f"too long: more than {longest:,} bytes", dataset)
    return packed


def unzip(packed: bytes, path: Path, file: RemoteFile, longest: int, dataset: str) -> bytes:
    """Unpack a gzip file, up to one byte more than it may have.

    Args:
        packed: Its content.
        path: Where it is from, which errors name.
        file: What it should be.
        longest: Bytes that it may have when it is unpacked.
        dataset: Name of the dataset that it belongs to, which errors name.

    Raises:
        DataError: It is not gzip, truncated or corrupt.
    """
    if not packed:  # which the library takes for an empty gzip stream
        raise damaged(path, f"truncated: 0 of {file.size:,} bytes", dataset)
    if not packed.startswith(b"\x1f\x8b"):
        raise damaged(path, f"is not gzip: it begins with {packed[:8]!r}", dataset)
    try:
        with gzip.open(io.BytesIO(packed)) as stream:
            return stream.read(longest + 1)
    except EOFError as error:
        short = len(packed) < file.size
        flaw = f"{len(packed):,} of {file.size:,} bytes" if short else "its gzip stream has no end"
        raise damaged(path, f"truncated: {flaw}", dataset) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, f"corrupt gzip: {one_line(error)}", dataset) from error
