"""PyTorch networks from files, of which no code is run: ``.pt2`` programs and TorchScript.

A ``.pt2`` file holds a program as JSON, with weights beside it. PyTorch trusts it: pickles are
loaded whatever they hold, guards are Python code, and sizes and names are evaluated or become part
of the code that it generates. So the file is read here, all that is code or no plain name is
refused or left out, and PyTorch is given a new archive of the rest.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from backends.torch_taken import device_named, wrapped
from backends.torch_wrapped import TorchModel
from harness.errors import BackendError, gist
from harness.protocol import Wrapping

ELSEWHERE = "load them in a function of yours and say load = 'package.module:function'"
DAMAGED = "damaged, truncated, or no PyTorch file"

PROGRAM = re.compile(r"models/[\w-]+\.json|serialized_exported_program\.json")
CONFIG = re.compile(r"data/(weights|constants)/[\w-]+_config\.json")
PICKLE = re.compile(
    r"data/(weights|constants|sample_inputs)/[\w-]+\.pt|"
    r"serialized_(state_dict|constants|example_inputs)\.(pt|json)"
)
RAW = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
MARKS = re.compile(r"archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version")
LEFT_OUT = re.compile(r"(data/)?extra(_files)?/.*")

NAME = re.compile(r"[\w.:@+\- ]*")
"""Names of tensors, modules, symbols and devices: no sign of these makes code of a name."""
TARGET = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.(?!from_file|save)\w+(\.\w+)?|"
    r"torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond|while_loop|"
    r"scan|map_impl|flex_attention)|_operator\.\w+|math\.\w+|torch\.sym_\w+|torch\._sym_\w+"
)
"""Operators on tensors and sizes. Two of ATen's open files."""
TEXTS = ("as_string", "as_strings")
"""Arguments of operators, such as the mode of an interpolation, which are quoted as they are."""
TREES = ("in_spec", "out_spec", "context")
"""Structures of inputs and outputs, as JSON in JSON."""
CODE = ("guards_code", "metadata")
"""Python code that checks inputs, and where operators are from: a program runs without either."""
SIZES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop,
    ast.boolop, ast.cmpop, ast.Load, ast.Constant, ast.Name, ast.Call, ast.keyword,
)  # fmt: skip
"""Of what an expression of a size is made: numbers, symbols and functions such as ``Max``."""
FUNCTION = re.compile(
    r"Symbol|Integer|Float|Rational|Max|Min|Mod|PythonMod|floor|ceiling|sqrt|Eq|Ne|Lt|Le|Gt|Ge|And|"
    r"Or|Not|Where|Identity|PowByNatural|\w*Div|(Ceil|Floor|Trunc|Round)To\w+|ToFloat|[LR]Shift"
)
OPENS_FILES = re.compile(
    rb"\btorch\.(save|from_file|load)\w*\(|\bops\.(?!prim\b|torchvision\b)\w+\."
)
"""Operators in the code of TorchScript that write or read files, or are of another library."""


def loaded(path: Path, how: Wrapping) -> TorchModel:
    """See ``protocol.Backend.load``."""
    device = device_named(how.device)
    content = _content(path)
    try:
        with _quiet():
            if path.suffix == ".pt2":
                net = torch.export.load(_cleaned(path, content))
            else:
                _check_script(path, content)
                net = torch.jit.load(io.BytesIO(content), map_location=device or "cpu")
    except BackendError:
        raise
    except Exception as error:  # PyTorch's own readers raise whatever they like
        raise BackendError(f"{path}: cannot be loaded ({gist(error)})") from error
    try:
        return wrapped(net, how)
    except BackendError as error:
        raise BackendError(f"{path}: {error}") from error


def _content(path: Path) -> bytes:
    """The file, read once, so that what is checked is what is loaded."""
    if path.is_dir():
        raise BackendError(f"{path}: is a folder, not a file")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise BackendError(f"{path}: no such file") from error
    except OSError as error:
        raise BackendError(f"{path}: cannot be read ({error.strerror})") from error
    if content[:1] == b"\x80":  # as pickles begin
        raise BackendError(f"{path}: holds weights, not a network: {ELSEWHERE}")
    return content


