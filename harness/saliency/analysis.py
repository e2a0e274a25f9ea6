"""All numbers on one method's maps: what a run stores of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.attacks.fgsm import FGSM
from harness.attacks.sweep import sweep
from harness.maths.channels import channel_axis_of
from harness.protocol import FloatArray, IntArray, Model
from harness.saliency import topk
from harness.saliency.covers import cover_of, fill_of
from harness.saliency.maps import pixel_scores, top_pixels
from harness.saliency.methods import explain
from harness.spec.measures import SaliencySpec

Arrays = dict[str, npt.NDArray[Any]]

MEASURES = ("deletion", "insertion", "stability", "strokes")
"""Area under the curve of deletion and of insertion; mean Jaccard index of the top pixels of an
image and of its FGSM version; mean share of the top pixels that lie on the digit's strokes, where
the images have any."""


def under_fgsm(model: Model, x: FloatArray, y: IntArray, epsilon: float) -> FloatArray:
    """The images (n, *shape) after FGSM with that L∞ radius."""
    (found,) = sweep(model, FGSM(), x, y, [epsilon], keep=range(len(x)))
    return found.kept


def analysed(
    model: Model, x: FloatArray, y: IntArray, moved: FloatArray, method: str, settings: SaliencySpec
) -> Arrays:
    """The measures of a method's maps, as arrays by the names that ``run.Run`` documents.

    Of images without strokes (see ``topk.why_no_strokes``) there are no ``strokes``.

    Args:
        model: The classifier.
        x: Images, (n, *shape) within ``model.bounds``.
        y: True labels, (n,); their class is explained.
        moved: The images under FGSM.
        method: Name of the method.
        settings: Share of the pixels that are the top ones, and what covers pixels.
    """
    axis = channel_axis_of(model, tuple(x.shape[1:]))
    scores = pixel_scores(explain(model, x, y, method), axis)
    top = top_pixels(scores, settings.top)
    moved_scores = pixel_scores(explain(model, moved, y, method), axis)
    found = _ranked(model, x, y, scores)
    found["stability"] = topk.jaccard(top, top_pixels(moved_scores, settings.top)).astype(
        np.float32
    )
    if not topk.why_no_strokes(x, model.bounds, axis):
        found["strokes"] = topk.on_strokes(top, x, model.bounds).astype(np.float32)
    fill = _fill(model, x, settings)
    for name, order in (("top", scores), ("least", -scores)):
        covered = topk.covered(model, x, y, order, fill)
        found |= {f"{name}/accuracy": covered.accuracy, f"{name}/confidence": covered.confidence}
    return found


def analysed_at_random(
    model: Model, x: FloatArray, y: IntArray, settings: SaliencySpec, seed: int
) -> Arrays:
    """The same of pixels that are drawn by chance, with Student's 95 % intervals over draws."""
    drawn = topk.covered_at_random(
        model, x, y, _fill(model, x, settings), draws=settings.random_draws, seed=seed
    )
    scores = topk.random_scores(topk.scores_shape(model, x), seed, 0)
    found = _ranked(model, x, y, scores)
    for name, values in (("accuracy", drawn.accuracy), ("confidence", drawn.confidence)):
        found |= {name: values, f"{name}/interval": topk.interval(values)}
    return found


def summary(measure: str, found: Arrays) -> float:
    """One of ``MEASURES`` as one number in [0, 1]."""
    values = found[measure]
    return topk.area(values) if measure in ("deletion", "insertion") else float(values.mean())


def _fill(model: Model, x: FloatArray, settings: SaliencySpec) -> FloatArray:
    """What the pixels of images (n, *shape) become where they are covered."""
    shape = tuple(x.shape[1:])
    axis = channel_axis_of(model, shape)
    return fill_of(x, cover_of(settings.cover, shape, axis), model.bounds, axis)


def _ranked(model: Model, x: FloatArray, y: IntArray, scores: FloatArray) -> Arrays:
    return {
        "deletion": topk.deletion(model, x, y, scores),
        "insertion": topk.insertion(model, x, y, scores),
    }
