"""Files of a dataset: found where the user put them, or downloaded, verified and kept."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from harness.cache import cache_dir
from harness.errors import DataError
from harness.files import replacing
from harness.text import one_line

if TYPE_CHECKING:
    from rich.progress import Progress

TIMEOUT = 20.0
"""Seconds that a mirror may stay silent."""
CHUNK = 1 << 16
"""Bytes read from a mirror at once."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the mirrors, known down to its last bit.

    Attributes:
        name: File name on the mirrors and on the disk.
        size: Length in bytes.
        sha256: Its SHA-256, in hexadecimal.
    """

    name: str
    size: int
    sha256: str

    def flaw(self, size: int, sha256: str) -> str | None:
        """What is wrong with content of that length and hash; None if it is this file."""
        if size < self.size:
            return f"truncated: {size:,} of {self.size:,} bytes"
        if size > self.size:
            return f"too long: more than {self.size:,} bytes"
        if sha256 != self.sha256:
            return f"SHA-256 is {sha256}, expected {self.sha256}"
        return None


class MirrorError(Exception):
    """A mirror did not deliver a file; the next one is asked."""


def locate(dataset: str, files: Sequence[RemoteFile], mirrors: Sequence[str]) -> list[Path]:
    """Where each file of a dataset is, after downloading what is missing into the cache.

    Each file is looked for on its own, so a folder of the user's may hold only some of them. Files
    that are found are not verified here; what is downloaded is.

    Args:
        dataset: Name of the dataset, and of the folder that holds its files: in
            ``$HARNESS_DATA_DIR``, and in ``data`` of the user cache.
        files: What is needed.
        mirrors: Addresses that end in a slash, in the order in which they are asked.

    Raises:
        DataError: A file is not there and no mirror delivers it, or the cache cannot be written.
    """
    cache = cache_dir() / "data" / dataset
    given = os.environ.get("HARNESS_DATA_DIR")
    folders = [Path(given).expanduser() / dataset, cache] if given else [cache]
    try:
        found = {
            file: next((folder for folder in folders if (folder / file.name).is_file()), None)
            for file in files
        }
        missing = [file for file, folder in found.items() if folder is None]
        if missing:
            _fetch(missing, cache, mirrors)
    except OSError as error:
        raise DataError(
            f"{dataset}: its files cannot be looked for or stored ({one_line(error)}); mend that, "
            "or set HARNESS_CACHE_DIR to a folder that can be written"
        ) from error
    return [(folder or cache) / file.name for file, folder in found.items()]


def _fetch(files: Sequence[RemoteFile], folder: Path, mirrors: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"), _progress() as progress:
        # Whoever waited for the lock may find the work done.
        missing = [file for file in files if not (folder / file.name).is_file()]
        while missing:
            try:
                _fetch_one(missing[0], folder, mirrors, progress)
            except MirrorError as error:
                names = ", ".join(file.name for file in missing)
                raise DataError(
                    f"{missing[0].name}: cannot be downloaded ({error}); go online and run "
                    f"`harness data {folder.name}`, or get {names} elsewhere and put them into "
                    f"{folder}, or into DIR/{folder.name} and set the environment variable "
                    "HARNESS_DATA_DIR to DIR"
                ) from error
            del missing[0]


def _fetch_one(file: RemoteFile, folder: Path, mirrors: Sequence[str], progress: Progress) -> None:
    """Ask the mirrors in turn until one delivers.

    Raises:
        MirrorError: None did; the message has the reason of each.
    """
    # What a killed download left, under the names that `replacing` gives. Under the lock nobody
    # is still writing to it.
    for stale in folder.glob(f".{file.name}.*"):
        stale.unlink(missing_ok=True)
    reasons = []
    for mirror in mirrors:
        task = progress.add_task(file.name, total=file.size)
        try:
            with replacing(folder / file.name) as stream:
                digest = hashlib.sha256()
                for chunk in _receive(mirror + file.name, file.size):
                    stream.write(chunk)
                    digest.update(chunk)
                    progress.advance(task, len(chunk))
                # Inside `replacing`: what is wrong is never renamed.
                flaw = file.flaw(stream.tell(), digest.hexdigest())
                if flaw:
                    raise MirrorError(flaw)
        except MirrorError as error:
            progress.remove_task(task)
            reasons.append(f"{urlsplit(mirror).netloc}: {error}")
        else:
            return
    raise MirrorError("; ".join(reasons))


def _receive(url: str, size: int) -> Iterator[bytes]:
    """The body of a response, cut one byte after ``size``, so that a mirror cannot fill the disk.

    Raises:
        MirrorError: The network or the mirror failed; a failing disk raises elsewhere.
    """
    left = size + 1
    try:
        # The addresses are constants of this package, never a user's input.
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310
            while left and (chunk := response.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk
    except urllib.error.HTTPError as error:
        raise MirrorError(f"HTTP {error.code} {one_line(error.reason)}") from error
    except urllib.error.URLError as error:
        raise MirrorError(one_line(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise MirrorError(one_line(error)) from error


def _progress() -> Progress:
    """A bar on standard error that vanishes when done; nothing where that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
