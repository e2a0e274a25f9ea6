"""The Square Attack: its areas and windows by hand, layouts, and what it asks of a model."""

import numpy as np
import pytest
from backends_at_hand import NAMES
from small_models import Counting, attacked, linear, right, small_images, small_net

from harness.attacks.random_search import area_at, as_planes
from harness.attacks.square import Square, _windows


class Black:
    """A model of logits alone, told by a function of images; it notes what it is asked."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset()

    def __init__(self, logits):
        self.answer = logits
        self.asked = []

    def asarray(self, values):
        return np.asarray(values)

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        self.asked.append(x.copy())
        return self.answer(x)


def sure(x):
    """Always class 0, less so the further the pixels are from one half."""
    lead = 100 - np.abs(x - 0.5).reshape(len(x), -1).sum(axis=1)
    return np.stack([lead, 0 * lead], axis=1)


def test_the_area_is_halved_after_a_schedule_of_ten_thousand_queries():
    # Andriushchenko et al. 2020, section 4.1: at 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000.
    steps = [1, 10, 11, 50, 51, 200, 201, 501, 1001, 2001, 4001, 6001, 8001]
    halvings = [0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [area_at(0.8, step, 10_000) for step in steps] == [0.8 / 2**h for h in halvings]
    # With a tenth of the queries, ten times as soon.
    assert [area_at(0.8, step, 1000) for step in (1, 2, 5, 6)] == [0.8, 0.4, 0.4, 0.2]


@pytest.mark.parametrize(
    ("shape", "area", "size"),
    [((8, 8), 0.25, (4, 4)), ((8, 8), 1.0, (8, 8)), ((8, 8), 1e-4, (1, 1)), ((4, 16), 0.25, (4, 4)),
     ((1, 64), 0.25, (1, 16)), ((64, 1), 0.25, (16, 1)), ((2, 32), 0.5, (2, 16))],
)  # fmt: skip
def test_a_window_covers_its_area_and_may_lie_anywhere(shape, area, size):
    random = np.random.default_rng(0)
    places = random.random((500, 2), dtype=np.float32)
    places[:2] = [[0, 0], [1 - 2**-24] * 2]
    found = _windows(places, (500, 3, *shape), area)[:, 0]
    assert found.shape == (500, *shape)
    assert (found.sum(axis=(1, 2)) == size[0] * size[1]).all()
    assert (found.any(axis=2).sum(axis=1) == size[0]).all()
    assert found[0][: size[0], : size[1]].all()
    assert found[1][-size[0] :, -size[1] :].all()
    assert found.any(axis=0).all()


@pytest.mark.parametrize(
    ("shape", "planes"),
    [((9,), (1, 1, 9)), ((4, 5), (1, 4, 5)), ((3, 4, 5), (3, 4, 5)), ((4, 5, 3), (3, 4, 5)),
     ((8, 8, 1), (1, 8, 8)), ((1, 8, 8), (1, 8, 8))],
)  # fmt: skip
def test_images_of_every_layout_are_attacked_in_squares(shape, planes):
    x = np.full((6, *shape), 0.5, np.float32)
    assert as_planes(x).shape == (6, *planes)
    model = Black(sure)
    (found,) = attacked(Square(steps=30), model, x, np.zeros(6, int), [0.25])
    assert found.shape == x.shape
    assert found.dtype == np.float32
    # Every pixel is at one end, also in every query.
    for images in model.asked[1:]:
        np.testing.assert_array_equal(np.abs(images - x), 0.25)
    # The first query is of columns, a plane each.
    first = as_planes(model.asked[1])
    assert (first == first[:, :, :1]).all()
    # What the second changes lies in a window, and goes one way in each plane.
    second = as_planes(model.asked[2])
    for ours, theirs in zip(second, first, strict=True):
        for plane, before in zip(ours, theirs, strict=True):
            assert len(np.unique(plane[plane != before])) <= 1
    assert (second != first).any()


def test_channels_last_is_attacked_as_channels_first():
    x = np.random.default_rng(0).random((5, 3, 6, 7), dtype=np.float32)
    slope = np.random.default_rng(1).normal(size=x.shape[1:])

    def first(images):
        lead = 10 - (images * slope).sum(axis=(1, 2, 3))
        return np.stack([lead, 0 * lead], axis=1)

    def last(images):
        return first(np.moveaxis(images, -1, 1))

    y = np.zeros(5, int)
    (ours,) = attacked(Square(steps=50), Black(first), x, y, [0.1])
    (theirs,) = attacked(Square(steps=50), Black(last), np.moveaxis(x, 1, -1), y, [0.1])
    np.testing.assert_allclose(np.moveaxis(theirs, -1, 1), ours, atol=1e-6)


def test_a_proposal_is_kept_only_if_the_lead_shrinks():
    """The lead grows with the brightness, so in the end all is darker than at first."""

    def logits(x):
        lead = 9 + x.reshape(len(x), -1).sum(axis=1)
        return np.stack([0 * lead, lead, 0 * lead - 1], axis=1)

    x = np.full((4, 6, 6), 0.5)
    model = Black(logits)
    (found,) = attacked(Square(steps=300), model, x, np.ones(4, int), [0.2])
    assert found.mean() < 0.33
    for row in range(4):
        seen = [images[row].sum() for images in model.asked[1:]]
        assert found[row].sum() == pytest.approx(min(seen))


def test_the_box_cuts_squares_off():
    x = np.full((3, 5, 5), 0.9)
    model = Black(sure)
    attacked(Square(steps=10), model, x, np.zeros(3, int), [0.25])
    for images in model.asked[1:]:
        assert np.isclose(images, 1.0).any()
        assert (np.isclose(images, 0.65) | np.isclose(images, 1.0)).all()


def test_it_asks_no_more_than_its_steps_of_each_image():
    model, (x, y) = Counting(small_net()), small_images()
    attacked(Square(steps=25), model, x, y, [0.05])
    assert model.gradients == 0
    # The clean images before, and the last ones after.
    assert len(model.rows) <= 1 + 25 + 1


@pytest.mark.parametrize("backend", NAMES)
def test_it_fools_a_linear_model_near_the_best_corner(backend):
    model = linear([[4, -4, 2, -2], [-4, 4, -2, 2]], backend=backend)
    x, y = np.array([[0.55, 0.45, 0.5, 0.5]]), np.array([0])
    # Each pixel moved by ε takes 8 or 4 times ε from the lead of 0.8: in the corner 24 ε.
    weak, strong = attacked(Square(steps=200), model, x, y, [0.03, 0.04])
    assert right(model, weak, y) == 1
    assert right(model, strong, y) == 0


def test_more_queries_break_more():
    model, (x, y) = small_net(), small_images()
    counts = [
        right(model, attacked(Square(steps=steps), model, x, y, [0.15])[0], y)
        for steps in (1, 20, 200)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[2] < counts[0]
