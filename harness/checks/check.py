"""What all checks share: how they are run, and what they report.

A check is a function of its suite's evidence that raises ``CheckFailed`` with one line on what is
wrong, or ``NotApplicable`` where the evidence lacks what is needed. One that passes may return a
note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeAlias, TypeVar

from harness.errors import CheckFailed, NotApplicable, one_line

Evidence = TypeVar("Evidence")
Check: TypeAlias = Callable[[Evidence], str | None]


class BrokenError(NotApplicable):
    """The model or an attack raises, or returns what it cannot mean; one check reports it."""


def run_checks(checks: Mapping[str, Check[Evidence]], evidence: Evidence) -> dict[str, str]:
    """Which checks fail, and what each says; those that do not apply say nothing.

    A check that cannot be made, because the model or an attack does what no check expects, is a
    finding too; of several that break alike, the first.

    Args:
        checks: Checks of one suite by their names.
        evidence: What they look at.
    """
    found: dict[str, str] = {}
    broken: set[str] = set()
    for rule in checks:
        try:
            with suppress(NotApplicable):
                checks[rule](evidence)
        except CheckFailed as error:
            found[rule] = str(error)
        except Exception as error:
            why = f"{type(error).__name__}: {error}".rstrip(".")
            if why not in broken:
                broken.add(why)
                what = one_line(f"{rule}: this could not be checked ({why})")
                found[rule] = f"{what}. Find out what the model or the attack does there."
    return found
