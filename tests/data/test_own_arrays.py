"""Test images as arrays, batches, datasets, and what a function returns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from backends_at_hand import at_hand

from harness.data import images as stored
from harness.data.dataset import Dataset, Part
from harness.data.own import OwnData, from_arrays, from_batches, from_object, own_data
from harness.errors import HarnessError

UNIT = (0.0, 1.0)
BYTES = np.random.default_rng(0).integers(0, 256, (7, 2, 3), dtype=np.uint8)
BYTES[0, 0, 0] = 255
X = BYTES.astype(np.float32) / np.float32(255)
Y = np.array([2, 0, 1, 2, 1, 0, 2])
DIVIDED = "bytes were divided by 255, for the bounds [0, 1]"


def same(data, x=X, y=Y):
    assert isinstance(data, OwnData)
    np.testing.assert_array_equal(np.asarray(data.x), x)
    np.testing.assert_array_equal(data.y, y)
    assert data.x.dtype == x.dtype
    assert data.y.dtype == np.int64
    return data


def refused(make, *given, **more):
    with pytest.raises(HarnessError) as caught:
        make(*given, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("memory", [1, 1 << 20])
def test_bytes_are_divided_and_it_is_said(monkeypatch, memory):
    monkeypatch.setattr(stored, "IN_MEMORY", memory)
    assert same(from_arrays(BYTES, Y, UNIT)).notes == (DIVIDED,)
    assert same(from_arrays(BYTES, Y, (0, 255)), BYTES.astype(np.float32)).notes == ()
    assert same(from_arrays(X, Y, UNIT)).notes == ()


@pytest.mark.parametrize(
    ("x", "bounds", "said"),
    [
        (BYTES.astype(np.int32), UNIT, "x: pixels are int32; pass floats within [0.0, 1.0], or "),
        (BYTES > 9, UNIT, "x: pixels are bool; pass floats"),
        (BYTES, (-1.0, 1.0), "x: pixels are uint8, and the bounds [-1.0, 1.0]; bytes are taken"),
        (BYTES % 2, UNIT, "x: all pixels are 0 or 1, as bytes"),
        (X * 2, UNIT, "x: pixels span [0"),
        (X[:0], UNIT, "x: the shape (0, 2, 3) is not (n, *image_shape) with n ≥ 1"),
        (X[:, 0, 0], UNIT, "x: the shape (7,) is not"),
        (np.where(X.min() == X, np.nan, X), UNIT, "x: holds NaN; fill in what is missing"),
        (np.where(X.min() == X, np.inf, X), UNIT, "x: pixels span [0"),
        (X[:6], UNIT, "x has 6 images, but y has 7 labels"),
    ],
)
def test_arrays_that_are_no_images(x, bounds, said):
    assert refused(from_arrays, x, Y, bounds).startswith(said)


def test_a_nan_is_found_in_any_batch(monkeypatch):
    monkeypatch.setattr(stored, "CHUNK", 1)  # an image a batch
    for place in range(len(X)):
        holed = X.copy()
        holed[place, 1, 1] = np.nan
        assert "holds NaN" in refused(from_arrays, holed, Y, UNIT)


def test_labels_that_come_class_by_class_are_doubtful():
    y = np.repeat([0, 1, 2], 10)
    (note,) = from_arrays(np.repeat(X[:1], 30, axis=0), y, UNIT).notes
    assert "the images come class by class" in note
    assert not from_arrays(np.repeat(X[:1], 30, axis=0), y % 2, UNIT).notes


def pairs(x=BYTES, y=Y, size=3):
    return [(x[at : at + size], y[at : at + size]) for at in range(0, len(x), size)]


BATCHES = {
    "tuples": pairs,
    "lists": lambda: [list(pair) for pair in pairs()],
    "weighted": lambda: [(*pair, np.ones(len(pair[1]))) for pair in pairs()],
    "a generator": lambda: iter(pairs()),
    "dicts": lambda: [{"image": x, "label": y} for x, y in pairs()],
    "Hugging Face's": lambda: [{"pixel_values": x, "labels": y, "id": 0} for x, y in pairs()],
    "columns of labels": lambda: [(x, y[:, None]) for x, y in pairs()],
    "one image each": lambda: zip(BYTES, Y.tolist(), strict=True),
    "numbers of NumPy": lambda: zip(BYTES, Y, strict=True),
}


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("memory", [1, 1 << 20])
def test_batches_are_joined(monkeypatch, batches, memory):
    monkeypatch.setattr(stored, "IN_MEMORY", memory)
    monkeypatch.setattr(stored, "CHUNK", 1)
    assert same(from_batches(BATCHES[batches](), UNIT)).notes == (DIVIDED,)
    same(from_object(BATCHES[batches](), UNIT, "data:make"))


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([*pairs(), (BYTES[:2, :, :2], Y[:2])], "batch 3 holds images of the shape (2, 2), and the "
         "first those of (2, 3); bring all to one size"),
        ([*pairs(), (X[:2], Y[:2])], "batch 3 holds float32, and the first uint8; bring all to"),
        ([BYTES], "batch 0: is images of the shape (7, 2, 3) alone; give pairs (x, y)"),
        ([(BYTES,)], "batch 0: is a tuple of 1; give pairs"),
        ([{"image": BYTES}], "batch 0: has no labels, named label or y; it holds image"),
        ([{"label": Y}], "batch 0: has no images, named image or x; it holds label"),
        ([(BYTES, np.eye(7))], "batch 0: labels: float64 of shape (7, 7) is not (n,) integer "
         "labels; for one-hot labels pass y.argmax(axis=1)"),
        ([(BYTES, Y[:6])], "batch 0 has 7 images, but it has 6 labels"),
        ([(X, Y), (X * 2, Y)], "batch 1: pixels span ["),
        ([(X, Y), (X * np.nan, Y)], "batch 1: holds NaN"),
        ([(BYTES % 2, Y)], "all pixels are 0 or 1, as bytes"),
        ([], "holds no images; give at least one"),
        (iter([]), "holds no images; a generator gives its batches once; make a new one"),
        ([(BYTES, None)], "batch 0: labels: NoneType is no array"),
    ],
)  # fmt: skip
def test_batches_that_cannot_be_joined(batches, said):
    assert f"batches: {said}" in refused(from_batches, batches, UNIT)


def test_a_loader_that_raises_is_one_line():
    def broken():
        yield BYTES, Y
        raise RuntimeError("worker 1 died\n  at line 3")

    said = refused(from_batches, broken(), UNIT)
    assert said == "batches: batch 1 cannot be read (RuntimeError: worker 1 died at line 3)"


class Items:
    """A dataset as torch has them: no end of its own, and names of classes."""

    classes = ("a", "b", "c")

    def __len__(self):
        return len(Y)

    def __getitem__(self, index):
        return BYTES[index % 7], int(Y[index % 7])


class Columns(Items):
    """One whose labels are arrays of one number, as MedMNIST's."""

    def __getitem__(self, index):
        return BYTES[index % 7], Y[index % 7 : index % 7 + 1]


