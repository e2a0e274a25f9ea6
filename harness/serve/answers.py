"""What models say, in the shapes of ``schemas``, as JSON-like data."""

from __future__ import annotations

import math
from typing import Any

from harness.protocol import GRADIENT
from harness.serve.live import Attacked, Explained, Live, Predicted


def info_of(live: Live) -> dict[str, Any]:
    """What is told of a model, as ``Info``."""
    about = live.about
    return {
        "name": live.name,
        "backend": live.backend,
        "input": {
            "shape": list(live.shape),
            "channel_axis": live.channel_axis,
            "bounds": list(live.bounds),
        },
        "classes": list(live.classes),
        "attacks": [
            {
                "name": name,
                "norm": attack.norm,
                "epsilon_max": live.longest(name),
                "steps": getattr(attack, "steps", None),
                "needs_gradient": GRADIENT in attack.requires,
            }
            for name, attack in live.attacks.items()
        ],
        "methods": list(live.methods),
        "top": live.top,
        "epsilon_unit": about.epsilon_unit,
        "data": about.data,
        "accuracy": about.accuracy,
        "weights": None,
        "parameters": about.parameters,
        "recipe": about.recipe,
        "adversarial": about.adversarial,
    }


def prediction_of(live: Live, found: Predicted) -> dict[str, Any]:
    """What a model says of an image, as ``Prediction``."""
    return {
        "label": found.label,
        "class": live.classes[found.label],
        "probabilities": found.probabilities.tolist(),
        "logits": found.logits.tolist(),
    }


def attacked_of(live: Live, found: Attacked) -> dict[str, Any]:
    """An attack on an image, as ``AttackResult``."""
    return {
        "label": found.label,
        "clean": prediction_of(live, found.clean),
        "adversarial": prediction_of(live, found.adversarial),
        "misclassified": found.misclassified,
        "image": found.image.tolist(),
        "perturbation": found.perturbation.tolist(),
        "distance": found.distance,
    }


def explained_of(found: Explained) -> dict[str, Any]:
    """A saliency map, as ``SaliencyMap``."""
    return {
        "label": found.label,
        "map": found.map.tolist(),
        "scores": found.scores.tolist(),
        "mask": found.mask.tolist(),
    }


def smallest_of(label: int, epsilon: float, limit: float) -> dict[str, Any]:
    """A smallest epsilon, as ``SmallestResult``."""
    return {
        "label": int(label),
        "epsilon": float(epsilon) if math.isfinite(epsilon) else None,
        "limit": limit,
    }
