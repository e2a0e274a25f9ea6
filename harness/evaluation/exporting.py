"""Networks whose layers are known, as files that other programs read."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from safetensors.numpy import save

from harness import registry
from harness.errors import BackendError, HarnessError, SpecError, unknown
from harness.evaluation.benchmark import Benchmark
from harness.files import as_json, check_writable, replacing
from harness.networks.description import described
from harness.networks.onnx.writing import NOT_INSTALLED, onnx_bytes
from harness.protocol import Network
from harness.spec.spec import Spec

Format: TypeAlias = Literal["onnx", "safetensors", "keras", "pt2"]
FORMATS: tuple[Format, ...] = get_args(Format)
SAVED_BY: Mapping[Format, str] = {"keras": "keras", "pt2": "torch"}
"""The backends whose frameworks write their own files."""
ARCHITECTURE = "architecture"
"""The key of a safetensors file's metadata under which its layers are, as JSON."""


def format_of(path: Path, said: Format | None) -> Format:
    """The format that is said, or the one that a file's suffix names.

    Raises:
        HarnessError: None is said, and the suffix names none.
    """
    suffix = path.suffix.lower().removeprefix(".")
    found = said or next((name for name in FORMATS if name == suffix), None)
    if found is None:
        raise HarnessError(
            f"--out: {path} does not end in the name of a format; say --format, one of "
            f"{', '.join(FORMATS)}"
        )
    if found in SAVED_BY and suffix != found:
        raise HarnessError(f"--out: {path} must end in .{found}, by which it is known when loaded")
    return found


def network_in(spec: Spec, name: str | None, backend: str | None) -> tuple[str, str, Network]:
    """A network of a spec, trained now if it is not stored.

    Args:
        spec: The spec.
        name: Of the model; may be left out where there is only one.
        backend: In which it is trained; by default the first of the spec's that is installed.

    Returns:
        Name of the model, and of its backend, and the network.

    Raises:
        HarnessError: There is no such model, no such backend, or its layers are not known.
    """
    if name is None and len(spec.models) > 1:
        raise HarnessError(f"--model: say which of {', '.join(spec.models)}")
    name = next(iter(spec.models)) if name is None else name
    if name not in spec.models:
        raise SpecError(f"--model: {unknown(name, 'model', spec.models)}")
    benchmark = Benchmark(spec)
    if name in spec.trained:
        chosen = backend or _first_installed(spec)
    else:
        named = () if backend is None else (backend,)
        pairs = [pair for pair in benchmark.pairs((), named) if pair[1] == name]
        chosen = pairs[0][0] if pairs else benchmark.backend_of(name)
    registry.import_together({chosen})
    network = benchmark.evaluation(chosen, name).loaded.network
    if network is None:
        raise HarnessError(
            f"--model: {name} is somebody's own model, whose layers are not known; those that the "
            "harness builds are exported, and those that it reads from .onnx files"
        )
    return name, chosen, network


def require_writer(form: Format) -> None:
    """Find out, before a training, whether a format can be written here.

    Raises:
        BackendError: A package is missing.
    """
    if form in SAVED_BY and (reason := registry.missing(SAVED_BY[form])):
        raise BackendError(f"--format: {form} needs the {reason}")
    if form == "onnx" and importlib.util.find_spec("onnx") is None:
        raise BackendError(NOT_INSTALLED)


def export(network: Network, path: Path, form: Format) -> None:
    """Write a network in inference mode, complete or not at all.

    In ``safetensors`` weights bear their neutral names, and the metadata has the layers as JSON.

    Raises:
        HarnessError: What writes such a file is not installed, or the file cannot be written.
    """
    check_writable(path, "--out")
    content = WRITTEN[form](network) if form in WRITTEN else _saved(network, form)
    with replacing(path) as stream:
        stream.write(content)


def _first_installed(spec: Spec) -> str:
    there = [name for name in spec.backends if not registry.missing(name)]
    if not there:
        raise BackendError("; ".join(registry.missing(name) for name in spec.backends))
    return there[0]


def _safetensors(network: Network) -> bytes:
    layers = as_json(described(network.architecture.inference))
    content: bytes = save(dict(network.weights), metadata={ARCHITECTURE: layers})
    return content


def _saved(network: Network, form: Format) -> bytes:
    """What a framework writes."""
    backend: Any = registry.builder(SAVED_BY[form])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"network.{form}"
        backend.save(network, path)
        return path.read_bytes()


WRITTEN: Mapping[Format, Callable[[Network], bytes]] = {
    "onnx": onnx_bytes, "safetensors": _safetensors,
}  # fmt: skip
