"""What stands before the routes: which hosts may be asked for, how long a body is, and headers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY = 1_000_000
"""Bytes of a request's body, at most."""
DRAINED = 16 * BODY
"""Bytes beyond that which are read and thrown away, so that a client hears why it is refused."""
PATIENCE = 10.0
"""Seconds within which a body must be there."""
TICK = 0.25
"""Seconds after which somebody who waits for a body looks whether the server ends."""
OPEN = 256
"""Requests that are looked at at once; each may hold a body in memory."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a page of this server may load: its own files, and pictures that it has drawn."""
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
CLOSE = {"connection": "close"}
SENT = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


class Refused(Exception):  # noqa: N818  # it is an answer
    """A request that no route sees.

    Args:
        status: Of the answer.
        reason: One sentence.
        headers: More of the answer's headers.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.headers = status, dict(headers or {})


class Guard:
    """An ASGI application before another one.

    Args:
        app: The other.
        hosts: Names by which it may be asked; any if None. A page of somebody else whose name has
            been pointed at this machine asks by its own name.
    """

    def __init__(self, app: App, hosts: Collection[str] | None = None) -> None:
        self.app, self.hosts = app, hosts
        self._open, self._ends = 0, False

    def end(self) -> None:
        """Wait for no more bodies: the server ends."""
        self._ends = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in SENT if pair[0] not in there]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        self._open += 1
        try:
            self._require_host(scope)
            if self._open > OPEN:
                raise Refused(429, "too many requests at once; try again", {"retry-after": "1"})
            body = await self._body(scope, receive)
            await self.app(scope, _replayed(body, receive), sent)
        except Refused as refusal:
            await _answer(refusal, sent)
        finally:
            self._open -= 1

    def _require_host(self, scope: Scope) -> None:
        if self.hosts is None:
            return
        said = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        try:
            plain = len(said) == 1 and not set(said[0]) & set("/?#@\\")
            host = urlsplit(f"//{said[0]}").hostname if plain else None
        except ValueError:
            host = None
        if host not in self.hosts:
            raise Refused(
                400,
                "the Host header names none of this server's own addresses "
                f"({', '.join(sorted(self.hosts))}); a proxy must send one of them",
            )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            Refused: It is too long, does not come, or its sender has gone.
        """
        said = dict(scope["headers"]).get(b"content-length", b"")
        too_long = said.isdigit() and int(said[:20]) > BODY
        parts: list[bytes] = []
        length, more = 0, True
        until = time.monotonic() + PATIENCE
        while more and length <= DRAINED:
            message = await self._message(receive, until)
            part = message.get("body", b"")
            length += len(part)
            too_long = too_long or length > BODY
            parts = [] if too_long else [*parts, part]
            more = message.get("more_body", False)
        if too_long:
            raise Refused(413, f"the body is longer than {BODY:,} bytes", CLOSE)
        return b"".join(parts)

    async def _message(self, receive: Receive, until: float) -> Message:
        """The next part of a body.

        Raises:
            Refused: It does not come in time, or never.
        """
        while not self._ends and time.monotonic() < until:
            try:
                message = await asyncio.wait_for(receive(), TICK)
            except asyncio.TimeoutError:
                continue
            if message["type"] == "http.disconnect":
                raise Refused(400, "the client has gone")
            return message
        if self._ends:
            raise Refused(503, "the server is ending", CLOSE)
        raise Refused(408, "the body did not come in time", CLOSE)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What gives the body at once, and then goes on as before."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(refusal: Refused, send: Send) -> None:
    body = json.dumps({"error": str(refusal)}).encode()
    headers = {
        "content-type": "application/json", "content-length": str(len(body)), **refusal.headers,
    }  # fmt: skip
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
