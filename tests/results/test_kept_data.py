"""What a run keeps of its data is bounded, however many classes and however large images are."""

import hashlib
import tracemalloc

import numpy as np
import pytest

from backends.numpy_backend import NumpyBackend
from harness.data import assembled
from harness.evaluation import api
from harness.evaluation.examples import EXAMPLES, Asked, Examples
from harness.maths.pictures import SIDE
from harness.protocol import Network, fully_connected
from harness.results import keys
from harness.results.provenance import new_run
from harness.results.recorder import ALL_PICTURES, Recorder
from harness.results.records import DataInfo
from harness.results.run import Run
from reports import room
from reports.page import Source, page


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
    run = api.evaluate(FewWeights(classes), x, y, ["fgsm"], [0.0, 0.1])
    firsts = sorted(int(np.flatnonzero(y == label)[0]) for label in range(classes))
    assert kept(run, "examples/index").tolist() == firsts
    np.testing.assert_array_equal(kept(run, "examples/clean"), x[firsts])


def test_of_many_classes_ten_spread_evenly_have_an_example():
    x, y = data(200, 400, (10, 20))
    run = api.evaluate(FewWeights(200), x, y, ["fgsm"], [0.1])
    index = kept(run, "examples/index")
    assert len(index) == EXAMPLES == 10
    assert y[index].tolist() == [0, 22, 44, 66, 88, 111, 133, 155, 177, 199]
    assert kept(run, "examples/fgsm@0.1").shape == (10, 10, 20)
    assert kept(run, "examples/fgsm@0.1/confidence").shape == (10,)


