"""Baselines on disk: numbered files in a folder a spec, written only to accept a run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from harness.errors import RunError, printable
from harness.files import check_writable
from harness.gate.baseline import Accepted, Baseline, Entry, label, name_of, order, write
from harness.gate.settings import changes, differences
from harness.gate.verdicts import incomplete
from harness.results.records import Key
from harness.results.run import Run

OWN_BASELINES = Path("baselines")
BASELINES = Path("suites/baselines")
"""Where a folder per spec is looked for if no path is given."""
NUMBERED = re.compile(r"\d{4,}\.json")


def locate(path: Path) -> Path | None:
    """The baseline file that a path means: itself, or the newest one of a folder, if there is one.

    A path is taken for a file if it ends with ``.json`` and is no folder.
    """
    if _is_file(path):
        return path if path.exists() else None
    if path.is_file():
        raise RunError(f"{path}: not a baseline; name a folder of them, or a .json file")
    found = [file for file in path.glob("*.json") if NUMBERED.fullmatch(file.name)]
    return max(found, key=lambda file: int(file.stem), default=None)


def read(path: Path) -> Baseline:
    """The baseline that a path means.

    Raises:
        RunError: It is missing, damaged, or of another schema; the message is one line that says
            what to do.
    """
    found = locate(path)
    accept = command("accept", "RUN", path)
    if found is None:
        raise RunError(f"{path}: there is no baseline; accept a run as one: `{accept}`")
    return Baseline.load(
        found,
        remedy=f"restore it, or remove it and accept a run: `{accept}`",
        anew=f"measure again, remove it and accept the new run: `{accept}`",
    )


def accept(run: Run, path: Path) -> Path:
    """Make a run the new baseline: the next number of a folder, or the very file that is named.

    Returns:
        The file that was written; a table lies beside it.

    Raises:
        RunError: The run may not be a baseline, or the file cannot be written.
    """
    check(run)
    found = locate(path)
    if _is_file(path):
        if found is not None:
            read(found)  # a mistyped path must not replace a file that is no baseline
        return _save(Baseline.of(run), path)
    number = 1 if found is None else int(found.stem) + 1
    return _save(Baseline.of(run), path / f"{number:04d}.json")


def add(run: Run, path: Path) -> Path:
    """Add a run of a retrained model to the current baseline, so that it knows the spread.

    Returns:
        The file that was rewritten.

    Raises:
        RunError: There is no baseline; the run is of another spec or other data, measures something
            else, or has the same models; or the file cannot be written.
    """
    check(run)
    baseline = read(path)
    found = locate(path) or path
    if reason := changes(run, baseline):
        raise RunError(f"{found}: the run cannot be added: {reason}")
    last, new = baseline.runs[-1], Accepted.of(run)
    for key in sorted({e.key for e in last.records} ^ {e.key for e in new.records}, key=order):
        where = "run" if key in {e.key for e in last.records} else "baseline"
        raise RunError(f"{found}: the run cannot be added: {label(key)} is not in the {where}")
    for entry in new.records:
        if asked := differences(last.spec, new.spec, entry.check):
            raise RunError(
                f"{found}: the run cannot be added: {label(entry.key)} has other settings: {asked}"
            )
    for number, old in enumerate(baseline.runs, 1):
        for model in new.signatures:
            if new.signatures[model] == old.signatures.get(model):
                raise RunError(
                    f"{found}: the run cannot be added: {model} is the model of run {number}, and "
                    "adds nothing new; train with another seed: `harness run SPEC --seed N`"
                )
    return _save(baseline.model_copy(update={"runs": [*baseline.runs, new]}), found)


def command(verb: str, run: str | Path, path: Path) -> str:
    """The command that accepts or adds a run, to be typed."""
    return shlex.join(["harness", "baseline", verb, str(run), "--baseline", str(path)])


def default_path(run: Run) -> Path:
    """The folder in which the baselines of a run's spec lie, if nothing else is said.

    A repository of somebody's own keeps them in ``baselines``, as ``harness init`` makes it.
    """
    name = name_of(run) or "unnamed"
    home = OWN_BASELINES if OWN_BASELINES.is_dir() else BASELINES
    # A path that ends so means a file; a name never does.
    return home / (f"{name}.d" if name.endswith(".json") else name)


def summary(baseline: Baseline) -> str:
    """A baseline for people: its runs, and a line a check with the accuracies in percent."""
    lines = [f"baseline of {baseline.spec}, data {printable(baseline.data_sha256[:12])}", ""]
    lines += [*runs_told(baseline), ""]
    table = checks_told(baseline)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *rest in table:
        padded = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    return "\n".join([*lines, ""])


def runs_told(baseline: Baseline) -> list[str]:
    """A line a run: its seed, and when and with what it was measured."""
    lines = []
    for number, run in enumerate(baseline.runs, 1):
        commit = (run.commit or "unknown")[:12] + ("+" if run.dirty else "")
        versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        seed = run.spec.get("seed", "-")
        said = f"run {number}: seed {seed}, {run.created}, commit {commit}, {versions}"
        lines.append(printable(said))
    return lines


def checks_told(baseline: Baseline) -> list[list[str]]:
    """The headings, and a row a check: its name, its images, and what each run found."""
    held: list[dict[Key, Entry]] = [{e.key: e for e in run.records} for run in baseline.runs]
    table = [["check", "images", *(f"run {n}" for n, _ in enumerate(held, 1))]]
    for key in sorted(baseline.keys, key=order):
        cells = [entries.get(key) for entries in held]
        total = next((str(c.total) for c in cells if c and c.total), "")
        table.append([label(key), total, *map(_cell, cells)])
    return table


def _is_file(path: Path) -> bool:
    return path.suffix == ".json" and not path.is_dir()


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return "-"
    return entry.status if entry.accuracy is None else f"{100 * entry.accuracy:.2f}"


def check(run: Run) -> None:
    """Refuse a run that must not become a baseline.

    Raises:
        RunError: It did not finish, or a check of it failed or broke.
    """
    if reason := incomplete(run):
        raise RunError(f"not accepted as a baseline: {reason}")
    broken = [record for record in run.records if record.status in ("failed", "error")]
    if broken:
        first = broken[0]
        because = f" ({first.reason})" if first.reason else ""
        more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise RunError(f"not accepted as a baseline: {first.label}: {first.status}{because}{more}")


def _save(baseline: Baseline, path: Path) -> Path:
    for file in (path, path.with_suffix(".txt")):  # both or none
        check_writable(file)
    baseline.save(path)
    write(path.with_suffix(".txt"), summary(baseline))
    return path
