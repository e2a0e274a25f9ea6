"""Functions of images as models: what they may return, how they are asked, and how they fail."""

from __future__ import annotations

from collections import namedtuple
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from small_trainers import one_line

from harness import evaluate, registry
from harness.attacks import make_attack
from harness.attacks.sweep import sweep
from harness.errors import BackendError, BatchTooLarge, MeasurementError, Unanswered
from harness.maths.outputs import declared
from harness.maths.portions import HOPELESS, limit_of
from harness.maths.query import (
    answered_predictions,
    answers_of,
    batch_size_for,
    logits_of,
    predictions_of,
)
from harness.protocol import Calls, Wrapping, is_model
from harness.registry import made_by

X = np.arange(40, dtype=np.float32).reshape(10, 2, 2) / 40
"""Ten images; the mean of image i is (4 i + 1.5) / 40, and it is recognised by its first pixel."""
Y = np.array([0] * 5 + [1] * 5)


def scores(x):
    """Two classes: images whose mean is above 0.45 are of the second, as image 5 is."""
    mean = x.reshape(len(x), -1).mean(axis=1)
    return np.stack([0.45 - mean, mean - 0.45], axis=1)


def box(f=scores, **how):
    return registry.backend("callable").wrap(f, Calls(**how))


def number(image):
    """Which of X an image is, also after small changes."""
    return round(float((image.mean() * 40 - 1.5) / 4))


class Failing:
    """Scores, but it raises for some images, and counts its calls and the images of each."""

    def __init__(self, *images, every=0):
        self.images, self.every, self.sizes = images, every, []

    def __call__(self, x):
        self.sizes.append(len(x))
        if self.every and len(self.sizes) % self.every == 0:
            raise ConnectionError("try again")
        if {number(image) for image in x} & set(self.images):
            raise ValueError("cannot read\nthis image")
        return scores(x)


# What it returns


class Foreign:
    """An array that only NumPy can be made of, as JAX's is for us."""

    def __init__(self, values):
        self.values = values
        self.shape = values.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


class OverDlpack:
    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **how):
        return self.values.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class Tensor:
    """One that must be detached first, and has no ``__array__``."""

    def __init__(self, values, attached=True):
        self.values, self.attached = values, attached
        self.shape = values.shape

    def detach(self):
        return Tensor(self.values, attached=False)

    def numpy(self):
        if self.attached:
            raise RuntimeError("call detach first")
        return self.values


Named = namedtuple("Named", ["hidden", "logits"])
FORMS = {
    "array": lambda s: s,
    "float16": lambda s: s.astype(np.float16),
    "list": lambda s: s.tolist(),
    "list of rows": list,
    "tuple of tuples": lambda s: tuple(map(tuple, s.tolist())),
    "first of a tuple": lambda s: (s, s[:, :1]),
    "first of a list": lambda s: [s, np.zeros((3, 3, 3))],
    "lists of JSON": lambda s: [s.tolist(), s.tolist()],
    "dict": lambda s: {"hidden": s * 0, "logits": s},
    "dict of one": lambda s: {"scores": s.tolist()},
    "object": lambda s: SimpleNamespace(logits=s, loss=None),
    "named tuple": lambda s: Named(s * 0, s),
    "foreign": Foreign,
    "dlpack": OverDlpack,
    "tensor": Tensor,
    "tensors": lambda s: [Tensor(row) for row in s],
}


@pytest.mark.parametrize("form", FORMS)
def test_whatever_numpy_can_read_is_read(form):
    model = box(lambda x: FORMS[form](scores(x)))
    assert is_model(model)
    found = model.logits(model.asarray(X))
    assert found.shape == (10, 2)
    assert found.dtype in (np.float32, np.float64)
    np.testing.assert_allclose(found, scores(X), atol=1e-3)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_score_an_image_is_of_the_second_of_two_classes(shape):
    model = box(lambda x: scores(x)[:, 1].reshape(shape))
    found = model.logits(X)
    assert found[:, 0].tolist() == [0.0] * 10
    np.testing.assert_array_equal(found[:, 1], scores(X)[:, 1])
    likely = declared(box(lambda x: np.full(len(x), 0.25).reshape(shape)), "probabilities")
    np.testing.assert_allclose(np.exp(likely.logits(X)), [[0.75, 0.25]] * 10)


