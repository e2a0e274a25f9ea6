"""What evaluate takes: arrays of all kinds, and one true line for what it cannot take."""

from __future__ import annotations

import array
import warnings

import numpy as np
import pytest
from backends_at_hand import at_hand
from test_library import CORRECT, Tenfold, X, Y, keras_linear, torch_linear

import harness
from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.data.arrays import images_from, labels_from
from harness.errors import HarnessError
from harness.evaluation.arguments import (
    attacks_from,
    bounds_from,
    radii_from,
)
from harness.maths.conversion import as_array

READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False
IMAGES = {
    "big-endian": lambda: X.astype(">f4"),
    "big-endian doubles": lambda: X.astype(">f8"),
    "a negative stride": lambda: np.ascontiguousarray(X[:, ::-1])[:, ::-1],
    "images from the last to the first": lambda: np.ascontiguousarray(X[::-1])[::-1],
    "Fortran's order": lambda: np.asfortranarray(X),
    "every other of a read-only one": lambda: np.repeat(READ_ONLY, 2, axis=0)[::2],
    "read-only": lambda: READ_ONLY,
    "long doubles": lambda: X.astype(np.longdouble),
    "lists": X.tolist,
    "a list of images": lambda: list(X),
    "objects": lambda: X.astype(object),
    "masked, but nowhere": lambda: np.ma.masked_array(X),
}
LABELS = {
    "big-endian": lambda: Y.astype(">i4"),
    "a negative stride": lambda: np.ascontiguousarray(Y[::-1])[::-1],
    "bytes": lambda: Y.astype(np.uint8),
    "unsigned": lambda: Y.astype(np.uint64),
    "objects": lambda: Y.astype(object),
    "a list": Y.tolist,
    "a tuple": lambda: tuple(Y),
    "a column": lambda: Y[:, None],
    "a column of a list": Y[:, None].tolist,
    "Python's array": lambda: memoryview(array.array("q", Y.tolist())).tolist(),
}


def kinds(*names):
    return pytest.mark.parametrize("kind", names)


def right(model, x, y):
    run = harness.evaluate(model, x, y, epsilons=list(CORRECT))
    return [record.correct for record in run.records if record.total]


EXPECTED = [3, *CORRECT.values()]
WRAPPED = {"by hand": lambda: None, "torch": torch_linear, "keras": keras_linear}


@pytest.mark.parametrize("backend", WRAPPED)
@pytest.mark.parametrize("images", IMAGES)
def test_images_of_all_kinds_are_taken(backend, images):
    net = WRAPPED[backend]()
    model = Tenfold() if net is None else harness.wrap(net)
    assert right(model, IMAGES[images](), Y) == EXPECTED


@pytest.mark.parametrize("labels", LABELS)
def test_labels_of_all_kinds_are_taken_beside_a_torch_network(labels):
    assert right(Tenfold(), X, LABELS[labels]()) == EXPECTED
    assert right(harness.wrap(torch_linear()), X, LABELS[labels]()) == EXPECTED


def test_half_precision_images_become_float32():
    taken = np.asarray(images_from(X.astype(np.float16), (0.0, 1.0))[0])
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, X.astype(np.float16))


@pytest.mark.parametrize("backend", ["torch", "keras", "jax", "numpy"])
@pytest.mark.parametrize("kind", ["big-endian", "a negative stride", "read-only"])
def test_backends_take_such_arrays_themselves(backend, kind):
    """The protocol's asarray is public, too."""
    from small_models import linear

    model = linear(10 * np.eye(2), backend=backend, dtype="float32")
    found = model.numpy(model.logits(model.asarray(IMAGES[kind]())))
    np.testing.assert_allclose(found, 10 * X, rtol=1e-6)
    labels = model.asarray(np.array([3, 0, 2], ">i2")[::-1])
    assert model.numpy(labels).tolist() == [2, 0, 3]
    assert model.numpy(labels).dtype == np.int64


