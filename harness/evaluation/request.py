"""How a run is asked for: the command passes it to pytest, and the session looks it up."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import HarnessError

REFUSED = 64
"""Exit code of a session that cannot begin, because its data cannot be had."""


@dataclass(eq=False)
class Request:
    """How a session is to measure; passed to pytest as a plugin.

    Attributes:
        address: Of the workers, as ``executors.opened`` takes it.
        fresh: Forget what is stored.
        refused: Why it could not be done, afterwards.
    """

    address: str
    fresh: bool = False
    refused: HarnessError | None = None
