"""Many clients at once: each is answered or refused, and the memory is what it was."""

from __future__ import annotations

import gc
import json
import threading
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from live_servers import packages_at_hand, running

BODY = json.dumps({"images": [np.full((4, 4), 0.5).tolist()]}).encode()


@pytest.fixture
def loaded():
    packages_at_hand()
    from suites.speed.serving import Client

    def ask(client, count, clients):
        """The statuses of so many requests by so many clients."""
        host, port = client.server.opened.getsockname()
        found = []

        def some():
            own = Client(host, port)
            for _ in range(count // clients):
                found.append(own.ask("POST", "/api/v1/models/net/predict", BODY).status)
            own.close()

        threads = [threading.Thread(target=some) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return Counter(found)

    return ask


def test_all_are_answered_where_the_queue_has_room(served, loaded):
    with running(served) as client:
        assert loaded(client, 300, 50) == {200: 300}


def test_with_a_short_queue_all_are_answered_or_refused(served, loaded):
    with running(served, capacity=2) as client:
        codes = loaded(client, 300, 50)
        assert set(codes) <= {200, 429}
        assert codes.total() == 300
        assert codes[200] > 0
        assert client.get("/health").json()["waiting"] == 0


def test_nothing_is_kept_of_a_request(served, loaded):
    with running(served) as client:
        loaded(client, 100, 10)
        tracemalloc.start()
        try:
            loaded(client, 100, 10)
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            loaded(client, 300, 10)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < 300 * 300  # bytes: a third of one image as numbers, a request
