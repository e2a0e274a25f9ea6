"""The settings of a run that decide whether two runs may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from harness.attacks import ATTACKS
from harness.attacks.options import BEFORE, CERTIFIER, KIND, UNTOLD, completed, options_before
from harness.errors import one_line
from harness.gate.baseline import Baseline, name_of
from harness.results import keys
from harness.results.run import Run
from harness.spec.measures import MinimalSpec, SaliencySpec

SALIENCY = ("top", "cover", "random_draws", "occlusion", "images", "epsilon")
SECTIONS: dict[str, tuple[str, BaseModel, tuple[str, ...]]] = {
    # A run tells what covered its pixels; older ones, which do not, knew black alone.
    "saliency": ("saliency", SaliencySpec(cover="black"), SALIENCY),
    "minimal-epsilon": ("minimal", MinimalSpec(), ("images", "limit")),
}
"""By the first part of a check its section of the spec, the defaults, and what decides there."""
KINDS = {"attacks": KIND, "certified": CERTIFIER}
"""Sections with sweeps, and under which key the options say what is asked there."""


NOT_SET = "not set"
LONGEST = 120
"""Letters of a value that are shown."""


def changes(run: Run, baseline: Baseline) -> str:
    """Why a run cannot be compared with a baseline at all, or nothing.

    Models, trainings, seeds and thresholds may differ: those are what a gate is for.
    """
    if name_of(run) != baseline.spec:
        return f"the baseline is of the spec {baseline.spec!r}, the run of {name_of(run)!r}"
    if run.data_sha256 != baseline.data_sha256:
        old, new = (value[:12] or "unknown" for value in (baseline.data_sha256, run.data_sha256))
        return f"the data differ (baseline {old}, run {new})"
    return ""


def differences(old: Mapping[str, Any], new: Mapping[str, Any], check: str) -> str:
    """In what the settings of a check differ, for people: ``attacks.pgd.steps is 10, was 40``.

    An option that one side does not know has the value that reproduces what was done before the
    attack had it (see ``attacks/options.py``), so that older baselines stay comparable.

    Args:
        old: The spec that the baseline's run carries.
        new: The spec that the run carries.
        check: Name of a check, as in the records.
    """
    part, _, method = check.partition("/")
    if part in SECTIONS:
        told = _between(_settings(old, part), _settings(new, part))
        if part == "minimal-epsilon" and method in ATTACKS:
            told += _options_between(old, new, "attacks", method)
        return ", ".join(told)
    return ", ".join(_options_between(old, new, *_place(check)))


def uncompared(old: Mapping[str, Any], new: Mapping[str, Any], check: str) -> str:
    """Which options of a check's attack or certifier cannot be compared; empty if all can."""
    names: dict[str, None] = {}
    section, name = _place(check)
    for spec in (old, new):
        options = _mapping(_mapping(_mapping(spec, section), name), "options")
        listed = options.get(UNTOLD)
        names |= dict.fromkeys(map(str, listed) if isinstance(listed, list) else ())
    return one_line(f"{check} has options that cannot be compared: {', '.join(names)}"
                    ) if names else ""  # fmt: skip


def _settings(spec: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The settings of a section that decide what is measured, with the defaults of the unsaid."""
    section, defaults, names = SECTIONS[part]
    said = _mapping(spec, section)
    return {f"{section}.{name}": said.get(name, getattr(defaults, name)) for name in names}


def _place(check: str) -> tuple[str, str]:
    """The section of a spec with the attack or certifier of a check, and its name there."""
    certifier = keys.certifier_of(check)
    if certifier is not None:
        return "certified", certifier
    return "attacks", check.partition("/")[0]


def _options_between(
    old: Mapping[str, Any], new: Mapping[str, Any], section: str, name: str
) -> list[str]:
    """What differs in the options of an attack or certifier, and in how many images it gets."""
    said = [_mapping(_mapping(spec, section), name) for spec in (old, new)]
    before, after = (_stored(section, name, one) for one in said)
    kind, place = KINDS[section], f"{section}.{name}"
    if before and after:  # else one side is of a time when runs did not hold options
        before, after = completed(before, after, kind), completed(after, before, kind)
    else:
        before = after = {}
    images = [{f"{place}.images": one.get("images")} for one in said]
    if before.get(kind) != after.get(kind):  # then most options differ too, and say nothing
        before, after = ({kind: options.get(kind)} for options in (before, after))
    flat = [_flat(place, options) for options in (before, after)]
    return _between(images[0] | flat[0], images[1] | flat[1])


def _stored(section: str, name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an attack or certifier in a run; nothing where it stored none."""
    if isinstance(options := said.get("options"), Mapping):
        return dict(options)
    # Of an attack that is not ours an older run says nothing; certifiers have always told.
    return options_before(name, said) or {} if section == "attacks" else {}


def _between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {_shown(after, name)}, was {_shown(before, name)}"
        for name in sorted(before.keys() | after.keys())
        if (name in before) != (name in after) or before.get(name) != after.get(name)
    ]


def _shown(values: Mapping[str, Any], name: str) -> str:
    text = one_line(values[name]) if name in values else NOT_SET
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _flat(prefix: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options under one name each, their parts joined by dots."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in (BEFORE, UNTOLD):
            continue
        if isinstance(value, Mapping) and value:
            found |= _flat(f"{prefix}.{name}", value)
        else:
            found[f"{prefix}.{name}"] = value
    return found


def _mapping(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, Mapping) else {}
