"""Files: where they lie, written whole or not at all, tried before need, read within bounds."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import platformdirs

from harness.errors import HarnessError, RunError, one_line

if TYPE_CHECKING:
    from pydantic import BaseModel

if sys.platform != "win32":
    import fcntl

LARGEST = 64 << 20
"""Bytes of a JSON document; a baseline of five runs with 50,000 images each takes a tenth."""
DEEPEST = 50
"""Levels of nesting in a document; ours have eight."""
PROBE = 1 << 20
"""Bytes written to see whether a disk has room."""


def cache_dir() -> Path:
    """The user's cache folder: ``$HARNESS_CACHE_DIR``, or the usual place of the platform.

    The folder need not exist yet. Where there is no home directory that can be written to, as for
    a container's user without a name, it is a folder of this user alone in the temporary one.

    Raises:
        HarnessError: ``$HARNESS_CACHE_DIR`` begins with the home of nobody, or the folder in the
            temporary one is somebody else's.
    """
    given = folder_of("HARNESS_CACHE_DIR")
    if given is not None:
        return given
    usual = Path(platformdirs.user_cache_dir("robustness-harness"))
    return usual if _can_be_made(usual) else _private_folder()


def folder_of(variable: str) -> Path | None:
    """The folder that an environment variable names, if it does.

    Raises:
        HarnessError: It begins with ``~`` and a name that nobody has.
    """
    given = os.environ.get(variable)
    if not given:
        return None
    return _at_home(given, f"{variable}={given}")


def _at_home(said: str, told: str) -> Path:
    try:
        return Path(said).expanduser()
    except RuntimeError as error:
        raise HarnessError(
            f"{told}: there is no such home directory; name the folder without ~"
        ) from error


def data_path(said: str, home: Path) -> Path:
    """Where a file or a folder of data is that somebody names.

    Args:
        said: A path; ``~`` at its beginning is somebody's home.
        home: The folder that it is relative to. What that has not is looked for where the files of
            datasets are: in ``$HARNESS_DATA_DIR``, and in ``data`` of the user cache.

    Returns:
        The first that is there; that of ``home`` if none is.

    Raises:
        HarnessError: It begins with ``~`` and a name that nobody has; or an environment variable
            of these folders does.
    """
    path = _at_home(said, said)
    if path.is_absolute() or (home / path).exists():
        return home / path
    given = folder_of("HARNESS_DATA_DIR")
    folders = [*([given] if given else []), cache_dir() / "data"]
    return next((there for folder in folders if (there := folder / path).exists()), home / path)


def model_path(said: str, home: Path) -> Path:
    """Where the file of a model is that a spec names.

    Args:
        said: A path; ``~`` at its beginning is somebody's home.
        home: The folder that it is relative to. What that has not is looked for in
            ``$HARNESS_MODELS_DIR``.

    Raises:
        HarnessError: It is in neither; the line says where it was looked for. Or one of them begins
            with ``~`` and a name that nobody has.
    """
    path = _at_home(said, said)
    given = folder_of("HARNESS_MODELS_DIR")
    folders = [home] if given is None or path.is_absolute() else [home, given]
    places = [folder / path for folder in folders]
    if (found := next((place for place in places if place.exists()), None)) is not None:
        return found
    looked = " nor ".join(map(str, places))
    unset = "" if given is not None or path.is_absolute() else "; HARNESS_MODELS_DIR is not set"
    raise HarnessError(f"there is no {looked}{unset}")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name and rename it, so that it is never seen half-written.

    What earlier writers of this file left when they were killed is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path.absolute())
    handle, temporary = _temporary(path)
    try:
        with os.fdopen(handle, "w+b") as stream:
            yield stream
            stream.flush()
            # mkstemp makes private files; results are as readable as any other file of the user.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            if sys.platform != "win32":  # where an open file cannot be renamed
                temporary.replace(path)  # before it is closed, and so unlocked
        if sys.platform == "win32":
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name and rename it, so that it is never seen half-filled.

    A folder that is there is moved out of the way first, and removed last.
    """
    path = path.resolve()  # a link to a folder is kept
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
    ) as beside:
        made, before = Path(beside) / "made", Path(beside) / "before"
        made.mkdir()
        yield made
        if path.exists():
            path.rename(before)
        try:
            made.rename(path)
        except OSError:
            if before.exists():
                before.rename(path)
            raise


def check_writable(path: Path, option: str = "") -> None:
    """Find out whether a file can be written, before much work is done for it.

    Args:
        path: Where it is to lie.
        option: What the user calls it, such as ``--junit``, for the message.

    Raises:
        HarnessError: It cannot; the message names the file and the reason.
    """
    named = f"{option}: {path}" if option else str(path)
    if path.is_dir():
        raise HarnessError(f"{named} is a folder; name a file")
    check_folder(path.parent, option)


