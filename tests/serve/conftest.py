"""Models that are served: one of each kind, behind one server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from live_servers import PAGE, Box, colour_net, live, running
from small_models import linear, small_images, small_net

from harness.serve.models import Examples, Served


@pytest.fixture(scope="session")
def box():
    return Box(small_net(dtype="float32"))


@pytest.fixture(scope="session")
def served(box):
    """A network, the same as a black box, one of colour images in [-1, 1], and one of flat ones."""
    x, y = small_images()
    names = tuple("abcde")
    flat = linear(np.eye(3, 9), dtype="float32")
    found = [
        live(small_net(dtype="float32"), classes=names),
        live(box, "box", classes=names),
        live(colour_net(), "colour", (4, 4, 3)),
        live(flat, "flat", (9,)),
    ]
    return Served({one.name: one for one in found}, Examples(x, y))


@pytest.fixture(scope="session")
def static(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    (folder / "index.html").write_text(PAGE)
    (folder / "page.js").write_text("export const one = 1;")
    (folder / "secret.toml").write_text("not a kind that is served")
    return folder


@pytest.fixture(scope="session")
def client(served, static):
    with running(served, static=static) as found:
        yield found


@pytest.fixture
def image():
    return small_images(1, 0)[0][0]
