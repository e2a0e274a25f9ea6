"""Networks of JAX, as docs/models.md has them."""

from __future__ import annotations

import numpy as np
from kinds import MEAN, SIDE, STD, Weights, first, given, kind, labelled, package_at_hand


def apply(params, images):
    """Logits of images (n, h, w, c), by a function that users write by hand."""
    import jax

    found = jax.lax.conv_general_dilated(
        images, params["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    hidden = jax.nn.relu(found + params["bias"])
    return hidden.reshape(len(images), -1) @ params["dense"] + params["last"]


def arrays(weights):
    return {name: getattr(weights, name) for name in ("kernel", "bias", "dense", "last")}


def plain(make=lambda weights: None, classes=3, normalised=False, attack="fgsm", **names):
    import jax

    weights = Weights.drawn(classes, normalised=normalised)

    def score(images):
        return weights.scores(images, normalised)

    x, y = labelled(score)
    params = arrays(weights)
    return given(
        score, x, y, attack, jax=jax, jnp=jax.numpy, apply=apply, params=params, net=make(weights),
        mean=MEAN, std=STD, **names,
    )  # fmt: skip


@kind("a function with its arrays", "jax")
def pair():
    return plain()


@kind("a function with its arrays, images normalised per channel", "jax")
def normalised():
    return plain(normalised=True)


@kind("one logit an image (JAX)", "jax")
def one_logit():
    return plain(classes=1)


@kind("ends in a softmax (JAX)", "jax")
def softmax():
    import jax

    found = plain(attack="square")
    found.names["apply"] = lambda params, images: jax.nn.softmax(apply(params, images))
    return found


@kind("a compiled function of images", "jax")
def compiled():
    import jax

    def make(weights):
        params = {name: jax.numpy.asarray(array) for name, array in arrays(weights).items()}
        return jax.jit(lambda images: apply(params, images))

    return plain(make)


@kind("a module of Flax NNX", "jax", heavy="flax")
def nnx_module():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, weights):
            rngs = nnx.Rngs(0)
            _, _, channels, filters = weights.kernel.shape
            self.conv = nnx.Conv(channels, filters, (3, 3), padding="VALID", rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.head = nnx.Linear(*weights.dense.shape, rngs=rngs)
            self.conv.kernel[...], self.conv.bias[...] = weights.kernel, weights.bias
            self.head.kernel[...], self.head.bias[...] = weights.dense, weights.last

        def __call__(self, x):
            x = nnx.relu(self.conv(x))
            return self.head(self.drop(x.reshape(x.shape[0], -1)))

    return plain(Net)


@kind("a module of Flax Linen", "jax", heavy="flax")
def linen_module():
    from flax import linen

    class Net(linen.Module):
        classes: int
        filters: int

        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Conv(self.filters, (3, 3), padding="VALID")(x))
            return {"logits": linen.Dense(self.classes)(x.reshape(x.shape[0], -1))}

    def make(weights):
        return Net(weights.dense.shape[1], weights.kernel.shape[3])

    found = plain(make)
    held = found.names["params"]
    parts = {
        "Conv_0": {"kernel": held["kernel"], "bias": held["bias"]},
        "Dense_0": {"kernel": held["dense"], "bias": held["last"]},
    }
    found.names["variables"] = {"params": parts}
    return found


@kind("a module of Equinox, for one image (c, h, w)", "jax", heavy="equinox")
def equinox_module():
    equinox = package_at_hand("equinox")
    import jax

    class Net(equinox.Module):
        conv: equinox.nn.Conv2d
        drop: equinox.nn.Dropout
        head: equinox.nn.Linear

        def __call__(self, image):
            return self.head(self.drop(jax.nn.relu(self.conv(image)).ravel()))

    def make(weights):
        key = jax.random.key(0)
        _, _, channels, filters = weights.kernel.shape
        inner = (SIDE - 2) ** 2 * filters
        net = Net(
            equinox.nn.Conv2d(channels, filters, 3, key=key), equinox.nn.Dropout(0.5),
            equinox.nn.Linear(inner, weights.dense.shape[1], key=key),
        )  # fmt: skip
        values = (
            weights.kernel.transpose(3, 2, 0, 1), weights.bias[:, None, None],
            weights.channels_first.T, weights.last,
        )  # fmt: skip
        return equinox.tree_at(
            lambda n: (n.conv.weight, n.conv.bias, n.head.weight, n.head.bias), net,
            tuple(jax.numpy.asarray(np.ascontiguousarray(value)) for value in values),
        )  # fmt: skip

    found = plain(make)
    found.names["x"] = first(found.names["x"])
    return found
