"""Requests whose body is JSON by the letter, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute


class StrictRequest(Request):
    """A request whose JSON may hold no NaN, and must be UTF-8."""

    async def json(self) -> Any:
        """The body.

        Raises:
            HTTPException: It is no JSON; its detail is one sentence.
        """
        try:
            return json.loads((await self.body()).decode("utf-8"), parse_constant=_no_number)
        except RecursionError as error:
            raise HTTPException(422, "the body is nested too deeply") from error
        except ValueError as error:
            raise HTTPException(422, f"the body is no JSON: {_reason(error)}") from error


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
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
