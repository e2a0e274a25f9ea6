"""What a spec says of somebody's own models and data."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from harness.spec.expect import ExpectSpec
from harness.spec.part import BatchSize, Part, Sparse

Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Channels: TypeAlias = Annotated[tuple[Finite, ...], Field(min_length=1)]
Deviations: TypeAlias = Annotated[tuple[Positive, ...], Field(min_length=1)]


def checked_factory(name: str) -> str:
    """The name of a function, ``package.module:function``.

    Raises:
        ValueError: It is none.
    """
    module, _, function = name.partition(":")
    parts = [*module.split("."), *function.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise ValueError(f"{name!r} is not package.module:function")
    return name


FactoryName: TypeAlias = Annotated[str, AfterValidator(checked_factory)]


class PreprocessingSpec(Part):
    """Normalisation by (x - mean) / std, per channel or for all, in pixel units.

    Attributes:
        mean: Of each channel, or one for all.
        std: Standard deviation of each channel, likewise.
    """

    mean: Finite | Channels
    std: Positive | Deviations

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.means) != len(self.deviations):
            raise ValueError(f"{len(self.means)} means, but {len(self.deviations)} deviations")
        return self

    @property
    def means(self) -> tuple[float, ...]:
        """The mean of each channel, or the one for all."""
        return self.mean if isinstance(self.mean, tuple) else (self.mean,)

    @property
    def deviations(self) -> tuple[float, ...]:
        """The standard deviation of each channel, or the one for all."""
        return self.std if isinstance(self.std, tuple) else (self.std,)


class OwnModelSpec(Sparse):
    """Somebody's own model: a function that returns it, or a file.

    Attributes:
        load: ``package.module:function``, called with ``options``; it returns a network, or what
            ``harness.wrap`` or ``harness.wrap_function`` returned.
        options: Arguments of that function, by name.
        file: ``.onnx``, ``.keras``, ``.pt2``, TorchScript's ``.pt``, or the folder of a SavedModel.
        outputs: What the network returns, as in ``harness.wrap``.
        output: Name of the output that holds the logits, where there are several.
        preprocessing: Normalisation before the network; epsilon stays in pixel units.
        channel_axis: Axis of one image that holds its channels, where its shape leaves a doubt.
        device: Where it is computed: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        batch_size: Images at a time; what fits into memory if None.
        backend: Of an ``.onnx`` file: in which its network is built; see ``harness.wrap``.
        randomised: Whether it is random on purpose, so that images are counted by votes.
        votes: Calls that vote on an image then.
        expect: What its measurements are judged by; they are measured only if None.
    """

    SILENT: ClassVar[tuple[str, ...]] = (
        "load", "file", "options", "outputs", "output", "preprocessing", "channel_axis", "device",
        "batch_size", "backend", "randomised", "votes", "expect",
    )  # fmt: skip

    load: FactoryName | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    file: str | None = None
    outputs: Literal["auto", "logits", "probabilities"] = "auto"
    output: str | None = None
    preprocessing: PreprocessingSpec | None = None
    channel_axis: int | None = None
    device: str | None = None
    batch_size: BatchSize | None = None
    backend: str | None = None
    randomised: bool = False
    votes: Annotated[int, Field(ge=1)] | None = None
    expect: ExpectSpec | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.load is None) == (self.file is None):
            raise ValueError("give one of load and file")
        if self.options and self.load is None:
            raise ValueError("options: they are the arguments of load; a file has none")
        if self.backend is not None and not str(self.file).lower().endswith(".onnx"):
            raise ValueError("backend: it is of .onnx files; other models have their own")
        if self.votes is not None and not self.randomised:
            raise ValueError("votes: they are taken of a random model; say randomised = true, too")
        return self

    @property
    def source(self) -> str:
        """The function or the file."""
        return self.load or self.file or ""

    @property
    def defended(self) -> bool:
        """Whether the harness has trained it adversarially."""
        return False
