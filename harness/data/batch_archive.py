"""Archives of image batches, read in memory and within bounds; nothing is unpacked to the disk."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from harness.data.dataset import Bytes
from harness.data.download import RemoteFile, damaged
from harness.data.packed import read_packed, unzip
from harness.errors import one_line

RECORD = 1 + 32 * 32 * 3
"""Bytes of an image in a batch: its label, and a byte for each pixel of each colour."""
SLACK = 1 << 20
"""Bytes that an unpacked archive may have besides its batches: headers, padding, texts.

By so many a packed one may be too long and is looked into all the same, to tell what it is.
"""


@dataclass(frozen=True, kw_only=True)
class BatchArchive(RemoteFile):
    """A gzipped tar archive of image batches, in the binary layout of CIFAR-10.

    Attributes:
        folder: The folder of the archive that they are in.
        train: Names of the batches of training images, in their order.
        test: Name of the batch of test images.
        names: Name of the text that has the name of a class in each line.
        images: Images in each batch.
    """

    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    images: int

    @property
    def batches(self) -> tuple[str, ...]:
        """All batches, in the order in which their images are given back."""
        return (*self.train, self.test)


class FlawError(Exception):
    """Something about an archive that the publisher's does not have."""


def read_archive(path: Path, archive: BatchArchive, classes: Sequence[str], dataset: str) -> Bytes:
    """The records of all batches, (n, ``RECORD``) uint8, after every check.

    The checksum alone would catch all damage. It comes last, because the other checks can tell
    what the damage is.

    Args:
        path: The archive.
        archive: What it must be.
        classes: Names of the classes that it must have.
        dataset: Name of the dataset, which errors name.

    Raises:
        DataError: The archive cannot be read, or is not the one that was published.
    """
    packed = read_packed(path, archive.size + SLACK, dataset)
    longest = len(archive.batches) * archive.images * RECORD + SLACK
    content = unzip(packed, path, archive, longest, dataset)
    try:
        if len(content) > longest:
            raise FlawError(f"too long: unpacked it has more than {longest:,} bytes")
        records = _records(content, archive, classes)
    except FlawError as error:
        raise damaged(path, one_line(error), dataset) from error
    found = hashlib.sha256(packed).hexdigest()
    if found != archive.sha256:
        flaw = f"is not the publisher's: SHA-256 is {found}, expected {archive.sha256}"
        raise damaged(path, flaw, dataset)
    return records


def _records(content: bytes, archive: BatchArchive, classes: Sequence[str]) -> Bytes:
    """The records in an unpacked archive.

    Raises:
        FlawError: It is not laid out as the publisher's.
    """
    found: dict[str, memoryview] = {}
    for name, data in _members(content, archive.folder):
        if name in found:
            raise FlawError(f"holds {name} twice")
        found[name] = data
    if missing := [name for name in (*archive.batches, archive.names) if name not in found]:
        raise FlawError(f"is incomplete: it lacks {', '.join(missing)}")
    lines = bytes(found[archive.names]).decode("utf-8", "replace").splitlines()
    if [line.strip() for line in lines if line.strip()] != list(classes):
        raise FlawError(f"{archive.names} names other classes than {', '.join(classes)}")
    length = archive.images * RECORD
    for name in archive.batches:
        if len(found[name]) != length:
            raise FlawError(f"{name} has {len(found[name]):,} bytes, expected {length:,}")
    every = np.concatenate([np.frombuffer(found[name], np.uint8) for name in archive.batches])
    records = every.reshape(-1, RECORD)
    labels = records[:, 0]
    if labels.max() >= len(classes):
        raise FlawError(f"has the label {labels.max()}, and there are {len(classes)} classes")
    return records


def _members(content: bytes, folder: str) -> Iterator[tuple[str, memoryview]]:
    """Name and content of each file that lies in a folder of the archive.

    Raises:
        FlawError: It is no tar archive; or a member leaves the archive's folder, or is no file.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for member in tar:
                path = _checked(member)
                if path.parent == PurePosixPath(folder) and not member.isdir():
                    yield path.name, memoryview(content)[member.offset_data :][: member.size]
    # The last two by headers that are made for it.
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise FlawError(f"is not an intact tar archive: {one_line(error)}") from error


def _checked(member: tarfile.TarInfo) -> PurePosixPath:
    """The path of a member.

    Raises:
        FlawError: It leads out of the folder that the archive is in, or to neither a file nor a
            folder.
    """
    told = f"its member {member.name[:80]!r}"
    path = PurePosixPath(member.name)
    outside = path.is_absolute() or PureWindowsPath(member.name).drive or "\\" in member.name
    if outside or ".." in path.parts:
        raise FlawError(f"{told} leads out of the folder")
    if member.issym() or member.islnk():
        raise FlawError(f"{told} is a link")
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    if not (plain or member.isdir()):
        raise FlawError(f"{told} is neither a file nor a folder")
    return path
