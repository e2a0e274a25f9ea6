"""What an attack moves between the host and a device, counted on a device that is none."""

import numpy as np
import pytest
from on_device import Device
from small_models import small_images, small_net

from harness.attacks import ATTACKS, make_attack
from harness.attacks.strongest import Strongest
from harness.attacks.sweep import sweep

COUNT, BATCH, KEEP, EPSILONS = 12, 6, (1, 7), (0.0, 0.05, 0.2)
STEPS = (
    "apgd", "apgd-l2", "apgd-t", "apgd-t-l2", "cw-l2", "ddn", "deepfool", "fab", "fab-l2", "fab-t",
    "fab-t-l2", "fmn", "fmn-l2", "i-fgsm", "mim", "pgd", "pgd-l2",
)  # fmt: skip
"""Attacks that climb on the device, in as many steps as they are told."""
AT_ONCE = ("fgsm", "fgm-l2", "fgsm-rs", "noise")
STARTS = {
    "noise": 2, "fgsm-rs": 2, "pgd": 2 * 2, "pgd-l2": 2 * 2, "apgd": 2 * 2, "apgd-l2": 2 * 2,
    "apgd-t": 2 * 4, "apgd-t-l2": 2 * 4,
}  # fmt: skip
"""Random images that are drawn on the host for each image, at most: for both epsilons above zero,
each loss and each class that is aimed at. (Noise draws two for all epsilons.)"""
ON_THE_HOST = {
    "square": "squares are drawn there, and put into the images", "square-l2": "likewise",
    "hopskipjump": "each image has queries and a pace of its own", "hopskipjump-l2": "likewise",
    "transfer": "the images are made on another model, of any framework", "transfer-l2": "likewise",
}  # fmt: skip
"""Attacks that send images to the device at each query, and why."""
SHORT = {"square": {"steps": 20}, "square-l2": {"steps": 20}, "hopskipjump": {"queries": 60},
         "hopskipjump-l2": {"queries": 60}, "transfer": {"rounds": 0}, "transfer-l2": {"rounds": 0},
         "cw-l2": {"searches": 2}}  # fmt: skip
ENSEMBLES = ("strongest", "strongest-l2", "autoattack", "autoattack-l2")


def moved(attack, keep=KEEP):
    """What a sweep moves in two batches; what it finds is what it finds on the host."""
    device, (x, y) = Device(small_net(), pixels=16), small_images(COUNT, wrong=2)
    found, same = (
        sweep(model, attack, x, y, EPSILONS, keep=keep, batch_size=BATCH)
        for model in (device, small_net())
    )
    for one, other in zip(found, same, strict=True):
        np.testing.assert_array_equal(one.predictions.labels, other.predictions.labels)
        np.testing.assert_array_equal(one.kept, other.kept)
    return device.moved


def attack_of(name, steps):
    of_steps = {"steps": steps} if name in STEPS else {}
    return make_attack(name, options=SHORT.get(name, {}) | of_steps)


@pytest.mark.parametrize("name", [*STEPS, *AT_ONCE])
def test_images_go_to_the_device_once_and_only_kept_ones_come_back(name):
    found = moved(attack_of(name, 6))
    assert found.images_down == len(EPSILONS) * len(KEEP)
    # Beside them only what is drawn at random for the start of an attempt.
    assert COUNT <= found.images_up <= COUNT * (1 + STARTS.get(name, 0))
    if name not in STARTS:
        assert found.images_up == COUNT


@pytest.mark.parametrize("name", STEPS)
def test_no_image_moves_in_a_step(name):
    few, many = moved(attack_of(name, 3), keep=()), moved(attack_of(name, 9), keep=())
    assert few.images_down == many.images_down == 0
    assert many.images_up <= few.images_up  # fewer, where more steps leave less to restart from


@pytest.mark.parametrize("name", ON_THE_HOST)
def test_attacks_written_on_the_host_read_the_images_once(name):
    assert moved(attack_of(name, 0)).images_down == COUNT + len(EPSILONS) * len(KEEP)


def test_fgsm_asks_for_a_few_numbers_an_epsilon():
    # Of a batch: the labels, and whether its images are as they were, and their logits; at each
    # epsilon the distance, the lowest and the highest pixel, and the logits, known of the clean.
    found = moved(make_attack("fgsm"), keep=())
    assert (found.small_up, found.small_down) == (2 * 1, 2 * (2 + 3 * 3 + 2))


def test_an_ensemble_moves_what_its_members_move():
    members = tuple(attack_of(name, 3) for name in ("fgsm", "i-fgsm", "fab"))
    found = moved(Strongest(members=members))
    assert (found.images_up, found.images_down) == (COUNT, len(EPSILONS) * len(KEEP))


def test_every_attack_is_looked_at():
    assert {*STEPS, *AT_ONCE, *ON_THE_HOST, *ENSEMBLES} == set(ATTACKS)
