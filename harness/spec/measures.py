"""What is measured of each model: attacks, certificates, saliency maps, smallest epsilons."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from harness.names import Name
from harness.spec.part import BatchSize, Epsilon, Fraction, Part, Seed, Sparse, distinct

Cover: TypeAlias = Literal["black", "blurred"]
"""What covered pixels become."""


class SweepSpec(BaseModel):
    """What is asked of images in balls that grow; any other key is an option of what asks.

    Attributes:
        epsilons: Radii of the ball, in pixel units.
        images: So many test images are taken, the first ones; all if None.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    epsilons: Annotated[tuple[Epsilon, ...], Field(min_length=1)]
    images: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if any(a >= b for a, b in zip(self.epsilons, self.epsilons[1:], strict=False)):
            raise ValueError("epsilons must increase from each to the next")
        if len({f"{epsilon:g}" for epsilon in self.epsilons}) < len(self.epsilons):
            raise ValueError("epsilons must differ in their first six digits")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The other keys."""
        return dict(self.model_extra or {})


class AttackSpec(SweepSpec):
    """How an attack is swept; any other key is an option of the attack itself, such as ``steps``.

    Attributes:
        attack: Which attack it is, if its name in the spec does not say so.
    """

    attack: str | None = None


class CertifiedSpec(SweepSpec):
    """What is certified; any other key is an option of the certifier itself.

    Attributes:
        certifier: Which certifier it is, if its name in the spec does not say so.
    """

    certifier: str | None = None


class SanitySpec(Part):
    """What passes the sanity checks of saliency maps.

    Similarities are rank correlation and SSIM of the absolute maps. Where signs are kept, maps that
    explain the model lose theirs with its last layer, and maps that only look right do not.

    Attributes:
        some_random: Highest similarity to maps of the model with its last layers random. It is
            high because the first layer of a defended network alone draws the digit's frame.
        all_random: Highest similarity to maps of a model with random weights, or of one that
            was trained on random labels.
        signed_some: Highest rank correlation of the signed maps with those of the model with its
            last layer random; from there it falls evenly to ``signed_all``.
        signed_all: The same with random weights, or with a model that was trained on random labels.
        classes: Highest rank correlation of the signed maps of the true and of the least likely
            class.
        margin: Covering the most salient pixels must cost at least this much more accuracy than
            covering random ones.
    """

    some_random: Fraction = 0.9
    all_random: Fraction = 0.6
    signed_some: Fraction = 0.35
    signed_all: Fraction = 0.3
    classes: Fraction = 0.5
    margin: Fraction = 0.05


class SaliencySpec(Sparse):
    """How saliency maps are computed and tested.

    Attributes:
        top: Share of the pixels that is covered.
        cover: What they become: ``black``, the lower end of the bounds, or ``blurred``, what a
            Gaussian blur of a tenth of the image's shorter side makes of them. If not said, images
            in colour are blurred, and others black.
        random_draws: How often random pixels are drawn.
        occlusion: The method by whose maps the covered pixels are chosen, on all test images.
        methods: Which methods are analysed and checked; all if not said, none if empty.
        images: So many test images are analysed, the first ones.
        epsilon: L∞ radius, in pixel units, of the FGSM under which the top pixels should stay.
        sanity: What passes the sanity checks.
    """

    SILENT: ClassVar[tuple[str, ...]] = ("cover",)

    top: Annotated[float, Field(gt=0.0, le=1.0)] = 0.15
    cover: Cover | None = None
    random_draws: Annotated[int, Field(ge=1)] = 5
    occlusion: str = "gradient"
    methods: Annotated[tuple[str, ...], AfterValidator(distinct)] | None = None
    images: Annotated[int, Field(ge=1)] = 1000
    epsilon: Epsilon = 0.1
    sanity: SanitySpec = SanitySpec()


class MinimalSpec(Part):
    """How the smallest epsilon at which each image is misclassified is measured.

    Attributes:
        methods: ``fgsm`` along its one direction; ``pgd`` by a search with the spec's own ``pgd``.
        limit: The largest epsilon that is tried, in pixel units.
        images: So many test images are measured, the first ones.
    """

    methods: Annotated[tuple[Literal["fgsm", "pgd"], ...], AfterValidator(distinct)] = ()
    limit: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    images: Annotated[int, Field(ge=1)] = 1000


class MeasuresSpec(Sparse):
    """What is measured of each model, and what the run is called.

    Attributes:
        name: Of the run.
        seed: Of all that is drawn.
        epsilon_unit: Epsilons in a file are written in this part of a pixel unit: with 255, 8 is
            8/255. They are divided by it when the file is read, and then it is None.
        device: Where models are computed, if they do not say so themselves.
        batch_size: Images at a time, likewise; what fits into memory if None.
        attacks: By the names of their records.
        certified: Likewise, by what follows ``certified/`` there.
        saliency: How saliency maps are computed and tested.
        minimal: How smallest epsilons are measured.
    """

    SILENT: ClassVar[tuple[str, ...]] = ("epsilon_unit", "device", "batch_size", "certified")

    name: Name
    seed: Seed = 0
    epsilon_unit: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    device: str | None = None
    batch_size: BatchSize | None = None
    attacks: dict[Name, AttackSpec]
    certified: dict[Name, CertifiedSpec] = Field(default_factory=dict)
    saliency: SaliencySpec = SaliencySpec()
    minimal: MinimalSpec = MinimalSpec()

    @model_validator(mode="after")
    def _no_attack_is_clean(self) -> Self:
        if "clean" in self.attacks:
            raise ValueError("attacks.clean: that is the accuracy without an attack; rename it")
        return self
