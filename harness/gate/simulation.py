"""Thousands of gates against several seeds, simulated: false alarms, and drops that are caught.

A gate is a model with some checks, several accepted runs of it, and one more. Accuracies vary from
seed to seed with a given *whole* standard deviation, of which flips of single images are a part;
the rest is a shift that all checks share, or one of each check's own. In each world of `WORLDS`
another share of both; in reality they lie between. The accuracies of the checks are spread evenly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.gate.paired import LEVEL, Floats, holm, mcnemar
from harness.gate.spread import predicted
from harness.spec.gate import GateSettings

SPREADS = (0.0, 0.0025, 0.005, 0.0075, 0.01, 0.02, 0.03)
DROPS = (0.05, 0.1)
BATCH = 500
"""Gates that are simulated at once, so that memory stays small."""


@dataclass(frozen=True)
class World:
    """Where the variance between seeds comes from.

    Attributes:
        flips: Share of it that single images cause, each flipping on its own.
        common: Share of the rest that all checks have in common.
    """

    flips: float
    common: float


WORLDS = {
    "one shift of all checks": World(0.0, 1.0),
    "half shift, half flips": World(0.5, 1.0),
    "flips alone": World(1.0, 0.0),
    "checks of their own": World(0.0, 0.0),
}


@dataclass(frozen=True)
class Gates:
    """Simulated gates.

    Attributes:
        before: Which images the accepted runs had correct, (gates, checks, runs, images).
        after: Which the further run has correct, (gates, checks, images).
    """

    before: npt.NDArray[np.bool_]
    after: npt.NDArray[np.bool_]


def gates(
    random: np.random.Generator,
    count: int,
    *,
    world: World,
    spread: float,
    runs: int,
    checks: int = 13,
    images: int = 1000,
    accuracies: tuple[float, float] = (0.2, 0.99),
    drop: float = 0.0,
    every: bool = False,
) -> Gates:
    """So many gates, in each of which the further run dropped in the first check or in every one.

    Args:
        random: Where the numbers come from.
        count: How many gates.
        world: Where the variance comes from.
        spread: Whole standard deviation of the accuracies between seeds, in [0, 1].
        runs: How many runs are accepted.
        checks: How many checks the model has.
        images: How many images each has.
        accuracies: Lowest and highest accuracy of the checks.
        drop: True drop of the accuracy in the further run, in [0, 1].
        every: Whether every check drops, or only one, whose place changes from gate to gate.
    """
    level = np.linspace(*accuracies, checks)
    if not every:
        # The check that drops is the first; which accuracy it has is chance.
        level = np.stack([np.roll(level, turn) for turn in random.integers(checks, size=count)])
    level = np.broadcast_to(level, (count, checks))[..., None]
    # A coin that lies on a share q of the images makes the accuracy vary by q/4 over the images.
    uncertain = np.minimum(4 * world.flips * spread**2 * images, 2 * np.minimum(level, 1 - level))
    shared, own = (random.standard_normal((count, size, runs + 1)) for size in (1, checks))
    shift = np.sqrt(world.common) * shared + np.sqrt(1 - world.common) * own
    shift = spread * np.sqrt(1 - world.flips) * shift
    shift[:, slice(None) if every else slice(1), -1] -= drop
    certain = np.rint(images * (level - uncertain / 2 + shift))[..., None]
    coins = np.rint(images * uncertain)[..., None]
    place = np.arange(images)
    right = place < np.clip(certain, 0, images - coins)
    size = int(np.prod(right.shape))
    tossed = np.unpackbits(np.frombuffer(random.bytes(size // 8 + 1), np.uint8), count=size)
    tossed = tossed.astype(bool).reshape(right.shape)
    outcomes = np.where(place >= images - coins, tossed, right)
    return Gates(outcomes[:, :, :-1], outcomes[:, :, -1])


def failed(simulated: Gates, tolerance: float = GateSettings().tolerance) -> npt.NDArray[np.bool_]:
    """Which checks regressed, (gates, checks), by the rules of the gate for retrained models."""
    before, after = simulated.before, simulated.after
    images, new = after.shape[-1], after.mean(axis=-1)
    if before.shape[2] == 1:
        old = before[:, :, 0]
        p_values = mcnemar((old & ~after).sum(axis=-1), (after & ~old).sum(axis=-1))
        rise: Floats = new - old.mean(axis=-1)
    else:
        runs = before.shape[2]
        share = before.sum(axis=2, dtype=np.uint8).astype(np.float32) / runs
        varies = (share * (1 - share)).mean(axis=-1, dtype=float) * runs / (runs - 1)
        flips = np.maximum(varies / images, 1 / images**2)
        prediction = predicted(before.mean(axis=-1), new, flips, images)
        p_values, rise = prediction.p_values, prediction.rise
    found = (holm(p_values) <= LEVEL) & (np.round(-rise - tolerance, 9) > 0)
    return np.asarray(found)


def rate(
    count: int,
    *,
    seed: int = 0,
    tolerance: float = GateSettings().tolerance,
    **settings: object,
) -> float:
    """Share of so many gates that fail: false alarms without a drop, power with one.

    Where one check drops, only its own failure counts; ``settings`` are those of ``gates``.
    """
    random = np.random.default_rng(seed)
    one = bool(settings.get("drop")) and not settings.get("every")
    caught = 0
    for start in range(0, count, BATCH):
        simulated = gates(random, min(BATCH, count - start), **settings)  # type: ignore[arg-type]
        found = failed(simulated, tolerance)
        caught += int((found[:, 0] if one else found.any(axis=1)).sum())
    return caught / count
