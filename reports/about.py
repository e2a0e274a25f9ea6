"""What was measured, in a few facts: the models and the data of a run."""

from __future__ import annotations

from dataclasses import dataclass

from harness.results.records import DataInfo, ModelInfo
from harness.results.run import Run
from reports.formats import number
from reports.stored import Pair, class_names

Facts = list[tuple[str, str]]
OPEN = 3
"""Models whose facts are seen at once; those of more are opened on demand."""
NOTES = 20
"""Notes that are printed at most; the others are counted."""


@dataclass(frozen=True)
class About:
    """The card "model and data".

    Attributes:
        models: Per model its name and its facts, as far as they are told.
        data: The facts of the test images; none where the run does not tell them.
    """

    models: list[tuple[str, Facts]]
    data: Facts

    @property
    def seen(self) -> list[tuple[str, Facts]]:
        """The models that are seen at once."""
        return self.models[:OPEN]

    @property
    def folded(self) -> list[tuple[str, Facts]]:
        """The others."""
        return self.models[OPEN:]


def about(run: Run) -> About | None:
    """What the run tells of its models and data; None of an older one, which tells nothing."""
    models = [
        (Pair(info.backend, info.model).label, facts) for info in run.models
        if (facts := _of_model(info))
    ]  # fmt: skip
    data = [] if run.data is None else _of_data(run.data, len(class_names(run)))
    return About(models, data) if models or data else None


def notes_of(run: Run) -> list[str]:
    """What a reader should know of the numbers, a line each."""
    if len(run.notes) <= NOTES:
        return list(run.notes)
    left = len(run.notes) - NOTES
    return [*run.notes[:NOTES], f"and {left} more note{'' if left == 1 else 's'}"]


def _of_model(info: ModelInfo) -> Facts:
    told = [
        ("model", info.kind),
        ("source", info.source),
        ("parameters", "" if info.parameters is None else f"{info.parameters:,}"),
        ("outputs", "" if info.outputs == "auto" else info.outputs),
        ("preprocessing", info.preprocessing),
        ("device", info.device),
        ("queries", "" if info.queries is None else f"{info.queries:,} images"),
    ]
    return [(name, value) for name, value in told if value]


def _of_data(data: DataInfo, classes: int) -> Facts:
    low, high = data.bounds
    shape = " × ".join(map(str, data.shape))
    axis = "" if data.channel_axis is None else f", channels on axis {data.channel_axis}"
    told = [
        ("source", data.source),
        ("test images", f"{data.images:,}"),
        ("input", f"{shape}{axis}"),
        ("dtype", data.dtype),
        ("bounds", f"[{number(low)}, {number(high)}]"),
        ("classes", f"{classes:,}" if classes else ""),
    ]
    return [(name, value) for name, value in told if value]
