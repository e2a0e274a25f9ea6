"""Images made against another model: a small one, trained on the tested model's predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.attacks.own import Own
from harness.attacks.transfer import crafted
from harness.protocol import Array, IntArray, Model


@dataclass(frozen=True)
class Transfer(Own):
    """Adversarial images of a surrogate, transferred: the model's own gradient is not used.

    Unlike the attack of that name it moves every image, and asks the model nothing: the surrogate
    was trained on other test images, once for all that is checked.

    Attributes:
        surrogate: A network that takes pixels in [0, 1].
    """

    surrogate: Model
    name: ClassVar[str] = "transfer"
    norm: ClassVar[Literal["linf"]] = "linf"
    requires: ClassVar[frozenset[str]] = frozenset()

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        clean, labels = model.numpy(x), model.numpy(y)
        for made in crafted(self.surrogate, clean, labels, model.bounds, epsilons):
            yield model.asarray(made)
