"""Do maps explain the model? Checks of a saliency method, usable without pytest.

Each ``check_...`` takes ``Evidence`` and raises ``CheckFailed`` with one line that names what
was found and ends with a sentence on what to do, or ``NotApplicable`` where the evidence lacks
what is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.checks.check import Check, run_checks
from harness.checks.sanity.evidence import FEW, IMAGES, MOST, Evidence, Likeness, Variants, unsound
from harness.errors import CheckFailed, NotApplicable
from harness.maths.differences import NO_SLOPE, off_the_ties, slopes
from harness.maths.images import IN_MEMORY
from harness.maths.objectives import ClassLogit, CrossEntropy
from harness.maths.query import correct_count, logits_of, predictions_of
from harness.protocol import BoolArray, FloatArray, Objective
from harness.registry import Registry
from harness.saliency.covers import IN_WORDS, cover_of
from harness.saliency.maps import pixel_scores
from harness.saliency.methods import unchecked_maps
from harness.saliency.occlusion import occluded_correct
from harness.saliency.similarity import rank_correlation

__all__ = [
    "CHECKS", "Evidence", "Variants", "findings", "rules_for",
]  # fmt: skip

REPEATABLE = 1e-6
"""Difference between two calls that is rounding, relative to the largest value of the maps."""
EXACT = 1e-6
"""Agreement required of two float64 computations of a map, relative to its largest value."""
COMPLETE = 0.05
"""How far the sum of a map may be from the logit that it explains, relative to that: the quadrature
has few points, and the gradient of a ReLU network jumps between them."""
DIFFERENCE = 1e-5
"""Agreement of a gradient with finite differences, relative to the largest of them."""
SWITCHED = 0.01
"""Share of the pixels that may disagree, because a ReLU switched within the step."""
PIXELS = 64
"""Pixels of each image of which finite differences are taken."""
DRAWS = 5
"""How often random pixels are drawn that are covered."""
TOP = 0.15
"""Share of the pixels that is covered."""

FAINT = 1e-3
"""Slopes below this share of an image's largest are too faint to divide by."""
FACTOR = 0.9
"""Rank correlation of the factors of two models above which the image alone decides them."""
BY_THE_PIXEL = 0.01
"""Share of a factor that may be other than a pixel's distance from a baseline."""

IGNORES = "Do not show such maps: they do not explain what the model does."


def check_finite(evidence: Evidence) -> None:
    """Maps hold neither NaN nor infinity, and none is zero everywhere."""
    bad = unsound(evidence.maps)
    if bad.any():
        raise CheckFailed(
            f"{bad.sum()} of {len(bad)} maps hold NaN or infinity, or are zero everywhere",
            "Look for an overflow, or for a gradient that has vanished.",
            of=f"finite: {evidence.name}",
        )


def check_deterministic(evidence: Evidence) -> None:
    """The same images get the same maps in a second call."""
    maps = evidence.require_sound()
    _require_close(
        "deterministic", evidence, evidence.maps_of(evidence.model), maps, REPEATABLE,
        "in a second call", "Draw random numbers from a seed, each image's own.",
    )  # fmt: skip


def check_completeness(evidence: Evidence) -> None:
    """Integrated gradients sum to the logit less that of the black image.

    (Sundararajan et al. 2017, proposition 1.)
    """
    if evidence.name != "integrated-gradients":
        raise NotApplicable(f"{evidence.name} does not promise completeness")
    x, y, model = evidence.x, evidence.y, evidence.model
    maps = evidence.require_sound()
    black = np.full_like(x, model.bounds[0])
    rows = np.arange(len(y))
    gained = (logits_of(model, x) - logits_of(model, black))[rows, y]
    error = np.abs(maps.reshape(len(maps), -1).sum(axis=1) - gained)
    worst = float(np.mean(error) / np.maximum(np.mean(np.abs(gained)), 1e-12))
    if not worst <= COMPLETE:
        raise CheckFailed(
            f"the sum of a map differs from what the logit gained by {worst:.3g} of it on average",
            "Integrate from the black image to the image, with more steps.",
            of=f"completeness: {evidence.name}",
        )


