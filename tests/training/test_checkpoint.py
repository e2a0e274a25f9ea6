"""Trainings that are broken off and go on as if they had not been, in every backend."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from toy_training import same_weights, toy_recipe, toy_train, toy_trainer, without_seconds

from harness.results.records import Epoch
from harness.training.checkpoint import Checkpoint

# Everything that could be forgotten: averages, dropout, statistics, distortions, random starts.
RECIPE = toy_recipe("fgsm-at", averaging=0.9, label_smoothing=0.1, adversary={"epsilon": 0.1})


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    at_hand(request.param)
    return request.param


@pytest.fixture(scope="module")
def whole(name):
    """What comes of a training that nobody interrupts."""
    return toy_train(name, RECIPE)


def interrupted_in(epoch):
    """Raises in that epoch."""

    def on_epoch(done):
        if done.epoch == epoch:
            raise KeyboardInterrupt

    return on_epoch


def same(a, b):
    return (
        same_weights(a.weights, b.weights)
        and a.best_epoch == b.best_epoch
        and without_seconds(a.history) == without_seconds(b.history)
    )


# Trainings


@pytest.mark.parametrize("epoch", [2, 4])
def test_an_interrupted_training_goes_on_exactly_where_it_was(name, whole, tmp_path, epoch):
    checkpoint = tmp_path / "model.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        toy_train(name, RECIPE, checkpoint=checkpoint, on_epoch=interrupted_in(epoch))
    saved = Checkpoint.read(checkpoint)
    # The checkpoint is written after the epoch is told of, so that epoch alone is lost.
    assert len(saved.history) == epoch - 1
    made = []
    resumed = toy_train(
        name, RECIPE, checkpoint=checkpoint, on_epoch=lambda epoch: made.append(epoch.epoch)
    )
    assert made == list(range(epoch, 5))
    assert same(resumed, whole)
    assert resumed.history[: epoch - 1] == saved.history  # their seconds too


def test_writing_checkpoints_changes_nothing(name, whole, tmp_path):
    assert same(toy_train(name, RECIPE, checkpoint=tmp_path / "model.checkpoint"), whole)


def test_a_training_broken_off_after_its_last_epoch_only_returns(tmp_path):
    checkpoint = tmp_path / "model.checkpoint"
    done = toy_train("numpy", RECIPE, checkpoint=checkpoint)
    never = toy_trainer("numpy", RECIPE)
    never.step = None
    assert same(toy_train("numpy", RECIPE, never, checkpoint=checkpoint), done)


def test_patience_counts_the_epochs_before_the_interruption(tmp_path):
    """A rate so small that the first epoch stays the best, and a patience of two."""
    recipe = toy_recipe("standard", epochs=9, patience=2, learning_rate=1e-12)
    whole = toy_train("numpy", recipe)
    assert len(whole.history) < 9
    for epoch in range(2, len(whole.history) + 1):
        checkpoint = tmp_path / f"{epoch}.checkpoint"
        with pytest.raises(KeyboardInterrupt):
            toy_train("numpy", recipe, checkpoint=checkpoint, on_epoch=interrupted_in(epoch))
        assert same(toy_train("numpy", recipe, checkpoint=checkpoint), whole)


HERE = Path(__file__).parent
KILLED = """
import os, signal, sys
from pathlib import Path
from test_checkpoint import RECIPE
from toy_training import toy_train

def on_epoch(epoch):
    if epoch.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)

