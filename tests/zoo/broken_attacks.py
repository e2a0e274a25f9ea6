"""Adapters of attacks with one thing wrong, each in the place of one of the harness's own."""

from __future__ import annotations

import numpy as np

from harness.attacks.pgd import PGD
from harness.checks.validity import Attacks, Evidence
from harness.maths.objectives import CrossEntropy
from harness.protocol import GRADIENT
from zoo.healthy import overconfident, unsure
from zoo.networks import built, images


class Adapter:
    """Someone's PGD of ten steps from a clean start, right but for what a subclass changes."""

    name, norm, requires = "adapter", "linf", frozenset({GRADIENT})
    steps = 10
    objective = CrossEntropy()

    def perturb(self, model, x, y, epsilons, *, index):
        for epsilon in epsilons:
            clean = model.numpy(x)
            moving = self.start(clean, epsilon)
            for _ in range(self.steps):
                given = model.asarray(moving)
                _, gradient = model.logits_and_gradient(
                    given, model.asarray(self.labels(model, given, model.numpy(y))), self.objective
                )
                ahead = moving + self.step(model.numpy(gradient), epsilon)
                moving = self.project(ahead, clean, epsilon, model.bounds).astype(np.float32)
            yield model.asarray(self.finish(moving, clean, epsilon))

    def start(self, clean, epsilon):
        return clean

    def labels(self, model, given, y):
        return y

    def step(self, gradient, epsilon):
        return np.sign(gradient) * epsilon * 2.5 / self.steps

    def project(self, moving, clean, epsilon, bounds):
        return np.clip(clean + np.clip(moving - clean, -epsilon, epsilon), *bounds)

    def finish(self, moving, clean, epsilon):
        return moving


class LeavesTheBox(Adapter):
    def project(self, moving, clean, epsilon, bounds):
        return clean + np.clip(moving - clean, -epsilon, epsilon)


class BelowTheBox(Adapter):
    """Clips at the upper end alone."""

    def project(self, moving, clean, epsilon, bounds):
        return np.minimum(clean + np.clip(moving - clean, -epsilon, epsilon), bounds[1])


class LeavesTheBallInPlace(Adapter):
    """Moves the clean images along, so that no distance from them is left."""

    def perturb(self, model, x, y, epsilons, *, index):
        for epsilon in epsilons:
            change = np.where(x < 0.5, np.float32(2 * epsilon), np.float32(-2 * epsilon))
            np.clip(x + change, *model.bounds, out=x)
            yield x


class LeavesTheBall(Adapter):
    """Clips to the box only."""

    def project(self, moving, clean, epsilon, bounds):
        return np.clip(moving, *bounds)


class DoubleEpsilon(Adapter):
    """Takes epsilon for the width of pixels in [-1, 1]."""

    def project(self, moving, clean, epsilon, bounds):
        return super().project(moving, clean, 2 * epsilon, bounds)


class RoundsToBytes(Adapter):
    def finish(self, moving, clean, epsilon):
        return np.round(moving * 255).astype(np.uint8).astype(np.float32) / np.float32(255)


class StartsFarAway(Adapter):
    """Its random start has a size of its own, also at epsilon 0."""

    steps = 0

    def start(self, clean, epsilon):
        change = np.random.default_rng(0).choice([-0.3, 0.3], clean.shape)
        return np.clip(clean + change, 0, 1).astype(np.float32)


class Shuffles(Adapter):
    """Returns the images in another order."""

    def finish(self, moving, clean, epsilon):
        return np.roll(moving, 1, axis=0)


class NotANumber(Adapter):
    """Divides by the length of a change of zero."""

    def finish(self, moving, clean, epsilon):
        with np.errstate(invalid="ignore"):
            change = moving - clean
            return clean + change / np.abs(change).max() * np.float32(epsilon)


class ForgetsTheSign(Adapter):
    """Adds the gradient itself, which is tiny on confident images."""

    def step(self, gradient, epsilon):
        return gradient * epsilon * 2.5 / self.steps


class Descends(Adapter):
    def step(self, gradient, epsilon):
        return -super().step(gradient, epsilon)


class PredictedLabels(Adapter):
    """Leads away from what the model says of the clean image, whatever is true."""

    def perturb(self, model, x, y, epsilons, *, index):
        predicted = model.asarray(model.numpy(model.logits(x)).argmax(axis=1))
        yield from super().perturb(model, x, predicted, epsilons, index=index)


