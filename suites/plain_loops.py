"""Plain training loops, as in a tutorial: what the harness's loop is timed against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.protocol import Architecture

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


LOOPS: dict[str, LoopFactory] = {"torch": torch_loop, "keras": keras_loop}
