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
from backends.torch_triton import why_no_triton
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
    device = device_named(how.device) or torch.device("cpu")
    content = _content(path)
    entries = _entries(path, content)
    program = any(PROGRAM.fullmatch(name) for name in entries)
    if not program and "constants.pkl" not in entries:
        weights = f"holds weights, not a network: {ELSEWHERE}"
        raise BackendError(f"{path}: {weights if 'data.pkl' in entries else DAMAGED}")
    if program and (reason := why_no_triton()):
        raise BackendError(f"{path}: {reason}")
    try:
        with _quiet():
            if program:
                net = torch.export.load(_Program(path, entries, device).archive())
            else:
                _check_script(path, entries)
                net = torch.jit.load(io.BytesIO(content), map_location=device)
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


def _check_script(path: Path, entries: dict[str, bytes]) -> None:
    """Whether TorchScript works on tensors alone."""
    for name, code in entries.items():
        if found := OPENS_FILES.search(code) if name.endswith(".py") else None:
            raise BackendError(
                f"{path}: its code calls {found[0].decode()}...), which may touch files; it is not "
                "loaded"
            )


class _Program:
    """What in a ``.pt2`` file is data, for a device."""

    def __init__(self, path: Path, entries: dict[str, bytes], device: torch.device) -> None:
        self._path, self._entries, self._device = path, entries, device

    def archive(self) -> io.BytesIO:
        """A new file of that."""
        # The older format has no folder.
        root = "" if "serialized_exported_program.json" in self._entries else "program/"
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for name, value in self._entries.items():
                if not LEFT_OUT.fullmatch(name):
                    archive.writestr(root + name, self._checked(name, value))
        made.seek(0)
        return made

    def _checked(self, name: str, value: bytes) -> bytes:
        """An entry that is data."""
        if PROGRAM.fullmatch(name):
            return json.dumps(self._without_code(json.loads(value))).encode()
        if CONFIG.fullmatch(name):
            config = self._without_code(json.loads(value))
            for key, payload in config["config"].items():
                if not RAW.fullmatch(f"{name.rpartition('/')[0]}/{payload['path_name']}"):
                    raise self._refused(f"{key}, which is no tensor")
                if payload["use_pickle"]:
                    raise self._refused(f"{key} as a pickle, not as a plain tensor")
            return json.dumps(config).encode()
        if PICKLE.fullmatch(name):
            return self._tensors(name, value) if value else value
        if RAW.fullmatch(name) or MARKS.fullmatch(name):
            return value
        raise self._refused(f"{name}, which is not the data of an exported program")

    def _tensors(self, name: str, value: bytes) -> bytes:
        """A pickle of tensors, written anew."""
        made = io.BytesIO()
        try:
            held = torch.load(io.BytesIO(value), map_location=self._device, weights_only=True)
            torch.save(held, made)
        except Exception as error:
            raise self._refused(f"more than tensors in {name}, which could run code") from error
        return made.getvalue()

    def _without_code(self, value: Any, key: str = "") -> Any:
        """A part of a program, checked, without what is code, and on the device."""
        if isinstance(value, dict):
            if value.keys() == {"type", "index"}:
                return {"type": self._device.type, "index": self._device.index}
            for name in value:
                self._check(name)
            return {
                name: type(part)() if name in CODE and part else self._without_code(part, name)
                for name, part in value.items()
            }
        if isinstance(value, list):
            return [self._without_code(part, key) for part in value]
        if isinstance(value, str):
            self._check(value, key)
        return value

    def _check(self, text: str, key: str = "") -> None:
        """A text of a program must be what its key says, and no code."""
        if key in TEXTS:
            return
        if key in TREES:
            fine = "__enum__" not in text
            self._without_code(json.loads(text or "null"))
        elif key == "expr_str":
            fine = _is_size(text)
        elif key in ("target", "as_operator"):
            fine = bool(TARGET.fullmatch(text))
        else:
            fine = bool(NAME.fullmatch(text))
        if not fine:
            shown = text if len(text) <= 80 else f"{text[:79]}…"
            raise self._refused(f"{shown!r}, which could run code")

    def _refused(self, what: str) -> BackendError:
        return BackendError(f"{self._path}: holds {what}; it is not loaded")


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
