"""The command itself, in a process of its own: its address, its end, and what it says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from live_servers import packages_at_hand
from tiny_spec import tiny_spec

SQUARE = "[attacks.square]\nepsilons = [0.1]\nsteps = 1000"
SLOW = """
import time
import harness

def box():
    def slow(x):
        time.sleep(0.2)
        return x.reshape(len(x), -1)[:, 20:30]
    return harness.wrap_function(slow)
"""


@pytest.fixture(autouse=True)
def _packages():
    packages_at_hand()


def begun(*arguments, cwd=None, wait=60):
    """The process, once it has said where it is, and its address."""
    code = "import sys; from harness.cli import main; sys.argv[0] = 'harness'; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    timer = threading.Timer(wait, process.kill)
    timer.start()
    line = process.stdout.readline()
    timer.cancel()
    assert "http://" in line, (line, process.stderr.read())
    return process, line[line.index("http://") :].split()[0]


def ended(process, sent=signal.SIGTERM, within=3.0):
    began = time.monotonic()
    process.send_signal(sent)
    _, said = process.communicate(timeout=20)
    assert time.monotonic() - began < within
    assert "Traceback" not in said
    return process.returncode, said


@pytest.fixture
def spec_file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(tiny_spec(attacks=SQUARE))
    return path


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_serves_until_it_is_told_to_end(spec_file, sent, code):
    import httpx

    process, url = begun(spec_file, "--port", 0)
    with httpx.Client(base_url=url, trust_env=False) as client:
        assert client.get("api/v1/health").json()["status"] == "ok"
        assert client.get("api/v1/models").json()["models"][0]["name"] == "mlp"
        found, said = ended(process, sent)  # with a connection that is kept alive
    assert found == code
    assert "login" not in said


def test_what_was_asked_before_the_end_is_answered(tmp_path):
    """Of slow requests some are answered, and the others told that the server ends."""
    import httpx

    (tmp_path / "slow_here.py").write_text(SLOW)
    (tmp_path / "tiny.toml").write_text(
        'name = "slow"\n[data]\nname = "digits"\n[attacks.square]\nepsilons = [0.1]\n'
        '[models.box]\nload = "slow_here:box"\n'
    )
    process, url = begun("tiny.toml", "--port", 0, cwd=tmp_path)
    image, answers = [[0.5] * 8] * 8, []

    def ask():
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            answers.append(client.post("api/v1/models/box/predict", json={"images": [image]}))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    waiting = 0
    while waiting < 16 - len(answers) - 1:  # all have come, and one is at work
        waiting = httpx.get(f"{url}api/v1/health", trust_env=False).json()["waiting"]
    code, _ = ended(process)
    for thread in threads:
        thread.join(5)
    assert code == 143
    assert len(answers) == 16
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        assert set(answer.json()) & {"error", "predictions", "results"}


def test_a_half_sent_request_does_not_hold_the_end_up(spec_file):
    process, url = begun(spec_file, "--port", 0)
    host, port = url.removeprefix("http://").rstrip("/").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(
            b"POST /api/v1/models/mlp/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
        time.sleep(0.3)
        code, _ = ended(process)
    assert code == 143


def failed(*arguments, cwd=None):
    done = subprocess.run(
        [sys.executable, "-m", "harness", "serve", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, cwd=cwd, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    return line


def test_a_port_in_use_is_one_line_before_anything_is_trained(spec_file):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = failed(spec_file, "--port", port)
    assert line == (
        f"harness: --port: {port} is in use on 127.0.0.1; name another one, or 0 for any that is "
        "free"
    )


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", ""])
def test_an_address_that_is_not_this_machine_s_is_one_line(spec_file, host):
    assert failed(spec_file, "--host", host, "--port", 0).startswith("harness: --host: ")


def test_open_to_all_it_says_that_there_is_no_login(spec_file):
    import httpx

    process, url = begun(
        spec_file,
        "--host",
        "0.0.0.0",  # noqa: S104
        "--port",
        0,
    )
    port = url.rstrip("/").rsplit(":", 1)[1]
    answer = httpx.get(
        f"http://127.0.0.1:{port}/api/v1/health", headers={"host": "some.name"}, trust_env=False
    )
    assert answer.is_success
    _, said = ended(process)
    assert "there is no login" in said


def test_without_the_extra_it_says_what_to_install(tmp_path):
    hide = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: "
        "None if name in ('fastapi', 'uvicorn') else find(name, *more)\n"
        "sys.argv = ['harness', 'serve']\n"
        "from harness.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", hide], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "harness: serve: fastapi and uvicorn not installed; pip install 'robustness-harness[serve]'"
    ]
