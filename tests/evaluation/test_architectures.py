"""Networks that do not fit the images are said before anything is trained."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_spec import tiny_spec

from harness.errors import SpecError
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.resolve import resolved
from harness.spec.reading import parse_spec

TOO_MANY = 'architecture = "cnn"\nchannels = [2, 2, 2]\npool = [2, 2, 3]\n'
FITS = 'architecture = "cnn"\nchannels = [2, 2]\npool = 2\n'


def spec_of(architecture: str, data: str = 'name = "digits"'):
    text = tiny_spec().replace("hidden = [16]", architecture)
    return parse_spec(text.replace('name = "digits"', data), "tiny.toml")


def test_images_of_a_known_dataset_are_held_against_a_network_when_the_spec_is_read():
    with pytest.raises(SpecError) as error:
        resolved(spec_of(TOO_MANY))
    assert str(error.value) == (
        "models.mlp.architecture: cnn for images of 8 × 8: layers[8] (MaxPool): its window of "
        "3 × 3 is larger than its image of 2 × 2"
    )
    assert resolved(spec_of(FITS)).trained["mlp"].options["channels"] == [2, 2]


def test_those_of_own_images_before_anything_is_trained(tmp_path):
    random = np.random.default_rng(0)
    for name, count in (("train", 60), ("test", 30)):
        x = random.random((count, 8, 8), dtype=np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(count) % 3)
    data = f'file = "{tmp_path}/test.npz"\ntrain = "{tmp_path}/train.npz"'
    bench = Benchmark(spec_of(TOO_MANY, data))
    with pytest.raises(SpecError, match=r"^models\.mlp\.architecture: .*3 × 3"):
        bench.evaluation("numpy", "mlp")
    assert not bench.run.records
    clean = Benchmark(spec_of(FITS, data)).evaluation("numpy", "mlp").clean()
    assert clean.total == 30


def test_a_convolutional_network_is_measured_in_numpy_alone():
    evaluation = Benchmark(spec_of(FITS)).evaluation("numpy", "mlp")
    assert evaluation.clean().correct > 20
    clean, first, last = evaluation.clean(), *(evaluation.attacked("fgsm", e) for e in (0.0, 0.3))
    assert first.correct == clean.correct
    assert last.correct < clean.correct
