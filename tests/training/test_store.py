"""The store of trained models: what finds one, what does not, and that it is never half there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness.errors import HarnessError
from harness.protocol import fully_connected
from harness.results.records import Epoch
from harness.spec.training import TrainingSpec
from harness.training.loop import Trained, TrainingError
from harness.training.store import ModelKey, load_or_train, read_model, write_model

NET = fully_connected((2, 2), (3,), 2, dropout=0.1)


class Framework:
    """As much of a backend as a key needs."""

    def __init__(self, name="toy", version="1.0"):
        self.name, self.version = name, version

    def versions(self):
        return {"toyflow": self.version}


KEY = ModelKey("d" * 64, NET, TrainingSpec(epochs=3), seed=0, backend=Framework())


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path))
    return tmp_path / "models"


def model(value=1.0, net=NET):
    weights = {name: np.full(shape, value, np.float32)
               for name, shape in net.weight_shapes().items()}  # fmt: skip
    epoch = Epoch(epoch=1, loss=0.1, accuracy=0.9, validation_loss=0.3, validation_accuracy=0.8,
                  learning_rate=1e-3, seconds=2.5)  # fmt: skip
    return Trained(weights, 2, (epoch, epoch.model_copy(update={"epoch": 2})))


class Training:
    """Counts how often it is called; each time it gives other weights."""

    def __init__(self):
        self.calls = 0

    def __call__(self, checkpoint):
        self.calls += 1
        return model(float(self.calls))


def same(a, b):
    return (
        a.weights.keys() == b.weights.keys()
        and all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)
        and (a.best_epoch, a.history) == (b.best_epoch, b.history)
    )


def test_the_second_call_finds_what_the_first_trained():
    training = Training()
    first, cached_first = load_or_train(KEY, training, retrain=False)
    second, cached_second = load_or_train(KEY, training, retrain=False)
    assert (cached_first, cached_second, training.calls) == (False, True, 1)
    assert same(first, second)
    assert {value.dtype for value in second.weights.values()} == {np.dtype(np.float32)}


def test_retraining_replaces_what_is_stored():
    training = Training()
    load_or_train(KEY, training, retrain=False)
    again, cached = load_or_train(KEY, training, retrain=True)
    assert (cached, training.calls) == (False, 2)
    found, cached = load_or_train(KEY, training, retrain=False)
    assert (cached, training.calls) == (True, 2)
    assert same(found, again)


CHANGES = {
    "data": {"data_sha256": "e" * 64},
    "shape": {"architecture": fully_connected((4, 1), (3,), 2, dropout=0.1)},
    "hidden": {"architecture": fully_connected((2, 2), (4,), 2, dropout=0.1)},
    "classes": {"architecture": fully_connected((2, 2), (3,), 3, dropout=0.1)},
    "dropout": {"architecture": fully_connected((2, 2), (3,), 2, dropout=0.2)},
    "batch_norm": {"architecture": fully_connected((2, 2), (3,), 2, 0.1, batch_norm=True)},
    **{
        field: {"recipe": TrainingSpec(**{"epochs": 3, field: value})}
        for field, value in {
            "epochs": 4, "batch_size": 64, "learning_rate": 0.01, "schedule": "constant",
            "l2": 0.1, "patience": 2, "recipe": "accurate", "weight_decay": 0.1,
            "label_smoothing": 0.1, "averaging": 0.9, "augmentation": "affine",
            "adversary": {"epsilon": 0.1, "steps": 1, "rel_stepsize": 1.0},
            "certified": {"epsilon": 0.1},
        }.items()
    },
    "seed": {"seed": 1},
    "backend": {"backend": Framework("other")},
    "version": {"backend": Framework(version="1.1")},
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_all_that_makes_a_model_is_in_its_fingerprint(change):
    changed = replace(KEY, **CHANGES[change])
    assert changed.fingerprint != KEY.fingerprint
    training = Training()
    load_or_train(KEY, training, retrain=False)
    _, cached = load_or_train(changed, lambda _: model(net=changed.architecture), retrain=False)
    assert not cached


def test_every_field_of_a_recipe_is_tried():
    assert set(TrainingSpec.model_fields) < set(CHANGES)


def test_the_fingerprint_is_of_the_content_and_of_the_harness(monkeypatch):
    alike = replace(KEY, recipe=TrainingSpec(patience=5, epochs=3), backend=Framework())
    assert alike.fingerprint == KEY.fingerprint
    assert len(KEY.fingerprint) == 64
    before = KEY.fingerprint
    monkeypatch.setattr("harness.training.store.installed_version", lambda package: "999")
    assert KEY.fingerprint != before


def test_a_model_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "deep" / "m.safetensors"
    write_model(path, model())
    assert same(read_model(path, NET), model())


def test_there_is_no_model_where_there_is_no_file(tmp_path):
    assert read_model(tmp_path / "m.safetensors", NET) is None


def truncated(path):
    path.write_bytes(path.read_bytes()[:-7])


def cut_in_the_header(path):
    path.write_bytes(path.read_bytes()[:20])


def emptied(path):
    path.write_bytes(b"")


def other_bytes(path):
    path.write_bytes(b"\xff" * 300)


def text(path):
    path.write_text("not a model\n" * 40)


def resave(path, change=dict, metadata=None):
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as stored:
        kept = stored.metadata()
    save_file(change(load_file(path)), path, metadata=kept if metadata is None else metadata)


def wrongly_shaped(path):
    resave(path, lambda weights: weights | {"layers.0.weight": np.ones((4, 3), np.float32)})


def without_a_layer(path):
    resave(path, lambda weights: {k: v for k, v in weights.items() if "layers.1" not in k})


def without_history(path):
    resave(path, metadata={})


def with_a_broken_history(path):
    resave(path, metadata={"training": '{"best_epoch": 1, "history": [{"epoch": 1}]}'})


def with_no_json(path):
    resave(path, metadata={"training": "{"})


def with_other_dtypes(path):
    resave(path, lambda weights: {k: v.astype(np.float64) for k, v in weights.items()})


def with_integers(path):
    resave(path, lambda weights: {k: v.astype(np.int32) for k, v in weights.items()})


def with_nan(path):
    resave(path, lambda weights: {k: v * np.float32("nan") for k, v in weights.items()})


def with_infinity(path):
    resave(path, lambda weights: {k: v * np.float32("inf") for k, v in weights.items()})


def with_more(path):
    resave(path, lambda weights: weights | {"layers.9.bias": np.zeros(2, np.float32)})


def as_bfloat16(path):
    """As PyTorch writes it: a dtype that NumPy does not have."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(b'"F32"', b'"BF16"')
    entries = json.loads(header)
    for name, entry in entries.items():
        if name != "__metadata__":
            entry["data_offsets"] = [offset // 2 for offset in entry["data_offsets"]]
    header = json.dumps(entries).encode()
    body = content[8 + size :]
    path.write_bytes(len(header).to_bytes(8, "little") + header + body[: len(body) // 2])


def with_a_history_of_other_epochs(path):
    told = {"epoch": 7, "loss": 1, "accuracy": 1, "validation_loss": 1, "validation_accuracy": 1,
            "learning_rate": 1, "seconds": 1}  # fmt: skip
    resave(path, metadata={"training": json.dumps({"best_epoch": 1, "history": [told]})})


DAMAGE = [
    truncated, cut_in_the_header, emptied, other_bytes, text, wrongly_shaped, without_a_layer,
    without_history, with_a_broken_history, with_no_json, with_other_dtypes, with_integers,
    with_nan, with_infinity, with_more, as_bfloat16, with_a_history_of_other_epochs,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_file_counts_as_none_and_is_replaced(damage):
    training = Training()
    load_or_train(KEY, training, retrain=False)
    damage(KEY.path)
    assert read_model(KEY.path, NET) is None
    mended, cached = load_or_train(KEY, training, retrain=False)
    assert (cached, training.calls) == (False, 2)
    found, cached = load_or_train(KEY, training, retrain=False)
    assert (cached, training.calls) == (True, 2)
    assert same(found, mended)


@pytest.mark.parametrize("error", [TrainingError("diverged"), KeyboardInterrupt()])
def test_a_training_that_fails_leaves_no_model(store, error):
    def fails(checkpoint):
        raise error

    with pytest.raises(type(error)):
        load_or_train(KEY, fails, retrain=False)
    assert [path.suffix for path in store.iterdir()] in ([], [".lock"])
    # Nor does it leave the store locked.
    assert load_or_train(KEY, Training(), retrain=False)[1] is False


def test_a_retraining_that_fails_leaves_the_old_model():
    load_or_train(KEY, Training(), retrain=False)

    def fails(checkpoint):
        raise TrainingError("diverged")

    with pytest.raises(TrainingError):
        load_or_train(KEY, fails, retrain=True)
    assert load_or_train(KEY, Training(), retrain=False)[1] is True


def test_a_model_that_cannot_be_written_leaves_no_part_of_it(store, monkeypatch):
    load_or_train(KEY, Training(), retrain=False)

    def fails(self, target):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fails)
        with pytest.raises(OSError, match="disk full"):
            load_or_train(KEY, Training(), retrain=True)
    assert not [path for path in store.iterdir() if path.suffix not in (".safetensors", ".lock")]
    assert same(read_model(KEY.path, NET), model(1.0))


# Checkpoints


def test_the_checkpoint_is_removed_when_the_training_is_done(store):
    def trains(checkpoint):
        assert checkpoint.parent == store
        checkpoint.write_bytes(b"half a training")
        return model()

    load_or_train(KEY, trains, retrain=False)
    assert {path.suffix for path in store.iterdir()} <= {".safetensors", ".lock"}


def test_a_training_that_was_interrupted_finds_its_checkpoint():
    def interrupted(checkpoint):
        checkpoint.write_bytes(b"half a training")
        raise KeyboardInterrupt

    def goes_on(checkpoint):
        assert checkpoint.read_bytes() == b"half a training"
        return model()

    with pytest.raises(KeyboardInterrupt):
        load_or_train(KEY, interrupted, retrain=False)
    assert load_or_train(KEY, goes_on, retrain=False)[1] is False


def test_retraining_begins_anew_whatever_checkpoint_there_is():
    def interrupted(checkpoint):
        checkpoint.write_bytes(b"half a training")
        raise KeyboardInterrupt

    def begins(checkpoint):
        assert not checkpoint.exists()
        return model()

    with pytest.raises(KeyboardInterrupt):
        load_or_train(KEY, interrupted, retrain=False)
    load_or_train(KEY, begins, retrain=True)


def test_trainings_of_different_models_have_different_checkpoints():
    seen = []

    def trains(checkpoint):
        seen.append(checkpoint)
        return model()

    for key in (KEY, replace(KEY, seed=1)):
        load_or_train(key, trains, retrain=False)
    assert len(set(seen)) == 2


def test_a_checkpoint_that_a_training_diverges_from_is_removed():
    def diverges(checkpoint):
        checkpoint.write_bytes(b"half a training")
        raise TrainingError("the loss became nan")

    def begins(checkpoint):
        assert not checkpoint.exists()
        return model()

    with pytest.raises(TrainingError):
        load_or_train(KEY, diverges, retrain=False)
    assert load_or_train(KEY, begins, retrain=False)[1] is False


# A store that cannot be written to


def test_a_file_in_the_place_of_the_store_is_one_line_before_anything_is_trained(store):
    store.write_text("not a folder")
    with pytest.raises(HarnessError, match=r"^trained models cannot be stored \(.* is a file;.*"):
        load_or_train(KEY, None, retrain=False)


def test_a_folder_in_the_place_of_a_model_is_one_line(store):
    KEY.path.mkdir(parents=True)
    with pytest.raises(HarnessError, match=r"is a folder; remove it\); set HARNESS_CACHE_DIR"):
        load_or_train(KEY, None, retrain=False)


def test_a_stored_model_needs_no_lock(store):
    """As in a cache that may only be read."""
    load_or_train(KEY, Training(), retrain=False)
    lock = KEY.path.with_suffix(".lock")
    lock.unlink()
    lock.mkdir()
    assert load_or_train(KEY, None, retrain=False)[1] is True


# Several processes

# A process says when it trains and when it has to wait, and goes on training when it is told to.
HERE = Path(__file__).parent
PROCESS = """
import sys
from filelock import FileLock, Timeout
from harness.training import store
from test_store import KEY, model

class TalkingLock(FileLock):
    def acquire(self, timeout=None, **options):
        try:
            return super().acquire(timeout=0, **options)
        except Timeout:
            print("waiting", flush=True)
            return super().acquire(**options)

def train(checkpoint):
    print("training", flush=True)
    sys.stdin.readline()
    return model()

store.FileLock = TalkingLock
_, cached = store.load_or_train(KEY, train, retrain=False)
print("found" if cached else "trained", flush=True)
"""


def test_two_processes_that_want_one_model_train_it_once():
    def start():
        return subprocess.Popen(
            [sys.executable, "-c", PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=HERE, env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        )  # fmt: skip

    first = start()
    assert first.stdout.readline() == "training\n"
    second = start()
    assert second.stdout.readline() == "waiting\n"
    assert first.communicate("go on\n", timeout=60)[0] == "trained\n"
    assert second.communicate(timeout=60)[0] == "found\n"
    assert (first.returncode, second.returncode) == (0, 0)
