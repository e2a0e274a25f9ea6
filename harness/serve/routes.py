"""The routes under ``/api/v1``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from harness.protocol import FloatArray
from harness.serve import schemas
from harness.serve.answers import (
    attacked_of,
    explained_of,
    info_of,
    prediction_of,
    smallest_of,
)
from harness.serve.live import Live
from harness.serve.pictures import png_of
from harness.serve.reading import images_of
from harness.serve.schemas import AttackBody, ExplainBody, Info, PredictBody, SmallestBody
from harness.serve.service import Service
from harness.serve.strict import StrictRoute

MOST_EXAMPLES = 100
"""Test images an answer, at most; of large images fewer ..."""
MOST_NUMBERS = 2_000_000
"""... so that it holds no more numbers than this."""
PNG = "image/png"
WHY: Mapping[int, str] = {
    404: "There is no model of that name.",
    408: "The body did not come in time.",
    409: "The request is well-formed, but its parts do not fit each other, or this model: another "
    "number of labels than of images, an epsilon that no two images are apart, a damaged PNG, an "
    "attack that needs a gradient of a model that gives none, a map that says nothing.",
    413: "The body is longer than 1 MB.",
    415: "The body is not said to be JSON.",
    422: "The request is not as this document says.",
    429: "Too many requests wait for the models.",
    503: "The models did not answer in time, or failed.",
}
"""What the refusals of routes mean."""


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """These refusals for OpenAPI, each with its body."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        found[code] = {"model": schemas.Problem, "description": WHY[code]}
        if code in (429, 503):
            found[code]["headers"] = {
                "Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}
            }
    return found


ASKING = refusals(404, 408, 409, 413, 415, 422, 429, 503)
Name = Annotated[str, Path(description="Name of a model, as `GET models` lists them.")]
Format = Annotated[
    Literal["json", "png"] | None,
    Query(
        alias="format",
        description="`png` for pictures beside each other in place of numbers, as `Accept: "
        "image/png` asks, too; rounding to bytes may undo an attack.",
    ),
]
router = APIRouter(prefix="/api/v1", route_class=StrictRoute)


def service_of(request: Request) -> Service:
    """What the routes share."""
    found: Service = request.app.state.service
    return found


async def _answered(
    request: Request,
    name: str,
    body: PredictBody | AttackBody | ExplainBody | SmallestBody,
    ask: Callable[[Live, FloatArray], dict[str, Any] | bytes],
) -> Response:
    """What a model answers to a question about the images of a body."""
    service = service_of(request)
    live = service.live(name)
    return await service.answered(
        request, lambda: ask(live, images_of(live, body.images, service.lives))
    )


def _wants_picture(request: Request, form: str | None) -> bool:
    accepted = request.headers.get("accept", "")
    return form == "png" or (form is None and PNG in accepted and "json" not in accepted)


@router.get("/health", response_model=schemas.Health)
async def health(request: Request) -> dict[str, Any]:
    """Whether the server answers, and how many requests wait for the models."""
    worker = service_of(request).worker
    return {
        "status": "ok", "version": version("robustness-harness"), "waiting": worker.waiting,
        "capacity": worker.capacity,
    }  # fmt: skip


@router.get("/models", response_model=schemas.Models)
async def models(request: Request) -> dict[str, Any]:
    """All models that are served."""
    return {"models": [info_of(live) for live in service_of(request).lives]}


@router.get("/models/{name}", response_model=Info, responses=refusals(404, 422))
async def model(name: Name, request: Request) -> dict[str, Any]:
    """One model: its input, its classes, and what it can be asked."""
    return info_of(service_of(request).live(name))


@router.post(
    "/models/{name}/predict", responses={200: {"model": schemas.Predictions}, **ASKING}
)  # fmt: skip
async def predict(name: Name, body: PredictBody, request: Request) -> Response:
    """What the model says of each image."""

    def ask(live: Live, images: FloatArray) -> dict[str, Any]:
        return {"predictions": [prediction_of(live, one) for one in live.predicted(images)]}

    return await _answered(request, name, body, ask)


