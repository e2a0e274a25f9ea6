"""Passes over memory on the host: what is computed in pieces is what one pass computes."""

import numpy as np
import pytest
from backends_at_hand import NAMES
from small_models import SHAPE, small_images, small_net

from harness.maths import pieces as module
from harness.maths.pieces import (
    LINE,
    Place,
    copied,
    mapped,
    merged,
    room_for,
    shifted,
    steepest,
    taken_home,
)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1,), (0, 2), (5, 7, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_room_begins_at_a_line_of_the_cache(shape, dtype):
    room = room_for(np.zeros(shape, dtype))
    assert (room.shape, room.dtype) == (shape, dtype)
    assert not room.size or room.ctypes.data % LINE == 0
    assert room.flags.c_contiguous
    assert room.flags.writeable


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_the_model_go_in_and_come_out(name):
    model, (x, _) = small_net(name, "float32"), small_images()
    images = model.asarray(x)
    place = Place.of(model, images)
    gradient = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    gradient[0, 0], gradient[1, 0, 0] = 0.0, np.nan
    direction = steepest(place, model.asarray(gradient), "linf")
    np.testing.assert_array_equal(model.numpy(direction), np.sign(gradient))
    moved = shifted(place, images, direction, 0.1)
    expected = np.clip(x + np.float32(0.1) * np.sign(gradient), 0, 1)
    np.testing.assert_array_equal(model.numpy(moved), expected)
    assert model.logits(moved).shape[0] == len(x)  # the framework takes what NumPy has made
    again = copied(place, images)
    np.testing.assert_array_equal(model.numpy(again), x)
    assert not np.shares_memory(model.numpy(again), model.numpy(images))
    found = taken_home(model, again, np.array([3, 1]))
    np.testing.assert_array_equal(found, x[[3, 1]])
    assert found.shape == (2, *SHAPE)


def moved(xp, images, change, size, factor):
    return images + factor * size * change + 0.0 * xp.sum(images)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_made_of_images_is_made_in_pieces(name, monkeypatch):
    monkeypatch.setattr(module, "CACHED", 3 * small_images()[0][:1].nbytes)
    model, (x, _) = small_net(name, "float32"), small_images()
    change = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    size = np.arange(len(x), dtype=np.float32).reshape(-1, *(1 for _ in SHAPE))
    given = [model.asarray(one) for one in (x, change, size)]
    found = mapped(model, moved, *given, 0.5)
    np.testing.assert_allclose(model.numpy(found), x + 0.5 * size * change, rtol=1e-6)
    assert model.logits(found).shape[0] == len(x)


@pytest.mark.parametrize("name", NAMES)
def test_some_images_are_replaced(name):
    model, (x, _) = small_net(name, "float32"), small_images()
    taken = np.arange(len(x)) % 3 == 1
    chosen = model.asarray(taken.astype(np.float32)) > 0
    found = model.numpy(merged(model, chosen, model.asarray(1 - x), model.asarray(x)))
    np.testing.assert_array_equal(found, np.where(taken.reshape(-1, *(1 for _ in SHAPE)), 1 - x, x))
