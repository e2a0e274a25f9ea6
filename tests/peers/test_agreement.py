"""The harness's FGSM and PGD beside those of Foolbox, torchattacks, CleverHans and ART.

Peers differentiate the cross-entropy in float32, which goes wrong on images of which the network is
sure (see ``test_saturation.py``). These networks were trained with smoothed labels, so that there
are no such images; then FGSM's counts are equal, to the image, in all of them.
"""

import numpy as np
import pytest
from side_by_side import EPSILONS, IDS, PAIRS, our_counts, peer_of

STEPS, RESTARTS = 40, 5
STRONG = 0.1
"""The epsilon at which PGD is compared: some images are misclassified and others are not."""
LUCK = 0.02
"""Share of the images on which the random starts of equally many attempts may disagree."""


@pytest.mark.parametrize(("framework", "name"), PAIRS, ids=IDS)
def test_fgsm_leaves_as_many_images_correct_as_theirs(pretrained, framework, name):
    some = pretrained.first(2000)  # all of digits, and a fifth of MNIST
    model = some.build(framework)
    ours = our_counts(model, "fgsm", some, EPSILONS)
    assert len(set(ours)) > 4  # the sweep has something to tell
    assert ours == peer_of(framework, name, some, model).counts(some.x, some.y, EPSILONS)


@pytest.mark.parametrize(("framework", "name"), PAIRS, ids=IDS)
def test_pgd_leaves_no_more_images_correct_than_theirs(pretrained, framework, name):
    some = pretrained.first(300)
    model = some.build(framework)
    losses = ["cross-entropy"]  # as theirs
    (ours,) = our_counts(
        model, "pgd", some, [STRONG], steps=STEPS, restarts=RESTARTS, losses=losses
    )
    peer = peer_of(framework, name, some, model)
    x, y = peer.asarray(some.x), peer.asarray(some.y)
    _seed_all()
    attempts = [peer.labels(peer.pgd(x, y, STRONG, STEPS)) == some.y for _ in range(RESTARTS)]
    once, often = attempts[0].sum(), np.all(attempts, axis=0).sum()
    assert 0 < ours <= once < len(some.y)
    assert ours <= often + LUCK * len(some.y)


def _seed_all():
    """The peers draw from the global generators."""
    import keras
    import torch

    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