def _entries(path: Path, content: bytes) -> dict[str, bytes]:
    """Names, without the folder that all are in, and contents."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            root = f"{names[0].partition('/')[0]}/" if names else ""
            inside = all(name.startswith(root) for name in names)
            entries = {name[len(root) * inside :]: archive.read(name) for name in names}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BackendError(f"{path}: {DAMAGED}") from error
    if len(entries) < len(names):
        raise BackendError(f"{path}: {DAMAGED}: two entries have one name")
    return entries


def _check_script(path: Path, content: bytes) -> None:
    """Whether a file is TorchScript that works on tensors alone."""
    entries = _entries(path, content)
    if "data.pkl" not in entries:
        raise BackendError(f"{path}: {DAMAGED}")
    if "constants.pkl" not in entries:
        raise BackendError(f"{path}: holds weights, not a network: {ELSEWHERE}")
    for name, code in entries.items():
        if found := OPENS_FILES.search(code) if name.startswith("code/") else None:
            raise BackendError(
                f"{path}: its code calls {found[0].decode(errors='replace')}...), which may touch "
                "files; it is not loaded"
            )


def _cleaned(path: Path, content: bytes) -> io.BytesIO:
    """An archive of what in a ``.pt2`` file is data."""
    cleaned = io.BytesIO()
    entries = _entries(path, content)
    if not any(PROGRAM.fullmatch(name) for name in entries):
        weights = "data.pkl" in entries
        raise BackendError(
            f"{path}: " + (f"holds weights, not a network: {ELSEWHERE}" if weights else DAMAGED)
        )
    # The older format has no folder.
    root = "" if "serialized_exported_program.json" in entries else "program/"
    with zipfile.ZipFile(cleaned, "w") as archive:
        for name in entries:
            if not LEFT_OUT.fullmatch(name):
                archive.writestr(root + name, _checked(path, name, entries))
    cleaned.seek(0)
    return cleaned


def _checked(path: Path, name: str, entries: dict[str, bytes]) -> bytes:
    """An entry that is data."""
    value = entries[name]
    if PROGRAM.fullmatch(name):
        return json.dumps(_without_code(path, json.loads(value))).encode()
    if CONFIG.fullmatch(name):
        _check_config(path, name, entries)
    elif PICKLE.fullmatch(name):
        if value:
            _check_pickle(path, name, value)
    elif not RAW.fullmatch(name) and not MARKS.fullmatch(name):
        raise BackendError(
            f"{path}: holds {name}, which is not the data of an exported program; it is not loaded"
        )
    return value


def _check_pickle(path: Path, name: str, value: bytes) -> None:
    try:
        torch.load(io.BytesIO(value), weights_only=True)
    except Exception as error:
        raise BackendError(
            f"{path}: {name} holds more than tensors, which could run code; it is not loaded"
        ) from error


def _check_config(path: Path, name: str, entries: dict[str, bytes]) -> None:
    """Whether each of the weights that are listed is a tensor."""
    for key, payload in json.loads(entries[name])["config"].items():
        _check_text(path, key)
        if not re.fullmatch(r"(weight|tensor)_\d+", payload["path_name"]):
            raise BackendError(
                f"{path}: {key} is no tensor, which could run code; it is not loaded"
            )
        if payload["use_pickle"]:
            place = f"{name.rpartition('/')[0]}/{payload['path_name']}"
            _check_pickle(path, place, entries[place])


def _without_code(path: Path, value: Any, key: str = "") -> Any:
    """A part of a program, checked, without what is code."""
    if isinstance(value, dict):
        for name in value:
            _check_text(path, name)
        return {
            name: type(part)() if name in CODE and part else _without_code(path, part, name)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_without_code(path, part, key) for part in value]
    if isinstance(value, str):
        _check_text(path, value, key)
    return value


def _check_text(path: Path, text: str, key: str = "") -> None:
    """A text of a program must be what its key says, and no code."""
    if key in TEXTS:
        return
    if key in TREES:
        fine = "__enum__" not in text
        _without_code(path, json.loads(text or "null"))
    elif key == "expr_str":
        fine = _is_size(text)
    elif key in ("target", "as_operator"):
        fine = bool(TARGET.fullmatch(text))
    else:
        fine = bool(NAME.fullmatch(text))
    if not fine:
        shown = text if len(text) <= 80 else f"{text[:79]}…"
        raise BackendError(f"{path}: holds {shown!r}, which could run code; it is not loaded")


def _is_size(text: str) -> bool:
    """Whether a text is arithmetic on numbers and symbols."""
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in nodes:
        if not isinstance(node, SIZES):
            return False
        if isinstance(node, ast.Constant) and not _plain(node.value):
            return False
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if not FUNCTION.fullmatch(name):
                return False
        if isinstance(node, ast.Name) and node.id.startswith("_"):
            return False
    return True


def _plain(value: object) -> bool:
    """Whether a constant of an expression is a number, or the name of a symbol."""
    if isinstance(value, str):
        return re.fullmatch(r"[A-Za-z]\w*", value) is not None
    return isinstance(value, int | float)


@contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch's own remarks are left out, and it is told to load nothing but tensors."""
    logger = logging.getLogger("torch")
    force, before, level = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", dict(os.environ), logger.level
    os.environ[force] = "1"
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if force in before:
            os.environ[force] = before[force]
        else:
            del os.environ[force]
