"""The named training recipes: what a spec's ``recipe`` stands for, unless it says otherwise."""

from __future__ import annotations

from typing import Any

_ACCURATE: dict[str, Any] = {
    "epochs": 25,
    "batch_size": 128,
    "learning_rate": 2e-3,
    "schedule": "one-cycle",
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "averaging": 0.998,
    "augmentation": "affine",
    "patience": 25,
}

RECIPES: dict[str, dict[str, Any]] = {
    # Adam, a cosine, and early stopping.
    "standard": {"epochs": 15},
    # Small affine distortions, AdamW in one cycle, smoothed labels, averaged weights.
    "accurate": _ACCURATE,
    # One step from a random start (Wong, Rice & Kolter 2020).
    "fgsm-at": _ACCURATE | {"label_smoothing": 0.0, "adversary": {"steps": 1, "reach": 1.25}},
    # Several small steps (Madry et al. 2018).
    "pgd-at": _ACCURATE | {"label_smoothing": 0.0, "adversary": {"steps": 5, "reach": 2.0}},
    # Clean loss, and a pull towards the same answers in the ball (Zhang et al. 2019).
    "trades": _ACCURATE
    | {"label_smoothing": 0.0, "adversary": {"steps": 5, "reach": 2.0, "pull": 3.0}},
}
