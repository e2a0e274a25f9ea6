"""The section on training: curves of each model that the harness trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.results.records import ModelInfo
from reports import figures
from reports.section import Section
from reports.stored import Pair
from reports.view import RunView


@dataclass(frozen=True)
class Training:
    """The training of one model."""

    pair: Pair
    info: ModelInfo
    charts: list[Markup]
    collapsed: list[int]


def _training(info: ModelInfo) -> Training:
    """The training curves of one model."""
    pair = Pair(info.backend, info.model)
    charts = [
        figures.training_chart(
            info.history, quantity, info.best_epoch,
            f"Line chart: {quantity} of {pair.label} by epoch, in training and validation",
        )
        for quantity in ("loss", "accuracy")
    ]  # fmt: skip
    collapsed = [epoch.epoch for epoch in info.history if epoch.collapsed]
    return Training(pair, info, charts, collapsed)


def _content(view: RunView) -> dict[str, Any] | None:
    models = view.run.models
    found = [_training(info) for info in models if info.history]
    if not found:
        return None
    epochs = [epoch for info in models for epoch in info.history]
    defended = any(epoch.pgd_accuracy is not None for epoch in epochs)
    certified = any(epoch.certified_accuracy is not None for epoch in epochs)
    return {"trainings": found, "defended": defended, "certified": certified}


SECTION = Section("training", "Training", place=15, content=_content, rank=150, expected=True,
                  learn="learn/mlp")  # fmt: skip
