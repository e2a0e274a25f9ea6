"""Records and runs: what was measured and how it was judged, as run.json and arrays.npz."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from harness.errors import RunError
from harness.gate_settings import GateSettings
from harness.protocol import NormName
from harness.spec import first_problem
from harness.statistics import wilson
from harness.text import UPPER_BOUND, one_line

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 3
COLLAPSE = 0.2
"""An accuracy under FGSM so far above that under PGD is no robustness (Wong et al. 2020)."""
Status: TypeAlias = Literal["measured", "passed", "failed", "skipped", "error"]
Key: TypeAlias = tuple[str, str, str, float | None]
COLUMNS = (
    "target", "backend", "check", "epsilon", "correct", "total", "accuracy", "ci_low", "ci_high",
    "threshold", "status", "reason", "norm", "value",
)  # fmt: skip


class Record(BaseModel):
    """One measurement, and the judgement of it.

    Attributes:
        target: Name of the target in the spec.
        backend: Name of the backend.
        check: ``clean``, an attack's name, ``saliency/...``, ``saliency-sanity/METHOD/RULE``,
            ``minimal-epsilon/...``, ``validity/...``, ``conformance/...`` or ``training/...``.
        epsilon: Radius in pixel units, or None where the check has none.
        correct: Images classified correctly, or None for checks that count no images.
        total: Images measured, or None likewise.
        accuracy: ``correct / total``.
        ci_low: Lower end of the 95 % Wilson interval of the accuracy.
        ci_high: Upper end of it.
        threshold: Lowest and highest accuracy that passes; None for an open end or no threshold.
        status: ``measured`` (not judged), ``passed``, ``failed``, ``skipped`` or ``error``.
        reason: Why it failed, was skipped, or broke; one line.
        norm: The norm that epsilon is a radius of: ``linf`` or ``l2``.
        value: What was measured where that is no accuracy, such as a median epsilon; of an attack
            that aims at a class of each image, the share of images that are taken for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    backend: str
    check: str
    epsilon: float | None = None
    correct: int | None = None
    total: int | None = None
    accuracy: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    threshold: tuple[float | None, float | None] | None = None
    status: Status = "measured"
    reason: str = ""
    norm: NormName | None = None
    value: float | None = None

    @property
    def key(self) -> Key:
        """What identifies a measurement within a run, and across runs."""
        return (self.target, self.backend, self.check, self.epsilon)

    @property
    def label(self) -> str:
        """The key for people: ``torch mlp fgsm eps=0.1``."""
        at = "" if self.epsilon is None else f" eps={self.epsilon:g}"
        return f"{self.backend} {self.target} {self.check}{at}"

    def judged(
        self,
        status: Status,
        reason: str = "",
        threshold: tuple[float | None, float | None] | None = None,
    ) -> Record:
        """The same measurement with a judgement."""
        return self.model_copy(
            update={"status": status, "reason": one_line(reason) if reason else "",
                    "threshold": threshold}
        )  # fmt: skip