@kinds("that require gradients", "bfloat16", "float16", "doubles", "inference", "a list", "views")
def test_torchs_tensors_are_taken(kind):
    at_hand("torch")
    import torch

    exact = np.asarray(X * 128).round() / 128  # that bfloat16 can express
    x, y = torch.tensor(exact), torch.tensor(Y)
    expected = right(Tenfold(), exact, Y)
    if kind == "that require gradients":
        x.requires_grad_(True)
    if kind in ("bfloat16", "float16"):
        x = x.to(getattr(torch, kind))
    if kind == "doubles":
        x, y = x.double(), y.int()
    if kind == "inference":
        with torch.inference_mode():
            x, y = x * 1, y * 1
    if kind == "a list":
        x, y = [image.requires_grad_(True) for image in x], list(y)
    if kind == "views":
        x, y = torch.stack([x, x], 2)[..., 0], torch.stack([y, y], 1)[:, :1]
    assert right(harness.wrap(torch_linear()), x, y) == expected
    assert right(Tenfold(), x, y) == expected


@kinds("float32", "bfloat16", "variable")
def test_tensorflows_tensors_are_taken(kind):
    at_hand("keras")
    import tensorflow as tf

    exact = np.asarray(X * 128).round() / 128
    x = tf.Variable(exact) if kind == "variable" else tf.cast(tf.constant(exact), kind)
    expected = right(Tenfold(), exact, Y)
    assert right(harness.wrap(keras_linear()), x, tf.constant(Y)) == expected


def test_pandas_columns_are_taken():
    import pandas as pd

    table = pd.DataFrame({"image": list(X), "label": pd.array(Y, dtype="Int64")})
    assert right(Tenfold(), table["image"], table["label"]) == EXPECTED
    assert right(Tenfold(), pd.DataFrame(X), table[["label"]]) == EXPECTED


def test_nothing_of_the_callers_is_written_to_in_torch_either():
    class Vandal:
        name, norm, requires = "vandal", "linf", frozenset()

        def perturb(self, model, x, y, epsilons, *, index):
            for epsilon in list(epsilons):
                x += 0 * epsilon
                y[...] = 1 - y
                index[...] = 0
                epsilons[:] = [9.0]
                yield x

    at_hand("torch")
    import torch

    x, y, epsilons = X.copy(), Y.copy(), [0.0, 0.2]
    for model in (Tenfold(), harness.wrap(torch_linear())):
        run = harness.evaluate(model, x, y, attacks=[Vandal(), FGSM()], epsilons=epsilons)
        assert [r.correct for r in run.records if r.check == "fgsm"] == [3, 2]
        assert run.arrays["labels"].tolist() == Y.tolist()
    tensors = torch.tensor(X), torch.tensor(Y)
    harness.evaluate(harness.wrap(torch_linear()), *tensors, attacks=[Vandal()], epsilons=epsilons)
    for found, expected in ((x, X), (y, Y), *zip(tensors, (X, Y), strict=True)):
        np.testing.assert_array_equal(found, expected)
    assert epsilons == [0.0, 0.2]


# Many classes


def test_forty_thousand_classes():
    """Image i has its one bright pixel at i, and the network says which pixel that is."""
    k, few = 40_000, np.array([0, 127, 32_767, 32_768, 39_999])
    x = np.zeros((5, k), np.float32)
    x[np.arange(5), few] = 1
    model = Tenfold()
    run = harness.evaluate(model, x, few, epsilons=[0.0])
    assert [record.correct for record in run.records if record.total] == [5, 5]
    assert run.arrays["labels"].tolist() == few.tolist()
    assert run.arrays["Tenfold/model/clean/predictions"].tolist() == few.tolist()


def test_the_labels_of_many_classes_are_stored_and_read(tmp_path):
    from harness.results.run import Run

    few = np.array([0, 70_000])
    x = np.zeros((2, 70_001), np.float32)
    x[np.arange(2), few] = 1
    harness.evaluate(Tenfold(), x, few, epsilons=[0.0]).save(tmp_path)
    assert Run.load(tmp_path).arrays["labels"].tolist() == [0, 70_000]


