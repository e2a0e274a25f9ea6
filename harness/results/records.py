"""Records: one measurement each, and how it was judged; epochs, models and times beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, model_validator

from harness.errors import one_line
from harness.maths.statistics import wilson
from harness.protocol import NormName
from harness.results import keys

UPPER_BOUND = "Accuracy under attack is an upper bound on robust accuracy."
"""Stands beside every table of such accuracies."""
LOWER_BOUND = "Certified accuracy is a lower bound on robust accuracy."
"""Stands beside every table of these."""
COLLAPSE = 0.2
"""An accuracy under FGSM so far above that under PGD is no robustness (Wong et al. 2020)."""
Status: TypeAlias = Literal["measured", "passed", "failed", "skipped", "error"]
Key: TypeAlias = tuple[str, str, str, float | None]
Bound: TypeAlias = Literal["exact", "upper", "lower"]


def bound_of(check: str, epsilon: float | None) -> Bound:
    """What an accuracy is of the one that it stands for.

    A certified accuracy is a lower bound on robust accuracy, and one under an attack an upper one;
    others, of clean images or with pixels covered, are exact.
    """
    if keys.is_certified(check):
        return "lower"
    return "exact" if epsilon is None else "upper"


def bounds_told(bounds: Iterable[Bound | None]) -> str:
    """What stands beside a table of such accuracies; empty where all of them are exact."""
    found = set(bounds)
    told = {"upper": UPPER_BOUND, "lower": LOWER_BOUND}
    return " ".join(text for bound, text in told.items() if bound in found)


class Record(BaseModel):
    """One measurement, and the judgement of it.

    Attributes:
        model: Name of the model in the spec.
        backend: Name of the backend.
        check: ``clean``, an attack's name, ``certified/NAME``, ``saliency/...``,
            ``saliency-sanity/METHOD/RULE``, ``minimal-epsilon/...``, ``validity/...``,
            ``conformance/...`` or ``training/...``.
        epsilon: Radius in pixel units, or None where the check has none.
        correct: Images classified correctly, or certified, which are that in the whole ball; None
            for checks that count no images.
        total: Images measured, those that a black box did not answer left out; or None likewise.
        accuracy: ``correct / total``.
        ci_low: Lower end of the 95 % Wilson interval of the accuracy.
        ci_high: Upper end of it.
        threshold: Lowest and highest accuracy that passes; None for an open end or no threshold.
        status: ``measured`` (not judged), ``passed``, ``failed``, ``skipped`` or ``error``.
        reason: Why it failed, was skipped, or broke; or how many images were not answered. One
            line.
        norm: The norm that epsilon is a radius of: ``linf`` or ``l2``.
        value: What was measured where that is no accuracy, such as a median epsilon; of an attack
            that aims at a class of each image, the share of images that are taken for it, of those
            that are of another.
        bound: What the accuracy is of robust accuracy: ``upper`` under an attack, ``lower`` if it
            is certified; of others it is ``exact``. None where there is no accuracy. Runs that were
            stored before they said so get theirs when they are read.
        forwards: How many forward passes an image took at this epsilon, in the mean; None where
            they were not counted.
        backwards: Backward passes, likewise.
        randomised: Whether the model draws random numbers on purpose, and images were counted by
            repeated votes.
        measured: When, in ISO 8601, where that can be another time than the run's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    backend: str
    check: str
    epsilon: float | None = None
    correct: int | None = None
    total: int | None = None
    accuracy: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    threshold: tuple[float | None, float | None] | None = None
    status: Status = "measured"
    reason: str = ""
    norm: NormName | None = None
    value: float | None = None
    bound: Bound | None = None
    forwards: float | None = None
    backwards: float | None = None
    randomised: bool = False
    measured: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bound_is_said(cls, said: Any) -> Any:
        if not isinstance(said, dict) or "bound" in said or said.get("accuracy") is None:
            return said
        return said | {"bound": bound_of(str(said.get("check")), said.get("epsilon"))}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What ``repr`` shows: what was measured, and how it was judged."""
        yield None, self.label
        for name in ("correct", "total", "value"):
            if (found := getattr(self, name)) is not None:
                yield name, found
        yield "status", self.status
        if self.reason:
            yield "reason", self.reason

    def __str__(self) -> str:
        return repr(self)

    @property
    def key(self) -> Key:
        """What identifies a measurement within a run, and across runs."""
        return (self.model, self.backend, self.check, self.epsilon)

    @property
    def label(self) -> str:
        """The key for people: ``torch mlp fgsm eps=0.1``."""
        at = "" if self.epsilon is None else f" eps={self.epsilon:g}"
        return f"{self.backend} {self.model} {self.check}{at}"

    def judged(
        self,
        status: Status,
        reason: str = "",
        threshold: tuple[float | None, float | None] | None = None,
    ) -> Record:
        """The same measurement with a judgement."""
        return self.model_copy(
            update={"status": status, "reason": one_line(reason) if reason else "",
                    "threshold": threshold}
        )  # fmt: skip


def counted(
    model: str,
    backend: str,
    check: str,
    correct: int,
    total: int,
    epsilon: float | None = None,
    *,
    draws: int = 1,
    norm: NormName | None = None,
) -> Record:
    """A record of a counted accuracy, with its 95 % Wilson interval.

    Where the same images were evaluated several times (``draws``), their predictions are
    correlated, so the interval is that of one draw.
    """
    low, high = wilson(round(correct / draws), total // draws)
    return Record(
        model=model, backend=backend, check=check, epsilon=epsilon,
        correct=correct, total=total, accuracy=correct / total, ci_low=low, ci_high=high, norm=norm,
    )  # fmt: skip


class Epoch(BaseModel):
    """One epoch of a training: losses are means per image, in nats; accuracies in [0, 1].

    Adversarial training also gives the accuracy of some validation images at the epsilon that is
    trained for, under FGSM and under PGD; certified training, their certified accuracy there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    fgsm_accuracy: float | None = None
    pgd_accuracy: float | None = None
    certified_accuracy: float | None = None

    @property
    def collapsed(self) -> bool:
        """Whether the defence withstands FGSM but not PGD (catastrophic overfitting)."""
        if self.fgsm_accuracy is None or self.pgd_accuracy is None:
            return False
        return self.fgsm_accuracy - self.pgd_accuracy > COLLAPSE


