"""Images, labels and epsilons with one thing wrong, for a model that is healthy."""

from __future__ import annotations

import numpy as np

from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.checks.validity import Attacks, Evidence, Reported
from harness.protocol import GRADIENT
from zoo.broken_attacks import Adapter, Descends
from zoo.healthy import in_bytes
from zoo.networks import built, images


def _copied():
    """Every image twice, in another order."""
    x, y = images()
    return Evidence(built(), np.concatenate([x, x[::-1]]), np.concatenate([y, y[::-1]]))


def _reported(epsilon, model=built, attack=FGSM):
    def make():
        one = model()
        return Evidence(one, *images(one.bounds), reported=(Reported(attack(), (0.0, epsilon)),))

    return make


def _helped():
    """Its first attack goes down the loss, on a model with many errors to put right."""
    return Evidence(built(epochs=1), *images(), Attacks(single=Descends()))


class OfWrongShape(Adapter):
    """Returns flat images."""

    def finish(self, moving, clean, epsilon):
        return moving.reshape(len(moving), -1)


class OfWholeNumbers(Adapter):
    def finish(self, moving, clean, epsilon):
        return (moving * 255).astype(np.uint8)


class YieldsNothing(Adapter):
    def perturb(self, model, x, y, epsilons, *, index):
        return iter(())


class YieldsTwice(Adapter):
    def perturb(self, model, x, y, epsilons, *, index):
        yield from super().perturb(model, x, y, [*epsilons, *epsilons], index=index)


class Raises(Adapter):
    requires = frozenset({GRADIENT})

    def perturb(self, model, x, y, epsilons, *, index):
        raise TypeError("unsupported operand")


def _as_single(kind):
    return lambda: Evidence(built(), *images(), Attacks(single=kind()))


def _madry(epsilon):
    """PGD of few steps that claims to be strong."""
    return lambda: Evidence(
        built(), *images(),
        reported=(Reported(PGD(name="short", steps=20, rel_stepsize=0.03), (epsilon,)),),
    )  # fmt: skip


BROKEN_DATA = {
    "copied-images": (_copied, {"duplicate-images"}),
    "epsilon-of-bytes": (_reported(8.0), {"epsilon-scale"}),
    "epsilon-of-units": (_reported(8 / 255, in_bytes), {"epsilon-scale"}),
    "attack-that-helps": (_helped, {"raises-accuracy"}),
    "attack-of-wrong-shape": (_as_single(OfWrongShape), {"breaks"}),
    "attack-of-whole-numbers": (_as_single(OfWholeNumbers), {"breaks"}),
    "attack-that-yields-nothing": (_as_single(YieldsNothing), {"breaks"}),
    "attack-that-yields-twice": (_as_single(YieldsTwice), {"breaks"}),
    "attack-that-raises": (_as_single(Raises), {"breaks"}),
    "reported-attack-that-falls-short": (_madry(0.1), {"stronger-attack"}),
}
"""What makes the evidence of each, and what must fire, no more and no less."""
