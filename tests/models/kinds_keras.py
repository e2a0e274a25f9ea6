"""Networks of Keras and TensorFlow, as docs/models.md has them."""

from __future__ import annotations

import numpy as np
from kinds import CLASSES, FILTERS, MEAN, SIDE, STD, Weights, given, kind, labelled


def layers(classes, name="logits"):
    import keras

    return [
        keras.layers.Conv2D(FILTERS, 3, activation="relu"), keras.layers.Flatten(),
        keras.layers.Dense(classes, name=name),
    ]  # fmt: skip


def weighted(net, weights):
    """The same network with those weights."""
    net.set_weights([weights.kernel, weights.bias, weights.dense, weights.last])
    return net


def network(weights, end=None, name="logits"):
    """A functional model of those weights."""
    import keras

    entry = keras.Input((SIDE, SIDE, weights.kernel.shape[2]))
    found = entry
    for layer in layers(weights.dense.shape[1], name):
        found = layer(found)
    return weighted(keras.Model(entry, end(found) if end else found), weights)


def plain(make=network, classes=3, normalised=False, attack="fgsm", **names):
    import keras
    import tensorflow as tf

    weights = Weights.drawn(classes, normalised=normalised)

    def score(images):
        return weights.scores(images, normalised)

    x, y = labelled(score)
    return given(
        score, x, y, attack, net=make(weights), keras=keras, tf=tf, mean=MEAN, std=STD, **names
    )


@kind("a functional `keras.Model`, images (n, h, w, c)", "keras")
def functional():
    return plain()


@kind("a `keras.Sequential`", "keras")
def sequential():
    import keras

    def make(weights):
        net = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers(CLASSES)])
        return weighted(net, weights)

    return plain(make)


@kind("a subclassed model, with an input declared", "keras")
def subclassed():
    import keras

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = layers(CLASSES)

        def call(self, x):
            for part in self.parts:
                x = part(x)
            return x

    def make(weights):
        net = Net()
        net(np.zeros((1, SIDE, SIDE, 3), np.float32))
        return weighted(net, weights)

    return plain(make)


@kind("two outputs, by the names of their layers", "keras")
def named():
    import keras

    def make(weights):
        inner = network(weights, name="animals")
        colours = keras.layers.Dense(5, name="colours")(inner.layers[-2].output)
        return keras.Model(inner.inputs, [colours, inner.outputs[0]])

    return plain(make)


@kind("ends in a softmax (Keras)", "keras")
def softmax():
    import keras

    return plain(lambda w: network(w, keras.layers.Softmax()), attack="square")


@kind("one logit an image (Keras)", "keras")
def one_logit():
    return plain(classes=1)


@kind("images normalised per channel (Keras)", "keras")
def normalised():
    return plain(normalised=True)


@kind("a `.keras` file", "keras")
def keras_file():
    found = plain()
    found.names.pop("net").save("net.keras")
    return found


@kind("the folder of a SavedModel", "keras")
def saved_model():
    found = plain()
    found.names.pop("net").export("saved")
    return found


@kind("a `tf.function`", "keras")
def tf_function():
    import tensorflow as tf

    def make(weights):
        held = [tf.constant(a) for a in (weights.kernel, weights.bias, weights.dense, weights.last)]

        def net(x):
            hidden = tf.nn.relu(tf.nn.conv2d(x, held[0], 1, "VALID") + held[1])
            return tf.reshape(hidden, (tf.shape(x)[0], -1)) @ held[2] + held[3]

        return net

    return plain(make)


@kind("two inputs, one of which is always the same", "keras")
def two_inputs():
    import keras
    import tensorflow as tf

    def make(weights):
        inner = network(weights)
        extra = keras.Input((1,), batch_size=1)
        return keras.Model([*inner.inputs, extra], inner.outputs[0] * extra)

    return plain(make, extra=tf.ones((1, 1)))