def check_finite_differences(evidence: Evidence) -> None:
    """A gradient is the change of the objective when a pixel is moved, in float64.

    The images are moved a little first: see ``differences.off_the_ties``.
    """
    if evidence.name not in DERIVED:
        raise NotApplicable(f"{evidence.name} is no gradient at the image itself")
    model = evidence.require_variants().exact
    x, y = off_the_ties(evidence.x[:FEW], model.bounds, evidence.seed), evidence.y[:FEW]
    maps = evidence.maps_of(model, x, y).reshape(len(x), -1)
    if evidence.name == "predicted-gradient":
        y = logits_of(model, x).argmax(axis=1)
    chosen = np.random.default_rng(evidence.seed).permutation(maps.shape[1])[:PIXELS]
    pixels = np.tile(chosen, (len(x), 1))
    slope = slopes(model, x, y, DERIVED[evidence.name], pixels, DIFFERENCE)
    if not slope.enough:
        raise NotApplicable(NO_SLOPE)
    factor = x.reshape(len(x), -1)[:, chosen] if evidence.name == "gradient-x-input" else 1.0
    error = np.abs(maps[:, chosen] - factor * slope.values)
    wrong = float(np.mean(~(error <= np.abs(factor) * slope.allowed)[slope.smooth]))
    if wrong > SWITCHED:
        raise CheckFailed(
            f"{wrong:.1%} of the pixels have another slope than the model",
            "Look for a wrong sign, order of the axes, class or objective in the method.",
            of=f"finite-differences: {evidence.name}",
        )


def check_backends(evidence: Evidence) -> None:
    """Maps are those of the NumPy oracle on the same weights, in float64.

    The images are moved a little first: on a flat background rounding decides which of the inputs
    of a max-pooling is the largest, and gets the gradient; see ``differences.off_the_ties``.
    """
    variants, _ = evidence.require_variants(), evidence.require_sound()
    exact, oracle = variants.exact, variants.oracle  # before any maps, should one be missing
    x = off_the_ties(evidence.x, evidence.model.bounds, evidence.seed)
    _require_close(
        "backends", evidence, evidence.maps_of(exact, x),
        evidence.maps_of(oracle, x), EXACT, "beside the NumPy oracle",
        "Use the model's xp and operators only.",
    )  # fmt: skip


def check_random_layers(evidence: Evidence) -> None:
    """Maps change with the layers, as these become random from the last to the first.

    The cascading randomisation of Adebayo et al. (2018), section 3.1. The more layers are random,
    the less alike signed maps may be; guided backpropagation and deconvnet keep theirs (Nie et al.
    2018, Sixt et al. 2020). Absolute ones may be alike as long as a layer is left, but not after.
    """
    bounds, found = evidence.bounds, evidence.likenesses
    if not found:
        raise NotApplicable("the network has no layers that could be made random")
    for depth, likeness in enumerate(found, start=1):
        left = (len(found) - depth) / max(len(found) - 1, 1)
        signed = bounds.signed_all + left * (bounds.signed_some - bounds.signed_all)
        limit = bounds.some_random if depth < len(found) else bounds.all_random
        words = f"with {depth} random layers"
        _require_unlike("random-layers", evidence, likeness, (limit, signed), words)


def check_random_weights(evidence: Evidence) -> None:
    """Maps of a model whose layers are all random are unlike the model's own."""
    found = evidence.likeness(evidence.require_variants().random)
    _require_unlike("random-weights", evidence, found, _all_random(evidence), "with random weights")


def check_random_labels(evidence: Evidence) -> None:
    """Maps of a model trained on random labels are unlike those of one trained on the true ones.

    (Adebayo et al. 2018, section 3.2.)
    """
    found, words = (
        evidence.likeness(evidence.require_variants().random_labels),
        "trained on random",
    )
    _require_unlike("random-labels", evidence, found, _all_random(evidence), f"{words} labels")


