"""Where the harness keeps what it can get again: downloads and trained models."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The user's cache folder: ``$HARNESS_CACHE_DIR``, or the usual place of the platform.

    The folder need not exist yet.
    """
    return Path(
        os.environ.get("HARNESS_CACHE_DIR") or platformdirs.user_cache_dir("robustness-harness")
    ).expanduser()
