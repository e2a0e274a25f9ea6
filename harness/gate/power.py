"""What the gate detects: exact for image-by-image tests, simulated for the spread of seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from harness.gate.paired import LEVEL
from harness.gate.simulation import DROPS, SPREADS, WORLDS, rate
from harness.spec.gate import GateSettings

IMAGES = (100, 500, 1_000, 7_000, 10_000, 50_000)
CHANGED = (0.005, 0.01, 0.02, 0.05, 0.1)
CHECKS = 30
"""About what a spec compares."""
POWER = 0.95
STEP = 1e-4
"""Drops are given to a hundredth of a point."""
LOOK: dict[str, Any] = {"box": None, "pad_edge": False, "title_justify": "left"}
"""How tables look in a terminal."""


def power(
    drop: float,
    images: int,
    changed: float,
    *,
    checks: int = CHECKS,
    tolerance: float = GateSettings().tolerance,
) -> float:
    """How likely a true drop of an accuracy is reported as a regression.

    Each image changes its outcome with probability ``changed``, and is then lost rather than gained
    with probability (1 + drop / changed) / 2; the sum over all numbers of changed images is exact.
    The correction is the one of the smallest p-value, so that with Holm the power is at least this.

    Args:
        drop: True drop of the accuracy, in [0, changed].
        images: Number of test images, at least 1.
        changed: Share of images whose outcome changes, in (0, 1].
        checks: How many checks are compared in the gate.
        tolerance: A drop must be larger, in [0, 1].

    Raises:
        ValueError: The drop is larger than the share that changes.
    """
    from scipy.stats import binom

    if not 0 <= drop <= changed:
        raise ValueError(f"a drop of {drop:g} needs as many images to change, not {changed:g}")
    low, high = (int(binom.ppf(tail, images, changed)) for tail in (1e-9, 1 - 1e-9))
    moved = np.arange(low, high + 1)
    weight = binom.pmf(moved, images, changed)
    # The fewest lost images with 2·P(as many or more) at most the corrected level ...
    significant = binom.isf(LEVEL / checks / 2, moved, 0.5) + 1
    # ... and whose surplus over the gained is more than the tolerance.
    beyond = np.floor((moved + np.round(tolerance * images, 9)) / 2) + 1
    needed = np.maximum(significant, beyond)
    caught = binom.sf(needed - 1, moved, (1 + drop / changed) / 2)
    return float((weight * caught).sum())


def detectable_drop(
    images: int,
    changed: float,
    *,
    checks: int = CHECKS,
    tolerance: float = GateSettings().tolerance,
) -> float | None:
    """The smallest drop that is caught 95 times in 100, to 0.01 points; None if none is.

    The arguments are those of ``power``, which grows with the drop.
    """
    steps = int(round(changed / STEP, 9))

    def seen(step: int) -> bool:
        drop = min(step * STEP, changed)
        return power(drop, images, changed, checks=checks, tolerance=tolerance) >= POWER

    if not seen(steps):
        return None
    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high * STEP


def power_table(
    checks: int = CHECKS,
    tolerance: float = GateSettings().tolerance,
    images: Sequence[int] = IMAGES,
) -> Table:
    """Detectable drops in points: a row a number of images, a column a share that changes."""
    title = (
        f"smallest drop that is caught in {POWER:.0%} of cases, in points "
        f"({checks} checks, tolerance {100 * tolerance:g} points)"
    )
    table = Table("images", title=title, **LOOK)
    for share in CHANGED:
        table.add_column(f"{share:.1%} change", justify="right")
    for count in images:
        drops = [detectable_drop(count, share, checks=checks, tolerance=tolerance)
                 for share in CHANGED]  # fmt: skip
        table.add_row(f"{count:,}", *("-" if d is None else f"{100 * d:.2f}" for d in drops))
    return table


def simulated_tables(
    gates: int, seeds: int, checks: int, images: int, tolerance: float
) -> Iterator[Table]:
    """For each way that seeds can vary how often a retrained model fails, in percent of gates.

    A row a spread between seeds. Its columns are false alarms, and the drops that are caught, in
    one check (of which only itself counts) and in every one.
    """
    for name, world in WORLDS.items():
        title = f"{name}: {seeds} runs, {checks} checks, {images:,} images, {gates:,} gates, in %"
        table = Table("spread", "false alarms", title=title, **LOOK)
        for where in ("one", "all"):
            for drop in DROPS:
                table.add_column(f"{where} -{100 * drop:g}", justify="right")
        for spread in SPREADS:
            cells = [
                rate(
                    gates, tolerance=tolerance, world=world, spread=spread, runs=seeds,
                    checks=checks, images=images, drop=drop, every=every,
                )
                for every, drop in [(True, 0.0), *((e, d) for e in (False, True) for d in DROPS)]
            ]  # fmt: skip
            table.add_row(f"{100 * spread:g}", *(f"{100 * cell:.1f}" for cell in cells))
        yield table
