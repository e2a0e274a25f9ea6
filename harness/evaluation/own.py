"""Models that somebody brings: made by a function, read from a file, or wrapped already."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from harness import registry
from harness.data.dataset import Part
from harness.errors import HarnessError, SpecError
from harness.evaluation.imported import NetworkCopies, imported_in, network_of
from harness.evaluation.models import LoadedModel
from harness.evaluation.references import CopiedReferences
from harness.evaluation.wrapping import backend_name_of, is_onnx, wrap
from harness.factory import called
from harness.maths.around import innermost, preprocessing_of
from harness.maths.outputs import kind_of
from harness.networks.onnx.graph import GraphError
from harness.protocol import About, Bounds, Copies, Model
from harness.results.records import ModelInfo
from harness.spec.own import OwnModelSpec
from harness.spec.spec import Spec


def own_model(spec: Spec, name: str, backend: str | None = None) -> Model:
    """The model of that name in a spec, made by its function or read from its file.

    Args:
        spec: The spec.
        name: Of the model.
        backend: In which the network of an ``.onnx`` file is built, where the spec leaves it open;
            by default the first of the spec's that is installed, or any.

    Raises:
        SpecError: It cannot be had; the message begins with its key.
    """
    wanted = spec.models[name]
    if not isinstance(wanted, OwnModelSpec):
        raise SpecError(f"models.{name}: is trained here")
    try:
        if wanted.file is not None:
            found: Any = spec.home / Path(wanted.file).expanduser()
        else:
            found = called(str(wanted.load), wanted.options, spec.home)
        return wrapped(found, spec, wanted, backend)
    except HarnessError as error:
        key = "file" if wanted.file is not None else "load"
        raise SpecError(f"models.{name}.{key}: {error}") from error


def wrapped(net: Any, spec: Spec, wanted: OwnModelSpec, backend: str | None = None) -> Model:
    """A network as a spec says that it is to be called; ``backend`` as in ``own_model``."""
    by = wanted.preprocessing
    call = partial(
        wrap, net, spec.data.bounds, wanted.outputs,
        output=wanted.output,
        preprocessing=None if by is None else {"mean": by.means, "std": by.deviations},
        channel_axis=_first(wanted.channel_axis, spec.data.channel_axis),
        device=_first(wanted.device, spec.device),
        batch_size=_first(wanted.batch_size, spec.batch_size),
        randomised=wanted.randomised, votes=wanted.votes,
    )  # fmt: skip
    if wanted.file is None or not is_onnx(wanted.file):
        return call()
    there = (name for name in spec.backends if not registry.missing(name))
    preferred = _first(backend, next(there, None))
    if wanted.backend is not None or preferred is None:
        return call(backend=wanted.backend)
    try:
        return call(backend=preferred)
    except GraphError:  # which nobody has asked to be built: a black box
        return call()


def loaded_own(model: Model, train: Part | None = None, seed: int = 0) -> LoadedModel:
    """Somebody's own model, with what checks compare it with, where its network can be copied."""
    backend, _ = backend_name_of(model)
    copies = copies_of(model)
    references = CopiedReferences(model, copies, train, seed) if copies else None
    return LoadedModel(model, backend, references=references, network=network_of(model))


def copies_of(model: Model) -> Copies | None:
    """What makes copies of a model's network; None where its backend makes none."""
    if (imported := imported_in(model)) is not None:
        return NetworkCopies(imported)
    name, _ = backend_name_of(model)
    if name not in registry.BACKENDS:
        return None
    make = getattr(registry.backend(name), "copies", None)
    found: Copies | None = make(innermost(model)) if make else None
    return found


def info_of(model: Model, name: str, source: str = "") -> ModelInfo:
    """What a run tells of somebody's own model."""
    inner = innermost(model)
    ask = getattr(model, "about", None)
    about = ask() if callable(ask) else About(kind=type(inner).__name__)
    mean_std = preprocessing_of(model)
    told = "" if mean_std is None else f"(x - {_numbers(mean_std[0])}) / {_numbers(mean_std[1])}"
    return ModelInfo(
        model=name,
        backend=backend_name_of(model)[0],
        fingerprint=about.identity or hashlib.sha256(f"{source} {about.kind}".encode()).hexdigest(),
        cached=True,
        source=source,
        kind=about.kind,
        parameters=about.parameters,
        preprocessing=told,
        outputs=kind_of(model),
        device=about.device,
        queries=getattr(inner, "queries", None),
    )


def with_bounds(model: Model, bounds: Bounds, where: str) -> Model:
    """The model, whose bounds must be those of the data.

    Raises:
        HarnessError: They are not: a function that wraps a network itself may say others.
    """
    if tuple(model.bounds) != tuple(bounds):
        raise HarnessError(
            f"{where}: the model takes pixels in {list(model.bounds)}, but the data are in "
            f"{list(bounds)}; say bounds in one of them"
        )
    return model


def _numbers(values: list[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"[{', '.join(f'{v:g}' for v in values)}]"


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def source_of(net: Any) -> str:
    """Where a model that is passed by hand is from, for people."""
    return str(net) if isinstance(net, str | Path) else ""
