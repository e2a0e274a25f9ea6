"""Attack a classifier behind HTTP that answers JSON: ``python examples/http_endpoint.py [URL]``.

Without a URL a small server of this file is attacked. An endpoint is a black box, so the attacks
are those that need no gradient.
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import numpy.typing as npt

import harness
from harness.attacks.square import Square

Images = npt.NDArray[np.float32]


def ask(url: str, images: Images) -> Any:
    """What the endpoint says of images (n, height, width): {"logits": [[...], ...]}."""
    body = json.dumps({"images": images.tolist()}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # the user's own URL
        return json.load(answer)


class Server(BaseHTTPRequestHandler):
    """Tells bright images (class 1) from dark ones, and now and then has no time for it."""

    busy_every, asked = 10, 0

    def do_POST(self) -> None:  # the name that http.server asks for
        """Answer one batch."""
        images = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["images"]
        type(self).asked += 1
        if self.asked % self.busy_every == 0:
            self.send_error(503, "busy, try again")
            return
        above = [np.mean(image) - 0.5 for image in images]
        body = json.dumps({"logits": [[-10 * a, 10 * a] for a in above]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the requests are many."""


@contextmanager
def serving() -> Iterator[str]:
    """The URL of a small server, for as long as it is needed."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def attacked(url: str) -> Any:
    """The run of an endpoint that classifies grey images of 8 × 8 pixels."""
    x = np.random.default_rng(0).random((20, 8, 8), dtype=np.float32)
    y = (x.mean(axis=(1, 2)) > 0.5).astype(int)
    model = harness.wrap_function(lambda images: ask(url, images), batch_size=10, retries=3)
    return harness.evaluate(model, x, y, ["noise", Square(steps=100)], [0, 0.1])


if __name__ == "__main__":
    with serving() as own:
        print(attacked(sys.argv[1] if len(sys.argv) > 1 else own).frame().to_string())
