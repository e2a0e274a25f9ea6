"""What a run says, as tables: pandas frames, and a few small rows made of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.results.records import ModelInfo
from harness.results.run import Run
from reports.stored import Pair

STATUSES = ("failed", "error", "skipped", "passed", "measured")
"""Statuses in the order in which a reader needs them."""
CONCERNS = ("failed", "error", "skipped")
OCCLUSIONS = {"saliency/least": "Least salient", "saliency/random": "Random",
              "saliency/top": "Most salient"}  # fmt: skip
SANITY = "saliency-sanity/"
LOWER = "lower"
"""The bound that a certified accuracy is; those under attack are upper ones."""
NUMBERS = ("epsilon", "accuracy", "ci_low", "ci_high", "forwards", "backwards")
KEY = ["model", "backend", "check", "epsilon"]


@dataclass(frozen=True)
class Concern:
    """Checks that did not pass, for one and the same reason."""

    status: str
    reason: str
    checks: list[str]


@dataclass(frozen=True)
class KeyFigures:
    """A pair's headline measurements, as rows of the table of measurements.

    Attributes:
        pair: Which model.
        clean: On the images as they are.
        attacked: Under the first attack, at the headline epsilon.
        lowest: Under the attack that left the fewest correct at that epsilon.
        certified: By the certifier that certified the most at that epsilon.
    """

    pair: Pair
    clean: Any | None
    attacked: Any | None
    lowest: Any | None
    certified: Any | None = None


@dataclass(frozen=True)
class Grid:
    """Measurements by row and pair: ``cells[row, pair]`` where there is one."""

    rows: list[Any]
    pairs: list[Pair]
    cells: dict[tuple[Any, Pair], Any]


def measurements(run: Run) -> pd.DataFrame:
    """The records as a table with their labels; of records that share a key, the last."""
    frame: pd.DataFrame = run.frame().astype(dict.fromkeys(NUMBERS, float))
    frame["label"] = [record.label for record in run.records]
    latest: pd.DataFrame = frame[~frame.duplicated(KEY, keep="last")]
    return latest


def status_counts(frame: pd.DataFrame) -> list[tuple[str, int]]:
    """How many checks have each status that occurs."""
    counts = frame["status"].value_counts()
    return [(status, int(counts[status])) for status in STATUSES if status in counts]


def verdict_reasons(run: Run, frame: pd.DataFrame) -> list[str]:
    """Sentences that say why the verdict is what it is."""
    counts = dict(status_counts(frame))
    if run.verdict == "passed":
        # Of all records, as the verdict; the table has the last of those that share a key.
        passed = sum(record.status == "passed" for record in run.records)
        left_out = f" {counts['skipped']} skipped." if "skipped" in counts else ""
        return [f"All judged checks passed: {passed}.{left_out}"]
    if run.verdict == "measured":
        measured = sum(record.total is not None for record in run.records)
        passed = counts.get("passed", 0)
        many = "1 accuracy" if measured == 1 else f"{measured} accuracies"
        rest = f" {passed} other check{'s' if passed > 1 else ''} passed." if passed else ""
        return [f"Measured, not judged: {many}; no expectations were given.{rest}"]
    reasons = []
    if not run.finished:
        reasons.append("The run did not finish, so checks may be missing.")
    if not counts:
        reasons.append("No check was recorded.")
    elif "passed" not in counts:
        reasons.append("No check passed.")
    if bad := counts.get("failed", 0):
        reasons.append(f"{bad} check{'s' if bad > 1 else ''} failed.")
    if broken := counts.get("error", 0):
        reasons.append(f"{broken} check{'s' if broken > 1 else ''} broke with an error.")
    return reasons


def concerns(frame: pd.DataFrame) -> list[Concern]:
    """Checks that failed, broke or were skipped, those of one reason together."""
    return [
        Concern(status, str(reason), part["label"].tolist())
        for status in CONCERNS
        for reason, part in frame[frame["status"] == status].groupby("reason", sort=False)
    ]


def attacks(frame: pd.DataFrame) -> pd.DataFrame:
    """The accuracies under attack: upper bounds on robust accuracy."""
    measured = frame.dropna(subset=["epsilon", "accuracy"])
    rows: pd.DataFrame = measured[measured["bound"] != LOWER]
    return rows


def certificates(frame: pd.DataFrame) -> pd.DataFrame:
    """The certified accuracies: lower bounds on robust accuracy."""
    measured = frame.dropna(subset=["epsilon", "accuracy"])
    rows: pd.DataFrame = measured[measured["bound"] == LOWER]
    return rows


def sweeps(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The measured accuracies of each attack, by rising epsilon; ``fgsm`` first, then L∞ ones."""
    measured = attacks(frame)
    found = {
        str(check): part.sort_values("epsilon", kind="stable")
        for check, part in measured.groupby("check", sort=False)
    }
    return dict(
        sorted(
            found.items(), key=lambda item: (item[0] != "fgsm", item[1]["norm"].iloc[0] != "linf")
        )
    )


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """The accuracies under attacks of one norm: L∞, or L2 where nothing else was measured."""
    measured = attacks(frame)
    attacked = measured[measured["epsilon"] > 0]
    norm = "linf" if (attacked["norm"] == "linf").any() else "l2"
    found: pd.DataFrame = attacked[attacked["norm"] == norm]
    return found


def accuracies(frame: pd.DataFrame) -> pd.DataFrame:
    """Clean accuracies, those under attack, and certified ones."""
    about = (frame["check"] == "clean") | frame["epsilon"].notna()
    rows: pd.DataFrame = frame[about & frame["accuracy"].notna()]
    return rows


