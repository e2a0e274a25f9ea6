"""What a check says when it fires."""

from __future__ import annotations

from harness.checks.conformance import NotApplicableError
from harness.errors import CheckFailed


class ValidityError(CheckFailed):
    """A robustness number of this model, or by this attack, cannot be trusted.

    Args:
        rule: Name of the check.
        finding: What was seen; a full stop at its end, as of a foreign message, is left out.
        advice: A sentence on what to do.
    """

    def __init__(self, rule: str, finding: str, advice: str) -> None:
        super().__init__(finding, advice, of=rule)


class BrokenError(NotApplicableError):
    """The model or an attack raises, or returns what it cannot mean; one check reports it."""
