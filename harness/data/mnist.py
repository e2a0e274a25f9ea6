"""MNIST: 70,000 handwritten digits of 28 × 28 pixels (LeCun, Cortes, Burges; CC BY-SA 3.0)."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.dataset import Bytes, Source
from harness.data.download import RemoteFile, locate
from harness.errors import DataError, one_line


@dataclass(frozen=True)
class IdxFile(RemoteFile):
    """A gzipped IDX file of unsigned bytes; ``shape`` is the shape of the array in it."""

    shape: tuple[int, ...]


# The publisher's own host answers 403 and 404 by turns, so it is not among the mirrors.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FILES = (
    IdxFile(
        "train-images-idx3-ubyte.gz",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        (60_000, 28, 28),
    ),
    IdxFile(
        "train-labels-idx1-ubyte.gz",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        (60_000,),
    ),
    IdxFile(
        "t10k-images-idx3-ubyte.gz",
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        (10_000, 28, 28),
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte.gz",
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        (10_000,),
    ),
)


def prepare() -> list[Path]:
    """Make sure that the four files are there and intact, downloading what is missing.

    Returns:
        Where each file is: ``$HARNESS_DATA_DIR/mnist``, else ``data/mnist`` of the user cache.

    Raises:
        DataError: A file is damaged, or missing and cannot be downloaded.
    """
    paths = locate("mnist", FILES, MIRRORS)
    for path, file in zip(paths, FILES, strict=True):
        read_idx(path, file)
    return paths


def load() -> Source:
    """The images (70000, 28, 28) with pixels 0 … 255 and their labels 0 … 9.

    The publisher's 60,000 training images come first, then its 10,000 test images.

    Raises:
        DataError: A file is damaged, or missing and cannot be downloaded.
    """
    paths = locate("mnist", FILES, MIRRORS)
    train_x, train_y, test_x, test_y = map(read_idx, paths, FILES)
    return Source(
        pixels=np.concatenate([train_x, test_x]),
        peak=255,
        y=np.concatenate([train_y, test_y]).astype(np.int64),
        classes=tuple("0123456789"),
        published_train=len(train_y),
    )


def read_idx(path: Path, file: IdxFile) -> Bytes:
    """The array in a file, after every check.

    The checksum alone would catch all damage. It comes last, because the other checks can tell
    what the damage is.

    Raises:
        DataError: The file cannot be read, or is not the one that was published.
    """
    name = str(path)
    try:
        # A file that is too long is read no further than to see that.
        with path.open("rb") as stream:
            content = stream.read(file.size + 1)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({one_line(error)})") from error
    array = parse_idx(unzip(content, name, file), name, file.shape)
    flaw = file.flaw(len(content), hashlib.sha256(content).hexdigest())
    if flaw:
        raise _damaged(name, flaw)
    return array


def unzip(content: bytes, name: str, file: IdxFile) -> bytes:
    """Unpack a gzip file, up to one byte more than the IDX file should have.

    Raises:
        DataError: The content is not gzip, truncated or corrupt.
    """
    if not content:  # which the library takes for an empty gzip stream
        raise _damaged(name, f"truncated: 0 of {file.size:,} bytes")
    if not content.startswith(b"\x1f\x8b"):
        raise _damaged(name, f"is not gzip: it begins with {content[:8]!r}")
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            unpacked = stream.read(_idx_length(file.shape) + 1)
    except EOFError as error:
        flaw = file.flaw(len(content), hashlib.sha256(content).hexdigest())
        raise _damaged(name, flaw or "its gzip stream has no end") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(name, f"corrupt gzip: {one_line(error)}") from error
    return unpacked


def parse_idx(content: bytes, name: str, shape: tuple[int, ...]) -> Bytes:
    """The array of an IDX file of unsigned bytes, uint8 and read-only.

    An IDX file is a magic number (two zero bytes, 8 for unsigned bytes, the number of dimensions),
    the size of each dimension, and the values; its numbers are 32-bit big-endian.

    Args:
        content: The file, unpacked.
        name: What errors call it.
        shape: The shape that it must have; its length gives the magic number, such as 2051 for
            images.

    Raises:
        DataError: Magic number, dimensions or length are not as expected.
    """
    header = struct.Struct(f">{1 + len(shape)}I")
    if len(content) < header.size:
        raise _damaged(name, f"truncated: its header has {len(content)} of {header.size} bytes")
    magic, *sizes = header.unpack_from(content)
    expected_magic = 0x0800 + len(shape)
    if magic != expected_magic:
        raise _damaged(name, f"magic number is {magic}, expected {expected_magic}")
    if tuple(sizes) != shape:
        raise _damaged(name, f"holds {_times(sizes)} values, expected {_times(shape)}")
    values = len(content) - header.size
    if values < math.prod(shape):
        raise _damaged(name, f"truncated: {values:,} of {math.prod(shape):,} values")
    if values > math.prod(shape):
        raise _damaged(name, f"too long: more than {math.prod(shape):,} values")
    return np.frombuffer(content, np.uint8, offset=header.size).reshape(shape)


def _idx_length(shape: tuple[int, ...]) -> int:
    return 4 * (1 + len(shape)) + math.prod(shape)


def _times(sizes: list[int] | tuple[int, ...]) -> str:
    return " × ".join(f"{size:,}" for size in sizes)


def _damaged(name: str, flaw: str) -> DataError:
    return DataError(f"{name}: {flaw}; delete it and run `harness data mnist`")