class Rows(Items):
    """One as Hugging Face has them."""

    classes = None
    features = {"img": "Image", "fine_label": SimpleNamespace(names=["a", "b", "c"])}  # noqa: RUF012

    def __getitem__(self, index):
        return {"img": BYTES[index % 7], "fine_label": int(Y[index % 7])}


@pytest.mark.parametrize("kind", [Items, Columns, Rows])
def test_a_dataset_of_items_ends_where_it_says(kind):
    data = same(from_object(kind(), UNIT, "data:make"))
    assert (data.classes, data.source) == (("a", "b", "c"), "data:make")


def test_pairs_of_training_and_test_arrays():
    data = same(from_object(((BYTES[:3], Y[:3]), (BYTES, Y)), UNIT, "data:make"))
    np.testing.assert_array_equal(data.train_x, X[:3])
    np.testing.assert_array_equal(data.train_y, Y[:3])


def test_a_list_of_two_pairs_is_two_batches():
    same(from_object([(BYTES[:3], Y[:3]), (BYTES[3:], Y[3:])], UNIT, "data:make"))


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("image", "label")])
def test_a_dict_of_arrays(names):
    given = dict(zip(names, (BYTES, Y), strict=True))
    given |= {"x_train": BYTES[:2], "y_train": Y[:2], "classes": ["a", "b", "c"]}
    data = same(from_object(given, UNIT, "data:make"))
    assert data.classes == ("a", "b", "c")
    assert len(data.train_x) == len(data.train_y) == 2


