"""Copies of Keras networks: in float64, with random layers, and such as learn."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_keras import CLASSES, SHAPE, X, cnn, module, seeded, subclassed, vit
from small_trainers import one_line

from harness.data.dataset import one_hot
from harness.errors import MeasurementError, NotApplicable
from harness.maths.objectives import ClassLogit, CrossEntropy
from harness.protocol import UNIT, Batch, Wrapping

Y = np.arange(10) % CLASSES
NETS = {"cnn": cnn, "vit": vit, "subclassed": subclassed}


@pytest.fixture(params=NETS)
def net(request):
    return NETS[request.param]()


def copies_of(net, **how):
    backend = at_hand("keras")
    return backend.copies(backend.wrap(net, Wrapping(**how)))


def logits(model, x=X):
    return model.numpy(model.logits(model.asarray(x)))


def values(model):
    return [np.array(variable.numpy()) for variable in model.taken.variables]


def same(some, others):
    return [np.array_equal(a, b) for a, b in zip(some, others, strict=True)]


def test_the_network_is_never_changed_nor_global_generators(net):
    model = at_hand("keras").wrap(net, UNIT)
    before = [np.array(v.numpy()) for v in net.variables]
    policies = [layer.dtype_policy.name for layer in net.layers]
    first = logits(model)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002  # what others draw from is to stay as it is
    drawn = random.random(), np.random.random()  # noqa: NPY002, S311
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    copies = at_hand("keras").copies(model)
    made = [copies.float64(), copies.randomised(2, seed=0)]
    learner = copies.learner(seed=0)
    learner.step(Batch(X, one_hot(Y, CLASSES)), 0.01)
    for one in (*made, learner.model):
        one.logits_and_gradient(one.asarray(X), one.asarray(Y), CrossEntropy())
    assert (random.random(), np.random.random()) == drawn  # noqa: NPY002, S311
    assert all(same([np.array(v.numpy()) for v in net.variables], before))
    assert [layer.dtype_policy.name for layer in net.layers] == policies
    np.testing.assert_array_equal(logits(model), first)


# In float64


def test_float64_answers_as_float32_does_and_more_finely(net):
    single = at_hand("keras").wrap(net, UNIT)
    double = at_hand("keras").copies(single)
    logits(single)  # the shape of its images is known now, also where it declares none
    double = double.float64()
    assert logits(double).dtype == np.float64
    np.testing.assert_allclose(logits(double), logits(single), atol=1e-5)
    x, y = double.asarray(X.astype(np.float64)), double.asarray(Y)
    _, gradient = double.logits_and_gradient(x, y, ClassLogit())
    gradient = double.numpy(gradient)
    direction = np.random.default_rng(3).standard_normal(X.shape)
    step = 1e-5
    above, below = (
        logits(double, X + sign * step * direction)[np.arange(10), Y] for sign in (1, -1)
    )
    slope = (gradient * direction).sum(axis=(1, 2, 3))
    # In float32 the difference would be off by 1e-7 / 1e-5.
    np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-6, atol=1e-8)


def test_nested_networks_and_layers_of_ones_own_are_made_again():
    at_hand("keras")
    import keras

    class Scaled(keras.layers.Layer):
        def __init__(self, factor, **options):
            super().__init__(**options)
            self.factor = factor
            self.inner = keras.layers.Dense(5, activation="tanh")

        def call(self, x):
            return self.factor * self.inner(x)

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    entry = keras.Input((5,))
    body = keras.Model(entry, keras.layers.Add()([entry, Scaled(3.0)(entry)]))
    head = keras.Sequential([keras.Input((5,)), keras.layers.Dense(CLASSES)])
    images = keras.Input(SHAPE, dtype="float16")
    x = keras.layers.Dense(5, dtype="mixed_bfloat16")(keras.layers.Flatten()(images))
    net = seeded(keras.Model(images, head(body(body(keras.ops.cast(x, "float32"))))))
    copies = copies_of(net)
    double = copies.float64()
    assert {str(v.dtype) for v in double.taken.variables} == {"float64"}
    np.testing.assert_allclose(logits(double), logits(at_hand("keras").wrap(net, UNIT)), atol=0.3)
    # Flattened, cast and shared ones have no weights; the shared layer counts once.
    assert copies.stages() == 3


def test_a_compiled_network_with_a_loss_of_ones_own_is_copied():
    net = cnn()
    net.compile("adam", loss=lambda true, said: 0.0)
    assert logits(copies_of(net).float64()).shape == (10, CLASSES)


def test_two_classes_of_one_logit_in_copies():
    copies = copies_of(cnn(outputs=1))
    for model in (copies.float64(), copies.randomised(1, 0)):
        found = logits(model)
        assert found.shape == (10, 2)
        assert np.signbit(found[:, 0]).all()


def test_a_subclassed_model_that_does_not_tell_how_it_is_made():
    """Its copy would have another width; in all else it is the network's own code that runs."""
    net = subclassed(whole=False)
    copies = copies_of(net)
    logits(copies.model)
    with pytest.raises(NotApplicable) as error:
        copies.float64()
    assert "float64" in one_line(error)
    assert copies.stages() == 2
    assert not np.allclose(logits(copies.randomised(2, 0)), logits(copies.model))


