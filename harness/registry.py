"""Names and what they mean: the harness's own, and those of other packages' entry points."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from harness.errors import BackendError, HarnessError, one_line, unknown
from harness.protocol import Backend, Builder, Model
from robustness_harness import shadowed

T = TypeVar("T")
PLUGINS: dict[str, str] = {}
"""Packages of others, with their versions, of which something has been loaded in this process."""


class UnloadableError(HarnessError):
    """What another package has under a name does not import."""


class Registry(MutableMapping[str, T]):
    """What there is of a kind, by its name; that of other packages is imported on first use.

    Another package adds to it by an entry point: ``[project.entry-points."harness.attacks"]``,
    ``boundary = "my_attacks:Boundary"``.

    Args:
        kind: What it is called in messages, such as ``attack``.
        group: The group of the entry points.
        own: What the harness itself has.

    Attributes:
        loaded: What of other packages has been imported, by name.

    Raises:
        UnloadableError: What is asked for is another package's, and does not import.
        HarnessError: Two packages have something of that name; the message names both.
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, T]) -> None:
        self.kind = kind
        self.group = group
        self.own = dict(own)
        self.loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        claims = self._entries.get(name, [])
        if name in self.own and not claims:
            return self.own[name]
        if not claims:
            raise KeyError(name)
        owners = [_package(entry) for entry in claims]
        if name in self.own or len(owners) > 1:
            owners = ["robustness-harness", *owners] if name in self.own else owners
            raise HarnessError(
                f"{name}: {' and '.join(owners)} each have {_a(self.kind)} of this name; "
                "uninstall one of them"
            )
        if name not in self.loaded:
            self.loaded[name] = self._load(claims[0])
        return self.loaded[name]

    def __setitem__(self, name: str, thing: T) -> None:
        self.own[name] = thing

    def __delitem__(self, name: str) -> None:
        del self.own[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.own, *self._entries)))

    def __len__(self) -> int:
        return len({*self.own, *self._entries})

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._entries

    def package_of(self, name: str) -> str:
        """The package of others that has it, with its version; empty if only the harness has."""
        return " and ".join(_package(entry) for entry in self._entries.get(name, []))

    @cached_property
    def _entries(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            found.setdefault(entry.name, []).append(entry)
        return found

    def _load(self, entry: EntryPoint) -> T:
        try:
            thing: T = entry.load()
        except Exception as error:  # another package's module raises whatever it likes
            reason = one_line(f"{type(error).__name__}: {error}")
            raise UnloadableError(
                f"{entry.name}: the {self.kind} of {_package(entry)} does not import ({reason})"
            ) from error
        if entry.dist is not None:
            PLUGINS[entry.dist.name] = entry.dist.version
        return thing


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


@dataclass(frozen=True)
class BackendEntry:
    """Where a backend of the harness is, the packages it cannot do without, and its files.

    Attributes:
        builds: Whether the harness builds and trains networks of its own in it.
        beside: Packages on top of these, whose networks it wraps, too.
        python: The least version of Python that its framework is made for.
        ahead: Packages that the framework does not let load behind it, such as another's.
    """

    module: str
    factory: str
    needs: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    builds: bool = False
    beside: tuple[str, ...] = ()
    python: tuple[int, int] = (3, 10)
    ahead: tuple[str, ...] = ()


FOLDER = "/"
"""In place of the suffix of a folder."""
# The order matters: where both live in one process, torch is imported before tensorflow.
OWN = {
    "torch": BackendEntry(
        "backends.torch_backend",
        "TorchBackend",
        ("torch", "array_api_compat"),
        (".pt2", ".pt"),
        builds=True,
    ),
    "keras": BackendEntry(
        "backends.keras_backend",
        "KerasBackend",
        ("tensorflow", "keras"),
        (".keras", FOLDER),
        builds=True,
        # Of PyTorch: see backends/torch_triton.py.
        ahead=("triton",),
    ),
    "jax": BackendEntry(
        "backends.jax_backend",
        "JaxBackend",
        ("jax",),
        builds=True,
        beside=("jaxlib", "flax", "equinox"),
        python=(3, 11),
    ),
    "numpy": BackendEntry("backends.numpy_backend", "NumpyBackend", builds=True),
    "onnx": BackendEntry("backends.onnx_backend", "OnnxBackend", ("onnxruntime",), (".onnx",)),
    "sklearn": BackendEntry("backends.sklearn_backend", "SklearnBackend", ("sklearn",)),
    "callable": BackendEntry("backends.callable_backend", "CallableBackend"),
}
Factory: TypeAlias = Callable[[], Backend]
BACKENDS: Registry[BackendEntry | Factory] = Registry("backend", "harness.backends", OWN)
"""Where those of the harness are; those of other packages, as a class or a function without
arguments that makes the backend."""


def missing(name: str) -> str:
    """Why a backend cannot be used here, in one line; empty if it can. Imports no framework.

    Of another package's backend, nothing but its import tells.

    Raises:
        BackendError: There is no backend of that name.
        HarnessError: Two packages have one.
    """
    if name not in BACKENDS:
        raise BackendError(unknown(name, "backend", BACKENDS))
    try:
        entry = BACKENDS[name]
    except UnloadableError as error:
        return f"backend {error}"
    if isinstance(entry, BackendEntry) and sys.version_info[:2] < entry.python:
        here, least = (".".join(map(str, v[:2])) for v in (sys.version_info, entry.python))
        return (
            f"backend {name}: needs Python {least} or newer, and this is {here}; in an environment "
            f"of that, pip install 'robustness-harness[{name}]'"
        )
    needs = entry.needs if isinstance(entry, BackendEntry) else ()
    absent = [package for package in needs if not _installed(package)]
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
        HarnessError: Two packages have one of that name.
    """
    if reason := missing(name):
        raise BackendError(reason)
    entry = BACKENDS[name]
    if isinstance(entry, BackendEntry) and (reason := shadowed("backends")):
        raise BackendError(reason)
    try:
        made = _factory(entry)()
    except BackendError:
        raise
    except Exception as error:  # a broken framework raises whatever it likes
        reason = one_line(f"{type(error).__name__}: {error}")
        raise BackendError(f"backend {name}: its framework does not import ({reason})") from error
    # A stored model is found by its backend's name, so that it must be one and the same.
    if not isinstance(entry, BackendEntry) and getattr(made, "name", None) != name:
        called = getattr(made, "name", None)
        raise BackendError(f"backend {name}: its name is {called!r}; give it that of its entry")
    return made


def builder(name: str) -> Builder:
    """The backend of that name, if it can build and train networks.

    Raises:
        BackendError: It cannot, or is not there: see ``backend``.
    """
    made = backend(name)
    if not hasattr(made, "build") or not hasattr(made, "trainer"):
        raise BackendError(f"backend {name}: it builds and trains no networks")
    return cast("Builder", made)


def builders() -> list[str]:
    """Names of the backends in which the harness builds and trains networks.

    Of another package's backend only its use tells, so that it is among them.
    """
    return [name for name in BACKENDS if name not in OWN or OWN[name].builds]


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

    The harness's own know it by the packages that its class is from; another package's may have a
    method ``knows(net)``, and is asked if none of these does.

    Raises:
        BackendError: No backend knows this kind of object.
    """
    packages = {_package_of(kind) for kind in type(net).__mro__}
    for name, entry in OWN.items():
        if packages & {*entry.needs, *entry.beside}:
            return backend(name)
    if _is_function_with_arrays(net):
        return backend("jax")
    broken = ""
    for name in BACKENDS:
        try:
            if name not in OWN and _knows(name, net):
                return backend(name)
        except HarnessError as error:
            broken += f"; {error}"
    raise BackendError(
        f"{type(net).__module__}.{type(net).__name__}: not a network of a known framework; "
        f"{_door_for(net)}{broken}"
    )


def _is_function_with_arrays(net: Any) -> bool:
    """Whether it is (apply, params), as networks of JAX are passed: plain Python, of no package."""
    return isinstance(net, tuple) and len(net) == 2 and callable(net[0])


def _door_for(net: Any) -> str:
    """What to do with an object that is no network of a known framework."""
    if isinstance(net, type):
        return f"it is a class: pass an object, {net.__name__}(...)"
    if isinstance(net, Mapping):
        return (
            "it holds weights, not a network: build the network, load them into it, and pass that"
        )
    if callable(net):
        return (
            "a function of NumPy images is wrapped by harness.wrap_function(f, bounds=(0.0, 1.0))"
        )
    return (
        "pass a torch.nn.Module, a keras.Model, (apply, params) of JAX, a session of ONNX "
        "Runtime, a classifier of scikit-learn, or the path of a .pt2, .keras or .onnx file; "
        "anything else by harness.wrap_function"
    )


def backend_for(path: Path) -> Backend:
    """The backend that loads a file, by its suffix; a folder is a SavedModel of TensorFlow.

    Raises:
        BackendError: None does; the message says which files are loaded.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        suffix = FOLDER
    loads = [name for name, entry in OWN.items() if suffix in entry.suffixes]
    others = [name for name in BACKENDS if name not in OWN]
    loads += [name for name in others if suffix in getattr(BACKENDS[name], "suffixes", ())]
    for name in loads:
        try:
            return backend(name)
        except BackendError as error:
            raise BackendError(f"{path}: {error}") from error
    if suffix in UNSAFE:
        raise BackendError(f"{path}: {UNSAFE[suffix]}")
    known = [one for entry in OWN.values() for one in entry.suffixes if one != FOLDER]
    known.append(".safetensors")  # which is put into a network of any of them
    raise BackendError(
        f"{path}: not a file that is loaded; those are {', '.join(known)}, and folders of "
        "SavedModels"
    )


_PICKLE = (
    "a pickle can run any code, so that none is loaded; load it in a function of yours, and say "
    "load = 'package.module:function', or pass what it returns to harness.wrap"
)
UNSAFE = {
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".bin", ".ckpt", ".pth"), _PICKLE),
    **dict.fromkeys(
        (".h5", ".hdf5"), "such files can run code, also in safe mode; save the model as .keras"
    ),
}
"""What is said of files that are not loaded."""


def made_by(model: Model) -> tuple[str, dict[str, str]]:
    """Name and versions of the backend a model is of; its class's name for a user's own."""
    for name, entry in OWN.items():
        # One backend may be in several files: torch_backend.py, torch_wrapped.py ...
        if type(model).__module__.partition("_")[0] == entry.module.partition("_")[0]:
            return name, backend(name).versions()
    for name, factory in BACKENDS.loaded.items():
        if _package_of(type(model)) == _package_of(factory):
            return name, backend(name).versions()
    return type(model).__name__, {}


def _factory(entry: BackendEntry | Factory) -> Factory:
    if isinstance(entry, BackendEntry):
        _load_ahead(entry)
        found: Factory = getattr(importlib.import_module(entry.module), entry.factory)
        return found
    return entry


def _load_ahead(entry: BackendEntry) -> None:
    """Import what its framework does not let load behind it, unless that is there already."""
    if not any(package in sys.modules for package in entry.needs):
        for package in entry.ahead:
            with suppress(Exception):  # lacking or broken, nobody will load it
                importlib.import_module(package)


def _package_of(thing: Any) -> str:
    """The top-level package that a class or a function is defined in."""
    return str(getattr(thing, "__module__", "")).partition(".")[0]


def _knows(name: str, net: Any) -> bool:
    """Whether another package's backend says that a network is of its framework."""
    made = backend(name)
    try:
        return bool(made.knows(net)) if hasattr(made, "knows") else False
    except Exception as error:  # another package's code raises whatever it likes
        raise BackendError(f"backend {name}: {one_line(error)}") from error


def _installed(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None
