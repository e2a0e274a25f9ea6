"""Attack a classifier of scikit-learn: ``python examples/sklearn_classifier.py``.

It gives no gradient, so the attacks are those that ask for answers alone.
"""

from __future__ import annotations

from typing import Any

from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import harness
from harness.attacks.square import Square


def attacked() -> Any:
    """The run of a logistic regression on 100 test digits."""
    x, y = load_digits(return_X_y=True)
    x = x / 16
    classifier = LogisticRegression(max_iter=200).fit(x[:1400], y[:1400])
    images, labels = x[1400:1500], y[1400:1500]
    attacks = ["noise", Square(steps=100)]
    return harness.evaluate(classifier, images, labels, attacks, [0, 0.1], progress=False)


if __name__ == "__main__":
    print(attacked().frame().to_string())
