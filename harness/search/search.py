"""Grid search over a spec's grid: which recipe does best on the validation images."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

from harness import registry
from harness.attacks import make_attack
from harness.attacks.sweep import sweep
from harness.data import Part, load_dataset
from harness.errors import BackendError, MeasurementError, SpecError
from harness.files import check_folder, fingerprint
from harness.maths.query import correct_count
from harness.networks.families import ImageKind, architecture_of, options_for
from harness.networks.initial import initial_weights
from harness.progress import progress_bar, quiet
from harness.protocol import Bounds, Builder, Model, Network, Optimizer, Wrapping
from harness.results.provenance import installed_version
from harness.results.records import Epoch
from harness.results.search import BEST, SCHEMA, Parameters, SearchResult, SearchTrial, write_best
from harness.search.study import DAMAGED, SearchError, SharedStudy, explained
from harness.spec.grid import GridSpec
from harness.spec.models import ModelSpec
from harness.spec.spec import Spec
from harness.training.loop import TrainingError, train

STATES: dict[TrialState, Literal["complete", "pruned", "failed"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
DIVERGED = (TrainingError, MeasurementError)


@dataclass(frozen=True)
class Search:
    """What is searched, on which images. There are no test images in it.

    Attributes:
        spec: The spec.
        grid: Its grid.
        model: Name of the model whose recipe is searched.
        backend: What trains.
        training: The images to train on, as many as the grid wants.
        validation: The images that trials are compared by.
        images: What a network is to classify.
        bounds: Lowest and highest pixel value.
        data_sha256: Hash of all the data.
    """

    spec: Spec
    grid: GridSpec
    model: str
    backend: Builder
    training: Part
    validation: Part
    images: ImageKind
    bounds: Bounds
    data_sha256: str

    @classmethod
    def prepare(cls, spec: Spec, backend: str) -> Search:
        """Load what a search needs.

        Raises:
            SpecError: The spec has no grid, or one that wants more images than there are.
            BackendError: The backend cannot be used here.
            DataError: The data cannot be loaded.
        """
        grid = spec.grid
        if grid is None:
            raise SpecError(
                f"grid: the spec {spec.name} has no [grid]; suites/specs/digits.toml shows one"
            )
        data = load_dataset(spec.data, spec.home)
        train, validation = data.fitted()
        images = grid.images or len(train)
        if images > len(train):
            raise SpecError(
                f"grid.images: {images}, but {spec.name} has {len(train)} training images"
            )
        # Training images are in random order, so that the first are a fair sample.
        return cls(
            spec=spec,
            grid=grid,
            model=grid.model or next(iter(spec.trained)),
            backend=registry.builder(backend),
            training=Part(x=train.x[:images], y=train.y[:images], index=train.index[:images]),
            validation=validation,
            images=ImageKind.of(data.input_shape, len(data.classes), data.channel_axis),
            bounds=data.bounds,
            data_sha256=data.sha256,
        )

    @property
    def wanted(self) -> ModelSpec:
        """The model as the spec has it, with all options of its architecture."""
        said = self.spec.trained[self.model]
        return said.model_copy(update=dict(options_for(said.architecture, said.options)))

    @property
    def recipe(self) -> ModelSpec:
        """The same in the grid's setting."""
        model = self.wanted
        epochs = self.grid.epochs or model.training.epochs
        training = model.training.model_copy(update={"epochs": epochs})
        return model.model_copy(update={"training": training})

    @property
    def default(self) -> Parameters:
        """The spec's own values of the searched parameters."""
        said = self.recipe.options | dict(self.recipe.training)
        return Parameters(**{key: said[key] for key in self.grid.values})

    @property
    def choices(self) -> dict[str, list[str | int | float]]:
        """The values of the searched parameters, as Optuna can store them."""
        grid = self.grid.values
        return {key: [_told(value) for value in values] for key, values in grid.items()}

    @property
    def default_on_grid(self) -> bool:
        """Whether the spec's own values are a point of the grid."""
        return all(value in self.grid.values[key] for key, value in self.default.given.items())

    @property
    def study_name(self) -> str:
        """The same for all searches that give the same scores, and for no other."""
        spec = self.spec
        recipe = self.wanted
        digest = fingerprint(
            {
                "grid": self.grid.model_dump(mode="json"),
                "data": self.data_sha256,
                "architecture": {"name": recipe.architecture, "options": recipe.options},
                "training": recipe.training.model_dump(mode="json"),
                "seed": spec.seed,
                "backend": self.backend.name,
                "versions": self.backend.versions(),
                "harness": installed_version("robustness-harness"),
            }
        )
        return f"{spec.name}/{self.model}/{self.backend.name}/{digest[:16]}"

    def study(self, url: str) -> SharedStudy:
        """The study in a database, which is made if it is not there.

        Raises:
            SearchError: The database cannot be used.
        """
        return SharedStudy(
            url,
            self.study_name,
            self.choices,
            seed=self.spec.seed,
            extra=not self.default_on_grid,
            # A slow learner is given a third of its time.
            warm_up=math.ceil(self.recipe.training.epochs / 3),
        )

    def evaluate(self, trial: optuna.Trial, on_grid: bool) -> float:
        """Train with a trial's parameters, and give the score of the best epoch.

        Args:
            trial: Gives the parameters, and is given the scores.
            on_grid: Whether it has parameters; those of the spec are taken else.

        Raises:
            optuna.TrialPruned: It is worse than the median of the others.
            TrainingError: It diverged.
            MeasurementError: It diverged so far that FGSM has no gradient to follow.
        """
        started = time.perf_counter()
        parameters = self._parameters(trial) if on_grid else self.default
        wanted, seed = parameters.put_into(self.recipe), self.spec.seed
        architecture = architecture_of(wanted.architecture, wanted.options, self.images)
        trainer = self.backend.trainer(
            Network(architecture, initial_weights(architecture, seed)),
            Wrapping(self.bounds),
            Optimizer(wanted.training.l2, wanted.training.weight_decay),
            seed=seed,
        )
        history: list[float] = []

        def watch(epoch: Epoch) -> None:
            history.append(epoch.validation_accuracy)
            fgsm = self._fgsm(trainer.model)
            trial.report(self._score(epoch.validation_accuracy, fgsm), step=epoch.epoch)
            # What the winner is compared with is not given up; and the last epoch is paid for.
            losing = epoch.epoch < wanted.training.epochs and trial.should_prune()
            if losing and parameters != self.default:
                raise optuna.TrialPruned

        result: dict[str, Any] = {"history": history}
        try:
            with quiet():
                trained = train(
                    trainer, self.training, self.validation, wanted.training,
                    seed=seed, title=f"trial {trial.number}", on_epoch=watch,
                )  # fmt: skip
            clean = history[trained.best_epoch - 1]
            model = self.backend.build(
                Network(architecture, trained.weights), Wrapping(self.bounds)
            )
            fgsm = self._fgsm(model)
            result |= {"best_epoch": trained.best_epoch, "clean": clean, "fgsm": fgsm}
            return self._score(clean, fgsm)
        except DIVERGED as error:
            result["reason"] = str(error)
            raise
        finally:
            trial.set_user_attr("result", result | {"seconds": time.perf_counter() - started})

    def result(self, study: SharedStudy) -> SearchResult:
        """The result of a search that is over."""
        found = {
            point: self._outcome(trial, on_grid=point < study.grid_size)
            for point, trial in sorted(study.holders().items())
        }
        on_grid = [trial for point, trial in found.items() if point < study.grid_size]
        return SearchResult(
            schema=SCHEMA,
            spec=self.spec.name,
            spec_sha256=self.spec.sha256,
            data_sha256=self.data_sha256,
            backend=self.backend.name,
            model=self.model,
            seed=self.spec.seed,
            versions=self.backend.versions(),
            grid=self.grid,
            study=self.study_name,
            # Complete ones first among equals; then in the order of the grid.
            trials=tuple(sorted(on_grid, key=lambda trial: (-(trial.score or 0.0), trial.state))),
            default=next(trial for trial in found.values() if trial.default),
        )

    def _outcome(self, trial: FrozenTrial, *, on_grid: bool) -> SearchTrial:
        parameters = self.default
        if on_grid:
            parameters = self._point({key: trial.params[key] for key in self.grid.values})
        result = trial.user_attrs["result"]
        clean, score, best = result.get("clean"), trial.value, result.get("best_epoch")
        if trial.state == TrialState.PRUNED:
            scores = trial.intermediate_values
            best = max(scores, key=lambda epoch: scores[epoch])
            clean, score = result["history"][best - 1], scores[best]
        return SearchTrial(
            parameters=parameters,
            state=STATES[trial.state],
            reason=result.get("reason", ""),
            score=score,
            clean=clean,
            fgsm=result.get("fgsm"),
            best_epoch=best,
            history=result["history"],
            seconds=result["seconds"],
            default=parameters == self.default,
        )

    def _parameters(self, trial: optuna.Trial) -> Parameters:
        choices = self.choices
        return self._point({key: trial.suggest_categorical(key, choices[key]) for key in choices})

    def _point(self, told: dict[str, Any]) -> Parameters:
        """The parameters that Optuna knows under other values."""
        return Parameters(
            **{
                key: next(value for value in self.grid.values[key] if _told(value) == told[key])
                for key in told
            }
        )

    def _fgsm(self, model: Model) -> float | None:
        """Accuracy under FGSM, if it is part of the score."""
        if not self.grid.fgsm_weight:
            return None
        x, y = self.validation.x, self.validation.y
        (found,) = sweep(model, make_attack("fgsm"), x, y, [self.grid.fgsm_epsilon])
        return correct_count(found.predictions, y) / len(y)

    def _score(self, clean: float, fgsm: float | None) -> float:
        weight = self.grid.fgsm_weight
        return clean if fgsm is None else (1 - weight) * clean + weight * fgsm


