"""What covers pixels: black where images are grey, a blur of the image itself where in colour."""

import numpy as np
import pytest
from backends_at_hand import at_hand

from harness.checks.sanity.checks import check_occlusion
from harness.checks.sanity.evidence import Evidence
from harness.errors import CheckFailed, HarnessError
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.examples import Examples
from harness.evaluation.explaining import Explaining
from harness.evaluation.resolve import open_spec
from harness.files import fingerprint
from harness.gate.settings import differences
from harness.maths.around import Around
from harness.networks.initial import initial_weights
from harness.protocol import Network, fully_connected
from harness.results.recorder import Recorder
from harness.results.run import Run
from harness.saliency import topk
from harness.saliency.analysis import analysed
from harness.saliency.covers import cover_of, fill_of
from harness.saliency.occlusion import occluded_correct
from harness.spec.measures import SaliencySpec

SHAPE = (3, 10, 12)
"""Of an image whose blur has a standard deviation of one pixel."""
FADED = np.exp(-(np.arange(-4, 5) ** 2) / 2)
FADED /= FADED.sum()


def net(shape):
    architecture = fully_connected(shape, (), 2)
    return at_hand("numpy").build(Network(architecture, initial_weights(architecture, seed=0)))


class Seeing(Around):
    """Notes the images that it is asked of."""

    def __init__(self, inner):
        super().__init__(inner)
        self.seen = []

    def logits(self, x):
        self.seen.append(np.asarray(x))
        return self.inner.logits(x)


# Which cover


@pytest.mark.parametrize(
    ("said", "shape", "axis", "cover"),
    [
        (None, (28, 28), None, "black"),
        (None, (1, 28, 28), 0, "black"),
        (None, (28, 28, 1), 2, "black"),
        (None, (64,), None, "black"),
        (None, (3, 1, 5), 0, "black"),
        (None, (3, 32, 32), 0, "blurred"),
        (None, (32, 32, 3), 2, "blurred"),
        ("black", (32, 32, 3), 2, "black"),
        ("blurred", (28, 28), None, "blurred"),
        ("black", (64,), None, "black"),
    ],
)
def test_grey_images_are_covered_in_black_and_those_in_colour_blurred(said, shape, axis, cover):
    assert cover_of(said, shape, axis) == cover


def test_flat_images_cannot_be_blurred():
    with pytest.raises(HarnessError, match=r"^saliency.cover: images of shape \(64,\) have no he"):
        cover_of("blurred", (64,), None)


# What it makes of a pixel


def test_a_covered_pixel_gets_what_the_blur_leaves_of_it_and_no_other_changes():
    x = np.zeros((1, *SHAPE), np.float32)
    x[0, 0, 5, 6] = 1.0  # a red dot
    scores = np.zeros((1, 1, 10, 12))
    scores[0, 0, 5, 6], scores[0, 0, 5, 7] = 2.0, 1.0
    model = Seeing(net(SHAPE))
    occluded_correct(model, x, np.zeros(1, int), scores, "top", fraction=2 / 120, draws=1, seed=0,
                     channel_axis=0, cover="blurred")  # fmt: skip
    ((seen,),) = model.seen
    expected = np.zeros(SHAPE)
    expected[0, 5, 6] = FADED[4] ** 2  # 0.159
    expected[0, 5, 7] = FADED[4] * FADED[5]
    np.testing.assert_allclose(seen, expected, atol=1e-7)
    assert seen.dtype == np.float32


def test_of_a_spec_the_top_pixels_are_covered_so_and_those_of_the_curves_too():
    x = np.random.default_rng(0).random((2, *SHAPE), dtype=np.float32)
    model = Seeing(net(SHAPE))
    blurred = fill_of(x, "blurred", (0.0, 1.0), 0)
    recorder = Recorder(Run(spec={}, spec_sha256="", data_sha256="", created="now"), "numpy", "m")

    def covered_by(cover):
        settings = SaliencySpec(top=0.25, cover=cover)
        y = np.zeros(2, int)
        model.seen.clear()
        Explaining(model, x, y, Examples(x, y, recorder), recorder, settings, 0).occluded("top")
        analysed(model, x, y, x, "gradient", settings)
        return model.seen

    def is_covered(seen, fill, pixels):
        changed = seen != x
        whole = changed[:, 0].sum() == 2 * pixels  # positions, with all their channels
        return whole and np.array_equal(seen, np.where(changed, fill, x))

    for cover, fill in ((None, blurred), ("blurred", blurred), ("black", np.zeros_like(x))):
        first, *others = covered_by(cover)
        assert is_covered(first, fill, 30)
        assert any(is_covered(seen, fill, 0.3 * 120) for seen in others if len(seen) == 2)


def test_the_curves_of_accuracy_begin_with_the_cover_and_then_the_mean():
    x = np.random.default_rng(0).random((1, *SHAPE), dtype=np.float32)
    model = Seeing(net(SHAPE))
    fill = fill_of(x, "blurred", (0.0, 1.0), 0)
    topk.covered(model, x, np.zeros(1, int), np.arange(120.0).reshape(1, 1, 10, 12), fill)
    assert len(model.seen) == len(topk.FILLERS) * len(topk.SHARES)
    np.testing.assert_array_equal(model.seen[4][..., 7:, :], fill[..., 7:, :])  # the last 30 % of
    np.testing.assert_array_equal(model.seen[4][..., :7, :], x[..., :7, :])  # the pixels
    assert np.ptp(model.seen[9][0, 0, 7:]) == 0


