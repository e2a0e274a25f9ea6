"""The grid search: a study of trainings, its points, and the table that it prints."""

from importlib.util import find_spec

from harness.errors import HarnessError

NEEDED = ("optuna", "sqlalchemy")


def require_installed() -> None:
    """Look whether what a search is made of is installed, without importing it.

    Raises:
        HarnessError: It is not; the line says what to install.
    """
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        raise HarnessError(
            f"search: {' and '.join(absent)} not installed; "
            "pip install 'robustness-harness[search]'"
        )