def test_the_output_of_a_name_is_taken():
    both = {"a": np.zeros((10, 3)), "b": scores(X)}
    np.testing.assert_array_equal(box(lambda x: both, output="b").logits(X), scores(X))
    with pytest.raises(MeasurementError, match="a, b; say which are the logits: output='NAME'"):
        box(lambda x: both).logits(X)
    with pytest.raises(MeasurementError, match="no output 'c'; its outputs are a, b"):
        box(lambda x: both, output="c").logits(X)


WRONG = {
    "rows": (lambda x: scores(x)[1:], r"the shape \(9, 2\) for 10 images; return \(n, k\)"),
    "images": (lambda x: scores(x)[None], r"the shape \(1, 10, 2\) for 10 images"),
    "NaN": (lambda x: np.where(x.reshape(10, -1) > 0.9, np.nan, 1), "NaN or infinity for 1 of 10"),
    "infinite": (lambda x: np.log(np.zeros((10, 3))), "NaN or infinity for 10 of 10 images"),
    "names": (lambda x: ["cat"] * len(x), "returns text; return scores"),
    "text": (lambda x: "cat", "returns text"),
    "text in an array": (lambda x: np.array([["a", "b"]] * 10), "returns text"),
    "ragged": (lambda x: [[1.0, 2.0]] * 9 + [[1.0]], "as many in each"),
    "labels": (lambda x: scores(x).argmax(axis=1), "one int64 an image, a label perhaps"),
    "complex": (lambda x: scores(x) * 1j, "complex64, not real numbers"),
    "null": (lambda x: [[None, 1.0]] * 10, "NaN or infinity for 10 of 10 images"),
    "nothing": (lambda x: None, "returns NoneType, not logits"),
    "dicts": (lambda x: [{"label": 0}] * 10, "output 0 is dict"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("what", WRONG)
def test_what_are_no_scores_is_one_line(what):
    f, said = WRONG[what]
    with pytest.raises(MeasurementError, match=said) as error:
        box(f).logits(X)
    assert not isinstance(error.value, Unanswered)
    one_line(error)


def test_another_number_of_classes_than_before_is_refused():
    model = box(lambda x: np.zeros((len(x), len(x))), batch_size=4)
    with pytest.raises(MeasurementError, match="scores of 2 classes, and of 4 before"):
        model.logits(X)


# How it is asked


def test_it_cannot_alter_the_data_nor_what_it_returned():
    memory = np.zeros((10, 2))

    def spoils(x):
        memory[...] = scores(x)
        x[...] = 0
        return memory

    given, model = X.copy(), box(spoils)
    first = model.logits(given)
    kept = first.copy()
    model.logits(1 - given)
    np.testing.assert_array_equal(given, X)
    np.testing.assert_array_equal(first, kept)


def test_images_are_float32_in_batches_of_the_size_that_was_said_and_counted():
    seen = []

    def looks(x):
        seen.append((x.shape, x.dtype))
        return scores(x)

    model = box(looks, batch_size=4)
    assert batch_size_for(model, X) == model.batch_size == 4
    model.logits(model.asarray(X.astype(np.float64)))
    assert seen == [((4, 2, 2), np.float32), ((4, 2, 2), np.float32), ((2, 2, 2), np.float32)]
    assert model.queries == 10
    assert model.logits(X[:0]).shape == (0, 2)


def test_what_it_is_and_where_it_is_from():
    model = box(scores, bounds=(0.0, 255.0))
    assert model.about().kind == "function scores"
    assert model.about().identity == ""
    assert box(partial(partial(scores))).about().kind == "function scores"
    assert box(Failing()).about().kind == "function Failing"
    assert model.bounds == (0.0, 255.0)
    assert model.capabilities == frozenset()
    assert made_by(model) == ("callable", {"numpy": np.__version__})


async def later(x):
    return scores(x)


BAD = {
    "no function": (3, {}, "int: not a function of images"),
    "class": (Failing, {}, "the class Failing: not a function"),
    "async": (later, {}, "later: an async function; wrap lambda"),
    "batch_size": (scores, {"batch_size": 0}, "batch_size: 0 is not a whole number ≥ 1"),
    "retries": (scores, {"retries": True}, "retries: True is not a whole number ≥ 0"),
    "wait": (scores, {"wait": float("nan")}, "wait: nan is not a finite number of seconds"),
    "device": (scores, {"device": "cuda"}, "device: cuda is nothing to a function"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_function_or_cannot_be_called_so_is_one_line(what):
    f, how, said = BAD[what]
    with pytest.raises(BackendError, match=said) as error:
        box(f, **how)
    one_line(error)


def test_without_calls_it_is_asked_as_it_is():
    model = registry.backend("callable").wrap(scores, Wrapping((0.0, 2.0)))
    assert (model.bounds, model.batch_size) == ((0.0, 2.0), None)
    known = registry.backend("callable").knows
    assert known(scores)
    assert known(partial(scores))
    assert not known(Failing())


# How it fails


def test_one_that_raises_is_asked_again_after_longer_and_longer_waits(monkeypatch):
    waits, calls = [], []
    monkeypatch.setattr("time.sleep", waits.append)

    def third_time(x):
        calls.append(len(x))
        if len(calls) < 3:
            raise ConnectionError("try again")
        return scores(x)

    model = box(third_time, retries=3, wait=0.25)
    np.testing.assert_array_equal(model.logits(X), scores(X))
    assert waits == [0.25, 0.5]
    assert model.queries == 30


def test_what_it_raised_is_told_in_one_line_with_its_place(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    model = box(Failing(3), retries=2)
    with pytest.raises(Unanswered) as error:
        model.logits(X)
    line = Failing.__call__.__code__.co_firstlineno + 5
    said = f"ValueError: cannot read this image (test_black_boxes.py:{line})"
    assert one_line(error) == said
    with pytest.raises(Unanswered, match="with retries it is asked again"):
        box(Failing(3)).logits(X)


def test_the_place_is_the_users_though_a_library_raised_it():
    def asks(x):
        return np.linalg.inv(np.zeros((2, 2)))

    line = asks.__code__.co_firstlineno + 1
    with pytest.raises(Unanswered, match=rf"Singular matrix \(test_black_boxes.py:{line}\)"):
        box(asks).logits(X)


def test_an_interruption_passes():
    def stops(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answers_of(box(stops, retries=5), X)


def test_images_that_are_never_answered_are_given_up_and_no_others():
    failing = Failing(3, 7)
    found = answered_predictions(box(failing), X)
    assert found.labels.tolist() == [0, 0, 0, -1, 0, 1, 1, -1, 1, 1]
    assert found.confidence[[3, 7]].tolist() == [0.0, 0.0]
    # 10; 5 (0-4), 3, 2 (0-1), 1; 2 (3-4), 1, 1 ... each half that fails is halved.
    assert failing.sizes[:2] == [10, 5]
    line = Failing.__call__.__code__.co_firstlineno + 5
    assert found.unanswered == (
        "2 of 10 images were not answered: ValueError: cannot read this image "
        f"(test_black_boxes.py:{line}); with retries it is asked again"
    )
    with pytest.raises(Unanswered, match="cannot read this image"):
        predictions_of(box(Failing(3, 7)), X)


@pytest.mark.parametrize("name", ["noise", "square"])
def test_an_attack_gives_them_up_too_and_all_other_images_are_as_without_them(name):
    plain = sweep(box(), make_attack(name), X, Y, [0.0, 0.01], keep=[3, 4])
    failing = sweep(box(Failing(3, 7)), make_attack(name), X, Y, [0.0, 0.01], keep=[3, 4])
    others = [0, 1, 2, 4, 5, 6, 8, 9]
    for before, after in zip(plain, failing, strict=True):
        labels = after.predictions.labels
        assert labels[[3, 7]].tolist() == [-1, -1]
        np.testing.assert_array_equal(labels[others], before.predictions.labels[others])
        np.testing.assert_array_equal(after.kept[0], X[3])
        np.testing.assert_array_equal(after.kept[1], before.kept[1])


def test_one_that_fails_at_every_third_call_is_answered_with_retries(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    model = box(Failing(every=3), batch_size=2, retries=1)
    np.testing.assert_array_equal(answers_of(model, X).logits, scores(X).astype(np.float32))
    assert model.queries == 14  # five batches of two, and the third and the sixth call again


def test_and_without_them_in_halves_where_a_call_alone_fails():
    failing = Failing(every=3)
    found = answers_of(box(failing, batch_size=4), X)
    # Calls: 4, 4, 2 which fails, 1, 1.
    assert failing.sizes == [4, 4, 2, 1, 1]
    assert found.why == ""
    failing = Failing(every=3)
    found = answers_of(box(failing, batch_size=1), X)
    assert np.flatnonzero(~found.answered).tolist() == [2, 5, 8]


def test_one_that_answers_nothing_is_not_asked_of_every_image():
    many = np.zeros((1000, 2, 2), np.float32)
    failing = Failing(0)
    with pytest.raises(Unanswered, match="no image is answered"):
        answers_of(box(failing), many + X[0])
    assert len(failing.sizes) < 4 * HOPELESS
    with pytest.raises(Unanswered, match="no image is answered"):
        answers_of(box(Failing(*range(10))), X)
    with pytest.raises(Unanswered, match="no image is answered"):
        sweep(box(Failing(*range(10))), make_attack("noise"), X, Y, [0.0, 0.01])


def test_one_that_answers_late_images_alone_is_asked_of_all():
    x = np.repeat(X, 20, axis=0)
    found = answers_of(box(Failing(0, 1, 2, 3)), x)
    assert np.flatnonzero(~found.answered).tolist() == list(range(80))


class Small:
    """Takes four images at a time."""

    def __init__(self, error=BatchTooLarge):
        self.error, self.sizes = error, []

    def __call__(self, x):
        self.sizes.append(len(x))
        if len(x) > 4:
            raise self.error("out of memory")
        return scores(x)


@pytest.mark.parametrize("error", [BatchTooLarge, MemoryError, RuntimeError])
def test_a_batch_that_is_too_large_is_halved_and_later_ones_are_as_small(error):
    small = Small(error)
    model = box(small, retries=3)
    np.testing.assert_array_equal(logits_of(model, X), scores(X).astype(np.float32))
    assert small.sizes == [10, 5, 3, 2, 3, 2]
    assert limit_of(model, X) == batch_size_for(model, X) == 3
    small.sizes.clear()
    sweep(model, make_attack("noise"), X, Y, [0.01])
    assert max(small.sizes) == 3
    assert batch_size_for(box(Small()), X) > 4


def test_an_image_that_is_too_large_alone_is_an_error():
    def none(x):
        raise BatchTooLarge("no room")

    with pytest.raises(MeasurementError, match="one image alone is too large: no room") as error:
        logits_of(box(none), X)
    assert not isinstance(error.value, BatchTooLarge)


# In a run


def test_records_count_what_was_answered_and_say_so():
    run = evaluate(box(Failing(3, 7)), X, Y, ["noise", "square"], [0.0, 0.01])
    counted = [record for record in run.records if record.total is not None]
    assert len(counted) == 5
    for record in counted:
        assert (record.correct, record.total, record.status) == (8, 8, "measured")
        assert record.reason.startswith("2 of 10 images were not answered: ValueError: cannot")
    labels = run.arrays["callable/model/clean/predictions"]
    assert labels.tolist() == [0, 0, 0, -1, 0, 1, 1, -1, 1, 1]
    signature = run.arrays["callable/model/signature"]
    assert np.flatnonzero(np.isnan(signature)).tolist() == [3, 7]


def test_one_that_answers_nothing_is_an_error_with_its_message():
    model = box(Failing(every=1))
    with pytest.raises(Exception, match="ConnectionError: try again"):
        evaluate(model, X, Y, ["noise"], [0.01])


def test_a_later_failure_of_all_is_a_record():
    failing = Failing()
    model = box(failing)

    class Ends:
        name, norm, requires = "ends", "linf", frozenset()

        def perturb(self, model, x, y, epsilons, *, index):
            failing.every = 1
            for _ in epsilons:
                model.logits(x)
                yield x

    run = evaluate(model, X, Y, [Ends()], [0.01])
    (record,) = [record for record in run.records if record.check == "ends"]
    assert record.status == "error"
    assert "no image is answered" in record.reason
    assert "ConnectionError: try again" in record.reason


class AtOne:
    """Leaves images as they are, and aims at class 1."""

    name, norm, requires = "at-one", "linf", frozenset()

    def goals(self, logits, labels):
        assert logits.shape == (10, 2)
        assert np.isfinite(logits).all()
        return np.ones(len(labels), dtype=np.int64)

    def perturb(self, model, x, y, epsilons, *, index):
        model.logits(x)
        yield from (x + np.float32(epsilon) for epsilon in epsilons)


def test_the_success_of_a_targeted_attack_is_that_on_what_was_answered():
    y = Y.copy()
    y[5:7] = 0  # so that they are misclassified as the target
    run = evaluate(box(Failing(3, 7)), X, y, [AtOne()], [0.01])
    (record,) = [record for record in run.records if record.check == "at-one"]
    # 0, 1, 2, 4, 5 and 6 are of another class.
    assert (record.total, record.value) == (8, pytest.approx(2 / 6))
