"""The pytest plugin as it measures; and the checks as tests of an author's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.testing.checks import parametrize_with_checks

__all__ = ["parametrize_with_checks"]


def __getattr__(name: str) -> Any:
    """Load the checks on first use: a session that measures may need none."""
    if name in __all__:
        from harness.testing import checks

        return getattr(checks, name)
    raise AttributeError(f"module 'harness.testing' has no attribute {name!r}")
