"""The named training recipes: what a spec's ``recipe`` stands for, unless it says otherwise."""

from __future__ import annotations

from typing import Any

_LONG: dict[str, Any] = {
    "epochs": 25,
    "batch_size": 128,
    "learning_rate": 2e-3,
    "schedule": "one-cycle",
    "weight_decay": 0.01,
    "averaging": 0.998,
    "augmentation": "affine",
    "patience": 25,
}

RECIPES: dict[str, dict[str, Any]] = {
    # Adam, a cosine, and early stopping.
    "standard": {"epochs": 15},
    # Small affine distortions, AdamW in one cycle, smoothed labels, averaged weights. Made for a
    # network with batch normalisation and without dropout: the distortions regularise enough.
    "accurate": _LONG
    | {"epochs": 30, "learning_rate": 4e-3, "label_smoothing": 0.05, "patience": 30},
    # One step from a random start (Wong, Rice & Kolter 2020).
    "fgsm-at": _LONG | {"adversary": {"steps": 1, "reach": 1.25}},
    # Several small steps (Madry et al. 2018).
    "pgd-at": _LONG | {"adversary": {"steps": 5, "reach": 2.0}},
    # Clean loss, and a pull towards the same answers in the ball (Zhang et al. 2019).
    "trades": _LONG | {"adversary": {"steps": 5, "reach": 2.0, "pull": 3.0}},
}
