"""CIFAR-10: 60,000 colour pictures of ten kinds of things, 32 × 32 pixels (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data.batch_archive import BatchArchive, read_archive
from harness.data.dataset import Bytes, Integers, Source
from harness.data.download import locate

INPUT_SHAPE = (32, 32, 3)
CHANNEL_AXIS = 2
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
)
ARCHIVE = BatchArchive(
    "cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test="test_batch.bin",
    names="batches.meta.txt",
    images=10_000,
)


def prepare() -> list[Path]:
    """Make sure that the publisher's archive is there and intact, downloading it if it is not.

    Returns:
        Where it is: in ``$HARNESS_DATA_DIR/cifar10``, else in ``data/cifar10`` of the user cache.

    Raises:
        DataError: It is damaged, or not the publisher's; or missing and cannot be downloaded.
    """
    (path,) = locate("cifar10", [ARCHIVE], MIRRORS)
    read_archive(path, ARCHIVE, CLASSES, "cifar10")
    return [path]


def load() -> Source:
    """The images (60000, 32, 32, 3) with pixels 0 … 255, red first, and their labels 0 … 9.

    The publisher's 50,000 training images come first, then its 10,000 test images. They are read
    out of the archive, which is not unpacked to the disk.

    Raises:
        DataError: The archive is damaged, or not the publisher's; or missing and cannot be
            downloaded.
    """
    (path,) = locate("cifar10", [ARCHIVE], MIRRORS)
    pixels, y = _images(read_archive(path, ARCHIVE, CLASSES, "cifar10"))
    return Source(
        pixels=pixels,
        peak=255,
        y=y,
        classes=CLASSES,
        published_train=len(ARCHIVE.train) * ARCHIVE.images,
        channel_axis=CHANNEL_AXIS,
    )


def _images(records: Bytes) -> tuple[Bytes, Integers]:
    """Pixels (n, h, w, 3) and labels (n,) of records: a label, then a plane of each colour."""
    height, width, channels = INPUT_SHAPE
    planes = records[:, 1:].reshape(-1, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int64)
