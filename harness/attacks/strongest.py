"""The per-image worst case over several attacks: the lowest upper bound on robust accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.attacks.ball import BestSoFar
from harness.attacks.own import Own
from harness.errors import MeasurementError, SpecError
from harness.maths.norms import NORMS
from harness.names import repeated
from harness.protocol import Array, Attack, IntArray, Model, NormName


@dataclass(frozen=True, kw_only=True)
class Strongest(Own):
    """Runs each attack on what is still classified correctly after those before it.

    An attack that needs what a model lacks is left out, so a black box is attacked by what needs
    no gradient.

    Attributes:
        members: The attacks, the cheap ones first; all of one norm, and each of a name of its own.
        name: What the records call it.

    Raises:
        SpecError: There are no members, or their norms differ, or two have one name.
    """

    members: tuple[Attack, ...]
    name: str = "strongest"
    requires: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        """Refuse members that cannot be one ensemble."""
        require_ensemble(self.members)

    def options(self) -> dict[str, Any]:
        """See ``protocol.Attack``."""
        return {"members": list(self.members)}

    @property
    def norm(self) -> NormName:
        """The norm that bounds the perturbation."""
        return self.members[0].norm

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        best = BestSoFar(model, x, y)
        able = [attack for attack in self.members if attack.requires <= model.capabilities]
        if not able:
            raise MeasurementError(f"the model lacks what each member of {self.name} needs")
        for epsilon in epsilons:
            for attack in able if epsilon > 0 else []:
                self._attempt(attack, best, x, y, epsilon, index)
            yield best.adversarial()

    def _attempt(
        self,
        attack: Attack,
        best: BestSoFar,
        x: Array,
        y: Array,
        epsilon: float,
        index: IntArray,
    ) -> None:
        rows = best.rows()
        if not len(rows):
            return
        model = best.model
        here = model.asarray(rows)
        some, labels = (model.xp.take(array, here, axis=0) for array in (x, y))
        (found,) = attack.perturb(model, some, labels, [epsilon], index=index[rows])
        if found.dtype != x.dtype:  # of an attack of somebody else
            found = model.asarray(model.numpy(found))
        best.part(rows).finish(found, model.logits(found), "last")


def require_distinct(attacks: Sequence[Attack], key: str = "attacks") -> None:
    """Require that no two attacks of a list have one name: records tell them apart by it.

    Raises:
        SpecError: Two have; the message names the key of the list, and the name.
    """
    if found := repeated(attack.name for attack in attacks):
        name, count = found
        raise SpecError(
            f"{key}: {count} of them are called {name}; give each a name of its own, as in "
            f'PGD(name="{name}-2")'
        )


def require_ensemble(members: Sequence[Attack]) -> None:
    """Require one or more attacks, of one norm, each of a name of its own.

    Raises:
        SpecError: They are not; the message names those of one name, or of each norm.
    """
    if not members:
        raise SpecError("members: name one or more attacks")
    require_distinct(members, "members")
    named: dict[NormName, list[str]] = {}
    for attack in members:
        named.setdefault(attack.norm, []).append(attack.name)
    if len(named) > 1:
        each = "; ".join(f"{NORMS[norm].label}: {', '.join(of)}" for norm, of in named.items())
        raise SpecError(f"members: they bound their perturbations by different norms ({each})")