def check_image_factor(evidence: Evidence) -> None:
    """A map is no gradient that was multiplied by something the image alone decides.

    Such a factor, an edge detector's output for one, makes any map look like the image, and leaves
    it enough of the gradient to change with the weights. It shows when the map is divided by the
    gradient: a model with random weights leaves the same. A factor that each pixel's own distance
    from a baseline decides is attribution, as in gradient × input; in colour, its distance in each
    channel.
    """
    variant, ratios, kept = (
        evidence.require_variants().random,
        [],
        np.ones(evidence.x.shape, dtype=bool),
    )
    for model, maps in (
        (evidence.model, evidence.require_sound()),
        (variant, evidence.maps_of(variant)),
    ):
        slope = np.abs(unchecked_maps(model, evidence.x, evidence.y)).astype(np.float64)
        largest = slope.max(axis=tuple(range(1, slope.ndim)), keepdims=True)
        kept &= slope > FAINT * largest
        ratios.append(np.abs(maps) / np.where(kept, slope, 1.0))
    own, other = (np.where(kept, ratio, 0.0) for ratio in ratios)
    alike = float(rank_correlation(own, other).mean())
    unexplained = float(_not_by_the_pixel(own, evidence.x, kept, evidence.axis).mean())
    if alike > FACTOR and unexplained > BY_THE_PIXEL:
        raise CheckFailed(
            f"maps are the gradient times a factor of the image alone, which a model with random "
            f"weights leaves the same (rank correlation {alike:.3f})",
            "Leave the factor out: it shows the image, not the model.",
            of=f"image-factor: {evidence.name}",
        )


def check_class_sensitivity(evidence: Evidence) -> None:
    """The (signed) map of the true class is unlike that of the least likely class."""
    if evidence.name == "predicted-gradient":
        raise NotApplicable("it explains the predicted class, whatever class is given")
    maps = evidence.require_sound()
    others = evidence.maps_of(evidence.model, y=evidence.least_likely)
    found = float(rank_correlation(maps, others).mean())
    if not found <= evidence.bounds.classes:
        raise CheckFailed(
            f"maps of the true and of the least likely class have rank correlation {found:.3f}, "
            f"above {evidence.bounds.classes:g}",
            "Explain the class that is given.",
            of=f"class-sensitivity: {evidence.name}",
        )


