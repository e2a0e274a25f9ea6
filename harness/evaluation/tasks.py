"""A spec as independent pieces of work for any executor: measured once, stored, and joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from harness.checks.validity import Basis, Known, Probed
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.evaluation import Evaluation
from harness.evaluation.identity import Identities
from harness.evaluation.parts import Seen
from harness.evaluation.pieces import (
    COUNTED,
    ONLY_SEEN,
    Piece,
    Wanted,
    grouped,
    in_parts,
    longest_first,
    looked_at,
    measurements,
)
from harness.evaluation.store import Finished, Store
from harness.evaluation.working import Setting, work
from harness.executors import Done, Job, Lost, Stamp, Workers, completed
from harness.progress import progress_bar
from harness.results.recorder import Broken
from harness.results.run import Run


@dataclass(frozen=True)
class Outcome:
    """What came of the pieces of a run.

    Attributes:
        finished: By the piece.
        lost: Why others are without a result.
        stored: Those that were found in the store.
    """

    finished: dict[Piece, Finished]
    lost: dict[Piece, str]
    stored: frozenset[Piece] = frozenset()


class Tasks:
    """The pieces of what is wanted of a benchmark.

    Args:
        benchmark: What is measured. Its models are not loaded.
        wanted: The records that are asked for, in the order in which they are to stand in the run.
        store: Where finished pieces are kept.
        parts: In how many parts each measurement is cut; as seems good if None.
        retrain: Train models even if they are stored.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        wanted: Sequence[Wanted],
        store: Store,
        *,
        parts: int | None = None,
        retrain: bool = False,
    ) -> None:
        self.benchmark, self.wanted, self.store = benchmark, wanted, store
        self._retrain = retrain
        measures, trained = benchmark.measures, benchmark.spec.trained
        whole = measurements(wanted, measures)
        pairs = dict.fromkeys((one.backend, one.model) for one in whole)
        self.backends = tuple(dict.fromkeys(backend for backend, _ in pairs))
        trainings = [Piece(b, m, "training") for b, m in pairs if m in trained]
        x = benchmark.dataset.test.x
        self.pieces = trainings + [
            part for one in whole
            for part in in_parts(
                one, measures, x,
                built=one.model in trained, batch=benchmark.spec.batch_size, parts=parts,
            )
        ]  # fmt: skip
        self._of: dict[tuple[str, str], list[Piece]] = {}
        for piece in self.pieces:
            self._of.setdefault((piece.backend, piece.model), []).append(piece)
        self._identities = Identities(benchmark, self.backends)
        self._keys: dict[Piece, str] = {}
        for piece in self.pieces:
            self.key(piece)

    @property
    def stamp(self) -> Stamp:
        """What workers have to be like."""
        return self._identities.stamp

    def found(self) -> Outcome:
        """What is in the store."""
        stored = {piece: self.store.find(key) for piece, key in self._keys.items()}
        finished = {piece: one for piece, one in stored.items() if one is not None}
        return Outcome(finished, {}, frozenset(finished))

    def measured(
        self,
        workers: Workers,
        outcome: Outcome,
        shown: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Measure what is not in the store, and keep each piece when it is finished.

        Args:
            workers: What measures.
            outcome: What was found; what is measured is added to it, piece by piece.
            shown: Entered around all that; a host that captures output lets the bar through.

        Raises:
            HarnessError: A worker cannot be had.
        """
        lacking = self._lacking(outcome)
        ordered = longest_first(lacking, self.benchmark.measures)
        by_key = {self._keys[piece]: piece for piece in ordered}
        jobs = [self._job(piece, outcome) for piece in ordered]
        title = f"measuring {self.benchmark.spec.name}"
        done = len(self.pieces) - len(lacking)
        with shown(), progress_bar(title, len(self.pieces), done) as advance:
            for ended in completed(workers, jobs):
                piece = by_key[ended.key]
                self._take(outcome, piece, ended)
                advance(piece.label)

    def key(self, piece: Piece) -> str:
        """The key of a piece, after those of what it looks at."""
        if piece not in self._keys:
            seen = [self.key(one) for one in self._seen(piece)]
            self._keys[piece] = self._identities.key(piece, seen)
        return self._keys[piece]

    def _lacking(self, outcome: Outcome) -> list[Piece]:
        """What is to be measured: of what others look at no more than these need."""
        there = outcome.finished
        waiting = [one for one in self.pieces if one.kind not in ("training", *ONLY_SEEN)]
        needed = {one for one in waiting if one not in there}
        for _ in ONLY_SEEN:  # the one looks at the other
            needed |= {one for piece in needed for one in self._seen(piece) if one not in there}
        # What is stored of a model needs no training to be there.
        busy = {(one.backend, one.model) for one in needed}
        return [
            one for one in self.pieces
            if one in needed
            or (one.kind == "training" and (one.backend, one.model) in busy and one not in there)
        ]  # fmt: skip

    def _job(self, piece: Piece, outcome: Outcome) -> Job:
        seen = self._seen(piece)
        # A model is trained before anything is measured of it.
        training = [one for one in self._of[piece.backend, piece.model] if one.kind == "training"]
        needs = [
            self._keys[one] for one in (*training, *seen)
            if one != piece and one not in outcome.finished
        ]  # fmt: skip

        def call() -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return work, (self.setting, piece, self._known(piece, seen, outcome))

        return Job(self._keys[piece], tuple(needs), call)

    def _take(self, outcome: Outcome, piece: Piece, ended: Done | Lost) -> None:
        if isinstance(ended, Lost):
            outcome.lost[piece] = ended.reason
            return
        text, arrays = ended.value
        finished = Finished.unpacked(text, arrays)
        broke = isinstance(finished.part, Broken) and finished.part.status == "error"
        if not broke and self._identities.known(piece):
            self.store.put(ended.key, text, arrays)
        outcome.finished[piece] = finished

    def put_into(self, run: Run, outcome: Outcome) -> None:
        """Make a run hold what there is, in the order of the wanted, in place of all it held."""
        run.records, run.timings = [], []
        for pieces in self._of.values():
            self._put(run, pieces, outcome)
        order = self._order()
        last = len(order)
        run.records.sort(key=lambda r: order.get((r.backend, r.model, r.check), last))

    def _order(self) -> dict[tuple[str, str, str], int]:
        """The place of each record: its own of a check, else that of the first of its piece."""
        places: dict[tuple[str, str, str], int] = {}
        for place, one in enumerate(self.wanted):
            places.setdefault((one.backend, one.model, one.check), place)
        for whole, _ in grouped(self.pieces):
            together = [(whole.backend, whole.model, check) for check in whole.checks]
            if whole.kind != "suite" and together:
                places |= dict.fromkeys(together, min(places[one] for one in together))
        return places

    def _put(self, run: Run, pieces: Sequence[Piece], outcome: Outcome) -> None:
        """What there is of one model."""
        backend, model = pieces[0].backend, pieces[0].model
        found = [outcome.finished[piece] for piece in pieces if piece in outcome.finished]
        for one in found:
            run.versions |= one.run.versions
            run.notes += [note for note in one.run.notes if note not in run.notes]
            run.classes = run.classes or one.run.classes
        evaluation = self.benchmark.evaluation_in(run, backend, model)
        evaluation.recorder.randomised = any(one.randomised for one in found)
        for whole, parts in grouped(pieces):
            before = len(run.records)
            self._count(evaluation, whole, parts, outcome)
            made = [outcome.finished[part].when for part in parts if part in outcome.finished]
            when = {"measured": max(made, default=None)}
            run.records[before:] = [one.model_copy(update=when) for one in run.records[before:]]
        if infos := [info for one in found for info in one.run.models]:
            asked = [one.queries for one in found if one.queries is not None]
            queries = {"queries": sum(asked)} if asked else {}
            now = [one for piece, one in outcome.finished.items() if piece not in outcome.stored]
            mine = [info for one in now for info in one.run.models if info.key == infos[0].key]
            trained = any(not info.cached for info in mine)
            run.put_model(infos[0].model_copy(update=queries | {"cached": not trained}))

    def _count(
        self, evaluation: Evaluation, whole: Piece, parts: Sequence[Piece], outcome: Outcome
    ) -> None:
        """Records of one measurement, once all its parts are there."""
        if whole.kind in ONLY_SEEN:
            return
        if not all(part in outcome.finished or part in outcome.lost for part in parts):
            return
        lost = [outcome.lost[part] for part in parts if part in outcome.lost]
        if whole.kind in COUNTED:
            made: list[Any] = [Broken("error", lost[0])] if lost else [
                outcome.finished[part].part for part in parts
            ]  # fmt: skip
            _record(evaluation, whole, made)
        elif lost:
            for check in whole.checks:
                evaluation.recorder.broken(check, Broken("error", lost[0]))
        else:
            _absorb(evaluation, outcome.finished[parts[0]].run)

    def _known(self, piece: Piece, seen: Sequence[Piece], outcome: Outcome) -> Seen:
        """What a piece looks at."""
        counted = [one for one in seen if one.kind in COUNTED]
        if not counted:
            return Seen(known=_asked_already(seen, outcome))
        run = self.benchmark.run.emptied()
        self._put(run, counted, outcome)
        begin = f"{piece.backend}/{piece.model}/"
        ends = ("/predictions", "/certified")
        arrays = {
            key: array for key, array in run.arrays.items()
            if key.startswith(begin)
            and (key.endswith(ends) or key.startswith(f"{begin}minimal-epsilon/"))
            and "/extremes/" not in key
        }  # fmt: skip
        return Seen(arrays, _asked_already(seen, outcome))

    def _seen(self, piece: Piece) -> list[Piece]:
        """The pieces at whose outcome one looks."""
        return looked_at(piece, self._of[piece.backend, piece.model])

    @property
    def setting(self) -> Setting:
        """What the pieces have in common."""
        stamp, benchmark = self._identities.stamp, self.benchmark
        return Setting(
            key=f"{benchmark.spec.sha256} {stamp} {benchmark.selected}",
            spec=benchmark.spec,
            selected=benchmark.selected,
            together=self.backends,
            stamp=stamp,
            retrain=self._retrain,
        )


def _record(evaluation: Evaluation, whole: Piece, parts: list[Any]) -> None:
    """Records of a measurement of all its parts."""
    counting, measures = evaluation.counting, evaluation.measures
    if whole.kind == "clean":
        counting.take_clean(parts)
        if whole.checks:
            counting.clean()
    elif whole.kind == "attack":
        clean = counting.predicted
        given = [clean] if isinstance(clean, Broken) else parts
        counting.attacked(measures.sweeps[whole.name].attack, whole.epsilons, given)
    elif whole.kind == "certified":
        counting.certified(measures.certified[whole.name].certifier, whole.epsilons, parts)
    else:
        counting.smallest(whole.name, parts)


def _absorb(evaluation: Evaluation, part: Run) -> None:
    """Take over what a worker has recorded."""
    run = evaluation.recorder.run
    for record in part.records:
        run.put(record)
    run.timings += part.timings
    evaluation.recorder.take(part.arrays)


def _asked_already(seen: Sequence[Piece], outcome: Outcome) -> Known:
    """What the checks of validity need not ask again; what was lost they ask themselves."""
    basis: Basis | None = None
    probed: dict[str, list[Probed]] = {}
    for whole, parts in grouped(seen):
        found = [outcome.finished[part].part for part in parts if part in outcome.finished]
        if whole.kind == "basis" and found and isinstance(found[0], Basis):
            basis = found[0]
        lots = [one for one in found if isinstance(one, Probed)]
        if whole.kind == "probed" and len(lots) == len(parts):
            probed[whole.name] = lots
    return Known(basis, probed)
