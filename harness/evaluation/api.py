"""For people who only want the library: evaluate a network on images of theirs, read a table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from harness.checks.conformance import EPSILONS
from harness.checks.sanity.checks import rules_for
from harness.checks.validity import BESIDE_CERTIFICATES, CHEAP, CHECKS, ValidityCheck
from harness.errors import NotApplicable
from harness.evaluation.arguments import (
    attacks_from,
    certifiers_from,
    expectations_from,
    name_from,
    radii_from,
    suites_from,
)
from harness.evaluation.evaluation import Evaluation, Measures
from harness.evaluation.given import check_outputs, model_from
from harness.evaluation.imported import notes_of
from harness.evaluation.named import layout_for
from harness.evaluation.own import info_of, loaded_own, source_of
from harness.evaluation.proportion import data_info, out_of_proportion
from harness.evaluation.sources import data_from
from harness.evaluation.wrapping import backend_name_of
from harness.files import check_folder
from harness.maths.around import Laid
from harness.maths.outputs import Outputs, kind_of
from harness.progress import progress_bar, quiet
from harness.protocol import GRADIENT, Attack, Bounds, Certifier
from harness.results import keys
from harness.results.judge import judge
from harness.results.provenance import new_run
from harness.results.recorder import Recorder
from harness.results.records import Record
from harness.results.run import Run
from harness.saliency.analysis import MEASURES
from harness.saliency.methods import METHODS
from harness.saliency.occlusion import CHOICES
from harness.spec.expect import ExpectSpec
from harness.spec.measures import AttackSpec, CertifiedSpec, MeasuresSpec, MinimalSpec, SaliencySpec

LOG = logging.getLogger(__name__)
FIRST = 200
"""Images of which saliency maps are analysed and smallest epsilons searched."""
CLIMBERS: tuple[Literal["fgsm", "pgd"], ...] = ("fgsm", "pgd")
"""How smallest epsilons are searched."""


class InterruptedRun(KeyboardInterrupt):  # as its base is called
    """Ctrl-C ended an evaluation.

    Attributes:
        run: All that was measured until then; it says that it is unfinished.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