# One logit


class OneLogit(Tenfold):
    def logits(self, x):
        return 10 * x[:, :1]


class Scalars(Tenfold):
    def logits(self, x):
        return 10 * x[:, 0]


class Threefold(Tenfold):
    def logits(self, x):
        return x[:, None]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (OneLogit, ["(4, 1)", "0 and z"]), (Scalars, ["(4,)", "0 and z"]),
        (Threefold, ["(4, 1, 2)", "(n, k)"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("attack", ["fgsm", "square", "strongest"])
def test_networks_without_a_logit_per_class_are_refused(model, words, attack):
    with pytest.raises(HarnessError, match="cannot be evaluated") as error:
        harness.evaluate(model(), X, np.zeros(4, int), attacks=[attack])
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


# Attacks and epsilons


@pytest.mark.parametrize(
    ("attacks", "names"),
    [
        ("fgsm", ["fgsm"]), (FGSM(), ["fgsm"]), (PGD(name="mine"), ["mine"]),
        (("noise", FGSM()), ["noise", "fgsm"]), (iter(["noise", "pgd"]), ["noise", "pgd"]),
        (np.array(["fgsm"]), ["fgsm"]), ({"fgsm"}, ["fgsm"]), ([], []),
    ],
)  # fmt: skip
def test_one_attack_or_several(attacks, names):
    assert [attack.name for attack in attacks_from(attacks)] == names


@pytest.mark.parametrize(
    ("attacks", "words"),
    [
        (FGSM, ["FGSM is a class", "FGSM()"]), ([FGSM(), PGD], ["PGD is a class", "PGD()"]),
        ("pgm", ["pgm: no such attack"]),
        ([3], ["int is no attack"]), ([lambda x: x], ["function is no attack"]),
        ({"fgsm": [0.1]}, ["dict is no attack"]), ([["fgsm"]], ["list is no attack"]),
        (b"fgsm", ["bytes"]),
    ],
)  # fmt: skip
def test_what_is_no_attack_is_named(attacks, words):
    with pytest.raises(HarnessError) as error:
        harness.evaluate(Tenfold(), X, Y, attacks=attacks)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_an_attack_of_another_norm_is_named():
    class Foreign:
        name, norm, requires = "theirs", "l1", frozenset()

        def perturb(self, *given, **more):
            return iter(())

    with pytest.raises(HarnessError, match="theirs has the norm 'l1', not linf or l2"):
        harness.evaluate(Tenfold(), X, Y, attacks=Foreign())


class Idle:
    """An attack that does nothing."""

    name, norm, requires = "idle", "linf", frozenset()

    def __init__(self, **changes):
        vars(self).update(changes)

    def perturb(self, model, x, y, epsilons, *, index):
        return (x for _ in epsilons)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": None}, "the name of Idle: None is no text"),
        ({"name": 3}, "the name of Idle: 3 is no text"),
        ({"name": ["a"]}, "the name of Idle: ['a'] is no text"),
        ({"name": "clean"}, "'clean' is what records call the images without an attack"),
        ({"norm": ["linf"]}, "idle has the norm ['linf'], not linf or l2"),
        ({"norm": None}, "idle has the norm None, not linf or l2"),
        ({"requires": ["gradient"]}, "idle requires ['gradient']; give a frozenset"),
        ({"requires": "gradient"}, "idle requires 'gradient'; give a frozenset"),
        ({"requires": None}, "idle requires None; give a frozenset"),
        ({"requires": {3}}, "idle requires {3}; give a frozenset"),
        ({"perturb": None}, "idle has None for perturb"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("beside", [[], ["noise"]])
def test_an_attack_that_is_not_as_the_protocol_says_is_one_line(changes, words, beside):
    with pytest.raises(HarnessError) as error:
        harness.evaluate(Tenfold(), X, Y, attacks=[*beside, Idle(**changes)])
    assert str(error.value).startswith(f"attacks: {words}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [None, 3, ["model"], b"model"])
def test_a_name_that_is_no_text_is_one_line(name):
    with pytest.raises(HarnessError, match=r"^name: .* is no text; give a name$"):
        harness.evaluate(Tenfold(), X, Y, name=name)


def test_a_set_of_requirements_is_taken():
    run = harness.evaluate(Tenfold(), X, Y, attacks=Idle(requires=set()), epsilons=[0.0])
    assert [record.correct for record in run.records if record.total] == [3, 3]


@pytest.mark.parametrize(
    ("epsilons", "radii"),
    [
        (0.1, [0.1]), (0, [0.0]), (np.float32(0.5), [0.5]), (np.array(0.25), [0.25]),
        (np.array([0.5, 0.25]), [0.25, 0.5]), ((e / 4 for e in (2, 1)), [0.25, 0.5]),
        (range(2), [0.0, 1.0]), ({0.5, 0.25}, [0.25, 0.5]),
    ],
)  # fmt: skip
def test_one_epsilon_or_several(epsilons, radii):
    assert radii_from(epsilons) == radii


@pytest.mark.parametrize("epsilons", [None, "0.1", "12", b"1", [None], [[0.1]], object(), {}])
def test_what_is_no_epsilon_is_one_line(epsilons):
    with pytest.raises(HarnessError, match=r"^epsilons: .* is not one or more finite") as error:
        radii_from(epsilons)
    assert "\n" not in str(error.value)


def test_torchs_tensors_of_epsilons():
    at_hand("torch")
    import torch

    assert radii_from(torch.tensor(0.25)) == [0.25]
    assert radii_from(torch.tensor([0.5, 0.25])) == [0.25, 0.5]


# Wrong arrays


class Loader:
    """Of batches, as a DataLoader is."""

    def __iter__(self):
        return iter([(X, Y)])


class Indexed:
    """As a torch Dataset is."""

    def __len__(self):
        return 4

    def __getitem__(self, place):
        return X[place], Y[place]


@pytest.mark.parametrize("kind", [Loader, Indexed])
@pytest.mark.parametrize("name", ["x", "y"])
def test_batches_are_to_be_joined_first(kind, name):
    with pytest.raises(HarnessError) as error:
        harness.evaluate(Tenfold(), **({"x": X, "y": Y} | {name: kind()}))
    expected = f"{name}: {kind.__name__} is no array; pass NumPy arrays or tensors, and join "
    assert str(error.value).startswith(expected)
    assert "DataLoader" in str(error.value)


def test_a_real_data_loader_of_torch():
    at_hand("torch")
    from torch.utils.data import DataLoader, TensorDataset

    for loader in (DataLoader(TensorDataset()), iter([X]), (x for x in X)):
        with pytest.raises(HarnessError, match=r"^x: .* is no array; .*join"):
            harness.evaluate(Tenfold(), loader, Y)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ("cat.png", ["str is no array"]), ({"x": X}, ["dict is no array"]), (None, ["no array"]),
        ([[0.1, 0.2], [0.3]], ["cannot be read as an array"]), (X.astype(complex), ["complex128"]),
        (np.ma.masked_array(X, X > 0.5), ["masked"]), (np.array(0.5), ["()"]),
        (X.astype(str), ["<U32"]), (np.zeros((4, 0), np.float32), ["(4, 0)"]),
    ],
)  # fmt: skip
def test_what_are_no_images_is_one_true_line(x, words):
    with pytest.raises(HarnessError, match=r"^x: ") as error:
        harness.evaluate(Tenfold(), x, Y)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.eye(2, dtype=int)[Y], ["(4, 2)", "argmax"]), (Y.astype(float), ["astype(int)"]),
        (Y[:, None].astype(float), ["float64", "astype(int)"]), (Y > 0, ["bool", "astype(int)"]),
        (["cat", "dog", "cat", "cat"], ["number the classes"]), (3, ["int is no array"]),
        (np.array(3), ["()"]), ([None, 0, 1, 0], ["object"]),
        (np.array([0, 0, 2**64 - 1, 0], np.uint64), ["18446744073709551615"]),
        (Y.reshape(4, 1, 1), ["(4, 1, 1)"]),
    ],
)  # fmt: skip
def test_what_are_no_labels_is_one_true_line(y, words):
    with pytest.raises(HarnessError, match=r"^y: ") as error:
        harness.evaluate(Tenfold(), X, y)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_labels_are_a_copy():
    assert not np.shares_memory(labels_from(Y), Y)
    assert np.shares_memory(as_array(X, "x"), X)  # images are not


