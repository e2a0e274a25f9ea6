"""What was measured, in a few facts: the models and the data of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.results.records import DataInfo, ModelInfo
from harness.results.run import Run
from harness.spec.units import is_number
from reports import stored
from reports.formats import number, radius, words
from reports.stored import class_names

Facts = list[tuple[str, str]]
OPEN = 2
"""Models whose facts are seen at once; those of more are opened on demand."""
NOTES = 20
"""Notes that are printed at most; the others are counted."""
SPLITS = {
    "70-20-10": "70 % training, 20 % validation, 10 % test",
    "canonical": "the publisher's test set; a sixth of the rest for validation",
    "canonical-shuffled": "the publisher's test set; a sixth of the rest for validation",
}
UNTOLD = ("load", "file", "options", "training", "expect", "architecture", "preprocessing")
"""Keys of a model in a spec that are no options of its architecture."""
RECIPE = {
    "epochs": "{} epochs", "batch_size": "batches of {}", "learning_rate": "learning rate {}",
    "schedule": "{} schedule", "l2": "L2 penalty {}", "weight_decay": "weight decay {}",
    "label_smoothing": "label smoothing {}", "averaging": "averaging {}",
    "augmentation": "{}", "patience": "patience {}",
}  # fmt: skip


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
    models = []
    for name in dict.fromkeys(info.model for info in run.models):
        infos = [info for info in run.models if info.model == name]
        if facts := _of_model(infos, stored.spec_value(run, "models", name)):
            backends = ", ".join(info.backend for info in infos if info.backend)
            models.append((f"{name} ({backends})" if backends else name, facts))
    data = [] if run.data is None else _of_data(run, run.data)
    return About(models, data) if models or data else None


def notes_of(run: Run) -> list[str]:
    """What a reader should know of the numbers, a line each."""
    if len(run.notes) <= NOTES:
        return list(run.notes)
    left = len(run.notes) - NOTES
    return [*run.notes[:NOTES], f"and {left} more note{'' if left == 1 else 's'}"]


def _of_model(infos: Sequence[ModelInfo], spec: Any) -> Facts:
    """The facts of a model; what all its backends share is said once."""
    spec = spec if isinstance(spec, dict) else {}
    by_backend = [(info.backend, dict(_told(info))) for info in infos]
    terms = dict.fromkeys(term for _, facts in by_backend for term in facts)
    facts = []
    for term in terms:
        said = {backend: found[term] for backend, found in by_backend if term in found}
        alike = len(set(said.values())) == 1 and len(said) == len(by_backend)
        value = next(iter(said.values())) if alike else "; ".join(map(": ".join, said.items()))
        facts.append((term, value))
    if options := _options(spec):
        facts.insert(1, ("layers", options))
    if recipe := _recipe(spec.get("training")):
        facts.append(("training", recipe))
    return facts


def _told(info: ModelInfo) -> Facts:
    told = [
        ("model", words(info.kind) if info.kind.islower() else info.kind),
        ("source", info.source),
        ("parameters", "" if info.parameters is None else f"{info.parameters:,}"),
        ("outputs", "" if info.outputs == "auto" else info.outputs),
        ("preprocessing", info.preprocessing),
        ("device", info.device),
        ("queries", "" if info.queries is None else f"{info.queries:,} images"),
    ]
    return [(name, value) for name, value in told if value]


def _options(spec: dict[str, Any]) -> str:
    """The options of an architecture as the spec has them: ``hidden 128 · 64, dropout 0.1``."""
    told = [
        words(str(key)) if value is True else f"{words(str(key))} {_value(value)}"
        for key, value in spec.items()
        if key not in UNTOLD and value not in (False, None, [], ())
    ]
    return ", ".join(told)


def _recipe(training: Any) -> str:
    """How a model was trained, as the spec has it; what was not done is left out."""
    if not isinstance(training, dict):
        return ""
    told = [f"recipe {training['recipe']}" if training.get("recipe") else ""]
    told += [
        sentence.format(_value(training[key]))
        for key, sentence in RECIPE.items()
        if training.get(key) not in (None, 0, 0.0, "none", "constant")
    ]
    adversary = training.get("adversary")
    if isinstance(adversary, dict) and adversary.get("epsilon") is not None:
        told.append(f"adversary at ε = {_radius(adversary['epsilon'])}")
    return ", ".join(part for part in told if part)


def _radius(value: Any) -> str:
    return radius(value) if is_number(value) else _value(value)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " · ".join(map(str, value))
    return number(value) if isinstance(value, float) else str(value)


def _of_data(run: Run, data: DataInfo) -> Facts:
    low, high = data.bounds
    shape = " × ".join(map(str, data.shape))
    axis = "" if data.channel_axis is None else f", channels on axis {data.channel_axis}"
    named = stored.spec_value(run, "data", "name") is not None
    told = [
        ("source", data.source),
        ("split", SPLITS.get(str(stored.spec_value(run, "data", "split")), "") if named else ""),
        ("test images", f"{data.images:,}"),
        ("classes", _classes(run)),
        ("input", f"{shape}{axis}"),
        ("dtype", data.dtype),
        ("bounds", f"[{number(low)}, {number(high)}]"),
    ]
    return [(name, value) for name, value in told if value]


def _classes(run: Run) -> str:
    """How many classes there are, and how many test images of each."""
    count, labels = len(class_names(run)), stored.labels_of(run)
    if not count:
        return ""
    if labels is None:
        return f"{count:,}"
    images = np.bincount(labels, minlength=count)
    low, high = int(images.min()), int(images.max())
    return f"{count:,}, of each {f'{low:,}' if low == high else f'{low:,} to {high:,}'} test images"
