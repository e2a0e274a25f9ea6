"""Small networks, trained in seconds, that every peer attacks with the same weights.

``HARNESS_TEST_PEERS=1`` (as in ``tox -e peers``) asks for these tests. Then every peer must be
there; otherwise the folder is left out, because it needs four more libraries.
"""

import os
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest

from harness.data import Part, load_dataset
from harness.data.mnist import FILES
from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights
from harness.protocol import Architecture, Network, Optimizer, Wrapping
from harness.registry import backend, import_together
from harness.spec.models import DataSpec
from harness.spec.training import TrainingSpec
from harness.training.loop import train

collect_ignore_glob = [] if os.environ.get("HARNESS_TEST_PEERS") else ["test_*.py"]
DATA = os.environ.get("HARNESS_DATA_DIR", "")
MNIST = bool(DATA) and all((Path(DATA) / "mnist" / file.name).is_file() for file in FILES)


class Trained(NamedTuple):
    """A network's weights, and images that it was not trained on."""

    net: Architecture
    weights: dict
    x: np.ndarray
    y: np.ndarray

    def build(self, framework, **options):
        return backend(framework).build(Network(self.net, self.weights), **options)

    def first(self, count):
        return self._replace(x=self.x[:count], y=self.y[:count])

    def sharpened(self, factor):
        """The same decisions with logits so many times as large: confident to saturation."""
        last = list(self.weights)[-2:]
        louder = {name: self.weights[name] * np.float32(factor) for name in last}
        return self._replace(weights={**self.weights, **louder})


def trained(name, images, epochs, family="mlp", training=MappingProxyType({}), **said):
    """A network with smoothed labels, so that the softmax of no image rounds to one.

    What else is said are options of its family.
    """
    import_together({"torch", "keras"})
    data = load_dataset(DataSpec(name=name))
    net = architecture_of(family, said, ImageKind(data.input_shape, len(data.classes)))
    start = initial_weights(net, seed=0)
    trainer = backend("torch").trainer(
        Network(net, start), Wrapping(data.bounds), Optimizer(), seed=0
    )
    some = Part(data.train.x[:images], data.train.y[:images], data.train.index[:images])
    recipe = TrainingSpec(epochs=epochs, batch_size=64, label_smoothing=0.2, **training)
    weights = train(trainer, some, data.validation, recipe, seed=0, title=name).weights
    return Trained(net, weights, np.array(data.test.x), np.array(data.test.y))


def mnist_or_skip():
    """In CI the files of MNIST must be there."""
    if not MNIST:
        reason = f"HARNESS_DATA_DIR={DATA!r} holds no mnist/ with the four files"
        if DATA and os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and in CI it should")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def digits():
    return trained("digits", images=2000, epochs=15, hidden=(64, 32))


@pytest.fixture(scope="session", params=["digits", "mnist"])
def pretrained(request, digits):
    """The small network, and one for MNIST where its files are at hand."""
    if request.param == "digits":
        return digits
    mnist_or_skip()
    return trained("mnist", images=10_000, epochs=2, hidden=(256, 128))


DEFENDED = {
    "mlp": {"family": "mlp", "hidden": (256, 128)},
    "cnn": {
        "family": "cnn", "channels": (8, 16), "kernel": 4, "stride": 2, "padding": 1,
        "dense": (64,),
    },
}  # fmt: skip
DEFENCE = {
    "learning_rate": 3e-3, "schedule": "one-cycle",
    "adversary": {"epsilon": 0.15, "steps": 2, "rel_stepsize": 0.75, "ramp": 0.5},
}  # fmt: skip


@pytest.fixture(scope="session", params=sorted(DEFENDED))
def defended(request):
    """An MLP and a CNN for MNIST that were trained against PGD; (28, 28) images, no channel."""
    mnist_or_skip()
    return trained("mnist", 12_000, 3, training=DEFENCE, **DEFENDED[request.param])
