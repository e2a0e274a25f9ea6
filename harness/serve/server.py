"""The process that serves: its socket, uvicorn, and how it ends."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from harness.errors import HarnessError, one_line
from harness.serve.guard import Guard
from harness.serve.work import Worker

ANSWERED, CLOSED = 1.0, 2
"""Seconds after SIGTERM within which requests are answered, and connections closed."""


class Server(uvicorn.Server):
    """Uvicorn, which tells the others when it ends, so that what takes long is given up.

    Args:
        guard: The application.
        worker: Asks the models.

    Attributes:
        told: The signal that has told it to end; 0 before.
    """

    def __init__(self, guard: Guard, worker: Worker) -> None:
        config = uvicorn.Config(
            guard, lifespan="off", ws="none", log_level="warning", access_log=False,
            server_header=False, timeout_graceful_shutdown=CLOSED,
        )  # fmt: skip
        super().__init__(config)
        self.guard, self.worker = guard, worker
        self.told = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        self.told = sig
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self.guard.end()
        self.worker.end(ANSWERED)
        await super().shutdown(sockets)


def bound(host: str, port: int) -> socket.socket:
    """A socket at that address, which does not listen yet.

    Args:
        host: Name or address.
        port: Its port; 0 for any that is free.

    Raises:
        HarnessError: There is no such address, or somebody else has it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise HarnessError(
            one_line(
                f"--host: {host}: no address of this machine; say 127.0.0.1, or 0.0.0.0 for all"
            )
        ) from error
    found = socket.socket(family, kind, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with_reason(lambda: found.bind(address), host, port, found)
    return found


def with_reason(do: Callable[[], None], host: str, port: int, opened: socket.socket) -> None:
    """Do something with a socket.

    Raises:
        HarnessError: It fails; the message says what to do, and the socket is closed.
    """
    try:
        do()
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            said = (
                f"--port: {port} is in use on {host}; name another one, or 0 for any that is free"
            )
        elif error.errno == errno.EACCES:
            said = f"--port: {port} may not be used by this user; name one above 1023"
        else:
            said = f"--host: {host}: {error.strerror}; say 127.0.0.1, or 0.0.0.0 for all"
        raise HarnessError(one_line(said)) from error


def is_loopback(opened: socket.socket) -> bool:
    """Whether only this machine can reach a socket."""
    return ipaddress.ip_address(opened.getsockname()[0].partition("%")[0]).is_loopback


def own_names(host: str, opened: socket.socket) -> set[str]:
    """The names by which a server on loopback is asked."""
    return {"localhost", "127.0.0.1", "::1", host.lower(), opened.getsockname()[0]}


def url_of(opened: socket.socket) -> str:
    """The address of a socket for a browser."""
    host, port = opened.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(guard: Guard, worker: Worker, opened: socket.socket) -> int:
    """Answer requests until SIGTERM or Ctrl-C comes.

    Args:
        guard: The application.
        worker: Asks the models; it is ended, too.
        opened: A socket that listens.

    Returns:
        The exit code after that signal, as shells count.
    """
    server = Server(guard, worker)
    try:
        server.run(sockets=[opened])
    except KeyboardInterrupt:  # uvicorn hands the signal on when it has ended
        pass
    finally:
        worker.end(0.0)
        worker.join(0.5)
    return 128 + server.told if server.told else 0