def search(
    spec: Spec, backend: str, out: Path, *, storage: str | None = None, jobs: int = 1
) -> SearchResult:
    """Evaluate every point of a spec's grid, and write ``search.json`` and ``best.toml``.

    What is finished is kept in the storage: after an interruption the same call goes on, and
    several calls, on as many machines as can reach the storage, share the work. Scores depend on
    the spec alone; which of the losers are pruned also depends on who was first.

    Args:
        spec: A spec with a grid.
        backend: Name of the backend that trains.
        out: Folder of the results; it is made if it is not there.
        storage: URL of a database as SQLAlchemy names it; the file ``search.db`` in the folder if
            None.
        jobs: Processes that work at the same time.

    Raises:
        HarnessError: The request is wrong, the storage cannot be used, or every point failed.
        OSError: The folder cannot be written to.
    """
    check_folder(out, "--out")
    prepared = Search.prepare(spec, backend)
    out.mkdir(parents=True, exist_ok=True)
    file = URL.create("sqlite", database=str((out / "search.db").resolve()))
    url = storage or file.render_as_string(hide_password=False)
    study = prepared.study(url)
    title = f"searching {spec.name} in {backend}"
    with _workers(jobs - 1, spec, backend, url), progress_bar(title, study.size) as advance:
        shown = 0

        def report(finished: int) -> None:
            nonlocal shown
            for _ in range(finished - shown):
                advance("")
            shown = max(shown, finished)

        study.work(prepared.evaluate, catch=DIVERGED, stay=True, report=report)
    with explained(url, *DAMAGED):
        result = prepared.result(study)
    path = result.save(out)
    winner = result.winner
    if winner is None:
        (out / BEST).unlink(missing_ok=True)
        raise SearchError(
            f"{path}: every point failed, the first one with: {result.trials[0].reason}"
        )
    write_best(spec, prepared.model, winner.parameters, out)
    return result


