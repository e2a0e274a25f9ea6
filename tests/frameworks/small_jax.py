"""Small networks of JAX for 6 × 6 × 3 images of four classes, as users bring them."""

from __future__ import annotations

import numpy as np
from backends_at_hand import REQUIRED, at_hand, package_at_hand, required

from harness.protocol import UNIT

SHAPE, CLASSES = (6, 6, 3), 4
X = np.random.default_rng(0).random((12, *SHAPE), dtype=np.float32)
Y = np.arange(12) % CLASSES


def drawn(*shape, scale=1.0, seed=1):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def params():
    """Of ``apply``: two layers, the first of which comes last in the order of names."""
    return {
        "stem": {"w": drawn(108, 8, scale=0.2), "b": drawn(8, scale=0.1)},
        "head": {"w": drawn(8, CLASSES, scale=0.5), "b": drawn(CLASSES, scale=0.1)},
    }


def apply(params, x):
    """Logits of images (n, *shape)."""
    import jax

    hidden = jax.nn.tanh(x.reshape(len(x), -1) @ params["stem"]["w"] + params["stem"]["b"])
    return hidden @ params["head"]["w"] + params["head"]["b"]


def scores(x=X, dtype=np.float64):
    """The same by NumPy."""
    held = {
        layer: {n: a.astype(dtype) for n, a in part.items()} for layer, part in params().items()
    }
    flat = x.reshape(len(x), -1).astype(dtype)
    hidden = np.tanh(flat @ held["stem"]["w"] + held["stem"]["b"])
    return hidden @ held["head"]["w"] + held["head"]["b"]


def model_of(net, how=UNIT):
    return at_hand("jax").wrap(net, how)


def logits_of(model, x=X):
    return model.numpy(model.logits(model.asarray(x)))


def beside_jax(name):
    """A package of modules for JAX; it must be there where JAX must."""
    return package_at_hand(name, f"{REQUIRED} names jax" if "jax" in required() else "")


def nnx_net():
    """Convolution, batch normalisation with statistics of its own, dropout; in training mode."""
    at_hand("jax")
    nnx = beside_jax("flax.nnx")

    class Net(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.conv = nnx.Conv(3, 5, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(5, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.head = nnx.Linear(180, CLASSES, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.norm(self.conv(x)))
            return self.head(self.drop(x.reshape(x.shape[0], -1)))

    net = Net()
    net.norm.mean[...] = np.linspace(-0.2, 0.2, 5, dtype=np.float32)
    net.norm.var[...] = np.linspace(0.5, 1.5, 5, dtype=np.float32)
    return net


def equinox_net():
    """A module for one image (c, h, w), with dropout that is on."""
    at_hand("jax")
    equinox = beside_jax("equinox")
    import jax

    class Net(equinox.Module):
        conv: equinox.nn.Conv2d
        drop: equinox.nn.Dropout
        head: equinox.nn.Linear

        def __call__(self, image):
            return self.head(self.drop(jax.nn.relu(self.conv(image)).ravel()))

    one, two = jax.random.split(jax.random.key(0))
    return Net(
        equinox.nn.Conv2d(3, 5, 3, key=one), equinox.nn.Dropout(0.5),
        equinox.nn.Linear(80, CLASSES, key=two),
    )  # fmt: skip
