"""What the routes share: the models, and how a request waits for the one thread that asks them."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fastapi import HTTPException, Request, Response

from harness.errors import HarnessError, MeasurementError, Unanswered, gist, one_line, unknown
from harness.serve.live import Live, Misfit, NoSuchName
from harness.serve.models import Served
from harness.serve.reading import BadRequest
from harness.serve.schemas import BATCH
from harness.serve.work import Busy, Job, Stopped, Worker

GRACE = 0.25
"""Seconds beyond its time that a job has to notice that it is over."""
log = logging.getLogger("harness.serve")


@dataclass(frozen=True)
class Service:
    """What the routes share.

    Args:
        served: The models and the test images.
        worker: Asks the models.

    Attributes:
        predicted: What each model takes the test images for, by name and position.
    """

    served: Served
    worker: Worker
    predicted: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Let models look, before each query, whether anybody still waits for the answer."""
        for live in self.lives:
            live.watched.look = self.worker.look

    @property
    def lives(self) -> Collection[Live]:
        """All models."""
        return self.served.models.values()

    @cached_property
    def most(self) -> tuple[int, int]:
        """Lists, and numbers, in as many images as a request may hold, of the largest model."""
        shapes = [live.shape for live in self.lives]
        lists = max(sum(math.prod(shape[:axis]) for axis in range(len(shape))) for shape in shapes)
        return BATCH * lists, BATCH * max(map(math.prod, shapes))

    def live(self, name: str) -> Live:
        """The model of that name.

        Raises:
            HTTPException: 404.
        """
        if name not in self.served.models:
            raise HTTPException(404, one_line(unknown(name[:80], "model", self.served.models)))
        return self.served.models[name]

    async def answered(self, request: Request, ask: Callable[[], Any]) -> Response:
        """The answer of the models, as JSON; or bytes as a PNG.

        Args:
            request: Who asks; once it has gone, the work is given up.
            ask: Asks them, in the worker's thread.

        Raises:
            HTTPException: There is no answer: 409, 422, 429 or 503, with one sentence.
        """
        try:
            job = self.worker.submit(lambda: _encoded(ask()))
            content, kind = await self._outcome(job, request)
        except Busy as error:
            raise HTTPException(
                429, "too many requests wait for the models; try again", {"Retry-After": "1"}
            ) from error
        except (BadRequest, NoSuchName) as error:
            raise HTTPException(422, one_line(error)) from error
        except (Stopped, Unanswered) as error:
            raise HTTPException(
                503, f"no answer: {one_line(error)}", {"Retry-After": "1"}
            ) from error
        except (Misfit, MeasurementError, HarnessError) as error:
            raise HTTPException(409, one_line(error)) from error
        except Exception as error:  # somebody's model, attack or method raises what it likes
            log.exception("a request failed")
            raise HTTPException(503, f"no answer: the model failed ({gist(error)})") from error
        return Response(content, media_type=kind)

    async def _outcome(self, job: Job[tuple[bytes, str]], request: Request) -> tuple[bytes, str]:
        done = asyncio.wrap_future(job.future)
        done.add_done_callback(_looked_at)
        gone = asyncio.ensure_future(_gone(request))
        try:
            awaited: set[asyncio.Future[Any]] = {done, gone}
            await asyncio.wait(
                awaited,
                timeout=max(0.0, job.until - time.monotonic()) + GRACE,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if done.done():
                return done.result()
            raise Stopped("nobody waits for it" if gone.done() else "it took too long")
        finally:
            gone.cancel()
            if not done.done():
                self.worker.drop(job, "nobody waits for it")


def _encoded(found: Any) -> tuple[bytes, str]:
    """The content of an answer, and its kind."""
    if isinstance(found, bytes):
        return found, "image/png"
    return json.dumps(found, allow_nan=False, separators=(",", ":")).encode(), "application/json"


async def _gone(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _looked_at(future: asyncio.Future[Any]) -> None:
    """So that the outcome of what was given up is not missed."""
    if not future.cancelled():
        future.exception()
