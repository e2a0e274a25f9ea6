"""What a run was asked, as far as it decides whether two runs may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.gate.baseline import Baseline, name_of
from harness.records import Run


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


def asked(spec: Mapping[str, Any], check: str) -> dict[str, Any]:
    """The settings in a spec that decide what a check measures, besides its epsilon."""
    part, _, _ = check.partition("/")
    section = {"saliency": "saliency", "minimal-epsilon": "minimal"}.get(part)
    if section is not None:
        return {f"{section}.{name}": value for name, value in _mapping(spec, section).items()
                if name in ("top", "random_draws", "images", "limit")}  # fmt: skip
    options = _mapping(_mapping(spec, "attacks"), check)
    return {f"attacks.{check}.{name}": value for name, value in options.items()
            if name != "epsilons"}  # fmt: skip


def differences(old: Mapping[str, Any], new: Mapping[str, Any], check: str) -> str:
    """What a check was asked differently, for people: ``attacks.pgd.steps is 10, was 40``."""
    before, after = asked(old, check), asked(new, check)
    return ", ".join(
        f"{name} is {after.get(name, 'not set')}, was {before.get(name, 'not set')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def _mapping(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, Mapping) else {}
