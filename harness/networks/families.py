"""The architectures, by name: their options, and the network of each for some data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from harness.errors import HarnessError, SpecError, first_problem, unknown
from harness.maths.channels import axis_of
from harness.protocol import (
    Architecture,
    ArchitectureError,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    MeanPool,
    ReLU,
    Residual,
    fully_connected,
    maps_after,
    told,
)
from harness.protocol import Dropout as DropoutLayer
from harness.registry import Registry
from harness.spec.models import ModelSpec
from harness.spec.own import WeightsSpec
from harness.spec.part import Dropout, Hidden, Width


@dataclass(frozen=True)
class Family:
    """Networks of one kind.

    Attributes:
        options: The options of a network of this kind, as a pydantic model.
        build: Makes the network of the images and the options.
    """

    options: type[BaseModel]
    build: Callable[[ImageKind, Any], Architecture]


@dataclass(frozen=True)
class ImageKind:
    """The images that a network is to classify.

    Attributes:
        shape: Of one of them, such as ``(28, 28)``.
        classes: How many classes there are, at least 2.
        channel_axis: Axis of one that holds its channels, from 0; None of grey images without one.
    """

    shape: tuple[int, ...]
    classes: int
    channel_axis: int | None = None

    @classmethod
    def of(cls, shape: tuple[int, ...], classes: int, said: int | None = None) -> ImageKind:
        """Those of a shape, whose channel axis somebody has said, or which is guessed.

        Raises:
            HarnessError: They have no such axis.
        """
        return cls(shape, classes, axis_of(shape, said))


class Options(BaseModel):
    """What is said of a network in a spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _tuple(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


def _which(given: Any) -> str:
    """Of what may be one number or several the tag that ``errors.MARK`` leaves out of a message."""
    return "tuple" if isinstance(given, tuple) else "int"


Padded: TypeAlias = Annotated[int, Field(ge=0)]
Listed = BeforeValidator(_tuple)
"""Before what may be one number or several: older pydantic is strict within a union."""
T = TypeVar("T")
OneOrEach: TypeAlias = Annotated[
    Annotated[T, Tag("int")] | Annotated[tuple[T, ...], Tag("tuple")],
    Discriminator(_which),
    Listed,
]
"""One for all layers, or one for each."""
Channels: TypeAlias = Annotated[tuple[Width, ...], Field(min_length=1, strict=False)]
Numbers: TypeAlias = OneOrEach[Width]
Paddings: TypeAlias = OneOrEach[Padded]


class MLPOptions(Options):
    """A fully connected ReLU network; see ``protocol.fully_connected``.

    Attributes:
        hidden: Width of each hidden layer.
        dropout: Share in [0, 1) of the hidden units dropped while training.
        batch_norm: Whether training normalises before each ReLU.
    """

    # A spec's lists become tuples.
    hidden: Annotated[Hidden, Field(strict=False)]
    dropout: Dropout = 0.0
    batch_norm: bool = False


def mlp(images: ImageKind, options: MLPOptions) -> Architecture:
    """A fully connected ReLU network for such images."""
    return fully_connected(
        images.shape, options.hidden, images.classes, options.dropout, options.batch_norm,
        images.channel_axis,
    )  # fmt: skip


class CNNOptions(Options):
    """Convolutions with ReLU, then fully connected layers.

    Attributes:
        channels: Of each convolution.
        kernel: Side of the window of each, in pixels; one for all, or a list.
        stride: Of each; likewise.
        padding: Zeros around what each is given, in pixels; so many by default that a stride of
            1 keeps the size, where the side of the window is odd.
        pool: Side, and stride, of the windows of which the largest value is taken after each;
            1 for none.
        mean_pool: Whether the last maps are averaged to one number a channel.
        dense: Width of each hidden fully connected layer after them.
        dropout: Share in [0, 1) dropped while training, before each fully connected layer.
        batch_norm: Whether training normalises before each ReLU.
    """

    channels: Channels
    kernel: Numbers = 3
    stride: Numbers = 1
    padding: Paddings | None = None
    pool: Numbers = 1
    mean_pool: bool = False
    dense: Annotated[tuple[Width, ...], Field(strict=False)] = ()
    dropout: Dropout = 0.0
    batch_norm: bool = False

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        for key in ("kernel", "stride", "padding", "pool"):
            values = getattr(self, key)
            if isinstance(values, tuple) and len(values) != len(self.channels):
                raise ValueError(
                    f"{key}: {len(values)} numbers for {len(self.channels)} convolutions"
                )
        return self

    def each(self, key: str) -> tuple[int, ...]:
        """An option as one number for each convolution."""
        values: int | tuple[int, ...] | None = getattr(self, key)
        if values is None:
            return tuple((side - 1) // 2 for side in self.each("kernel"))
        return values if isinstance(values, tuple) else (values,) * len(self.channels)


def cnn(images: ImageKind, options: CNNOptions) -> Architecture:
    """A convolutional network for such images."""
    norm: list[Layer] = [BatchNorm()] if options.batch_norm else []
    drop: list[Layer] = [DropoutLayer(options.dropout)] if options.dropout else []
    layers: list[Layer] = []
    for channels, kernel, stride, padding, pool in zip(
        options.channels, *map(options.each, ("kernel", "stride", "padding", "pool")), strict=True
    ):
        layers += [convolution(channels, kernel, stride, padding), *norm, ReLU()]
        layers += [MaxPool((pool, pool), (pool, pool))] * (pool > 1)
    if options.mean_pool:
        layers += _averaged(images, layers)
    layers.append(Flatten())
    for width in options.dense:
        layers += [*drop, Dense(width), *norm, ReLU()]
    layers += [*drop, Dense(images.classes)]
    return Architecture(images.shape, tuple(layers), images.classes, images.channel_axis)


BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Residual blocks a stage of the four-stage networks, by depth (He et al. 2016, table 1)."""
WIDE, NARROW = 64, 16
"""Channels of the first stage of four-stage and of three-stage networks."""


class ResNetOptions(Options):
    """A residual network of two 3 × 3 convolutions a block, for small images (He et al. 2016).

    Attributes:
        depth: Layers with weights: 10, 18 or 34 in four stages, or 6 n + 2, such as 8 or 20, in
            three (section 4.2 of the paper).
        width: Channels of the first stage, doubled in each further one; by default 64 of four
            stages, and 16 of three.
    """

    depth: int
    width: Width | None = None

    @field_validator("depth")
    @classmethod
    def _known(cls, depth: int) -> int:
        if depth not in BLOCKS and (depth < 8 or (depth - 2) % 6):
            raise ValueError(f"{depth} is none of 10, 18, 34, or 6 n + 2 from 8")
        return depth


def resnet(images: ImageKind, options: ResNetOptions) -> Architecture:
    """A residual network for such images, with batch normalisation and projection shortcuts."""
    blocks = BLOCKS.get(options.depth) or ((options.depth - 2) // 6,) * 3
    width = options.width or (WIDE if len(blocks) == 4 else NARROW)
    layers: list[Layer] = [convolution(width, 3, 1, 1), BatchNorm(), ReLU()]
    before = width
    for stage, count in enumerate(blocks):
        channels = width * 2**stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            layers += [_block(before, channels, stride), ReLU()]
            before = channels
    layers += [*_averaged(images, layers), Flatten(), Dense(images.classes)]
    return Architecture(images.shape, tuple(layers), images.classes, images.channel_axis)


def _block(before: int, channels: int, stride: int) -> Residual:
    branch = (
        convolution(channels, 3, stride, 1), BatchNorm(), ReLU(),
        convolution(channels, 3, 1, 1), BatchNorm(),
    )  # fmt: skip
    if stride == 1 and before == channels:
        return Residual(branch)
    return Residual(branch, (convolution(channels, 1, stride, 0), BatchNorm()))


def convolution(channels: int, kernel: int, stride: int, padding: int) -> Conv:
    """One with square windows, and as many zeros on each side."""
    around = (padding, padding)
    return Conv(channels, (kernel, kernel), (stride, stride), (around, around))


def _averaged(images: ImageKind, layers: list[Layer]) -> list[Layer]:
    """What makes one number of each channel of the maps that these layers make."""
    last = maps_after(images.shape, tuple(layers), images.channel_axis)
    return [MeanPool((last[1], last[2]), (last[1], last[2]))]


FAMILIES: Registry[Family] = Registry(
    "architecture",
    "harness.architectures",
    {
        "mlp": Family(MLPOptions, mlp),
        "cnn": Family(CNNOptions, cnn),
        "resnet": Family(ResNetOptions, resnet),
    },
)
"""The kinds of network that a spec can name."""


def options_for(name: str, given: Mapping[str, Any]) -> BaseModel:
    """The options of an architecture, checked, and those that are not given at their defaults.

    Raises:
        SpecError: There is no such architecture, or an option is unknown, missing or wrong; the
            message begins with its key.
        HarnessError: Another package's architecture does not import, or two have one name.
    """
    options = _family(name).options
    try:
        return options.model_validate(dict(given))
    except ValidationError as error:
        beside = (*ModelSpec.model_fields, *WeightsSpec.model_fields)
        raise SpecError(first_problem(error, options, beside)) from error


def architecture_of(name: str, given: Mapping[str, Any], images: ImageKind) -> Architecture:
    """A network, by the name of its kind.

    Args:
        name: Name of the architecture, such as ``mlp``.
        given: Its options.
        images: What it is to classify.

    Raises:
        SpecError: As for ``options_for``; or its layers do not fit together, or not the images.
        HarnessError: As for ``options_for``; or what another package made is no architecture.
    """
    options = options_for(name, given)
    try:
        made = _family(name).build(images, options)
    except ArchitectureError as error:
        raise SpecError(
            f"architecture: {name} for images of {told(images.shape)}: {error}"
        ) from error
    if not isinstance(made, Architecture):
        raise HarnessError(f"{name}: made a {type(made).__name__}, not an Architecture")
    return made


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise SpecError(f"architecture: {unknown(name, 'architecture', FAMILIES)}")
    found = FAMILIES[name]
    if not isinstance(found, Family):
        raise HarnessError(f"{name}: is a {type(found).__name__}, not a networks.families.Family")
    return found
