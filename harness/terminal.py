"""Names and reasons in rich's tables: as they are, whatever brackets and signs they hold."""

from __future__ import annotations

from rich.text import Text

from harness.errors import printable


def plain(value: object, style: str = "") -> Text:
    """Text that rich prints as it is, without what it or a terminal would obey."""
    return Text(printable(str(value)), style)
