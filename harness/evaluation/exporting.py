"""Networks whose layers are known, as files that other programs read."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from safetensors.numpy import save

from harness import registry
from harness.errors import BackendError, HarnessError, SpecError, unknown
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.playground import MOST, playground
from harness.files import as_json, check_folder, check_writable, replacing, replacing_folder
from harness.networks.description import described
from harness.networks.onnx.writing import NOT_INSTALLED, onnx_bytes
from harness.networks.tfjs import is_of_a_layers_model, tfjs_files
from harness.networks.weights import ARCHITECTURE
from harness.protocol import Network
from harness.spec.spec import Spec

Format: TypeAlias = Literal["onnx", "safetensors", "keras", "pt2", "tfjs", "playground"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: Mapping[str, Format] = {
    "onnx": "onnx", "safetensors": "safetensors", "keras": "keras", "pt2": "pt2",
    "html": "playground",
}  # fmt: skip
"""The formats that the name of a file tells."""
NEEDED: Mapping[Format, str] = {"keras": "keras", "pt2": "pt2", "playground": "html"}
"""Suffixes by which files are known when they are opened."""
SAVED_BY: Mapping[Format, str] = {"keras": "keras", "pt2": "torch"}
"""The backends whose frameworks write their own files."""
Chosen: TypeAlias = tuple[str, str, Network]
"""Name of a model, and of its backend, and its network."""


def format_of(path: Path, said: Format | None) -> Format:
    """The format that is said, or the one that a file's suffix names.

    Raises:
        HarnessError: None is said, and the suffix names none; or the suffix is not of the format.
    """
    suffix = path.suffix.lower().removeprefix(".")
    found = said or SUFFIXES.get(suffix)
    if found is None:
        raise HarnessError(
            f"--out: {path} does not end in the name of a format; say --format, one of "
            f"{', '.join(FORMATS)}"
        )
    if found in NEEDED and suffix != NEEDED[found]:
        raise HarnessError(
            f"--out: {path} must end in .{NEEDED[found]}, by which it is known when loaded"
        )
    return found


def check_out(path: Path, form: Format, force: bool) -> None:
    """Find out, before a training, whether a file or a folder can be written.

    Args:
        path: Where it is to lie.
        form: Of it; ``tfjs`` is a folder.
        force: Whether one that is there is replaced: a folder only if it holds a layers model.

    Raises:
        HarnessError: It cannot; or it is there already.
    """
    if form == "tfjs":
        for folder in (path, path.absolute().parent):
            check_folder(folder, "--out")
        there = sorted(path.iterdir()) if path.exists() else []
        if foreign := [one.name for one in there if not is_of_a_layers_model(one)]:
            raise HarnessError(
                f"--out: {path} holds {foreign[0]}, which is not of a TensorFlow.js model; name "
                "another folder"
            )
        taken = bool(there)
    else:
        check_writable(path, "--out")
        taken = path.exists()
    if taken and not force:
        raise HarnessError(f"--out: {path} is there already; say --force to replace it")


def networks_in(
    benchmark: Benchmark, names: Sequence[str], backend: str | None, form: Format
) -> list[Chosen]:
    """Networks of a spec, trained now if they are not stored.

    Args:
        benchmark: The spec, opened.
        names: Of the models; may be empty where there is only one.
        backend: In which they are trained; by default the first of the spec's that is installed.
        form: What they are for: a playground has room for two.

    Raises:
        HarnessError: There is no such model, no such backend, or its layers are not known; or
            there are more than the format has room for.
    """
    models, most = benchmark.spec.models, MOST if form == "playground" else 1
    if not names and len(models) > 1:
        many = "" if most == 1 else f" (up to {most}, --model for each)"
        raise HarnessError(f"--model: say which of {', '.join(models)}{many}")
    names = names or list(models)
    for name in names:
        if name not in models:
            raise SpecError(f"--model: {unknown(name, 'model', models)}")
    if len(set(names)) < len(names):
        raise HarnessError(f"--model: {names[-1]} is named twice")
    if len(names) > most:
        raise HarnessError(f"--model: {form} has room for {most}, not for {len(names)}")
    chosen = {name: _backend_for(benchmark, name, backend) for name in names}
    registry.import_together(set(chosen.values()))
    return [(name, where, _network(benchmark, name, where)) for name, where in chosen.items()]


def _backend_for(benchmark: Benchmark, name: str, backend: str | None) -> str:
    spec = benchmark.spec
    if name in spec.trained or (name in spec.weights and spec.backends):
        return backend or _first_installed(spec)
    named = () if backend is None else (backend,)
    pairs = [pair for pair in benchmark.pairs((), named) if pair[1] == name]
    return pairs[0][0] if pairs else benchmark.backend_of(name)


def _network(benchmark: Benchmark, name: str, backend: str) -> Network:
    network = benchmark.evaluation(backend, name).loaded.network
    if network is None:
        raise HarnessError(
            f"--model: {name} is somebody's own model, whose layers are not known; those that the "
            "harness builds are exported, and those that it reads from .onnx and .safetensors files"
        )
    return network


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

    Args:
        network: The network.
        path: The file, or the folder.
        form: How it is written; a playground is not of a network alone.

    Raises:
        HarnessError: What writes such a file is not installed, it has no such layer, or the file
            cannot be written.
    """
    check_out(path, form, force=True)
    if form == "tfjs":
        files = tfjs_files(network)
        with replacing_folder(path) as folder:
            for name, part in files.items():
                (folder / name).write_bytes(part)
        return
    content = WRITTEN[form](network) if form in WRITTEN else _saved(network, form)
    with replacing(path) as stream:
        stream.write(content)


def export_playground(benchmark: Benchmark, chosen: Sequence[Chosen], path: Path) -> None:
    """Write one or two networks in a page of one file, complete or not at all.

    Raises:
        HarnessError: The page has no such layer, a weight does not fit into float16, or the file
            cannot be written.
    """
    check_out(path, "playground", force=True)
    content = playground(benchmark, chosen)
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