def evaluate(
    model: Any,
    x: Any,
    y: Any = None,
    attacks: str | Attack | Iterable[str | Attack] | None = None,
    epsilons: float | Iterable[float] = EPSILONS,
    *,
    certifiers: str | Certifier | Iterable[str | Certifier] | None = None,
    name: str = "model",
    bounds: Bounds | None = None,
    outputs: Outputs = "auto",
    suites: str | Iterable[str] = ("attacks",),
    expect: Mapping[str, Any] | ExpectSpec | None = None,
    classes: Sequence[str] | None = None,
    train: Any = None,
    channel_axis: int | None = None,
    epsilon_unit: float | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
    out: str | Path | None = None,
) -> Run:
    """Clean accuracy, and accuracy under each attack at each epsilon; and more, if it is wanted.

    Accuracy under an attack is an *upper bound* on robust accuracy: an attack that fails proves
    nothing, and a stronger one may succeed. What a certifier proves is a *lower bound*: the truth
    lies between.

    It also makes a few cheap checks of whether these numbers can be trusted, on some hundred images
    (``validity.CHEAP``): whether an image's answer changes from call to call, with the batch it
    comes in, or where a gradient is asked for; whether the attacks change anything at epsilon zero,
    raise the accuracy or put misclassified images right; whether epsilon fits the bounds; and
    whether the model is better than chance, or, where it is mostly wrong, far better on another
    view of the images. Each is a record, and one that fails does not stop the others.

    Args:
        model: What ``wrap`` or ``wrap_function`` returned, any other ``protocol.Model``, or a
            network, which is wrapped as ``wrap`` does.
        x: Images, (n, *shape) within the bounds: NumPy arrays, lists, or tensors of any framework;
            bytes are divided by 255 where the bounds are [0, 1]. Or what gives images and labels,
            without y: a ``DataLoader``, a ``tf.data.Dataset``, any iterable of batches, or the path
            of an ``.npz``, or of a folder with a subfolder a class. None is written to.
        y: True labels, (n,) or (n, 1) integers from 0.
        attacks: Names of attacks, or attacks with options: ``PGD(steps=100, restarts=5)``; by
            default ``fgsm``, and ``square`` for a black box. What a model lacks the gradient for is
            skipped.
        epsilons: Radii in pixel units, each ≥ 0; they are swept in rising order.
        certifiers: Names of certifiers, such as ``crown``, or certifiers with options; they are
            asked at the same epsilons. A model is skipped unless its network is known layer by
            layer: built here, or read from an ONNX file.
        name: What the records call the model; it must be able to be a file name.
        bounds: Lowest and highest pixel value, of a network that is not wrapped; [0, 1] if None.
        outputs: What the model returns, as in ``wrap``; it takes the place of what was said there.
        suites: Of ``attacks``, ``validity`` (all its checks), ``saliency`` (measures of maps, and
            whether they explain the model), ``minimal`` (the smallest epsilon of each image).
        expect: What accuracies are judged by, as in a spec: ``{"clean": [0.9, 1.0], "attacks":
            {"fgsm": {0.1: [0.5, 1.0]}}}``; ``certified`` by the names of certifiers, likewise.
        classes: Name of each class, in the order of the labels.
        train: Training images and labels, (x, y), for the check that learns random labels.
        channel_axis: Axis of one image that holds its channels; guessed where that leaves no doubt.
            The images of a folder get them where the model's framework has them.
        epsilon_unit: Epsilons are in this part of a pixel unit: with 255, 8 is 8/255.
        device: Where a network that is not wrapped is computed.
        batch_size: Images at a time; by default as many as fit into memory.
        seed: Of all that is drawn.
        progress: Whether a bar is shown, on a terminal.
        out: A folder, in which the run is saved after each measurement.

    Returns:
        A run whose accuracies are ``measured`` (or ``error``, with the reason), and judged if
        something is expected; the checks follow, ``passed``, ``failed`` or ``skipped``, with the
        reason. ``run.table()`` has the accuracies, ``run.frame()`` all records.

    Raises:
        HarnessError: An argument is not what it should be; or the model returns probabilities,
            undeclared, instead of logits.
        SpecError: There is no attack or certifier of that name, or two have one name.
        InterruptedRun: Ctrl-C; it has the run.

    Example:
        >>> import harness, numpy as np
        >>> x, y = np.array([[[0.45, 0.55]], [[0.9, 0.1]]]), np.array([1, 0])
        >>> model = harness.wrap_function(lambda images: images[:, 0], outputs="logits")
        >>> run = harness.evaluate(model, x, y, "square", [0.1, 0.5], progress=False)
        >>> [(one.epsilon, one.correct) for one in run.records if one.check == "square"]
        [(0.1, 1), (0.5, 0)]
        >>> judged = harness.evaluate(
        ...     model, x, y, "square", 0.1, progress=False,
        ...     expect={"attacks": {"square": {0.1: [0.9, 1.0]}}},
        ... )
        >>> judged.verdict
        'failed'
    """
    source = source_of(model)
    model = model_from(model, bounds, outputs, device, batch_size)
    name, wanted = name_from(name), suites_from(suites)
    if y is None and isinstance(x, str | Path):
        channel_axis = layout_for(model, str(x), channel_axis)
    data = data_from(
        x, y, model.bounds, classes=classes, train=train, seed=seed, channel_axis=channel_axis
    )
    if channel_axis is not None:
        model = Laid(model, channel_axis)
    made = attacks_from(attacks or ("fgsm" if GRADIENT in model.capabilities else "square"))
    radii = radii_from(epsilons, epsilon_unit)
    provers = certifiers_from(certifiers, radii, model.bounds)
    expected = expectations_from(expect, _names(made), _names(provers), radii, epsilon_unit)
    count = check_outputs(model, data)

    sweeps = {attack.name: AttackSpec(epsilons=tuple(radii)) for attack in made}
    asked = {one.name: CertifiedSpec(epsilons=tuple(radii)) for one in provers}
    spec = _spec(name, seed, sweeps, asked, wanted, model.bounds)
    given = {attack.name: attack for attack in made}
    measures = Measures.of(
        spec, lambda of: given.get(of) or attacks_from(of)[0],
        dict(zip(_names(provers), provers, strict=True)).__getitem__,
    )  # fmt: skip
    if "saliency" not in wanted:  # so that there is room for more pictures of attacks
        measures = replace(measures, saliency=SaliencySpec(methods=()))
    said = spec.model_dump(mode="json", exclude_unset=True) | {"outputs": kind_of(model)}
    run = new_run(said)
    run.spec = measures.told(run.spec)
    kind, versions = backend_name_of(model)
    run.versions |= versions
    run.data_sha256 = data.sha256
    run.classes = data.classes or tuple(str(label) for label in range(count))
    run.arrays[keys.LABELS] = data.test.y.astype(np.int32)
    run.data = data_info(data)
    measures = measures.over(run.data)
    if "saliency" in wanted:
        run.spec["saliency"]["cover"] = measures.saliency.cover
    run.notes += [*data.notes, *notes_of(model), *out_of_proportion(measures, model.bounds)]
    save = _saving(run, out)
    LOG.info(
        "evaluating %s (%r) on %d images of shape %s under %s at ε = %s",
        name, model, len(data.test), data.input_shape, ", ".join(given), radii,
    )  # fmt: skip
    loaded, recorder = loaded_own(model, data.train, seed), Recorder(run, kind, name, save)
    run.put_model(info_of(model, name, source))
    evaluation = Evaluation(
        loaded, data.test.x, data.test.y, recorder, measures, validity=_checks(measures, wanted)
    )
    _measured(evaluation, wanted, expected, progress)
    run.finished = True
    save()
    LOG.info("%s: %d records, %s", name, len(run.records), run.verdict)
    return run


