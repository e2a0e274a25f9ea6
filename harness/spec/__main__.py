"""``python -m harness.spec FILE...``: are these specs right? For a hook before each commit."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.errors import SpecError, printable
from harness.spec.reading import load_spec


def main(paths: Sequence[str]) -> int:
    """Read each file as a spec, and print what is wrong with it, a line each.

    What its names mean is not looked up: a hook has an environment of its own, without the packages
    that attacks, data and models come from.

    Returns:
        0 if all are specs, 2 if one is not.
    """
    code = 0
    for path in paths:
        try:
            load_spec(path)
        except SpecError as error:
            print(printable(f"harness: {error}"), file=sys.stderr)
            code = 2
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
