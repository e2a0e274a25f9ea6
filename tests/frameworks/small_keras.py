"""Small networks of Keras and TensorFlow, of many kinds, with seeded weights."""

from __future__ import annotations

import numpy as np
from backends_at_hand import at_hand

from harness.maths.objectives import ClassLogit
from harness.protocol import Wrapping

SHAPE, CLASSES = (6, 6, 3), 4
X = np.random.default_rng(0).random((10, *SHAPE), dtype=np.float32)
Y = np.arange(10) % CLASSES


def seeded(net, scale=1.0):
    """The network with weights of a fixed draw, and variances above zero."""
    random = np.random.default_rng(1)
    values = []
    for weight in net.weights:
        shape = tuple(weight.shape)
        drawn = random.standard_normal(shape) / max(1, np.prod(shape[:-1])) ** 0.5
        values.append(0.5 + np.abs(drawn) if "variance" in weight.name else scale * drawn)
    net.set_weights(values)
    return net


def cnn(shape=SHAPE, outputs=CLASSES, **entry):
    """Convolutions with batch normalisation, and a branch around one."""
    at_hand("keras")
    import keras
    from keras import layers

    x = images = keras.Input(shape, **entry)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.Activation("tanh")(layers.BatchNormalization()(x))
    around = layers.Conv2D(4, 3, padding="same", activation="tanh")(x)
    x = layers.Add()([x, layers.BatchNormalization()(around)])
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return seeded(keras.Model(images, layers.Dense(outputs)(x)))


def vit():
    """Patches, one block of attention before normalised layers, and a head."""
    at_hand("keras")
    import keras
    from keras import layers

    images = keras.Input(SHAPE)
    x = layers.Reshape((4, 8))(layers.Conv2D(8, 3, strides=3)(images))
    normed = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 4, dropout=0.1)(normed, normed)
    x = layers.Dense(8, activation="gelu")(layers.LayerNormalization()(x)) + x
    x = layers.GlobalAveragePooling1D()(x)
    return seeded(keras.Model(images, layers.Dense(CLASSES)(x)))


def subclassed(whole=True, width=5, call=True):
    """A subclassed model without a declared input; one that tells how it is made, or does not."""
    at_hand("keras")
    import keras

    class Subclassed(keras.Model):
        def __init__(self, width=3, **options):
            super().__init__(**options)
            self.width = width
            self.flat = keras.layers.Flatten()
            self.hidden = keras.layers.Dense(width, activation="tanh")
            self.norm = keras.layers.BatchNormalization()
            self.head = keras.layers.Dense(CLASSES)

        def call(self, x, training=False):
            return self.head(self.norm(self.hidden(self.flat(x)), training=training))

        if whole:

            def get_config(self):
                return {"width": self.width}

    net = Subclassed(width)
    if call:
        net(X[:3])
        seeded(net)
    return net


def module(outputs=lambda z: z, signature=None, variables=None):
    """A tf.Module; with an input signature its call is a tf.function."""
    at_hand("keras")
    import tensorflow as tf

    drawn = np.random.default_rng(1).standard_normal((108, CLASSES)).astype(np.float32)

    class Linear(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(drawn if variables is None else variables)

        def __call__(self, x):
            return outputs(tf.reshape(x, [-1, self.weight.shape[0]]) @ self.weight)

    if signature is None:
        return Linear()

    class Traced(Linear):
        @tf.function(input_signature=[tf.TensorSpec(signature, tf.float32, "images")])
        def __call__(self, x):
            return super().__call__(x)

    return Traced()


def wrapped(net, **how):
    return at_hand("keras").wrap(net, Wrapping(**how))


def gradient_of(model, x=X, y=Y):
    """The gradient of the logit of each image's class, by the model."""
    logits, gradient = model.logits_and_gradient(model.asarray(x), model.asarray(y), ClassLogit())
    return model.numpy(logits), model.numpy(gradient)


def tape_of(call, x=X, y=Y):
    """The same by TensorFlow alone."""
    import tensorflow as tf

    watched = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        logits = call(watched)
        picked = tf.reduce_sum(tf.gather(logits, y, axis=1, batch_dims=1))
    return logits.numpy(), tape.gradient(picked, watched).numpy()
