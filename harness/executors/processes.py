"""Worker processes on this machine, each on its own: one that dies takes one piece with it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock, Thread, local
from typing import IO, Any, ParamSpec, TypeVar

from harness.errors import one_line
from harness.executors.child import opened_answer, receive, send
from harness.executors.environment import threads
from harness.executors.workers import WorkerDied

P = ParamSpec("P")
T = TypeVar("T")

STARTS = 3
"""How often a process is started that ends before it takes work."""
ENDINGS = (EOFError, OSError, ValueError)
"""What is raised where a process has ended, or has been ended by another thread."""
ENDED = "ended with the run"
"""Why a process is gone that has been ended on purpose."""
GRACE = 5.0
"""Seconds from the end of a process's pipes to its own."""
LAST = 4096
"""Bytes of what a process has printed that are looked at when it has ended."""


class Processes(Executor):
    """So many processes of this machine; each is started when there is first work for it.

    A process keeps what its modules hold, such as loaded models, from piece to piece. It imports
    nothing of the script that runs here, so that functions must be of modules. It ends when this
    process does, however that ends, and not by itself on Ctrl-C. What pieces print is not shown.

    Args:
        count: How many pieces run at once.

    Raises:
        WorkerDied: As the exception of a piece whose process has ended; another process takes its
            place.
    """

    def __init__(self, count: int) -> None:
        self._max_workers = count
        self._threads = ThreadPoolExecutor(count, "harness-worker")
        self._own = local()  # of each thread, its process
        self._all: set[_Process] = set()
        self._ended = False
        self._lock = Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in one of the processes."""
        return self._threads.submit(self._run, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and end all processes when what was taken is done.

        Args:
            wait: Whether to return only then.
            cancel_futures: End them at once instead, and whatever runs in them.
        """
        if cancel_futures:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._end()
        if wait:
            self._threads.shutdown(wait=True)
            self._end()
        elif not cancel_futures:
            self._threads.shutdown(wait=False)
            Thread(target=self.shutdown, daemon=True).start()

    def _run(self, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
        request = pickle.dumps((fn, args, kwargs))
        process: _Process | None = getattr(self._own, "process", None)
        if process is None:
            process = self._own.process = self._started()
        try:
            answer = process.asked(request)
        except ENDINGS:
            self._own.process = None
            raise WorkerDied(self._buried(process)) from None
        value, error = opened_answer(answer)
        if error is not None:
            raise error
        found: T = value
        return found

    def _started(self) -> _Process:
        """A process that is ready; one that ends before has not cost any piece."""
        for start in range(STARTS):
            with self._lock:
                if self._ended:
                    raise WorkerDied(ENDED)
                process = _Process()
                self._all.add(process)
            try:
                process.ready()
            except ENDINGS:
                reason = self._buried(process)
                if start == STARTS - 1:
                    raise WorkerDied(f"does not start: {reason}") from None
            else:
                break
        return process

    def _buried(self, process: _Process) -> str:
        """Why a process has ended, when nothing of it is left."""
        with self._lock:
            if self._ended:  # which buries all that are left
                return ENDED
            self._all.discard(process)
        return process.end()

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            left, self._all = self._all, set()
        for process in left:
            process.kill()
        for process in left:
            process.end()


class _Process:
    """One process, in a session of its own, which Ctrl-C in a terminal does not reach."""

    def __init__(self) -> None:
        code = (
            f"import sys; sys.path[:] = {[one for one in sys.path if isinstance(one, str)]!r}; "
            "from harness.executors.child import main; main()"
        )
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end()
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | threads(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            start_new_session=True,
        )
        # What a piece has started may hold the pipes open beyond the end of its process.
        self._watch = Thread(target=self._clear, daemon=True)
        self._watch.start()

    def ready(self) -> None:
        """Wait until it takes requests.

        Raises:
            EOFError, OSError, ValueError: It has ended, or was ended by another thread.
        """
        receive(_pipe(self._process.stdout))

    def asked(self, request: bytes) -> bytes:
        """Its answer to a request.

        Raises:
            EOFError, OSError, ValueError: As for ``ready``.
        """
        send(_pipe(self._process.stdin), request)
        return receive(_pipe(self._process.stdout))

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> str:
        """Wait until nothing of it is left, and say why it has ended."""
        self._watch.join(GRACE)
        self.kill()  # one that has closed its pipes, and lives
        self._watch.join()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what could not be sent
                _pipe(stream).close()
        with self._printed as printed:
            size = printed.seek(0, os.SEEK_END)
            printed.seek(max(0, size - LAST))
            lines = printed.read().decode("utf-8", "replace").splitlines()
        return _reason(self._process.returncode, lines)

    def _clear(self) -> None:
        if sys.platform != "win32":
            with suppress(ChildProcessError):  # it was seen to be dead already
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            with suppress(OSError):  # it was the last of its session
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise EOFError
    return stream


def _reason(code: int, printed: list[str]) -> str:
    if code >= 0:
        last = next((line for line in reversed(printed) if line.strip()), "")
        return one_line(f"ended with exit code {code}{': ' if last else ''}{last}")
    try:
        name = signal.Signals(-code).name
    except ValueError:  # one without a name
        name = "of no name"
    memory = ", perhaps out of memory" if name == "SIGKILL" else ""
    return f"killed by signal {-code} ({name}){memory}"