def check_folder(folder: Path, option: str = "") -> None:
    """Find out whether a folder can be made and takes a mebibyte; nothing is left behind.

    Raises:
        HarnessError: It cannot, or does not; the message names the folder and the reason.
    """
    named, made = f"{option}: " if option else "", []
    try:
        if taken := next((path for path in (folder, *folder.parents) if path.is_file()), None):
            raise HarnessError(f"{named}{taken} is a file; name a folder")
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as stream:
            # Zeros would take no room where the disk compresses.
            left = memoryview(os.urandom(PROBE))
            while left:
                left = left[stream.write(left) :]
    except OSError as error:
        raise HarnessError(
            f"{named}{folder}: cannot be written to ({error.strerror or one_line(error)}); make "
            "room, fix its permissions, or name another folder"
        ) from error
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()


def read_bounded(path: Path, largest: int) -> bytes:
    """The content of a file that is at most so long.

    Raises:
        OSError: It cannot be read.
        ValueError: It is longer; no more than that has been read.
    """
    with path.open("rb") as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it is longer than {largest >> 20} MiB")
    return content


def read_document(
    path: Path, schema: int, remedy: str, *, anew: str = "", kind: str = "", holds: str = ""
) -> dict[str, Any]:
    """A JSON object from a file that carries a schema number.

    Args:
        path: The file.
        schema: The number that can be read.
        remedy: What to do where it cannot.
        anew: What to do with one of an older schema, if it is something else.
        kind: What it should be, if it could be taken for something else.
        holds: A key that this kind has had in all schemas.

    Raises:
        RunError: The file is missing, not a JSON object, too long or too deep, or of another
            schema.
    """
    try:
        document: dict[str, Any] = json.loads(read_bounded(path, LARGEST).decode("utf-8"))
        check_depth(document)
    except FileNotFoundError as error:
        raise RunError(f"{path}: missing; {remedy}") from error
    except RecursionError as error:
        raise RunError(f"{path}: nested more than {DEEPEST} levels deep; {remedy}") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not readable as JSON ({one_line(error)}); {remedy}") from error
    number = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise RunError(f"{path}: has no schema number; {remedy}")
    if number > schema:
        if holds and holds not in document:
            raise RunError(f"{path}: not a {kind}; {remedy}")
        raise RunError(
            f"{path}: of schema {number}, newer than {schema}; upgrade robustness-harness"
        )
    if number < schema:
        raise RunError(f"{path}: of schema {number}, older than {schema}; {anew or remedy}")
    return document


def check_depth(document: object) -> None:
    """Refuse lists and objects within each other beyond ``DEEPEST``, without recursion itself.

    Raises:
        RecursionError: They are.
    """
    level = [document]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for value in level
            if isinstance(value, (dict, list))
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise RecursionError


def finite(value: Any) -> Any:
    """A JSON-like value with None for each number that JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def document_of(model: BaseModel, **how: Any) -> dict[str, Any]:
    """A model's fields as JSON-like data, which ``as_json`` can write whatever text they hold.

    Pydantic's own JSON refuses half a surrogate pair, as in the name of a file on Linux.

    Args:
        model: What is to be stored.
        how: Arguments of ``BaseModel.model_dump``, such as ``exclude``.
    """
    document: dict[str, Any] = finite(model.model_dump(by_alias=True, **how))
    return document


def as_json(document: object, indent: int | None = None) -> str:
    """JSON-like data as JSON in ASCII, which can be written to any file.

    Raises:
        ValueError: It holds a number that JSON does not have.
    """
    return json.dumps(document, indent=indent, allow_nan=False)


def _temporary(path: Path) -> tuple[int, Path]:
    """An open file beside a path, locked while its writer lives."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        if sys.platform != "win32":
            with suppress(OSError):  # a file system without locks; nobody clears there
                fcntl.flock(handle, fcntl.LOCK_EX)
        # Another process may have taken it for a dead one's between its making and its locking.
        if os.path.lexists(name):
            return handle, Path(name)
        os.close(handle)


@cache  # once in a process, since what lies there later is of the living
def _clear(path: Path) -> None:
    """Remove the temporary files of a path whose writers are dead, and no others."""
    ours = re.compile(re.escape(f".{path.name}.") + r"[a-z0-9_]{8}\.tmp")
    found: list[Path] = []
    with suppress(OSError):  # a folder that cannot be listed
        found = [entry for entry in path.parent.iterdir() if ours.fullmatch(entry.name)]
    for left in found:
        with suppress(OSError):  # in use by a living writer, or gone already
            if sys.platform == "win32":
                left.unlink()
            else:
                with left.open("rb") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()


def fingerprint(value: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON-like value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _can_be_made(folder: Path) -> bool:
    """Whether a folder is there, or the one that it would be made in can be written to."""
    if not folder.is_absolute():  # the ~ of nobody
        return False
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there == folder or os.access(there, os.W_OK | os.X_OK)


def _private_folder() -> Path:
    """A folder that no other user can have put anything into."""
    if sys.platform == "win32":
        return Path(tempfile.gettempdir()) / "robustness-harness"
    folder = Path(tempfile.gettempdir()) / f"robustness-harness-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not private or found.st_uid != os.getuid():
        raise HarnessError(
            f"{folder}: is not yours alone, and there is no home directory; set HARNESS_CACHE_DIR "
            "to a folder that can be written"
        )
    return folder