@pytest.mark.parametrize(
    "bounds",
    [
        ((0, 0, 0), (1, 1, 1)), (np.zeros(3), np.ones(3)), np.zeros((2, 3)), [[0, 1]] * 3,
        (0, np.ones(3)), (np.zeros((3, 1, 1)), np.ones((3, 1, 1))),
    ],
)  # fmt: skip
def test_bounds_of_each_channel_belong_into_the_network(bounds):
    with pytest.raises(HarnessError, match="normalise the channels inside the network") as error:
        harness.wrap(object(), bounds=bounds)
    assert "\n" not in str(error.value)


def test_bounds_may_be_of_any_numbers():
    assert bounds_from(np.array([0, 255], np.uint8)) == (0.0, 255.0)
    assert bounds_from([np.float32(-1), np.array([1.0])]) == (-1.0, 1.0)


def test_a_models_class_is_no_model():
    with pytest.raises(HarnessError, match=r"it is a class: pass an object, Tenfold\(\.\.\.\)"):
        harness.evaluate(Tenfold, X, Y)


def test_no_warning_is_raised_on_the_way():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for images in IMAGES.values():
            as_array(images(), "x")


def batched(kind):
    """Ten images in batches of four or five, in the ways that people collect them."""
    x, y = np.tile(X, (3, 1))[:10], np.array([1, 0, 1, 0, 0, 1, 0, 0, 1, 1])
    parts = [slice(0, 4), slice(4, 8), slice(8, 10)]
    if kind.startswith("even"):
        parts = [slice(0, 5), slice(5, 10)]
    if "tensors" in kind:
        at_hand("torch")
        import torch

        x, y = torch.tensor(x), torch.tensor(y)
    if "pairs" in kind:
        return [(x[part], y[part]) for part in parts], y
    if "dicts" in kind:
        return [{"image": x[part], "label": y[part]} for part in parts], y
    if "labels" in kind:
        return x, [y[part] for part in parts]
    return [x[part] for part in parts], y


