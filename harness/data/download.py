"""Files of a dataset: found where the user put them, or downloaded, verified and kept."""

from __future__ import annotations

import hashlib
import http.client
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from harness.errors import DataError, one_line
from harness.files import cache_dir, folder_of, replacing

if TYPE_CHECKING:
    from rich.progress import Progress

LOG = logging.getLogger(__name__)
TIMEOUT = 20.0
"""Seconds that a mirror may stay silent."""
PATIENCE, SLOWEST = 30.0, 10_000
"""Seconds until a mirror must have begun, and bytes that it must send in each further one.

So a file takes at most ``PATIENCE + size / SLOWEST`` seconds of a mirror, redirects included.
"""
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


File = TypeVar("File", bound=RemoteFile)


class MirrorError(Exception):
    """A mirror did not deliver a file; the next one is tried."""


def locate(
    dataset: str,
    files: Sequence[File],
    mirrors: Sequence[str],
    elsewhere: Callable[[File], Path | None] = lambda file: None,
) -> list[Path]:
    """Where each file of a dataset is, after downloading what is missing into the cache.

    Each file is looked for on its own, so a folder of the user's may hold only some of them. Files
    that are found are not verified here; what is downloaded is.

    Args:
        dataset: Name of the dataset, and of the folder that holds its files: in
            ``$HARNESS_DATA_DIR``, and in ``data`` of the user cache.
        files: What is needed.
        mirrors: Addresses that end in a slash, in the order in which they are tried.
        elsewhere: Where a file is that neither folder holds, if it is on this machine at all.

    Raises:
        DataError: A file is not there and no mirror delivers it, or the cache cannot be written.
    """
    cache = cache_dir() / "data" / dataset
    given = folder_of("HARNESS_DATA_DIR")
    folders = [given / dataset, cache] if given else [cache]
    try:
        found = {
            file: next((path for folder in folders if (path := folder / file.name).is_file()), None)
            or elsewhere(file)
            for file in files
        }
        missing = [file for file, path in found.items() if path is None]
        if missing:
            _fetch(missing, cache, mirrors)
    except OSError as error:
        raise DataError(
            f"{dataset}: its files cannot be looked for or stored ({one_line(error)}); fix that, "
            "or set HARNESS_CACHE_DIR to a folder that can be written"
        ) from error
    return [path or cache / file.name for file, path in found.items()]


def damaged(path: Path, flaw: str, dataset: str) -> DataError:
    """The error about a file that is not what was published."""
    return DataError(f"{path}: {flaw}; delete it and run `harness data {dataset}`")


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
            LOG.info("downloading %s of %d bytes from %s", file.name, file.size, mirror)
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


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a mirror to another web address, and nowhere else."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See the base class, which would read what is left of the response, however long."""
        fp.close()
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise MirrorError(f"redirects to {one_line(newurl)}, which is no web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(url: str, size: int) -> Iterator[bytes]:
    """The body of a response, cut one byte after ``size``, so that a mirror cannot fill the disk.

    It is received in a thread of its own, since names and headers can take for ever too.

    Raises:
        MirrorError: The network or the mirror failed, or is too slow; a failing disk raises
            elsewhere.
    """
    chunks: queue.Queue[bytes | MirrorError] = queue.Queue(maxsize=16)
    given_up = threading.Event()
    arguments = (url, size + 1, chunks, given_up)
    threading.Thread(target=_request, args=arguments, daemon=True).start()
    begin, received = time.monotonic(), 0
    try:
        while True:
            spent = time.monotonic() - begin
            try:
                chunk = chunks.get(timeout=max(PATIENCE + received / SLOWEST - spent, 0))
            except queue.Empty:
                raise MirrorError(
                    f"too slow: {received:,} of {size:,} bytes in {PATIENCE:g} seconds and more"
                ) from None
            if isinstance(chunk, MirrorError):
                raise chunk
            if not chunk:
                return
            received += len(chunk)
            yield chunk
    finally:
        given_up.set()


def _request(
    url: str, left: int, chunks: queue.Queue[bytes | MirrorError], given_up: threading.Event
) -> None:
    """Put the body of a response into a queue, then an empty piece, or what went wrong."""

    def put(piece: bytes | MirrorError) -> None:
        while not given_up.is_set():
            with suppress(queue.Full):
                chunks.put(piece, timeout=0.2)
                return

    end: bytes | MirrorError = b""
    try:
        opener = urllib.request.build_opener(_Redirects)
        # The addresses are constants of this package, never a user's input.
        with opener.open(url, timeout=TIMEOUT) as response:
            while left and not given_up.is_set() and (chunk := response.read1(min(CHUNK, left))):
                left -= len(chunk)
                put(chunk)
    except MirrorError as error:
        end = error
    except urllib.error.HTTPError as error:
        end = MirrorError(f"HTTP {error.code} {one_line(error.reason)}")
    except urllib.error.URLError as error:
        end = MirrorError(one_line(error.reason))
    # The last for an address in a redirect that is none.
    except (OSError, http.client.HTTPException, ValueError) as error:
        end = MirrorError(one_line(error))
    put(end)


def _progress() -> Progress:
    """A bar on standard error that vanishes when done; nothing where that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    # Some releases of rich end a disabled bar, too, with an empty line.
    console.quiet = not console.is_terminal
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
