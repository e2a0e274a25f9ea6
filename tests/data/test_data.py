"""Datasets: splits with sizes computed by hand, what each says of itself, the real MNIST."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.data import DATASETS, Part, load_dataset, one_hot, prepare, shape_of
from harness.data.dataset import Source, split, split_indices
from harness.errors import DataError
from harness.spec.models import DataSpec

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def source(counts, published_train=None):
    """One-pixel images of classes with that many members; pixel i is i modulo 256."""
    y = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    pixels = np.arange(len(y)).astype(np.uint8).reshape(-1, 1)
    y = np.random.default_rng(0).permutation(y)
    return Source(pixels, 255, y, tuple(map(str, range(len(counts)))), published_train)


def indices(counts, split="70-20-10", seed=0, published_train=None):
    spec = DataSpec(name="toy", split=split, seed=seed)
    return split_indices(source(counts, published_train), spec)


# Splits


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (70_000, (49_000, 14_000, 7_000)),
        (1_797, (1_258, 359, 180)),
        (100, (70, 20, 10)),
        (25, (17, 5, 3)),  # 17.5, 5, 2.5: halves up, and training takes what is left
        (24, (17, 5, 2)),  # 16.8, 4.8, 2.4
    ],
)
def test_70_20_10_has_the_sizes_computed_by_hand(n, sizes):
    assert tuple(map(len, indices([n // 2, n - n // 2]))) == sizes


def test_70_20_10_of_balanced_classes_is_exact_per_class():
    toy = source([50, 50])
    for part, each in zip(split_indices(toy, DataSpec(name="toy")), (35, 10, 5), strict=True):
        assert np.bincount(toy.y[part]).tolist() == [each, each]


def test_a_canonical_test_set_may_be_shuffled_and_its_first_images_are_a_fair_sample():
    toy = source([200, 200], published_train=300)
    parts = {
        name: split_indices(toy, DataSpec(name="toy", split=name, seed=3))
        for name in ("canonical", "canonical-shuffled")
    }
    for kept, same in zip(parts["canonical"][:2], parts["canonical-shuffled"][:2], strict=True):
        np.testing.assert_array_equal(kept, same)
    test = parts["canonical-shuffled"][2]
    np.testing.assert_array_equal(np.sort(test), parts["canonical"][2])
    # Of 50 of 100 in a random order about half are of the first 50; the chance of 10 less is 1e-4.
    assert 15 < np.sum(test[:50] < 350) < 35
    again, other = (
        split_indices(toy, DataSpec(name="toy", split="canonical-shuffled", seed=seed))[2]
        for seed in (3, 4)
    )
    np.testing.assert_array_equal(again, test)
    assert (other != test).any()


def test_canonical_keeps_the_published_test_set_and_holds_out_a_stratified_sixth():
    toy = source([60, 30], published_train=72)
    train, validation, test = split_indices(toy, DataSpec(name="toy", split="canonical"))
    assert test.tolist() == list(range(72, 90))
    assert sorted([*train, *validation]) == list(range(72))
    assert len(validation) == 12
    share = np.bincount(toy.y[:72]) / 6
    assert np.all(np.abs(np.bincount(toy.y[validation]) - share) < 1)


def within_one(part, pool, y):
    """Whether each class has its share of a part that was drawn from a pool, to one image."""
    share = np.bincount(y[pool], minlength=y.max() + 1) * len(part) / len(pool)
    return np.all(np.abs(np.bincount(y[part], minlength=y.max() + 1) - share) < 1 + 1e-9)


class_counts = st.lists(st.integers(10, 60), min_size=2, max_size=5)


@settings(deadline=None, max_examples=50)
@given(counts=class_counts, seed=st.integers(0, 2**32 - 1))
def test_every_image_is_in_exactly_one_part_and_classes_keep_their_share(counts, seed):
    toy = source(counts)
    spec = DataSpec(name="toy", seed=seed)
    train, validation, test = split_indices(toy, spec)
    assert sorted([*train, *validation, *test]) == list(range(sum(counts)))
    rest = np.concatenate([train, validation])
    assert within_one(test, np.arange(sum(counts)), toy.y)
    assert within_one(validation, rest, toy.y)
    assert within_one(train, rest, toy.y)


@settings(deadline=None, max_examples=50)
@given(counts=class_counts, seed=st.integers(0, 2**32 - 2))
def test_the_seed_and_nothing_else_decides_the_split(counts, seed):
    first, again, other = (indices(counts, seed=s) for s in (seed, seed, seed + 1))
    assert all(map(np.array_equal, first, again))
    assert not any(map(np.array_equal, first[:2], other[:2]))


def test_a_seed_beyond_32_bits_is_refused_in_one_line():
    with pytest.raises(ValidationError, match="less than 4294967296"):
        DataSpec(name="toy", seed=2**32)
    unchecked = DataSpec(name="toy").model_copy(update={"seed": 2**32})
    with pytest.raises(DataError, match=r"^data\.seed: 4294967296 is too large; [^\n]*$"):
        split(source([10, 10]), unchecked)


# Datasets


def test_pixels_are_scaled_and_stay_with_their_label_and_position():
    toy = source([50, 50])
    dataset = split(toy, DataSpec(name="toy"))
    for part in (dataset.train, dataset.validation, dataset.test):
        assert part.x.dtype == np.float32
        assert part.y.dtype == part.index.dtype == np.int64
        np.testing.assert_array_equal(part.x[:, 0], part.index.astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(part.y, toy.y[part.index])
    assert (dataset.name, dataset.classes, dataset.bounds) == ("toy", ("0", "1"), (0.0, 1.0))


def test_the_arrays_of_a_part_are_read_only_and_those_of_its_maker_are_not():
    x, y, index = np.zeros((2, 3), np.float32), np.zeros(2, np.int64), np.arange(2)
    part = Part(x, y, index)
    for array in (part.x, part.y, part.index):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
    x[:] = 1
    assert len(part) == 2


def test_the_hash_is_of_the_content():
    def content_hash(toy, **spec):
        return split(toy, DataSpec(name="toy", **spec)).sha256

    def changed(**fields):
        toy = source([50, 50], published_train=60)
        values = {name: getattr(toy, name) for name in toy.__dataclass_fields__}
        return Source(**values | fields)

    toy = changed()
    brighter = toy.pixels.copy()
    brighter[7] += 1
    # Labels of published test images, which have no say in a canonical split.
    relabelled = toy.y.copy()
    relabelled[60:] = 1 - relabelled[60:]
    hashes = [
        content_hash(toy),
        content_hash(toy, seed=1),
        content_hash(toy, split="canonical"),
        content_hash(changed(pixels=brighter)),
        content_hash(changed(y=relabelled), split="canonical"),
        content_hash(changed(peak=256)),
    ]
    assert len(set(hashes)) == len(hashes)
    assert content_hash(source([50, 50])) == hashes[0]


def test_digits():
    dataset = load_dataset(DataSpec(name="digits"))
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [
        1_258,
        359,
        180,
    ]
    assert dataset.input_shape == (8, 8)
    assert dataset.classes == tuple("0123456789")
    for part in (dataset.train, dataset.validation, dataset.test):
        assert (part.x.min(), part.x.max()) == (0.0, 1.0)
        assert part.x.dtype == np.float32
        np.testing.assert_array_equal(part.x * 16, np.round(part.x * 16))
    assert prepare("digits") == []


def test_digits_has_no_canonical_split():
    with pytest.raises(DataError, match=r'^digits: [^\n]*; use split = "70-20-10"$'):
        load_dataset(DataSpec(name="digits", split="canonical"))


@pytest.mark.parametrize("ask", [prepare, lambda name: load_dataset(DataSpec(name=name))])
def test_an_unknown_dataset_is_answered_with_the_known_ones(ask):
    with pytest.raises(
        DataError,
        match=r"^mnits: no such dataset; the datasets are digits, mnist, fashion-mnist, cifar10; "
        r"did you mean mnist\?$",
    ):
        ask("mnits")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digits", ((8, 8), 10, None)),
        ("mnist", ((28, 28), 10, None)),
        ("fashion-mnist", ((28, 28), 10, None)),
        ("cifar10", ((32, 32, 3), 10, 2)),
    ],
)
def test_what_a_dataset_says_of_its_images_before_they_are_there(name, said, monkeypatch):
    monkeypatch.setattr(DATASETS[name], "load", None)
    monkeypatch.setattr(DATASETS[name], "prepare", None)
    assert shape_of(name) == said


def test_what_digits_says_of_its_images_is_so():
    dataset = load_dataset(DataSpec(name="digits"))
    assert shape_of("digits") == (dataset.input_shape, len(dataset.classes), dataset.channel_axis)


def test_a_dataset_of_another_package_need_not_say_what_its_images_are(monkeypatch):
    theirs = SimpleNamespace(prepare=list, load=lambda: source([5, 5]))
    monkeypatch.setitem(DATASETS, "theirs", theirs)
    assert shape_of("theirs") is None
    theirs.INPUT_SHAPE = [1, 2, 2]
    assert shape_of("theirs") is None
    theirs.CLASSES = ["a", "b"]
    assert shape_of("theirs") == ((1, 2, 2), 2, None)
    theirs.CHANNEL_AXIS = 0
    assert shape_of("theirs") == ((1, 2, 2), 2, 0)
    with pytest.raises(DataError, match="no such dataset"):
        shape_of("their")


def test_the_channel_axis_of_a_source_is_that_of_its_dataset():
    toy = source([50, 50])
    assert split(toy, DataSpec(name="toy")).channel_axis is None
    colour = replace(toy, pixels=toy.pixels.reshape(-1, 1, 1, 1), channel_axis=2)
    assert split(colour, DataSpec(name="toy")).channel_axis == 2


def test_one_hot():
    rows = one_hot(np.array([2, 0]), 3)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot(np.array([], np.int64), 3).shape == (0, 3)


@pytest.mark.parametrize("label", [-1, 3])
def test_one_hot_refuses_labels_that_are_no_class(label):
    with pytest.raises(ValueError, match="do not fit 3 classes"):
        one_hot(np.array([0, label]), 3)


def test_the_import_waits_for_neither_sklearn_nor_rich_nor_a_framework():
    slow = ["sklearn", "scipy", "pandas", "rich", "torch", "tensorflow", "keras"]
    code = f"import sys, harness.data; print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The real MNIST


@pytest.fixture(scope="module")
def real(mnist_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DATA_DIR", str(mnist_dir))
        return {
            split: load_dataset(DataSpec(name="mnist", split=split))
            for split in ("70-20-10", "canonical")
        }


@pytest.mark.mnist
@pytest.mark.parametrize(
    ("split", "sizes"),
    [("70-20-10", [49_000, 14_000, 7_000]), ("canonical", [50_000, 10_000, 10_000])],
)
def test_real_mnist_has_the_promised_parts(real, split, sizes):
    dataset = real[split]
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(part) for part in parts] == sizes
    assert dataset.input_shape == (28, 28)
    assert dataset.classes == tuple("0123456789")
    for part in parts:
        assert part.x.dtype == np.float32
        assert part.x.shape == (len(part), 28, 28)
        assert (part.x.min(), part.x.max()) == (0.0, 1.0)
        assert part.y.dtype == np.int64
    everything = np.concatenate([part.index for part in parts])
    np.testing.assert_array_equal(np.sort(everything), np.arange(70_000))


@pytest.mark.mnist
def test_real_mnist_is_stratified(real):
    counts = np.add(TRAIN_COUNTS, TEST_COUNTS)
    parts = (real["70-20-10"].train, real["70-20-10"].validation, real["70-20-10"].test)
    for part, share in zip(parts, (0.7, 0.2, 0.1), strict=True):
        # Two draws in a row, each true to one image.
        assert np.abs(np.bincount(part.y) - share * counts).max() < 2


@pytest.mark.mnist
def test_real_mnist_canonical_is_the_publishers(real):
    dataset = real["canonical"]
    assert np.bincount(dataset.test.y).tolist() == TEST_COUNTS
    assert dataset.test.y[:5].tolist() == [7, 2, 1, 0, 4]
    validation = np.bincount(dataset.validation.y)
    assert np.abs(validation - np.divide(TRAIN_COUNTS, 6)).max() < 1
    assert (validation + np.bincount(dataset.train.y)).tolist() == TRAIN_COUNTS
    assert real["70-20-10"].sha256 != dataset.sha256


@pytest.mark.mnist
def test_real_mnist_has_the_published_mean_and_deviation(real):
    x = np.concatenate([real["canonical"].train.x, real["canonical"].validation.x])
    assert x.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert x.std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)


def test_a_dataset_of_another_package_that_is_none_is_one_line(monkeypatch):
    monkeypatch.setitem(DATASETS, "theirs", lambda: None)
    with pytest.raises(DataError, match=r"^theirs: has no prepare\(\) and load\(\)"):
        prepare("theirs")
