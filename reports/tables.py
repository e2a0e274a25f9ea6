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

CONCERNS = ("failed", "error", "skipped")
"""Statuses of what did not pass, in the order in which a reader needs them."""
OCCLUSIONS = {"saliency/least": "Least salient", "saliency/random": "Random",
              "saliency/top": "Most salient"}  # fmt: skip
SANITY = "saliency-sanity/"
LOWER = "lower"
"""The bound that a certified accuracy is; those under attack are upper ones."""
NUMBERS = ("epsilon", "accuracy", "ci_low", "ci_high", "forwards", "backwards")
KEY = ["model", "backend", "check", "epsilon"]


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


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """The rows of a table, with its columns as attributes."""
    return list(frame.itertuples())