@kinds("pairs", "even pairs", "dicts", "arrays", "even arrays", "labels", "even labels")
@pytest.mark.parametrize("of", ["arrays", "tensors of torch"])
def test_a_list_of_batches_is_to_be_joined_first(kind, of):
    x, y = batched(f"{kind} {of}")
    with pytest.raises(HarnessError, match=r"join batches, .* \(np.concatenate\)$"):
        harness.evaluate(Tenfold(), x, y)


def test_without_labels_that_is_said():
    with pytest.raises(HarnessError, match=r"^y: missing; pass the true labels"):
        harness.evaluate(Tenfold(), X)


def test_a_loader_brings_its_labels():
    run = harness.evaluate(Tenfold(), Loader(), epsilons=[0.0])
    assert run.records[0].total == len(np.concatenate([x for x, _ in Loader()]))


def test_pixels_that_are_not_a_number_are_said():
    with pytest.raises(HarnessError, match=r"^x: holds NaN; "):
        harness.evaluate(Tenfold(), np.where(X > 0.8, np.nan, X), Y)


@pytest.mark.parametrize("make", [np.array, list, lambda y: np.array(y, object)])
def test_labels_of_text_are_said(make):
    with pytest.raises(HarnessError) as error:
        harness.evaluate(Tenfold(), X, make([str(label) for label in Y]))
    assert str(error.value) == ("y: labels are text; pass integers (np.asarray(y).astype(int))")