def test_a_dataset_of_ours():
    part = Part(X, Y, np.arange(7))
    ours = Dataset(
        name="ours", train=part, validation=part, test=part, classes=("a", "b", "c"), sha256=""
    )
    data = same(from_object(ours, UNIT, "data:make"))
    assert data.classes == ("a", "b", "c")
    assert data.train_x is part.x
    assert "say bounds = [0.0, 1.0]" in refused(from_object, ours, (0.0, 255.0), "data:make")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "NoneType is no data; return arrays (x, y), a Dataset, or an iterable of batches"),
        (3, "int is no data"),
        ("a", "str is no data"),
        (X, "one array; return images and labels, (x, y)"),
        ((X, Y, X, Y), "a tuple of 4; return (x, y), or ((x_train, y_train), (x_test, y_test))"),
        ({"a": X}, "has no images and labels named x and y; it holds a"),
    ],
)
def test_what_is_no_data(found, said):
    assert refused(from_object, found, UNIT, "data:make").startswith(f"data:make: {said}")


def test_a_worker_of_torch_that_dies_is_one_line():
    at_hand("torch")
    from torch.utils.data import DataLoader

    class Broken(Items):
        def __getitem__(self, index):
            raise ValueError("the file 7.png is cut off")

    said = refused(from_batches, DataLoader(Broken(), num_workers=1), UNIT)
    assert "batches: batch 0 cannot be read (ValueError: " in said
    assert said.endswith("ValueError: the file 7.png is cut off)")


@pytest.mark.parametrize("shuffle", [False, True])
def test_loaders_of_torch(shuffle):
    at_hand("torch")
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    dataset = TensorDataset(torch.tensor(X), torch.tensor(Y))
    loader = DataLoader(dataset, batch_size=3, shuffle=shuffle)
    data = from_batches(loader, UNIT)
    if shuffle:
        assert any("say shuffle=False" in note for note in data.notes)
        order = np.argsort(np.asarray(data.x)[:, 0].sum(axis=1))
        expected = np.argsort(X[:, 0].sum(axis=1))
        np.testing.assert_array_equal(data.y[order], Y[expected])
    else:
        assert same(data).notes == ()
        same(from_object(loader, UNIT, "data:make"))
        same(from_object(dataset, UNIT, "data:make"))
    dropping = DataLoader(dataset, batch_size=3, drop_last=True)
    assert any("drop_last=False" in note for note in from_batches(dropping, UNIT).notes)


def test_datasets_of_tensorflow():
    at_hand("keras")
    import tensorflow as tf

    whole = tf.data.Dataset.from_tensor_slices((X, Y))
    same(from_batches(whole.batch(3), UNIT))
    same(from_object(whole.batch(3), UNIT, "data:make"))
    same(from_object(whole, UNIT, "data:make"))


class TestOwnData:
    """The keys of a spec."""

    @pytest.fixture(autouse=True)
    def _there(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        np.savez(tmp_path / "t.npz", x=BYTES, y=Y)
        np.savez(tmp_path / "train.npz", x=BYTES[:2], y=Y[:2])
        np.savez(tmp_path / "other.npz", x=BYTES[:, :1], y=Y)
        np.savez(tmp_path / "from1.npz", x=BYTES, y=Y + 1)

    def test_names_are_given(self):
        data = same(own_data(file="t.npz", classes=["a", "b", "c"]))
        assert (data.classes, data.source) == (("a", "b", "c"), "t.npz")

    def test_training_images_come_from_another_file(self):
        data = own_data(file="t.npz", train="train.npz")
        np.testing.assert_array_equal(data.train_x, X[:2])

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({}, "data: give one of file, folder and load, not none"),
            ({"file": "t.npz", "load": "a:b"}, "give one of file, folder and load, not file and"),
            ({"file": "t.npy"}, "t.npy: is no .npz; write one by np.savez"),
            ({"file": "t.npz", "size": (2, 2)}, "data.size: is for folder = ..."),
            ({"file": "t.npz", "options": {"a": 1}}, "data.options: is for load = ..."),
            ({"file": "t.npz", "classes": ["a", "b"]}, "t.npz: labels go up to 2, and 2 classes "
             "have names, from 0: label 2 has none; name it in classes"),
            ({"file": "from1.npz", "classes": ["a", "b", "c"]}, "label 3 has none; number the "
             "classes from 0"),
            ({"file": "t.npz", "classes": ["a", "b", "a"]}, "classes: a is there 2 times"),
            ({"file": "t.npz", "train": "other.npz"}, "training images have the shape (1, 3), and "
             "test images (2, 3)"),
            ({"load": "no_such_module:make"}, "there is no module no_such_module"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit(self, given, said):
        assert said in refused(own_data, **given)