def check_occlusion(evidence: Evidence) -> None:
    """Covering the most salient pixels costs more accuracy than covering as many random ones.

    The suite judges one method in the same way, on all images, as ``saliency/top``.
    """
    image = evidence.test_x.nbytes // len(evidence.test_x)
    some = evidence.telling[: min(MOST, max(IMAGES, IN_MEMORY // max(1, image)))]
    x, y = np.asarray(evidence.test_x[some]), evidence.test_y[some]
    maps = evidence.maps_of(evidence.model, x, y)
    if unsound(maps).any():
        raise NotApplicable("a map is not finite, or is zero everywhere")
    scores = pixel_scores(maps, evidence.axis)
    cover = cover_of(evidence.cover, tuple(x.shape[1:]), evidence.axis)
    accuracy = {}
    for choice in ("top", "random"):
        right, made = occluded_correct(
            evidence.model, x, y, scores, choice,
            fraction=TOP, draws=DRAWS, seed=evidence.seed, channel_axis=evidence.axis, cover=cover,
        )  # fmt: skip
        accuracy[choice] = right / made
    if not accuracy["random"] - accuracy["top"] >= evidence.bounds.margin:
        clean = correct_count(predictions_of(evidence.model, x), y) / len(y)
        raise CheckFailed(
            f"accuracy {clean:.3f} falls to {accuracy['top']:.3f} with the {TOP:.0%} most salient "
            f"pixels {IN_WORDS[cover]}, and to {accuracy['random']:.3f} with random ones",
            "Do not show such maps: the pixels that they name do not matter to the model.",
            of=f"occlusion: {evidence.name}",
        )


OWN: dict[str, Check[Evidence]] = {
    "finite": check_finite,
    "deterministic": check_deterministic,
    "completeness": check_completeness,
    "finite-differences": check_finite_differences,
    "backends": check_backends,
    "random-layers": check_random_layers,
    "random-weights": check_random_weights,
    "random-labels": check_random_labels,
    "image-factor": check_image_factor,
    "class-sensitivity": check_class_sensitivity,
    "occlusion": check_occlusion,
}
CHECKS: Registry[Check[Evidence]] = Registry("check", "harness.checks.sanity", OWN)

DERIVED: dict[str, Objective] = {
    "gradient": ClassLogit(),
    "predicted-gradient": ClassLogit(),
    "gradient-x-input": ClassLogit(),
    "loss-gradient": CrossEntropy(),
}
"""What the methods differentiate that are gradients at the image itself."""


def rules_for(method: str) -> list[str]:
    """The checks that can apply to a method of the harness."""
    promised = {
        "completeness": method == "integrated-gradients",
        "finite-differences": method in DERIVED,
        "class-sensitivity": method != "predicted-gradient",
    }
    return [rule for rule in CHECKS if promised.get(rule, True)]


def findings(evidence: Evidence) -> dict[str, str]:
    """Which checks fail, and what each says; see ``check.run_checks``."""
    return run_checks(CHECKS, evidence)


def _all_random(evidence: Evidence) -> tuple[float, float]:
    """The limits, of absolute maps and of signed ones, where no layer of the model is left."""
    return evidence.bounds.all_random, evidence.bounds.signed_all


def _require_unlike(
    rule: str, evidence: Evidence, found: Likeness, limits: tuple[float, float], words: str
) -> None:
    limit, signed = limits
    if not (found.ranks <= limit and found.structure <= limit):
        seen = f"rank correlation {found.ranks:.3f} and SSIM {found.structure:.3f}"
    elif _has_signs(evidence) and not found.signed <= signed:
        seen, limit = f"signed rank correlation {found.signed:.3f}", signed
    else:
        return
    raise CheckFailed(
        f"maps of a model {words} have {seen} with the model's own, above {limit:g}",
        IGNORES,
        of=f"{rule}: {evidence.name}",
    )


def _has_signs(evidence: Evidence) -> bool:
    """Whether the signs of the maps may be compared with those of another model.

    Those of the predicted class may not, as another model predicts another one, and maps without
    signs are compared as absolute ones.
    """
    maps = evidence.maps
    return evidence.name != "predicted-gradient" and bool(maps.min() < 0 < maps.max())


def _not_by_the_pixel(
    factor: FloatArray, x: FloatArray, kept: BoolArray, channel_axis: int | None
) -> FloatArray:
    """The share of each image's factor, (n,), that is not |a pixel - a baseline| times a number.

    The square of that is a polynomial of the pixel of degree two, which is fitted in each channel.
    """
    factor, x, kept = (_by_channel(array, channel_axis) for array in (factor, x, kept))
    left = np.zeros(len(x))
    for place in range(len(x)):
        missed = whole = 0.0
        for values, pixels, mask in zip(factor[place], x[place], kept[place], strict=True):
            squares = values[mask] ** 2
            powers = np.vander(pixels[mask].astype(np.float64), 3)
            rest = squares - powers @ np.linalg.lstsq(powers, squares, rcond=None)[0]
            missed, whole = missed + float(rest @ rest), whole + float(squares @ squares)
        left[place] = missed / max(whole, 1e-300)
    return left


def _by_channel(images: Any, channel_axis: int | None) -> Any:
    """Arrays (n, *shape) as (n, channels, pixels); there is one channel if no axis holds them."""
    if channel_axis is None:
        return images.reshape(len(images), 1, -1)
    moved = np.moveaxis(images, channel_axis + 1, 1)
    return moved.reshape(*moved.shape[:2], -1)


def _require_close(
    rule: str,
    evidence: Evidence,
    found: FloatArray,
    expected: FloatArray,
    tolerance: float,
    words: str,
    advice: str,
) -> None:
    error = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))
    if not error <= tolerance:
        raise CheckFailed(
            f"{words}, maps differ by {error:.2g} of their largest value",
            advice,
            of=f"{rule}: {evidence.name}",
        )
