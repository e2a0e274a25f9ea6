"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 × 28 pixels (Xiao et al. 2017; MIT)."""

from __future__ import annotations

from pathlib import Path

from harness.data.dataset import Source
from harness.data.idx import IdxDataset, IdxFile

INPUT_SHAPE = (28, 28)
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts the files, compressed anew."""
FILES = (
    IdxFile(
        "train-images-idx3-ubyte.gz",
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        (60_000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    IdxFile(
        "train-labels-idx1-ubyte.gz",
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        (60_000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte.gz",
        4_422_102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        (10_000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte.gz",
        5_148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        (10_000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
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
    return IdxDataset("fashion-mnist", FILES, MIRRORS, CLASSES, DEBIAN)
