"""Errors whose message is meant for the person at the keyboard, and those of a measurement."""

from harness.text import printable


class HarnessError(Exception):
    """A wrong request: one line that names the file, key or value, and what to do (exit code 2)."""

    def __str__(self) -> str:
        """The message without what a terminal would obey: it may quote a file or a server."""
        return printable(super().__str__())


class SpecError(HarnessError):
    """A spec file that is missing, not TOML, or says something that cannot be."""


class DataError(HarnessError):
    """A dataset that is missing, damaged, or cannot be downloaded."""


class BackendError(HarnessError):
    """A backend that is unknown, not installed, or cannot do what was asked of it."""


class RunError(HarnessError):
    """A stored run or baseline that is missing, truncated, or of another schema."""


class MeasurementError(Exception):
    """A measurement that cannot be trusted, so that no number is given."""
