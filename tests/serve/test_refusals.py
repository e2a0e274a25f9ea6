"""What is refused: by which status, in one sentence, and never by a 500."""

from __future__ import annotations

import json
import random
import socket
import threading
import time

import numpy as np
import pytest
from live_servers import running, sentence

from harness.serve.guard import BODY

ZEROS = np.zeros((4, 4)).tolist()
JSON = {"content-type": "application/json"}


def changed(value):
    """The image with another first pixel."""
    return [[value, 0, 0, 0], *ZEROS[1:]]


def refused(client, status, content, route="predict", name="net", headers=JSON):
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    answer = client.post(f"/models/{name}/{route}", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    return sentence(answer)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 5)).tolist(), "4 × 4"),
        (np.zeros((16,)).tolist(), "4 × 4"),
        ([[0.0] * 4, [0.0] * 4, [0.0] * 4, [0.0] * 3], "4 × 4"),
        ([], "4 × 4"),
        (0.5, "4 × 4"),
        (None, "4 × 4"),
        ({"a": 1}, "4 × 4"),
        (changed(True), "true, which is no number"),
        (changed("0"), "'0', which is no number"),
        (changed(None), "null, which is no number"),
        (changed(1.1), "1.1, which is outside of [0, 1]"),
        (changed(-0.1), "outside of [0, 1]"),
        (changed(10**300), "outside of [0, 1]"),
        ("", "PNG of 4 × 4 pixels"),
        ("../../etc/passwd", "PNG of 4 × 4 pixels"),
        ("iVBORw0KGgoAAAANSUhEUgAAAAUAAAAE", "PNG of 4 × 4 pixels"),
    ],
)
def test_what_is_no_image_of_the_model(client, image, words):
    said = refused(client, 422, {"images": [ZEROS, image]})
    assert said.startswith("images.1: ")
    assert words in said


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(client, number):
    text = json.dumps({"images": [ZEROS]}).replace("0.0", number, 1)
    said = refused(client, 422, text)
    assert "outside of [0, 1]" in said if number == "1e999" else f"{number} is no number" in said
    refused(client, 422, f'{{"images": [], "attack": "fgsm", "epsilon": {number}}}', "attack")


def test_an_image_of_another_model_and_a_damaged_png_do_not_fit(client):
    assert "4 × 4 × 3" in refused(client, 409, {"images": [ZEROS]}, name="colour")
    damaged = "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAEAAAA"
    assert "damaged" in refused(client, 409, {"images": [damaged]})


@pytest.mark.parametrize(
    "body",
    [
        "", "{", "[]", "null", "1", '"images"', "{}", '{"images": null}', '{"images": "x"}',
        '{"images": {}}', '{"images": []}', '{"images": [[[', "[" * 100_000, '{"a":' * 100_000,
        '{"images": [1' + "0" * 10_000 + "]}", b"\xff\xfe{}", b"\x00", b"\xef\xbb\xbf{}",
        '{"images": ["\\ud800"]}',
    ],
)  # fmt: skip
def test_what_is_no_body(client, body):
    refused(client, 422, body)


@pytest.mark.parametrize(
    "body",
    [
        '{"images":[[' + "[]," * 300_000 + "[]]]}", '{"images":[' + "{}," * 300_000 + "{}]}",
        '{"images":["' + '","'.join(["ab"] * 150_000) + '"]}',
        '{"images":[[' + "1.5," * 200_000 + "1]]}",
        "{" + ",".join(f'"k{at}":1' for at in range(60_000)) + "}",
    ],
    ids=["lists", "objects", "texts", "numbers", "keys"],
)  # fmt: skip
def test_more_values_than_any_request_are_refused_before_they_are_read(client, body, monkeypatch):
    monkeypatch.setattr("harness.serve.strict.json", None)
    assert "more values" in refused(client, 422, body)


def test_a_long_name_is_looked_at_in_part(client):
    refused(client, 422, '{"images":[1],"' + "ab" * 400_000 + '":1}')
    body = {"images": [ZEROS], "attack": "pgd" * 200_000, "epsilon": 0.1}
    assert len(refused(client, 422, body, "attack")) < 400


@pytest.mark.parametrize("host", ["evil.com@127.0.0.1", "127.0.0.1/evil", "localhost#evil.com"])
def test_a_host_is_a_name_and_nothing_else(client, host):
    found = client.get("/api/v1/health", headers={"Host": host})
    assert found.status_code == 400


