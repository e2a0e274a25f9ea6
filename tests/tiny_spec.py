"""A benchmark of a second: scikit-learn's digits, a net of one hidden layer, two epochs, NumPy."""

from __future__ import annotations

EPSILONS = (0.0, 0.1, 0.3)
MODELS = """
[models.{model}]
hidden = [16]

[models.{model}.training]
epochs = 2
batch_size = 32
learning_rate = 0.01

[models.{model}.expect]
clean = {clean}

[models.{model}.expect.attacks.fgsm]
"0.0" = [0.0, 1.0]
"0.1" = {fgsm}
"""


def tiny_spec(
    backends=("numpy",), clean=(0.5, 1.0), fgsm=(0.0, 0.6), models=("mlp",), seed=0, attacks="",
    saliency='methods = ["gradient"]',
):  # fmt: skip
    """The text of the spec; its ranges are wide, and the one of ε = 0.3 is missing."""
    head = (
        f'name = "tiny"\nseed = {seed}\nbackends = {list(backends)}\n'
        f'[data]\nname = "digits"\n[attacks.fgsm]\nepsilons = {list(EPSILONS)}\n{attacks}\n'
        f"[saliency]\n{saliency}\n"
    )
    return head + "".join(
        MODELS.format(model=model, clean=list(clean), fgsm=list(fgsm)) for model in models
    )
