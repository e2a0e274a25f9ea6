"""Networks and a training loop as a user of JAX writes them, without the harness."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from harness.protocol import (
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    ReLU,
    Weights,
)
from suites.speed.plain_nets import channels_last, sequence


def jax_copy(net: Architecture, weights: Weights) -> Callable[[Any], Any]:
    """The network in inference as a compiled function, with the harness's weights."""
    import jax
    import jax.numpy as jnp

    params = [jnp.asarray(value) for value in channels_last(net, weights)]
    compiled: Callable[[Any], Any] = jax.jit(lambda x: forward(net.inference, params, x)[0])
    return compiled


def jax_loop(net: Architecture, x: np.ndarray, y: np.ndarray, batch: int) -> Callable[[], None]:
    """One epoch of a compiled step of AdamW, with the running loss and accuracy."""
    import jax
    import jax.numpy as jnp

    held: dict[str, Any] = {"params": initial(net), "step": 0, "key": jax.random.key(0)}
    held["moments"] = [[jnp.zeros_like(p) for p in held["params"]] for _ in range(2)]
    held["statistics"] = running(net)

    def loss_of(params: Any, statistics: Any, key: Any, images: Any, labels: Any) -> Any:
        logits, statistics = forward(net, params, images, statistics, key)
        logs = jax.nn.log_softmax(logits)
        loss = -jnp.take_along_axis(logs, labels[:, None], axis=1).mean()
        return loss, (statistics, (logits.argmax(1) == labels).sum())

    def stepped(held: Any, images: Any, labels: Any) -> Any:
        key, now = jax.random.split(held["key"])
        (loss, (statistics, right)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            held["params"], held["statistics"], now, images, labels
        )
        count = held["step"] + 1
        first, second = held["moments"]
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
        params = [
            p - 1e-3 * (m / (1 - 0.9**count) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8) + 0.01 * p)
            for p, m, v in zip(held["params"], first, second, strict=True)
        ]
        after = {"params": params, "step": count, "key": key, "moments": [first, second]}
        return after | {"statistics": statistics}, loss, right

    step, random = jax.jit(stepped), np.random.default_rng(0)

    def epoch() -> None:
        nonlocal held
        loss_sum, correct = 0.0, 0
        order = random.permutation(len(x))
        for start in range(0, len(x), batch):
            part = order[start : start + batch]
            held, loss, right = step(held, x[part], y[part])
            loss_sum += float(loss) * len(part)
            correct += int(right)

    return epoch


def initial(net: Architecture) -> list[Any]:
    """He's weights, zeros and ones: of each layer what it has, in order."""
    import jax.numpy as jnp

    random = np.random.default_rng(0)
    params: list[Any] = []
    for place in sequence(net):
        layer, before = place.layer, place.before
        if isinstance(layer, Conv | Dense):
            width = layer.channels if isinstance(layer, Conv) else layer.width
            window = layer.kernel if isinstance(layer, Conv) else ()
            shape = (*window, before[0], width)
            scale = np.sqrt(2 / np.prod(shape[:-1]))
            params += [scale * random.standard_normal(shape, np.float32), np.zeros(width, "f")]
        elif isinstance(layer, BatchNorm):
            params += [np.ones(before[0], "f"), np.zeros(before[0], "f")]
    return [jnp.asarray(value) for value in params]


def running(net: Architecture) -> list[Any]:
    """Mean and variance of each batch normalisation before the first step."""
    import jax.numpy as jnp

    norms = [place for place in sequence(net) if isinstance(place.layer, BatchNorm)]
    return [(jnp.zeros(place.before[0]), jnp.ones(place.before[0])) for place in norms]


def forward(
    net: Architecture, params: list[Any], x: Any, statistics: Any = (), key: Any = None
) -> tuple[Any, list[Any]]:
    """Logits of grey images (n, h, w), and the running statistics after them, in training."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    given, before, after = iter(params), iter(statistics), []
    if not isinstance(net.layers[0], Flatten):
        x = x[..., None]
    for number, place in enumerate(sequence(net)):
        layer = place.layer
        if isinstance(layer, Dense):
            x = x @ next(given) + next(given)
        elif isinstance(layer, Conv):
            x = lax.conv_general_dilated(
                x, next(given), layer.stride, layer.padding,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            ) + next(given)  # fmt: skip
        elif isinstance(layer, BatchNorm):
            axes = tuple(range(x.ndim - 1))
            mean, variance = x.mean(axes), x.var(axes)
            keep = partial(jax.tree.map, lambda old, new: 0.9 * old + 0.1 * new)
            after.append(keep(next(before), (mean, variance)))
            x = (x - mean) * lax.rsqrt(variance + 1e-5) * next(given) + next(given)
        elif isinstance(layer, MaxPool):
            size, stride = (1, *layer.size, 1), (1, *layer.stride, 1)
            padding = [(0, 0), *layer.padding, (0, 0)]
            x = lax.reduce_window(x, -jnp.inf, lax.max, size, stride, padding)
        elif isinstance(layer, Dropout):
            kept = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - layer.share, x.shape)
            x = jnp.where(kept, x / (1 - layer.share), 0)
        else:
            x = jax.nn.relu(x) if isinstance(layer, ReLU) else x.reshape(len(x), -1)
    return x, after
