"""The Square Attack in L2: bumps and moves by hand, the ball, and what it finds."""

import numpy as np
import pytest
from small_models import attacked, linear, right, small_images, small_net

from harness.attacks.random_search import as_planes
from harness.attacks.square_l2 import SquareL2, _two_bumps, bump

BOX = (0.0, 1.0)


def test_a_bump_is_highest_in_its_middle():
    """Equation 3: in the ring k from the middle 1 + 1/4 + ... down to the last one's."""
    five = np.full((5, 5), 1 / 9)
    five[1:4, 1:4] += 1 / 4
    five[2, 2] += 1
    np.testing.assert_allclose(bump(5, 5), five / np.linalg.norm(five))
    np.testing.assert_allclose(bump(1, 1), [[1.0]])
    assert bump(2, 5).shape == (2, 5)


@pytest.mark.parametrize("shape", [(3, 3), (5, 5), (1, 7), (7, 1), (1, 1), (2, 3)])
def test_a_bump_lies_beside_its_dent_and_both_have_length_one(shape):
    above, beside = _two_bumps(*shape)
    assert above.shape == beside.shape == shape
    for both in (above, beside):
        assert np.linalg.norm(both) == pytest.approx(1.0)
    if shape[0] > 1:
        assert (above[: shape[0] // 2] >= 0).all()
        assert (above[shape[0] // 2 :] <= 0).all()
    if shape[0] == shape[1]:
        np.testing.assert_allclose(beside, above.T)


def test_the_first_perturbation_is_a_grid_of_bumps_of_length_epsilon():
    clean = np.full((20, 2, 10, 10), 0.5)
    moving, _ = SquareL2().begin(clean, 0.3, BOX, np.arange(20))
    change = moving - clean
    np.testing.assert_allclose(np.sqrt((change**2).sum(axis=(1, 2, 3))), 0.3)
    tiles = change.reshape(20, 2, 5, 2, 5, 2).transpose(0, 1, 2, 4, 3, 5)
    signs = np.sign(tiles.sum(axis=(-1, -2)))
    np.testing.assert_allclose(tiles, signs[..., None, None] * np.abs(tiles[:1, :1, :1, :1]))
    assert np.abs(signs.mean()) < 0.1


def test_a_move_empties_one_window_and_fills_the_other():
    """Algorithm 3, with all numbers by hand: 3×3 windows in a 9×9 image, two channels."""
    clean = np.full((1, 2, 9, 9), 0.5)
    change = np.zeros_like(clean)
    change[0, 0, 0, 0], change[0, 0, 8, 8], change[0, 1, 8, 7] = 0.03, 0.04, -0.12
    attack = SquareL2(steps=10, area=9 / 81)
    state = {
        "clean": clean, "turned": np.zeros((1, 10), int),
        # The window that is filled lies at the top left, the one that is emptied at the end.
        "places": np.tile(np.float32([[0, 0], [0.999, 0.999]]), (1, 10, 1, 1)),
        "signs": np.tile(np.float32([1, -1])[:, None, None], (1, 10, 1, 1, 1)),
    }  # fmt: skip
    found = attack.propose(clean + change, state, 0.15, BOX, 1)[0] - clean[0]
    shape = _two_bumps(3, 3)[0]
    old = np.zeros((3, 3))
    old[0, 0] = 1.0
    unused = (0.15**2 - 0.03**2 - 0.04**2 - 0.12**2) / 2
    first = (shape + old) / np.linalg.norm(shape + old) * np.sqrt(0.03**2 + 0.04**2 + unused)
    second = -shape * np.sqrt(0.12**2 + unused)
    expected = np.zeros((2, 9, 9))
    expected[0, :3, :3], expected[1, :3, :3] = first, second
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.linalg.norm(found) == pytest.approx(0.15)


@pytest.mark.parametrize("shape", [(9,), (4, 5), (3, 4, 5), (8, 8, 1), (2, 2), (1,)])
def test_images_of_every_layout_stay_in_the_ball(shape):
    x = np.random.default_rng(0).random((6, *shape), dtype=np.float32)
    asked = []

    class Black:
        xp, bounds, capabilities = np, BOX, frozenset()
        asarray = numpy = staticmethod(np.asarray)

        def logits(self, images):
            asked.append(images)
            lead = 100 - images.reshape(len(images), -1).sum(axis=1)
            return np.stack([lead, 0 * lead], axis=1)

    (found,) = attacked(SquareL2(steps=30), Black(), x, np.zeros(6, int), [0.25])
    assert found.shape == x.shape
    assert found.dtype == np.float32
    for images in asked[1:]:
        lengths = np.linalg.norm((images - x).reshape(6, -1), axis=1)
        assert lengths.max() <= 0.25 + 1e-6
        assert images.min() >= 0
        assert images.max() <= 1
    assert as_planes(found).sum() > as_planes(x).sum()


def test_it_gets_near_the_best_point_of_a_linear_model():
    """The lead is 0.8 less 2 |w| times the length along w, 64 pixels of ±1: 0.05 is enough."""
    weight = np.repeat([1.0, -1.0], 32)
    lead = linear([weight, -weight], [0.4, -0.4])

    class Square8:
        xp, bounds, capabilities = np, BOX, frozenset()
        asarray = numpy = staticmethod(np.asarray)

        def logits(self, images):
            return lead.logits(images.reshape(len(images), -1))

    x, y = np.full((20, 8, 8), 0.5), np.zeros(20, int)
    near, far = attacked(SquareL2(steps=1000), Square8(), x, y, [0.049, 0.1])
    assert right(Square8(), near, y) == 20
    assert right(Square8(), far, y) == 0


def test_more_queries_break_more():
    model, (x, y) = small_net(), small_images()
    counts = [
        right(model, attacked(SquareL2(steps=steps), model, x, y, [0.5])[0], y)
        for steps in (1, 20, 200)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[2] < counts[0]
