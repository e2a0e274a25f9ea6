"""Where the peers deviate: images of which the network is sure.

The gradient of the cross-entropy by the logits is softmax - onehot. In float32 the entry of the
true class is zero once its probability is within 6e-8 of one; what is left points in a direction of
its own, and where the other probabilities underflow too, nothing is left. Measured here:

- Logits 6 times as large: in PyTorch and Keras every peer finds fewer adversarial images than ours;
  Foolbox on JAX, whose log-softmax loses less, finds as many.
  In float64 Foolbox, torchattacks and CleverHans on TensorFlow agree with ours, which was right in
  float32. ART and ``keras.losses`` compute in float32 even then; CleverHans and ART cannot attack a
  PyTorch network in float64. That holds of these networks, trained with smoothed labels; on CNNs
  trained without, ours finds more than any other in float64 too.
- Logits 100 times as large: every peer returns most images as they were, and calls them robust. The
  harness follows the log-odds, of which the direction is the same and the length never vanishes.
"""

import numpy as np
import pytest
from side_by_side import EPSILONS, IDS, PAIRS, our_counts, peer_of

SURE, TOO_SURE = 6, 100
LOSES_LESS = ("jax", "foolbox")
IN_FLOAT64 = [
    ("torch", "foolbox"), ("torch", "torchattacks"), ("keras", "foolbox"), ("keras", "cleverhans"),
]  # fmt: skip


@pytest.mark.parametrize(("framework", "name"), PAIRS, ids=IDS)
def test_in_float32_they_miss_adversarial_images_of_sure_networks(digits, framework, name):
    sure = digits.sharpened(SURE)
    model = sure.build(framework)
    ours = our_counts(model, "fgsm", sure, EPSILONS)
    theirs = peer_of(framework, name, sure, model).counts(sure.x, sure.y, EPSILONS)
    assert all(mine <= other for mine, other in zip(ours, theirs, strict=True))
    if (framework, name) == LOSES_LESS:
        assert ours == theirs
    else:
        assert sum(theirs) > sum(ours) + 10


@pytest.mark.parametrize(("framework", "name"), IN_FLOAT64)
def test_in_float64_they_find_those_that_ours_finds_in_float32(digits, framework, name):
    sure = digits.sharpened(SURE)
    ours = our_counts(sure.build(framework), "fgsm", sure, EPSILONS)
    exact = sure.build(framework, dtype="float64")
    x = sure.x.astype(np.float64)
    assert ours == peer_of(framework, name, sure, exact).counts(x, sure.y, EPSILONS)
    assert ours == our_counts(exact, "fgsm", sure, EPSILONS)


@pytest.mark.parametrize(("framework", "name"), PAIRS, ids=IDS)
def test_they_return_images_of_too_sure_networks_unchanged(digits, framework, name):
    sure = digits.sharpened(TOO_SURE)
    model = sure.build(framework)
    peer = peer_of(framework, name, sure, model)
    found = peer.fgsm(peer.asarray(sure.x), peer.asarray(sure.y), 0.3)
    found = found.detach().numpy() if framework == "torch" and name != "art" else np.asarray(found)
    moved = np.any(found != sure.x, axis=(1, 2))
    assert moved.mean() < 0.4
    assert our_counts(model, "fgsm", sure, [0.3]) == [0]
