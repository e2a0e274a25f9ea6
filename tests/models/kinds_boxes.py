"""Black boxes, as docs/models.md has them: scikit-learn, functions, endpoints, ONNX, classes."""

from __future__ import annotations

import numpy as np
from kinds import CLASSES, SIDE, Weights, first, given, kind, labelled, module, package_at_hand

PIXELS = SIDE * SIDE


def learnt(make, score, count):
    """A classifier of scikit-learn that has learnt grey images (n, h, w); and those."""
    random = np.random.default_rng(2)
    x = random.random((200, SIDE, SIDE)).astype(np.float32)
    weights = random.normal(size=(PIXELS, count))
    y = ((x.reshape(200, -1) - 0.5) @ weights).argmax(axis=1)
    net = make.fit(x.reshape(200, -1), y)

    def by_hand(images):
        return score(net, images.reshape(len(images), -1).astype(np.float64))

    x, y = labelled(by_hand, shape=(SIDE, SIDE))
    return given(by_hand, x, y, "square", net=net)


@kind("a classifier of scikit-learn", "sklearn")
def classifier():
    from sklearn.linear_model import LogisticRegression

    return learnt(LogisticRegression(), lambda n, x: x @ n.coef_.T + n.intercept_, CLASSES)


@kind("a pipeline of scikit-learn", "sklearn")
def pipeline():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def score(net, x):
        scaler, last = (step for _, step in net.steps)
        return (x - scaler.mean_) / scaler.scale_ @ last.coef_.T + last.intercept_

    return learnt(make_pipeline(StandardScaler(), LogisticRegression()), score, CLASSES)


@kind("a support vector machine", "sklearn")
def machine():
    from sklearn.svm import SVC

    def score(net, x):
        squared = ((x[:, None] - net.support_vectors_) ** 2).sum(axis=2)
        return (np.exp(-0.1 * squared) @ net.dual_coef_.T + net.intercept_)[:, 0]

    return learnt(SVC(gamma=0.1), score, 2)


def of_function(make, **names):
    """A function of images (n, h, w, c), made of the scores of NumPy."""
    weights = Weights.drawn()
    x, y = labelled(weights.scores)
    return given(weights.scores, x, y, "square", net=make(weights.scores), **names)


def likely(scores):
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


@kind("a Python function of images")
def function():
    return of_function(lambda score: score)


@kind("a function that returns probabilities")
def probabilities():
    return of_function(lambda score: lambda images: likely(score(images)))


@kind("a function that fails now and then")
def failing():
    calls = []

    def make(score):
        def net(images):
            calls.append(len(images))
            if len(calls) % 5 == 0:
                raise ConnectionError("busy, try again")
            return score(images)

        return net

    return of_function(make)


@kind("a function of JAX", heavy="jax")
def of_jax():
    jax = package_at_hand("jax")

    def make(score):
        weights = Weights.drawn()

        def net(images):
            dimensions = ("NHWC", "HWIO", "NHWC")
            found = jax.lax.conv_general_dilated(
                images, weights.kernel, (1, 1), "VALID", dimension_numbers=dimensions
            )
            hidden = jax.numpy.maximum(found + weights.bias, 0)
            return hidden.reshape(len(images), -1) @ weights.dense + weights.last

        return net

    return of_function(make, jax=jax)


ENDPOINT = "an HTTP endpoint (`ask` is in [an example](../examples/http_endpoint.py))"


@kind(ENDPOINT)
def http():
    def above(images):
        return 20 * (images.astype(np.float64).mean(axis=(1, 2)) - 0.5)

    random = np.random.default_rng(1)
    shades = 0.45 + 0.1 * (np.arange(20) % 2)
    x = (random.random((20, SIDE, SIDE)) * 0.4 - 0.2 + shades[:, None, None]).astype(np.float32)
    y = (above(x) > 0).astype(np.int64)
    y[:4] = 1 - y[:4]
    return given(above, x, y, "square")


def onnx_file(path, weights, batch="n", of_bytes=False):
    """The network of those weights, for images (n, c, h, w)."""
    onnx = package_at_hand("onnx")
    helper, of = onnx.helper, onnx.numpy_helper.from_array
    entry = onnx.TensorProto.UINT8 if of_bytes else onnx.TensorProto.FLOAT
    nodes, name = [], "x"
    if of_bytes:
        nodes = [
            helper.make_node("Cast", ["x"], ["floats"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Div", ["floats", "byte"], ["scaled"]),
        ]
        name = "scaled"
    nodes += [
        helper.make_node("Conv", [name, "kernel", "bias"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "dense", "last"], ["logits"]),
    ]
    held = {
        "kernel": weights.kernel.transpose(3, 2, 0, 1), "bias": weights.bias,
        "dense": weights.channels_first, "last": weights.last, "byte": np.float32(255),
    }  # fmt: skip
    shape, out = [batch, weights.kernel.shape[2], SIDE, SIDE], [batch, weights.dense.shape[1]]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", entry, shape)],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, out)],
        [of(np.ascontiguousarray(array), name) for name, array in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


def of_onnx(path, attack="fgsm", **how):
    weights = Weights.drawn()
    x, y = labelled(weights.scores)
    onnx_file(path, weights, **how)
    found = given(weights.scores, x, y, attack)
    found.names["x"] = first(x)
    return found


@kind("a session of ONNX Runtime", "onnx", heavy="onnx")
def session():
    found = of_onnx("net.onnx", "square")
    found.names["onnxruntime"] = package_at_hand("onnxruntime")
    return found


@kind("an `.onnx` file", "onnx", heavy="onnx")
def onnx_network():
    return of_onnx("net.onnx")


@kind("an `.onnx` file with a fixed batch size", "onnx", heavy="onnx")
def of_four():
    return of_onnx("of-four.onnx", batch=4)


@kind("an `.onnx` file that takes bytes", "onnx", heavy="onnx")
def of_bytes():
    weights = Weights.drawn()
    x, y = labelled(weights.scores, of_bytes=True)
    onnx_file("of-bytes.onnx", weights, of_bytes=True)
    found = given(weights.scores, x, y, "square")
    found.names["x"] = np.rint(first(x) * 255).astype(np.uint8)
    return found


@kind("what a function of yours makes")
def from_function():
    found = of_function(lambda score: score)
    module("import harness\nfrom kinds import Weights\n"
           "def network(): return harness.wrap_function(Weights.drawn().scores)\n")  # fmt: skip
    del found.names["net"]
    return found


class Mine:
    """All that ``harness.protocol.Model`` asks for."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset()

    def asarray(self, values):
        return np.asarray(values)

    def numpy(self, array):
        return array

    def logits(self, x):
        return Weights.drawn().scores(x)


@kind("a class of your own, as `harness.protocol.Model` says")
def own_class():
    return of_function(lambda score: score, Mine=Mine)
