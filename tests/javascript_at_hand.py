"""Node, and the packages that tests run in it. Where they are missing the test is skipped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import harness

REQUIRED = "HARNESS_TEST_JAVASCRIPT"
"""Environment variable: if it is set, Node and the packages must be there."""
HERE = Path(__file__).parent / "javascript"
STATIC = Path(harness.__file__).parent / "serve" / "static"
SECONDS = 300


def node_at_hand() -> str:
    """The path of Node."""
    path = shutil.which("node")
    return path or _missing("Node is not installed")


def tfjs_at_hand() -> Path:
    """The folder of the real TensorFlow.js."""
    folder = HERE / "node_modules" / "@tensorflow" / "tfjs"
    if (folder / "package.json").is_file():
        return folder
    return _missing(f"TensorFlow.js is not installed; npm ci --prefix {HERE}")


def said_by_node(script: str, request: Any, folder: Path) -> Any:
    """What a script of this folder answers to a request, both in JSON.

    It finds the modules of the page in ``static`` beside it.

    Args:
        script: Its name.
        request: What it reads from ``request.json``.
        folder: Where it runs.
    """
    node = node_at_hand()
    shutil.copytree(STATIC, folder / "static", dirs_exist_ok=True)
    shutil.copy(HERE / script, folder)
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    done = subprocess.run(
        [node, script], cwd=folder, capture_output=True, text=True, timeout=SECONDS,
        encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on this machine alone."""
    handler = partial(_Silent, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def _missing(reason: str) -> Any:
    if os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, but {reason}", pytrace=False)
    return pytest.skip(reason)
