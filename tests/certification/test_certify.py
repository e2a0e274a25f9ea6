"""Certifiers by name, and which images are certified: in batches, at several epsilons, anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from certified_networks import (
    CLASSES,
    RANDOM,
    dense,
    model_of,
    networks,
    pictures,
    tried,
    weighted,
)
from hypothesis import given
from hypothesis import strategies as st
from small_models import NET, small_images, small_net
from strict_model import StrictModel

from harness.attacks.pgd import PGD
from harness.attacks.sweep import sweep
from harness.certification import (
    CERTIFIERS,
    CROWN,
    IBP,
    bounding,
    certify,
    make_certifier,
    own,
)
from harness.errors import MeasurementError, NotApplicable, SpecError, Unanswered
from harness.maths import pieces
from harness.networks.initial import initial_weights
from harness.protocol import (
    Architecture,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    MeanPool,
    Network,
    ReLU,
    Residual,
    Scale,
)

SAME = ((1, 1), (1, 1))
MIXED = Architecture(
    (8, 8, 2),
    (
        Conv(3, (3, 3), (2, 2), SAME), ReLU(), MaxPool((2, 2), (1, 1), SAME), Conv(3, (2, 2)),
        ReLU(), Residual((Conv(3, (1, 1)), ReLU(), Scale())), ReLU(), MeanPool((2, 2), (1, 1)),
        Flatten(), Dense(6), ReLU(), Dense(CLASSES),
    ),
    CLASSES,
    channel_axis=2,
)  # fmt: skip
EPSILONS = (0.0, 0.002, 0.01, 0.03)


def labelled(network, count=12, wrong=0, seed=0):
    """Images, and what the network says of them; of the first so many something else."""
    x = pictures(network, count, seed).astype(np.float32)
    y = model_of(network).logits(x.astype(float)).argmax(axis=1)
    y[:wrong] = (y[:wrong] + 1) % CLASSES
    return x, y


def counts(found):
    return [int(one.sum()) for one in found]


def radii(name):
    return [10 * epsilon for epsilon in EPSILONS] if name.endswith("l2") else list(EPSILONS)


@pytest.mark.parametrize("name", CERTIFIERS)
def test_no_image_of_the_ball_is_classified_otherwise_than_a_certified_one(name):
    network = weighted(MIXED, 1)
    x, y = labelled(network, 20, wrong=4)
    model, certifier = model_of(network, "float32"), make_certifier(name)
    found = certify(certifier, network, model, x, y, radii(name))
    assert counts(found)[0] == 16
    assert counts(found)[1] > 0
    assert not any(one[:4].any() for one in found)
    assert counts(found) == sorted(counts(found), reverse=True)
    attack = PGD(norm=certifier.norm, steps=20, losses=("margin",))
    attacked = sweep(model, attack, x, y, radii(name))
    for certified, result in zip(found, attacked, strict=True):
        assert (result.predictions.labels == y)[certified].all()


@RANDOM
@given(networks(), st.sampled_from([0.0, 0.01, 0.1]), st.integers(0, 2**32 - 1))
def test_random_networks_keep_what_is_certified(network, epsilon, seed):
    x, y = labelled(network, 4, seed=seed)
    model = model_of(network)
    for name in ("ibp", "crown"):
        (found,) = certify(make_certifier(name), network, model, x, y, [epsilon])
        low, high = np.clip(x - epsilon, 0, 1), np.clip(x + epsilon, 0, 1)
        for images in tried(model, low.astype(float), high.astype(float), seed, 5):
            assert (model.logits(images).argmax(axis=1) == y)[found].all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("seed", range(4))
def test_certified_points_in_two_dimensions_have_no_other_class_near(norm, seed):
    network = dense(*[(6,), (5, 5)][seed % 2], seed=seed)
    x, y = labelled(network, 30, seed=seed)
    model, epsilons = model_of(network), [0.01, 0.05, 0.1, 0.2]
    side = np.linspace(-1, 1, 61)
    unit = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    if norm == "l2":
        unit = unit[(unit**2).sum(axis=1) <= 1]
    by_name = {}
    for kind in (IBP, CROWN):
        found = by_name[kind] = certify(kind(norm=norm), network, model, x, y, epsilons)
        for certified, epsilon in zip(found, epsilons, strict=True):
            for image, label in zip(x[certified], y[certified], strict=True):
                around = np.clip(image + epsilon * unit, 0, 1)
                assert (model.logits(around).argmax(axis=1) == label).all()
    assert counts(by_name[CROWN])[0] > 15
    assert all((a <= b).all() for a, b in zip(by_name[IBP], by_name[CROWN], strict=True))


@pytest.mark.parametrize("name", CERTIFIERS)
def test_a_linear_network_is_certified_up_to_its_distance_from_the_boundary(name):
    matrix = np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 1.0]])
    weights = {"layers.0.weight": matrix, "layers.0.bias": np.zeros(2)}
    network = Network(Architecture((3,), (Dense(2),), 2), weights)
    x = np.array([[0.5, 0.5, 0.5]])
    # The margin is (1, 1, -2) x, which is 0 there, plus what the bias adds.
    network.weights["layers.0.bias"][0] = 0.2
    distance = 0.2 / (np.sqrt(6) if name.endswith("l2") else 4)
    model, y = model_of(network), np.array([0])
    epsilons = [0.0, 0.99 * distance, 1.01 * distance]
    found = certify(make_certifier(name), network, model, x, y, epsilons)
    assert counts(found) == [1, 1, 0]


@pytest.mark.parametrize("name", CERTIFIERS)
def test_memory_changes_no_certificate(name, monkeypatch):
    network = weighted(MIXED, 2)
    x, y = labelled(network)
    model, certifier = model_of(network), make_certifier(name)
    expected = certify(certifier, network, model, x, y, radii(name))
    for room in (1, 40_000):
        monkeypatch.setattr(bounding, "ROOM", room)
        monkeypatch.setattr(own, "MEMORY", room)
        np.testing.assert_array_equal(
            certify(certifier, network, model, x, y, radii(name)), expected
        )


@pytest.mark.parametrize("device", [False, True], ids=["on the host", "as on a device"])
@pytest.mark.parametrize("backend", NAMES)
def test_all_backends_certify_the_same_images(backend, device, monkeypatch):
    network = weighted(MIXED, 3, "float32")
    x, y = labelled(network, 8, wrong=2)
    model, plain = at_hand(backend).build(network), model_of(network, "float32")
    expected = {
        name: certify(make_certifier(name), network, plain, x, y, radii(name)[1:3])
        for name in CERTIFIERS
    }
    if device:  # whatever is computed is in the model's namespace
        monkeypatch.setattr(pieces, "HOST", -1)
    for name in CERTIFIERS:
        found = certify(make_certifier(name), network, model, x, y, radii(name)[1:3])
        np.testing.assert_array_equal(found, expected[name])
    assert {count for found in expected.values() for count in counts(found)} > {6}


@pytest.mark.parametrize("name", CERTIFIERS)
def test_certificates_need_the_array_api_alone(name, monkeypatch):
    network = Network(NET, initial_weights(NET, seed=0))
    plain = small_net()
    x, y = small_images()
    epsilons = [0.0, 0.02, 0.05] if name in ("ibp", "crown") else [0.0, 0.1, 0.2]
    expected = certify(make_certifier(name), network, plain, x, y, epsilons)
    assert counts(expected)[0] > counts(expected)[2]
    found = certify(make_certifier(name), network, StrictModel(plain, monkeypatch), x, y, epsilons)
    np.testing.assert_array_equal(found, expected)


def test_options_are_plain_and_named_in_errors():
    assert make_certifier("crown").options() == {"norm": "linf", "intermediate": "crown"}
    assert make_certifier("mine", "ibp", {"norm": "l2"}) == IBP(name="mine", norm="l2")
    assert make_certifier("crown-l2").norm == make_certifier("ibp-l2").norm == "l2"
    for make, message in [
        (("crwn",), "crwn: no such certifier; the certifiers are crown, crown-l2, ibp, ibp-l2; "
                    "did you mean crown?"),
        (("ibp", None, {"nrm": "l2"}), "nrm: ibp has no such option; did you mean norm?"),
        (("ibp", None, {"name": "a"}), "name: ibp has no such option"),
        (("crown", None, {"intermediate": "pgd"}), r"intermediate: .*'crown' or 'ibp'.*'pgd'"),
        (("crown", None, {"norm": "l1"}), r"norm: .*'linf' or 'l2'.*'l1'"),
    ]:  # fmt: skip
        with pytest.raises(SpecError, match=message):
            make_certifier(*make)


@dataclass
class Theirs:
    """A certifier of somebody else's, which is always sure."""

    name: str = "theirs"
    norm: str = "linf"
    yields: object = None

    def certified(self, network, model, x, y, epsilons):
        for _ in epsilons:
            yield np.ones(len(y), dtype=bool) if self.yields is None else self.yields


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, "theirs: theirs has the norm 'l1', not linf or l2"),
        ({"nrom": "l2"}, "nrom: theirs has no such option; did you mean norm?"),
    ],
)
def test_certifiers_of_others_are_checked(options, message, monkeypatch):
    monkeypatch.setitem(CERTIFIERS.own, "theirs", Theirs)
    assert make_certifier("theirs").name == "theirs"
    with pytest.raises(SpecError, match=message):
        make_certifier("theirs", options=options)
    monkeypatch.setitem(CERTIFIERS.own, "nothing", dict)
    with pytest.raises(SpecError, match="nothing: makes a dict, which is no certifier"):
        make_certifier("nothing")


