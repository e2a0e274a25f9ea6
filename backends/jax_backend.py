"""The JAX backend."""

from __future__ import annotations

from typing import Any

import jax

from backends.jax_devices import device_named
from backends.jax_training import BuiltJaxModel, JaxTrainer
from backends.jax_wrapped import JaxModel
from harness.protocol import UNIT, Model, Network, Optimizer, Wrapping


class JaxBackend:
    """See ``protocol.Backend``."""

    name = "jax"

    def versions(self) -> dict[str, str]:
        """See ``protocol.Backend``."""
        return {"jax": jax.__version__}

    def build(
        self, network: Network, how: Wrapping = UNIT, dtype: str = "float32"
    ) -> BuiltJaxModel:
        """See ``protocol.Builder``."""
        device = device_named(how.device)
        return BuiltJaxModel(network.architecture, network.weights, how, device, dtype)

    def trainer(
        self, network: Network, how: Wrapping, optimizer: Optimizer, seed: int
    ) -> JaxTrainer:
        """See ``protocol.Builder``."""
        device = device_named(how.device)
        return JaxTrainer(network.architecture, network.weights, how, device, optimizer, seed)
