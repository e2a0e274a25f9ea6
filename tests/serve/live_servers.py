"""Small models, and a real server on loopback for them.

``HARNESS_TEST_SERVE=1`` asks for what needs FastAPI: then a package that is missing is a failure.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager

import numpy as np
from backends_at_hand import at_hand, package_at_hand
from small_models import SHAPE

from harness.networks.initial import initial_weights
from harness.protocol import Network, Wrapping, fully_connected
from harness.serve.live import Live
from harness.serve.models import attacks_of
from harness.serve.work import Worker

PACKAGES = ("fastapi", "uvicorn", "httpx", "schemathesis")
ASKED = "HARNESS_TEST_SERVE asks for them" if os.environ.get("HARNESS_TEST_SERVE") else ""
PAGE = "<!doctype html><title>page</title>"


def packages_at_hand():
    """What serves, and what asks it; where it is missing the test is skipped, or failed."""
    for name in PACKAGES:
        package_at_hand(name, ASKED, "; pip install 'robustness-harness[api]'")


class Box:
    """A model that gives no gradient, and of which one can say what it does when it is asked."""

    def __init__(self, inner):
        self.xp, self.bounds, self.capabilities = np, inner.bounds, frozenset()
        self.inner, self.before = inner, lambda: None

    def asarray(self, values):
        return np.asarray(values, np.int64 if values.dtype.kind in "iu" else np.float32)

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        self.before()
        return self.inner.numpy(self.inner.logits(self.inner.asarray(x)))


def live(model, name="net", shape=SHAPE, classes=(), **more):
    return Live(name, "numpy", model, shape, classes, attacks_of(None)[0], **more)


def colour_net():
    net = fully_connected((4, 4, 3), (24,), 3)
    return at_hand("numpy").build(Network(net, initial_weights(net, seed=1)), Wrapping((-1.0, 1.0)))


class Running:
    """A server in a thread of its own."""

    def __init__(self, served, hosts=("127.0.0.1",), static=None, **how):
        from harness.serve.api import STATIC, application
        from harness.serve.server import Server, bound

        self.worker = Worker(**how)
        self.guard = application(served, self.worker, hosts, static or STATIC)
        self.opened = bound("127.0.0.1", 0)
        self.opened.listen(128)
        self.url = f"http://127.0.0.1:{self.opened.getsockname()[1]}"
        self.server = Server(self.guard, self.worker)
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.opened]}, daemon=True
        )
        self.thread.start()
        until = time.monotonic() + 20
        while not self.server.started and time.monotonic() < until:
            time.sleep(0.01)
        assert self.server.started

    def end(self):
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()


@contextmanager
def running(served, **how):
    """A server, and a client of its API."""
    packages_at_hand()
    import httpx

    server = Running(served, **how)
    try:
        with httpx.Client(base_url=f"{server.url}/api/v1", timeout=20, trust_env=False) as client:
            client.server = server
            yield client
    finally:
        server.end()
        for one in served.models.values():
            one.watched.look = lambda: None


def asked(client, route, status=200, /, *, name="net", params=None, **body):
    """What a route of a model answers, which must have that status."""
    answer = client.post(f"/models/{name}/{route}", json=body, params=params)
    assert answer.status_code == status, answer.text
    return answer.json()


def sentence(answer):
    """The one sentence of a refusal."""
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    text = answer.json()["error"]
    assert text
    assert "\n" not in text
    assert "Traceback" not in text
    assert "pydantic" not in text
    assert len(text) <= 500
    return text
