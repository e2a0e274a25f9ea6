"""The per-image worst case over several attacks: what may be called robust accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness.attacks.ball import Standing
from harness.protocol import Array, Attack, IntArray, Model, NormName


@dataclass(frozen=True, kw_only=True)
class Strongest:
    """Runs each attack on what still stands after those before it.

    An attack that needs what a model lacks is left out, so a black box is attacked by what needs
    no gradient.

    Attributes:
        members: The attacks, the cheap ones first; all of one norm.
        name: What the records call it.
    """

    members: tuple[Attack, ...]
    name: str = "strongest"
    requires: ClassVar[frozenset[str]] = frozenset()

    @property
    def norm(self) -> NormName:
        """The norm that bounds the perturbation."""
        return self.members[0].norm

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        standing = Standing(model, x, y)
        able = [attack for attack in self.members if attack.requires <= model.capabilities]
        for epsilon in epsilons:
            for attack in able if epsilon > 0 else []:
                self._attempt(attack, standing, x, y, epsilon, index)
            yield standing.adversarial()

    def _attempt(
        self,
        attack: Attack,
        standing: Standing,
        x: Array,
        y: Array,
        epsilon: float,
        index: IntArray,
    ) -> None:
        rows = standing.rows()
        if not len(rows):
            return
        model = standing.model
        here = model.asarray(np.asarray(rows, dtype=np.int64))
        some, labels = (model.xp.take(array, here, axis=0) for array in (x, y))
        (found,) = attack.perturb(model, some, labels, [epsilon], index=index[rows])
        standing.offer(rows, found, model.logits(found), keep="last")
