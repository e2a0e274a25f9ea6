"""How a model is trained: the named recipes, and what a spec may say otherwise."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from harness.spec.own import Positive
from harness.spec.part import L2, BatchSize, Epochs, Fraction, LearningRate, Part, Sparse

_LONG: dict[str, Any] = {
    "epochs": 25,
    "batch_size": 128,
    "learning_rate": 2e-3,
    "schedule": "one-cycle",
    "weight_decay": 0.01,
    "averaging": 0.998,
    "augmentation": "affine",
    "patience": 25,
}

RECIPES: dict[str, dict[str, Any]] = {
    # Adam, a cosine, and early stopping.
    "standard": {"epochs": 15},
    # Small affine distortions, AdamW in one cycle, smoothed labels, averaged weights. Made for a
    # network with batch normalisation and without dropout: the distortions regularise enough.
    "accurate": _LONG
    | {"epochs": 30, "learning_rate": 4e-3, "label_smoothing": 0.05, "patience": 30},
    # One step from a random start (Wong, Rice & Kolter 2020).
    "fgsm-at": _LONG | {"adversary": {"steps": 1, "rel_stepsize": 1.25}},
    # Several small steps (Madry et al. 2018).
    "pgd-at": _LONG | {"adversary": {"steps": 5, "rel_stepsize": 0.4}},
    # Clean loss, and a divergence of the predictions in the ball (Zhang et al. 2019).
    "trades": _LONG | {"adversary": {"steps": 5, "rel_stepsize": 0.4, "trades_beta": 3.0}},
    # The perturbed images' loss, and a divergence that counts where the network is wrong (Wang et
    # al. 2020); λ is the paper's.
    "mart": _LONG | {"adversary": {"steps": 5, "rel_stepsize": 0.4, "mart_lambda": 5.0}},
    # PGD-AT at weights that are perturbed, too (Wu et al. 2020); γ is the paper's.
    "awp": _LONG | {"adversary": {"steps": 5, "rel_stepsize": 0.4, "weight_gamma": 5e-3}},
    # One whole step from the image itself, and gradients in the ball that point the same way
    # (Andriushchenko & Flammarion 2020); λ is the paper's at 8/255, and grows with epsilon there.
    "gradalign": _LONG
    | {"adversary": {"steps": 1, "rel_stepsize": 1.0, "start": "clean", "align_lambda": 0.2}},
    # Bounds of the logits by intervals, in a ball that grows (Gowal et al. 2018).
    "ibp": _LONG
    | {"augmentation": "none", "certified": {"kappa": 0.5, "warm_up": 0.05, "ramp": 0.5}},
}


class AdversarySpec(Sparse):
    """How images, and weights, are perturbed in adversarial training; see ``protocol.Batch``.

    Attributes:
        epsilon: L∞ radius in pixel units.
        steps: Gradient steps.
        rel_stepsize: Length of a step, in epsilons.
        start: Where they begin: ``random`` in the ball, which is the default, or ``clean``.
        trades_beta: Weight of the divergence in TRADES; without it the loss is that of the
            perturbed images alone.
        mart_lambda: Weight of the divergence in MART, in place of TRADES.
        weight_gamma: Adversarial weight perturbation, as a share of the size of each weight array.
        align_lambda: Weight of what GradAlign adds where gradients in the ball differ in direction.
        ramp: Share of the training in which epsilon grows from zero.
    """

    SILENT: ClassVar[tuple[str, ...]] = ("start", "mart_lambda", "weight_gamma", "align_lambda")

    epsilon: Positive
    steps: Annotated[int, Field(ge=1)]
    rel_stepsize: Positive
    start: Literal["random", "clean"] | None = None
    trades_beta: Positive | None = None
    mart_lambda: Positive | None = None
    weight_gamma: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    align_lambda: Positive | None = None
    ramp: Fraction = 0.2

    @model_validator(mode="after")
    def _one_loss(self) -> Self:
        if self.trades_beta is not None and self.mart_lambda is not None:
            raise ValueError(
                "trades_beta and mart_lambda are of two losses; say one, with its recipe or pgd-at"
            )
        return self


class CertifiedTrainingSpec(Part):
    """How a network is trained so that its predictions can be certified; see ``protocol.Batch``.

    Attributes:
        epsilon: L∞ radius in pixel units, that of the ball at the end.
        kappa: Weight κ of the ordinary loss at the end (Gowal et al. 2018, eq. 8); the certified
            one has 1 - κ.
        warm_up: Share of the training, at its beginning, in which the ordinary loss is all.
        ramp: Share of the training, after that, in which the radius grows from zero to epsilon,
            and the certified loss's weight from zero to 1 - κ, both linearly.
    """

    epsilon: Positive
    kappa: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    warm_up: Fraction = 0.05
    ramp: Fraction = 0.5

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        if self.warm_up + self.ramp > 1:
            raise ValueError(
                f"warm_up and ramp are shares of one training: {self.warm_up:g} + {self.ramp:g} is "
                "more than 1"
            )
        return self


class TrainingSpec(Sparse):
    """How a model is trained; a named recipe fills in what is not said (``RECIPES``).

    Attributes:
        recipe: Name of the recipe.
        epochs: Passes over the training images, at most.
        batch_size: Images a step.
        learning_rate: The highest.
        schedule: ``constant``, ``cosine`` (falling to zero), or ``one-cycle`` (rising first).
        l2: The loss gains ``l2`` times the sum of squared weights.
        weight_decay: Shrinks the weights outside of the gradient, as in AdamW.
        label_smoothing: Share of the target distribution that is spread over all classes.
        averaging: Decay per step of the moving average of the weights; 0 for none.
        augmentation: Random distortions of the training images.
        patience: Epochs without a better one after which training stops.
        adversary: Adversarial training, if there is one.
        certified: Certified training, if there is one.
    """

    SILENT: ClassVar[tuple[str, ...]] = ("certified",)

    recipe: Literal[
        "standard", "accurate", "fgsm-at", "pgd-at", "trades", "mart", "awp", "gradalign", "ibp"
    ] = "standard"
    epochs: Epochs
    batch_size: BatchSize = 128
    learning_rate: LearningRate = 1e-3
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    l2: L2 = 0.0
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    averaging: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    augmentation: Literal["none", "affine", "flip-crop", "flip-crop-cutout", "colour"] = "none"
    patience: Annotated[int, Field(ge=1)] = 5
    adversary: AdversarySpec | None = None
    certified: CertifiedTrainingSpec | None = None

    @model_validator(mode="after")
    def _one_defence(self) -> Self:
        if self.adversary is not None and self.certified is not None:
            raise ValueError("adversary and certified are two defences; say one, with its recipe")
        return self

    @property
    def defends(self) -> bool:
        """Whether it makes a network withstand perturbations."""
        return self.adversary is not None or self.certified is not None

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, said: Any) -> Any:
        """What is said, over the defaults of the recipe."""
        if not isinstance(said, dict):
            return said
        defaults = RECIPES.get(str(said.get("recipe", "standard")), {})
        filled = defaults | said
        for part in ("adversary", "certified"):
            if isinstance(said.get(part), dict):
                # None says nothing, so that what a dump leaves out is what it was.
                own = {key: value for key, value in said[part].items() if value is not None}
                filled[part] = defaults.get(part, {}) | own
        return filled
