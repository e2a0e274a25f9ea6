"""OpenAPI of one server: which models, attacks and methods there are, and what images they take."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np

from harness.protocol import Bounds
from harness.saliency.methods import METHODS
from harness.serve.caps import GRADIENT_STEPS, QUERIES
from harness.serve.live import Live, Misfit
from harness.serve.models import Served
from harness.serve.pictures import PREFIX, head, png_of
from harness.serve.work import CAPACITY, LIMIT

TOLD = (
    f"Epsilons, distances and bounds are in pixel units. Attacks are those of `harness run`, with "
    f"at most {GRADIENT_STEPS} steps of a gradient each, or {QUERIES:,} queries, and one start. "
    "An attack that fails proves nothing: a stronger one may succeed. Random numbers are drawn by "
    "the place of an image in its request. One thread asks the models; "
    f"{CAPACITY} requests may wait for it, and each has {LIMIT:g} seconds. Whatever is refused is "
    'said in one sentence: `{"error": "..."}`.'
)
Schema: TypeAlias = dict[str, Any]
MANY = 1024
"""Numbers of an image beyond which it is shown as PNG."""


def described(document: Schema, served: Served) -> Schema:
    """The document that FastAPI makes, with what is known of the models of this server.

    Args:
        document: FastAPI's; it is changed.
        served: The models.
    """
    lives = list(served.models.values())
    schemas = document["components"]["schemas"]
    document["info"]["description"] = TOLD
    image = _any_of(_image(live) for live in lives)
    numbers = _any_of(_numbers(live.shape) for live in lives)
    most = max(len(live.classes) for live in lives) - 1
    for name in ("PredictBody", "AttackBody", "ExplainBody", "SmallestBody"):
        properties = schemas[name]["properties"]
        properties["images"]["items"] = image
        if "labels" in properties:
            _list_of(properties["labels"])["items"]["maximum"] = most
    for name, keys in {
        "AttackResult": ("image", "perturbation"), "SaliencyMap": ("map",), "Example": ("image",),
    }.items():  # fmt: skip
        for key in keys:
            schemas[name]["properties"][key] = numbers
    attacks = dict.fromkeys(name for live in lives for name in (*live.attacks, *live.refused))
    asked = schemas["AttackBody"]["properties"]
    asked["attack"]["enum"] = list(attacks)
    asked["epsilon"]["maximum"] = max(
        (live.longest(name) for live in lives for name in live.attacks), default=0.0
    )
    schemas["ExplainBody"]["properties"]["method"]["enum"] = list(METHODS)
    _name(document["paths"], list(served.models))
    _exemplify(schemas, lives[0])
    return document


def _any_of(found: Iterable[Schema]) -> Schema:
    """One of several schemas, each named once."""
    each: list[Schema] = []
    for one in found:
        each += [part for part in one.get("anyOf", [one]) if part not in each]
    return each[0] if len(each) == 1 else {"anyOf": each}


def _image(live: Live) -> Schema:
    """What an image of a request may be."""
    height, width = live.plane
    start = head(height, width).replace("+", r"\+")
    png = {
        "type": "string",
        "description": f"Base64 of a PNG of {width} × {height} pixels.",
        "contentEncoding": "base64",
        "contentMediaType": "image/png",
        "pattern": f"^({PREFIX})?{start}[A-Za-z0-9+/]+={{0,2}}$",
    }
    return {"anyOf": [_numbers(live.shape, live.bounds), png]}


def _numbers(shape: tuple[int, ...], bounds: Bounds | None = None) -> Schema:
    """Nested lists of that shape; within the bounds, if these are given."""
    schema: Schema = {"type": "number"}
    if bounds is not None:
        schema |= {"minimum": bounds[0], "maximum": bounds[1]}
    for side in reversed(shape):
        schema = {"type": "array", "minItems": side, "maxItems": side, "items": schema}
    return schema


def _list_of(schema: Schema) -> Schema:
    """The part of a schema that is a list, where it may be null instead."""
    found: Schema = next(one for one in schema["anyOf"] if one.get("type") == "array")
    return found


def _name(paths: Mapping[str, Any], names: list[str]) -> None:
    """Say which models there are."""
    for operations in paths.values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "name":
                    parameter["schema"]["enum"] = names
                elif parameter["name"] == "model":
                    parameter["schema"]["anyOf"][0]["enum"] = names


def _exemplify(schemas: Mapping[str, Any], live: Live) -> None:
    """An example of each body: an image of middle grey."""
    image = _grey(live)
    schemas["PredictBody"]["examples"] = [{"images": [image]}]
    schemas["SmallestBody"]["examples"] = [{"images": [image], "labels": [0], "attack": "fgsm"}]
    schemas["ExplainBody"]["examples"] = [
        {"images": [image], "method": "gradient", "top": live.top}
    ]
    if name := next(iter(live.attacks), None):
        schemas["AttackBody"]["examples"] = [
            {"images": [image], "attack": name, "epsilon": live.longest(name) / 10}
        ]


def _grey(live: Live) -> Any:
    """An image of middle grey, as numbers; as PNG if these were many."""
    low, high = live.bounds
    grey = np.full(live.shape, (low + high) / 2)
    if grey.size > MANY:
        with suppress(Misfit):
            picture = png_of([grey], live.channel_axis, live.bounds)
            return base64.b64encode(picture).decode()
    return grey.tolist()
