"""Networks from files: nothing in a file is run that its author could choose."""

from __future__ import annotations

import builtins
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from harness.errors import BackendError, gist, one_line

SUFFIX = ".keras"
OLD = (".h5", ".hdf5")
INDEX = "saved_model.pb"
OWN_FUNCTION = "load it in a function of yours, and say load = 'package.module:function'"
TOUCHING = (
    "File", "Save", "Restore", "Checkpoint", "PyFunc", "Print", "Summary", "Reader", "Dataset",
    "Debug", "Rpc", "LoadAndRemap", "Vocab", "Abort",
)  # fmt: skip
"""Parts of the names of operations that read or write files, call Python, or open connections."""
CODE = {"__lambda__": "Lambda"} | {name: name for name in (
    "Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer",
)}  # fmt: skip
"""Classes of Keras that run code, or load more files, by their names."""
OFFERED = (
    "keras.activations", "keras.constraints", "keras.initializers", "keras.layers", "keras.losses",
    "keras.metrics", "keras.models", "keras.ops", "keras.optimizers", "keras.quantizers",
    "keras.random", "keras.regularizers", "keras.dtype_policies",
    "keras.src.layers", "keras.src.models", "keras.src.ops", "keras.src.activations",
    "keras.src.initializers", "keras.src.dtype_policies",
)  # fmt: skip
"""Modules of Keras that configurations name classes and functions of; no others, such as
``keras.utils``, which downloads and unpacks. ``keras`` alone is one, too."""


def loaded(path: Path) -> Any:
    """The network of a ``.keras`` file, or of the folder of a SavedModel.

    Raises:
        BackendError: It is missing, damaged, of another kind, or would need code to be run.
    """
    if not path.exists():
        raise BackendError(f"{path}: no such file")
    if path.suffix in OLD:
        raise BackendError(
            f"{path}: Keras's safe mode does not cover such files; load it where you trust it, "
            f"and save it as {SUFFIX}: net.save('net{SUFFIX}')"
        )
    if path.is_dir():
        return _saved_model(path)
    if path.suffix != SUFFIX:
        raise BackendError(f"{path}: neither a {SUFFIX} file nor the folder of a SavedModel")
    return _keras_file(path)


def _keras_file(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BackendError(f"{path}: not a whole {SUFFIX} file ({gist(error)})") from error
    if isinstance(config, dict):
        config.pop("compile_config", None)  # which is not looked at
    # Early releases of Keras 3 run more than lambdas in their safe mode.
    for part in _parts(config):
        _require_harmless(path, part)
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever Keras makes of what is in it
        raise BackendError(f"{path}: Keras does not load it ({gist(error)})") from error


def _parts(config: Any) -> Iterator[Mapping[str, Any]]:
    """All of a configuration that names a class or a function, from the outside in."""
    stack = [config]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            if "class_name" in part:
                yield part
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)


def _require_harmless(path: Path, part: Mapping[str, Any]) -> None:
    kind, module = part["class_name"], part.get("module")
    name = part.get("config") if kind == "function" else kind
    if kind in CODE:
        raise BackendError(
            f"{path}: it has a {CODE[kind]}, whose code may do anything; {OWN_FUNCTION}"
        )
    registered = part.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        if keras.saving.get_registered_object(registered) is None:
            raise _unregistered(path, registered)
        return
    if module is None or module == "keras" or _within(module):
        return
    if module == "builtins" and not (isinstance(name, str) and hasattr(builtins, name)):
        return
    raise _unregistered(path, f"{module}.{name}")


def _within(module: object) -> bool:
    return isinstance(module, str) and any(
        module == offered or module.startswith(f"{offered}.") for offered in OFFERED
    )


def _unregistered(path: Path, name: str) -> BackendError:
    return BackendError(
        f"{path}: {one_line(name)} in it is none of Keras's own; {OWN_FUNCTION}, which imports it"
    )


def _saved_model(path: Path) -> Any:
    index = path / INDEX
    if not index.is_file():
        raise BackendError(f"{path}: not the folder of a SavedModel: it has no {INDEX}")
    saved = SavedModel()
    try:
        saved.ParseFromString(index.read_bytes())
    except Exception as error:  # protobuf's own kinds
        raise BackendError(f"{index}: not a whole SavedModel ({gist(error)})") from error
    for graph in saved.meta_graphs:
        if not graph.HasField("object_graph_def"):
            raise BackendError(f"{path}: a SavedModel of TensorFlow 1; {OWN_FUNCTION}")
        if found := sorted(_touching(graph)):
            raise BackendError(
                f"{path}: its graph has {', '.join(found)}, which may touch files or run code; "
                f"{OWN_FUNCTION}"
            )
    try:
        return tf.saved_model.load(str(path))
    except Exception as error:  # whatever TensorFlow makes of what is in it
        raise BackendError(f"{path}: TensorFlow does not load it ({gist(error)})") from error


def _touching(graph: Any) -> set[str]:
    """Operations in the functions of a network that do more than to compute.

    The functions by which TensorFlow saves and restores weights are in no network.
    """
    functions = graph.graph_def.library
    library = {function.signature.name: function for function in functions.function}
    wanted = [
        *graph.object_graph_def.concrete_functions,
        *(each.gradient_func for each in functions.gradient),
        *(each.gradient_func for each in functions.registered_gradients),
    ]
    nodes: list[Any] = []
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen or name not in library:
            continue
        seen.add(name)
        nodes += library[name].node_def
        for node in library[name].node_def:
            for value in node.attr.values():
                wanted += [value.func.name, *(each.name for each in value.list.func)]
    return {node.op for node in nodes if any(part in node.op for part in TOUCHING)}
