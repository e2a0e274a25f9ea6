"""What is served: models of a stored run, of a spec or of a file, and test images for them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from harness import registry
from harness.attacks import ATTACKS, make_attack
from harness.data.dataset import Dataset
from harness.errors import (
    HarnessError,
    MeasurementError,
    RunError,
    SpecError,
    first_problem,
    one_line,
    unknown,
)
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.imported import network_of
from harness.evaluation.named import dataset_from, layout_for
from harness.evaluation.own import info_of
from harness.evaluation.playground import example_rows, told_of
from harness.evaluation.resolve import attack_of, open_spec, resolved
from harness.evaluation.wrapping import backend_name_of, is_onnx, wrap
from harness.factory import is_function
from harness.maths.around import Laid, innermost
from harness.names import checked_name
from harness.protocol import Attack, FloatArray, Images, IntArray, Model
from harness.results.judge import CLEAN
from harness.results.records import ModelInfo
from harness.results.run import Run
from harness.serve.live import About, Live
from harness.spec.own import OwnModelSpec
from harness.spec.reading import spec_names
from harness.spec.spec import Spec


@dataclass(frozen=True)
class Examples:
    """Test images.

    Attributes:
        x: Images, (n, *shape).
        y: Their labels, (n,).
    """

    x: Images
    y: IntArray

    def rows(self, count: int) -> IntArray:
        """Positions, (m,), of the first image of each class, then of the others in their order."""
        return example_rows(self.y, count)

    def images(self, rows: IntArray) -> FloatArray:
        """The images at these positions, (m, *shape)."""
        return np.asarray(self.x[rows])


@dataclass(frozen=True)
class Served:
    """What a server has.

    Attributes:
        models: By name, in the order in which they were asked for.
        examples: Test images that they take; None where there are none.
        notes: What the person who started the server should know, a line each.
    """

    models: Mapping[str, Live]
    examples: Examples | None = None
    notes: list[str] = field(default_factory=list)


def served(
    what: str, backends: Sequence[str] = (), names: Sequence[str] = (), data: str | None = None
) -> Served:
    """The models of a stored run, of a spec, or of a file, loaded; trained if they are not stored.

    Args:
        what: Folder of a run; a spec's name, or a path that ends in ``.toml``; or a model as
            ``harness evaluate`` takes it: a file, a folder, or ``package.module:function``.
        backends: In which the models of a spec are; the first that is installed if none is named.
        names: Which of its models; all if none is named.
        data: Images for a model of a file; a spec has its own.

    Raises:
        HarnessError: There is no such thing, or it cannot be loaded; one line.
    """
    folder, is_run = Path(what), (Path(what) / "run.json").is_file()
    if not is_run and not _is_spec(what):
        if not (folder.exists() or is_function(what)):
            raise HarnessError(
                f"{unknown(what, 'spec', spec_names())} (or give a .toml file, the folder of a "
                "stored run, or a model's file)"
            )
        return _of_file(what, backends, names, data)
    if data is not None:
        raise HarnessError(f"--data: {what} says itself which images it is about; leave it out")
    if not is_run:
        return _of_spec(open_spec(what), backends, names)
    run = Run.load(folder)
    return _of_spec(spec_of(run, folder), backends, names, run)


def _is_spec(what: str) -> bool:
    return what.endswith(".toml") or (what in spec_names() and not Path(what).exists())


def spec_of(run: Run, folder: Path) -> Spec:
    """The spec that a stored run was measured by, with the models that were measured.

    A stored run is data, from wherever: no function that it names is called.

    Raises:
        RunError: It tells of no spec, or its models come from functions.
    """
    said: dict[str, Any] = json.loads(json.dumps(run.spec))
    if "data" not in said or "models" not in said:
        raise RunError(
            f"{folder}: its model was passed to `harness evaluate`, and a run does not hold it; "
            "name the model's file, with --data"
        )
    try:
        for sweep in said["attacks"].values():
            sweep.pop("options", None)  # what all of them were, defaults too
        measured = {info.model for info in run.models}
        said["models"] = {name: one for name, one in said["models"].items() if name in measured}
        spec = Spec.model_validate_json(json.dumps(said), strict=True)
        spec = resolved(spec)
    except ValidationError as error:
        raise RunError(f"{folder}: its spec is {first_problem(error, Spec)}") from error
    except (SpecError, AttributeError, TypeError) as error:
        raise RunError(f"{folder}: its spec is of no use here: {one_line(error)}") from error
    calls = ["data.load"] if spec.data.load else []
    calls += [f"models.{name}.load" for name, one in spec.models.items()
              if isinstance(one, OwnModelSpec) and one.load]  # fmt: skip
    if calls:
        raise RunError(
            f"{folder}: {calls[0]}: a stored run is data, so that none of its functions is called; "
            "name the spec (.toml) that it was measured by"
        )
    return spec


def _of_spec(
    spec: Spec, backends: Sequence[str], names: Sequence[str], run: Run | None = None
) -> Served:
    for name in names:
        if name not in spec.models:
            raise SpecError(f"--model: {unknown(name, 'model', spec.models)}")
    if names:
        kept = {name: spec.models[name] for name in dict.fromkeys(names)}
        spec = spec.model_copy(update={"models": kept, "grid": None})
    measured = () if run is None else tuple(dict.fromkeys(one.backend for one in run.models))
    benchmark = Benchmark(spec)
    pairs = benchmark.pairs(_trained_in(spec, backends, measured), backends)
    if run is not None:
        known = {(one.backend, one.model) for one in run.models}
        pairs = [pair for pair in pairs if pair in known or backends]
    if not pairs:
        raise HarnessError(f"--backend: {', '.join(backends)}: none of the models is there in it")
    registry.import_together({backend for backend, _ in pairs})
    attacks, notes = attacks_of(spec)
    found: list[Live] = []
    clashing = Counter(name for _, name in pairs)
    for backend, name in pairs:
        loaded = benchmark.evaluation(backend, name).loaded
        info = _info(benchmark.run, name, backend)
        stored = None if run is None else _info(run, name, backend)
        accuracy = None
        if run is not None and stored is not None and stored.fingerprint == info.fingerprint:
            accuracy = accuracies(run, name, backend)
        elif run is not None:
            notes.append(
                f"{name} of {backend} is not the one that the run has measured (another version or "
                "backend has trained it), so that no accuracies are shown"
            )
        called = f"{name}@{backend}" if clashing[name] > 1 else name
        about = About(
            data=benchmark.dataset.name, accuracy=accuracy, parameters=info.parameters,
            **told_of(spec, name, benchmark.dataset),
        )  # fmt: skip
        found.append(_live(called, backend, loaded.model, benchmark.dataset, attacks, spec, about))
    test = benchmark.dataset.test
    return Served({live.name: live for live in found}, Examples(test.x, test.y), notes)


def _trained_in(spec: Spec, backends: Sequence[str], measured: Sequence[str]) -> list[str]:
    """The backends in which models of a spec are trained: those named, or one that is there."""
    if not spec.trained and not (spec.weights and spec.backends):
        return []
    able = registry.builders()
    for name in backends:
        if reason := registry.missing(name):
            raise HarnessError(f"--backend: {reason}")
        if name not in able:
            raise HarnessError(f"--backend: {name} trains no networks; {', '.join(able)} do")
    if backends:
        return list(dict.fromkeys(backends))
    known = [name for name in measured or spec.backends if name in registry.BACKENDS]
    there = [name for name in known if not registry.missing(name) and name in able]
    if not there:
        reasons = [registry.missing(name) or f"{name} trains no networks" for name in known]
        raise HarnessError("; ".join(reasons) or "--backend: say in which the models are trained")
    return there[:1]


def _live(
    called: str,
    backend: str,
    model: Model,
    data: Dataset,
    attacks: Mapping[str, Attack],
    spec: Spec,
    about: About,
) -> Live:
    try:
        return Live(
            called, backend, model, data.input_shape, data.classes, attacks, spec.saliency.top,
            about, np.dtype(data.test.x.dtype),
        )  # fmt: skip
    except MeasurementError as error:
        raise HarnessError(f"models.{called}: {error}") from error


def _info(run: Run, name: str, backend: str) -> ModelInfo:
    """What a run tells of a model that is in it."""
    return next(one for one in run.models if (one.model, one.backend) == (name, backend))


def accuracies(run: Run, name: str, backend: str) -> dict[str, Any] | None:
    """Clean accuracy of a model in a run, and (epsilon, accuracy) of each attack; None if none."""
    clean: float | None = None
    attacks: dict[str, list[list[float]]] = {attack: [] for attack in run.spec.get("attacks", {})}
    for record in run.records:
        if (record.model, record.backend) != (name, backend) or record.accuracy is None:
            continue
        if record.check == CLEAN:
            clean = record.accuracy
        elif record.check in attacks and record.epsilon is not None:
            attacks[record.check].append([record.epsilon, record.accuracy])
    measured = {attack: sorted(points) for attack, points in attacks.items() if points}
    return None if clean is None else {"clean": clean, "attacks": measured}


def attacks_of(spec: Spec | None) -> tuple[dict[str, Attack], list[str]]:
    """Every attack of the registry, and those of a spec with its options; and what is left out."""
    found: dict[str, Attack] = {}
    notes = []
    for name in dict.fromkeys((*ATTACKS, *(() if spec is None else spec.attacks))):
        try:
            found[name] = make_attack(name) if spec is None else attack_of(spec, name)
        except HarnessError as error:  # another package's, that does not import, say
            notes.append(f"the attack {name} is left out: {error}")
    return found, notes


def _of_file(what: str, backends: Sequence[str], names: Sequence[str], data: str | None) -> Served:
    """Somebody's own model, and images for it if these are named."""
    if len(backends) > 1 or (backends and not is_onnx(what)):
        raise HarnessError(f"--backend: {backends[-1]}: {what} has its own; leave the option out")
    if len(names) > 1:
        raise HarnessError(f"--model: {what} holds one model, which has one name")
    model = wrap(what, backend=backends[0] if backends else None)
    dataset = None
    if data is not None:
        dataset = dataset_from(data, model.bounds, None, layout_for(model, data, None))
        if dataset.channel_axis is not None:
            model = Laid(model, dataset.channel_axis)
    shape = _shape_of(model, what) if dataset is None else dataset.input_shape
    classes = () if dataset is None else dataset.classes
    name = names[0] if names else _called(what)
    attacks, notes = attacks_of(None)
    about = About(
        data=None if dataset is None else Path(dataset.name).name,
        parameters=info_of(model, name).parameters,
    )
    try:
        live = Live(name, backend_name_of(model)[0], model, shape, classes, attacks, about=about)
    except MeasurementError as error:
        raise HarnessError(f"{what}: {error}") from error
    examples = None if dataset is None else Examples(dataset.test.x, dataset.test.y)
    return Served({name: live}, examples, notes)


def _called(what: str) -> str:
    """The name of a model that is told by a file or a function only."""
    name = what.rpartition(":")[2] if is_function(what) else Path(what).resolve().stem
    try:
        return checked_name(name)
    except ValueError:
        return "model"


def _shape_of(model: Model, what: str) -> tuple[int, ...]:
    """The shape of an image, where the model tells it.

    Raises:
        HarnessError: It does not.
    """
    if (network := network_of(model)) is not None:
        return network.architecture.input_shape
    said = getattr(getattr(innermost(model), "net", None), "input_shape", None)
    shape = tuple(said[1:]) if isinstance(said, tuple) else ()
    if not shape or not all(isinstance(side, int) for side in shape):
        raise HarnessError(
            f"{what}: does not say which images it takes; name some with --data (an .npz, a folder "
            "with a subfolder a class, or package.module:function)"
        )
    return shape
