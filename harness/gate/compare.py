"""A stored run compared with a baseline. Nothing is rerun, and no framework is imported.

Each model of the run is compared in one of two ways:

- *paired*, image by image, if its logits say that it is a model of the baseline, or if the baseline
  holds one run only: exact McNemar tests;
- *by spread*, if it was retrained and the baseline holds several runs: prediction intervals.

All p-values of a gate are corrected together (Holm). A check regressed if its accuracy dropped
significantly, and by more than its tolerance, which is nothing for a model of the baseline. A rise
that is significant and beyond the tolerance is an improvement; it is implausible, and fails, if

- the model is the baseline's, so that not the model but the attack or the measurement changed; or
- the accuracy under attack rose beyond the clean accuracy's own rise by more than the setting
  ``improvement``; not so a certified one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError, RunError
from harness.gate.baseline import Accepted, Baseline, Entry, Model, order
from harness.gate.outcomes import Outcomes, answered_in_all, outcomes_of
from harness.gate.paired import LEVEL, holm
from harness.gate.settings import changes, differences, uncompared
from harness.gate.significance import Finding, Paired, beside, paired
from harness.gate.spread import FEWEST
from harness.gate.store import command, default_path, locate, read
from harness.gate.verdicts import (
    IMPLAUSIBLE,
    VERDICTS,
    Comparison,
    Row,
    Verdict,
    accuracy,
    by_status,
    incomplete,
    sight,
    too_small,
)
from harness.results import keys
from harness.results.records import Key, Record
from harness.results.run import Run
from harness.spec.gate import GateSettings

DIRECTIONLESS = "saliency/"
"""Accuracies after occlusion, of which neither more nor less is better."""
CLEAN = "clean"
SAME = 0.01
"""Signatures that differ by less than this share of their spread are of one model; rounding on
another machine moves them less, and another training more."""

UNSURE = (
    "against a single run a retrained model can fail by its seed alone, as 1 in 2 do where seeds "
    "differ by 1 point; add runs of other seeds: `{}`"
)
"""How far the verdict on a retrained model can be trusted; `simulation.rate` measures it."""


@dataclass(frozen=True)
class _Outcomes:
    """Outcomes of the images that were answered in all runs that are compared, (n,) each.

    Attributes:
        olds: Those of the baseline's runs.
        new: Those of the new run.
        places: Positions of these images.
        left_out: How many were not answered in one of the runs.
    """

    olds: list[Outcomes]
    new: Outcomes
    places: npt.NDArray[np.integer]
    left_out: int

    @property
    def told(self) -> str:
        """How many images are left out, for people; empty if none is."""
        if not self.left_out:
            return ""
        return f"{self.left_out} images that were not answered in each run are left out"


@dataclass(frozen=True)
class _Way:
    """How one model is compared.

    Attributes:
        runs: The baseline's runs that it is compared with: one (paired), or all (spread).
        same: Whether the model is that of the one run.
        note: This, for people.
    """

    runs: tuple[Accepted, ...]
    same: bool
    note: str

    @property
    def unsure(self) -> bool:
        """Whether chance of the training may fail it: a retrained model against a single run."""
        return len(self.runs) == 1 and not self.same


def gate(
    folder: Path,
    path: Path,
    *,
    tolerance: float | None = None,
    backends: Collection[str] = (),
) -> Comparison:
    """Compare a stored run with a baseline; neither is written to.

    Args:
        folder: Where the run was saved.
        path: The baseline: a file, or a folder of numbered ones, of which the newest counts.
        tolerance: As for ``compare``.
        backends: Likewise.

    Raises:
        RunError: The run or the baseline cannot be read, or they cannot be compared.
        HarnessError: The tolerance is not in [0, 1], or a backend is in neither.
    """
    _check(tolerance)
    return against(Run.load(folder), folder, path, tolerance=tolerance, backends=backends)


def against(
    run: Run,
    folder: Path,
    path: Path,
    *,
    tolerance: float | None = None,
    backends: Collection[str] = (),
) -> Comparison:
    """The same of a run that has been loaded from its folder."""
    baseline = read(path)
    if not incomplete(run) and (reason := changes(run, baseline)):
        again = command("accept", folder, path)
        raise RunError(f"{path}: {reason}; take another baseline, or accept this run: `{again}`")
    return compare(run, baseline, tolerance=tolerance, backends=backends, path=path)


def changed_by(run: Run, path: Path) -> Comparison | str:
    """What accepting a run in place of a baseline changes; a sentence if they cannot be compared.

    Raises:
        RunError: The baseline cannot be read.
    """
    baseline = read(path)
    if reason := changes(run, baseline):
        return f"they cannot be compared: {reason}"
    return compare(run, baseline, path=path)


def compare(
    run: Run,
    baseline: Baseline,
    *,
    tolerance: float | None = None,
    backends: Collection[str] = (),
    path: Path | None = None,
) -> Comparison:
    """Compare a run with a baseline by model, backend, check and epsilon.

    Args:
        run: The run, with the settings of its spec's ``[gate]``.
        baseline: What it is compared with.
        tolerance: So far accuracies may drop, in [0, 1], in place of the spec's general tolerance.
        backends: Only these are compared, on both sides; all if none is named.
        path: Where the baseline lies, for the commands that are proposed.

    Raises:
        RunError: They are of different specs or data.
        HarnessError: The tolerance is not in [0, 1], or a backend is in neither.
    """
    _check(tolerance)
    settings = run.gate
    if tolerance is not None:
        settings = settings.model_copy(update={"tolerance": tolerance})
    broken = incomplete(run)
    if broken:
        return Comparison((), False, f"failed: {broken}")
    if reason := changes(run, baseline):
        raise RunError(f"incomparable: {reason}")
    keys = sorted(baseline.keys | {record.key for record in run.records}, key=order)
    known = {backend for _, backend, _, _ in keys}
    if unknown := sorted(set(backends) - known):
        raise HarnessError(
            f"--backend {unknown[0]}: neither in the run nor in the baseline; these have "
            f"{', '.join(sorted(known))}"
        )
    keys = [key for key in keys if not backends or key[1] in backends]
    add = command("add", "RUN", path or default_path(run))
    models = dict.fromkeys((key[1], key[0]) for key in keys)
    ways = {model: _way(run, baseline, model, add) for model in models}
    rows = _rows(run, ways, keys, settings)
    tested = {(row.key[1], row.key[0]) for row in rows if row.p_value is not None}
    notes = [way.note for model, way in ways.items() if model in tested]
    notes += dict.fromkeys(filter(None, (
        uncompared(ways[row.key[1], row.key[0]].runs[-1].spec, run.spec, row.key[2])
        for row in rows if row.p_value is not None
    )))  # fmt: skip
    small = too_small(rows)
    passed = not small and not any(row.fails for row in rows)
    counts = Counter(row.outcome for row in rows)
    summary = small or ", ".join(
        f"{counts[outcome]} {outcome}" for outcome in (IMPLAUSIBLE, *VERDICTS) if counts[outcome]
    )
    unsure = any(ways[model].unsure for model in tested)
    said = [f"{'passed' if passed else 'failed'}: {summary}", sight(rows),
            UNSURE.format(add) if unsure else ""]  # fmt: skip
    return Comparison(
        rows, passed, "; ".join(filter(None, said)), tuple(notes), _compared(rows, baseline, path)
    )


def _compared(rows: Sequence[Row], baseline: Baseline, path: Path | None) -> str:
    """What was compared with what, for people."""
    counted = sum(row.counted for row in rows)
    models = len({(row.key[1], row.key[0]) for row in rows})
    runs, found = len(baseline.runs), None if path is None else locate(path)
    where = "" if found is None else f" in {found}"
    return (
        f"{len(rows)} checks of {models} model{'s' * (models != 1)}, {counted} of them accuracies "
        f"by the outcome of each image, with {runs} accepted run{'s' * (runs != 1)}{where}"
    )


def _check(tolerance: float | None) -> None:
    """Refuse a tolerance that is no fraction; written this way around, NaN is refused too."""
    if tolerance is not None and not 0.0 <= tolerance <= 1.0:
        raise HarnessError(f"tolerance {tolerance:g}: give a fraction of the images, 0 to 1")


def _way(run: Run, baseline: Baseline, model: Model, add: str) -> _Way:
    """How a model of the run is compared."""
    name = "/".join(model)
    title = " ".join(model)
    signature = run.arrays.get(keys.of(*model, keys.SIGNATURE))
    kept = [accepted.signature(name) for accepted in baseline.runs]
    for number, (accepted, old) in enumerate(zip(baseline.runs, kept, strict=True), 1):
        if signature is not None and old is not None and _alike(signature, old):
            of = "" if len(kept) == 1 else f" of run {number}"
            return _Way((accepted,), True, f"{title}: the baseline's model{of}, image by image")
    if len(kept) >= FEWEST:
        note = f"{title}: a retrained model, compared with the spread of {len(kept)} runs"
        return _Way(tuple(baseline.runs), False, note)
    unknown = signature is None or kept[0] is None
    what = "a model that may have been retrained" if unknown else "a retrained model"
    note = (
        f"{title}: {what}, compared with a single run: this cannot separate seed noise from "
        f"regression, and what is significant image by image fails; add runs of other seeds: "
        f"`{add}`"
    )
    return _Way((baseline.runs[0],), False, note)


def _alike(new: npt.NDArray[Any], old: npt.NDArray[Any]) -> bool:
    """Whether two signatures are of one model, as far as images were answered in both runs."""
    if new.shape != old.shape:
        return False
    both = np.isfinite(new) & np.isfinite(old)
    new, old = new[both], old[both]
    if not len(old):
        return False
    return bool(np.abs(new - old).max() <= SAME * max(float(old.std()), 1e-6))


def _rows(
    run: Run, ways: Mapping[Model, _Way], keys: Sequence[Key], settings: GateSettings
) -> tuple[Row, ...]:
    """A row for every key, in their order."""
    after = {record.key: record for record in run.records}
    held = {
        model: [{entry.key: entry for entry in accepted.records} for accepted in way.runs]
        for model, way in ways.items()
    }
    rows: dict[Key, Row] = {}
    counted: dict[Model, dict[Key, _Outcomes]] = {}
    for key in keys:
        model = (key[1], key[0])
        olds = [entries[key] for entries in held[model] if key in entries]
        found = _first_look(run, key, olds, after.get(key), ways[model], settings)
        if isinstance(found, Row):
            rows[key] = found
        else:
            counted.setdefault(model, {})[key] = found
    findings: dict[Key, Finding] = {}
    for model, checks in counted.items():
        findings |= _findings(checks, spread=len(ways[model].runs) > 1)
    adjusted = holm([finding.p_value for finding in findings.values()])
    for (key, finding), p_value in zip(findings.items(), adjusted, strict=True):
        way = ways[key[1], key[0]]
        clean = findings.get((key[0], key[1], CLEAN, None))
        # The same model gives the same outcomes; what it loses is no chance of a training.
        tolerance = 0.0 if way.same else settings.tolerance_of(key[2], key[3])
        verdict, implausible, why = _judge(
            finding, float(p_value), key, clean, way, tolerance, settings.improvement
        )
        told = "" if verdict == "unchanged" else f"{finding.because(len(findings))}{why}"
        if way.same and isinstance(finding, Paired):
            told = "; ".join(filter(None, (told, finding.images)))
        told = "; ".join(filter(None, (told, counted[key[1], key[0]][key].told)))
        rows[key] = Row(
            key, verdict, finding.old, finding.new, finding.interval, float(p_value),
            held[key[1], key[0]][-1][key].status, after[key].status, implausible, told,
            counted=True, visible=finding.visible(len(findings), tolerance),
            could_fail=finding.could_fail(len(findings)),
        )  # fmt: skip
    return tuple(rows[key] for key in keys)


def _first_look(
    run: Run,
    key: Key,
    olds: Sequence[Entry],
    new: Record | None,
    way: _Way,
    settings: GateSettings,
) -> Row | _Outcomes:
    """The row of one check as far as no statistics are needed, or else its outcomes."""
    old = olds[-1] if olds else None

    def row(verdict: Verdict, detail: str) -> Row:
        return Row(
            key, verdict, None if old is None else accuracy(old),
            None if new is None else accuracy(new),
            old_status=old.status if old else "", new_status=new.status if new else "",
            detail=detail,
        )  # fmt: skip

    decided = by_status(old, new)
    if decided is not None or old is None or new is None:
        return row(*(decided or ("new", "")))
    if asked := differences(way.runs[-1].spec, run.spec, new.check):
        return row("incomparable", asked)
    if new.check.startswith(DIRECTIONLESS):
        return row(*_directionless(old, new, settings))
    try:
        after = outcomes_of(run, new)
    except ValueError as error:
        return row("incomparable", str(error))
    if len(olds) < len(way.runs):
        return row("incomparable", f"only in {len(olds)} of the {len(way.runs)} accepted runs")
    before = [counted for entry in olds if (counted := entry.counted) is not None]
    if after is None or len(before) < len(olds):
        where = "run" if after is None else "baseline"
        return row("incomparable", f"the {where} does not hold the outcome of each image")
    count = len(after.right)
    if other := next((len(one.right) for one in before if len(one.right) != count), 0):
        return row("incomparable", f"{count} images, but {other} in the baseline")
    places = answered_in_all([*before, after])
    if not len(places):
        return row("incomparable", "no image was answered in each run")
    olds_right = [one.right[places] for one in before]
    return _Outcomes(olds_right, after.right[places], places, count - len(places))


def _directionless(old: Entry, new: Record, settings: GateSettings) -> tuple[Verdict, str]:
    """An accuracy of which neither more nor less is better fails only with its threshold."""
    if new.status == "failed" and old.status != "failed":
        return "regressed", f"failed: {new.reason}"
    rise = (accuracy(new) or 0.0) - (accuracy(old) or 0.0)
    if round(abs(rise) - settings.tolerance, 9) <= 0:
        return "unchanged", ""
    return "unchanged", "moved, of which neither up nor down is better"


def _findings(checks: Mapping[Key, _Outcomes], *, spread: bool) -> dict[Key, Finding]:
    """What the outcomes of one model's checks say."""
    if not spread:
        return {key: paired(of.olds[0], of.new, of.places) for key, of in checks.items()}
    # The checks of one model inform each other only if all runs have them.
    found = beside([np.array(of.olds) for of in checks.values()],
                   [of.new for of in checks.values()])  # fmt: skip
    return dict(zip(checks, found, strict=True))


def _judge(
    finding: Finding,
    p_value: float,
    key: Key,
    clean: Finding | None,
    way: _Way,
    tolerance: float,
    improvement: float,
) -> tuple[Verdict, bool, str]:
    """The verdict on one check, whether it is implausible, and what to add to the evidence."""
    epsilon = key[3]
    if p_value > LEVEL or round(abs(finding.rise) - tolerance, 9) <= 0:
        return "unchanged", False, ""
    if finding.rise < 0:
        changed = "; the model is the baseline's, so the measurement changed"
        return "regressed", False, changed if way.same else ""
    certified = keys.is_certified(key[2])
    if way.same:
        what = "the attack is weaker" if epsilon else "the measurement changed"
        what = "the certifier proves more" if certified else what
        return "improved", True, f"; the model is the baseline's, so {what}"
    allowed = improvement + (max(0.0, clean.rise) if clean else 0.0)
    # A proof may well be found for far more images; whether it is one, validity says.
    if epsilon is not None and not certified and finding.rise > allowed:
        beyond = "; a rise beyond {:.1f} points, is the attack broken?"
        return "improved", True, beyond.format(100 * allowed)
    return "improved", False, ""
