"""How many requests ``harness serve`` answers, how fast, and whether its memory stays flat.

``python -m suites.speed.serving [RUN | SPEC | MODEL] [--backend NAME]`` starts a server on
loopback, asks it, and ends it; the exit code is 1 if a figure is not what is promised. Client and
server share the machine, so that times are those of both.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from harness.interruption import terminable

REQUESTS, CLIENTS, ALONE, RANDOM = 1_000, 50, 200, 200
ANSWERED, MEDIAN, GROWN = 0.5, 0.030, 1.1
"""At least this share is answered; seconds of a prediction with one client; and by how much the
memory may grow from one round of requests to the next."""
PATIENCE = 30.0


class Answer(NamedTuple):
    """What came of a request."""

    status: int
    seconds: float
    body: bytes


class Client:
    """A connection that is kept alive."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request, and wait for what comes of it."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        began = time.perf_counter()
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        found = response.read()
        return Answer(response.status, time.perf_counter() - began, found)

    def close(self) -> None:
        """Give the connection up."""
        self._connection.close()


class Server(NamedTuple):
    """A server that runs."""

    process: subprocess.Popen[str]
    host: str
    port: int

    def memory(self) -> float | None:
        """Resident memory in MiB; None where the system does not tell."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return None
        (said,) = [line for line in lines if line.startswith("VmRSS:")]
        return int(said.split()[1]) / 1024


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[Server]:
    """A server on any free port of loopback, ended afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "harness", "serve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http://" not in line:
            raise SystemExit("the server does not start")
        host, _, port = line.partition("http://")[2].split()[0].rstrip("/").rpartition(":")
        yield Server(process, host, int(port))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def bodies(server: Server) -> tuple[str, list[bytes]]:
    """The name of the first model, and a request for each of some test images."""
    client = Client(server.host, server.port)
    (first, *_) = json.loads(client.ask("GET", "/api/v1/models").body)["models"]
    name = first["name"]
    found = json.loads(client.ask("GET", f"/api/v1/examples?model={name}&count=50").body)
    client.close()
    images = [one["image"] for one in found["examples"]]
    return name, [json.dumps({"images": [image]}).encode() for image in images]


def at_once(server: Server, path: str, asked: Sequence[bytes]) -> tuple[list[Answer], float]:
    """``REQUESTS`` requests by ``CLIENTS`` clients, each as soon as its last one is answered."""
    found: list[Answer] = []
    numbers = count()

    def ask() -> None:
        client = Client(server.host, server.port)
        while (number := next(numbers)) < REQUESTS:
            found.append(client.ask("POST", path, asked[number % len(asked)]))
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, time.perf_counter() - began


def measured(server: Server) -> Iterator[tuple[str, bool]]:
    """What was found, a line each, and whether it is as it should be."""
    name, asked = bodies(server)
    predict = f"/api/v1/models/{name}/predict"
    client = Client(server.host, server.port)
    for body in asked:
        client.ask("POST", predict, body)
    alone = [client.ask("POST", predict, asked[n % len(asked)]) for n in range(ALONE)]
    client.close()  # the server gives idle connections up
    median = statistics.median(one.seconds for one in alone)
    right = all(one.status == 200 for one in alone) and median < MEDIAN
    yield f"one client: median {1000 * median:.1f} ms of {ALONE} predictions", right
    mixed = [(predict, asked), (f"/api/v1/models/{name}/attack", [_attacked(b) for b in asked])]
    for path, some in mixed:
        yield from _loaded(server, path, some)
    client = Client(server.host, server.port)
    drawn = random.Random(0)  # noqa: S311  # of no secret
    codes: Counter[int] = Counter()
    for _ in range(RANDOM):
        codes[client.ask("POST", predict, drawn.randbytes(drawn.randrange(1, 1000))).status] += 1
    health = client.ask("GET", "/api/v1/health")
    client.close()
    right = max(codes) < 500 and health.status == 200
    yield f"{RANDOM} random bodies: {_told(codes)}", right


def _attacked(body: bytes) -> bytes:
    return json.dumps(json.loads(body) | {"attack": "fgsm", "epsilon": 0.1}).encode()


def _loaded(server: Server, path: str, asked: Sequence[bytes]) -> Iterator[tuple[str, bool]]:
    at_once(server, path, asked)  # so that the memory is what a busy server has
    before = server.memory()
    found, seconds = at_once(server, path, asked)
    after = server.memory()
    codes = Counter(one.status for one in found)
    answered = [one.seconds for one in found if one.status == 200]
    right = len(found) == REQUESTS and set(codes) <= {200, 429}
    right &= len(answered) >= ANSWERED * REQUESTS
    yield (
        f"{path}: {REQUESTS} requests by {CLIENTS} clients: {_told(codes)}; "
        f"{len(answered) / seconds:.0f} answers a second, median "
        f"{1000 * statistics.median(answered):.0f} ms",
        right,
    )
    if before is not None and after is not None:
        yield f"memory: {before:.0f} MiB, then {after:.0f} MiB", after <= GROWN * before


def _told(codes: Counter[int]) -> str:
    return ", ".join(f"{number} × {code}" for code, number in sorted(codes.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a server, and print what was found."""
    parser = argparse.ArgumentParser(prog="suites.speed.serving", description=__doc__)
    parser.add_argument("what", nargs="?", default="digits", help="as of `harness serve`")
    parser.add_argument("--backend", help="as of `harness serve`")
    said: Any = parser.parse_args(arguments)
    more = ["--backend", said.backend] if said.backend else []
    failed = 0
    with terminable(), running([said.what, *more]) as server:
        for line, right in measured(server):
            failed += not right
            print(f"{'ok' if right else 'NOT AS PROMISED'}: {line}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