def test_a_copy_that_answers_otherwise_is_none():
    """Of the same shapes, but not the same function: what is left out is no weight."""
    at_hand("keras")
    import keras

    class Twice(keras.layers.Layer):
        def __init__(self, factor=1.0, **options):
            super().__init__(**options)
            self.factor = factor

        def call(self, x):
            return self.factor * x

        def get_config(self):
            return super().get_config()

    net = seeded(keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), Twice(2.0),
                                   keras.layers.Dense(CLASSES)]))  # fmt: skip
    with pytest.raises(NotApplicable) as error:
        copies_of(net).float64()
    assert "answers otherwise; give it a get_config" in one_line(error)


def test_an_image_shape_that_nobody_has_told():
    copies = copies_of(subclassed())
    with pytest.raises(NotApplicable, match="which shape its images have"):
        copies.float64()
    copies.model.logits(copies.model.asarray(X))
    assert logits(copies.float64()).shape == (10, CLASSES)


def test_what_is_no_keras_model_says_so():
    copies = copies_of(module())
    for ask in (copies.stages, copies.float64, lambda: copies.randomised(1, 0),
                lambda: copies.learner(0)):  # fmt: skip
        with pytest.raises(NotApplicable) as error:
            ask()
        assert "a tf.Module Linear cannot be copied; wrap the keras.Model" in one_line(error)
    assert at_hand("keras").copies(object()) is None


# Random layers


def test_stages_are_the_layers_with_their_norms_from_the_output_back():
    copies = copies_of(cnn())
    # Two convolutions with their norms, and the head.
    assert copies.stages() == 3
    before = values(copies.model)
    names = [v.path.split("/")[0].rstrip("_0123456789") for v in copies.net.weights]
    expected = [
        {"dense"}, {"dense", "conv2d", "batch_normalization"},
        {"dense", "conv2d", "batch_normalization"},
    ]  # fmt: skip
    counts = [2, 2 + 6, 2 + 6 + 6]
    for stages, kinds, count in zip((1, 2, 3), expected, counts, strict=True):
        kept = same(values(copies.randomised(stages, seed=0)), before)
        changed = [name for name, unchanged in zip(names, kept, strict=True) if not unchanged]
        assert set(changed) == kinds
        assert len(changed) == count
        # The last ones, as the graph goes.
        assert all(kept[: len(kept) - count])


