"""A piece of a run measured in a worker, which may be another process or another machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from harness.evaluation.benchmark import Benchmark
from harness.evaluation.evaluation import Evaluation
from harness.evaluation.parts import Arrays, Part, Seen
from harness.evaluation.pieces import Piece
from harness.evaluation.store import Finished
from harness.executors import Refused, Stamp, own_stamp, problem
from harness.registry import PLUGINS
from harness.results.recorder import Broken
from harness.spec.spec import Spec


@dataclass(frozen=True)
class Setting:
    """What the pieces of a run have in common.

    Attributes:
        key: Of all this; a worker keeps the models of the last one.
        spec: The benchmark.
        selected: The epsilons that are measured, by backend, model and check.
        together: The backends in use.
        stamp: What the worker has to be like.
        retrain: Train models even if they are stored.
    """

    key: str
    spec: Spec
    selected: Mapping[tuple[str, str, str], Sequence[float]]
    together: tuple[str, ...]
    stamp: Stamp
    retrain: bool = False


_open: dict[str, Benchmark] = {}
"""The benchmark of this worker, by the key of its setting; no more than one."""


def adopt(setting: Setting, benchmark: Benchmark) -> None:
    """Let this process measure pieces with a benchmark that it has opened."""
    _open.clear()
    _open[setting.key] = benchmark


def work(setting: Setting, piece: Piece, seen: Seen) -> tuple[str, Arrays]:
    """Measure a piece.

    Args:
        setting: Of the run.
        piece: The piece.
        seen: What it looks at.

    Returns:
        ``Finished.packed()``.

    Raises:
        Refused: This worker has other versions, other code, or other data.
        HarnessError: Data or model cannot be had.
    """
    anew = setting.retrain and piece.kind == "training"
    return measured(_benchmark(setting, anew), piece, seen).packed()


def _benchmark(setting: Setting, anew: bool) -> Benchmark:
    """The benchmark of a setting; where models are trained anew, one that knows none."""
    key = f"{setting.key} anew" if anew else setting.key
    if key not in _open:
        benchmark = Benchmark(
            setting.spec, selected=setting.selected, together=setting.together, retrain=anew
        )
        mine = own_stamp(setting.stamp.versions, benchmark.dataset.sha256)
        if differs := problem(mine, setting.stamp):
            raise Refused(differs)
        _open.clear()
        _open[key] = benchmark
    return _open[key]


def measured(benchmark: Benchmark, piece: Piece, seen: Seen) -> Finished:
    """What comes of a piece."""
    backend, name = piece.backend, piece.model
    run = benchmark.run.emptied(spec={})
    run.arrays.update(seen.arrays)
    evaluation = benchmark.evaluation_in(run, backend, name, known=seen.known)
    loaded = benchmark.loaded(backend, name)
    before = _queries(loaded.model)
    part = _measure(evaluation, piece)
    # Of parts all is counted where they come together.
    known = run.arrays if part is not None else seen.arrays
    new = {key: array for key, array in run.arrays.items() if key not in known}
    run.arrays.clear()
    run.arrays.update(new)
    whose = (name, backend)
    run.models = [one for one in benchmark.run.models if (one.model, one.backend) == whose]
    run.notes, run.classes = benchmark.run.notes, benchmark.run.classes
    run.versions = benchmark.run.versions | PLUGINS
    after = _queries(loaded.model)
    queries = None if after is None else after - (before or 0)
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Finished(when, run, part, evaluation.recorder.randomised, queries)


def _queries(model: object) -> int | None:
    found: int | None = getattr(model, "queries", None)
    return found


def _measure(evaluation: Evaluation, piece: Piece) -> Part | Broken | None:
    """What came of a part of the images; None where records are in the evaluation's run."""
    _ = evaluation.loaded
    if piece.kind == "clean":
        return evaluation.clean_part(piece.part)
    if piece.kind == "attack":
        return evaluation.attacked_part(piece.name, piece.epsilons, piece.part)
    if piece.kind == "certified":
        return evaluation.certified_part(piece.name, piece.epsilons, piece.part)
    if piece.kind == "minimal":
        return evaluation.smallest_part(piece.name, piece.part)
    if piece.kind == "basis":
        return evaluation.basis()
    if piece.kind == "probed":
        return evaluation.probed(piece.name, piece.part)
    for check in piece.checks:
        _recorded(evaluation, piece, check)()
    return None


def _recorded(evaluation: Evaluation, piece: Piece, check: str) -> Callable[[], object]:
    group, _, rest = check.partition("/")
    if piece.kind == "occluded":
        return lambda: evaluation.occluded(rest)
    if piece.kind == "explained":
        method, _, measure = rest.rpartition("/")
        return lambda: evaluation.explained(method, measure)
    return lambda: evaluation.checked(group, rest)
