"""Datasets: splits with sizes computed by hand, IDX files built byte by byte, the real MNIST."""

import gzip
import hashlib
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.data import DATASETS, Part, load_dataset, mnist, one_hot, prepare
from harness.data.dataset import Source, split, split_indices
from harness.data.mnist import IdxFile, parse_idx, read_idx
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
        match=r"^mnits: no such dataset; the datasets are digits, mnist; did you mean mnist\?$",
    ):
        ask("mnits")


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


# IDX files


def idx(magic, sizes, values):
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes) + bytes(values)


def packed(content):
    return gzip.compress(content, mtime=0)


def idx_file(name, content, shape):
    return IdxFile(name, len(content), hashlib.sha256(content).hexdigest(), shape)


def readable(value):
    """What a test is called: by the flaw, not by the bytes that have it."""
    return value[:40] if isinstance(value, str) else ""


IMAGES = idx(2051, (2, 2, 3), range(12))
"""Two images of 2 × 3 pixels."""


def test_idx_images_are_parsed_in_row_order():
    array = parse_idx(IMAGES, "images", (2, 2, 3))
    assert array.dtype == np.uint8
    assert array.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]


def test_idx_labels_are_parsed():
    assert parse_idx(idx(2049, (3,), [7, 2, 255]), "labels", (3,)).tolist() == [7, 2, 255]


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (idx(2049, (2, 2, 3), range(12)), "magic number is 2049, expected 2051"),
        (idx(2051, (3, 2, 3), range(18)), "holds 3 × 2 × 3 values, expected 2 × 2 × 3"),
        (idx(2051, (2, 3, 2), range(12)), "holds 2 × 3 × 2 values, expected 2 × 2 × 3"),
        (IMAGES[:-1], "truncated: 11 of 12 values"),
        (IMAGES + b"\0", "too long: more than 12 values"),
        (IMAGES[:15], "truncated: its header has 15 of 16 bytes"),
        (b"", "truncated: its header has 0 of 16 bytes"),
    ],
    ids=readable,
)
def test_a_wrong_idx_file_is_diagnosed(content, flaw):
    with pytest.raises(DataError) as caught:
        parse_idx(content, "the/file", (2, 2, 3))
    assert str(caught.value) == f"the/file: {flaw}; delete it and run `harness data mnist`"


PUBLISHED = packed(IMAGES)
OTHER_VALUES = packed(idx(2051, (2, 2, 3), range(1, 13)))


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (b"", f"truncated: 0 of {len(PUBLISHED)} bytes"),
        (b"\x1f", r"is not gzip: it begins with b'\x1f'"),
        (PUBLISHED[:20], f"truncated: 20 of {len(PUBLISHED)} bytes"),
        (PUBLISHED[:-1], f"truncated: {len(PUBLISHED) - 1} of {len(PUBLISHED)} bytes"),
        (b"<html>403</html>", "is not gzip: it begins with b'<html>40'"),
        (PUBLISHED[:-8] + bytes(8), "corrupt gzip: CRC check failed"),
        (PUBLISHED[:10] + b"\xff" * 20, "corrupt gzip: Error -3"),
        (PUBLISHED + b"junk", "corrupt gzip: Not a gzipped file"),
        (PUBLISHED + bytes(9), f"too long: more than {len(PUBLISHED)} bytes"),
        (packed(idx(2049, (12,), range(12))), "magic number is 2049, expected 2051"),
        (packed(idx(2051, (1, 2, 3), range(6))), "holds 1 × 2 × 3 values"),
        (packed(IMAGES + bytes(10**6)), "too long: more than 12 values"),
        (
            OTHER_VALUES,
            f"SHA-256 is {hashlib.sha256(OTHER_VALUES).hexdigest()}, "
            f"expected {hashlib.sha256(PUBLISHED).hexdigest()}",
        ),
    ],
    ids=readable,
)
def test_a_damaged_file_is_diagnosed_in_one_line_that_names_it(tmp_path, content, flaw):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path, idx_file("images.gz", PUBLISHED, (2, 2, 3)))
    message = str(caught.value)
    assert message.startswith(f"{path}: {flaw}")
    assert message.endswith("; delete it and run `harness data mnist`")
    assert "\n" not in message


def test_a_file_of_8_gb_is_refused_by_its_size(tmp_path):
    """Mostly a hole, which takes no room on the disk, and would take all memory if it was read."""
    path = tmp_path / "images.gz"
    with path.open("wb") as stream:
        stream.write(PUBLISHED)
        stream.truncate(8 << 30)
    with pytest.raises(DataError, match=f"too long: more than {len(PUBLISHED)} bytes"):
        read_idx(path, idx_file("images.gz", PUBLISHED, (2, 2, 3)))


def test_an_unreadable_file_is_an_error_of_one_line(tmp_path):
    with pytest.raises(DataError, match=r"^[^\n]*images.gz: cannot be read \([^\n]*\)$"):
        read_idx(tmp_path / "images.gz", idx_file("images.gz", PUBLISHED, (2, 2, 3)))


def test_mnist_is_its_training_images_and_then_its_test_images(tmp_path, monkeypatch):
    contents = {
        "train-x.gz": ((2, 1, 2), packed(idx(2051, (2, 1, 2), [0, 51, 102, 255]))),
        "train-y.gz": ((2,), packed(idx(2049, (2,), [5, 0]))),
        "test-x.gz": ((1, 1, 2), packed(idx(2051, (1, 1, 2), [1, 2]))),
        "test-y.gz": ((1,), packed(idx(2049, (1,), [7]))),
    }
    files = [idx_file(name, content, shape) for name, (shape, content) in contents.items()]
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, (_, content) in contents.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(mnist, "FILES", tuple(files))
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))

    assert prepare("mnist") == [folder / name for name in contents]
    loaded = mnist.load()
    assert loaded.pixels.tolist() == [[[0, 51]], [[102, 255]], [[1, 2]]]
    assert loaded.y.tolist() == [5, 0, 7]
    assert (loaded.peak, loaded.published_train) == (255, 2)

    (folder / "test-y.gz").write_bytes(b"oops")
    for ask in (mnist.load, mnist.prepare):
        with pytest.raises(DataError, match=r"test-y\.gz: is not gzip"):
            ask()


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
