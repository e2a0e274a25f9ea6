"""The study that the workers of a search share: who evaluates which point, each one once.

Optuna's GridSampler says what the points are, and its database keeps what became of them. Two
things must be added so that no point is evaluated twice.

- Optuna hands a waiting trial to a worker in a transaction that reads it FOR UPDATE, which SQLite
  ignores: three workers that took 60 trials got 72. So here a transaction of SQLite takes the
  lock for writing when it begins.
- A worker that was killed leaves a trial running. It is failed, which only one worker can do and
  which is final, and its point gets another trial. Should several be added, the first one that is
  not dead holds the point, and whoever took another lets go of it.
"""

from __future__ import annotations

import socket
import sqlite3
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import GridSampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event, make_url
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import HarnessError, one_line

HEARTBEAT, GRACE = 10, 60
"""Seconds between two signs of life, and seconds of silence after which a worker is dead."""
SIGNED = 10
"""Seconds in which a worker that took a trial has put its name to it, if it lives."""
POLL = 0.2
"""Seconds between two looks at what the others do."""
LOCK_WAIT = 60
"""Seconds that a worker waits for its turn to write to an SQLite file."""

Choices: TypeAlias = Mapping[str, Sequence[str | int | float]]
Evaluate: TypeAlias = Callable[[optuna.Trial, bool], float]


OPTUNAS = {"studies", "trials", "version_info"}
"""Tables by which a database of Optuna is identified."""
DAMAGED = (LookupError, ValueError, TypeError, AttributeError, RuntimeError)
"""What Optuna raises of a database whose tables hold something else than it wrote."""


class SearchError(HarnessError):
    """A search whose storage cannot be used, or that found nothing."""


class _TakenError(Exception):
    """The point of a trial is another worker's."""


class _Grid(GridSampler):
    """The grid. That a point's trial ended does not end the search: its worker may have died."""

    def after_trial(self, *_: object) -> None:
        """Leave it to ``SharedStudy`` to say when the search is over."""