@pytest.mark.parametrize("layout", ["first", "last", "grey"])
def test_images_of_one_colour_are_left_as_they_are_up_to_their_edges(layout):
    colours = np.array([0.9, 0.3, 0.0], np.float32)
    x = np.zeros((1, *SHAPE), np.float32) + colours[:, None, None]
    axis = {"first": 0, "last": 2, "grey": None}[layout]
    x = {"first": x, "last": np.moveaxis(x, 1, -1), "grey": x[:, 0]}[layout]
    fill = fill_of(x, "blurred", (0.0, 1.0), axis)
    np.testing.assert_array_equal(fill, x)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_a_blur_stays_within_the_bounds_and_is_the_same_in_both_layouts(bounds):
    x = np.random.default_rng(0).choice(np.array(bounds, np.float32), (4, 3, 9, 7))
    x[0] = bounds[1]
    first = fill_of(x, "blurred", bounds, 0)
    last = fill_of(np.moveaxis(x, 1, -1), "blurred", bounds, 2)
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), first)
    assert first.dtype == np.float32
    assert bounds[0] <= first.min() < first.max() <= bounds[1]


def test_the_blur_is_as_wide_as_a_tenth_of_the_shorter_side():
    for side in (10, 32):
        x = np.zeros((1, 64, side), np.float32)
        x[0, 32, side // 2] = 1.0
        row = fill_of(x, "blurred", (0.0, 1.0), None)[0].sum(axis=1)
        places = np.arange(64) - 32
        assert np.sqrt((row * places**2).sum()) == pytest.approx(side / 10, rel=0.01)


# Natural images


class Trusting(Around):
    """Class 1 of an image with stripes in its upper left corner; but any black pixel misleads."""

    def logits(self, x):
        corner = x[:, :, :6, :3]
        striped = (corner[:, :, ::2] - corner[:, :, 1::2]).mean(axis=(1, 2, 3)) > 0.2
        clean = (x > 0.05).all(axis=(1, 2, 3))
        return np.stack([np.zeros(len(x)), np.where(striped & clean, 1.0, -1.0)], axis=1)


def corner(model, x, y, index):
    maps = np.full_like(x, 0.01)
    maps[:, :, :6, :3] = 1.0
    return maps


def elsewhere(model, x, y, index):
    return corner(model, x, y, index)[..., ::-1, ::-1]


def test_maps_of_natural_images_pass_where_scattered_black_pixels_are_noise():
    x = np.full((20, *SHAPE), 0.3, np.float32)
    x[:, :, ::2] = 0.8  # stripes, in three colours
    x[:, 1] -= 0.1
    model, y = Trusting(net(SHAPE)), np.ones(20, int)
    check_occlusion(Evidence(model, x, y, "corner", corner))
    check_occlusion(Evidence(model, x, y, "corner", corner, cover="blurred"))
    black = r"0\.000 with the 15% most salient pixels covered in black, and to 0\.000 with random"
    with pytest.raises(CheckFailed, match=black):
        check_occlusion(Evidence(model, x, y, "corner", corner, cover="black"))
    with pytest.raises(CheckFailed, match=r"1\.000 with the 15% most salient pixels blurred, and"):
        check_occlusion(Evidence(model, x, y, "elsewhere", elsewhere))


# Specs, runs and the gate

SPEC = """
name = "own"
backends = ["numpy"]
[data]
file = "own.npz"
[attacks.fgsm]
epsilons = [0.1]
[saliency]
methods = ["gradient"]
{said}
[models.mlp]
hidden = [4]
[models.mlp.training]
recipe = "standard"
epochs = 1
[models.mlp.expect]
clean = [0.0, 1.0]
"""


def opened(folder, shape, said=""):
    x, y = np.zeros((40, *shape), np.float32), np.arange(40) % 2
    np.savez(folder / "own.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    path = folder / "own.toml"
    path.write_text(SPEC.format(said=said), encoding="utf-8")
    return Benchmark(open_spec(str(path)))


@pytest.mark.parametrize(
    ("shape", "said", "cover"),
    [
        ((8, 8), "", "black"),
        ((8, 8, 1), "", "black"),
        ((8, 8, 3), "", "blurred"),
        ((3, 8, 8), "", "blurred"),
        ((8, 8, 3), 'cover = "black"', "black"),
        ((8, 8), 'cover = "blurred"', "blurred"),
    ],
)
def test_a_run_tells_what_covered_its_pixels(tmp_path, shape, said, cover):
    benchmark = opened(tmp_path, shape, said)
    assert benchmark.evaluation("numpy", "mlp").measures.saliency.cover == cover
    assert benchmark.run.spec["saliency"]["cover"] == cover


def test_a_spec_that_blurs_flat_images_is_refused_in_one_line(tmp_path):
    with pytest.raises(HarnessError, match=r"^saliency.cover: images of shape \(64,\).*; say"):
        _ = opened(tmp_path, (64,), 'cover = "blurred"').dataset


def test_the_hash_of_a_spec_that_says_nothing_of_it_stays():
    assert "cover" not in SaliencySpec().model_dump()
    hashes = {fingerprint(SaliencySpec(cover=cover).model_dump()) for cover in (None, "black")}
    assert len(hashes) == 2


def test_a_baseline_of_before_was_covered_in_black():
    old, black, blurred = ({"saliency": said} for said in ({}, {"cover": "black"},
                                                           {"cover": "blurred"}))  # fmt: skip
    assert differences(old, black, "saliency/top") == ""
    told = differences(old, blurred, "saliency/top")
    assert told == "saliency.cover is blurred, was black"
