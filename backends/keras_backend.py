"""The Keras backend, on the TensorFlow engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from backends.keras_copies import KerasCopies
from backends.keras_devices import on
from backends.keras_layers import Built, built
from backends.keras_loading import loaded
from backends.keras_taken import is_taken, taken
from backends.keras_trainer import BuiltKerasModel, KerasTrainer
from backends.keras_wrapped import KerasModel
from harness.errors import BackendError
from harness.protocol import UNIT, Copies, Model, Network, Optimizer, Wrapping


class KerasBackend:
    """See ``protocol.Backend``."""

    name = "keras"
    suffixes = (".keras",)

    def __init__(self) -> None:
        engine = keras.backend.backend()
        if engine != "tensorflow":
            raise BackendError(
                f"keras runs on the engine {engine!r}, but this backend needs TensorFlow: "
                "set KERAS_BACKEND=tensorflow"
            )

    def versions(self) -> dict[str, str]:
        """See ``protocol.Backend``."""
        return {"keras": keras.__version__, "tensorflow": tf.__version__}

    def build(
        self, network: Network, how: Wrapping = UNIT, dtype: str = "float32"
    ) -> BuiltKerasModel:
        """See ``protocol.Builder``."""
        with on(how.device):
            return self._model(network, how, built(network.architecture.inference, dtype))

    def trainer(
        self, network: Network, how: Wrapping, optimizer: Optimizer, seed: int
    ) -> KerasTrainer:
        """See ``protocol.Builder``."""
        with on(how.device):
            model = self._model(network, how, built(network.architecture, seed=seed))
            return KerasTrainer(model, self.build(network, how), network.architecture, optimizer)

    def _model(self, network: Network, how: Wrapping, made: Built) -> BuiltKerasModel:
        model = BuiltKerasModel(made, how, network.architecture.channel_axis)
        model.set_weights(network.weights)
        return model

    def knows(self, net: Any) -> bool:
        """See ``protocol.Backend``."""
        return is_taken(net)

    def wrap(self, net: Any, how: Wrapping) -> KerasModel:
        """See ``protocol.Backend``."""
        return KerasModel(taken(net, how.output), how)

    def load(self, path: Path, how: Wrapping) -> KerasModel:
        """See ``protocol.Backend``; ``.keras`` files, and folders of SavedModels."""
        with on(how.device):
            return self.wrap(loaded(path), how)

    def save(self, network: Network, path: Path) -> None:
        """Write a network as a ``.keras`` file."""
        self.build(network).net.save(path)

    def copies(self, model: Model) -> Copies | None:
        """See ``protocol.Backend``."""
        return KerasCopies(model) if isinstance(model, KerasModel) else None
