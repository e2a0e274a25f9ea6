"""What requests and answers hold, as pydantic models: OpenAPI is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

BATCH = 16
"""Images a request, at most."""
NUMBERS: dict[str, Any] = {"type": "array", "items": {}}
"""The JSON schema of an image before it is known which models there are."""

Numbers: TypeAlias = Annotated[Any, WithJsonSchema(NUMBERS)]
Image: TypeAlias = Annotated[Any, WithJsonSchema({})]


class Part(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(extra="forbid")


class Body(BaseModel):
    """What a request asks: no other keys, and no text in the place of a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


def whole(value: Any) -> Any:
    """A float that is a whole number as an integer, which in JSON it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Label: TypeAlias = Annotated[int, Field(ge=0), BeforeValidator(whole)]
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
