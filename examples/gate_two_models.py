"""Accept a model as the baseline, and gate its successor: ``python examples/gate_two_models.py``.

The successor has forgotten a tenth of its weights. Image by image the gate sees what that costs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import harness
from harness.gate import Comparison, gate, store
from harness.protocol import Network, Wrapping, fully_connected
from harness.registry import builder
from harness.results.run import Run


def trained(forgotten: float) -> Any:
    """A linear network, a share of whose weights is zero, as a model with gradients."""
    x, y = load_digits(return_X_y=True)
    fitted = LogisticRegression(max_iter=200).fit(x[:1400] / 16, y[:1400])
    kept = np.random.default_rng(0).random(fitted.coef_.shape) >= forgotten
    weights = {
        "layers.0.weight": (fitted.coef_ * kept).astype(np.float32),
        "layers.0.bias": fitted.intercept_.astype(np.float32),
    }
    network = Network(fully_connected((8, 8), (), 10), weights)
    return builder("numpy").build(network, Wrapping((0.0, 1.0)))


def measured(model: Any, folder: Path) -> None:
    """Leave its run on 397 test digits in a folder."""
    images, labels = load_digits(return_X_y=True)
    x, y = images[1400:].reshape(-1, 8, 8) / 16, labels[1400:]
    harness.evaluate(model, x, y, ["fgsm", "pgd"], [0, 0.05, 0.1], out=folder, progress=False)


def gated(folder: Path) -> Comparison:
    """What the gate says of the successor."""
    measured(trained(forgotten=0), folder / "first")
    store.accept(Run.load(folder / "first"), folder / "baseline")
    measured(trained(forgotten=0.1), folder / "second")
    return gate(folder / "second", folder / "baseline")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        comparison = gated(Path(name))
    print("passed" if comparison.passed else "failed")
    for row in comparison.rows:
        print(f"{row.verdict:12} {row.label}")
