"""A spec file (TOML) parsed and validated into frozen objects, with one-line errors."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness import registry
from harness.attacks import make_attack
from harness.errors import SpecError, first_problem, one_line
from harness.files import DEEPEST, read_bounded
from harness.names import Name
from harness.protocol import Attack
from harness.saliency.methods import METHODS
from harness.spec.gate import GateSettings
from harness.spec.recipes import RECIPES
from robustness_harness import shadowed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]
Fraction: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
# Adding zero turns -0.0 into 0.0, which would otherwise be another key.
Epsilon: TypeAlias = Annotated[
    float, Field(ge=0.0, allow_inf_nan=False), AfterValidator(lambda epsilon: epsilon + 0.0)
]
Width: TypeAlias = Annotated[int, Field(ge=1)]
Hidden: TypeAlias = Annotated[tuple[Width, ...], Field(min_length=1)]
Dropout: TypeAlias = Annotated[float, Field(ge=0.0, lt=1.0)]
Epochs: TypeAlias = Annotated[int, Field(ge=1)]
BatchSize: TypeAlias = Annotated[int, Field(ge=1)]
LearningRate: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
L2: TypeAlias = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
AccuracyRange: TypeAlias = tuple[Fraction, Fraction]
"""Lowest and highest accuracy that passes, both included."""


LARGEST = 1 << 20
"""Bytes of a spec; that of MNIST has 3,500."""
TOKENS = re.compile(
    r""""{3}(?:\\.|[^\\])*?"{3}|\'{3}.*?\'{3}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'"""
    r"""|#[^\n]*|[]["'{},=.\n]|[^]["'{},=.\n#]+""",
    re.DOTALL,
)
"""Of TOML: strings and comments as a whole, signs, and what is between them."""


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("a value is there twice, and would be searched twice")
    return values


def _methods(names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"{unknown[0]}: no such method; the methods are {', '.join(METHODS)}")
    return _distinct(names)


class Part(BaseModel):
    """A frozen part of a spec; an unknown key is an error, because it is mostly a typo."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSpec(Part):
    """Which dataset, and how it is split.

    ``70-20-10`` is a seeded stratified split of all images into training, validation and test.
    ``canonical`` keeps the publisher's own test set, and holds a seeded stratified sixth of the
    publisher's training set out for validation.
    """

    name: str
    split: Literal["70-20-10", "canonical"] = "70-20-10"
    seed: Seed = 0


class ModelSpec(Part):
    """A fully connected ReLU network."""

    hidden: Hidden
    dropout: Dropout = 0.0
    batch_norm: bool = False


class AdversarySpec(Part):
    """Who distorts the images in adversarial training.

    Attributes:
        epsilon: L∞ radius in pixel units.
        steps: Gradient steps, from a random start in the ball.
        reach: The steps' summed length, in epsilons.
        pull: Weight of the divergence in TRADES; without it the loss is that of the distorted
            images alone.
        ramp: Share of the training in which epsilon grows from zero.
    """

    epsilon: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    steps: Annotated[int, Field(ge=1)]
    reach: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    pull: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    ramp: Fraction = 0.2


class TrainingSpec(Part):
    """How a model is trained; a named recipe fills in what is not said (see ``recipes.py``).

    Attributes:
        recipe: Name of the recipe.
        epochs: Passes over the training images, at most.
        batch_size: Images a step.
        learning_rate: The highest.
        schedule: ``constant``, ``cosine`` (falling to zero), or ``one-cycle`` (rising first).
        l2: The loss gains ``l2`` times the sum of squared weights.
        weight_decay: Shrinks the weights outside of the gradient, as in AdamW.
        label_smoothing: Share of the target that is spread over all classes.
        averaging: Decay per step of the moving average of the weights; 0 for none.
        augmentation: Random distortions of the training images.
        patience: Epochs without a better one after which training stops.
        adversary: Adversarial training, if there is one.
    """

    recipe: Literal["standard", "accurate", "fgsm-at", "pgd-at", "trades"] = "standard"
    epochs: Epochs
    batch_size: BatchSize = 128
    learning_rate: LearningRate = 1e-3
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    l2: L2 = 0.0
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    averaging: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    augmentation: Literal["none", "affine"] = "none"
    patience: Annotated[int, Field(ge=1)] = 5
    adversary: AdversarySpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, said: Any) -> Any:
        """What is said, over the defaults of the recipe."""
        if not isinstance(said, dict):
            return said
        defaults = RECIPES.get(str(said.get("recipe", "standard")), {})
        filled = defaults | said
        if isinstance(said.get("adversary"), dict):
            filled["adversary"] = defaults.get("adversary", {}) | said["adversary"]
        return filled


class AttackSpec(BaseModel):
    """How an attack is swept; any other key is an option of the attack itself, such as ``steps``.

    Attributes:
        epsilons: Radii of the ball, in pixel units.
        attack: Which attack it is, if its name in the spec does not say so.
        images: So many test images are attacked, the first ones; all if None.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    epsilons: Annotated[tuple[Epsilon, ...], Field(min_length=1)]
    attack: str | None = None
    images: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _increasing(self) -> AttackSpec:
        if any(a >= b for a, b in zip(self.epsilons, self.epsilons[1:], strict=False)):
            raise ValueError("epsilons must increase from each to the next")
        if len({f"{epsilon:g}" for epsilon in self.epsilons}) < len(self.epsilons):
            raise ValueError("epsilons must differ in their first six digits")
        return self

    def made(self, name: str) -> Attack:
        """The attack, under the name that the spec gives it.

        Raises:
            SpecError: There is no such attack, or it has no such option.
        """
        return make_attack(name, self.attack, self.model_extra)


