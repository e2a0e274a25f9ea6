"""Images by what somebody types: a file, a folder, or ``package.module:function``."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from harness.data import load_dataset
from harness.data.dataset import Dataset
from harness.errors import HarnessError, first_problem
from harness.evaluation.imported import imported_in
from harness.evaluation.wrapping import backend_name_of
from harness.factory import is_function
from harness.protocol import Model
from harness.spec.models import DataSpec


def dataset_from(
    data: str,
    bounds: tuple[float, float],
    size: tuple[int, int] | None = None,
    channel_axis: int | None = None,
) -> Dataset:
    """The images of a file, a folder or a function, by what the text looks like.

    Raises:
        HarnessError: They are not there, or not what they should be.
    """
    said = {"bounds": bounds, "size": size, "channel_axis": channel_axis}
    try:
        spec = DataSpec.model_validate({source_key(data, "folder"): data} | said)
    except ValidationError as error:
        raise HarnessError(f"--data: {first_problem(error, DataSpec)}") from error
    return load_dataset(spec)


def layout_for(model: Model, data: str, channel_axis: int | None) -> int | None:
    """The channel axis that is said; of a folder's images that which the model's framework has.

    The images of a folder have no layout of their own: PyTorch takes channels first, and a network
    from an ONNX file what it says itself.
    """
    if channel_axis is None and source_key(data, "folder") == "folder":
        if (imported := imported_in(model)) is not None:
            return imported.read.network.architecture.channel_axis
        return 0 if backend_name_of(model)[0] == "torch" else None
    return channel_axis


def source_key(given: str, folder: str) -> str:
    """Whether a text names a file, a folder or a function, as the key of a spec.

    Args:
        given: The text.
        folder: What the key of a folder is.
    """
    if Path(given).is_dir():
        return folder
    return "load" if is_function(given) else "file"
