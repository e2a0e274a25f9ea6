"""What the command line takes and shows: paths, and names with whatever signs they hold."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from harness.errors import HarnessError, printable

MODEL_HELP = (
    "A .onnx, .keras or .pt2 file, a .safetensors that says its layers, the folder of a "
    "SavedModel, or package.module:function."
)
DATA_HELP = "An .npz file, a folder with a subfolder a class, or package.module:function."
"""What is said of arguments that several commands have."""


def plain(value: object, style: str = "") -> Text:
    """Text that rich prints as it is, without what it or a terminal would obey."""
    return Text(printable(str(value)), style)


def as_path(given: str | Path) -> Path:
    """A path of the command line; one that is empty, as of an unset variable, is none.

    Raises:
        HarnessError: It is empty.
    """
    if not str(given):
        raise HarnessError("a path on the command line is empty; name one, or . for this folder")
    return Path(given)
