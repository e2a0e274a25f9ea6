"""The backends that the tests run over. One that is not installed is skipped, and says why."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

from harness import registry
from harness.protocol import Backend

NAMES = tuple(registry.builders())
REQUIRED = "HARNESS_TEST_BACKENDS"
"""Environment variable: the backends, with commas between them, that must be there."""


def at_hand(name: str) -> Backend:
    """The backend; where it is missing the test is skipped, or failed if it had to be there."""
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