class CurrentLabels(Adapter):
    """Leads away from what the model says at each step, back over the boundary it has crossed."""

    def labels(self, model, given, y):
        return model.numpy(model.logits(given)).argmax(axis=1)


class TargetInPlaceOfLabel(Adapter):
    """Is given the class to aim at, and climbs the loss of that."""

    def labels(self, model, given, y):
        return (y + 1) % 10


class TinySteps(Adapter):
    """Steps of epsilon / 255."""

    def step(self, gradient, epsilon):
        return np.sign(gradient) * epsilon / 255


class GivesUp(Adapter):
    """Returns the clean image where the change could be seen."""

    def finish(self, moving, clean, epsilon):
        return clean if epsilon > 0.2 else moving


class StopsGrowing(Adapter):
    """Knows one epsilon."""

    def perturb(self, model, x, y, epsilons, *, index):
        yield from super().perturb(model, x, y, [min(e, 0.1) for e in epsilons], index=index)


class PlainSoftmax(CrossEntropy):
    """The gradient as it is mostly written: softmax(z) - onehot(y), zero on confident images."""

    def logit_gradient(self, xp, logits, true):
        odds = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
        return odds / xp.sum(odds, axis=1, keepdims=True) - true


class Saturates(Adapter):
    name = "plain-fgsm"
    steps = 1
    objective = PlainSoftmax()


def _as_pgd(kind):
    return lambda: Evidence(built(), *images(), Attacks(iterated=kind()))


def _as_fgsm(kind, model=built):
    return lambda: Evidence(model(), *images(), Attacks(single=kind()))


def _as_black_box(kind):
    return lambda: Evidence(built(), *images(), Attacks(black_box=(kind(),)))


def _one_loss():
    """A right attack, of which the loss leads astray on logits as small as these."""
    attack = PGD(losses=("cross-entropy",))
    return Evidence(unsure(), *images(), Attacks(iterated=attack))


WEAK = {"iterated-weaker", "stronger-attack", "not-to-chance"}
"""What fires when many steps lead to little."""
BROKEN_ATTACKS = {
    "leaves-the-box": (_as_pgd(LeavesTheBox), {"outside-box"}),
    "below-the-box": (_as_pgd(BelowTheBox), {"outside-box"}),
    "single-step-leaves-the-box": (_as_fgsm(LeavesTheBox), {"outside-box"}),
    "black-box-leaves-the-box": (_as_black_box(LeavesTheBox), {"outside-box"}),
    "leaves-the-ball": (_as_pgd(LeavesTheBall), {"outside-ball"}),
    "leaves-the-ball-in-place": (
        _as_black_box(LeavesTheBallInPlace), {"outside-ball"}
    ),
    "double-epsilon": (_as_pgd(DoubleEpsilon), {"outside-ball"}),
    "rounds-to-bytes": (_as_pgd(RoundsToBytes), {"outside-ball"}),
    "starts-far-away": (
        _as_pgd(StartsFarAway), {"epsilon-zero", "outside-ball", "stronger-attack", "not-to-chance"}
    ),
    "shuffles": (_as_pgd(Shuffles), {"epsilon-zero", "outside-ball"}),
    "nan": (_as_pgd(NotANumber), {"non-finite"}),
    "saturates": (_as_fgsm(Saturates, overconfident), {"vanishing-gradients"}),
    "forgets-the-sign": (_as_pgd(ForgetsTheSign), WEAK),
    "descends": (_as_pgd(Descends), {"attack-helps", *WEAK}),
    "predicted-labels": (_as_pgd(PredictedLabels), {"attack-helps"}),
    "current-labels": (_as_pgd(CurrentLabels), WEAK),
    "target-in-place-of-label": (_as_pgd(TargetInPlaceOfLabel), WEAK),
    "tiny-steps": (_as_pgd(TinySteps), WEAK),
    "gives-up": (_as_pgd(GivesUp), {"rises-with-epsilon", "vanishing-gradients", *WEAK}),
    "stops-growing": (_as_pgd(StopsGrowing), WEAK),
    "one-loss": (_one_loss, {"iterated-weaker", "other-loss-stronger", "stronger-attack"}),
}  # fmt: skip
"""What makes the evidence of each, and what must fire, no more and no less."""
