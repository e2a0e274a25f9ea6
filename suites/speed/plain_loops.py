"""Training loops as in a tutorial, beside which the harness's is timed; plain networks by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from harness.protocol import Architecture, Weights
from suites.speed.plain_jax import jax_copy, jax_loop
from suites.speed.plain_nets import keras_copy, keras_net, torch_copy, torch_net

LoopFactory: TypeAlias = Callable[[Architecture, np.ndarray, np.ndarray, int], Callable[[], None]]


def torch_loop(net: Architecture, x: np.ndarray, y: np.ndarray, batch: int) -> Callable[[], None]:
    """One epoch of a plain PyTorch loop, with the running loss and accuracy that they all show."""
    import torch
    from torch import nn

    model = torch_net(net)
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

    model = keras_net(net)
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return lambda: model.fit(x, y, batch_size=batch, epochs=1, shuffle=True, verbose=0)


LOOPS: dict[str, LoopFactory] = {"torch": torch_loop, "keras": keras_loop, "jax": jax_loop}
COPIES: dict[str, Callable[[Architecture, Weights], Any]] = {
    "torch": torch_copy,
    "keras": keras_copy,
    "jax": jax_copy,
}
"""Networks in inference, with the harness's weights."""


def torch_threads(count: int) -> None:
    """Let PyTorch work in so many threads."""
    import torch

    torch.set_num_threads(count)


def keras_threads(count: int) -> None:
    """Let TensorFlow work in so many threads; it must not have begun to."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def jax_threads(count: int) -> None:
    """Let XLA work in one thread on a CPU, or in as many as it likes; it must not have begun to."""
    if count == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


THREADS: dict[str, Callable[[int], None]] = {
    "torch": torch_threads,
    "keras": keras_threads,
    "jax": jax_threads,
}