class SharedStudy:
    """The points of a search in a database, as one worker sees them.

    Point ``number`` of the grid is that of the trial of this number. There may be one point more,
    which is not on the grid.

    Args:
        url: A database, as SQLAlchemy names it.
        name: Name of the study; the same for all that search the same.
        choices: The values of each parameter.
        seed: Seed of the order of the points.
        extra: Whether there is a point more.
        warm_up: Epochs in which no trial is pruned.

    Raises:
        SearchError: The database cannot be used.
    """

    def __init__(
        self, url: str, name: str, choices: Choices, *, seed: int, extra: bool, warm_up: int
    ) -> None:
        self.url = url
        self.choices = {key: list(values) for key, values in choices.items()}
        self.grid_size = 1
        for values in self.choices.values():
            self.grid_size *= len(values)
        self.size = self.grid_size + extra
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with explained(url, *DAMAGED):
            self.storage = _open(url)
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=name,
                direction="maximize",
                sampler=_Grid(self.choices, seed=seed),
                pruner=optuna.pruners.MedianPruner(n_warmup_steps=warm_up),
                load_if_exists=True,
            )
            if self.study.directions != [optuna.study.StudyDirection.MAXIMIZE]:
                # Every score would be refused, and its point be taken again and again.
                raise ValueError(f"the study {name} does not maximise one score")
            # One trial too many, where two begin at the same time, has no point and no effect.
            while len(self._trials()) < self.size:
                self.study.add_trial(create_trial(state=TrialState.WAITING))
        self._first_seen: dict[int, float] = {}
        self._lost = False
        self._stale_locks: set[Path] = set()

    def work(
        self,
        evaluate: Evaluate,
        *,
        catch: tuple[type[Exception], ...],
        stay: bool,
        report: Callable[[int], None],
    ) -> None:
        """Evaluate points until none is left to take.

        Args:
            evaluate: Gives the score of a trial, or raises ``optuna.TrialPruned``; it is told
                whether the point is on the grid.
            catch: What it may raise besides, to fail the trial.
            stay: Whether to wait for the points of others, and take over those of the dead.
            report: Told now and then how many points are settled; what it raises ends the work.

        Raises:
            SearchError: The database cannot be used any more.
        """
        with explained(self.url), _sign_of_life() as worker:
            objective = partial(self._objective, evaluate, worker)
            while True:
                with explained(self.url, *DAMAGED):
                    self._reopen()
                holders = self.holders()
                report(sum(map(settled, holders.values())))
                states = {trial.state for trial in holders.values()}
                if TrialState.WAITING in states:
                    self._take(objective, (*catch, _TakenError))
                elif stay and not all(map(settled, holders.values())):
                    time.sleep(POLL)
                else:
                    return

    def holders(self) -> dict[int, FrozenTrial]:
        """The trial that counts of each point: the first one that is not dead."""
        found: dict[int, FrozenTrial] = {}
        with explained(self.url, *DAMAGED):
            for trial in self._trials():
                point = self._point(trial)
                if point is not None and not _dead(trial):
                    found.setdefault(point, trial)
        return found

    def _take(
        self, objective: Callable[[optuna.Trial], float], catch: tuple[type[Exception], ...]
    ) -> None:
        try:
            self.study.optimize(objective, n_trials=1, catch=catch)
        except ValueError:  # that of Optuna when the trial has ended already
            if not self._lost:
                raise
            self._lost = False

    def _objective(self, evaluate: Evaluate, worker: dict[str, str], trial: optuna.Trial) -> float:
        try:
            # Before the worker's name, since a trial that has one is judged by its signs of life.
            self.storage.record_heartbeat(trial._trial_id)
            trial.set_user_attr("worker", worker)
            points = {holder.number: point for point, holder in self.holders().items()}
            if trial.number not in points:
                raise _TakenError
            return evaluate(trial, points[trial.number] < self.grid_size)
        except UpdateFinishedTrialError as error:
            # Others took this worker for dead, say because the machine was asleep.
            self._lost = True
            raise _TakenError from error

    def _reopen(self) -> None:
        """Fail the trials of dead workers, and let their points be taken again."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self.study)
        for trial in self._trials():
            if trial.state == TrialState.RUNNING and self._abandoned(trial):
                try:
                    self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                except UpdateFinishedTrialError:
                    continue  # another worker was faster
        # Not before their trials have failed: without its lock a worker's death is not known.
        while self._stale_locks:
            self._stale_locks.pop().unlink(missing_ok=True)
        for point in set(range(self.size)) - set(self.holders()):
            on_grid = {"grid_id": point, "search_space": self.choices}
            self.study.add_trial(
                create_trial(
                    state=TrialState.WAITING,
                    user_attrs={"point": point},
                    # What GridSampler itself notes down when it gives a trial its point.
                    system_attrs=on_grid if point < self.grid_size else {},
                )
            )

    def _abandoned(self, trial: FrozenTrial) -> bool:
        """Whether a running trial's worker is known to be dead; Optuna watches other machines."""
        worker = trial.user_attrs.get("worker")
        if worker is None:
            seen = self._first_seen.setdefault(trial.number, time.monotonic())
            return time.monotonic() - seen > SIGNED
        if worker["host"] != socket.gethostname() or not _is_free(_lock_path(worker)):
            return False
        self._stale_locks.add(_lock_path(worker))
        return True

    def _point(self, trial: FrozenTrial) -> int | None:
        point = trial.user_attrs.get("point", trial.number)
        return point if point < self.size else None

    def _trials(self) -> list[FrozenTrial]:
        return sorted(self.study.get_trials(deepcopy=False), key=lambda trial: trial.number)


def settled(trial: FrozenTrial) -> bool:
    """Whether a trial that holds its point has ended, so that the point is done."""
    return trial.state.is_finished()