@pytest.mark.parametrize(
    ("route", "more", "status", "words"),
    [
        ("predict", {"imags": 1}, 422, "imags: unknown key; did you mean images?"),
        ("attack", {}, 422, "attack: missing"),
        ("attack", {"attack": "pgd"}, 422, "epsilon: missing"),
        ("attack", {"attack": "pdg", "epsilon": 0.1}, 422, "did you mean pgd?"),
        ("attack", {"attack": 1, "epsilon": 0.1}, 422, "attack: "),
        ("attack", {"attack": "pgd", "epsilon": "0.1"}, 422, "got '0.1'"),
        ("attack", {"attack": "pgd", "epsilon": True}, 422, "got true"),
        ("attack", {"attack": "pgd", "epsilon": None}, 422, "epsilon: "),
        ("attack", {"attack": "pgd", "epsilon": -0.1}, 422, "greater than or equal to 0"),
        ("attack", {"attack": "pgd", "epsilon": 1.5}, 409, "not from 0 to 1"),
        ("attack", {"attack": "pgd", "epsilon": 1e300}, 409, "not from 0 to 1"),
        ("attack", {"attack": "pgd", "epsilon": 0.1, "labels": [9]}, 409, "labels: 9"),
        ("attack", {"attack": "pgd", "epsilon": 0.1, "labels": [-1]}, 422, "labels.0"),
        ("attack", {"attack": "pgd", "epsilon": 0.1, "labels": [1.5]}, 422, "labels.0"),
        ("attack", {"attack": "pgd", "epsilon": 0.1, "labels": [1, 2]}, 409, "there are 2"),
        ("attack", {"attack": "pgd", "epsilon": 0.1, "steps": 10**9}, 422, "steps: unknown key"),
        ("explain", {"method": "gradcam"}, 422, "method: gradcam"),
        ("explain", {"top": 0}, 422, "top: "),
        ("explain", {"top": 1.01}, 422, "top: "),
        ("smallest", {"attack": "square"}, 422, "attack: "),
        ("smallest", {"limit": 0}, 422, "limit: "),
        ("smallest", {"limit": 3}, 409, "limit: 3"),
        ("predict", {"images": [ZEROS] * 17}, 422, "at most 16"),
    ],
)
def test_what_is_asked_wrongly(client, route, more, status, words):
    assert words in refused(client, status, {"images": [ZEROS]} | more, route)


@pytest.mark.parametrize(
    ("route", "more"),
    [
        ("attack", {"attack": "pgd", "epsilon": 0.1}), ("explain", {}), ("smallest", {}),
    ],
)  # fmt: skip
def test_a_black_box_is_not_asked_for_gradients(client, route, more):
    said = refused(client, 409, {"images": [ZEROS]} | more, route, "box")
    assert "needs gradient, which box does not give" in said


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/models/mlp", 404), ("GET", "/nothing", 404), ("GET", "/examples?model=x", 404),
        ("GET", "/examples?count=0", 422), ("GET", "/examples?count=101", 422),
        ("GET", "/examples?count=ten", 422), ("DELETE", "/models", 405), ("PUT", "/health", 405),
        ("GET", "/models/net/predict", 405), ("POST", "/models/..%2f..%2fetc/predict", 404),
        ("POST", "/models/mlp/predict", 422), ("OPTIONS", "/models", 405),
    ],
)  # fmt: skip
def test_unknown_addresses_names_and_methods(client, method, path, status):
    answer = client.request(method, path, headers=JSON)
    assert answer.status_code == status, answer.text
    sentence(answer)
    assert ("allow" in answer.headers) == (status == 405)


def test_a_picture_is_asked_for_by_name(client):
    answer = client.post(
        "/models/net/explain", json={"images": [ZEROS]}, params={"format": "/etc/passwd"}
    )
    assert answer.status_code == 422
    sentence(answer)


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_other_kinds_of_body_are_refused(client, kind):
    """A form of somebody else's page could send those without asking."""
    refused(
        client, 415, {"images": [ZEROS]}, headers={} if kind is None else {"content-type": kind}
    )


def test_bodies_beyond_the_bound_are_refused_however_they_come(client):
    assert "1,000,000 bytes" in refused(client, 413, b" " * (BODY + 1))

    def parts():
        for _ in range(30):
            yield b" " * 100_000

    answer = client.post("/models/net/predict", content=parts(), headers=JSON)
    assert answer.status_code == 413
    sentence(answer)
    text = json.dumps({"images": [ZEROS]})
    assert client.post(
        "/models/net/predict", content=text + " " * (BODY - len(text)), headers=JSON
    ).is_success


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_page_whose_name_was_pointed_here_is_refused(client, host):
    answer = client.get("/health", headers={"host": host})
    assert answer.status_code == 400
    sentence(answer)


def test_any_host_may_be_asked_for_where_the_server_is_open_to_all(served):
    with running(served, hosts=None) as client:
        assert client.get("/health", headers={"host": "models.example"}).is_success


