"""What requests and answers hold, as pydantic models: OpenAPI is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from harness.errors import closest, one_line
from harness.maths.norms import rounding
from harness.protocol import FloatArray
from harness.serve.live import Attacked, Explained, Live, Misfit, Predicted
from harness.serve.pictures import NoPicture, image_of

BATCH = 16
"""Images a request, at most."""
SHOWN = 40
"""Letters of a wrong value that are repeated in the answer."""
NUMBERS: dict[str, Any] = {"type": "array", "items": {}}
"""The JSON schema of an image before it is known which models there are."""

Numbers: TypeAlias = Annotated[Any, WithJsonSchema(NUMBERS)]
Image: TypeAlias = Annotated[Any, WithJsonSchema({})]


class BadRequest(Exception):  # noqa: N818  # it is an answer to a request
    """A request that is not as OpenAPI says; the message is one sentence."""


class Part(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(extra="forbid")


class Body(BaseModel):
    """What a request asks: no other keys, and no text in the place of a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


Label: TypeAlias = Annotated[int, Field(ge=0)]
Images: TypeAlias = Annotated[
    list[Image],
    Field(
        min_length=1, max_length=BATCH,
        description="Each as nested numbers in the layout of the model's input, within its bounds; "
        "or as the base64 of a PNG of that size, whose bytes 0 and 255 are the bounds.",
    ),
]  # fmt: skip
Labels: TypeAlias = Annotated[
    list[Label] | None,
    Field(
        min_length=1, max_length=BATCH,
        description="One for each image; the predicted ones if null.",
    ),
]  # fmt: skip


class PredictBody(Body):
    """Which images are to be predicted."""

    images: Images


class AttackBody(Body):
    """Which images are to be attacked, and how."""

    images: Images
    labels: Labels = None
    attack: Annotated[str, Field(description="Name of an attack, as `GET models` lists them.")]
    epsilon: Annotated[
        float,
        Field(
            ge=0, allow_inf_nan=False, description="Radius in pixel units, in the attack's norm."
        ),
    ]


class ExplainBody(Body):
    """Which images are to be explained, and by which saliency method."""

    images: Images
    labels: Labels = None
    method: Annotated[str, Field(description="Name of a saliency method.")] = "gradient"
    top: Annotated[
        float | None,
        Field(gt=0, le=1, description="Share of the pixels in the mask; the spec's if null."),
    ] = None


class SmallestBody(Body):
    """Of which images the smallest epsilon that misclassifies them is wanted."""

    images: Images
    labels: Labels = None
    attack: Annotated[
        Literal["fgsm", "pgd"], Field(description="Along one gradient, or by a search.")
    ] = "fgsm"
    limit: Annotated[
        float | None,
        Field(
            gt=0, allow_inf_nan=False,
            description="The largest L∞ epsilon that is tried; the range of the pixels if null.",
        ),
    ] = None  # fmt: skip


class Problem(Part):
    """Why there is no answer, in one sentence for people."""

    error: str


class Health(Part):
    """That the server answers, and how many requests wait for the models."""

    status: Literal["ok"]
    version: str
    waiting: int
    capacity: int


class InputInfo(Part):
    """What images a model takes."""

    shape: list[int]
    channel_axis: int | None
    bounds: tuple[float, float]


class AttackInfo(Part):
    """An attack that a model can be put to; `steps` is the number that is taken here at most."""

    name: str
    norm: Literal["linf", "l2"]
    epsilon_max: float
    steps: int | None
    needs_gradient: bool


class Accuracy(Part):
    """What the model's stored run has measured; under attack, upper bounds on robust accuracy."""

    clean: float
    attacks: dict[str, list[tuple[float, float]]]


class Info(Part):
    """A model that is served."""

    name: str
    backend: str
    input: InputInfo
    classes: list[str]
    attacks: list[AttackInfo]
    methods: list[str]
    top: float
    epsilon_unit: float | None
    data: str | None
    accuracy: Accuracy | None
    weights: Literal["float16"] | None
    parameters: int | None
    recipe: str | None
    adversarial: bool


class Models(Part):
    """All models that are served."""

    models: list[Info]


class Prediction(Part):
    """What a model says of an image."""

    label: int
    class_: Annotated[str, Field(alias="class")]
    probabilities: list[float]
    logits: list[float]


class Predictions(Part):
    """A prediction for each image."""

    predictions: list[Prediction]


class AttackResult(Part):
    """An attack on an image; `misclassified` if the adversarial image's label is another one."""

    label: int
    clean: Prediction
    adversarial: Prediction
    misclassified: bool
    image: Numbers
    perturbation: Numbers
    distance: float


class AttackResults(Part):
    """An attack on each image."""

    results: list[AttackResult]


class SaliencyMap(Part):
    """A signed map; its absolute values over the channels; and the most salient pixels."""

    label: int
    map: Numbers
    scores: list[list[float]]
    mask: list[list[bool]]


class SaliencyMaps(Part):
    """A map of each image."""

    maps: list[SaliencyMap]


class SmallestResult(Part):
    """The smallest epsilon that misclassifies an image; null if none up to the limit does."""

    label: int
    epsilon: float | None
    limit: float


class SmallestResults(Part):
    """The smallest epsilon of each image."""

    results: list[SmallestResult]


class Example(Part):
    """A test image, its label, and what each model takes it for."""

    index: int
    label: int
    image: Numbers
    predicted: dict[str, int]


class Examples(Part):
    """Test images: the first of each class, then more."""

    examples: list[Example]


