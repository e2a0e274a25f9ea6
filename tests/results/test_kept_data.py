"""What a run keeps of its data is bounded, however many classes and however large images are."""

import hashlib
import tracemalloc

import numpy as np
import pytest

from backends.numpy_backend import NumpyBackend
from harness.evaluation import api as library
from harness.evaluation.examples import EXAMPLES
from harness.protocol import Architecture, Network
from harness.results.recorder import ALL_PICTURES, PICTURES
from harness.results.run import Run


class FewWeights:
    """Logits are as many pixels as there are classes, and the gradient is one."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset({"gradient"})

    def __init__(self, classes):
        self.classes = classes

    def asarray(self, values):
        return values

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        return 9 * x.reshape(len(x), -1)[:, : self.classes] - np.float32(1)

    def logits_and_gradient(self, x, y, objective):
        return self.logits(x), np.ones_like(x)


def data(classes, count, shape):
    random = np.random.default_rng(0)
    return random.random((count, *shape), dtype=np.float32), np.arange(count) % classes


def kept(run, name):
    return next(values for key, values in run.arrays.items() if key.endswith(f"/{name}"))


def pictures(run):
    """Bytes of all pictures of a run, and the largest under one key."""
    sizes = [a.nbytes for key, a in run.arrays.items() if "/examples/" in key and a.ndim > 2]
    return sum(sizes), max(sizes)


@pytest.mark.parametrize("classes", [2, 7, 10])
def test_of_few_classes_the_first_image_of_each_is_an_example(classes):
    x, y = data(classes, 40, (4, 5))
    y = y[::-1].copy()
    run = library.evaluate(FewWeights(classes), x, y, ["fgsm"], [0.0, 0.1])
    firsts = sorted(int(np.flatnonzero(y == label)[0]) for label in range(classes))
    assert kept(run, "examples/index").tolist() == firsts
    np.testing.assert_array_equal(kept(run, "examples/clean"), x[firsts])


def test_of_many_classes_ten_spread_evenly_have_an_example():
    x, y = data(200, 400, (10, 20))
    run = library.evaluate(FewWeights(200), x, y, ["fgsm"], [0.1])
    index = kept(run, "examples/index")
    assert len(index) == EXAMPLES == 10
    assert y[index].tolist() == [0, 22, 44, 66, 88, 111, 133, 155, 177, 199]
    assert kept(run, "examples/fgsm@0.1").shape == (10, 10, 20)
    assert kept(run, "examples/fgsm@0.1/confidence").shape == (10,)


@pytest.mark.parametrize(("side", "examples"), [(64, 10), (100, 4), (224, 1)])
def test_of_large_images_fewer_examples_are_kept(side, examples):
    x, y = data(10, 12, (side, side, 3))
    run = library.evaluate(FewWeights(10), x, y, ["fgsm"], [0.0, 0.1])
    assert len(kept(run, "examples/index")) == examples
    total, largest = pictures(run)
    assert largest <= max(PICTURES, x[0].nbytes)
    assert total <= ALL_PICTURES


def test_pictures_for_which_there_is_no_room_are_left_out_and_nothing_else():
    x, y = data(3, 3, (1000, 1000, 3))
    epsilons = [0.0, 0.1, 0.2, 0.3, 0.4]
    run = library.evaluate(FewWeights(3), x, y, ["fgsm"], epsilons)
    total, _ = pictures(run)
    assert 0 < total <= ALL_PICTURES
    for epsilon in epsilons:
        assert kept(run, f"fgsm@{epsilon:g}/predictions").shape == (3,)
    counted = [record.status for record in run.records if record.total is not None]
    assert counted == ["measured"] * 6


def test_a_run_of_many_classes_is_no_larger_than_one_of_ten(tmp_path):
    sizes = {}
    for classes in (10, 300):
        x, y = data(classes, 300, (20, 30))
        run = library.evaluate(FewWeights(classes), x, y, ["fgsm"], [0.1, 0.2])
        run.save(tmp_path / str(classes))
        assert Run.load(tmp_path / str(classes)).arrays.keys() == run.arrays.keys()
        sizes[classes] = pictures(run)[0]
    assert sizes[10] == sizes[300]


# The hash of the data


def at_once(*arrays):
    """As it was computed before, from one copy of each array."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("hashed", [1, 100, 2**24])
def test_the_hash_of_the_data_is_what_it_was(hashed, monkeypatch):
    monkeypatch.setattr(library, "HASHED", hashed)
    x, y = data(3, 17, (6, 5, 3))
    turned = np.moveaxis(x, -1, 1)
    for images in (x, x.astype(np.float64), turned, x[::-2], np.asfortranarray(x), x[:1]):
        labels = y[: len(images)]
        assert library._content_hash(images, labels) == at_once(images, labels)


def test_the_hash_of_the_data_makes_no_copy_of_it():
    x = np.zeros((64, 2**18), np.float32)
    for images in (x, x[:, ::-1]):
        tracemalloc.start()
        library._content_hash(images, np.zeros(64, np.int64))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= 1.5 * library.HASHED < x.nbytes / 2


def test_a_model_of_one_pixel_has_one_example_a_class():
    weights = {"layers.0.weight": np.array([[-9.0], [9.0]]), "layers.0.bias": np.array([4.0, -4.0])}
    model = NumpyBackend().build(Network(Architecture((1,), (), 2), weights))
    x = np.array([[0.1], [0.9], [0.2]], np.float32)
    run = library.evaluate(model, x, np.array([0, 1, 0]), ["fgsm"], [0.1])
    assert kept(run, "examples/index").tolist() == [0, 1]
