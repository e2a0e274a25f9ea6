"""A run: everything that was measured in one go, as run.json and arrays.npz."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from harness.errors import RunError, first_problem, one_line
from harness.files import as_json, document_of, read_document, replacing
from harness.names import checked_name, checked_path
from harness.protocol import NormName
from harness.results.arrays import Arrays, ArraysError, Written, read_arrays, write_arrays
from harness.results.keys import check_arrays
from harness.results.records import DataInfo, Key, ModelInfo, Record, Timing, bounds_told
from harness.spec.gate import GateSettings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SCHEMA = 5
"""Of a stored run. In older ones models are targets, so these must be measured again."""
HASH = "arrays_sha256"
FIRST, AGAIN = "run `harness run` first", "run `harness run` again"
FEW = 4
"""So many models are named by the ``repr`` of a run."""
COLUMNS = (
    "model", "backend", "check", "epsilon", "correct", "total", "accuracy", "ci_low", "ci_high",
    "threshold", "status", "reason", "norm", "value", "bound",
    "forwards", "backwards", "randomised",
)  # fmt: skip


class Run(BaseModel):
    """Everything that was measured in one go; the only thing that report and gate read.

    ``arrays`` holds what does not fit JSON, under keys that begin with ``BACKEND/MODEL/``:

    - ``CHECK@EPSILON/predictions``: predicted labels (n,) int32, the per-example outcomes
      (``CHECK/predictions`` where there is no epsilon); -1 of an image that was not answered, which
      is not counted;
    - ``certified/NAME@EPSILON/certified``: which images a certifier certifies, (n,) bool: none of
      the ball within the box gets another label than the true one;
    - ``signature``: of the first images the largest logit less the mean of all, (m,) float32, by
      which a model is identified; NaN of one that was not answered;
    - ``minimal-epsilon/METHOD``: the smallest epsilon at which each of the first images is
      misclassified, (m,) float64; infinite for those that never are. ``.../extremes/index``: the
      most fragile and the most robust of them, the most fragile first, (e,) int64;
      ``.../extremes/clean`` and ``.../extremes/adversarial``: these as they are, and moved by that
      epsilon, (e, *shape) float32; ``.../extremes/labels``: what the latter are taken for,
      (e,) int32;
    - ``examples/index``: which test images are kept as examples, (m,) int64, ten at most, and no
      more than pictures of one model have room for (``recorder.ALL_PICTURES``). What would exceed
      it all the same is left out, so any key with pictures may be absent. Pictures are for looking
      only: of images with sides above 64 pixels they hold means of blocks, so their *shape* is
      smaller than the images';
    - ``examples/clean``: those images, (m, *shape) float32;
    - ``examples/clean/confidence``: softmax of the predicted class, (m,) float32;
    - ``examples/CHECK@EPSILON``: the same images under an attack, with ``.../confidence``;
    - ``examples/saliency``: the absolute maps that say which pixels are occluded, (m,
      *shape) float32;
    - ``examples/saliency/top``: the most salient pixels, with all their channels, (m, *shape) bool;
    - ``examples/maps/METHOD``: the signed maps of each saliency method, (m, *shape) float32;
      ``examples/moved``: the examples under FGSM at the epsilon of the spec's saliency,
      ``examples/moved/labels``: what they are taken for, (m,) int32, and
      ``examples/moved/maps/METHOD``: the maps of the true class then;
    - ``examples/cascade/METHOD``: maps of the first few examples by the models of
      ``saliency/METHOD/cascade``, (layers, few, *shape) float32; where images have several
      channels, the sum of the absolute values over them, with one channel;
    - ``saliency/METHOD/top/accuracy`` and ``.../confidence``: accuracy, and mean softmax of the
      true class, with the most salient pixels covered, by filler and share as ``saliency.topk``
      lists them, (2, 5) float64 (the first filler is ``saliency.cover`` of the spec, which every
      run tells; black in older ones); ``saliency/METHOD/least/...`` with the least salient ones;
      ``saliency/random/accuracy`` and ``.../confidence`` with random ones, (draws, 2, 5), and
      their 95 % intervals over the draws, ``.../interval``, (2, 2, 5), the lower end first;
    - ``saliency/METHOD/deletion``, ``saliency/METHOD/insertion``: mean softmax of the true class as
      more pixels are blackened or shown, at the shares ``topk.GRID``, (21,) float64; and
      ``saliency/random/...`` in random order;
    - ``saliency/METHOD/stability``: of the first images, the Jaccard index of the top pixels before
      and after FGSM, (n,) float32; ``saliency/METHOD/strokes``: the share on strokes, likewise, if
      the images have any;
    - ``saliency/METHOD/cascade``: mean rank correlation and SSIM of the absolute maps with those of
      the model with its last layer random, its last two, and so on, (layers, 2) float64;

    and, for the whole run, ``labels``: true labels of the test images (n,) int32.

    ``data`` tells of the test images, and ``notes`` are what a reader should know of the numbers,
    a line each: that bytes were scaled, say, or that an epsilon is out of proportion.
    """

    model_config = ConfigDict(extra="forbid")

    schema_: int = Field(SCHEMA, alias="schema")
    spec: dict[str, Any]
    spec_sha256: str
    data_sha256: str
    gate: GateSettings = GateSettings()
    classes: tuple[str, ...] = ()
    commit: str | None = None
    dirty: bool | None = None
    created: str
    finished: bool = False
    versions: dict[str, str] = {}
    machine: dict[str, str | int] = {}
    models: list[ModelInfo] = []
    data: DataInfo | None = None
    notes: list[str] = []
    records: list[Record] = []
    timings: list[Timing] = []

    _arrays: dict[str, npt.NDArray[Any]] = PrivateAttr(default_factory=dict)
    _written: Written | None = PrivateAttr(None)

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays beside the records, by key."""
        return self._arrays

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What ``repr`` shows, in a line, whatever there is: it is what a notebook prints."""
        models = dict.fromkeys(record.model for record in self.records)
        few = [*models][:FEW] + ["..."] * (len(models) > FEW)
        yield None, self.spec.get("name", "")
        yield "models", few
        yield "records", len(self.records)
        yield "verdict", self.verdict

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        """The table of accuracies, for notebooks."""
        from harness.results.display import html_of

        return html_of(self)

    def put(self, record: Record) -> None:
        """Add a record, or replace the one of the same key."""
        for index, old in enumerate(self.records):
            if old.key == record.key:
                self.records[index] = record
                return
        self.records.append(record)

    def find(self, key: Key) -> Record | None:
        """The record of that key, if there is one."""
        return next((record for record in self.records if record.key == key), None)

    def put_model(self, info: ModelInfo) -> None:
        """Add a model's origin, or put it in the place of an earlier one of that model."""
        known = [(one.model, one.backend) for one in self.models]
        place = (info.model, info.backend)
        at = known.index(place) if place in known else len(known)
        self.models[at : at + 1] = [info]

    def emptied(self, **other: Any) -> Run:
        """A new run of the same data, with nothing measured yet; some fields may be others."""
        measured = {"records", "timings", "models", "notes"}
        return Run.model_validate(self.model_dump(by_alias=True, exclude=measured) | other)

    def absorb(self, other: Run) -> None:
        """Take over what another process measured for the same run."""
        for record in other.records:
            self.put(record)
        for info in other.models:
            self.put_model(info)
        self.timings = [*self.timings, *other.timings]
        self.versions |= other.versions
        self.arrays.update(other.arrays)
        self.data_sha256 = self.data_sha256 or other.data_sha256
        self.classes = self.classes or other.classes
        self.data = self.data or other.data
        self.notes = list(dict.fromkeys([*self.notes, *other.notes]))

    @property
    def verdict(self) -> Literal["passed", "measured", "failed"]:
        """What the run says as a whole.

        ``failed`` if it did not finish, is empty, says nothing, or any check failed or broke;
        ``measured`` if it holds accuracies and none of them was judged; else ``passed``.
        """
        statuses = {record.status for record in self.records}
        if not self.finished or statuses & {"failed", "error"} or statuses <= {"skipped"}:
            return "failed"
        accuracies = {record.status for record in self.records if record.total is not None}
        if "measured" in accuracies and "passed" not in accuracies:
            return "measured"
        return "passed" if "passed" in statuses else "measured"

    def frame(self) -> pd.DataFrame:
        """The records as a table, a row each, with the columns ``COLUMNS``.

        An accuracy under an attack is an upper bound on robust accuracy, and a certified one a
        lower bound: the column ``bound`` says so of each, and ``frame().attrs`` of both.
        """
        import pandas as pd

        rows = [record.model_dump() for record in self.records]
        table: pd.DataFrame = pd.DataFrame(rows, columns=list(COLUMNS))
        table.attrs["accuracy"] = bounds_told(["upper", *(record.bound for record in self.records)])
        return table

    def table(self) -> pd.DataFrame:
        """The accuracies, in [0, 1], with a row for each attack or certifier, and ε as columns.

        Rows are indexed by ``backend``, ``model``, ``method`` (the attack; ``certified/NAME`` of a
        certifier) and ``norm``; columns are ``clean`` and the epsilons, floats in pixel units. What
        was not measured is NaN. ``table().attrs["accuracy"]`` says which bounds the numbers are.

        Example:
            >>> import harness, numpy as np
            >>> x, y = np.array([[[0.2, 0.6]], [[0.9, 0.3]]]), np.array([1, 0])
            >>> model = harness.wrap_function(lambda images: images[:, 0], outputs="logits")
            >>> run = harness.evaluate(model, x, y, "noise", [0.05, 0.5], progress=False)
            >>> list(run.table().columns)
            ['clean', 0.05, 0.5]
            >>> float(run.table().loc["callable", "model", "noise", "linf"]["clean"])
            1.0
        """
        from harness.results.display import table_of

        return table_of(self)

    def plot(self, norm: NormName | None = None, ax: Axes | None = None) -> Axes:
        """Draw accuracy in percent against epsilon, with matplotlib.

        Each model and attack is a line, through the mean of its backends, in a band from the lowest
        to the highest of them. Certified accuracies are dashed.

        Args:
            norm: ``linf`` or ``l2``; by default the first in the run. Radii in two norms do not
                compare, so that only one is drawn.
            ax: Where to draw; a new figure's if None.

        Returns:
            The axes.

        Raises:
            HarnessError: Nothing was measured at an epsilon, or not in that norm.
        """
        from harness.results.display import plot_of

        return plot_of(self, norm, ax)

    def report(self, path: str | Path) -> Path:
        """Write the report as one HTML file that needs nothing beside it.

        Args:
            path: The file, such as ``report.html``; an older one is replaced.

        Returns:
            The path.

        Raises:
            HarnessError: The file cannot be written.
        """
        from harness.results.page import write_page

        return write_page(self, Path(path))

    def save(self, folder: str | Path) -> None:
        """Write ``run.json`` and ``arrays.npz`` into a folder, each complete or not at all.

        The arrays come first, and their hash is in ``run.json``: of a run that was cut off between
        the two, or of two that were saved at once, it is found that they do not belong together.

        Args:
            folder: Made if it is not there.
        """
        folder = Path(folder)
        self._written = write_arrays(folder / "arrays.npz", self.arrays, self._written)
        document = document_of(self) | {HASH: self._written.digest}
        with replacing(folder / "run.json") as stream:
            stream.write(as_json(document, indent=1).encode() + b"\n")

    def begin(self, folder: Path) -> None:
        """Put this run in the place of an earlier one, whose report goes.

        However it ends, even by ``kill -9``, nothing of the earlier one is taken for this one.
        """
        if (folder / "run.json").exists():
            (folder / "report.html").unlink(missing_ok=True)
        self.save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read a run that was saved into a folder, by this version.

        Args:
            folder: With ``run.json`` and ``arrays.npz`` in it.

        Raises:
            RunError: A file is missing, damaged, too large, or of another schema; the two are not
                of one run; or a name in them could lead out of a folder.
        """
        folder = Path(folder)
        path = folder / "run.json"
        document = read_document(path, SCHEMA, FIRST, anew="measure again with `harness run`")
        digest = document.pop(HASH, None)
        if not isinstance(digest, str):
            raise RunError(f"{path}: {HASH}: missing, or no text; {AGAIN}")
        try:
            run = cls.model_validate(document)
            run._check_names()
        except ValidationError as error:
            raise RunError(f"{path}: {first_problem(error)}") from error
        except ValueError as error:
            raise RunError(f"{path}: {one_line(error)}") from error
        run.arrays.update(_arrays_of(folder, digest))
        return run

    def _check_names(self) -> None:
        """Refuse names that are no parts of paths; those of a foreign file can be anything.

        Raises:
            ValueError: One is none.
        """
        if "name" in self.spec:
            checked_name(str(self.spec["name"]))
        parts: list[Record | ModelInfo | Timing] = [*self.records, *self.models, *self.timings]
        for part in parts:
            checked_name(part.model)
            checked_name(part.backend)
            if not isinstance(part, ModelInfo):
                checked_path(part.check)


def load_run(folder: str | Path) -> Run:
    """Read a run from the folder that ``harness run``, ``evaluate`` or ``Run.save`` wrote it into.

    Args:
        folder: With ``run.json`` and ``arrays.npz`` in it.

    Raises:
        RunError: A file is missing, damaged, too large, or of another schema; or the two are not of
            one run.

    Example:
        >>> import harness, numpy as np, tempfile
        >>> model = harness.wrap_function(lambda images: images, outputs="logits")
        >>> run = harness.evaluate(model, np.eye(2), [0, 1], "noise", 0.1, progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run.save(folder)
        ...     harness.load_run(folder)
        Run('model', models=['model'], records=..., verdict='...')
    """
    return Run.load(folder)


def _arrays_of(folder: Path, digest: str) -> Arrays:
    """The arrays beside a ``run.json`` that knows their hash.

    Raises:
        RunError: They are missing, damaged, or not those.
    """
    path = folder / "arrays.npz"
    try:
        arrays, found = read_arrays(path)
        check_arrays(arrays)
    except FileNotFoundError as error:
        raise RunError(f"{path}: missing; {AGAIN}") from error
    except (OSError, ArraysError, ValueError) as error:
        raise RunError(f"{path}: damaged ({one_line(error)}); {AGAIN}") from error
    if found != digest:
        raise RunError(
            f"{path}: damaged (it does not belong to the run.json beside it: written by another "
            f"run, or changed since); {AGAIN}"
        )
    return arrays
