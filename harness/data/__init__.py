"""The datasets by name, made ready for a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from harness.data import cifar10, digits, fashion_mnist, mnist
from harness.data.dataset import Dataset, Part, Source, one_hot, split
from harness.errors import DataError, unknown
from harness.files import data_path
from harness.registry import Registry
from harness.spec.models import DataSpec

__all__ = [
    "DATASETS", "Dataset", "Part", "load_dataset", "one_hot", "prepare", "require_data", "shape_of",
]  # fmt: skip


class Loader(Protocol):
    """What the file of a dataset offers.

    It may also say what its images are, so that an architecture can be held against them when a
    spec is read, before anything is loaded: ``INPUT_SHAPE``, the shape of an image; ``CLASSES``,
    the name of each class in the order of the labels; and ``CHANNEL_AXIS``, the axis of an image
    that holds its channels, if one does.
    """

    def prepare(self) -> list[Path]:
        """Make sure that the files are there and intact, and say where each is."""

    def load(self) -> Source:
        """All images and labels, not yet split."""


OWN: dict[str, Loader] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
}
DATASETS: Registry[Loader] = Registry("dataset", "harness.datasets", OWN)


def load_dataset(spec: DataSpec, home: Path = Path()) -> Dataset:
    """The images that a spec names, split as it says.

    Args:
        spec: Says which.
        home: The folder that paths are relative to, and functions are looked for in.

    Raises:
        DataError: The name is unknown, the split does not exist for this dataset, or its files
            are damaged or cannot be downloaded; or somebody's own images are not what they should
            be.
    """
    if spec.name is None:
        from harness.data.assembled import own_dataset

        return own_dataset(spec, home)
    return split(_loader(spec.name).load(), spec)


def prepare(name: str) -> list[Path]:
    """Download a dataset's files if they are missing, and verify them.

    Returns:
        The path of each file; none for a dataset that comes with a Python package.

    Raises:
        DataError: The name is unknown, or a file is damaged or cannot be downloaded.
    """
    return _loader(name).prepare()


def shape_of(name: str) -> tuple[tuple[int, ...], int, int | None] | None:
    """Shape of an image, number of classes, and channel axis of a dataset; nothing is loaded.

    Returns:
        None where the dataset's file does not say shape and classes. The axis is None where no
        axis holds channels.

    Raises:
        DataError: The name is unknown.
    """
    loader = _loader(name)
    shape, classes = getattr(loader, "INPUT_SHAPE", None), getattr(loader, "CLASSES", None)
    if shape is None or classes is None:
        return None
    return tuple(shape), len(classes), getattr(loader, "CHANNEL_AXIS", None)


def require_data(spec: DataSpec, home: Path = Path()) -> None:
    """Make sure that the images of a spec are there, before anything else is done.

    Raises:
        DataError: As ``prepare``; or a file or folder of somebody's own is not there.
    """
    if spec.name is not None:
        prepare(spec.name)
    for key in ("file", "folder", "train"):
        said = getattr(spec, key)
        if said is not None and not (path := data_path(said, home)).exists():
            remedy = "" if Path(said).is_absolute() else ", nor in HARNESS_DATA_DIR"
            raise DataError(f"data.{key}: {path}: there is no such file or folder{remedy}")


def _loader(name: str) -> Loader:
    if name not in DATASETS:
        raise DataError(unknown(name, "dataset", DATASETS))
    found = DATASETS[name]
    if not (hasattr(found, "prepare") and hasattr(found, "load")):
        raise DataError(f"{name}: has no prepare() and load(), as the file of a dataset must")
    return found
