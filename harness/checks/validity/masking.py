"""Do the attacks behave as they must if gradients lead anywhere?

The signs of masked gradients, or of broken attacks, are those of Athalye, Carlini & Wagner 2018
("Obfuscated gradients give a false sense of security", section 3.1), Carlini et al. 2019 ("On
evaluating adversarial robustness", section 5) and Croce & Hein 2020 ("Reliable evaluation of
adversarial robustness with an ensemble of diverse parameter-free attacks").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from harness.checks.check import BrokenError
from harness.checks.validity.evidence import Evidence
from harness.checks.validity.lots import SHARES
from harness.checks.validity.panel import WEAKER, chosen, shortfall
from harness.checks.validity.worst_case import WorstCase, worst_cases
from harness.errors import CheckFailed, NotApplicable
from harness.maths.around import why_no_gradient
from harness.maths.norms import written
from harness.maths.statistics import exceeds, more_often
from harness.protocol import GRADIENT, Attack

BLIND = 0.03
"""Share of images on which only attacks without gradients may succeed: by chance, on a few."""


def check_iterated_weaker(evidence: Evidence) -> None:
    """Accuracy under many steps is not above accuracy under one step, at any epsilon."""
    single, iterated = evidence.attacks.single, evidence.attacks.iterated
    if single.norm != iterated.norm:
        raise NotApplicable(f"{single.name} and {iterated.name} are bounded in different norms")
    for share in SHARES:
        one, many = evidence.correct_under(single, share), evidence.correct_under(iterated, share)
        if more_often(many, one, len(SHARES)):
            raise CheckFailed(
                f"at epsilon {share * evidence.width:g} {many.sum()} of {len(many)} images "
                f"are correct under {iterated.name}, but only {one.sum()} under the single step of "
                f"{single.name}",
                "Check the step's direction, size and labels; else do not trust the gradients.",
                of="iterated-weaker",
            )


def check_black_box_stronger(evidence: Evidence) -> str:
    """Attacks without gradients succeed on hardly any image where all with gradients fail.

    Returns:
        Where they do so at an epsilon that is not reported, or nothing.
    """
    _require_gradients(evidence)
    note = ""
    for case in _cases(evidence):
        if case.share(case.guided) > BLIND:
            said = (
                f"at epsilon {written(case.epsilon)} {case.guided.sum()} of {len(case.left)} "
                f"images are correct under all attacks with gradients, but {case.left.sum()} "
                f"under those without them too ({_credit(case, evidence.black_box)})"
            )
            if _counts(evidence, case):
                raise CheckFailed(
                    said,
                    "Treat the gradients as masked: report the worst case of all, and adapt "
                    "(BPDA).",
                    of="black-box-stronger",
                )
            note = note or said
    return note


def check_stronger_attack(evidence: Evidence) -> str:
    """The best reported attack leaves not many more images correct than all attacks together.

    Checked at each epsilon of the reported attacks: accuracy under attack is an upper bound,
    so the lowest that is reported counts. An attack that is weak by design, such as noise or a
    single step, is not judged; that PGD is far stronger than FGSM is as it should be. Where no
    other is reported, PGD is judged beside it.

    Returns:
        Which reported attack falls as far short where a better one is reported beside it, or where
        it may; or PGD at an epsilon that is not reported; or nothing.
    """
    _require_gradients(evidence)
    looked, note = False, ""
    for case in _cases(evidence):
        if not case.judged and case.panel is None:
            continue
        looked = True
        said, beside = _fallen_short(evidence, case)
        if said and _counts(evidence, case):
            raise CheckFailed(
                said,
                f"Report the worst case of all (strongest), and do not rely on {beside} alone.",
                of="stronger-attack",
            )
        note = note or said or _told_beside(case)
    if not looked:
        raise NotApplicable("no attack of many steps can be judged")
    return note


def check_not_to_chance(evidence: Evidence) -> None:
    """At half the pixel range every image can become the same grey, so nothing is left to see."""
    attack, share = evidence.attacks.iterated, SHARES[-1]
    if attack.norm != "linf":
        raise NotApplicable(f"{attack.name} is bounded in another norm than L∞")
    left = evidence.correct_under(attack, share)
    if exceeds(int(left.sum()), len(left), evidence.chance):
        raise CheckFailed(
            f"at epsilon {share * evidence.width:g} {left.sum()} of {len(left)} images are "
            f"still correct under {attack.name}, more than chance ({evidence.chance:.0%}) explains",
            "Check that steps times step size reaches epsilon, and that the gradients lead there.",
            of="not-to-chance",
        )


def check_rises_with_epsilon(evidence: Evidence) -> None:
    """A larger ball holds the smaller one, so an iterated attack is not weaker in it."""
    attack = evidence.attacks.iterated
    sweep = [(0.0, evidence.right), *((s, evidence.correct_under(attack, s)) for s in SHARES)]
    pairs = list(combinations(sweep, 2))
    for (small, before), (large, after) in pairs:
        if more_often(after, before, len(pairs)):
            raise CheckFailed(
                f"{after.sum()} of {len(after)} images are correct under {attack.name} at epsilon "
                f"{large * evidence.width:g}, but {before.sum()} at {small * evidence.width:g}",
                "Scale the step with epsilon, and check its direction and the projection.",
                of="rises-with-epsilon",
            )


def _require_gradients(evidence: Evidence) -> None:
    if GRADIENT not in evidence.model.capabilities:
        raise NotApplicable(f"the model gives no gradients{why_no_gradient(evidence.model)}")
    evidence.require_attackable()
    try:
        one_mode, gradients = evidence.one_mode, evidence.gradients
    except BrokenError as error:
        raise NotApplicable(str(error)) from error
    if not one_mode:
        raise NotApplicable("the logits change where a gradient is requested")
    if not np.isfinite(gradients).all():
        raise NotApplicable("the gradients hold NaN or infinity")


def _cases(evidence: Evidence) -> Iterator[WorstCase]:
    """Those of each norm in which an attack of many steps is judged; norms are never mixed."""
    judged = [one.attack.norm for one in evidence.reported if shortfall(one.attack) is not None]
    for norm in dict.fromkeys([evidence.attacks.iterated.norm, *judged]):
        yield from worst_cases(evidence, norm)


def _counts(evidence: Evidence, case: WorstCase) -> bool:
    """Whether an accuracy is reported that is doubtful if this case is: of another it is a note."""
    return bool(case.told) or not any(chosen(one.epsilons) for one in evidence.reported)


def _fallen_short(evidence: Evidence, case: WorstCase) -> tuple[str, str]:
    """What is said of the best attack that falls short, and its name; nothing if none does."""
    at, count = f"at epsilon {written(case.epsilon)}", len(case.left)
    union = f"all attacks together {case.left.sum()} ({_credit(case)})"
    if case.best <= WEAKER:
        return "", ""
    if case.judged:
        if not case.short:
            return "", ""
        name, correct = next(iter(case.short.items()))
        return f"{at} {name} leaves {correct.sum()} of {count} images correct, {union}", name
    name, panel = evidence.attacks.iterated.name, case.left if case.panel is None else case.panel
    if not case.told:
        return f"{at} {name} leaves {panel.sum()} of {count} images correct, {union}", name
    told = min(case.told, key=lambda each: int(case.told[each].sum()))
    return (
        f"{at} {told} leaves {case.told[told].sum()} of {count} images correct, {name} "
        f"{panel.sum()}, {union}",
        f"{told} or {name}",
    )


def _told_beside(case: WorstCase) -> str:
    """Which reported attack falls short, though the report holds a better one, or though it may."""
    if not case.told:
        return ""
    best = min(case.told, key=lambda each: int(case.told[each].sum()))
    worst = max(case.judged or case.told, key=lambda each: int(case.told[each].sum()))
    correct, count = case.told[worst], len(case.left)
    if case.share(correct) <= WEAKER:
        return ""
    at = f"at epsilon {written(case.epsilon)}"
    said = f"{at} {worst} leaves {correct.sum()} of {count} images correct, "
    if worst != best and case.share(case.told[best]) <= WEAKER:
        return f"{said}{best} {case.told[best].sum()}: report the latter"
    return f"{said}all attacks together {case.left.sum()}: report these beside it"


def _credit(case: WorstCase, attacks: Sequence[Attack] | None = None) -> str:
    """On how many images each attack succeeds, of these or of all, after those before it."""
    names = case.first if attacks is None else [attack.name for attack in attacks]
    said = [f"{name} succeeds on {case.first[name]}" for name in names if case.first.get(name)]
    return ", then ".join(said)
