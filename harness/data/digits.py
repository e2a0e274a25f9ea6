"""The 1,797 digits of 8 × 8 pixels that come with scikit-learn: no download, seconds to train."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data.dataset import Source

INPUT_SHAPE = (8, 8)
CLASSES = tuple("0123456789")


def prepare() -> list[Path]:
    """Nothing to download: the images are inside scikit-learn."""
    return []


def load() -> Source:
    """The images (1797, 8, 8) with pixels 0 … 16 and their labels 0 … 9."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Source(
        pixels=bunch.images.astype(np.uint8),
        peak=16,
        y=bunch.target.astype(np.int64),
        classes=CLASSES,
    )