def headline_epsilon(frame: pd.DataFrame) -> float | None:
    """The radius above zero at which the most attacks were measured, of several the middle one.

    Of two middle ones the smaller. The attacks are those that are ``comparable``.
    """
    attacks = comparable(frame).groupby("epsilon")["check"].nunique()
    if attacks.empty:
        return None
    return float(statistics.median_low(attacks.index[attacks == attacks.max()].tolist()))


def key_figures(
    frame: pd.DataFrame, order: Sequence[Pair], attack: str | None, epsilon: float | None
) -> list[KeyFigures]:
    """Each pair's clean accuracy, and those under the attack and under the strongest."""
    measured = frame.dropna(subset=["accuracy"])
    clean = by_pair(measured[measured["check"] == "clean"])
    at = comparable(frame)
    at = at[at["epsilon"] == epsilon]
    attacked = by_pair(at[at["check"] == attack])
    # The last in order stays, so the lowest comes last.
    lowest = by_pair(at.sort_values("accuracy", ascending=False, kind="stable"))
    sure = certificates(frame)
    sure = sure[(sure["epsilon"] == epsilon) & sure["norm"].isin(at["norm"])]
    certified = by_pair(sure.sort_values("accuracy", kind="stable"))
    return [
        KeyFigures(pair, clean.get(pair), attacked.get(pair), lowest.get(pair), certified.get(pair))
        for pair in order
        if pair in clean or pair in attacked
    ]


def by_pair(frame: pd.DataFrame) -> dict[Pair, Any]:
    """The rows of a table of measurements that holds one per pair."""
    return {Pair(row.backend, row.model): row for row in rows_of(frame)}


def of_pair(frame: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """The measurements of one pair."""
    rows: pd.DataFrame = frame[(frame["backend"] == pair.backend) & (frame["model"] == pair.model)]
    return rows


def grid(frame: pd.DataFrame, order: Sequence[Pair], rows: str) -> Grid:
    """Measurements arranged by a column and by pair."""
    cells = {(getattr(row, rows), Pair(row.backend, row.model)): row for row in rows_of(frame)}
    found = {pair for _, pair in cells}
    return Grid(
        rows=list(dict.fromkeys(key for key, _ in cells)),
        pairs=[pair for pair in order if pair in found],
        cells=cells,
    )


def judged(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Judged measurements that are about an accuracy, about validity, and about something else.

    A check that was skipped or broke before it had an accuracy is in none: it is a concern. Those
    of saliency maps have a table of their own.
    """
    names = frame["check"].astype(str)
    rows = frame[(frame["status"] != "measured") & ~names.str.startswith(SANITY)]
    names = rows["check"].astype(str)
    validity = names.str.startswith("validity/")
    about_accuracy = rows["accuracy"].notna() | rows["threshold"].notna()
    decided = rows["status"].isin(["passed", "failed"])
    other = ~about_accuracy & ~validity & (names.str.startswith("conformance/") | decided)
    return rows[about_accuracy], rows[validity], rows[other]


def meanings() -> dict[str, str]:
    """What each check of validity and conformance asks, by its name in the records."""
    from harness.checks import conformance, validity

    checks: dict[str, Callable[..., object]]
    checks = {f"conformance/{rule}": check for rule, check in conformance.OWN.items()}
    checks |= {f"validity/{rule}": check for rule, check in validity.OWN.items()}
    return {name: asks(check) for name, check in checks.items()}


def asks(check: Callable[..., object] | None) -> str:
    """What a check asks: the first line of its documentation; nothing of one that is not known."""
    return ((check.__doc__ if check else "") or "").partition("\n")[0]


def occlusion(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracies after occluding pixels, from least to most salient."""
    measured = frame[frame["accuracy"].notna()]
    rows: pd.DataFrame = pd.concat([measured[measured["check"] == check] for check in OCCLUSIONS])
    return rows


def origins(run: Run) -> pd.DataFrame:
    """Where each model came from, a row each."""
    rows = (
        {
            "label": Pair(model.backend, model.model).label,
            "origin": _origin(model),
            "epochs": len(model.history),
            "best_epoch": model.best_epoch,
            "seconds": sum(epoch.seconds for epoch in model.history),
            "fingerprint": model.fingerprint,
        }
        for model in run.models
    )
    frame: pd.DataFrame = pd.DataFrame(rows)
    return frame


def taken_over(run: Run) -> pd.DataFrame:
    """Measurements that are older than the run, which an earlier call made: a row a model."""
    found: dict[Pair, dict[str, str]] = {}
    for record in run.records:
        if record.measured is not None and record.measured < run.created:
            found.setdefault(Pair(record.backend, record.model), {})[record.check] = record.measured
    frame: pd.DataFrame = pd.DataFrame(
        {
            "label": pair.label,
            "first": min(checks.values()),
            "last": max(checks.values()),
            "checks": ", ".join(checks),
            "all": not any(
                record.check not in checks for record in run.records
                if (record.backend, record.model) == pair
            ),
        }
        for pair, checks in found.items()
    )  # fmt: skip
    return frame


def _origin(model: ModelInfo) -> str:
    if not model.history and not model.cached and model.best_epoch == 0:
        return "not trained by the harness"
    return "loaded from the cache" if model.cached else "trained in this run"


def per_pair(frame: pd.DataFrame, order: Sequence[Pair]) -> list[tuple[Pair, list[Any]]]:
    """The rows of a table of measurements, those of a pair together."""
    rows = rows_of(frame)
    together = ((p, [row for row in rows if (row.backend, row.model) == p]) for p in order)
    return [(pair, found) for pair, found in together if found]


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """The rows of a table, with its columns as attributes."""
    return list(frame.itertuples())
