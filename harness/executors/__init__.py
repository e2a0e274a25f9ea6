"""Where pieces of a run are measured: processes of this machine, Dask, and what others bring."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.executors.opening import EXECUTORS, opened, require_address, require_answer
    from harness.executors.processes import Processes
    from harness.executors.scheduling import Done, Job, Lost, completed
    from harness.executors.stamp import Stamp, own_code, own_stamp, problem
    from harness.executors.workers import NoWorkers, Refused, WorkerDied, Workers

__all__ = [
    "EXECUTORS", "Done", "Job", "Lost", "NoWorkers", "Processes", "Refused", "Stamp", "WorkerDied",
    "Workers", "completed", "opened", "own_code", "own_stamp", "problem", "require_address",
    "require_answer",
]  # fmt: skip
_HOMES = {
    "opening": ("EXECUTORS", "opened", "require_address", "require_answer"),
    "processes": ("Processes",),
    "scheduling": ("Done", "Job", "Lost", "completed"),
    "stamp": ("Stamp", "own_code", "own_stamp", "problem"),
    "workers": ("NoWorkers", "Refused", "WorkerDied", "Workers"),
}


def __getattr__(name: str) -> Any:
    """Load a module on first use, so that a worker, which needs one, starts at once."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"harness.executors.{module}"), name)
    raise AttributeError(f"module 'harness.executors' has no attribute {name!r}")
