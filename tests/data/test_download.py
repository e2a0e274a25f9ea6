"""Downloads against mirrors on loopback that fail in every way that mirrors do."""

import hashlib
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.data import download, mnist
from harness.data.download import RemoteFile, locate
from harness.errors import DataError
from harness.files import cache_dir

CONTENT = bytes(range(256)) * 1_000
FILE = RemoteFile("toy.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
CORRUPT = CONTENT[:-1] + b"!"
DOWNLOAD = f"""
import sys
from harness.data.download import *
print("up", flush=True)
locate("toy", [{FILE!r}], sys.argv[1:])
"""


@contextmanager
def serving(answer):
    """A mirror whose requests ``answer(handler)`` answers; yields its address and its requests."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/data/", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sending(content, length=None, status=200):
    def answer(handler):
        handler.send_response(status)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


good = sending(CONTENT, len(CONTENT))


def unreachable():
    """An address where nobody listens."""
    with serving(good) as (mirror, _):
        return mirror


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where the downloaded file goes, in an empty cache."""
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    return tmp_path / "cache" / "data" / "toy"


def downloading(mirror):
    """A process that has imported everything and is about to ask a mirror."""
    command = [sys.executable, "-c", DOWNLOAD, mirror]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    with process.stdout as stdout:
        assert stdout.readline().strip() == b"up"
    return process


def files_in(folder):
    """Names of the files, without the lock's."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_the_cache_is_where_the_environment_or_the_platform_says(tmp_path, monkeypatch):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("HARNESS_CACHE_DIR")
    assert cache_dir().is_absolute()
    assert "robustness-harness" in str(cache_dir())


def test_a_missing_file_is_downloaded_once(folder):
    with serving(good) as (mirror, requests):
        for _ in range(2):
            assert locate("toy", [FILE], [mirror]) == [folder / "toy.gz"]
    assert requests == ["/data/toy.gz"]
    assert (folder / "toy.gz").read_bytes() == CONTENT
    assert files_in(folder) == ["toy.gz"]


def test_the_users_folder_comes_first_and_only_what_it_lacks_is_downloaded(
    tmp_path, folder, monkeypatch
):
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path / "mine"))
    own = tmp_path / "mine" / "toy" / "own.gz"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    folder.mkdir(parents=True)
    (folder / "own.gz").write_bytes(b"cached")
    with serving(good) as (mirror, requests):
        paths = locate("toy", [RemoteFile("own.gz", 4, ""), FILE], [mirror])
    assert paths == [own, folder / "toy.gz"]
    assert requests == ["/data/toy.gz"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (sending(b"", status=403), "HTTP 403 Forbidden"),
        (sending(b"", status=503), "HTTP 503 Service Unavailable"),
        (sending(CORRUPT, len(CORRUPT)), f"SHA-256 is {hashlib.sha256(CORRUPT).hexdigest()}"),
        (sending(CONTENT[:1000], 1000), "truncated: 1,000 of 256,000 bytes"),
        (sending(CONTENT[:1000]), "truncated: 1,000 of 256,000 bytes"),
        (sending(CONTENT[:1000], len(CONTENT)), ""),  # Python versions put it differently
        (sending(CONTENT + b"!"), "too long: more than 256,000 bytes"),
        (lambda handler: None, "Remote end closed connection without response"),
        (lambda handler: handler.wfile.write(b"\0\n\n"), ""),
    ],
)
def test_what_one_mirror_fails_to_deliver_the_next_does(folder, answer, reason):
    with ExitStack() as stack:
        bad, asked = stack.enter_context(serving(answer))
        mirror, _ = stack.enter_context(serving(good))
        locate("toy", [FILE], [bad, mirror])
        assert asked == ["/data/toy.gz"]
        assert (folder / "toy.gz").read_bytes() == CONTENT
        (folder / "toy.gz").unlink()
        with pytest.raises(DataError) as caught:
            locate("toy", [FILE], [bad])
    host = bad.split("/")[2]
    assert str(caught.value).startswith(f"toy.gz: cannot be downloaded ({host}: {reason}")
    assert "\n" not in str(caught.value)
    assert files_in(folder) == []


def test_offline_one_line_says_which_files_to_put_where(folder, monkeypatch):
    mirrors = (unreachable(), unreachable())
    monkeypatch.setattr(mnist, "MIRRORS", mirrors)
    with pytest.raises(DataError) as caught:
        mnist.load()
    message = str(caught.value)
    assert "\n" not in message
    for mirror in mirrors:
        assert f"{mirror.split('/')[2]}: [Errno" in message
    assert "run `harness data mnist`" in message
    for file in mnist.FILES:
        assert file.name in message
    assert str(folder.parent / "mnist") in message
    assert "environment variable HARNESS_DATA_DIR" in message


def test_only_what_is_still_missing_is_asked_for(folder):
    other = RemoteFile("other.gz", 1, "")

    def one_of_two(handler):
        (good if "toy" in handler.path else sending(b"", status=404))(handler)

    with serving(one_of_two) as (mirror, _), pytest.raises(DataError) as caught:
        locate("toy", [FILE, other], [mirror])
    assert "get other.gz elsewhere" in str(caught.value)
    assert files_in(folder) == ["toy.gz"]


def test_a_silent_mirror_is_given_up(monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    done = threading.Event()
    with serving(lambda handler: done.wait(10)) as (mirror, _):
        try:
            with pytest.raises(DataError, match="timed out"):
                locate("toy", [FILE], [mirror])
        finally:
            done.set()


def dribbling(begin):
    """Sends a byte now and then, for ever: of the headers, or of the body."""

    def answer(handler):
        try:
            handler.wfile.write(begin)
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            handler.close_connection = True

    return answer


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: ", b""])
def test_a_mirror_that_sends_a_byte_now_and_then_is_given_up(folder, monkeypatch, begin):
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    with serving(dribbling(begin)) as (bad, _), serving(good) as (mirror, _):
        locate("toy", [FILE], [bad, mirror])
        (folder / "toy.gz").unlink()
        with pytest.raises(DataError, match=r"too slow: [0-9,]+ of 256,000 bytes in 0.5 seconds"):
            locate("toy", [FILE], [bad])
    assert files_in(folder) == []


def test_a_mirror_that_is_slow_but_fast_enough_is_waited_for(folder, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 2.0)

    def slow(handler):
        sending(b"", len(CONTENT))(handler)
        for start in range(0, len(CONTENT), 1 << 15):
            time.sleep(0.3)  # more than the patience in all
            handler.wfile.write(CONTENT[start : start + (1 << 15)])

    with serving(slow) as (mirror, _):
        locate("toy", [FILE], [mirror])
    assert (folder / "toy.gz").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://[::1", ""),
        ("http://127.0.0.1:port/", ""),
        ("file:///etc/passwd", "HTTP 302"),
        ("ftp://127.0.0.1/toy.gz", "redirects to ftp://127.0.0.1/toy.gz, which is no web address"),
        ("data:,x", "HTTP 302"),
        ("/data/toy.gz", "HTTP 302"),  # to itself, again and again
        ("http://a b\x1b[31m/", ""),
    ],
)
def test_a_redirect_that_leads_nowhere_is_one_line(folder, location, words):
    def redirects(handler):
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.end_headers()

    with serving(redirects) as (bad, _), serving(good) as (mirror, _):
        with pytest.raises(DataError) as caught:
            locate("toy", [FILE], [bad])
        locate("toy", [FILE], [bad, mirror])
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert (folder / "toy.gz").read_bytes() == CONTENT


def test_a_redirect_to_another_web_address_is_followed(folder):
    def redirects(handler):
        handler.send_response(302)
        handler.send_header("Location", f"{mirror}toy.gz")
        handler.end_headers()
        handler.wfile.write(bytes(1000))

    with serving(good) as (mirror, _), serving(redirects) as (first, _):
        locate("toy", [FILE], [first])
    assert (folder / "toy.gz").read_bytes() == CONTENT


def test_a_reason_cannot_move_the_cursor():
    def coloured(handler):
        handler.wfile.write(b"HTTP/1.1 503 \x1b[2J\x1b[31mgone\r\n\r\n")

    with serving(coloured) as (mirror, _), pytest.raises(DataError) as caught:
        locate("toy", [FILE], [mirror])
    assert r"HTTP 503 \x1b[2J\x1b[31mgone" in str(caught.value)


def test_an_endless_mirror_cannot_fill_the_disk(folder):
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while len(sent) < 1_000:
                handler.wfile.write(bytes(1 << 20))
                sent.append(1 << 20)
        except OSError:
            handler.close_connection = True

    with serving(endless) as (mirror, _), pytest.raises(DataError, match="too long"):
        locate("toy", [FILE], [mirror])
    # What the kernel's buffers take is small against the gigabyte that was on offer.
    assert sum(sent) < 100 << 20
    assert files_in(folder) == []


def test_an_interrupted_download_leaves_nothing(folder, monkeypatch):
    def interrupted(url, size):
        yield CONTENT[:1000]
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        locate("toy", [FILE], ["http://127.0.0.1:9/"])
    assert files_in(folder) == []


def test_a_killed_download_leaves_no_half_file_and_the_next_one_works(folder):
    killed = threading.Event()

    def half(handler):
        sending(CONTENT[: len(CONTENT) // 2], len(CONTENT))(handler)
        half_sent.set()
        killed.wait(10)

    half_sent = threading.Event()
    with serving(half) as (mirror, _):
        process = downloading(mirror)
        try:
            assert half_sent.wait(10)
        finally:
            process.kill()
            process.wait()
            killed.set()
    assert "toy.gz" not in files_in(folder)
    left = folder / ".toy.gz.left"  # as by a kill at the latest moment
    left.write_bytes(CONTENT)
    with serving(good) as (mirror, _):
        locate("toy", [FILE], [mirror])
    assert (folder / "toy.gz").read_bytes() == CONTENT
    assert files_in(folder) == ["toy.gz"]


def test_of_two_processes_one_downloads_and_both_find_the_file(folder):
    both_run = threading.Event()

    def slow(handler):
        both_run.wait(10)
        good(handler)

    with serving(slow) as (mirror, requests):
        processes = [downloading(mirror), downloading(mirror)]
        # Both have found no file by then; were they not to wait for each other, both would ask.
        threading.Timer(0.5, both_run.set).start()
        assert [process.wait(20) for process in processes] == [0, 0]
    assert requests == ["/data/toy.gz"]
    assert (folder / "toy.gz").read_bytes() == CONTENT
    assert files_in(folder) == ["toy.gz"]


def test_a_cache_that_cannot_be_written_is_an_error_of_one_line(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"^toy: [^\n]*HARNESS_CACHE_DIR[^\n]*$"):
        locate("toy", [FILE], ["http://127.0.0.1:9/"])
