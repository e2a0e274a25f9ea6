"""Variants that are made when they are asked for: what one lacks skips the checks that need it."""

from dataclasses import replace

import numpy as np
import pytest
from zoo.networks import NET, built, images, trained

from harness.checks.sanity.checks import CHECKS, rules_for
from harness.checks.sanity.evidence import IMAGES, Evidence
from harness.checks.sanity.randomised import cascade
from harness.errors import NotApplicable
from harness.evaluation.checking import Checking
from harness.evaluation.examples import Examples
from harness.evaluation.models import LoadedModel
from harness.maths.images import LazyImages
from harness.networks.initial import initial_weights
from harness.protocol import Network
from harness.registry import builder
from harness.results.recorder import Recorder
from harness.results.run import Run
from harness.spec.measures import SanitySpec

NEEDED = {
    "cascade": {"random-layers"},
    "random": {"random-weights", "image-factor"},
    "random_labels": {"random-labels"},
    "exact": {"finite-differences", "backends"},
    "oracle": {"backends"},
}
"""Which checks need which variant."""


def build(weights, backend="numpy", dtype="float32"):
    return builder(backend).build(Network(NET, weights), dtype=dtype)


class Lazy:
    """Variants of the trained network, without some of them."""

    def __init__(self, *lacking):
        self.lacking, self.made = lacking, []

    def get(self, name, make):
        self.made.append(name)
        if name in self.lacking:
            raise NotApplicable(f"there is no {name} here")
        return make()

    @property
    def cascade(self):
        first = initial_weights(NET, 11)
        return self.get("cascade", lambda: [build(w) for w in cascade(trained(), first)])

    @property
    def random(self):
        return self.get("random", lambda: build(initial_weights(NET, 12)))

    @property
    def random_labels(self):
        return self.get("random_labels", lambda: build(initial_weights(NET, 13)))

    @property
    def exact(self):
        return self.get("exact", lambda: build(trained(), dtype="float64"))

    @property
    def oracle(self):
        return self.get("oracle", lambda: build(trained(), dtype="float64"))


class References:
    def __init__(self, variants):
        self.variants, self.exact, self.oracle = variants, built(), built()


def checking(variants):
    x, y = images()
    recorder = Recorder(Run(spec={}, spec_sha256="", data_sha256="", created="now"), "numpy", "m")
    loaded = LoadedModel(built(), "numpy", references=References(variants))
    return Checking(
        loaded, x, y, Examples(x, y, recorder), recorder,
        reported=(), bounds=SanitySpec(), seed=0,
    ), recorder  # fmt: skip


@pytest.mark.parametrize("lacking", NEEDED)
def test_a_check_of_what_is_not_there_is_skipped_and_the_others_are_made(lacking):
    made, recorder = checking(Lazy(lacking))
    rules = set(rules_for("gradient"))
    for rule in rules:
        record = made.sanity(f"gradient/{rule}")
        if rule in NEEDED[lacking]:
            assert (record.status, record.reason) == ("skipped", f"there is no {lacking} here")
        else:
            assert record.status == "passed", record
    assert (recorder.kept("saliency/gradient/cascade") is None) == (lacking == "cascade")


def test_without_any_variant_the_other_checks_are_made():
    made, _ = checking(Lazy(*NEEDED))
    needing = set().union(*NEEDED.values())
    for rule in rules_for("gradient"):
        status = made.sanity(f"gradient/{rule}").status
        assert status == ("skipped" if rule in needing else "passed")


def test_a_check_makes_what_it_needs_alone():
    for rule in rules_for("gradient"):
        variants = Lazy()
        CHECKS[rule](Evidence(built(), *images(), variants=variants))
        assert set(variants.made) == {name for name, rules in NEEDED.items() if rule in rules}


def test_a_cascade_that_ends_after_the_verdict_leaves_the_verdict():
    class Once(Lazy):
        @property
        def cascade(self):
            self.lacking = ("cascade",) if "cascade" in self.made else ()
            return super().cascade

    made, recorder = checking(Once())
    assert made.sanity("gradient/random-layers").status == "passed"
    assert recorder.kept("saliency/gradient/cascade").shape == (2, 2)
    assert recorder.kept("examples/cascade/gradient") is None


def test_a_cascade_that_ends_half_way_is_a_skip():
    class HalfWay(Lazy):
        @property
        def cascade(self):
            whole = super().cascade

            def models():
                yield whole[0]
                raise NotApplicable("layer 1 cannot be made random")

            return models()

    made, _ = checking(HalfWay())
    record = made.sanity("gradient/random-layers")
    assert (record.status, record.reason) == ("skipped", "layer 1 cannot be made random")


def test_a_network_without_layers_is_not_said_to_pass():
    class Empty(Lazy):
        cascade = ()

    with pytest.raises(NotApplicable, match=r"^the network has no layers that could be made "):
        CHECKS["random-layers"](Evidence(built(), *images(), variants=Empty()))


class OnDisk(LazyImages):
    """Many images of which few are read."""

    def __init__(self, images, count):
        super().__init__((count, *images.shape[1:]), images.dtype)
        self.images, self.most = images, 0

    def read(self, rows):
        self.most = max(self.most, len(rows))
        return self.images[rows % len(self.images)]


def test_images_on_a_disk_are_read_as_far_as_they_are_looked_at():
    x, y = images()
    count = 100_000
    lazy = OnDisk(x, count)
    found = Evidence(built(), lazy, np.resize(y, count), variants=Lazy())
    tiled = Evidence(built(), np.resize(x, (3000, *x.shape[1:])), np.resize(y, 3000))
    np.testing.assert_array_equal(found.x, tiled.x)
    np.testing.assert_array_equal(found.telling, tiled.telling)
    assert len(found.x) == IMAGES
    CHECKS["occlusion"](found)
    assert lazy.most <= 1000
    CHECKS["occlusion"](replace(tiled, variants=None))
