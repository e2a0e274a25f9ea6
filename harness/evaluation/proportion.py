"""What a run tells of its data, and whether its epsilons are in proportion to the pixels."""

from __future__ import annotations

from collections.abc import Iterator

from harness.data.dataset import Dataset
from harness.evaluation.evaluation import Measures
from harness.maths.channels import axis_of
from harness.protocol import Bounds
from harness.results import keys
from harness.results.records import DataInfo

TINY = 1e-3
"""Share of it below which even a largest epsilon is less than a level of 8-bit pixels, 1/255."""


def data_info(data: Dataset) -> DataInfo:
    """The card of the test images."""
    images = data.test.x
    shape = tuple(int(side) for side in images.shape[1:])
    return DataInfo(
        source=data.name, images=len(data.test), shape=shape, dtype=str(images.dtype),
        bounds=data.bounds, channel_axis=axis_of(shape, data.channel_axis),
    )  # fmt: skip


def out_of_proportion(measures: Measures, bounds: Bounds) -> Iterator[str]:
    """A line for each sweep whose L∞ epsilons do not fit the pixels, as 8 on [0, 1] does not."""
    low, high = bounds
    width = high - low
    swept = [(name, sweep.epsilons, sweep.attack.norm) for name, sweep in measures.sweeps.items()]
    swept += [
        (keys.certificate(name), asked.epsilons, asked.certifier.norm)
        for name, asked in measures.certified.items()
    ]
    for name, radii, norm in swept:
        epsilons = [epsilon for epsilon in radii if epsilon > 0]
        if not epsilons or norm != "linf":
            continue
        largest = max(epsilons)
        pixels = f"pixels in [{low:g}, {high:g}]"
        if largest > width:
            yield (
                f"{name}: epsilon {largest:g} is wider than the {pixels}; if 8 means 8/255, say "
                "epsilon_unit = 255"
            )
        elif largest < TINY * width:
            yield (
                f"{name}: the largest epsilon, {largest:g}, is less than a thousandth of the "
                f"{pixels}; epsilon is in pixel units: multiply it by {width:g}"
            )
