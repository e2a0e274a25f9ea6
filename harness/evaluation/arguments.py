"""What ``evaluate`` is given, as bounds, radii and attacks; or one line on why it cannot be so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from harness import certification
from harness.attacks import make_attack
from harness.attacks.foreign import flaw_of, is_attack
from harness.attacks.strongest import require_distinct
from harness.errors import HarnessError, SpecError, first_problem, one_line, unknown
from harness.evaluation.resolve import wider_than
from harness.names import checked_name, repeated
from harness.protocol import Attack, Bounds, Certifier
from harness.spec.expect import ExpectSpec
from harness.spec.units import in_pixel_units

SUITES = ("attacks", "validity", "saliency", "minimal")
"""What ``evaluate`` can measure."""


class Sort(NamedTuple):
    """What is given by names or as objects.

    Attributes:
        key: The argument.
        what: What one is called in messages.
        has: What such an object has, and where that is said.
        make: Makes one of a name.
        is_one: Whether an object is of this sort.
        flaw_of: What of such an object is not as it should be, as a clause, or nothing.
    """

    key: str
    what: str
    has: str
    make: Callable[[str], Any]
    is_one: Callable[[Any], bool]
    flaw_of: Callable[[Any], str]


ATTACK = Sort(
    "attacks", "attack", "name, norm, requires and perturb, as harness.protocol.Attack says",
    make_attack, is_attack, flaw_of,
)  # fmt: skip
CERTIFIER = Sort(
    "certifiers", "certifier", "name, norm and certified, as harness.protocol.Certifier says",
    certification.make_certifier, certification.is_certifier, certification.flaw_of,
)  # fmt: skip


def name_from(name: Any, key: str = "name") -> str:
    """A name that can be a part of keys of arrays, and the folder of a baseline.

    Raises:
        HarnessError: It cannot.
    """
    if not isinstance(name, str):
        raise HarnessError(one_line(f"{key}: {name!r} is no text; give a name"))
    try:
        return checked_name(name)
    except ValueError as error:
        raise HarnessError(f"{key}: {error}; give it another") from error


def bounds_from(bounds: Any) -> Bounds:
    """Lowest and highest pixel value.

    Raises:
        HarnessError: They are not one finite interval.
    """
    try:
        if isinstance(bounds, str | bytes | bytearray | Mapping | Set):  # text, or in no order
            raise TypeError
        ends = [np.asarray(end) for end in bounds]
        if any(end.dtype.kind in "USO" for end in ends):
            raise TypeError
    except (TypeError, ValueError) as error:
        raise HarnessError(one_line(f"bounds: {bounds!r} is not a pair of numbers")) from error
    if any(end.size != 1 for end in ends):
        raise HarnessError(
            one_line(
                f"bounds: {bounds!r} has bounds of each channel; give one pair, that of all pixels "
                "of the images, and normalise the channels inside the network"
            )
        )
    try:
        low, high = (float(end.item()) for end in ends)
    except (TypeError, ValueError) as error:
        raise HarnessError(f"bounds: {bounds!r} is not a pair of numbers") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise HarnessError(f"bounds: [{low:g}, {high:g}] is not a finite interval")
    return low, high


def radii_from(epsilons: Any, unit: Any = None) -> list[float]:
    """One or more finite radii ≥ 0, in rising order; a single one may be given as a number.

    Args:
        epsilons: The radii.
        unit: What they are divided by: with 255, 8 is 8/255.

    Raises:
        HarnessError: They are not, or would have one name in the records; or the unit is none.
    """
    divisor = _unit_from(unit)
    try:
        if isinstance(epsilons, str | bytes):
            raise TypeError
        given = [epsilons] if np.ndim(epsilons) == 0 and not _many(epsilons) else list(epsilons)
        radii = sorted(float(epsilon) / divisor + 0.0 for epsilon in given)  # no -0.0
    except (TypeError, ValueError, RuntimeError):
        radii = []
    if not radii or not all(math.isfinite(radius) and radius >= 0 for radius in radii):
        raise HarnessError(
            one_line(f"epsilons: {epsilons!r} is not one or more finite numbers ≥ 0")
        )
    if len({f"{radius:g}" for radius in radii}) < len(radii):
        raise HarnessError(f"epsilons: {radii} must differ in their first six digits")
    return radii


def _unit_from(unit: Any) -> float:
    if unit is None:
        return 1.0
    if isinstance(unit, bool) or not isinstance(unit, int | float) or not 0 < unit < math.inf:
        raise HarnessError(one_line(f"epsilon_unit: {unit!r} is not a finite number above 0"))
    return float(unit)


def suites_from(suites: Any) -> list[str]:
    """Names of suites; a single one need not be in a list.

    Raises:
        HarnessError: There is no such suite.
    """
    given = [suites] if isinstance(suites, str) or not isinstance(suites, Iterable) else suites
    names = list(dict.fromkeys(given))
    for name in names:
        if name not in SUITES:
            raise HarnessError(one_line(f"suites: {unknown(name, 'suite', SUITES)}"))
    return names


def expectations_from(
    expect: Any,
    attacks: Sequence[str],
    certifiers: Sequence[str],
    radii: Sequence[float],
    unit: Any = None,
) -> ExpectSpec | None:
    """What accuracies are judged by; None if nothing is expected.

    Args:
        expect: As a spec has it: ``{"clean": [low, high], "attacks": {NAME: {EPSILON: [low,
            high]}}}``, and ``certified`` as ``attacks``.
        attacks: Names of the attacks that are run.
        certifiers: Names of the certifiers that are asked.
        radii: Their epsilons, in pixel units.
        unit: What the epsilons in ``expect`` are divided by.

    Raises:
        HarnessError: It says something else, or expects what is not measured.
    """
    if expect is None:
        return None
    if isinstance(expect, ExpectSpec):
        found = expect
    else:
        if not isinstance(expect, Mapping):
            raise HarnessError(one_line(f"expect: {expect!r} is not a mapping; see [expect]"))
        said = {"epsilon_unit": unit, "models": {"it": {"expect": dict(expect)}}}
        plain = in_pixel_units(said)["models"]["it"]["expect"]
        try:
            found = ExpectSpec.model_validate(plain)
        except ValidationError as error:
            raise HarnessError(f"expect.{first_problem(error, ExpectSpec)}") from error
    for name in found.attacks:
        if name not in attacks:
            raise HarnessError(f"expect.attacks.{name}: that attack is not run; name it in attacks")
    for name in found.certified:
        if name not in certifiers:
            raise HarnessError(
                f"expect.certified.{name}: that certifier is not asked; name it in certifiers"
            )
    for section in ("attacks", "certified"):
        for name, ranges in getattr(found, section).items():
            for epsilon in ranges:
                if epsilon not in radii:
                    raise HarnessError(
                        f"expect.{section}.{name}: {epsilon:g} is none of the epsilons"
                    )
    return found


def attacks_from(attacks: Any) -> list[Attack]:
    """Attacks, by their names or as objects; a single one need not be in a list.

    Raises:
        HarnessError: One is neither, or its name, norm, requirements or method are not what
            ``protocol.Attack`` says.
        SpecError: There is no attack of that name, or two attacks have one name.
    """
    made: list[Attack] = _given(attacks, ATTACK)
    require_distinct(made)
    return made


def certifiers_from(certifiers: Any, radii: Sequence[float], bounds: Bounds) -> list[Certifier]:
    """Certifiers, by their names or as objects, as attacks are given; none if None.

    Args:
        certifiers: What is given.
        radii: The epsilons at which they are asked, in pixel units.
        bounds: Lowest and highest pixel value.

    Raises:
        HarnessError: One is neither, or its name, norm or method are not what
            ``protocol.Certifier`` says; or an epsilon is wider than the pixels.
        SpecError: There is no certifier of that name, or two have one name.
    """
    if certifiers is None:
        return []
    made: list[Certifier] = _given(certifiers, CERTIFIER)
    if found := repeated(one.name for one in made):
        name, count = found
        raise SpecError(f"certifiers: {count} of them are called {name}; name each otherwise")
    for certifier in made:
        if wide := wider_than(bounds, radii, certifier):
            raise HarnessError(f"epsilons: {certifier.name}: {wide}")
    return made


def _given(given: Any, sort: Sort) -> list[Any]:
    """What is given by names or as objects; a single one need not be in a list.

    Raises:
        HarnessError: One is neither, or has a flaw.
        SpecError: There is none of that name.
    """
    one = (
        isinstance(given, str | bytes | bytearray | type | Mapping)
        or sort.is_one(given)
        or not _many(given)
    )
    return [_made(each, sort) for each in ([given] if one else given)]


def _made(given: Any, sort: Sort) -> Any:
    if isinstance(given, str):
        return sort.make(given)
    key, kind = sort.key, type(given).__name__
    if isinstance(given, bytes | bytearray):
        raise HarnessError(one_line(f"{key}: {given!r} is bytes; pass a name as text"))
    if isinstance(given, type):
        raise HarnessError(
            f"{key}: {given.__name__} is a class; pass an object, {given.__name__}()"
        )
    if not sort.is_one(given):
        raise HarnessError(
            f"{key}: {kind} is no {sort.what}; pass names, or objects with {sort.has}"
        )
    name_from(given.name, f"{key}: the name of {kind}")
    if flaw := sort.flaw_of(given):
        raise HarnessError(one_line(f"{key}: {flaw}"))
    return given


def _many(values: Any) -> bool:
    """Whether there are several, such as of a list, an array or a generator."""
    return isinstance(values, Iterable) and getattr(values, "ndim", 1) != 0
