"""What the harness is timed against: training loops as in a tutorial, and bare matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.protocol import Architecture, Weights

LoopFactory = Callable[[Architecture, np.ndarray, np.ndarray, int], Callable[[], None]]


def torch_loop(net: Architecture, x: np.ndarray, y: np.ndarray, batch: int) -> Callable[[], None]:
    """One epoch of a plain PyTorch loop, with the running loss and accuracy that they all show."""
    import torch
    from torch import nn

    layers: list[nn.Module] = [nn.Flatten()]
    width = net.sizes[0]
    for hidden in net.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(net.dropout)]
        width = hidden
    model = nn.Sequential(*layers, nn.Linear(width, net.classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    loss_of = nn.CrossEntropyLoss()

    def epoch() -> None:
        model.train()
        loss_sum, correct = 0.0, 0
        order = torch.randperm(len(data))
        for start in range(0, len(data), batch):
            images, labels = data[order[start : start + batch]]
            logits = model(images)
            loss = loss_of(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            correct += int((logits.argmax(1) == labels).sum())

    return epoch


def keras_loop(net: Architecture, x: np.ndarray, y: np.ndarray, batch: int) -> Callable[[], None]:
    """One epoch of ``keras.Model.fit``."""
    import keras

    layers: list[keras.layers.Layer] = [keras.layers.Input(net.input_shape), keras.layers.Flatten()]
    for hidden in net.hidden:
        layers += [keras.layers.Dense(hidden, activation="relu"), keras.layers.Dropout(net.dropout)]
    model = keras.Sequential([*layers, keras.layers.Dense(net.classes)])
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return lambda: model.fit(x, y, batch_size=batch, epochs=1, shuffle=True, verbose=0)


def torch_floor(weights: Weights, x: np.ndarray, passes: int, batch: int) -> Callable[[], None]:
    """The matrix products of so many forward passes over all images, and nothing else."""
    import torch

    matrices = [torch.tensor(weight).T for weight in _matrices(weights)]
    flat = torch.tensor(x.reshape(len(x), -1))

    def multiply() -> None:
        for start in range(0, len(flat), batch):
            for _ in range(passes):
                value = flat[start : start + batch]
                for matrix in matrices:
                    value = value @ matrix

    return multiply


def keras_floor(weights: Weights, x: np.ndarray, passes: int, batch: int) -> Callable[[], None]:
    """The same in TensorFlow."""
    import tensorflow as tf

    matrices = [tf.constant(weight.T) for weight in _matrices(weights)]
    parts = [tf.constant(x[i : i + batch].reshape(-1, matrices[0].shape[0]))
             for i in range(0, len(x), batch)]  # fmt: skip

    def multiply() -> None:
        for part in parts:
            for _ in range(passes):
                value = part
                for matrix in matrices:
                    value = tf.matmul(value, matrix)
            value.numpy()  # waits for it

    return multiply


def torch_pass(weights: Weights, x: np.ndarray, batch: int) -> Callable[[], None]:
    """One forward and one backward pass to the images, of the sum of all logits."""
    import torch

    layers = [torch.tensor(value) for value in weights.values()]
    flat = torch.tensor(x.reshape(len(x), -1))

    def both() -> None:
        for start in range(0, len(flat), batch):
            images = flat[start : start + batch].requires_grad_()
            value = images
            for place in range(0, len(layers), 2):
                value = torch.nn.functional.linear(value, layers[place], layers[place + 1])
                value = value.relu() if place + 2 < len(layers) else value
            torch.autograd.grad(value.sum(), images)

    return both


def keras_pass(weights: Weights, x: np.ndarray, batch: int) -> Callable[[], None]:
    """The same in TensorFlow, compiled."""
    import tensorflow as tf

    layers = [tf.constant(value.T) for value in weights.values()]
    parts = [tf.constant(x[i : i + batch].reshape(-1, layers[0].shape[0]))
             for i in range(0, len(x), batch)]  # fmt: skip

    def gradient(images: Any) -> Any:
        value = images
        for place in range(0, len(layers), 2):
            value = tf.matmul(value, layers[place]) + layers[place + 1]
            value = tf.nn.relu(value) if place + 2 < len(layers) else value
        return tf.gradients(value, images)[0]

    compiled = tf.function(gradient)

    def both() -> None:
        for part in parts:
            compiled(part).numpy()

    return both


def _matrices(weights: Weights) -> list[np.ndarray]:
    return [np.asarray(value) for value in weights.values() if value.ndim == 2]


PASSES = {"torch": torch_pass, "keras": keras_pass}
FLOORS = {"torch": torch_floor, "keras": keras_floor}
LOOPS: dict[str, LoopFactory] = {"torch": torch_loop, "keras": keras_loop}


def torch_threads(count: int) -> None:
    """Let PyTorch work in so many threads."""
    import torch

    torch.set_num_threads(count)


def keras_threads(count: int) -> None:
    """Let TensorFlow work in so many threads; it must not have begun to."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


THREADS: dict[str, Callable[[int], None]] = {"torch": torch_threads, "keras": keras_threads}
