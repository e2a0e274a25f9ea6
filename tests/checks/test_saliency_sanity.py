"""Sanity checks of maps: healthy methods pass, impostors fail a named check, measures by hand."""

from dataclasses import replace

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from tiny_spec import tiny_spec
from zoo.impostors import IMPOSTORS, UNDER_A_NAME, in_one_framework
from zoo.networks import BOUNDS, NET, built, digits, images, trained

from harness.checks.sanity.checks import CHECKS, findings, rules_for
from harness.checks.sanity.evidence import Evidence, Variants
from harness.checks.sanity.randomised import RELABELLED, STEPS, cascade, learn_random_labels
from harness.errors import CheckFailed, NotApplicable
from harness.evaluation.benchmark import Benchmark
from harness.networks.initial import initial_weights
from harness.protocol import GRADIENT, Network, Optimizer, Wrapping
from harness.saliency.methods import METHODS
from harness.saliency.similarity import rank_correlation, structural_similarity
from harness.spec.measures import SanitySpec
from harness.spec.reading import parse_spec


def build(weights, backend="numpy", dtype="float32"):
    return at_hand(backend).build(Network(NET, weights), Wrapping(BOUNDS), dtype=dtype)


def on_random_labels(backend="numpy"):
    trainer = at_hand(backend).trainer(
        Network(NET, initial_weights(NET, 3)), Wrapping(BOUNDS), Optimizer(), seed=0
    )
    learn_random_labels(trainer, digits().train.x, NET.classes, seed=0)
    return trainer.weights()