class SanitySpec(Part):
    """What passes the sanity checks of saliency maps.

    Similarities are rank correlation and SSIM of the absolute maps. Where signs are kept, maps that
    explain the model lose theirs with its last layer, and impostors do not.

    Attributes:
        some_random: Highest similarity to maps of the model with its last layers random. It is
            high because the first layer of a defended network alone draws the digit's frame.
        all_random: Highest similarity to maps of a model with random weights, or of one that
            learnt random labels.
        signed_some: Highest rank correlation of the signed maps with those of the model with its
            last layer random; from there it falls evenly to ``signed_all``.
        signed_all: The same with random weights, or with a model that learnt random labels.
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


class SaliencySpec(Part):
    """How saliency maps are computed and tested.

    Attributes:
        top: Share of the pixels that is covered.
        random_draws: How often random pixels are drawn.
        methods: Which methods are analysed and checked; all if not said, none if empty. The
            occlusion of all test images is always by ``gradient``.
        images: So many test images are analysed, the first ones.
        epsilon: L∞ radius, in pixel units, of the FGSM under which the top pixels should stay.
        sanity: What passes the sanity checks.
    """

    top: Annotated[float, Field(gt=0.0, le=1.0)] = 0.15
    random_draws: Annotated[int, Field(ge=1)] = 5
    methods: Annotated[tuple[str, ...], AfterValidator(_methods)] = tuple(METHODS)
    images: Annotated[int, Field(ge=1)] = 1000
    epsilon: Epsilon = 0.1
    sanity: SanitySpec = SanitySpec()


class MinimalSpec(Part):
    """How the smallest epsilon at which each image falls is measured.

    Attributes:
        methods: ``fgsm`` along its one direction; ``pgd`` by a search with the spec's own ``pgd``.
        limit: The largest epsilon that is tried, in pixel units.
        images: So many test images are measured, the first ones.
    """

    methods: Annotated[tuple[Literal["fgsm", "pgd"], ...], AfterValidator(_distinct)] = ()
    limit: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    images: Annotated[int, Field(ge=1)] = 1000


class ExpectSpec(Part):
    """What a target's measurements are judged by.

    Attributes:
        clean: Range for the clean accuracy.
        attacks: Per attack and epsilon a range for the accuracy under it. The upper end matters
            too: an undefended model that looks robust means that the attack is broken.
        saliency_margin: Occluding the most salient pixels must cost at least this much more
            accuracy than occluding as many random ones.
    """

    clean: AccuracyRange
    attacks: dict[str, dict[Epsilon, AccuracyRange]] = {}
    saliency_margin: Fraction = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> ExpectSpec:
        named = {"clean": self.clean} | {
            f"attacks.{attack}.{epsilon:g}": bounds
            for attack, ranges in self.attacks.items()
            for epsilon, bounds in ranges.items()
        }
        for key, (low, high) in named.items():
            if low > high:
                raise ValueError(f"{key}: the range [{low:g}, {high:g}] is empty")
        return self


class TargetSpec(Part):
    """A model to train, and what is expected of it."""

    model: ModelSpec
    training: TrainingSpec
    expect: ExpectSpec


Value = TypeVar("Value")
Values: TypeAlias = Annotated[tuple[Value, ...], Field(min_length=1), AfterValidator(_distinct)]
SEARCHED = ("hidden", "dropout", "l2", "learning_rate", "batch_size")
"""Parameters that a grid can hold."""


class GridSpec(Part):
    """What ``harness search`` tries: every combination of the listed values.

    Attributes:
        target: Whose recipe is searched; the first target if None.
        hidden: Widths of the hidden layers, a list of lists.
        dropout: Shares of hidden units dropped.
        l2: Factors of the L2 penalty.
        learning_rate: Learning rates.
        batch_size: Images a step.
        epochs: Passes over the training images, at most; the target's own number if None.
        images: So many training images are used; all if None.
        fgsm_weight: Share of the score that is accuracy under FGSM; the rest is clean accuracy.
        fgsm_epsilon: L∞ radius of that FGSM, in pixel units.
    """

    target: str | None = None
    hidden: Values[Hidden] | None = None
    dropout: Values[Dropout] | None = None
    l2: Values[L2] | None = None
    learning_rate: Values[LearningRate] | None = None
    batch_size: Values[BatchSize] | None = None
    epochs: Epochs | None = None
    images: Annotated[int, Field(ge=1)] | None = None
    fgsm_weight: Fraction = 0.0
    fgsm_epsilon: Epsilon = 0.1

    @model_validator(mode="after")
    def _not_empty(self) -> GridSpec:
        if not self.values:
            raise ValueError(f"there is nothing to search; list values of {', '.join(SEARCHED)}")
        return self

    @property
    def values(self) -> dict[str, tuple[Any, ...]]:
        """The values of each parameter that is searched."""
        found = {key: getattr(self, key) for key in SEARCHED}
        return {key: values for key, values in found.items() if values is not None}


class Spec(Part):
    """One benchmark: data, targets, attacks and expectations.

    Grid and gate change no measurement, so they are in no dump of the spec and not in its hash.
    """

    name: Name
    description: str = ""
    seed: Seed = 0
    backends: Annotated[tuple[str, ...], Field(min_length=1)]
    data: DataSpec
    attacks: dict[Name, AttackSpec]
    saliency: SaliencySpec = SaliencySpec()
    minimal: MinimalSpec = MinimalSpec()
    targets: Annotated[dict[Name, TargetSpec], Field(min_length=1)]
    grid: GridSpec | None = Field(default=None, exclude=True)
    gate: GateSettings = Field(default=GateSettings(), exclude=True)

    @model_validator(mode="after")
    def _names_exist(self) -> Spec:
        if "clean" in self.attacks:
            raise ValueError("attacks.clean: that is the accuracy without an attack; rename it")
        for name, sweep in self.attacks.items():
            try:
                sweep.made(name)
            except SpecError as error:
                # It may begin with the name, which is in front of it already.
                said = str(error).removeprefix(f"{name}: ")
                raise ValueError(f"attacks.{name}: {said}") from error
        for name in self.backends:
            if name not in registry.BACKENDS:
                known = ", ".join(registry.BACKENDS)
                raise ValueError(f"backends: there is no {name}; the backends are {known}")
        return self

    @model_validator(mode="after")
    def _expectations_are_measured(self) -> Spec:
        for name, target in self.targets.items():
            for attack, ranges in target.expect.attacks.items():
                where = f"targets.{name}.expect.attacks.{attack}"
                if attack not in self.attacks:
                    raise ValueError(f"{where}: there is no [attacks.{attack}]")
                for epsilon in ranges:
                    if epsilon not in self.attacks[attack].epsilons:
                        raise ValueError(f"{where}: epsilon {epsilon:g} is not in the sweep")
        return self

    @model_validator(mode="after")
    def _tolerances_are_of_checks(self) -> Spec:
        known = {"clean", *self.attacks} | {
            f"{name}@{epsilon:g}"
            for name, sweep in self.attacks.items()
            for epsilon in sweep.epsilons
        }
        for name in self.gate.tolerances:
            if name not in known:
                raise ValueError(
                    f"gate.tolerances.{name}: no such check; use clean, the name of an attack, or "
                    "ATTACK@EPSILON with an epsilon of its sweep"
                )
        return self

    @model_validator(mode="after")
    def _searched_target_exists(self) -> Spec:
        wanted = self.grid.target if self.grid else None
        if wanted is not None and wanted not in self.targets:
            known = ", ".join(self.targets)
            raise ValueError(f"grid.target: {wanted}: no such target; the targets are {known}")
        return self

    @property
    def sha256(self) -> str:
        """Hash of what the spec says (not of how the file is laid out)."""
        return fingerprint(self.model_dump(mode="json"))


def fingerprint(value: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON-like value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def suites_folder() -> Path:
    """The folder of the suites, in a checkout or an installed wheel.

    Raises:
        SpecError: There is none, or another package of its name hides it.
    """
    if reason := shadowed("suites"):
        raise SpecError(reason)
    found = importlib.util.find_spec("suites")
    if found is None or not found.submodule_search_locations:
        raise SpecError("the package 'suites' is not installed: pip install robustness-harness")
    return Path(next(iter(found.submodule_search_locations)))


def spec_names() -> list[str]:
    """Names of the specs that ship with the suites."""
    return sorted(path.stem for path in (suites_folder() / "specs").glob("*.toml"))


def load_spec(name_or_path: str) -> Spec:
    """Read a spec by the name of a file in ``suites/specs`` or by path.

    Raises:
        SpecError: There is no such file, or its content is wrong; the message is one line.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = suites_folder() / "specs" / f"{name_or_path}.toml"
        if name_or_path not in spec_names():
            raise SpecError(
                f"{name_or_path}: no such spec; use one of {', '.join(spec_names())}, "
                "or the path of a .toml file"
            )
    try:
        text = read_bounded(path, LARGEST).decode("utf-8")
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read ({one_line(error)})") from error
    return parse_spec(text, source=str(path))


