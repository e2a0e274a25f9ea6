"""The data and the models of a spec."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from typing_extensions import Self

from harness.spec.expect import TrainedExpectSpec
from harness.spec.own import FactoryName, Finite, OwnModelSpec, WeightsSpec
from harness.spec.part import Seed, Sparse
from harness.spec.training import TrainingSpec

Side: TypeAlias = Annotated[int, Field(ge=1)]


class DataSpec(Sparse):
    """The images: of a dataset by its name, or somebody's own.

    A dataset is split. ``70-20-10`` is a seeded stratified split of all images into training,
    validation and test. ``canonical`` keeps the publisher's own test set, and holds a seeded
    stratified sixth of the publisher's training set out for validation; ``canonical-shuffled`` is
    the same with its test images in a seeded random order, so that the first of them are a fair
    sample (the first ones of MNIST are harder than the others). Own images are test images, all of
    them; of training images beside them a seeded stratified sixth is for validation.

    Attributes:
        name: Name of a dataset.
        split: How that is split.
        seed: Of the split.
        load: ``package.module:function``, called with ``options``; returns arrays (x, y), those of
            training and of test, a ``Dataset``, or an iterable of batches.
        options: Arguments of that function, by name.
        file: An ``.npz`` with images and labels.
        folder: Images, a subfolder a class.
        train: A file or a folder like these, of training images.
        size: Height and width to which the images of a folder are brought.
        classes: Name of each class, in the order of the labels.
        bounds: Lowest and highest pixel value.
        channel_axis: Axis of one image that holds its channels, where its shape leaves a doubt.
    """

    SILENT: ClassVar[tuple[str, ...]] = (
        "name", "load", "options", "file", "folder", "train", "size", "classes", "bounds",
        "channel_axis",
    )  # fmt: skip
    OWN: ClassVar[tuple[str, ...]] = (
        "options", "train", "size", "classes", "bounds", "channel_axis",
    )  # fmt: skip

    name: str | None = None
    split: Literal["70-20-10", "canonical", "canonical-shuffled"] = "70-20-10"
    seed: Seed = 0
    load: FactoryName | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    file: str | None = None
    folder: str | None = None
    train: str | None = None
    size: tuple[Side, Side] | None = None
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    bounds: tuple[Finite, Finite] = (0.0, 1.0)
    channel_axis: int | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = ("name", "load", "file", "folder")
        given = [key for key in sources if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(sources)}")
        if self.name is not None:
            if own := [key for key in self.OWN if key in self.model_fields_set]:
                raise ValueError(f"{own[0]}: is of own images, not of the dataset {self.name}")
        elif self.split != "70-20-10":
            raise ValueError("split: own images are test images, all of them; remove it")
        if self.options and self.load is None:
            raise ValueError("options: they are the arguments of load")
        if self.train is not None and self.load is not None:
            raise ValueError("train: let the function return training images, too")
        if self.size is not None and self.folder is None:
            raise ValueError("size: is of the images of a folder")
        if self.bounds[0] >= self.bounds[1]:
            raise ValueError("bounds: the lowest pixel value must be below the highest")
        return self

    @property
    def source(self) -> str:
        """The dataset's name, the file, the folder or the function."""
        return self.name or self.file or self.folder or self.load or ""

    @property
    def told(self) -> str:
        """The same for people, with the split of a dataset."""
        return f"{self.name} {self.split}" if self.name else self.source


class ModelSpec(BaseModel):
    """A model to train; any other key is an option of its architecture, such as ``hidden``.

    Attributes:
        architecture: The family of networks that it is of, by its name in ``FAMILIES``.
        training: How it is trained.
        expect: What its measurements are judged by.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    architecture: str = "mlp"
    training: TrainingSpec
    expect: TrainedExpectSpec

    @property
    def options(self) -> dict[str, Any]:
        """Options of the architecture, by their names."""
        return dict(self.model_extra or {})

    @property
    def defended(self) -> bool:
        """Whether it is trained adversarially, or to be certified."""
        return self.training.defends


def _kind(given: Any) -> str:
    """Which kind of model a part of a spec is of: the keys of an own one say so."""
    if isinstance(given, OwnModelSpec):
        return WEIGHTS if isinstance(given, WeightsSpec) else OWN
    if not isinstance(given, dict) or "training" in given:
        return TRAINED
    if "file" in given:
        of_weights = "architecture" in given or str(given["file"]).lower().endswith(".safetensors")
        return WEIGHTS if of_weights else OWN
    if "architecture" in given:
        return TRAINED
    return OWN if set(OwnModelSpec.SILENT) - {"expect"} & set(given) else TRAINED


TRAINED, OWN, WEIGHTS = "[trained]", "[own]", "[weights]"
"""What stands in pydantic's places of errors between a model's name and its key."""
AnyModelSpec: TypeAlias = Annotated[
    Annotated[ModelSpec, Tag(TRAINED)]
    | Annotated[WeightsSpec, Tag(WEIGHTS)]
    | Annotated[OwnModelSpec, Tag(OWN)],
    Discriminator(_kind),
]
"""A model that the harness trains, or somebody's own."""
