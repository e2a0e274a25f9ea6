"""The commands ``harness specs`` and ``harness attacks``: what there is, by name."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from harness.errors import HarnessError


def specs() -> int:
    """List the specs that ship with the suites, and the published tables."""
    from harness.spec.published import load_table, table_paths
    from harness.spec.reading import load_spec, spec_names
    from harness.terminal import listed

    found = [(name, load_spec(name)) for name in spec_names()]
    rows = [(name, ", ".join(spec.models), spec.description) for name, spec in found]
    listed(("spec", "models", "what it measures"), rows, "harness run SPEC")
    tables = [load_table(path) for path in table_paths(None)]
    papers = [
        (one.name, f"{one.paper.authors} {one.paper.year}: {one.paper.title}") for one in tables
    ]
    listed(("published table", "paper"), papers, "harness reproduce TABLE")
    return 0


def attacks() -> int:
    """List the attacks: the norm that bounds them, what they need of a model, what they do."""
    from harness.attacks import ATTACKS
    from harness.terminal import listed

    rows = [_attack(name) for name in ATTACKS]
    listed(("attack", "norm", "needs", "what it does"), rows, "harness evaluate --attack NAME")
    return 0


def _attack(name: str) -> tuple[str, str, str, str]:
    """An attack as a row; of one of another package that cannot be made, the reason."""
    from harness.attacks import ATTACKS, make_attack
    from harness.results.blocks import NORMS

    try:
        made, entry = make_attack(name), ATTACKS[name]
    except HarnessError as error:
        return name, "", "", str(error)
    package = ATTACKS.package_of(name)
    about = f"{_gist(entry)}{_options(entry)}{f' (of {package})' * bool(package)}"
    return name, NORMS[made.norm], ", ".join(sorted(made.requires)), about


def _gist(entry: Any) -> str:
    """The first line of what an attack's docstring says."""
    made = entry.func if isinstance(entry, partial) else entry
    return (inspect.getdoc(made) or "").partition("\n")[0].replace("``", "")


def _options(entry: Any) -> str:
    """What differs from the defaults of its kind, in brackets; empty if nothing does."""
    given = entry.keywords if isinstance(entry, partial) else {}
    options = {key: value for key, value in given.items() if key not in ("name", "norm")}
    said = [
        f"{key} = {' '.join(value) if isinstance(value, tuple) else value}"
        for key, value in options.items()
    ]
    return f" ({', '.join(said)})" if said else ""