# What a framework says


KERAS = (
    "Exception encountered when calling Dense.call().\n\n"
    "\x1b[1mMatrix size-incompatible: In[0]: [64,3], In[1]: [4,2] [Op:MatMul]\x1b[0m\n\n"
    "Arguments received by Dense.call():\n  • inputs=tf.Tensor("
)
TORCHSCRIPT = (
    "The following operation failed in the TorchScript interpreter.\n"
    "Traceback of TorchScript (most recent call last):\n  File a, line 3\n    ~~~ <--- HERE\n"
    "RuntimeError: shapes differ\n"
)
MATRICES = "mat1 and mat2 shapes cannot be multiplied (64x64 and 128x10)"
BINDING = "Binding inputs to tf.function failed due to `no`"
PICKY = {
    f"{BINDING}. Received args: (<tf.Tensor: numpy= array([[0": BINDING,
    "Expected 3 channels, but got 1. Try this. And that": "Expected 3 channels, but got 1.",
    MATRICES: MATRICES,
    KERAS: "Matrix size-incompatible: In[0]: [64,3], In[1]: [4,2]",
    TORCHSCRIPT: "RuntimeError: shapes differ",
    "cannot take [[0.25 0.5]\n [0.75 1.0]]": "cannot take",
    "": "RuntimeError",
    "word " * 200: ("word " * 200)[:199] + "…",
}


@pytest.mark.parametrize("said", PICKY)
def test_a_frameworks_message_is_cut_to_its_first_sentence(said):
    class Raising(Tenfold):
        def logits(self, x):
            raise RuntimeError(said)

    with pytest.raises(HarnessError) as error:
        harness.evaluate(Raising(), X, Y)
    told = "the model cannot be evaluated on images of shape (2,): "
    assert str(error.value) == told + PICKY[said]


@pytest.mark.parametrize(
    ("shape", "batch_size", "words"),
    [
        ((3,), None, "the network takes images of shape (3,), not (2,)"),
        ((3,), 3, "the network takes images of shape (3,), not (2,)"),
        ((None, 2), None, "the network takes images of shape (None, 2), not (2,)"),
    ],
)  # fmt: skip
def test_a_keras_network_says_what_it_takes(shape, batch_size, words):
    at_hand("keras")
    import keras

    entry = keras.Input(shape, batch_size=batch_size)
    net = keras.Sequential([entry, keras.layers.Dense(2)])
    with pytest.raises(HarnessError) as error:
        harness.evaluate(harness.wrap(net), X, Y)
    assert str(error.value).endswith(f"(2,): {words}")


def test_a_keras_network_of_batches_of_one_size_is_given_such():
    at_hand("keras")
    import keras

    net = keras.Sequential([keras.Input((2,), batch_size=3), keras.layers.Dense(2)])
    net.set_weights([np.eye(2), np.zeros(2)])
    run = harness.evaluate(harness.wrap(net), X, Y, epsilons=[0.1])
    right = int((X.argmax(axis=1) == Y).sum())
    assert [(r.correct, r.total) for r in run.records if r.check == "clean"] == [(right, len(X))]


@pytest.mark.parametrize(
    "bounds", ["01", b"01", ("0", "1"), {0, 1}, {0: 1, 1: 0}, "0,1", [b"0", b"1"]]
)
def test_bounds_are_numbers_in_order(bounds):
    with pytest.raises(HarnessError, match="is not a pair of numbers"):
        bounds_from(bounds)


@pytest.mark.parametrize("attacks", [b"fgsm", [b"fgsm"], bytearray(b"fgsm")])
def test_names_of_attacks_are_text(attacks):
    with pytest.raises(HarnessError, match=r"b'fgsm'\)? is bytes; pass a name as text"):
        attacks_from(attacks)