def test_certifiers_of_others_count_only_what_is_right_and_yield_booleans():
    network = dense(4)
    x, y = labelled(network, 6, wrong=2)
    found = certify(Theirs(), network, model_of(network), x, y, [0.1])
    assert found[0].tolist() == [False] * 2 + [True] * 4
    for bad in (np.ones(4), np.ones(3, dtype=bool), [True] * 4):
        with pytest.raises(MeasurementError, match=r"theirs yields other than booleans"):
            certify(Theirs(yields=bad), network, model_of(network), x, y, [0.1])


@dataclass(frozen=True)
class Sigmoid:
    """A layer that no certifier knows."""


@pytest.mark.parametrize("name", CERTIFIERS)
def test_what_cannot_be_certified_is_said_in_one_line(name):
    network = dense(4)
    x, y = labelled(network)
    model, certifier = model_of(network), make_certifier(name)
    with pytest.raises(
        NotApplicable, match="known layer by layer: one built here, or read from an"
    ):
        certify(certifier, None, model, x, y, [0.1])
    unknown = weighted(Architecture((2,), (Dense(2), Sigmoid(), Dense(CLASSES)), CLASSES), 0)
    with pytest.raises(NotApplicable, match=r"layers\[1\]: certificates have no relaxation of Sig"):
        certify(certifier, unknown, model, x, y, [0.1])
    for epsilons in ([0.1, 1.5], [-0.1], [float("nan")]):
        with pytest.raises(MeasurementError, match=r"epsilon .* is not from 0 to 1.*, the size of"):
            certify(certifier, network, model, x, y, epsilons)
    with pytest.raises(MeasurementError, match="epsilons must increase"):
        certify(certifier, network, model, x, y, [0.2, 0.1])
    with pytest.raises(MeasurementError, match="images have shape"):
        certify(certifier, weighted(NET, 0), model, x, y, [0.1])
    everything = certify(certifier, network, model, x, y, [])
    assert everything == []


class Silent:
    """A model that does not answer on dark images."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        return getattr(self.model, name)

    def logits(self, x):
        if (x.max(axis=1) < 0.5).any():
            raise Unanswered("it is dark")
        return self.model.logits(x)


def test_an_image_that_is_not_answered_is_not_certified():
    network = dense(4)
    x, y = labelled(network, 30)
    dark = x.max(axis=1) < 0.5
    assert 0 < dark.sum() < len(x)
    whole = certify(CROWN(), network, model_of(network), x, y, [0.001])[0]
    found = certify(CROWN(), network, Silent(model_of(network)), x, y, [0.001])[0]
    np.testing.assert_array_equal(found, whole & ~dark)
