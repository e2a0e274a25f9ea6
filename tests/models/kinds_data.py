"""Images and labels as people have them, as docs/models.md has them."""

from __future__ import annotations

from pathlib import Path

import kinds_keras
import kinds_torch
import numpy as np
from kinds import SIDE, Weights, first, given, kind, labelled, module

import harness

NAMES = ["cat", "dog", "owl"]


def of_function(**how):
    """A black box of NumPy, which needs no framework, and its images (n, h, w, c)."""
    weights = Weights.drawn()
    x, y = labelled(weights.scores, **how)
    return given(weights.scores, x, y, "square", net=harness.wrap_function(weights.scores))


@kind("NumPy arrays")
def arrays():
    return of_function()


@kind("grey images (n, h, w)")
def grey():
    weights = Weights.drawn(channels=1)

    def score(images):
        return weights.scores(images[..., None])

    x, y = labelled(score, shape=(SIDE, SIDE))
    return given(score, x, y, "square", net=harness.wrap_function(score))


@kind("lists")
def lists():
    return of_function()


@kind("tensors", "torch")
def tensors():
    return kinds_torch.plain()


@kind("bytes")
def bytes_():
    found = of_function(of_bytes=True)
    found.names["x"] = np.rint(found.names["x"] * 255)
    return found


@kind("pixels in [0, 255]", "torch")
def wide():
    weights = Weights.drawn()

    def score(images):
        return weights.scores(images / 255)

    x, y = labelled(weights.scores)
    found = given(score, x * 255, y)
    net = kinds_torch.network(
        Weights(weights.kernel / 255, weights.bias, weights.dense, weights.last)
    )
    found.names |= {"x": first(x * 255), "net": net}
    return found


@kind("labels (n, 1)")
def columns():
    return of_function()


@kind("an array on disk, which is mapped")
def mapped():
    found = of_function()
    np.save("x.npy", found.names.pop("x"))
    found.names["np"] = np
    return found


def of_torch_dataset():
    import torch

    found = kinds_torch.plain()
    x, y = (torch.tensor(found.names.pop(name)) for name in "xy")
    found.names["dataset"] = torch.utils.data.TensorDataset(x, y)
    return found


@kind("a `DataLoader` of PyTorch", "torch")
def loader():
    return of_torch_dataset()


@kind("a `Dataset` of PyTorch", "torch")
def torch_dataset():
    return of_torch_dataset()


@kind("a `tf.data.Dataset`", "keras")
def tf_dataset():
    import tensorflow as tf

    found = kinds_keras.plain()
    pair = tuple(found.names.pop(name) for name in "xy")
    found.names["dataset"] = tf.data.Dataset.from_tensor_slices(pair)
    return found


@kind("a generator of batches")
def generator():
    return of_function()


@kind("dicts, as Hugging Face's `datasets` give them")
def dicts():
    return of_function()


@kind("an `.npz` with `x` and `y`, or such names")
def npz():
    found = of_function()
    np.savez("test.npz", images=found.names.pop("x"), labels=found.names.pop("y"))
    return found


@kind("a folder with a subfolder a class, PNG or JPEG", "torch")
def folder():
    from PIL import Image

    found = kinds_torch.plain()
    weights = Weights.drawn()
    x, y = labelled(weights.scores, of_bytes=True)
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        path = Path("images/test", NAMES[label], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(path)
    net = found.names["net"]
    return given(weights.scores, x, y, net=net)


@kind("what a function of yours returns")
def from_function():
    found = of_function()
    np.savez("held.npz", x=found.names.pop("x"), y=found.names.pop("y"))
    module(
        "import numpy as np\n"
        "def test_images():\n"
        "    held = np.load('held.npz')\n"
        "    return held['x'], held['y']\n"
    )
    return found


@kind("names of the classes, and training images")
def named():
    found = of_function()
    more_x, more_y = labelled(Weights.drawn().scores, seed=5)
    found.names |= {"names": NAMES, "more_x": more_x, "more_y": more_y}
    return found