@router.post(
    "/models/{name}/attack",
    responses={200: {"model": schemas.AttackResults, "content": {PNG: {}}}, **ASKING},
)
async def attack(
    name: Name, body: AttackBody, request: Request, form: Format = None
) -> Response:  # fmt: skip
    """Each image under an attack at one epsilon, and what the model says of it then."""
    picture = _wants_picture(request, form)

    def ask(live: Live, images: FloatArray) -> dict[str, Any] | bytes:
        found = live.attacked(images, body.labels, body.attack, body.epsilon)
        if picture:
            return png_of([one.image for one in found], live.channel_axis, live.bounds)
        return {"results": [attacked_of(live, one) for one in found]}

    return await _answered(request, name, body, ask)


@router.post(
    "/models/{name}/explain",
    responses={200: {"model": schemas.SaliencyMaps, "content": {PNG: {}}}, **ASKING},
)
async def explain(
    name: Name, body: ExplainBody, request: Request, form: Format = None
) -> Response:  # fmt: skip
    """A saliency map of each image, and its most salient pixels; as PNG, these are tinted."""
    picture = _wants_picture(request, form)

    def ask(live: Live, images: FloatArray) -> dict[str, Any] | bytes:
        found = live.explained(images, body.labels, body.method, body.top)
        if picture:
            masks = [one.mask for one in found]
            return png_of(list(images), live.channel_axis, live.bounds, masks)
        return {"maps": [explained_of(one) for one in found]}

    return await _answered(request, name, body, ask)


@router.post(
    "/models/{name}/smallest", responses={200: {"model": schemas.SmallestResults}, **ASKING}
)  # fmt: skip
async def smallest(name: Name, body: SmallestBody, request: Request) -> Response:
    """The smallest epsilon at which each image is misclassified."""

    def ask(live: Live, images: FloatArray) -> dict[str, Any]:
        labels, epsilons, limit = live.smallest(images, body.labels, body.attack, body.limit)
        pairs = zip(labels, epsilons, strict=True)
        return {"results": [smallest_of(label, epsilon, limit) for label, epsilon in pairs]}

    return await _answered(request, name, body, ask)


@router.get(
    "/examples",
    responses={200: {"model": schemas.Examples}, **refusals(404, 409, 422, 429, 503)},
)
async def examples(
    request: Request,
    of: Annotated[
        str | None,
        Query(alias="model", description="A model that should take the images; the first if null."),
    ] = None,
    count: Annotated[int, Query(ge=1, le=MOST_EXAMPLES)] = 20,
) -> Response:
    """Test images, the first of each class before others, and what each model takes them for."""
    service = service_of(request)
    live = service.live(next(iter(service.served.models)) if of is None else of)
    return await service.answered(request, lambda: _examples(service, live, count))


def _examples(service: Service, live: Live, count: int) -> dict[str, Any]:
    there = service.served.examples
    if there is None or tuple(there.x.shape[1:]) != live.shape:
        return {"examples": []}
    rows = there.rows(min(count, max(1, MOST_NUMBERS // math.prod(live.shape))))
    images = there.images(rows)
    fitting = [one for one in service.lives if one.shape == live.shape]
    for one in fitting:
        missing = [
            at for at, row in enumerate(rows) if (one.name, int(row)) not in service.predicted
        ]
        found = one.predicted(images[missing]) if missing else []
        for at, said in zip(missing, found, strict=True):
            service.predicted[one.name, int(rows[at])] = said.label
    return {
        "examples": [
            {
                "index": int(row),
                "label": int(there.y[row]),
                "image": image.tolist(),
                "predicted": {one.name: service.predicted[one.name, int(row)] for one in fitting},
            }
            for row, image in zip(rows, images, strict=True)
        ]
    }