def _checks(measures: Measures, suites: Sequence[str]) -> Mapping[str, ValidityCheck]:
    """The checks of validity: all that are asked for, or the cheap ones."""
    if "validity" in suites:
        return CHECKS
    return CHEAP | BESIDE_CERTIFICATES if measures.certified else CHEAP


def _names(made: Sequence[Attack | Certifier]) -> list[str]:
    return [one.name for one in made]


class Step(NamedTuple):
    """A measurement that is to be made."""

    title: str
    make: Callable[[], Record]


def _measured(
    evaluation: Evaluation, suites: Sequence[str], expect: ExpectSpec | None, progress: bool
) -> None:
    """Make all measurements, and judge them, where something is expected."""
    run = evaluation.recorder.run
    steps = list(_steps(evaluation, suites))
    try:
        with _bar(f"evaluating {evaluation.name}", len(steps), progress) as advance:
            # Asked before the attacks, and again after them: no answer may depend on earlier calls.
            with suppress(NotApplicable):
                _ = evaluation.checking.evidence.raw_logits
            for step in steps:
                record = step.make()
                if expect is not None:
                    run.put(judge(record, expect, run))
                advance(step.title)
    except KeyboardInterrupt as stop:
        evaluation.recorder.save()
        raise InterruptedRun(run) from stop


def _steps(evaluation: Evaluation, suites: Sequence[str]) -> Iterator[Step]:
    """All measurements of some suites, in their order."""
    checked, measures = evaluation.checked, evaluation.measures
    yield Step("clean", evaluation.clean)
    if "attacks" in suites:
        for attack, sweep in measures.sweeps.items():
            for epsilon in sweep.epsilons:
                yield Step(attack, partial(evaluation.attacked, attack, epsilon))
    for certifier, asked in measures.certified.items():
        for epsilon in asked.epsilons:
            yield Step("certified", partial(evaluation.certified, certifier, epsilon))
    for climber in measures.minimal.methods if "minimal" in suites else ():
        yield Step("minimal", partial(evaluation.smallest_epsilon, climber))
    if "saliency" in suites:
        for choice in CHOICES:
            yield Step("saliency", partial(evaluation.occluded, choice))
        for method in measures.saliency.methods or ():
            for measure in MEASURES:
                yield Step(method, partial(evaluation.explained, method, measure))
            for rule in rules_for(method):
                yield Step(method, partial(checked, "saliency-sanity", f"{method}/{rule}"))
    for rule in _checks(measures, suites):
        yield Step("validity", partial(checked, "validity", rule))


def _spec(
    name: str,
    seed: int,
    sweeps: Mapping[str, AttackSpec],
    certified: Mapping[str, CertifiedSpec],
    suites: Sequence[str],
    bounds: Bounds,
) -> MeasuresSpec:
    """What is measured, as a spec says it, in proportion to the pixels."""
    said: dict[str, Any] = {"name": name, "attacks": dict(sweeps)}
    if certified:
        said["certified"] = dict(certified)
    if seed:
        said["seed"] = seed
    width = bounds[1] - bounds[0]
    if "saliency" in suites:
        methods = tuple(METHODS.own)
        said["saliency"] = SaliencySpec(methods=methods, images=FIRST, epsilon=0.1 * width)
    if "minimal" in suites:
        said["minimal"] = MinimalSpec(methods=CLIMBERS, images=FIRST, limit=width)
    return MeasuresSpec(**said)


def _saving(run: Run, out: str | Path | None) -> Callable[[], None]:
    """What saves the run; an earlier one in its folder is replaced now."""
    if out is None:
        return lambda: None
    folder = Path(out)
    check_folder(folder, "out")
    run.begin(folder)
    return lambda: run.save(folder)


@contextmanager
def _bar(title: str, total: int, shown: bool) -> Iterator[Callable[[str], None]]:
    """A bar; or none, also of what is measured within."""
    if shown:
        with progress_bar(title, total) as advance:
            yield advance
    else:
        with quiet():
            yield lambda note: None
