"""Images that do not fit into memory: the same numbers, and never more than some at once."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from small_models import small_net

from harness.attacks import make_attack
from harness.checks import conformance
from harness.checks.sanity import checks as sanity
from harness.checks.sanity import evidence as of_maps
from harness.checks.validity import CHECKS, answers
from harness.evaluation import explaining
from harness.evaluation.evaluation import Evaluation, Measures, Sweep
from harness.evaluation.models import LoadedModel
from harness.maths.around import Limited
from harness.maths.images import LazyImages
from harness.results.recorder import Recorder
from harness.results.run import Run
from harness.saliency.occlusion import CHOICES
from harness.spec.measures import MinimalSpec, SaliencySpec

COUNT, BATCH, AT_ONCE = 700, 300, 300
"""Images, those that the model takes at a time, and those that may be in memory."""


class Guarded(LazyImages):
    """Images of which no more than ``AT_ONCE`` may be read at once."""

    def __init__(self, images):
        super().__init__(images.shape, images.dtype)
        self.images = images

    def read(self, rows):
        assert len(rows) <= AT_ONCE, f"{len(rows)} images were read at once"
        return self.images[rows]


@pytest.fixture(autouse=True)
def _hardly_any_memory(monkeypatch):
    for module in (explaining, answers, sanity):
        monkeypatch.setattr(module, "IN_MEMORY", 1)


def measured(lazy):
    """All that can be measured of a small network, by what it is called."""
    model = small_net(dtype="float32")
    x = np.random.default_rng(0).random((COUNT, 4, 4), dtype=np.float32)
    x[7] = 0.5  # of one colour
    y = model.logits(x).argmax(axis=1)
    y[::9] = (y[::9] + 1) % 5
    run = Run(spec={}, spec_sha256="", data_sha256="", created="now")
    loaded = LoadedModel(Limited(model, BATCH), "numpy")
    attacks = {name: make_attack(name) for name in ("fgsm",)}
    measures = Measures(
        sweeps={name: Sweep(attack, (0.0, 0.1)) for name, attack in attacks.items()},
        minimal=MinimalSpec(methods=("fgsm",), images=200), climbers=attacks,
        saliency=SaliencySpec(images=200, random_draws=2),
    )  # fmt: skip
    recorder = Recorder(run, "numpy", "mlp")
    evaluation = Evaluation(loaded, Guarded(x) if lazy else x, y, recorder, measures)
    evaluation.clean()
    for name in attacks:
        evaluation.attacked(name, 0.1)
    evaluation.smallest_epsilon("fgsm")
    for choice in CHOICES:
        evaluation.occluded(choice)
    evaluation.explained("gradient", "deletion")
    for rule in CHECKS:
        evaluation.checked("validity", rule)
    for rule in sanity.CHECKS:
        evaluation.checked("saliency-sanity", f"gradient/{rule}")
    for rule in conformance.CHECKS:
        evaluation.checked("conformance", rule)
    return run


def test_images_read_batch_by_batch_give_the_same_run():
    whole, lazy = measured(lazy=False), measured(lazy=True)
    assert len(whole.records) > 40
    broken = [record for record in lazy.records if record.status == "error"]
    assert not broken
    assert lazy.records == whole.records
    assert set(lazy.arrays) == set(whole.arrays)
    for key, array in whole.arrays.items():
        np.testing.assert_array_equal(lazy.arrays[key], array, err_msg=key)


def test_random_pixels_are_the_same_whatever_the_batches():
    from harness.saliency.methods import Maps
    from harness.saliency.occlusion import occluded_correct

    model = small_net(dtype="float32")
    x = np.random.default_rng(0).random((COUNT, 4, 4), dtype=np.float32)
    y = model.logits(x).argmax(axis=1)
    for choice in CHOICES:
        found = {
            occluded_correct(limited, x, y, Maps(limited, x, y), choice, fraction=0.2, draws=3,
                             seed=4)
            for limited in (model, Limited(model, 7), Limited(model, 64))
        }  # fmt: skip
        assert len(found) == 1


def test_telling_images_are_looked_for_until_there_are_enough(monkeypatch):
    monkeypatch.setattr(of_maps, "MOST", 5)
    x = np.random.default_rng(0).random((400, 2, 2), dtype=np.float32)
    x[[0, 2, 3]] = 0.25
    found = of_maps.Evidence(Limited(small_net(), 4), Guarded(x), np.zeros(400, int)).telling
    assert found.tolist() == [1, 4, 5, 6, 7]


SCRIPT = """
import json, resource, sys
from pathlib import Path
import numpy as np
import harness
from backends.numpy_backend import NumpyBackend
from harness.data.own import from_npz
from harness.networks.initial import initial_weights
from harness.protocol import Network, fully_connected

data = from_npz(Path(sys.argv[1]), (0.0, 1.0))
net = fully_connected(data.x.shape[1:], (8,), 10)
model = NumpyBackend().build(Network(net, initial_weights(net, seed=0)), dtype="float32")
run = harness.evaluate(model, data.x, data.y, ["fgsm"], [0.1])
counts = [record.correct for record in run.records if record.total]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([counts, len(data.y), peak]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is in KiB there")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["in place", "unpacked"])
def test_memory_is_flat_in_the_number_of_images(tmp_path, save):
    peaks = {}
    for count in (2_000, 20_000):
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        save(tmp_path / "t.npz", x=pixels, y=random.integers(0, 10, count))
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "t.npz")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        counts, images, peaks[count] = json.loads(done.stdout)
        assert len(counts) == 2
        assert images == count
    # As floats, 20,000 images take 234 MiB.
    assert peaks[20_000] < 1.2 * peaks[2_000] + 16 * 1024, peaks