def first_backend(spec: Spec) -> str:
    """The first backend of a spec that is installed.

    Raises:
        BackendError: None is.
    """
    reasons = [registry.missing(name) for name in spec.backends]
    for name, reason in zip(spec.backends, reasons, strict=True):
        if not reason:
            return name
    raise BackendError("; ".join(reasons))


@contextmanager
def _workers(count: int, spec: Spec, backend: str, url: str) -> Iterator[None]:
    """So many processes that take points, ended with the block."""
    context = multiprocessing.get_context("spawn")  # forks and frameworks do not go together
    processes = [
        context.Process(target=_work, args=(spec, backend, url), daemon=True) for _ in range(count)
    ]
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _work(spec: Spec, backend: str, url: str) -> None:
    """One of the processes; it ends when there is nothing to take, or with its parent."""
    parent = multiprocessing.parent_process()

    def report(finished: int) -> None:
        if parent is not None and not parent.is_alive():
            raise SystemExit

    # Ctrl-C reaches every process of a terminal; the first one says what there is to say.
    with suppress(KeyboardInterrupt):
        prepared = Search.prepare(spec, backend)
        study = prepared.study(url)
        study.work(prepared.evaluate, catch=DIVERGED, stay=False, report=report)


def _told(value: Any) -> str | int | float:
    """A value as Optuna can store it: ``(128, 64)`` as ``128-64``."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else value
