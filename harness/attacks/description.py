"""Any value as plain data that is the same in every process, so that two runs can be compared.

What has a plain value is told by it; functions and types by their names; arrays, bytes and whatever
is long by a short hash of the content; objects by their attributes. Addresses and states of random
generators are told of nothing. What is left is listed by name.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import random
import re
import sys
import types
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any

import numpy as np

from harness.attacks.attributes import attributes
from harness.maths.conversion import as_array

CLASS = "(class)"
"""Under this key an object says what it is."""
SHOWN = 8
"""Levels that are told one by one; what lies deeper is told by a hash ..."""
DEEPEST = 40
"""... down to here."""
LONGEST = 64
"""Arrays, lists and mappings of more entries are told apart by a hash; and texts of eight times."""
WIDEST = 4000
"""Letters of what a list or an object holds that are told one by one, likewise."""
MOST = 50_000
"""Values that are looked at in all, of one attack."""
PLAIN_MOST = 5_000_000
"""Numbers and texts of one list, and bytes of all arrays by a hundred, that are hashed."""
NAMED = 20
"""So many names of what cannot be told are listed."""
NETWORK, CYCLE = "a network", "(itself)"
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+|\bid=\d+|0x[0-9a-fA-F]{8,}")
SCALARS = (type(None), bool, int, float, str)


class Describer:
    """Describes the values of one attack.

    Args:
        special: Describes some objects itself, and gives None of all others.

    Attributes:
        untold: Names of the values that could not be told, or of which only the type is.
    """

    def __init__(
        self, special: Callable[[Any, Describer, str, int], Any] = lambda *_: None
    ) -> None:
        self.special = special
        self.untold: dict[str, None] = {}
        self.left = MOST
        self.bytes_left = 100 * PLAIN_MOST
        self._within: list[int] = []

    @property
    def listed(self) -> list[str]:
        """The names of what could not be told, a bounded number of them."""
        names = sorted(self.untold)
        more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
        return names[:NAMED] + more

    def of(self, value: Any, name: str, depth: int = 0) -> Any:
        """A value as JSON-like data: the same for equal values, in every process.

        Args:
            value: Anything; nothing that it does raises.
            name: What it is called, should it be none that can be told.
            depth: In how many others it lies.
        """
        self.left -= 1
        if self.left < 0 or depth > DEEPEST:
            return self._untold(name, "too much to tell")
        if id(value) in self._within:
            return CYCLE
        try:
            with self.within(value):
                return self._bounded(value, name, depth)
        except Exception:  # a foreign value may do anything when it is asked
            return self._untold(name, _qualified(type(value)))

    @contextmanager
    def within(self, value: Any) -> Iterator[None]:
        """While a value is looked at, so that one that holds itself is not looked at for ever."""
        self._within.append(id(value))
        try:
            yield
        finally:
            self._within.pop()

    def _bounded(self, value: Any, name: str, depth: int) -> Any:
        if (special := self.special(value, self, name, depth)) is not None:
            return special
        told = self._of(value, name, depth)
        if not isinstance(told, dict | list):
            return told
        large = depth == SHOWN or len(told) > LONGEST or len(_json(told)) > WIDEST
        return self._hashed(told) if large else told

    def entries(self, values: Mapping[str, Any], name: str, depth: int) -> dict[str, Any]:
        """Named values, each as ``of`` tells it."""
        return {key: self.of(value, f"{name}.{key}" if name else key, depth)
                for key, value in values.items()}  # fmt: skip

    def _of(self, value: Any, name: str, depth: int) -> Any:
        if isinstance(value, Enum):
            kind = _qualified(type(value))
            scalar = isinstance(value.value, SCALARS)
            return _scalar(value.value) if scalar else f"{kind}.{value.name}"
        if isinstance(value, np.generic) and value.dtype.kind in "biufcSU":
            value = value.item()
        if isinstance(value, SCALARS):
            return _scalar(value)
        if _is_network(value):
            return self._untold(name, NETWORK)
        for tell in (_named, self._content, self._several, self._called, self._object):
            if (told := tell(value, name, depth)) is not None:
                return told
        text = repr(value)
        own = getattr(type(value), "__repr__", None) is not object.__repr__
        if not own or ADDRESS.search(text):
            return self._untold(name, _qualified(type(value)))
        return _scalar(text)

    def _content(self, value: Any, name: str, depth: int) -> Any:
        """Arrays, tensors and bytes."""
        if isinstance(value, bytes | bytearray | memoryview | array):
            content = bytes(value)
            return f"{len(content)} bytes {self._digest(content)}"
        if isinstance(value, type) or not hasattr(value, "__array__"):
            return None
        held = as_array(value, name)
        if held.size <= LONGEST or held.dtype.hasobject:
            return self.of(held.tolist(), name, depth)
        if held.nbytes > self.bytes_left:
            return self._untold(name, f"{held.dtype} {held.shape}")
        return f"{held.dtype} {held.shape} {self._digest(np.ascontiguousarray(held).data)}"

    def _several(self, value: Any, name: str, depth: int) -> Any:
        """Lists, sets and mappings."""
        if isinstance(value, set | frozenset):
            told = [self.of(entry, f"{name}[]", depth + 1) for entry in islice(value, MOST + 1)]
            told.sort(key=_json)
        elif isinstance(value, list | tuple | deque):
            if len(value) > LONGEST and all(type(entry) in SCALARS for entry in value):
                return self._long(value, name)
            told = [self.of(entry, f"{name}[{place}]", depth + 1)
                    for place, entry in enumerate(islice(value, MOST + 1))]  # fmt: skip
        elif isinstance(value, Mapping):
            return self._mapping(value, name, depth)
        else:
            return None
        return told

    def _long(self, value: list[Any] | tuple[Any, ...] | deque[Any], name: str) -> str:
        if len(value) > PLAIN_MOST:
            return self._untold(name, f"{len(value)} entries")
        digest, entries = hashlib.sha256(), iter(value)
        while part := [_scalar(entry) for entry in islice(entries, MOST)]:
            digest.update(_json(part).encode())
        return f"{len(value)} entries {digest.hexdigest()[:12]}"

    def _mapping(self, value: Mapping[Any, Any], name: str, depth: int) -> Any:
        named: dict[str, Any] = {}
        for place, (key, entry) in enumerate(islice(value.items(), MOST + 1)):
            text = (
                key if isinstance(key, str) else _text(self.of(key, f"{name} (a key)", depth + 1))
            )
            if text in named:  # 1 and "1" are two keys
                text = f"{text} ({type(key).__name__})"
            named[f"{text} {place}" if text in named else text] = entry
        return self.entries(dict(sorted(named.items())), name, depth + 1)

    def _called(self, value: Any, name: str, depth: int) -> Any:
        """Functions that hold values: methods of an object, partial and nested ones, lambdas."""
        if isinstance(value, functools.partial):
            parts = {"function": value.func, "arguments": value.args, "keywords": value.keywords}
            return self.entries(parts, name, depth + 1)
        if isinstance(value, types.MethodType):
            return self.entries({"function": value.__func__, "of": value.__self__}, name, depth + 1)
        if not isinstance(value, types.FunctionType):
            return None
        cells = value.__closure__ or ()
        free = zip(value.__code__.co_freevars, cells, strict=True)
        held = {key: cell.cell_contents for key, cell in free}
        parts = {"defaults": value.__defaults__, **(value.__kwdefaults__ or {}), **held}
        told = self.entries({key: part for key, part in parts.items() if part is not None},
                            name, depth + 1)  # fmt: skip
        # Lambdas share a name, so their code tells them apart, which is that of one Python.
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        code = f"{self._hashed(self._code(value.__code__))}, compiled by Python {version}"
        return {"function": _qualified(value), "code": code, **told}

    def _code(self, code: types.CodeType) -> list[Any]:
        constants = [self._code(constant) if isinstance(constant, types.CodeType)
                     else _steady(constant) for constant in code.co_consts]  # fmt: skip
        return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]

    def _object(self, value: Any, name: str, depth: int) -> Any:
        """An object by its attributes."""
        if isinstance(value, logging.Logger | random.Random | types.GeneratorType):
            return self._untold(name, _qualified(type(value)))
        config = getattr(value, "get_config", None)  # of losses of Keras
        told = config() if callable(config) else None
        found = told if isinstance(told, Mapping) else attributes(value)
        if not found and not hasattr(value, "__dict__"):
            return None
        return {CLASS: _qualified(type(value))} | self.entries(dict(found), name, depth + 1)

    def _untold(self, name: str, what: str) -> str:
        self.untold[name] = None
        return what

    def _hashed(self, told: Any) -> str:
        return f"{len(told)} entries {self._digest(_json(told).encode())}"

    def _digest(self, content: Any) -> str:
        self.bytes_left -= memoryview(content).nbytes
        return hashlib.sha256(content).hexdigest()[:12]


def _named(value: Any, name: str, depth: int) -> Any:
    """What has a name of its own, or a text that is its value: types, functions, modules, paths."""
    if isinstance(value, PurePath | range | complex | slice):
        return str(value)
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, type) or _is_global(value):
        return _qualified(value)
    return None


def _is_global(value: Any) -> bool:
    """Whether a function is the one of its name, and so told by it."""
    if isinstance(value, types.MethodType | functools.partial) or not callable(value):
        return False
    name = getattr(value, "__qualname__", None)
    if not isinstance(name, str) or "<" in name:
        return False
    if getattr(value, "__closure__", None):  # made by another one, and perhaps called like it
        found: Any = sys.modules.get(value.__module__)
        for part in name.split("."):
            found = getattr(found, part, None)
        return found is value
    owner = getattr(value, "__self__", None)
    return owner is None or isinstance(owner, type | types.ModuleType)


def _is_network(value: Any) -> bool:
    """Whether a value is a model: it may differ, since models are what a gate compares."""
    if isinstance(value, type):
        return False
    if callable(getattr(value, "logits", None)) or callable(getattr(value, "predict", None)):
        return True
    if isinstance(getattr(value, "trainable_weights", None), list):  # Keras
        return bool(value.weights)
    parameters = getattr(value, "parameters", None)  # PyTorch
    if not callable(parameters) or not callable(getattr(value, "state_dict", None)):
        return False
    return next(iter(parameters()), None) is not None


def _scalar(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        # Python refuses to write out very long ones.
        bits = value.bit_length()
        return int(value) if bits <= 8 * LONGEST else f"{bits} bits {_short(hex(value))}"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    text = str(value)
    return text if len(text) <= 8 * LONGEST else f"{len(text)} characters {_short(text)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _steady(constant: Any) -> str:
    """A constant of code as text; those of a frozenset come in another order in each process."""
    if isinstance(constant, frozenset):
        return repr(sorted(map(repr, constant)))
    return repr(constant)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _text(told: Any) -> str:
    return told if isinstance(told, str) else _json(told)


def _qualified(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
    module = getattr(value, "__module__", None)
    return f"{module}.{name}" if module and module != "builtins" else str(name)