toy_train("numpy", RECIPE, checkpoint=Path(sys.argv[1]), on_epoch=on_epoch)
"""


def test_a_training_that_was_killed_goes_on(tmp_path):
    checkpoint = tmp_path / "model.checkpoint"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(checkpoint)],
        cwd=HERE,
        check=False,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    )
    assert done.returncode == -signal.SIGKILL
    assert len(Checkpoint.read(checkpoint).history) == 2
    made = []
    resumed = toy_train(
        "numpy", RECIPE, checkpoint=checkpoint, on_epoch=lambda epoch: made.append(epoch.epoch)
    )
    assert made == [3, 4]
    assert same(resumed, toy_train("numpy", RECIPE))


DAMAGE = {
    "truncated": lambda data: data[:-7],
    "cut-in-the-header": lambda data: data[:20],
    "emptied": lambda data: b"",
    "other-bytes": lambda data: b"\xff" * 300,
    "broken-notes": lambda data: data.replace(b"best_epoch", b"best_epoxh"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_none(tmp_path, damage):
    checkpoint = tmp_path / "model.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        toy_train("numpy", RECIPE, checkpoint=checkpoint, on_epoch=interrupted_in(3))
    checkpoint.write_bytes(DAMAGE[damage](checkpoint.read_bytes()))
    assert Checkpoint.read(checkpoint) is None
    made = []
    again = toy_train(
        "numpy", RECIPE, checkpoint=checkpoint, on_epoch=lambda epoch: made.append(epoch.epoch)
    )
    assert made == [1, 2, 3, 4]
    assert same(again, toy_train("numpy", RECIPE))


def misfits(saved):
    """Checkpoints that can be read, and are of no such training."""

    def of(**changes):
        return dataclasses.replace(saved, **changes)

    def every(weights, change):
        return {name: change(value) for name, value in weights.items()}

    other = next(iter(saved.trainer))
    return {
        "other-shapes": of(best_weights=every(saved.best_weights, lambda w: w[..., :1])),
        "other-dtypes": of(best_weights=every(saved.best_weights, np.float64)),
        "other-names": of(best_weights={"w": np.zeros(3, np.float32)}),
        "not-a-number": of(best_weights=every(saved.best_weights, lambda w: w * np.float32("nan"))),
        "no-averages": of(averaged={}),
        "other-averages": of(averaged=every(saved.averaged, lambda w: w[:1])),
        "no-state": of(trainer={}),
        "part-of-a-state": of(trainer={k: v for k, v in saved.trainer.items() if k != other}),
        "other-state": of(trainer=saved.trainer | {other: np.zeros((3, 3, 3))}),
        "more-state": of(trainer=saved.trainer | {"adam/77/exp_avg": np.zeros(3)}),
        "broken-state": of(trainer=every(saved.trainer, lambda v: np.zeros(7, v.dtype))),
        "too-long": of(
            history=tuple(
                saved.history[0].model_copy(update={"epoch": number}) for number in range(1, 7)
            )
        ),
    }


def test_a_checkpoint_of_another_training_is_none_and_goes(name, whole, tmp_path):
    checkpoint = tmp_path / "model.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        toy_train(name, RECIPE, checkpoint=checkpoint, on_epoch=interrupted_in(3))
    trainer = toy_trainer(name, RECIPE)
    for kind, misfit in misfits(Checkpoint.read(checkpoint)).items():
        misfit.write(checkpoint)
        seen = []

        def stop(epoch):
            seen.append((epoch.epoch, checkpoint.exists()))  # noqa: B023
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            toy_train(name, RECIPE, trainer, checkpoint=checkpoint, on_epoch=stop)
        assert seen == [(1, False)], kind
    misfit.write(checkpoint)
    assert same(toy_train(name, RECIPE, checkpoint=checkpoint), whole)


# The file


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path):
    epoch = Epoch(epoch=1, loss=0.5, accuracy=0.75, validation_loss=0.25, validation_accuracy=1,
                  learning_rate=0.1, seconds=2, fgsm_accuracy=0.5, pgd_accuracy=0.25)  # fmt: skip
    trainer = {
        "number": np.array(7), "bytes": np.arange(3, dtype=np.uint8),
        "state": np.array([1, 2], np.uint32), "transposed": np.arange(6.0).reshape(2, 3).T,
        "with:colon/and/slash": np.zeros(2, np.float32),
    }  # fmt: skip
    weights = {"layers.0.bias": np.array([1.5], np.float32)}
    averaged = {"layers.0.bias": np.array([2.5], np.float32)}
    written = Checkpoint((epoch,), 1, weights, averaged, trainer)
    written.write(tmp_path / "deep" / "c.checkpoint")
    found = Checkpoint.read(tmp_path / "deep" / "c.checkpoint")
    assert (found.history, found.best_epoch) == ((epoch,), 1)
    for stored, given in (
        (found.best_weights, weights), (found.averaged, averaged), (found.trainer, trainer),
    ):  # fmt: skip
        assert stored.keys() == given.keys()
        for key, value in given.items():
            assert (stored[key].shape, stored[key].dtype) == (value.shape, value.dtype)
            np.testing.assert_array_equal(stored[key], value)


def test_where_there_is_no_file_there_is_no_checkpoint(tmp_path):
    assert Checkpoint.read(tmp_path / "c.checkpoint") is None
