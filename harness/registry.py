"""The backends by name, imported when first asked for."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.errors import BackendError, one_line, unknown
from harness.protocol import Backend, Model
from robustness_harness import shadowed


@dataclass(frozen=True)
class BackendEntry:
    """Where a backend is, and the packages it cannot do without."""

    module: str
    factory: str
    needs: tuple[str, ...] = ()


# The order matters: where both live in one process, torch is imported before tensorflow.
BACKENDS = {
    "torch": BackendEntry("backends.torch_backend", "TorchBackend", ("torch", "array_api_compat")),
    "keras": BackendEntry("backends.keras_backend", "KerasBackend", ("tensorflow", "keras")),
    "numpy": BackendEntry("backends.numpy_backend", "NumpyBackend"),
}


def missing(name: str) -> str:
    """Why a backend cannot be used here, in one line; empty if it can. Imports nothing.

    Raises:
        BackendError: There is no backend of that name.
    """
    if name not in BACKENDS:
        raise BackendError(unknown(name, "backend", BACKENDS))
    absent = [package for package in BACKENDS[name].needs if not _installed(package)]
    if not absent:
        return ""
    return (
        f"backend {name}: {' and '.join(absent)} not installed; "
        f"pip install 'robustness-harness[{name}]'"
    )


@cache
def backend(name: str) -> Backend:
    """The backend of that name; its framework is imported on the first call.

    Raises:
        BackendError: It is unknown, not installed, hidden by a folder ``backends``, or its
            framework does not import.
    """
    reason = missing(name) or shadowed("backends")
    if reason:
        raise BackendError(reason)
    entry = BACKENDS[name]
    try:
        factory = getattr(importlib.import_module(entry.module), entry.factory)
        made: Backend = factory()
    except BackendError:
        raise
    except Exception as error:  # a broken framework raises whatever it likes
        reason = one_line(f"{type(error).__name__}: {error}")
        raise BackendError(f"backend {name}: its framework does not import ({reason})") from error
    return made


def import_together(names: set[str]) -> None:
    """Import several backends in the order that their frameworks tolerate.

    One that cannot be imported is passed over here, and an error when it is asked for.
    """
    for name in BACKENDS:
        if name in names:
            with suppress(BackendError):
                backend(name)


def backend_of(net: Any) -> Backend:
    """The backend whose framework a network object comes from.

    Raises:
        BackendError: No backend knows this kind of object.
    """
    packages = {kind.__module__.partition(".")[0] for kind in type(net).__mro__}
    for name, entry in BACKENDS.items():
        if packages & set(entry.needs):
            return backend(name)
    raise BackendError(
        f"{type(net).__module__}.{type(net).__name__}: not a network of a known framework; "
        "pass a torch.nn.Module or a keras.Model"
    )


def made_by(model: Model) -> tuple[str, dict[str, str]]:
    """Name and versions of the backend a model is of; its class's name for a user's own."""
    for name, entry in BACKENDS.items():
        if type(model).__module__ == entry.module:
            return name, backend(name).versions()
    return type(model).__name__, {}


def _installed(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None
