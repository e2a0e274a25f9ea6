"""What a search found, as search.json, and the spec with its winner, as best.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import RunError, encoded, first_problem
from harness.files import as_json, document_of, read_document, replacing
from harness.names import Name
from harness.results.run import Run
from harness.spec.grid import GridSpec
from harness.spec.models import ModelSpec
from harness.spec.part import L2, BatchSize, Dropout, Fraction, Hidden, LearningRate
from harness.spec.spec import Spec

SCHEMA = 2
RESULT, BEST = "search.json", "best.toml"
REMEDY = "run `harness search` again"


def as_text(value: object) -> str:
    """A parameter's value for people: ``128-64``, ``0.001``."""
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class Parameters(BaseModel):
    """A point of a grid: a value for each parameter that is searched, None for the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: Hidden | None = None
    dropout: Dropout | None = None
    l2: L2 | None = None
    learning_rate: LearningRate | None = None
    batch_size: BatchSize | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that have a value."""
        return {key: value for key, value in self if value is not None}

    @property
    def texts(self) -> list[str]:
        """Their values for people."""
        return [as_text(value) for value in self.given.values()]

    def put_into(self, model: ModelSpec) -> ModelSpec:
        """The model with these parameters instead of its own."""
        recipe = type(model.training).model_fields
        trained_by = {key: value for key, value in self.given.items() if key in recipe}
        options = {key: value for key, value in self.given.items() if key not in recipe}
        training = model.training.model_copy(update=trained_by)
        return model.model_copy(update={"training": training, **options})


class SearchTrial(BaseModel):
    """What became of a point. Accuracies are of the validation images, in [0, 1].

    Attributes:
        parameters: The point.
        state: ``complete``, ``pruned`` (given up while worse than the median), or ``failed``.
        reason: Why it failed.
        score: What trials are compared by, at the best epoch; None if it failed.
        clean: Accuracy on the images as they are, at the best epoch.
        fgsm: Accuracy under FGSM, if that is part of the score and the trial is complete.
        best_epoch: The epoch of the score.
        history: Accuracy on the images as they are, after each epoch.
        seconds: What the trial took, without waiting for others.
        default: Whether these are the spec's own parameters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: Parameters
    state: Literal["complete", "pruned", "failed"]
    reason: str = ""
    score: Fraction | None = None
    clean: Fraction | None = None
    fgsm: Fraction | None = None
    best_epoch: int | None = None
    history: tuple[Fraction, ...] = ()
    seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    default: bool = False


class SearchResult(BaseModel):
    """A search that is over: the points of its grid, best first.

    Attributes:
        spec: Name of the spec.
        spec_sha256: Hash of the spec without its grid.
        data_sha256: Hash of the data.
        backend: Name of the backend.
        model: Whose recipe was searched.
        seed: The spec's seed.
        versions: Versions of the backend's packages.
        grid: What was searched, and how.
        study: Name of the study in the storage.
        trials: A trial per point of the grid, by falling score; failed ones last.
        default: The spec's own recipe in the same setting. Where it is a point of the grid, it is
            among the trials too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: int = Field(SCHEMA, alias="schema")
    spec: Name
    spec_sha256: str
    data_sha256: str
    backend: Name
    model: Name
    seed: int
    versions: dict[str, str]
    grid: GridSpec
    study: str
    trials: Annotated[tuple[SearchTrial, ...], Field(min_length=1)]
    default: SearchTrial

    @model_validator(mode="after")
    def _points_of_the_grid(self) -> SearchResult:
        choices = self.grid.values
        for number, trial in enumerate(self.trials):
            given = trial.parameters.given
            if given.keys() != choices.keys() or any(
                value not in choices[key] for key, value in given.items()
            ):
                raise ValueError(f"trials.{number}: is not a point of the grid")
        return self

    @property
    def winner(self) -> SearchTrial | None:
        """The complete trial of the highest score; None if all failed."""
        return next((trial for trial in self.trials if trial.state == "complete"), None)

    def save(self, folder: Path) -> Path:
        """Write ``search.json`` into a folder, complete or not at all."""
        path = folder / RESULT
        document = as_json(document_of(self, exclude_none=True), indent=1)
        with replacing(path) as stream:
            stream.write(document.encode() + b"\n")
        return path

    @classmethod
    def load(cls, folder: Path) -> SearchResult:
        """Read the ``search.json`` of a folder.

        Raises:
            RunError: It is missing, damaged, or of another schema.
        """
        path = folder / RESULT
        document = read_document(path, SCHEMA, REMEDY)
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise RunError(f"{path}: {first_problem(error)}; {REMEDY}") from error


def search_beside(run: Run, folder: Path) -> SearchResult | None:
    """The search in a run's folder, if there is one, of the run's spec and data.

    Raises:
        RunError: There is one that is damaged, or of another schema.
    """
    if not (folder / RESULT).exists():
        return None
    found = SearchResult.load(folder)
    # By its name, so that the search that led to a best.toml is in the report of its run.
    same = (found.spec, found.data_sha256) == (run.spec.get("name"), run.data_sha256)
    return found if same else None


def write_best(spec: Spec, model: str, winner: Parameters, folder: Path) -> Path:
    """Write ``best.toml`` into a folder: the spec with the winner's parameters in a model."""
    models = spec.models | {model: winner.put_into(spec.trained[model])}
    document = _said(spec.model_copy(update={"models": models}))
    if spec.grid is not None:
        document["grid"] = _said(spec.grid)
    path = folder / BEST
    with replacing(path) as stream:
        text = f"# {spec.name} with the winner of `harness search`\n" + tomlkit.dumps(document)
        stream.write(encoded(text))
    return path


def _said(part: BaseModel) -> dict[str, Any]:
    """What a spec says, without what it leaves to defaults."""
    return part.model_dump(mode="json", exclude_unset=True, exclude_none=True)
