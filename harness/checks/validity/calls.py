"""Does a model return logits at all, and the same however it is called?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.checks.check import BrokenError
from harness.checks.validity import repeated
from harness.checks.validity.evidence import Evidence
from harness.checks.validity.outcome import outputs
from harness.errors import CheckFailed, NotApplicable
from harness.maths.adaptive import RANDOM_ON_PURPOSE, is_randomised
from harness.protocol import GRADIENT, FloatArray

RANDOM = (
    "Put the network in inference mode; if it is random on purpose, say randomised = true, and "
    "attack a random defence on its average (EOT)."
)
MEMORY = (
    "Put the network in inference mode, and let no counter, cache or running average of earlier "
    "calls influence its logits."
)
NEIGHBOURS = (
    "Put the network in inference mode: batch normalisation must use its running averages, and an "
    "image's place in the batch must not matter."
)
ONE_MODE = "Let the network compute the same whether a gradient is requested or not."
FLOW = (
    "Compute the logits from the images in the framework itself, with nothing rounded, detached "
    "or turned into NumPy on the way."
)


def check_breaks(evidence: Evidence) -> None:
    """The model returns logits, and each attack one batch of images of its input's shape."""
    advice = "Fix this first: the other checks need it."
    try:
        _ = evidence.raw_logits
        for point in evidence.points():
            evidence.outcome_at(*point)
    except BrokenError as error:
        raise CheckFailed(str(error), advice, of="breaks") from error


def check_call_to_call(evidence: Evidence) -> None:
    """The same images get the same logits in a second call.

    Randomness makes each step of an attack follow another model; only an attack on its average
    (EOT, Athalye et al. 2018, section 4) measures how robust such a model is. Where the logits
    depend on the calls before, no attack does.
    """
    _require_no_purpose(evidence)
    if evidence.steady:
        return
    calls = [outputs(evidence.model, evidence.x) for _ in range(repeated.CALLS)]
    moved = max(_moved(evidence, again) for again in evidence.second_calls)
    memory = repeated.has_memory(evidence.logits, calls)
    raise CheckFailed(
        f"in a second call the same images get other logits, and {moved} of {len(evidence.y)} "
        "another label"
        + ("; the logits depend on how often the model was called before" if memory else ""),
        MEMORY if memory else RANDOM,
        of="call-to-call",
    )


def check_batch_dependence(evidence: Evidence) -> None:
    """An image's logits depend neither on the images beside it, nor on its place, or their number.

    The same images are evaluated in batches of one class, in other places, and alone; and their
    labels are compared with those that clean accuracy counts, which is measured in larger batches.
    """
    _require_no_purpose(evidence)
    if not evidence.steady:
        raise NotApplicable("the logits change from call to call")
    if len(evidence.y) < 2:
        raise NotApplicable("one image has no neighbours")
    model, x, logits = evidence.model, evidence.x, evidence.logits
    ways: dict[str, Callable[[], FloatArray]] = {
        "in batches of one class": lambda: evidence.logits_apart,
        "in other places of the batch": lambda: repeated.elsewhere(model, x),
        "alone": lambda: repeated.alone(model, x),
    }
    for how, ask in ways.items():
        try:
            found = ask()
        except BrokenError as error:
            raise CheckFailed(f"{how}: {error}", NEIGHBOURS, of="batch-dependence") from error
        few = len(found)
        if repeated.differ(found, logits[:few], evidence.slack):
            raise CheckFailed(
                f"{how} the same images get other logits, and {_moved(evidence, found)} of {few} "
                "another label",
                NEIGHBOURS,
                of="batch-dependence",
            )
    if others := len(evidence.mislabelled):
        raise CheckFailed(
            f"in batches as large as clean accuracy is measured in, {others} of {len(evidence.y)} "
            "images get another label",
            NEIGHBOURS,
            of="batch-dependence",
        )


def check_gradient_mode(evidence: Evidence) -> None:
    """The logits that come beside a gradient are those of a plain call, and a gradient comes.

    A network may compute other logits where gradients are on: then attacks climb another model than
    the one that is measured.
    """
    _require_no_purpose(evidence)
    if not evidence.steady:
        raise NotApplicable("the logits change from call to call")
    try:
        beside, _ = evidence.with_gradient
    except BrokenError as error:
        asked = any(GRADIENT in one.attack.requires for one in evidence.reported)
        if evidence.reported and not asked:
            raise NotApplicable(f"no reported attack asks for a gradient; {error}") from error
        raise CheckFailed(str(error), FLOW, of="gradient-mode") from error
    if not evidence.one_mode:
        raise CheckFailed(
            f"where a gradient is requested, the same images get other logits, and "
            f"{_moved(evidence, beside)} of {len(beside)} another label",
            ONE_MODE,
            of="gradient-mode",
        )


def _require_no_purpose(evidence: Evidence) -> None:
    if is_randomised(evidence.model):
        raise NotApplicable(RANDOM_ON_PURPOSE)


def _moved(evidence: Evidence, logits: FloatArray) -> int:
    """How many of the first images these logits give another label."""
    return int(np.sum(logits.argmax(axis=1) != evidence.labels[: len(logits)]))
