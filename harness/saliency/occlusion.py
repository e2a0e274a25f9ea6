"""Occlusion: if a map names the pixels that matter, covering them costs accuracy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.maths.query import correct_count, predictions_of
from harness.protocol import BoolArray, FloatArray, IntArray, Model
from harness.saliency.maps import top_pixels

CHOICES = ("top", "random", "least")
"""Which pixels are covered: the most salient, as many random ones, or the least salient."""


def occluded_correct(
    model: Model,
    x: FloatArray,
    y: IntArray,
    maps: FloatArray,
    choice: str,
    *,
    fraction: float,
    draws: int,
    seed: int,
) -> tuple[int, int]:
    """Images still classified correctly with a share of their pixels covered.

    Args:
        model: The classifier.
        x: Images, (n, *shape); covered pixels get the lower end of ``model.bounds``.
        y: True labels, (n,).
        maps: How salient each pixel is: in the shape of x, or as ``maps.pixel_scores`` gives it,
            and then all channels of a pixel are covered.
        choice: One of ``CHOICES``.
        fraction: Share of the pixels that is covered, in (0, 1].
        draws: How many random choices are made; their counts are added up.
        seed: Seed of the random choices.

    Returns:
        Correct predictions, and predictions made (n, or n × draws for ``random``).
    """
    correct = made = 0
    for mask in _masks(maps, choice, fraction, draws, seed):
        covered = np.where(mask, np.asarray(model.bounds[0], dtype=x.dtype), x)
        correct += correct_count(predictions_of(model, covered), y)
        made += len(x)
    return correct, made


def _masks(
    maps: FloatArray, choice: str, fraction: float, draws: int, seed: int
) -> Iterator[BoolArray]:
    if choice == "top":
        yield top_pixels(maps, fraction)
    elif choice == "least":
        yield top_pixels(-maps, fraction)
    elif choice == "random":
        for draw in range(draws):
            noise = np.random.default_rng([seed, draw]).random(maps.shape, dtype=np.float32)
            yield top_pixels(noise, fraction)
    else:
        raise ValueError(f"{choice}: choose one of {', '.join(CHOICES)}")
