"""Occlusion: if a map names the pixels that matter, covering them costs accuracy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.maths.query import batch_size_for, batches, correct_count, predictions_of
from harness.protocol import FloatArray, Images, IntArray, Model
from harness.saliency.covers import fill_of
from harness.saliency.maps import pixel_scores, pixel_shape, top_pixels
from harness.spec.measures import Cover

CHOICES = ("top", "random", "least")
"""Which pixels are covered: the most salient, as many random ones, or the least salient."""


def occluded_correct(
    model: Model,
    x: Images,
    y: IntArray,
    maps: Images,
    choice: str,
    *,
    fraction: float,
    draws: int,
    seed: int,
    channel_axis: int | None = None,
    cover: Cover = "black",
) -> tuple[int, int]:
    """Images still classified correctly with a share of their pixels covered.

    Args:
        model: The classifier.
        x: Images, (n, *shape) within ``model.bounds``.
        y: True labels, (n,).
        maps: Saliency maps in the shape of x, in memory or computed when they are asked for; or
            scores of its pixels, as ``maps.pixel_scores`` gives them.
        choice: One of ``CHOICES``.
        fraction: Share of the pixels that is covered, in (0, 1].
        draws: How many random choices are made; their counts are added up.
        seed: Seed of the random choices.
        channel_axis: Axis of one map that holds its channels, over which it is summed: then all
            channels of a pixel are covered. If None, every number of a map is of a pixel.
        cover: What covered pixels become, as ``covers.cover_of`` gives it.

    Returns:
        Correct predictions, and predictions made (n, or n × draws for ``random``).
    """
    if choice not in CHOICES:
        raise ValueError(f"{choice}: choose one of {', '.join(CHOICES)}")
    # Each draw goes on from batch to batch, so that the batches change nothing.
    randoms = [np.random.default_rng([seed, draw]) for draw in range(draws)]
    correct = made = 0
    for part in batches(len(x), batch_size_for(model, x)):
        images = np.asarray(x[part])
        fill = fill_of(images, cover, model.bounds, channel_axis)
        scores: Iterable[FloatArray]
        if choice == "random":
            shape = (len(images), *pixel_shape(tuple(maps.shape[1:]), channel_axis))
            scores = (random.random(shape, dtype=np.float32) for random in randoms)
        else:
            sizes = pixel_scores(np.asarray(maps[part]), channel_axis)
            scores = [sizes if choice == "top" else -sizes]
        for ranked in scores:
            covered = np.where(top_pixels(ranked, fraction), fill, images)
            correct += correct_count(predictions_of(model, covered), y[part])
            made += len(images)
    return correct, made
