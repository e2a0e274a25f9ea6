"""For people who only want the library: wrap a network, evaluate it, read a table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from harness.checks.conformance import EPSILONS
from harness.checks.validity import CHEAP
from harness.data.own import from_arrays
from harness.errors import HarnessError, NotApplicable, gist, one_line
from harness.evaluation.arguments import (
    attacks_from,
    bounds_from,
    name_from,
    radii_from,
)
from harness.evaluation.evaluation import Evaluation, Measures
from harness.evaluation.models import LoadedModel
from harness.maths.outputs import Outputs, declared, kind_of, looked_through, undeclared
from harness.maths.query import batches, logits_of
from harness.protocol import Attack, Bounds, Images, IntArray, Model, Wrapping
from harness.registry import backend_of, made_by
from harness.results import keys
from harness.results.provenance import new_run
from harness.results.recorder import Recorder
from harness.results.run import Run
from harness.spec.measures import AttackSpec, MeasuresSpec

HASHED = 2**24
"""Bytes of the data that are hashed at a time."""


def wrap(net: Any, bounds: Bounds = (0.0, 1.0), outputs: Outputs = "auto") -> Model:
    """A user's own network as a model to evaluate; the network is not changed.

    Args:
        net: A ``torch.nn.Module`` or a ``keras.Model`` that returns logits, (n, k).
        bounds: Lowest and highest pixel value that the network takes.
        outputs: What the network returns. With ``auto`` outputs that look like probabilities are
            refused when they are met. ``logits`` says that they are none, whatever they look like.
            ``probabilities`` takes their logarithms for logits, and admits attacks without
            gradients only, because behind a softmax or sigmoid gradients vanish.

    Raises:
        HarnessError: The bounds are not an interval, or the outputs none of the three.
        BackendError: The object is not a network of a known framework.
    """
    interval = bounds_from(bounds)
    return declared(backend_of(net).wrap(net, Wrapping(interval)), outputs)


def evaluate(
    model: Model,
    x: Any,
    y: Any = None,
    attacks: str | Attack | Iterable[str | Attack] = ("fgsm",),
    epsilons: float | Iterable[float] = EPSILONS,
    *,
    name: str = "model",
    outputs: Outputs = "auto",
) -> Run:
    """Clean accuracy, and accuracy under each attack at each epsilon.

    Accuracy under an attack is an *upper bound* on robust accuracy: an attack that fails proves
    nothing, and a stronger one may succeed.

    Arrays are NumPy's, lists, pandas columns, or tensors of any framework; none is written to.
    It also makes a few cheap checks of whether these numbers can be trusted, on some hundred images
    (``validity.CHEAP``): whether an image's answer changes from call to call, with the batch it
    comes in, or where a gradient is asked for; whether the attacks change anything at epsilon zero,
    raise the accuracy or put misclassified images right; whether epsilon fits the bounds; and
    whether the model is better than chance, or, where it is mostly wrong, far better on another
    view of the images. Each is a record, and one that fails does not stop
    the others.

    Args:
        model: A wrapped network, or any other ``protocol.Model``.
        x: Images, (n, *shape), floats within ``model.bounds``; or bytes, which are divided by 255
            where the bounds are [0, 1].
        y: True labels, (n,) or (n, 1) integers from 0; without them nothing can be counted.
        attacks: Names of attacks, or attacks with options: ``PGD(steps=100, restarts=5)``.
        epsilons: Radii in pixel units, each ≥ 0; they are swept in rising order.
        name: What the records call the model; it must be able to be a file name.
        outputs: What the model returns, as in ``wrap``; it takes the place of what was said there.

    Returns:
        A run whose accuracies are ``measured`` (or ``error``, with the reason), not judged; the
        checks follow, ``passed``, ``failed`` or ``skipped``, with the reason. ``run.frame()`` is
        the table.

    Raises:
        HarnessError: The model, the images, the labels, the attacks, or the epsilons are not what
            they should be; or the model returns probabilities, undeclared, instead of logits.
        SpecError: There is no attack of that name, or two attacks have one name.
    """
    if isinstance(model, type) or not isinstance(model, Model):
        kind = model.__name__ if isinstance(model, type) else type(model).__name__
        raise HarnessError(f"{kind}: not a model; pass harness.wrap(net)")
    model = declared(model, outputs)
    data = from_arrays(x, y, model.bounds)
    images, labels = data.x, data.y
    name, made, radii = name_from(name), attacks_from(attacks), radii_from(epsilons)
    classes = _check_outputs(model, images, labels)

    kind, versions = made_by(undeclared(model))
    sweeps = {attack.name: AttackSpec(epsilons=tuple(radii)) for attack in made}
    spec = MeasuresSpec(name=name, attacks=sweeps)
    measures = Measures.of(spec, {attack.name: attack for attack in made}.__getitem__)
    said = spec.model_dump(mode="json", exclude_unset=True) | {"outputs": kind_of(model)}
    run = new_run(said)
    run.spec = measures.told(run.spec)
    run.versions |= versions
    run.notes = list(data.notes)
    run.data_sha256 = _content_hash(images, labels)
    run.classes = tuple(str(label) for label in range(classes))
    run.arrays[keys.LABELS] = labels.astype(np.int32)
    loaded, recorder = LoadedModel(model, kind), Recorder(run, kind, name)
    evaluation = Evaluation(loaded, images, labels, recorder, measures, validity=CHEAP)
    # Asked before the attacks, and again after them: no answer may depend on earlier calls.
    with suppress(NotApplicable):
        _ = evaluation.checking.evidence.raw_logits
    evaluation.clean()
    for attack in made:
        for radius in radii:
            evaluation.attacked(attack.name, radius)
    for rule in CHEAP:
        evaluation.checked("validity", rule)
    run.finished = True
    return run


def _content_hash(images: Images, labels: IntArray) -> str:
    """SHA-256 of images and labels, by which the gate knows the same data; in parts, uncopied."""
    digest = hashlib.sha256()
    for array in (images, labels):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        for part in batches(len(array), max(1, HASHED // max(1, array[:1].nbytes))):
            digest.update(np.ascontiguousarray(array[part]).data)
    return digest.hexdigest()


def _check_outputs(model: Model, images: Images, labels: IntArray) -> int:
    """Catch early what would make every later number wrong; returns the number of classes."""
    try:
        logits = logits_of(model, images[:64])
    except Exception as error:
        shape = images.shape[1:]
        why = str(error) if isinstance(error, HarnessError) else gist(error)
        raise HarnessError(
            one_line(f"the model cannot be evaluated on images of shape {shape}: {why}")
        ) from error
    if found := looked_through(model, images):
        raise HarnessError(
            f"the model returns probabilities, not logits: {found}; leave the softmax or sigmoid "
            "at its end out, or say outputs='logits' if they are, or outputs='probabilities' for "
            "attacks without gradients"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise HarnessError(
            f"y: labels span [{low}, {high}], but the model has {logits.shape[1]} classes from 0"
        )
    return int(logits.shape[1])
