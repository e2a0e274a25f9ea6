"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import numpy as np

from harness.files import fingerprint
from harness.results.run import SCHEMA, Run


def new_run(spec: dict[str, Any]) -> Run:
    """An empty run of a spec (as a JSON-like mapping), made here and now."""
    commit, dirty = _git_state()
    return Run(
        schema=SCHEMA,
        spec=spec,
        spec_sha256=fingerprint(spec),
        data_sha256="",
        commit=commit,
        dirty=dirty,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions={
            "python": platform.python_version(),
            "robustness-harness": installed_version("robustness-harness"),
            "numpy": np.__version__,
        },
        machine={
            # No kernel's number, which differs from machine to machine and changes no result.
            "system": " ".join(filter(None, (platform.system(), *platform.libc_ver()))),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count() or 1,
        },
    )


def installed_version(package: str) -> str:
    """Version of an installed package, without importing it; empty if unknown."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _git_state() -> tuple[str | None, bool | None]:
    """Commit of the working directory, and whether it has changes; None outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(*arguments: str) -> str:
    # Without the lock that `git status` takes to refresh the index: somebody may be committing.
    done = subprocess.run(
        ["git", "--no-optional-locks", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()
