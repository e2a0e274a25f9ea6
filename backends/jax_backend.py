"""The JAX backend."""

from __future__ import annotations

from typing import Any

import jax

from backends.jax_copies import JaxCopies
from backends.jax_devices import device_named
from backends.jax_taken import is_taken, wrapped
from backends.jax_training import BuiltJaxModel, JaxTrainer
from backends.jax_wrapped import JaxModel
from harness.errors import BackendError
from harness.protocol import UNIT, Model, Network, Optimizer, Wrapping


class JaxBackend:
    """See ``protocol.Backend``."""

    name = "jax"

    def __init__(self) -> None:
        if not hasattr(jax, "enable_x64"):
            raise BackendError(f"jax {jax.__version__} is too old: pip install --upgrade jax")

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

    def knows(self, net: Any) -> bool:
        """See ``protocol.Backend``."""
        return is_taken(net)

    def wrap(self, net: Any, how: Wrapping) -> JaxModel:
        """See ``protocol.Backend``."""
        return wrapped(net, how)

    def copies(self, model: Model) -> JaxCopies | None:
        """See ``protocol.Backend``."""
        return JaxCopies(model) if isinstance(model, JaxModel) else None
