"""An attack of one's own, beside those of the harness: ``python examples/own_attack.py``.

It blurs. That it stays within ball and box is checked by the harness, as of any attack; whether it
finds something is seen beside noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import harness
from harness.protocol import Array, IntArray, Model


class Blur:
    """Each pixel moves towards the mean of its four neighbours, by ε at most."""

    name, norm = "blur", "linf"
    requires: frozenset[str] = frozenset()
    steps = 1

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One batch for each epsilon; see ``protocol.Attack``."""
        clean = model.numpy(x)
        wide = np.pad(clean, ((0, 0), (1, 1), (1, 1)), mode="edge")
        rows = wide[:, 2:, 1:-1] + wide[:, :-2, 1:-1]
        blurred = (rows + wide[:, 1:-1, 2:] + wide[:, 1:-1, :-2]) / 4
        for epsilon in epsilons:
            yield model.asarray(clean + np.clip(blurred - clean, -epsilon, epsilon))


def attacked() -> Any:
    """The run of a logistic regression on 100 test digits."""
    x, y = load_digits(return_X_y=True)
    x = x / 16
    classifier = LogisticRegression(max_iter=200).fit(x[:1400], y[:1400])

    def answers(images: Any) -> Any:
        return np.log(classifier.predict_proba(images.reshape(len(images), -1)) + 1e-9)

    model = harness.wrap_function(answers)
    images = x[1400:1500].reshape(-1, 8, 8)
    return harness.evaluate(
        model, images, y[1400:1500], ["noise", Blur()], [0, 0.1, 0.2], progress=False
    )


if __name__ == "__main__":
    print(attacked().frame().to_string())
