"""Every name of a spec, looked up before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable

from harness import registry
from harness.attacks import TRANSFERS, make_attack
from harness.certification import make_certifier
from harness.data import DATASETS, shape_of
from harness.errors import SpecError, unknown
from harness.evaluation.imported import RUNTIME
from harness.networks.families import ImageKind, architecture_of, options_for
from harness.protocol import Attack, Bounds, Certifier
from harness.saliency.methods import METHODS
from harness.spec.own import OwnModelSpec
from harness.spec.reading import load_spec, seeded, spec_path
from harness.spec.spec import Spec


def open_spec(name_or_path: str, seed: int | None = None) -> Spec:
    """A spec by name or path, whose every name is known, with another seed if one is given.

    Raises:
        SpecError: There is no such spec, it is wrong, or a name in it is unknown; or the seed is
            none. The message is one line.
    """
    spec = load_spec(name_or_path)
    try:
        spec = resolved(spec)
    except SpecError as error:
        raise SpecError(f"{spec_path(name_or_path)}: {error}") from error
    return seeded(spec, seed)


def resolved(spec: Spec) -> Spec:
    """The spec, all of whose names are known; what it leaves to the harness is filled in.

    Raises:
        SpecError: A backend, dataset, attack, certifier, saliency method, architecture, or option
            of one is unknown, or an epsilon is certified that is wider than the pixels; the message
            begins with the key.
    """
    builders = registry.builders()
    for name in spec.backends:
        if name not in registry.BACKENDS:
            raise SpecError(f"backends: {unknown(name, 'backend', builders)}")
        if name not in builders:
            raise SpecError(
                f"backends: {name} trains no networks; its models are somebody's own, by load or "
                f"file. Those that train are {', '.join(builders)}"
            )
    if spec.data.name is not None and spec.data.name not in DATASETS:
        raise SpecError(f"data.name: {unknown(spec.data.name, 'dataset', DATASETS)}")
    for name in spec.attacks:
        try:
            attack_of(spec, name)
        except SpecError as error:
            # It may begin with the name, which is in front of it already.
            raise SpecError(f"attacks.{name}: {str(error).removeprefix(f'{name}: ')}") from error
    for name in spec.certified:
        _check_certifier(spec, name)
    methods = tuple(METHODS.own) if spec.saliency.methods is None else spec.saliency.methods
    for name in methods:
        if name not in METHODS:
            raise SpecError(f"saliency.methods: {unknown(name, 'method', METHODS)}")
    if spec.saliency.occlusion not in METHODS:
        raise SpecError(
            f"saliency.occlusion: {unknown(spec.saliency.occlusion, 'method', METHODS)}"
        )
    saliency = spec.saliency.model_copy(update={"methods": methods})
    known = None if spec.data.name is None else shape_of(spec.data.name)
    check_architectures(spec, None if known is None else ImageKind(*known))
    for name, own in spec.models.items():
        wanted = own.backend if isinstance(own, OwnModelSpec) else None
        if wanted not in (None, RUNTIME, *builders):
            told = (*builders, RUNTIME)
            raise SpecError(f"models.{name}.backend: {unknown(wanted, 'backend', told)}")
    return spec.model_copy(update={"saliency": saliency})


def _check_certifier(spec: Spec, name: str) -> None:
    """A certifier must exist, and be asked of balls that are not wider than all pixels.

    Raises:
        SpecError: It does not, or is; the message begins with its key.
    """
    try:
        certifier = certifier_of(spec, name)
    except SpecError as error:
        # As of attacks.
        raise SpecError(f"certified.{name}: {str(error).removeprefix(f'{name}: ')}") from error
    wide = wider_than(spec.data.bounds, spec.certified[name].epsilons, certifier)
    if wide:
        raise SpecError(f"certified.{name}.epsilons: {wide}")


def wider_than(bounds: Bounds, epsilons: Iterable[float], certifier: Certifier) -> str:
    """Why a certifier cannot be asked of balls of these radii, as a clause; or nothing.

    Args:
        bounds: Lowest and highest pixel value.
        epsilons: The radii, in pixel units.
        certifier: What is asked; balls in L2 may be wider than a pixel.
    """
    low, high = bounds
    largest = max(epsilons, default=0.0)
    if certifier.norm != "linf" or largest <= high - low:
        return ""
    return (
        f"{largest:g} is wider than the pixels in [{low:g}, {high:g}], so that nothing can be "
        "certified; if 8 means 8/255, say epsilon_unit = 255"
    )


def check_architectures(spec: Spec, images: ImageKind | None) -> None:
    """Each network that is to be trained must exist, and fit the images where they are known.

    Raises:
        SpecError: One does not; the message begins with its key.
    """
    for name, model in spec.trained.items():
        try:
            if images is None:
                options_for(model.architecture, model.options)
            else:
                architecture_of(model.architecture, model.options, images)
        except SpecError as error:
            raise SpecError(f"models.{name}.{error}") from error


def attack_of(spec: Spec, name: str) -> Attack:
    """The attack of that name: with the spec's options, or as it is where the spec has none.

    Raises:
        SpecError: There is no such attack, or it has no such option.
    """
    if name not in spec.attacks:
        return make_attack(name)
    sweep = spec.attacks[name]
    options = sweep.options
    if (sweep.attack or name) in TRANSFERS:  # which may read a file
        options |= {"home": spec.home}
    return make_attack(name, sweep.attack, options)


def certifier_of(spec: Spec, name: str) -> Certifier:
    """The certifier of that name in a spec, with its options.

    Raises:
        SpecError: There is no such certifier, or it has no such option.
    """
    asked = spec.certified[name]
    return make_certifier(name, asked.certifier, asked.options)
