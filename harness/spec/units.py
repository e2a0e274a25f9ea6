"""Epsilons of a spec that are written in another unit than the pixels' own."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from itertools import chain
from typing import Any

SWEPT = ("attacks", "certified")
"""The sections of a spec with sweeps."""
EPSILON_KEYS = {"saliency": "epsilon", "minimal": "limit", "grid": "fgsm_epsilon"}
"""Where else than in sweeps an epsilon stands in a spec."""


def in_pixel_units(spec: dict[str, Any]) -> dict[str, Any]:
    """The same spec with epsilons in pixel units: each is divided by ``epsilon_unit``.

    That is said once, so that it is left out of what is returned. What is no number is left as it
    is, for validation to refuse.
    """
    unit: Any = spec.get("epsilon_unit")
    if not is_number(unit) or not 0 < unit < math.inf:
        return spec
    found = deepcopy(spec)
    del found["epsilon_unit"]

    def divided(value: Any) -> Any:
        return value / unit if is_number(value) else value

    for sweep in chain.from_iterable(_parts(found.get(section)) for section in SWEPT):
        if isinstance(sweep.get("epsilons"), list | tuple):
            sweep["epsilons"] = [divided(epsilon) for epsilon in sweep["epsilons"]]
    for part, key in EPSILON_KEYS.items():
        if isinstance(found.get(part), dict) and key in found[part]:
            found[part][key] = divided(found[part][key])
    for model in _parts(found.get("models")):
        expect = model.get("expect")
        for section in SWEPT:
            expected: Any = expect.get(section) if isinstance(expect, dict) else None
            for name, ranges in expected.items() if isinstance(expected, dict) else ():
                if isinstance(ranges, dict):
                    expected[name] = _renamed(ranges, divided)
    _divide_tolerances(found, divided)
    return found


def _renamed(ranges: dict[Any, Any], divided: Callable[[Any], Any]) -> dict[Any, Any]:
    return {_key(key, divided): value for key, value in ranges.items()}


def _key(key: Any, divided: Callable[[Any], Any]) -> Any:
    """An epsilon that is a key, which in TOML and JSON is text."""
    try:
        return repr(divided(float(key))) if isinstance(key, str) else divided(key)
    except ValueError:
        return key


def _divide_tolerances(spec: dict[str, Any], divided: Callable[[Any], Any]) -> None:
    gate = spec.get("gate")
    if not isinstance(gate, dict) or not isinstance(gate.get("tolerances"), dict):
        return
    renamed = {}
    for name, value in gate["tolerances"].items():
        check, at, epsilon = str(name).partition("@")
        try:
            renamed[f"{check}@{divided(float(epsilon)):g}" if at else name] = value
        except ValueError:
            renamed[name] = value
    gate["tolerances"] = renamed


def _parts(named: Any) -> list[dict[str, Any]]:
    """The parts of a mapping that are mappings themselves."""
    if not isinstance(named, dict):
        return []
    return [part for part in named.values() if isinstance(part, dict)]


def is_number(value: Any) -> bool:
    """Whether TOML or JSON has a number there."""
    return isinstance(value, int | float) and not isinstance(value, bool)
