"""The gate: a stored run compared with accepted runs, check by check, with statistics behind it."""

from harness.gate.baseline import Baseline
from harness.gate.compare import against, changed_by, compare, gate
from harness.gate.verdicts import FAILING, VERDICTS, Comparison, Row, Verdict

__all__ = [
    "FAILING", "VERDICTS", "Baseline", "Comparison", "Row", "Verdict", "against", "changed_by",
    "compare", "gate",
]  # fmt: skip