@pytest.mark.parametrize("side", [64, 100, 224])
def test_large_images_are_kept_as_means_of_blocks(side):
    x, y = data(10, 12, (side, side, 3))
    run = api.evaluate(FewWeights(10), x, y, ["fgsm"], [0.0, 0.1])
    clean = kept(run, "examples/clean")
    factor = -(-side // SIDE)
    assert clean.shape == (10, -(-side // factor), -(-side // factor), 3)
    np.testing.assert_allclose(
        clean[2, 1, 3],
        x[2, factor : 2 * factor, 3 * factor : 4 * factor].mean(axis=(0, 1)),
        rtol=1e-5,
    )
    # Which is within epsilon of it still.
    moved = kept(run, "examples/fgsm@0.1")
    assert np.abs(moved - clean).max() <= 0.1 + 1e-6
    total, _ = pictures(run)
    assert total <= ALL_PICTURES


def test_pictures_for_which_there_is_no_room_are_left_out_and_nothing_else():
    x, y = data(3, 3, (1_000_000,))
    epsilons = [0.0, 0.1, 0.2, 0.3, 0.4]
    run = api.evaluate(FewWeights(3), x, y, ["fgsm"], epsilons)
    assert len(kept(run, "examples/index")) == 1
    stored = [key for key, a in run.arrays.items() if a.nbytes > 1_000_000]
    assert [key.rpartition("/")[2] for key in stored] == ["clean", "fgsm@0.4"]
    assert sum(run.arrays[key].nbytes for key in stored) <= ALL_PICTURES
    for epsilon in epsilons:
        assert kept(run, f"fgsm@{epsilon:g}/predictions").shape == (3,)
    counted = [record.status for record in run.records if record.total is not None]
    assert counted == ["measured"] * 6


# How many examples there are follows from all that will be kept of them


def examples_of(shape, asked, classes=1000, axis=None):
    run = new_run({})
    if axis is not None:
        run.data = DataInfo(source="s", images=classes, shape=shape, dtype="float32",
                            bounds=(0.0, 1.0), channel_axis=axis)  # fmt: skip
    x = np.zeros((classes, *shape), np.float32)
    recorder = Recorder(run, "numpy", "mlp")
    return Examples(x, np.arange(classes), recorder, asked), recorder


SHIPPED = Asked(sweeps=(7, 3, 4, 3, 2, 1, 3, 3, 3), methods=7, climbers=2)
"""As of the largest spec that comes with the harness."""


def test_of_small_images_ten_are_kept_with_all_that_is_asked_of_them():
    examples, _ = examples_of((28, 28), SHIPPED)
    assert len(examples.index) == 10
    assert examples.extremes >= 6
    assert len(examples.few(4)) >= 3
    assert len(examples.pictured(range(7))) == 7


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        # A picture has 56 × 56 × 3 numbers, 37,632 bytes, of which 212 have room, 159 beside the
        # cascade, 132 beside the extremes too; with so many keys:
        (Asked((7,)), 10),  # 10
        (Asked((7, 7, 7)), 8),  # 24
        (Asked((7, 7, 7), methods=7), 4),  # 39
        (Asked((7, 7, 7), methods=7, climbers=2), 3),  # 39
        (Asked((50, 50, 50), methods=7), 1),  # 168, but there are 159
    ],
)
@pytest.mark.parametrize(("shape", "axis"), [((224, 224, 3), 2), ((3, 224, 224), 0)])
def test_of_large_images_as_many_as_all_keys_have_room_for(shape, axis, asked, count):
    examples, recorder = examples_of(shape, asked, classes=20, axis=axis)
    assert len(examples.index) == count
    assert recorder.kept("examples/clean").nbytes == count * 37_632


def test_where_not_even_one_fits_epsilons_thin_out_evenly_and_the_largest_stays():
    epsilons = [at / 100 for at in range(1, 51)]
    examples, _ = examples_of((224, 224, 3), Asked((50, 50, 100), methods=7), classes=20)
    assert len(examples.index) == 1
    chosen = sorted(examples.pictured(epsilons))
    # 159 pictures less the 18 that are no attack's, for 200 epsilons.
    assert len(chosen) == 50 * 141 // 200
    assert chosen[-1] == 0.5
    gaps = np.diff(chosen)
    assert gaps.max() <= 2 * 0.01 + 1e-9
    few, _ = examples_of((1_000_000,), Asked((50,)), classes=2)
    assert few.pictured(epsilons) == {0.5}


@pytest.mark.parametrize("shape", [(28, 28), (224, 224, 3), (3, 300, 100), (16, 16), (5000,)])
@pytest.mark.parametrize("asked", [SHIPPED, Asked((9, 9), 3, 1), Asked((2,))])
def test_late_keys_are_not_starved_by_early_ones(shape, asked):
    examples, recorder = examples_of(shape, asked, classes=15)
    images = examples.x
    names = [f"attack{n}@{e}" for n, many in enumerate(asked.sweeps) for e in range(many)]
    wanted = [keys.example(name) for name in names]
    extremes = min(6, examples.extremes)
    if asked.methods:
        methods = [f"m{at}" for at in range(asked.methods)]
        wanted += [keys.example("moved"), *map(keys.maps, methods)]
        wanted += [keys.maps(method, moved=True) for method in methods]
    for key in [*wanted, keys.MAPS]:
        recorder.keep_pictures(key, images)
    recorder.keep_pictures(keys.TOP, images > 0)
    for climber in range(asked.climbers):
        for part in ("clean", "adversarial"):
            few = np.zeros((2 * extremes, *shape), np.float32)
            recorder.keep_pictures(keys.extremes(f"c{climber}", part), few)
            wanted.append(keys.extremes(f"c{climber}", part))
    few = examples.few(6)[:3]
    for method in range(asked.methods):
        recorder.keep_pictures(
            keys.cascade_maps(f"m{method}"), np.zeros((6, len(few), *shape)), channels=False
        )
        wanted.append(keys.cascade_maps(f"m{method}"))
    assert [key for key in [*wanted, keys.TOP, keys.MAPS] if recorder.kept(key) is None] == []
    assert recorder.kept(keys.TOP).dtype == bool
    assert sum(a.nbytes for a in recorder.run.arrays.values()) <= ALL_PICTURES + 1000


def test_a_shrunk_mask_covers_blocks_of_which_half_is_covered():
    _, recorder = examples_of((128, 128), Asked(), classes=2)
    mask = np.zeros((1, 128, 128), bool)
    mask[0, 0, :2] = mask[0, 4, 4] = True
    recorder.keep_pictures(keys.TOP, mask)
    found = recorder.kept(keys.TOP)
    assert found.shape == (1, 64, 64)
    assert np.argwhere(found).tolist() == [[0, 0, 0]]


def test_maps_without_channels_are_sums_of_absolute_values():
    _, recorder = examples_of((3, 4, 5), Asked(), classes=2, axis=0)
    maps = np.random.default_rng(0).normal(size=(2, 6, 3, 4, 5))
    recorder.keep_pictures(keys.cascade_maps("m"), maps, channels=False)
    found = recorder.kept(keys.cascade_maps("m"))
    assert found.shape == (2, 6, 1, 4, 5)
    np.testing.assert_allclose(found[:, :, 0], np.abs(maps).sum(axis=2), rtol=1e-6)


# A run of a thousand classes


def test_a_large_run_takes_less_than_ten_megabytes(tmp_path):
    run, (shape, classes) = new_run({"name": "large"}), ((224, 224, 3), 1000)
    run.classes = tuple(f"class {at}" for at in range(classes))
    asked, methods = Asked((7, 7, 7), methods=7), [f"m{at}" for at in range(7)]
    random = np.random.default_rng(0)
    labels = np.arange(2000) % classes
    # Labels of 2,000 images, of which the first two of each of ten classes are there.
    x = np.broadcast_to(random.random(shape, dtype=np.float32), (2000, *shape))
    recorder = Recorder(run, "torch", "net")
    recorder.save = lambda: run.save(tmp_path)
    run.arrays[keys.LABELS] = labels.astype(np.int32)
    examples = Examples(x, labels, recorder, asked)
    many = len(examples.index)
    noise = random.normal(size=(many, *shape)).astype(np.float32)
    for attack in ("fgsm", "pgd", "apgd"):
        for epsilon in range(7):
            name = keys.at(attack, epsilon / 7)
            said = random.integers(classes, size=2000).astype(np.int32)
            recorder.keep(keys.predictions(attack, epsilon / 7), said)
            recorder.keep_pictures(keys.example(name), noise + epsilon)
            recorder.counted(attack, 1000, 2000, epsilon / 7, norm="linf")
        recorder.save()
    recorder.keep_pictures(keys.example("moved"), noise)
    for method in methods:
        recorder.keep_pictures(keys.maps(method), noise)
        recorder.keep_pictures(keys.maps(method, moved=True), noise - 1)
        layers = np.broadcast_to(noise[None, :1], (20, 1, *shape))
        recorder.keep_pictures(keys.cascade_maps(method), layers, channels=False)
        recorder.keep(keys.curve(method, "cascade"), np.zeros((20, 2)))
        recorder.save()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10_000_000
    found = Run.load(tmp_path)
    assert found.arrays.keys() == run.arrays.keys()
    html = page([Source(found)])
    assert room.size(html) <= room.ONE
    # Four examples clean, at six epsilons, and their change; clean and under FGSM with seven maps;
    # and of the first one seven maps by 21 models.
    assert html.count("<img") == 4 * (1 + 6 + 1) + 4 * 2 * (1 + 7) + 7 * 21


def test_a_run_of_many_classes_is_no_larger_than_one_of_ten(tmp_path):
    sizes = {}
    for classes in (10, 300):
        x, y = data(classes, 300, (20, 30))
        run = api.evaluate(FewWeights(classes), x, y, ["fgsm"], [0.1, 0.2])
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
    monkeypatch.setattr(assembled, "HASHED", hashed)
    x, y = data(3, 17, (6, 5, 3))
    turned = np.moveaxis(x, -1, 1)
    for images in (x, x.astype(np.float64), turned, x[::-2], np.asfortranarray(x), x[:1]):
        labels = y[: len(images)]
        assert assembled.content_hash(images, labels) == at_once(images, labels)


def test_the_hash_of_the_data_makes_no_copy_of_it():
    x = np.zeros((64, 2**18), np.float32)
    for images in (x, x[:, ::-1]):
        tracemalloc.start()
        assembled.content_hash(images, np.zeros(64, np.int64))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= 1.5 * assembled.HASHED < x.nbytes / 2


def test_a_model_of_one_pixel_has_one_example_a_class():
    weights = {"layers.0.weight": np.array([[-9.0], [9.0]]), "layers.0.bias": np.array([4.0, -4.0])}
    model = NumpyBackend().build(Network(fully_connected((1,), (), 2), weights))
    x = np.array([[0.1], [0.9], [0.2]], np.float32)
    run = api.evaluate(model, x, np.array([0, 1, 0]), ["fgsm"], [0.1])
    assert kept(run, "examples/index").tolist() == [0, 1]
