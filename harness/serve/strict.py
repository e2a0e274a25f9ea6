"""Requests whose body is JSON by the letter, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

TEXTS = 1_000
"""Quotation marks, and other marks beyond those of images, that a body may hold."""


class StrictRequest(Request):
    """A request whose JSON may hold no NaN, and must be UTF-8."""

    async def json(self) -> Any:
        """The body.

        Raises:
            HTTPException: It is no JSON; its detail is one sentence.
        """
        body = await self.body()
        self._require_sized(body)
        try:
            return json.loads(body.decode("utf-8"), parse_constant=_no_number)
        except RecursionError as error:
            raise HTTPException(422, "the body is nested too deeply") from error
        except ValueError as error:
            raise HTTPException(422, f"the body is no JSON: {_reason(error)}") from error

    def _require_sized(self, body: bytes) -> None:
        """Refuse, before it is read, what has more values than any request: each takes memory.

        What a text holds is counted, too, so that the bounds are wide.
        """
        lists, numbers = self.app.state.service.most
        counts = (body.count(b"[") + body.count(b"{"), lists), (body.count(b","), lists + numbers)
        if body.count(b'"') > TEXTS or any(found > TEXTS + most for found, most in counts):
            raise HTTPException(422, "the body holds more values than any request to these models")


class StrictRoute(APIRoute):
    """A route that reads its body by ``StrictRequest``, and takes no other kind of body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI's ``APIRoute``."""
        handle, takes_body = super().get_route_handler(), self.body_field is not None

        async def strictly(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if takes_body and kind != "application/json":
                raise HTTPException(415, "the body must be JSON: Content-Type: application/json")
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return "a number has too many digits" if "int_max_str_digits" in str(error) else str(error)