class ModelInfo(BaseModel):
    """Where a model came from.

    Attributes:
        fingerprint: SHA-256 over data, architecture, recipe, seed, backend and versions.
        cached: Whether this run loaded it instead of training it.
        history: Its training, epoch by epoch (also when it was loaded).
        best_epoch: The epoch whose weights were kept; 0 of a model that the harness did not train.
        source: Where somebody's own model is from: a file, or ``package.module:function``.
        kind: What it is, such as ``torch.nn.Module ResNet``.
        parameters: How many numbers have been trained; None where that is not known.
        preprocessing: How images are normalised before the network, in words; or empty.
        outputs: What the network returns: ``auto``, ``logits`` or ``probabilities``.
        device: Where it is computed.
        queries: How many images a black box was asked of; None of other models.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    backend: str
    fingerprint: str
    cached: bool = False
    best_epoch: int = 0
    history: tuple[Epoch, ...] = ()
    source: str = ""
    kind: str = ""
    parameters: int | None = None
    preprocessing: str = ""
    outputs: str = "auto"
    device: str = ""
    queries: int | None = None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What ``repr`` shows: not every epoch, nor the whole hash."""
        yield None, f"{self.backend} {self.model}"
        yield "kind", self.kind
        yield "parameters", self.parameters
        yield "epochs", len(self.history)

    def __str__(self) -> str:
        return repr(self)

    @property
    def key(self) -> tuple[str, str]:
        """Model and backend, by which it is known in its run."""
        return (self.model, self.backend)


class DataInfo(BaseModel):
    """The test images.

    Attributes:
        source: Name of the dataset, a file, a folder, ``package.module:function`` or ``arrays``.
        images: How many.
        shape: Of one image.
        dtype: In which they are given to models.
        bounds: Lowest and highest pixel value.
        channel_axis: Axis of one image that holds its channels, from 0; None of grey ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    images: int
    shape: tuple[int, ...]
    dtype: str
    bounds: tuple[float, float]
    channel_axis: int | None = None


class Timing(BaseModel):
    """How long a measurement took.

    Attributes:
        model: Name of the model in the spec.
        backend: Name of the backend.
        check: What was measured, as its records call it; of a sweep, all its epsilons together.
        images: How many images were measured; of a sweep, at each of its epsilons.
        epsilons: At how many epsilons; 1 where there is none.
        seconds: Wall time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    backend: str
    check: str
    images: int
    epsilons: int
    seconds: float
