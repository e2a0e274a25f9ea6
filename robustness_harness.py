"""The harness under a name that nobody else uses: are its packages ours, and the command.

A project may well have folders ``harness``, ``backends``, ``suites`` or ``reports``. Python imports
what it finds first, so that ours may be hidden by those in the current folder, in ``PYTHONPATH``,
or beside a script; an editable install is hidden even by a folder without ``__init__.py``. This
module lies beside the packages, imports none of them, and says so.
"""

from __future__ import annotations

import importlib.util
import os
import sys

PACKAGES = ("harness", "backends", "suites", "reports")
HOME = os.path.realpath(os.path.dirname(__file__))  # noqa: PTH120  # pathlib would be a third of the time
"""The folder in which all packages of this distribution lie."""


def shadowed(*names: str) -> str:
    """Which module hides a package of ours, in one line; empty if none does.

    Nothing is imported. A package that is not there at all is not hidden, only missing.

    Args:
        names: Some of ``PACKAGES``; without any, all of them.
    """
    for name in names or PACKAGES:
        found = _place(name)
        if found and os.path.realpath(found) != os.path.join(HOME, name):  # noqa: PTH118
            return (
                f"{found} hides the package {name!r} of robustness-harness (in {HOME}): rename it, "
                "or keep its folder off Python's path (start elsewhere, look at PYTHONPATH)"
            )
    return ""


def main() -> None:
    """The command ``harness``, if it can be had."""
    if reason := shadowed():
        print(f"harness: {reason}", file=sys.stderr)
        sys.exit(2)
    try:
        from harness.cli import main as command
    except KeyboardInterrupt:  # while it is loaded; later the command itself answers
        sys.exit(130)
    command()


def _place(name: str) -> str:
    """The folder of a package, or the file of a module, as an import would find it."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # in memory, and made without a file
        return f"a module {name!r} in memory"
    if spec is None:
        return ""
    if spec.submodule_search_locations is not None:
        return next(iter(spec.submodule_search_locations), "")
    return spec.origin or ""