def test_random_bytes_are_refused(client):
    drawn = random.Random(0)  # noqa: S311  # of no secret
    for _ in range(200):
        body = drawn.randbytes(drawn.randrange(400))
        for route in ("predict", "attack"):
            sentence(client.post(f"/models/net/{route}", content=body, headers=JSON))
    for _ in range(200):  # and bytes that are no HTTP at all
        with socket.create_connection(client.server.opened.getsockname(), timeout=5) as raw:
            raw.sendall(drawn.randbytes(drawn.randrange(1, 400)) + b"\r\n\r\n")
            raw.shutdown(socket.SHUT_WR)
            assert b" 500 " not in raw.recv(100)
    assert client.get("/health").is_success


def test_bytes_changed_at_random_are_answered_or_refused(client):
    drawn = random.Random(1)  # noqa: S311  # of no secret
    text = json.dumps({"images": [ZEROS], "attack": "fgsm", "epsilon": 0.1}).encode()
    for _ in range(200):
        body = bytearray(text)
        for _ in range(drawn.randrange(1, 4)):
            body[drawn.randrange(len(body))] = drawn.randrange(256)
        answer = client.post("/models/net/attack", content=bytes(body), headers=JSON)
        assert answer.is_success or sentence(answer)
        assert answer.status_code < 500


@pytest.fixture
def held(box):
    """Lets the black box wait until it is set."""
    event = threading.Event()
    box.before = lambda: event.wait(10)
    yield event
    event.set()
    box.before = lambda: None


def in_threads(count, ask):
    found, threads = [], []
    for _ in range(count):
        threads.append(threading.Thread(target=lambda: found.append(ask())))
        threads[-1].start()
    return found, threads


def test_beyond_the_queue_requests_are_refused_at_once_and_the_others_are_answered(served, held):
    with running(served, capacity=3) as client:
        ask = lambda: client.post("/models/box/predict", json={"images": [ZEROS]})  # noqa: E731
        found, threads = in_threads(10, ask)
        until = time.monotonic() + 5
        while len(found) < 6 and time.monotonic() < until:
            time.sleep(0.01)
        assert client.get("/health").json()["waiting"] == 3
        held.set()
        for thread in threads:
            thread.join(10)
    codes = sorted(answer.status_code for answer in found)
    assert codes == [200] * 4 + [429] * 6
    for answer in found:
        if answer.status_code == 429:
            assert answer.headers["retry-after"] == "1"
            sentence(answer)


def test_a_request_has_so_much_time_and_the_next_one_is_answered(served, held):
    with running(served, limit=0.2) as client:
        answer = client.post("/models/box/predict", json={"images": [ZEROS]})
        assert answer.status_code == 503
        assert "too long" in sentence(answer)
        held.set()
        time.sleep(0.1)
        assert client.post("/models/net/predict", json={"images": [ZEROS]}).is_success


def test_an_attack_that_takes_long_is_given_up_between_two_queries(served, box, image):
    box.before = lambda: time.sleep(0.02)
    try:
        with running(served, limit=0.3) as client:
            body = {"images": [image.tolist()], "attack": "square", "epsilon": 0.001}
            answer = client.post("/models/box/attack", json=body)
            assert answer.status_code == 503
            began = time.monotonic()
            assert client.post("/models/net/predict", json={"images": [ZEROS]}).is_success
            assert time.monotonic() - began < 1
    finally:
        box.before = lambda: None


def test_what_nobody_waits_for_is_given_up(served, box, image):
    import httpx

    asked = []
    box.before = lambda: (asked.append(1), time.sleep(0.02))
    try:
        with running(served) as client:
            body = {"images": [image.tolist()], "attack": "square", "epsilon": 0.001}
            with pytest.raises(httpx.ReadTimeout):
                client.post("/models/box/attack", json=body, timeout=0.3)
            assert client.post("/models/net/predict", json={"images": [ZEROS]}).is_success
            count = len(asked)
            time.sleep(0.2)
            assert len(asked) == count < 100
    finally:
        box.before = lambda: None


@pytest.mark.parametrize("error", [RuntimeError("no\nluck"), ValueError("x" * 5000), SystemExit(3)])
def test_a_model_that_fails_is_told_of_in_one_sentence(served, box, error):
    def fail():
        raise error

    box.before = fail
    try:
        with running(served) as client:
            answer = client.post("/models/box/predict", json={"images": [ZEROS]})
            assert answer.status_code in (409, 503)
            sentence(answer)
            assert client.post("/models/net/predict", json={"images": [ZEROS]}).is_success
    finally:
        box.before = lambda: None
