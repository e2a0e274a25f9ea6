"""Where the harness keeps what it can get again: downloads and trained models."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

import platformdirs

from harness.errors import HarnessError


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
    return usual if _can_be_made(usual) else _temporary()


def folder_of(variable: str) -> Path | None:
    """The folder that an environment variable names, if it does.

    Raises:
        HarnessError: It begins with ``~`` and a name that nobody has.
    """
    given = os.environ.get(variable)
    if not given:
        return None
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise HarnessError(
            f"{variable}={given}: there is no such home directory; name the folder without ~"
        ) from error


def _can_be_made(folder: Path) -> bool:
    """Whether a folder is there, or the one that it would be made in can be written to."""
    if not folder.is_absolute():  # the ~ of nobody
        return False
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there == folder or os.access(there, os.W_OK | os.X_OK)


def _temporary() -> Path:
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
