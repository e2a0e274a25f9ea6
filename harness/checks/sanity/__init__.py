"""Do saliency maps explain the model? Checks, what they ask, and models to compare with."""

from __future__ import annotations

from harness.checks.sanity.checks import CHECKS, findings
from harness.checks.sanity.evidence import Evidence, Variants

__all__ = ["CHECKS", "Evidence", "Variants", "findings"]
