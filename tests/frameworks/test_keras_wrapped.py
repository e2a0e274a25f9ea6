"""What of Keras and TensorFlow is wrapped, and that it is the network that answers."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_keras import (
    CLASSES,
    SHAPE,
    X,
    Y,
    cnn,
    gradient_of,
    module,
    seeded,
    subclassed,
    tape_of,
    vit,
    wrapped,
)
from small_trainers import one_line

from harness import registry
from harness.errors import BackendError, BatchTooLarge, MeasurementError
from harness.maths.objectives import CrossEntropy
from harness.maths.query import batch_size_for
from harness.protocol import UNIT, Network, fully_connected


def saved(tmp_path, net, **options):
    import tensorflow as tf

    tf.saved_model.save(net, str(tmp_path / "saved"), **options)
    return tf.saved_model.load(str(tmp_path / "saved"))


def exported(tmp_path, net):
    net.export(str(tmp_path / "exported"))
    return str(tmp_path / "exported")


def kinds(tmp_path):
    """Each kind of network, with the plain function that it has to agree with."""
    import keras
    import tensorflow as tf

    net = cnn()
    plain = lambda x: net(x, training=False)  # noqa: E731
    linear = module(signature=[None, *SHAPE])
    sequential = seeded(keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(),
                                          keras.layers.Dense(CLASSES)]))  # fmt: skip
    own, vision = subclassed(), vit()
    with_mode = tf.function(lambda x, training=True: net(x, training=training))
    endpoint = exported(tmp_path, net)
    return {
        "functional": (net, plain, "keras.Model Functional"),
        "sequential": (sequential, sequential, "keras.Model Sequential"),
        "attention": (vision, lambda x: vision(x, training=False), "keras.Model Functional"),
        "subclassed": (own, lambda x: own(x, training=False), "keras.Model Subclassed"),
        "tf.function": (tf.function(plain), plain, "tf.function"),
        "tf.function with a mode": (with_mode, plain, "tf.function"),
        "tf.function with a signature": (
            tf.function(plain, input_signature=[tf.TensorSpec([None, *SHAPE])]), plain,
            "tf.function",
        ),
        "concrete function": (
            tf.function(plain).get_concrete_function(tf.TensorSpec([None, *SHAPE])), plain,
            "tf.ConcreteFunction",
        ),
        "module": (module(), linear, "tf.Module Linear"),
        "module with a signature": (linear, linear, "tf.Module Traced"),
        "callable SavedModel": (saved(tmp_path, linear), linear, "SavedModel"),
        "exported SavedModel": (tf.saved_model.load(endpoint), plain, "SavedModel"),
        "TFSMLayer": (
            keras.layers.TFSMLayer(endpoint, call_endpoint="serve"), plain, "keras.TFSMLayer",
        ),
        "TFSMLayer with a dict": (
            keras.layers.TFSMLayer(endpoint, call_endpoint="serving_default"), plain,
            "keras.TFSMLayer",
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    at_hand("keras")
    return kinds(tmp_path_factory.mktemp("networks"))


KINDS = [
    "functional", "sequential", "attention", "subclassed", "tf.function",
    "tf.function with a mode", "tf.function with a signature", "concrete function", "module",
    "module with a signature", "callable SavedModel", "exported SavedModel", "TFSMLayer",
    "TFSMLayer with a dict",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_the_networks_own(made, kind):
    net, plain, called = made[kind]
    backend = at_hand("keras")
    assert backend.knows(net)
    assert registry.backend_of(net) is backend
    model = backend.wrap(net, UNIT)
    expected, slope = tape_of(plain)
    logits, gradient = gradient_of(model)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(gradient, slope, atol=1e-5)
    assert np.abs(slope).max() > 1e-3
    np.testing.assert_allclose(model.numpy(model.logits(model.asarray(X))), expected, atol=1e-5)
    assert registry.made_by(model)[0] == "keras"
    assert model.about().kind == called
    assert model.about().device == "cpu"


def test_all_kinds_are_tried(made):
    assert set(made) == set(KINDS)


def test_channels_may_come_first():
    """The same convolution as with channels last, on images in the other layout."""
    at_hand("keras")
    import keras

    def net(layout, shape):
        return seeded(keras.Sequential([
            keras.Input(shape),
            keras.layers.Conv2D(5, 3, data_format=layout, activation="tanh"),
            keras.layers.GlobalAveragePooling2D(data_format=layout),
            keras.layers.Dense(CLASSES),
        ]))  # fmt: skip

    first = wrapped(net("channels_first", (3, 6, 6)))
    expected, slope = gradient_of(wrapped(net("channels_last", SHAPE)))
    x = np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    logits, gradient = gradient_of(first, x)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(gradient.transpose(0, 2, 3, 1), slope, atol=1e-5)
    np.testing.assert_allclose(first.logits(first.asarray(x[:7])), expected[:7], atol=1e-5)


def test_images_of_several_shapes_where_the_network_takes_them():
    model = wrapped(cnn(shape=(None, None, 3)))
    for side in (6, 9):
        x = np.random.default_rng(side).random((4, side, side, 3), dtype=np.float32)
        logits, gradient = gradient_of(model, x, Y[:4])
        assert logits.shape == (4, CLASSES)
        assert gradient.shape == x.shape


# Inputs


@pytest.mark.parametrize("kind", ["keras", "function", "SavedModel"])
@pytest.mark.parametrize("count", [1, 4, 10, 11])
def test_a_fixed_batch_size_takes_any_number_of_images(kind, count, tmp_path):
    at_hand("keras")
    import tensorflow as tf

    loose = cnn() if kind == "keras" else module()
    net = loose
    if kind == "keras":
        net = cnn(batch_size=4)
    elif kind == "function":
        net = tf.function(loose).get_concrete_function(tf.TensorSpec([4, *SHAPE]))
    else:
        net = saved(tmp_path, module(signature=[4, *SHAPE]))
    x, y = np.resize(X, (count, *SHAPE)), np.resize(Y, count)
    model, free = wrapped(net), wrapped(loose)
    soft = np.full((count, CLASSES), 0.25, np.float32)
    for labels in (y, soft):
        expected, slope = free.logits_and_gradient(
            free.asarray(x), free.asarray(labels), CrossEntropy()
        )
        logits, gradient = model.logits_and_gradient(
            model.asarray(x), model.asarray(labels), CrossEntropy()
        )
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        np.testing.assert_allclose(gradient, slope, atol=1e-5)
    np.testing.assert_allclose(model.logits(model.asarray(x)), expected, atol=1e-5)
    assert batch_size_for(model, x) == batch_size_for(free, np.zeros((1, 1), np.float32)) == 1000


def test_two_inputs_are_refused_with_the_remedy():
    at_hand("keras")
    import tensorflow as tf

    spec = tf.TensorSpec([None, 3])
    pair = tf.function(lambda a, b: a + b, input_signature=[spec, spec])
    for net in (pair, pair.get_concrete_function()):
        with pytest.raises(BackendError) as error:
            wrapped(net)
        assert "has 2 inputs (a, b), not one; wrap a function of the images" in one_line(error)
    # What the line advises.
    x = X[:, :3, 0, 0]
    model = wrapped(tf.function(lambda x: pair(x, tf.ones_like(x))))
    np.testing.assert_allclose(model.logits(model.asarray(x)), x + 1)


@pytest.mark.parametrize("dtype", ["uint8", "string"])
def test_functions_of_what_has_no_gradient_are_refused(dtype):
    at_hand("keras")
    import tensorflow as tf

    takes = {"string": tf.strings.length, "uint8": lambda x: tf.cast(x, "float32")}[dtype]
    net = tf.function(takes, input_signature=[tf.TensorSpec([None, 3], dtype)])
    with pytest.raises(BackendError) as error:
        wrapped(net)
    assert f"input is {dtype}, through which no gradient flows; " in one_line(error)


def test_a_module_that_cannot_be_called_and_an_unbuilt_model_are_refused():
    at_hand("keras")
    import tensorflow as tf

    for net, said in ((tf.Module(), "has no __call__"),
                      (subclassed(call=False), "has no declared input")):  # fmt: skip
        with pytest.raises(BackendError) as error:
            wrapped(net)
        assert said in one_line(error)


@pytest.mark.parametrize("kind", ["functional", "exported SavedModel", "concrete function"])
def test_images_of_another_shape_are_refused(made, kind):
    model = wrapped(made[kind][0])
    with pytest.raises(MeasurementError) as error:
        model.logits(model.asarray(np.zeros((2, 3, 6, 6), np.float32)))
    assert "takes images of shape (6, 6, 3), not (3, 6, 6)" in one_line(error)


@pytest.mark.parametrize("cut", ["stop_gradient", "numpy"])
def test_a_network_through_which_no_gradient_flows_says_what_attacks_it(cut):
    at_hand("keras")
    import tensorflow as tf

    def call(x):
        if cut == "numpy":
            return tf.ensure_shape(
                tf.numpy_function(lambda z: z[:, 0, 0], [x], tf.float32), [None, 3]
            )
        return tf.stop_gradient(x)[:, 0, 0]

    model = wrapped(tf.function(call))
    np.testing.assert_array_equal(model.logits(model.asarray(X)), X[:, 0, 0])
    with pytest.raises(MeasurementError) as error:
        gradient_of(model, y=Y % 3)
    assert "no gradient reaches the input; attack it with square" in one_line(error)


def test_logits_of_an_unknown_shape_say_how_to_tell_it():
    at_hand("keras")
    import tensorflow as tf

    model = wrapped(tf.function(lambda x: tf.numpy_function(lambda z: z[:, 0, 0], [x], tf.float32)))
    with pytest.raises(MeasurementError) as error:
        model.logits(model.asarray(X))
    assert "tf.ensure_shape(logits, [None, classes])" in one_line(error)


# Batches and memory


def fails_above(most, error):
    import tensorflow as tf

    def look(x):
        if len(x) > most:
            raise error
        return x

    def call(x):
        seen = tf.ensure_shape(tf.numpy_function(look, [x], tf.float32), x.shape)
        return x[:, 0, 0] + 0 * seen[:, 0, 0]

    return tf.function(call)


@pytest.mark.parametrize("most", [1, 2, 5, 9])
def test_a_network_that_takes_so_many_images_at_most_is_found_out(most):
    at_hand("keras")
    model = wrapped(fails_above(most, ValueError("too many")))
    for ask in (lambda: model.logits(model.asarray(X)), lambda: gradient_of(model, y=Y % 3)):
        with pytest.raises(MeasurementError) as error:
            ask()
        said = f"takes at most {most} images at a time, not 10; say batch_size={most} "
        assert said in one_line(error)
    x = model.asarray(X[:most])
    np.testing.assert_array_equal(model.logits(x), X[:most, 0, 0])


def test_what_fails_on_any_image_is_the_networks_own_error():
    at_hand("keras")
    model = wrapped(fails_above(0, ValueError("out of order")))
    with pytest.raises(Exception, match="out of order"):
        model.logits(model.asarray(X))


def test_too_little_memory_is_told_as_such():
    at_hand("keras")
    model = wrapped(fails_above(5, MemoryError("none left")))
    with pytest.raises(BatchTooLarge) as error:
        model.logits(model.asarray(X))
    assert "10 images at a time do not fit into memory" in one_line(error)


def test_the_footprint_is_the_most_that_is_kept_at_a_time():
    """Of a dense network in float32, by hand."""
    at_hand("keras")
    import keras

    net = keras.Sequential([keras.Input((100,)), keras.layers.Dense(50, activation="relu"),
                            keras.layers.Dense(10)])  # fmt: skip
    model = wrapped(net)
    x = model.asarray(np.zeros((2, 100), np.float32))
    # At the end the logits are kept, what has come back through the relu, and the image's gradient;
    # just before, the relu, what comes back to it and through it, and the logits.
    assert 10 + 50 + 100 == 50 + 50 + 50 + 10
    assert model.footprint(x) == 4 * (10 + 50 + 100)


def test_the_footprint_grows_with_the_image_and_the_layers():
    at_hand("keras")
    sizes = []
    for side in (8, 16):
        model = wrapped(cnn(shape=(side, side, 3)))
        sizes.append(model.footprint(model.asarray(np.zeros((2, side, side, 3), np.float32))))
    assert 3.5 * sizes[0] < sizes[1] < 4.5 * sizes[0]
    # Two activations of four channels are kept for the way back.
    assert sizes[0] > 4 * 2 * 4 * 64


@pytest.mark.parametrize("kind", ["functional", "exported SavedModel", "concrete function",
                                  "tf.function"])  # fmt: skip
def test_the_footprint_looks_into_functions(made, kind):
    alone = wrapped(made["functional"][0])
    x = alone.asarray(X[:2])
    inner = wrapped(made[kind][0]).footprint(x)
    # Functions within others keep what their backward passes need a second time.
    assert alone.footprint(x) <= inner <= 3 * alone.footprint(x)


def test_the_batch_of_the_shipped_networks_stays_1000():
    backend = at_hand("keras")
    from harness.networks.initial import initial_weights

    shipped = fully_connected((28, 28), (512, 256, 128), 10, dropout=0.2)
    model = backend.build(Network(shipped, initial_weights(shipped, seed=0)))
    x = np.zeros((3, 28, 28), np.float32)
    assert model.footprint(model.asarray(x)) > 0
    assert batch_size_for(model, x) == 1000


# What a network is


def test_about_tells_parameters_without_statistics_and_what_the_weights_are():
    net = subclassed()
    about = wrapped(net).about()
    # 108 × 5 + 5, scale and shift of 5, 5 × 4 + 4.
    assert about.parameters == 545 + 10 + 24
    assert about.identity == wrapped(net).about().identity
    assert len(about.identity) == 64
    again = subclassed()
    again.set_weights(net.get_weights())
    assert wrapped(again).about().identity == about.identity
    values = net.get_weights()
    values[0][0, 0] += 1
    again.set_weights(values)
    assert wrapped(again).about().identity != about.identity


def test_weights_are_known_of_functions_and_saved_models_too(made):
    import tensorflow as tf

    whole = wrapped(made["module"][0]).about()
    assert whole.parameters == 108 * CLASSES
    for kind in ("module with a signature", "callable SavedModel"):
        assert wrapped(made[kind][0]).about().parameters == whole.parameters
    nothing = wrapped(tf.function(lambda x: x)).about()
    assert (nothing.parameters, nothing.identity) == (None, "")


def at_a_line(values):
    """The values in memory that begins at a line of the cache, or some bytes after."""
    room = np.zeros(values.nbytes + 128, np.uint8)
    first = -room.ctypes.data % 64
    for off in (0, 16):
        there = room[first + off :][: values.nbytes].view(values.dtype).reshape(values.shape)
        there[...] = values
        yield there


def test_images_are_taken_as_they_are_where_tensorflow_can():
    model = wrapped(cnn())
    expected = model.numpy(model.logits(model.asarray(X)))
    for images in at_a_line(X.astype(np.float32)):
        tensor = model.asarray(images)
        np.testing.assert_array_equal(model.numpy(model.logits(tensor)), expected)
        images.flags.writeable = False  # such as those of a file
        np.testing.assert_array_equal(model.numpy(model.asarray(images)), X.astype(np.float32))


def test_a_tensor_keeps_the_memory_that_it_lies_in():
    model = wrapped(cnn())
    tensor = model.asarray(next(at_a_line(X.astype(np.float32))))
    others = [next(at_a_line(np.full_like(X, 9.0))) for _ in range(5)]
    np.testing.assert_array_equal(model.numpy(tensor), X.astype(np.float32))
    assert len(others) == 5