def test_each_stage_changes_its_own_weights_too_and_no_others(net):
    copies = copies_of(net)
    total = copies.stages()
    before = values(copies.model)
    changed = [
        {i for i, kept in enumerate(same(values(copies.randomised(k, 7)), before)) if not kept}
        for k in range(total + 1)
    ]
    assert changed[0] == set()
    assert all(few < more for few, more in pairwise(changed))
    assert changed[total] == set(range(len(before)))
    beyond = values(copies.randomised(total + 5, 7))
    assert all(same(beyond, values(copies.randomised(total, 7))))


def test_a_deep_network_has_eight_stages_of_about_the_same_number_of_layers():
    at_hand("keras")
    import keras

    deep = [keras.layers.Dense(4) for _ in range(19)]
    net = seeded(keras.Sequential([keras.Input((3,)), *deep]))
    copies = copies_of(net)
    assert copies.stages() == 8
    before = values(copies.model)
    changed = [same(values(copies.randomised(k, 0)), before).count(False) // 2 for k in range(9)]
    steps = np.diff(changed)
    assert changed[-1] == 19
    assert set(steps) == {2, 3}


def test_the_same_seed_gives_the_same_weights_and_another_others(net):
    copies = copies_of(net)
    first, again, other = (logits(copies.randomised(9, seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert np.isfinite(first).all()
    assert np.ptp(first, axis=0).max() > 1e-4


def test_random_values_follow_the_rule():
    at_hand("keras")
    import keras

    net = seeded(keras.Sequential([
        keras.Input((8, 8, 3)), keras.layers.Conv2D(40, 3), keras.layers.BatchNormalization(),
        keras.layers.Flatten(), keras.layers.Dense(50), keras.layers.PReLU(),
    ]))  # fmt: skip
    copies = copies_of(net)
    named = {f"{v.name}{tuple(v.shape)}": v.numpy()
             for v in copies.randomised(9, 0).taken.variables}  # fmt: skip
    limit = (6 / (9 * 3 + 9 * 40)) ** 0.5
    kernel = named["kernel(3, 3, 3, 40)"]
    assert 0.98 * limit < np.abs(kernel).max() <= limit
    assert abs(kernel.mean()) < 0.1 * limit
    for name, value in {"bias(40,)": 0, "gamma(40,)": 1, "beta(40,)": 0, "moving_mean(40,)": 0,
                        "moving_variance(40,)": 1, "alpha(50,)": 0}.items():  # fmt: skip
        np.testing.assert_array_equal(named[name], value)


def test_frozen_layers_become_random_and_statistics_of_data_do_not():
    at_hand("keras")
    import keras

    scale = keras.layers.Normalization(mean=[0.5] * 3, variance=[0.1] * 3)
    learnt = keras.layers.Normalization()
    learnt.adapt(X)
    net = seeded_except(keras.Sequential([
        keras.Input(SHAPE), scale, learnt, keras.layers.Conv2D(4, 3, trainable=False),
        keras.layers.Flatten(), keras.layers.Dense(CLASSES),
    ]))  # fmt: skip
    copies = copies_of(net)
    assert copies.stages() == 2
    before, after = values(copies.model), values(copies.randomised(2, 0))
    for weight, kept in zip(net.weights, same(before, after), strict=True):
        assert kept == ("normalization" in weight.path), weight.path


def seeded_except(net):
    """Random weights, but not where an adapted layer has its statistics."""
    for layer in net.layers:
        if "normalization" not in layer.name and layer.weights:
            seeded(layer)
    return net


# Learners


def blobs(count=64):
    generator = np.random.default_rng(0)
    y = np.arange(count) % CLASSES
    x = 0.3 * generator.random((count, *SHAPE), dtype=np.float32)
    x[np.arange(count), y, y] += 0.6
    return x, y


def test_a_learner_learns_from_random_weights(net):
    copies = copies_of(net)
    x, y = blobs()
    learner = copies.learner(seed=1)
    first = logits(learner.model, x)
    assert not np.allclose(first, logits(copies.model, x))
    steps = [learner.step(Batch(x, one_hot(y, CLASSES)), 0.02) for _ in range(60)]
    assert steps[-1].loss < 0.5 * steps[0].loss
    assert steps[-1].correct > steps[0].correct
    after = logits(learner.model, x)
    np.testing.assert_array_equal(after, logits(learner.model, x))
    assert (after.argmax(axis=1) == y).mean() > 0.6


def test_the_first_step_is_adams_by_the_cross_entropy():
    """Of a linear network, by hand: each weight moves by the rate against its gradient's sign."""
    at_hand("keras")
    import keras

    net = seeded(keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]))
    learner = copies_of(net).learner(seed=0)
    x = np.random.default_rng(0).random((7, 5), dtype=np.float32)
    targets = one_hot(np.arange(7) % 3, 3)
    kernel, bias = values(learner.model)
    z = x @ kernel + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    step = learner.step(Batch(x, targets), 0.01)
    assert step.loss == pytest.approx(-(targets * np.log(p)).sum(axis=1).mean(), abs=1e-5)
    assert step.correct == (z.argmax(axis=1) == np.arange(7) % 3).sum()
    slope = x.T @ (p - targets) / 7
    np.testing.assert_allclose(values(learner.model)[0], kernel - 0.01 * np.sign(slope), atol=1e-4)


def test_learners_update_statistics_and_draw_masks_by_their_seed():
    x, y = blobs()
    copies = copies_of(cnn())
    ends = []
    for seed in (0, 0, 1):
        learner = copies.learner(seed)
        before = values(learner.model)
        losses = [learner.step(Batch(x, one_hot(y, CLASSES)), 0.01).loss for _ in range(3)]
        assert not any(same(before, values(learner.model)))
        ends.append(losses)
    assert ends[0] == ends[1] != ends[2]
    # Without weights that differ, masks still do.
    assert len({*ends[0]}) == 3


def test_statistics_are_averages_over_the_steps_at_first():
    at_hand("keras")
    import keras

    net = keras.Sequential([keras.Input((5,)), keras.layers.BatchNormalization(momentum=0.99),
                            keras.layers.Dense(3)])  # fmt: skip
    learner = copies_of(net).learner(0)
    random_state = np.random.default_rng(0)
    batches = random_state.normal(3, 2, (4, 20, 5)).astype(np.float32)
    for x in batches:
        learner.step(Batch(x, one_hot(np.arange(20) % 3, 3)), 0.01)
    named = dict(zip([w.name for w in net.weights], values(learner.model), strict=True))
    np.testing.assert_allclose(named["moving_mean"], batches.mean(axis=1).mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(
        named["moving_variance"], batches.var(axis=1).mean(axis=0), rtol=1e-3
    )


def test_frozen_layers_learn_too():
    net = cnn()
    net.trainable = False
    x, y = blobs()
    learner = copies_of(net).learner(0)
    before = values(learner.model)
    learner.step(Batch(x, one_hot(y, CLASSES)), 0.01)
    kept = same(before, values(learner.model))
    kinds = {weight.name for weight, stays in zip(net.weights, kept, strict=True) if not stays}
    assert {"kernel", "gamma", "beta"} <= kinds


def test_labels_of_another_number_of_classes_are_refused():
    learner = copies_of(cnn()).learner(0)
    with pytest.raises(MeasurementError) as error:
        learner.step(Batch(X, one_hot(Y, 7)), 0.01)
    assert "the network has 4 classes, and the labels are of 7" in one_line(error)


def test_a_fixed_batch_size_is_copied_but_does_not_learn():
    copies = copies_of(cnn(batch_size=4))
    assert logits(copies.float64()).shape == logits(copies.randomised(1, 0)).shape == (10, CLASSES)
    with pytest.raises(NotApplicable, match="takes batches of 4 images only"):
        copies.learner(0)
