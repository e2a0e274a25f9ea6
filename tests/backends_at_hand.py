"""The backends that the tests run over. One that is not installed is skipped, and says why."""

from __future__ import annotations

import importlib
import os
import re
from typing import Any

import pytest

from harness import registry
from harness.protocol import Backend

NAMES = tuple(registry.builders())
FRAMEWORKS = tuple(name for name in NAMES if name != "numpy")
REQUIRED = "HARNESS_TEST_BACKENDS"
"""Environment variable: the backends, with commas between them, that must be there."""
OF_A_FRAMEWORK = re.compile(r"framework|backend|torch|keras|tensorflow|jax")
"""What the path or the name of a test says if a framework may change what it does."""
WHOLE = re.compile(r"^tests/(models|peers|serve|browser)/")
"""Tests of environments that have every framework, and leave none of them out."""


def at_hand(name: str) -> Backend:
    """The backend; where it is missing the test is skipped, or failed if it had to be there."""
    case = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" (")[0]
    if name in FRAMEWORKS and case and not (OF_A_FRAMEWORK.search(case) or WHOLE.search(case)):
        pytest.fail(f"{case} needs {name}: name it so, or it is not run there", pytrace=False)
    wanted, reason = required(), registry.missing(name)
    if reason and name in wanted:
        pytest.fail(f"{REQUIRED} names {name}, but {reason}", pytrace=False)
    if reason:
        pytest.skip(reason)
    # torch goes first wherever tensorflow will follow in the same process.
    registry.import_together({"torch", name} if name == "keras" else {name})
    return registry.backend(name)


def package_at_hand(name: str, demanded: str = "", hint: str = "") -> Any:
    """A package; where it is missing the test is skipped, or failed if it is demanded.

    Args:
        name: The module.
        demanded: What says that it must be there; empty if nothing does.
        hint: Where it would be, for the reason of a skip.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if demanded:
            pytest.fail(f"{demanded}, but {error}", pytrace=False)
        return pytest.skip(f"{error}{hint}")


def required() -> set[str]:
    """The names in the environment variable.

    Raises:
        ValueError: One is not a backend.
    """
    given = {name.strip() for name in os.environ.get(REQUIRED, "").split(",")} - {""}
    if unknown := given - set(registry.BACKENDS):
        raise ValueError(f"{REQUIRED}: {', '.join(sorted(unknown))}: no such backend")
    return given