def counted(
    target: str,
    backend: str,
    check: str,
    correct: int,
    total: int,
    epsilon: float | None = None,
    *,
    draws: int = 1,
    norm: NormName | None = None,
) -> Record:
    """A record of a counted accuracy, with its 95 % Wilson interval.

    Where the same images were asked several times (``draws``), their answers hang together, so the
    interval is that of one draw.
    """
    low, high = wilson(round(correct / draws), total // draws)
    return Record(
        target=target, backend=backend, check=check, epsilon=epsilon,
        correct=correct, total=total, accuracy=correct / total, ci_low=low, ci_high=high, norm=norm,
    )  # fmt: skip


class Epoch(BaseModel):
    """One epoch of a training: losses are means per image, in nats; accuracies in [0, 1].

    Adversarial training also tells the accuracy of some validation images at the epsilon that is
    trained for, under FGSM and under PGD.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    fgsm_accuracy: float | None = None
    pgd_accuracy: float | None = None

    @property
    def collapsed(self) -> bool:
        """Whether the defence fools FGSM but not PGD (catastrophic overfitting)."""
        if self.fgsm_accuracy is None or self.pgd_accuracy is None:
            return False
        return self.fgsm_accuracy - self.pgd_accuracy > COLLAPSE


class ModelInfo(BaseModel):
    """Where a target's model came from.

    Attributes:
        fingerprint: SHA-256 over data, architecture, recipe, seed, backend and versions.
        cached: Whether this run loaded it instead of training it.
        history: Its training, epoch by epoch (also when it was loaded).
        best_epoch: The epoch whose weights were kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    backend: str
    fingerprint: str
    cached: bool
    best_epoch: int
    history: tuple[Epoch, ...]


class Timing(BaseModel):
    """How long a measurement took.

    Attributes:
        target: Name of the target in the spec.
        backend: Name of the backend.
        check: What was measured, as its records call it; of a sweep, all its epsilons together.
        images: How many images were measured; of a sweep, at each of its epsilons.
        epsilons: At how many epsilons; 1 where there is none.
        seconds: Wall time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    backend: str
    check: str
    images: int
    epsilons: int
    seconds: float


class Run(BaseModel):
    """Everything that was measured in one go; the only thing that report and gate read.

    ``arrays`` holds what does not fit JSON, under keys that begin with ``BACKEND/TARGET/``:

    - ``CHECK@EPSILON/predictions``: predicted labels (n,) int32, the per-example outcomes
      (``CHECK/predictions`` where there is no epsilon);
    - ``signature``: of the first images the largest logit less the mean of all, (m,) float32, by
      which a model is known again;
    - ``minimal-epsilon/METHOD``: the smallest epsilon at which each of the first images falls,
      (m,) float64; infinite for those that stand throughout. ``.../extremes/index``: which of them
      fell first and last, the most fragile first, (e,) int64; ``.../extremes/clean`` and
      ``.../extremes/fallen``: these as they are and as they fell, (e, *shape) float32;
      ``.../extremes/labels``: what the fallen ones are taken for, (e,) int32;
    - ``examples/index``: which test images are kept as examples, (m,) int64;
    - ``examples/clean``: those images, (m, *shape) float32;
    - ``examples/clean/confidence``: softmax of the predicted class, (m,) float32;
    - ``examples/CHECK@EPSILON``: the same images under an attack, with ``.../confidence``;
    - ``examples/saliency``: the maps, |d true-class logit / dx|, (m, *shape) float32;
    - ``examples/saliency/top``: the most salient pixels, (m, *shape) bool;
    - ``examples/maps/METHOD``: the signed maps of each saliency method, (m, *shape) float32;
      ``examples/moved``: the examples under FGSM at the epsilon of the spec's saliency,
      ``examples/moved/labels``: what they are taken for, (m,) int32, and
      ``examples/moved/maps/METHOD``: the maps of the true class then;
    - ``examples/cascade/METHOD``: maps of the first few examples by the models of
      ``saliency/METHOD/cascade``, (layers, few, *shape) float32;
    - ``saliency/METHOD/top/accuracy`` and ``.../confidence``: accuracy, and mean softmax of the
      true class, with the most salient pixels covered, by filler and share as ``saliency.topk``
      lists them, (2, 5) float64; ``saliency/METHOD/least/...`` with the least salient ones;
      ``saliency/random/accuracy`` and ``.../confidence`` with random ones, (draws, 2, 5), and
      their 95 % intervals over the draws, ``.../interval``, (2, 2, 5), the lower end first;
    - ``saliency/METHOD/deletion``, ``saliency/METHOD/insertion``: mean softmax of the true class as
      more pixels are blackened or shown, at the shares ``topk.GRID``, (21,) float64; and
      ``saliency/random/...`` in random order;
    - ``saliency/METHOD/stability``: of the first images, the Jaccard index of the top pixels before
      and after FGSM, (n,) float32; ``saliency/METHOD/strokes``: the share on strokes, likewise;
    - ``saliency/METHOD/cascade``: mean rank correlation and SSIM of the absolute maps with those of
      the model with its last layer random, its last two, and so on, (layers, 2) float64;

    and, for the whole run, ``labels``: true labels of the test images (n,) int32.
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
    records: list[Record] = []
    timings: list[Timing] = []

    _arrays: dict[str, npt.NDArray[Any]] = PrivateAttr(default_factory=dict)

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays beside the records, by key."""
        return self._arrays

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
        """Add a model's origin, once per target and backend."""
        kept = [m for m in self.models if (m.target, m.backend) != (info.target, info.backend)]
        self.models = [*kept, info]

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

        Accuracy under an attack is an upper bound on robust accuracy: ``frame().attrs`` says so.
        """
        import pandas as pd

        rows = [record.model_dump() for record in self.records]
        table: pd.DataFrame = pd.DataFrame(rows, columns=list(COLUMNS))
        table.attrs["accuracy"] = UPPER_BOUND
        return table

    def save(self, folder: Path) -> None:
        """Write ``run.json`` and ``arrays.npz`` into a folder, each complete or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "arrays.npz") as stream:
            np.savez_compressed(stream, **cast(dict[str, Any], self.arrays))
        with replacing(folder / "run.json") as stream:
            text = self.model_dump_json(by_alias=True, indent=1)
            stream.write(text.encode() + b"\n")

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read a run that was saved into a folder.

        Raises:
            RunError: A file is missing, damaged, or of another schema.
        """
        document = read_document(folder / "run.json", SCHEMA, "run `harness run` first")
        try:
            run = cls.model_validate(document)
        except ValidationError as error:
            raise RunError(f"{folder / 'run.json'}: {first_problem(error)}") from error
        path, remedy = folder / "arrays.npz", "run `harness run` again"
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                run.arrays.update({key: stored[key] for key in stored.files})
        except FileNotFoundError as error:
            raise RunError(f"{path}: missing; {remedy}") from error
        except Exception as error:  # zipfile, zlib and NumPy each raise several of their own
            raise RunError(f"{path}: damaged ({one_line(error)}); {remedy}") from error
        return run


def read_document(path: Path, schema: int, remedy: str) -> dict[str, Any]:
    """A JSON object from a file that carries a schema number.

    Raises:
        RunError: The file is missing, not a JSON object, or of another schema.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path}: missing; {remedy}") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not readable as JSON ({one_line(error)}); {remedy}") from error
    if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
        raise RunError(f"{path}: has no schema number; {remedy}")
    if document["schema"] != schema:
        newer = document["schema"] > schema
        hint = "upgrade robustness-harness" if newer else remedy
        raise RunError(f"{path}: schema {document['schema']}, but {schema} is expected; {hint}")
    return document


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name and rename it, so that it is never seen half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        # mkstemp makes private files; results are as readable as any other file of the user.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