def info_of(live: Live) -> dict[str, Any]:
    """What is told of a model, as ``Info``."""
    about = live.about
    return {
        "name": live.name,
        "backend": live.backend,
        "input": {
            "shape": list(live.shape),
            "channel_axis": live.channel_axis,
            "bounds": list(live.bounds),
        },
        "classes": list(live.classes),
        "attacks": [
            {
                "name": name,
                "norm": attack.norm,
                "epsilon_max": live.longest(name),
                "steps": getattr(attack, "steps", None),
                "needs_gradient": "gradient" in attack.requires,
            }
            for name, attack in live.attacks.items()
        ],
        "methods": list(live.methods),
        "top": live.top,
        "epsilon_unit": about.epsilon_unit,
        "data": about.data,
        "accuracy": about.accuracy,
        "weights": None,
        "parameters": about.parameters,
        "recipe": about.recipe,
        "adversarial": about.adversarial,
    }


def prediction_of(live: Live, found: Predicted) -> dict[str, Any]:
    """What a model says of an image, as ``Prediction``."""
    return {
        "label": found.label,
        "class": live.classes[found.label],
        "probabilities": found.probabilities.tolist(),
        "logits": found.logits.tolist(),
    }


def attacked_of(live: Live, found: Attacked) -> dict[str, Any]:
    """An attack on an image, as ``AttackResult``."""
    return {
        "label": found.label,
        "clean": prediction_of(live, found.clean),
        "adversarial": prediction_of(live, found.adversarial),
        "misclassified": found.misclassified,
        "image": found.image.tolist(),
        "perturbation": found.perturbation.tolist(),
        "distance": found.distance,
    }


def explained_of(found: Explained) -> dict[str, Any]:
    """A saliency map, as ``SaliencyMap``."""
    return {
        "label": found.label,
        "map": found.map.tolist(),
        "scores": found.scores.tolist(),
        "mask": found.mask.tolist(),
    }


def smallest_of(label: int, epsilon: float, limit: float) -> dict[str, Any]:
    """A smallest epsilon, as ``SmallestResult``."""
    return {
        "label": int(label),
        "epsilon": float(epsilon) if math.isfinite(epsilon) else None,
        "limit": limit,
    }


def images_of(live: Live, given: Sequence[Any], shapes: set[tuple[int, ...]]) -> FloatArray:
    """The images of a request, (n, *shape) within the model's bounds.

    Args:
        live: The model.
        given: Nested numbers, or the base64 of a PNG, each.
        shapes: Of the images of all models that are served.

    Raises:
        BadRequest: One is no image of a model that is served.
        Misfit: One is an image of another model, or damaged.
    """
    found = np.empty((len(given), *live.shape), live.dtype)
    for place, one in enumerate(given):
        try:
            if isinstance(one, str):
                found[place] = image_of(one, live.shape, live.channel_axis, live.bounds)
            else:
                found[place] = _numbers(one, live, shapes)
        except (NoPicture, BadRequest) as error:
            raise BadRequest(f"images.{place}: {error}") from error
        except Misfit as error:
            raise Misfit(f"images.{place}: {error}") from error
    return found


def _numbers(given: Any, live: Live, shapes: set[tuple[int, ...]]) -> FloatArray:
    shape = _shape(given)
    if shape != live.shape:
        wrong = Misfit if shape in shapes else BadRequest
        raise wrong(
            f"is not of shape {_sides(live.shape)} (as nested lists), which {live.name} takes"
        )
    low, high = live.bounds
    slack = rounding(live.bounds)
    flat = [given]
    for _ in shape:
        flat = [inner for outer in flat for inner in outer]
    for value in flat:
        if type(value) not in (int, float):
            raise BadRequest(f"holds {shown(value)}, which is no number")
        if not low - slack <= value <= high + slack:
            raise BadRequest(f"holds {shown(value)}, which is outside of [{low:g}, {high:g}]")
    pixels: FloatArray = np.array(flat, np.float64).reshape(shape).astype(live.dtype)
    return pixels.clip(low, high)


def _shape(given: Any) -> tuple[int, ...] | None:
    """The lengths of nested lists; None if those of one level differ."""
    level, sides = [given], []
    while level and all(isinstance(one, list) for one in level):
        lengths = {len(one) for one in level}
        if len(lengths) > 1:
            return None
        sides.append(lengths.pop())
        level = [inner for outer in level for inner in outer]
    return None if any(isinstance(one, list) for one in level) else tuple(sides)


def _sides(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def shown(value: Any) -> str:
    """A wrong value, for people: short ones as they are in JSON, else their kind."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if not isinstance(value, str | int | float):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, str) and len(value) > SHOWN:
        return "a long text"
    if isinstance(value, int) and abs(value) > 10**SHOWN:
        return "a number of too many digits"
    return one_line(repr(value))


def sentence_of(error: ValidationError | Sequence[Any], fields: Sequence[str] = ()) -> str:
    """The first finding of a validation as one sentence: ``key: what is wrong``.

    Args:
        error: What pydantic has found, or its list of findings.
        fields: Keys that there may be, one of which a misspelt one may mean.
    """
    findings = error.errors(include_url=False) if isinstance(error, ValidationError) else error
    first = min(findings, key=lambda one: one["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    key = one_line(".".join(path))[:SHOWN]
    if first["type"] == "extra_forbidden":
        meant = closest(path[-1], fields)
        said = f"unknown key; did you mean {meant}?" if meant else "unknown key; leave it out"
    elif first["type"] == "missing":
        said = "missing" if path else "the body is missing; send JSON"
    else:
        text = first["msg"].replace(" after validation", "")
        said = f"{text[:1].lower()}{text[1:]}"
        if first["type"] not in ("too_short", "too_long"):  # which say it
            said += f" (got {shown(first.get('input'))})"
    return one_line(f"{key}: {said}" if key else said)