def shown(url: str) -> str:
    """A database's URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "URL"  # what cannot be read may still hold a password


def _dead(trial: FrozenTrial) -> bool:
    """Whether a trial came to no result. One that diverged did, and has a reason."""
    reason = trial.user_attrs.get("result", {}).get("reason")
    return trial.state == TrialState.FAIL and not reason


@contextmanager
def _sign_of_life() -> Iterator[dict[str, str]]:
    """Hold a lock that the system frees when this process ends, in whatever way."""
    worker = {"host": socket.gethostname(), "lock": uuid.uuid4().hex}
    path = _lock_path(worker)
    with FileLock(path):
        yield worker
    # After an exception it stays, and tells the others that nobody holds it any more.
    path.unlink(missing_ok=True)


def _lock_path(worker: Mapping[str, str]) -> Path:
    """Where a worker's lock is on its machine; nothing but its name is taken from a database."""
    return Path(tempfile.gettempdir()) / f"harness-search-{Path(worker['lock']).name}.lock"


def _is_free(lock: Path) -> bool:
    """Whether a lock is there and held by nobody; False if that cannot be known."""
    if not lock.exists():
        return False  # of another machine of the same name
    try:
        with FileLock(lock, timeout=0):
            return True
    except OSError:  # held (a timeout is one too), or another user's
        return False


def _open(url: str) -> RDBStorage:
    """Connect to a database, and make Optuna's tables if they are not there."""
    address = make_url(url)
    is_sqlite = address.get_backend_name() == "sqlite"
    if is_sqlite and address.database in (None, "", ":memory:"):
        raise SearchError(
            f"storage {shown(url)}: is not on disk; name a file, as in sqlite:///FILE"
        )
    if is_sqlite and not str(address.database).startswith("file:"):
        _check_sqlite(Path(str(address.database)), url)
    arguments = {"timeout": LOCK_WAIT, "isolation_level": None} if is_sqlite else {}
    for last in (False, False, False, True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                storage = RDBStorage(
                    url.replace("{", "{{").replace("}", "}}"),  # Optuna takes it for a template
                    engine_kwargs={"connect_args": arguments},
                    heartbeat_interval=HEARTBEAT,
                    grace_period=GRACE,
                )
            break
        except ImportError as error:
            raise _unusable(url, error.__cause__ or error) from error
        except SQLAlchemyError as error:
            # Two that begin at the same time make the same tables.
            if last or not _names_a_conflict(error):
                raise
            time.sleep(POLL)
    if is_sqlite:
        event.listen(storage.engine, "begin", lambda link: link.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def _check_sqlite(path: Path, url: str) -> None:
    """Leave a file alone that is damaged, or somebody else's.

    Raises:
        SearchError: It is.
    """
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return
    try:
        # Opened for writing, since a killed worker may have left a transaction to be undone.
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=LOCK_WAIT)
        ) as link:
            (health,) = link.execute("PRAGMA quick_check(1)").fetchone()
            tables = _tables(link)
            for _ in range(10):  # while another process makes them
                if not tables or tables >= OPTUNAS:
                    break
                time.sleep(POLL)
                tables = _tables(link)
    except (sqlite3.Error, ValueError) as error:  # the latter of a name that is no Unicode
        raise _unusable(url, error) from error
    if health != "ok":
        raise SearchError(
            f"storage {shown(url)}: is damaged ({one_line(health)}); restore it, or remove it to "
            "begin anew"
        )
    if tables and not tables >= OPTUNAS:
        raise SearchError(
            f"storage {shown(url)}: is another program's database, with a table {min(tables)}; "
            "name another file"
        )


def _tables(link: sqlite3.Connection) -> set[str]:
    asked = "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 6) != 'sqlite'"
    return {name for (name,) in link.execute(asked)}


def _names_a_conflict(error: SQLAlchemyError) -> bool:
    return any(words in str(error).lower() for words in ("already exists", "unique", "duplicate"))


@contextmanager
def explained(url: str, *more: type[Exception]) -> Iterator[None]:
    """Turn what databases raise into one line, and what else is named."""
    kinds: tuple[type[Exception], ...] = (SQLAlchemyError, StorageInternalError, *more)
    try:
        yield
    except kinds as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        raise _unusable(url, getattr(cause, "orig", None) or cause or error) from error


def _unusable(url: str, cause: BaseException) -> SearchError:
    return SearchError(
        f"storage {shown(url)}: cannot be used ({one_line(cause)}); check the URL, and that the "
        "database can be reached and its driver is installed"
    )
