"""The sections of the page, a file each; other packages add theirs by entry points."""

from __future__ import annotations

from harness.registry import Registry
from reports.section import Section
from reports.sections import (
    accuracy,
    backends,
    baseline,
    bounds,
    checks,
    classes,
    confusion,
    examples,
    minimal,
    provenance,
    saliency,
    search,
    speed,
    training,
)

OWN = (
    baseline,
    training,
    accuracy,
    bounds,
    examples,
    minimal,
    confusion,
    classes,
    saliency,
    checks,
    backends,
    search,
    speed,
    provenance,
)
SECTIONS: Registry[Section] = Registry(
    "section", "harness.sections", {module.SECTION.id: module.SECTION for module in OWN}
)
"""By their ids, which are the names of the entry points too."""