def variants_of(weights, backend="numpy"):
    # By other seeds than the one that ``trained`` begins from.
    first, second = initial_weights(NET, 11), initial_weights(NET, 12)
    return Variants(
        tuple(build(w, backend) for w in cascade(weights, first)),
        build(second, backend), build(on_random_labels(backend), backend),
        build(weights, backend, "float64"), build(weights, "numpy", "float64"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def evidence():
    weights = trained()
    return Evidence(build(weights), *images(), variants=variants_of(weights))


# Who passes


@pytest.mark.parametrize("backend", NAMES)
def test_the_methods_pass_in_every_backend(backend):
    weights = trained()
    variants = variants_of(weights, backend)
    for name in METHODS:
        found = Evidence(build(weights, backend), *images(), name, variants=variants)
        assert findings(found) == {}
        for rule in CHECKS:
            if rule in rules_for(name):
                CHECKS[rule](found)
            else:
                with pytest.raises(NotApplicable):
                    CHECKS[rule](found)


# Who fails


@pytest.mark.parametrize("name", IMPOSTORS)
def test_an_impostor_is_found_and_named(name, evidence):
    method, fires = IMPOSTORS[name]
    found = findings(replace(evidence, name=name, method=method))
    assert set(found) == fires
    for rule, message in found.items():
        assert message.startswith(f"{rule}: {name}: ")
        assert message.endswith(".")
        assert "\n" not in message


@pytest.mark.parametrize("name", UNDER_A_NAME)
def test_an_impostor_under_a_known_name_is_found(name, evidence):
    method, fires = UNDER_A_NAME[name]
    assert set(findings(replace(evidence, name=name, method=method))) == fires


def test_a_method_that_is_right_in_numpy_and_not_in_torch_is_found():
    weights = trained()
    evidence = Evidence(
        build(weights, "torch"), *images(), "mine", in_one_framework,
        variants=variants_of(weights, "torch"),
    )  # fmt: skip
    assert set(findings(evidence)) == {"backends"}


def test_every_check_has_an_impostor_that_it_finds():
    known = [*IMPOSTORS.values(), *UNDER_A_NAME.values()]
    assert set().union(*(fires for _, fires in known)) == set(CHECKS)


def test_the_message_says_what_was_seen_and_what_to_do(evidence):
    with pytest.raises(CheckFailed) as caught:
        CHECKS["random-weights"](replace(evidence, name="x", method=IMPOSTORS["the-input"][0]))
    assert str(caught.value) == (
        "random-weights: x: maps of a model with random weights have rank correlation 1.000 and "
        "SSIM 1.000 with the model's own, above 0.6. Do not show such maps: they do not explain "
        "what the model does."
    )


@pytest.mark.parametrize(
    ("bounds", "rule"),
    [
        (SanitySpec(some_random=0.0), "random-layers"),
        (SanitySpec(all_random=0.0), "random-weights"),
        (SanitySpec(margin=0.9), "occlusion"),
    ],
)
def test_the_bounds_are_those_of_the_spec(bounds, rule, evidence):
    hard = replace(evidence, name="integrated-gradients", bounds=bounds)
    assert rule in findings(hard)


def test_the_more_layers_are_random_the_less_alike_the_maps(evidence):
    assert evidence.cascade.shape == (2, 2)
    assert (evidence.cascade[1] < evidence.cascade[0]).all()


# What does not apply


def test_without_variants_five_checks_do_not_apply():
    alone = Evidence(built(), *images())
    for rule in CHECKS:
        if rule.startswith("random") or rule in ("backends", "finite-differences"):
            with pytest.raises(NotApplicable, match="cannot be built again"):
                CHECKS[rule](alone)
    assert findings(alone) == {}


def test_black_images_are_left_out_of_what_is_compared(evidence):
    x = evidence.test_x.copy()
    x[[0, 7, 20]] = 0
    for name in ("integrated-gradients", "gradient-x-input"):
        found = replace(evidence, test_x=x, name=name)
        assert len(found.maps) == 100
        assert findings(found) == {}


# Variants


def test_layers_become_random_from_the_last_to_the_first():
    own = {f"layers.{i}.{kind}": f"own {i} {kind}" for i in range(3) for kind in ("weight", "bias")}
    other = {name: value.replace("own", "random") for name, value in own.items()}
    steps = list(cascade(own, other))
    changed = [{name for name in own if step[name] != own[name]} for step in steps]
    assert [{name[7] for name in names} for names in changed] == [
        {"2"},
        {"1", "2"},
        {"0", "1", "2"},
    ]
    assert [len(names) for names in changed] == [2, 4, 6]
    assert own["layers.2.weight"] == "own 2 weight"


def test_random_labels_are_learned_in_bounded_time():
    class Counting:
        def __init__(self):
            self.seen, self.targets, self.model = [], [], self

        def step(self, batch, learning_rate):
            self.seen.append(batch.x)
            self.targets.append(batch.targets)

    trainer = Counting()
    x = np.arange(2 * RELABELLED, dtype=np.float32).reshape(-1, 1)
    learn_random_labels(trainer, x, 10, seed=0)
    assert len(trainer.seen) == STEPS
    seen, targets = np.concatenate(trainer.seen)[:, 0], np.concatenate(trainer.targets)
    assert seen.max() < RELABELLED
    labels = {image: set(targets[seen == image].argmax(axis=1)) for image in np.unique(seen)}
    assert all(len(of_image) == 1 for of_image in labels.values())
    assert np.bincount([min(of) for of in labels.values()], minlength=10).min() > 20


# Similarities


def test_the_rank_correlation_is_spearmans():
    a, b = np.array([[1.0, 2, 3, 4, 5]]), np.array([[2.0, 1, 4, 3, 50]])
    # 1 - 6 Σd² / n(n² - 1), with d = 1, 1, 1, 1, 0
    np.testing.assert_allclose(rank_correlation(a, b), [1 - 6 * 4 / (5 * 24)])
    np.testing.assert_allclose(rank_correlation(a, -b), [-0.8])


def test_pixels_that_are_zero_in_both_maps_say_nothing():
    a, b = np.array([[1.0, 2, 3, 0, 0, 0]]), np.array([[3.0, 2, 1, 0, 0, 0]])
    np.testing.assert_allclose(rank_correlation(a, b), [-1.0])


def test_maps_without_ranks_are_alike_only_to_each_other():
    flat, other = np.ones((1, 4)), np.array([[1.0, 2, 3, 4]])
    assert rank_correlation(flat, 2 * flat) == 1
    assert rank_correlation(flat, other) == rank_correlation(other, flat) == 0
    assert rank_correlation(0 * flat, 0 * flat) == 1


def test_the_structural_similarity_of_uniform_maps_by_hand():
    # Scaled to one by their maximum, and uniform but for a far corner: there is no contrast.
    a, b = np.full((1, 40, 40), 0.2), np.full((1, 40, 40), 0.6)
    a[:, 0, 0] = b[:, 0, 0] = 1.0
    low = 0.01**2
    expected = (2 * 0.2 * 0.6 + low) / (0.2**2 + 0.6**2 + low)
    assert structural_similarity(a, b)[0] == pytest.approx(expected, abs=0.02)


def test_the_structural_similarity_orders_pairs_as_it_should():
    random = np.random.default_rng(0)
    a = random.random((3, 12, 12))
    near = np.abs(a + 0.05 * random.standard_normal(a.shape))
    far = random.random(a.shape)
    assert structural_similarity(a, a).tolist() == [1.0] * 3
    assert structural_similarity(a, 7 * a) == pytest.approx([1.0] * 3)
    assert (structural_similarity(a, near) > 0.8).all()
    assert (np.abs(structural_similarity(a, far)) < 0.35).all()
    assert structural_similarity(a, far) == pytest.approx(structural_similarity(far, a))


# Through a benchmark


def test_a_model_has_records_of_measures_and_checks_of_each_method():
    benchmark = Benchmark(parse_spec(tiny_spec(), "tiny.toml"))
    evaluation = benchmark.evaluation("numpy", "mlp")
    for measure in ("deletion", "insertion", "stability", "strokes"):
        record = evaluation.explained("gradient", measure)
        assert (record.check, record.status) == (f"saliency/gradient/{measure}", "measured")
        assert 0 < record.value < 1
    for rule in rules_for("gradient"):
        record = evaluation.checked("saliency-sanity", f"gradient/{rule}")
        assert (record.check, record.status) == (f"saliency-sanity/gradient/{rule}", "passed")
    assert len(benchmark.run.records) == 4 + len(rules_for("gradient"))
    arrays = {key.removeprefix("numpy/mlp/") for key in benchmark.run.arrays}
    assert arrays >= {
        "examples/maps/gradient", "saliency/gradient/deletion", "saliency/random/insertion",
        "saliency/gradient/top/accuracy", "saliency/random/accuracy/interval",
        "saliency/gradient/cascade", "examples/cascade/gradient", "examples/moved/maps/gradient",
    }  # fmt: skip


def test_a_check_that_fires_is_a_failed_record_with_its_reason():
    settings = 'methods = ["gradient"]\nsanity.margin = 0.99\nsanity.some_random = 0.0'
    benchmark = Benchmark(parse_spec(tiny_spec(saliency=settings), "tiny.toml"))
    evaluation = benchmark.evaluation("numpy", "mlp")
    for rule in ("occlusion", "random-layers"):
        record = evaluation.checked("saliency-sanity", f"gradient/{rule}")
        assert record.status == "failed"
        assert record.reason.startswith(f"{rule}: gradient: ")
    assert benchmark.run.arrays["numpy/mlp/saliency/gradient/cascade"].shape == (2, 2)


def test_maps_that_cannot_be_computed_are_skipped_and_never_numbers():
    benchmark = Benchmark(parse_spec(tiny_spec(), "tiny.toml"))
    evaluation = benchmark.evaluation("numpy", "mlp")
    model = evaluation.loaded.model
    model.capabilities = model.capabilities - {GRADIENT}
    for record in (
        evaluation.explained("gradient", "stability"),
        evaluation.checked("saliency-sanity", "gradient/finite"),
    ):
        assert (record.status, record.value) == ("skipped", None)
        assert record.reason == "maps are gradients, and the model gives none"
