"""Transfer (Papernot et al. 2017): images made against another model, judged on this one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from harness import registry
from harness.attacks.ball import Ball, BestSoFar
from harness.attacks.own import Own
from harness.attacks.pgd import climb
from harness.attacks.substitute import substitute_asking
from harness.errors import HarnessError, MeasurementError, SpecError, one_line
from harness.factory import called, is_function
from harness.maths.norms import NORMS
from harness.maths.objectives import LogOdds
from harness.protocol import (
    GRADIENT,
    UNIT,
    Array,
    Attack,
    Bounds,
    FloatArray,
    IntArray,
    Model,
    NormName,
    Wrapping,
    is_model,
)

REACH = 2.5
"""Summed length of the steps against the source, in epsilons."""


@dataclass(frozen=True, kw_only=True)
class Transfer(Own):
    """Makes adversarial images against a source, whose gradients it climbs, and not the model's.

    The model is asked for its answers alone: it may be a black box, and where its own gradients
    are masked, a transferred image is found all the same (Athalye, Carlini & Wagner 2018, section
    3.1). An image stays as it is once the model misclassifies it.

    The source is a model of the user's. Without one a small fully-connected network is trained on
    what the model says of the images under attack, and of neighbours of theirs. Then an image's
    result depends on those that are attacked beside it, and so on the size of the batch, as that of
    no other attack of the harness does; it is the same each time.

    Attributes:
        source: A network of any framework, a wrapped model, ``package.module:function`` that
            returns one, or a file that holds one (not ``.onnx``: a function may return what
            ``harness.wrap`` makes of it). It takes the same images, or the same stretched to
            pixels in [0, 1]. None: a substitute.
        attack: Runs against the source. None: ``steps`` along the log-odds, of which none is left
            out once the source misclassifies an image: such images are misclassified by the model
            more often.
        steps: How many these are.
        norm: The norm that bounds the perturbation; that of ``attack``, if there is one.
        rounds: How often the images that a substitute is trained on are doubled by neighbours.
        name: What the records call it.
        home: The folder in which a file or a function's module is looked for first.

    Raises:
        SpecError: An option is not what it should be.
    """

    source: Any = None
    attack: Attack | None = None
    steps: int = 20
    norm: NormName = "linf"
    rounds: int = 2
    name: str = "transfer"
    home: Path | None = field(default=None, compare=False, repr=False)
    requires: ClassVar[frozenset[str]] = frozenset()
    _opened: dict[Bounds, Model] = field(default_factory=dict, init=False, repr=False,
                                         compare=False)  # fmt: skip

    def __post_init__(self) -> None:
        """Refuse options that cannot be."""
        for key, least in (("steps", 1), ("rounds", 0)):
            said = getattr(self, key)
            if isinstance(said, bool) or not isinstance(said, int) or said < least:
                raise SpecError(one_line(f"{key}: {said!r} is not a whole number ≥ {least}"))
        if self.norm not in NORMS:
            raise SpecError(one_line(f"norm: {self.norm!r} is not {' or '.join(NORMS)}"))
        if self.attack is None:
            return
        if not hasattr(self.attack, "perturb"):
            raise SpecError(one_line(f"attack: {self.attack!r} is no attack; pass PGD(), say"))
        object.__setattr__(self, "norm", self.attack.norm)

    def options(self) -> dict[str, Any]:
        """See ``protocol.Attack``."""
        return {
            "source": self.source, "method": self.attack, "steps": self.steps, "norm": self.norm,
            "rounds": self.rounds,
        }  # fmt: skip

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        best = BestSoFar(model, x, y)
        clean, labels = np.array(model.numpy(x)), np.array(model.numpy(y))
        made: Iterator[FloatArray] | None = None
        first = best.rows()
        for number, epsilon in enumerate(epsilons):
            rows = best.rows()
            if epsilon > 0 and len(rows):
                if made is None:
                    made = crafted(
                        self._source(model, clean), clean[first], labels[first], model.bounds,
                        epsilons[number:], norm=self.norm, steps=self.steps, attack=self.attack,
                        index=index[first],
                    )  # fmt: skip
                images = clean.copy()
                images[first] = next(made)
                here, some = Ball(model, x, float(epsilon), self.norm), model.asarray(rows)
                found = here.take(some).project(model.asarray(images[rows]))
                best.part(rows).finish(found, model.logits(found), "last")
            yield best.adversarial()

    def _source(self, model: Model, clean: FloatArray) -> Model:
        """The model whose gradients are climbed.

        Raises:
            MeasurementError: There is none, or it does not fit the attacked one.
        """
        if self.source is None:

            def ask(images: FloatArray) -> FloatArray:
                return np.array(model.numpy(model.logits(model.asarray(images))))

            return substitute_asking(ask, clean, model.bounds, self.rounds)
        bounds = (float(model.bounds[0]), float(model.bounds[1]))
        if bounds not in self._opened:
            try:
                source = _opened(self.source, bounds, self.home)
                _require(source, bounds, self.attack)
            except HarnessError as error:
                raise MeasurementError(one_line(f"source: {error}")) from error
            self._opened[bounds] = source
        return self._opened[bounds]


def crafted(
    source: Model,
    clean: FloatArray,
    labels: IntArray,
    bounds: Bounds,
    epsilons: Sequence[float],
    *,
    norm: NormName = "linf",
    steps: int = 20,
    attack: Attack | None = None,
    index: IntArray | None = None,
) -> Iterator[FloatArray]:
    """Images against a source, one batch per epsilon, in their own pixels and dtype.

    Args:
        source: The model that is attacked; its pixels may have another range, that is stretched.
        clean: Images, (n, *shape).
        labels: True labels, (n,).
        bounds: Pixel range of the images.
        epsilons: Increasing radii, in their units.
        norm: The norm of the steps.
        steps: Their number.
        attack: Runs in place of the steps.
        index: Positions of the images, by which the attack draws.
    """
    (low, high), (first, last) = bounds, source.bounds
    wide, narrow = high - low, last - first
    dtype = source.numpy(source.asarray(clean[:1])).dtype
    given = np.clip((clean - low) / wide * narrow + first, first, last).astype(dtype)
    here, true = source.asarray(given), source.asarray(labels.copy())
    radii = [float(epsilon) * narrow / wide for epsilon in epsilons]
    batches: Iterator[Array]
    if attack is None:
        batches = (
            climb(Ball(source, here, radius, norm), true, LogOdds(), here, radius * REACH / steps,
                  steps)
            for radius in radii
        )  # fmt: skip
    else:
        numbers = np.arange(len(clean)) if index is None else index
        batches = iter(attack.perturb(source, here, true, radii, index=numbers))
    for radius, moved in zip(epsilons, batches, strict=True):
        change = (source.numpy(moved) - given) * (wide / narrow)
        change = NORMS[norm].within(np, change, float(radius))
        yield np.clip(clean + change, low, high).astype(clean.dtype)


def _opened(source: Any, bounds: Bounds, home: Path | None) -> Model:
    """A source as a model of images within these bounds.

    Raises:
        HarnessError: It is none, or does not fit.
    """
    if isinstance(source, str) and is_function(source):
        source = called(source, {}, home)
    if isinstance(source, str | Path):
        path = (home or Path()) / Path(source).expanduser()
        if not path.exists():
            raise HarnessError(f"{path}: there is no such file")
        model = registry.backend_for(path).load(path, Wrapping(bounds))
    elif is_model(source):
        model = source
    else:
        model = registry.backend_of(source).wrap(source, Wrapping(bounds))
    return model


def _require(model: Model, bounds: Bounds, attack: Attack | None) -> None:
    """Require a source of these images, or of images in [0, 1], with what the attack needs.

    Raises:
        HarnessError: It is none.
    """
    if tuple(model.bounds) not in (UNIT.bounds, bounds):
        raise HarnessError(
            f"it takes pixels in {list(model.bounds)}, the attacked model in {list(bounds)}"
        )
    needed = frozenset({GRADIENT}) if attack is None else attack.requires
    if lacking := ", ".join(sorted(needed - model.capabilities)):
        raise HarnessError(
            f"it lacks {lacking}, which is needed of it; of an .onnx file, name a function that "
            "returns harness.wrap(FILE)"
        )
