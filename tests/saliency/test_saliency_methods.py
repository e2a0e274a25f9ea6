"""Saliency methods: linear models by hand, equal values in all backends, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from backends_at_hand import NAMES
from small_models import Counting, linear, small_images, small_net
from tiny_spec import tiny_spec

from harness.errors import HarnessError, MeasurementError, SpecError
from harness.evaluation.resolve import open_spec
from harness.maths.objectives import CrossEntropy
from harness.maths.query import logits_of
from harness.saliency import methods
from harness.saliency.maps import pixel_count, top_pixels
from harness.saliency.methods import METHODS, NOISE, SAMPLES, STEPS, explain

MATRIX, BIAS = [[2.0, -4.0, 1.0], [1.0, 3.0, 0.0]], [0.5, 0.0]
X = np.array([[0.5, 0.25, 1.0], [0.0, 1.0, 0.5]])
Y = np.array([0, 0])  # of the second image the model says 1


def by_hand(method, bounds):
    """What the maps of the linear model are, from its matrix."""
    w, b = np.array(MATRIX), np.array(BIAS)
    z = X @ w.T + b
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return {
        "gradient": w[[0, 0]],
        "predicted-gradient": w[[0, 1]],
        "gradient-x-input": X * w[[0, 0]],
        "smoothgrad": w[[0, 0]],
        "integrated-gradients": (X - bounds[0]) * w[[0, 0]],
        "loss-gradient": p @ w - w[[0, 0]],
    }[method]


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 3.0)])
@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_maps_of_a_linear_model_are_those_by_hand(method, backend, bounds):
    model = linear(MATRIX, BIAS, bounds=bounds, backend=backend)
    found = explain(model, X, Y, method)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, by_hand(method, bounds), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_maps_are_the_same_in_all_backends(method, backend):
    x, y = small_images()
    expected = explain(small_net(), x.astype(float), y, method)
    np.testing.assert_allclose(
        explain(small_net(backend), x.astype(float), y, method), expected, rtol=1e-9, atol=1e-12
    )
    single = explain(small_net(backend, "float32"), x, y, method)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
def test_maps_do_not_depend_on_the_batches(method):
    model, (x, y) = small_net(), small_images(11)
    whole = explain(model, x.astype(float), y, method)
    for batch_size in (1, 4, 11):
        found = explain(model, x.astype(float), y, method, batch_size)
        np.testing.assert_allclose(found, whole, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_no_call_sees_more_images_than_a_batch_holds(method):
    model, (x, y) = Counting(small_net()), small_images(11)
    explain(model, x.astype(float), y, method, batch_size=4)
    assert max(model.rows) == 4


def test_images_and_labels_are_not_changed():
    x, y = small_images()
    for values in (x, y):
        values.setflags(write=False)
    for method in METHODS:
        explain(small_net(dtype="float32"), x, y, method)


def test_integrated_gradients_sum_to_what_the_logit_gains():
    model, (x, y) = small_net(), small_images()
    x = x.astype(float)
    total = explain(model, x, y, "integrated-gradients").reshape(len(x), -1).sum(axis=1)
    gained = (logits_of(model, x) - logits_of(model, 0 * x))[np.arange(len(y)), y]
    assert np.abs(gained).mean() > 0.5
    np.testing.assert_allclose(total, gained, atol=0.02)


def test_integrated_gradients_take_their_points_between_black_and_the_image():
    model = Counting(linear(MATRIX, BIAS, bounds=(-1.0, 3.0)))
    explain(model, X[:1], Y[:1], "integrated-gradients")
    places = [(x[0, 0] + 1) / (X[0, 0] + 1) for x in model.asked]
    assert len(places) == STEPS
    np.testing.assert_allclose(places, (1 + np.polynomial.legendre.leggauss(STEPS)[0]) / 2)


def test_smoothgrad_adds_noise_in_proportion_to_the_range():
    images = np.full((1, 4, 4), 0.5)
    model = small_net()
    model.bounds = (0.0, 2.0)
    counting = Counting(model)
    explain(counting, images, np.array([0]), "smoothgrad")
    noise = np.concatenate(counting.asked) - images
    assert len(noise) == SAMPLES
    assert noise.std() == pytest.approx(2 * NOISE, rel=0.1)
    assert abs(noise.mean()) < 0.05


def test_a_method_may_be_a_function():
    def doubled(model, x, y, index):
        return 2 * methods.gradient(model, x, y, index)

    model = linear(MATRIX, BIAS)
    assert explain(model, X, Y, doubled).tolist() == [[4, -8, 2], [4, -8, 2]]


@pytest.mark.parametrize("method", ["integrated-gradients", "gradient-x-input"])
def test_a_black_image_among_others_has_a_map_of_zeros(method):
    model, (x, y) = small_net(), small_images(5)
    x[2] = 0
    found = explain(model, x.astype(float), y, method)
    assert not found[2].any()
    assert found[[0, 1, 3, 4]].reshape(4, -1).any(axis=1).all()


def test_a_gradient_that_vanished_is_named_by_its_image():
    def vanished(model, x, y, index):
        return x * (index != 3)[:, None, None]

    model, (x, y) = small_net(), small_images(5)
    words = r"^a saliency map is zero everywhere: the gradient has vanished \(image 3, 1 of 5\)$"
    with pytest.raises(MeasurementError, match=words):
        explain(model, x.astype(float), y, vanished)


def test_a_black_image_whose_gradient_is_zero_too_is_an_error():
    def dead(model, x, y, index):
        return 0 * x

    model = linear([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    black = np.zeros((2, 3))
    assert not explain(model, black, np.array([0, 0]), dead).any()
    with pytest.raises(MeasurementError, match="zero everywhere"):
        explain(model, black, np.array([0, 1]), dead)


# What is refused


@pytest.mark.parametrize("wrong", [-1, 2, 9])
@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_a_label_that_is_no_class_is_refused(method, backend, wrong):
    model, labels = linear(MATRIX, BIAS, backend=backend), np.array([0, wrong])
    low, high = min(0, wrong), max(0, wrong)
    words = rf"^labels span \[{low}, {high}\], but the model has 2 classes from 0$"
    with pytest.raises(MeasurementError, match=words):
        explain(model, X, labels, method)
    images, asked = model.asarray(X), model.asarray(labels)
    with pytest.raises(MeasurementError, match=words):
        model.logits_and_gradient(images, asked, CrossEntropy())


def test_an_unknown_method_is_named_with_the_known_ones():
    with pytest.raises(
        SpecError, match=r"^grad: no such method; the methods are gradient, .*[^\n]$"
    ):
        explain(linear(MATRIX, BIAS), X, Y, "grad")


@pytest.mark.parametrize("backend", NAMES)
def test_images_that_do_not_fit_the_model_are_named_by_their_shape(backend):
    model = linear(MATRIX, BIAS, backend=backend)
    with pytest.raises(
        MeasurementError,
        match=r"^gradient fails on images of shape \(4,\): [^\n]+$"
        r"|^the network takes images of shape \(3,\), not \(4,\)$",
    ):
        explain(model, np.ones((2, 4)), Y)


def test_images_and_classes_must_be_as_many():
    with pytest.raises(MeasurementError, match=r"^there are 2 images to explain, but 1 classes$"):
        explain(linear(MATRIX, BIAS), X, Y[:1])


def test_maps_of_another_shape_are_refused():
    with pytest.raises(MeasurementError, match=r"^flat gives maps of shape \(2,\) for \(2, 3\)$"):
        explain(linear(MATRIX, BIAS), X, Y, flat)


def flat(model, x, y, index):
    return x[:, 0]


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_the_share_of_the_pixels_is_above_zero_and_at_most_one(fraction):
    words = r"^[-\w.]+: the share of the pixels must be in \(0, 1\]$"
    for call in (
        lambda: pixel_count((2, 2), fraction), lambda: top_pixels(np.ones((1, 4)), fraction)
    ):  # fmt: skip
        with pytest.raises(HarnessError, match=words):
            call()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('methods = ["gradients"]', "saliency.methods: gradients: no such method; the methods"),
        ('methods = ["gradient", "gradient"]', "saliency.methods: a value is there twice"),
        ('occlusion = "gradients"', "saliency.occlusion: gradients: no such method; the methods"),
        ('cover = "mean"', "saliency.cover: "),
        ("epsilon = -0.1", "saliency.epsilon: "),
        ("images = 0", "saliency.images: "),
        ("sanity.margin = 1.5", "saliency.sanity.margin: "),
        ("sanity.marign = 0.5", "saliency.sanity.marign: unknown key"),
    ],
)
def test_wrong_settings_are_named_by_their_key(line, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("f.toml").write_text(tiny_spec(saliency=line), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        open_spec("f.toml")
    assert str(caught.value).startswith(f"f.toml: {words}")
