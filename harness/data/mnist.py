"""MNIST: 70,000 handwritten digits of 28 × 28 pixels (LeCun, Cortes, Burges; CC BY-SA 3.0)."""

from __future__ import annotations

from pathlib import Path

from harness.data.dataset import Source
from harness.data.idx import IdxDataset, IdxFile

INPUT_SHAPE = (28, 28)
CLASSES = tuple("0123456789")
# The publisher's own host answers 403 and 404 by turns, so it is not among the mirrors.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FILES = (
    IdxFile(
        "train-images-idx3-ubyte.gz",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    IdxFile(
        "train-labels-idx1-ubyte.gz",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        (60_000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte.gz",
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte.gz",
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        (10_000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)


def prepare() -> list[Path]:
    """Make sure that the four files are there and intact; see ``IdxDataset.prepare``."""
    return _dataset().prepare()


def load() -> Source:
    """The images (70000, 28, 28) with pixels 0 … 255 and their labels 0 … 9.

    The publisher's 60,000 training images come first, then its 10,000 test images; see
    ``IdxDataset.load`` for errors.
    """
    return _dataset().load()


def _dataset() -> IdxDataset:
    return IdxDataset("mnist", FILES, MIRRORS, CLASSES)