def parse_spec(text: str, source: str) -> Spec:
    """Validate the text of a spec; ``source`` names it in errors.

    Raises:
        SpecError: The text is not TOML or not a spec, or nested too deeply.
    """
    if _too_deep(text):
        raise SpecError(
            f"{source}: a key of more than {DEEPEST} parts, or lists nested more than {DEEPEST} "
            "levels deep; no spec needs them"
        )
    try:
        # Strict: true and "2" are no numbers. As JSON: lists become tuples, and keys numbers.
        document = json.dumps(tomllib.loads(text), default=str)
        return Spec.model_validate_json(document, strict=True)
    except ValidationError as error:
        raise SpecError(f"{source}: {first_problem(error)}") from error
    except ValueError as error:  # besides TOMLDecodeError that of an integer of 5,000 digits
        raise SpecError(f"{source}: not valid TOML: {one_line(error)}") from error


def _too_deep(text: str) -> bool:
    """Whether a TOML text would take the parser long or break it: it is seen before it is parsed.

    A key of n parts takes tomllib n² steps, and a list within a list a call within a call.
    """
    depth = parts = 0
    for sign in TOKENS.finditer(text):
        piece = sign[0]
        if piece in "\"'":
            return False  # a string without an end, which the parser tells of
        depth += (piece in "[{") - (piece in "]}")
        if piece == ".":
            parts += 1
        elif piece in "[]{},=\n":
            parts = 0
        if max(depth, parts) > DEEPEST:
            return True
    return False


def seeded(spec: Spec, seed: int | None) -> Spec:
    """The spec with another seed of its trainings; the same one if None.

    Raises:
        SpecError: The seed is not one.
    """
    if seed is None:
        return spec
    if not 0 <= seed < 2**32:
        raise SpecError(f"--seed: {seed} is not from 0 to 2**32 - 1")
    return spec.model_copy(update={"seed": seed})
