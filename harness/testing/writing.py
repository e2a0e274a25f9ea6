"""What rich draws, on the lines of a pytest session."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.console import Console

from harness import terminal


def write(reporter: pytest.TerminalReporter, draw: Callable[[Console], None]) -> None:
    """Draw something where pytest reports; in colour, if the session is.

    Args:
        reporter: Of the session.
        draw: Prints to the console that it is given, which is 80 columns wide, or as the terminal.
    """
    coloured = reporter.config.get_terminal_writer().hasmarkup
    console = Console(
        width=terminal.console().width,
        color_system="standard" if coloured else None,
        force_terminal=coloured,
    )
    with console.capture() as captured:
        draw(console)
    for line in captured.get().splitlines():  # each, so that none is spoilt by another's signs
        reporter.line(line)
