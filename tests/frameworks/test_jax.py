"""Networks of JAX: taken as users have them, compiled for few sizes, in a process left as it is."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import small_jax
from backends_at_hand import at_hand
from small_jax import CLASSES, X, Y, apply, logits_of, model_of, params, scores
from small_trainers import NET, one_line

import harness
from harness import registry
from harness.errors import BackendError, HarnessError, MeasurementError
from harness.maths.objectives import ClassLogit, CrossEntropy
from harness.protocol import Network, Wrapping


@pytest.fixture
def jax():
    at_hand("jax")
    import jax

    return jax


# What is taken


def test_a_function_with_its_arrays_agrees_with_numpy(jax):
    model = model_of((apply, params()))
    np.testing.assert_allclose(logits_of(model), scores(), rtol=1e-5, atol=1e-6)
    _, gradient = model.logits_and_gradient(model.asarray(X), model.asarray(Y), ClassLogit())
    step, pixel = 1e-5, (3, 4, 2)
    moved = X.astype(np.float64)
    moved[(slice(None), *pixel)] += step
    slopes = (scores(moved) - scores())[np.arange(12), Y] / step
    np.testing.assert_allclose(gradient[(slice(None), *pixel)], slopes, rtol=1e-3, atol=1e-5)
    assert model.about().parameters == 108 * 8 + 8 + 8 * CLASSES + CLASSES


def test_other_ways_to_pass_the_same_function(jax):
    expected = logits_of(model_of((apply, params())))
    held = jax.tree.map(jax.numpy.asarray, params())
    ways = [
        jax.tree_util.Partial(apply, params()), jax.jit(lambda x: apply(held, x)),
        (jax.jit(apply), params()), (lambda p, x: {"logits": apply(p, x), "other": x}, params()),
        (lambda p, x: (apply(p["net"], x), None), {"net": params(), "name": "mine", "none": None}),
    ]  # fmt: skip
    for net in ways:
        np.testing.assert_allclose(logits_of(model_of(net)), expected, rtol=1e-6)


def test_numpy_arrays_of_float64_are_computed_as_jax_computes_them(jax):
    doubles = {layer: {n: a.astype(np.float64) for n, a in part.items()}
               for layer, part in params().items()}  # fmt: skip
    assert logits_of(model_of((apply, doubles))).dtype == np.float32


def test_one_logit_an_image_is_that_of_the_second_class(jax):
    model = model_of((lambda p, x: apply(p, x)[:, 0], params()))
    found = logits_of(model)
    np.testing.assert_array_equal(found[:, 0], 0)
    np.testing.assert_allclose(found[:, 1], scores()[:, 0], rtol=1e-5, atol=1e-6)


def test_half_precision_is_computed_in_it_and_answered_in_float32(jax):
    halves = jax.tree.map(lambda a: jax.numpy.asarray(a, jax.numpy.bfloat16), params())
    model = model_of((apply, halves))
    logits, gradient = model.logits_and_gradient(model.asarray(X), model.asarray(Y), ClassLogit())
    assert (logits.dtype, gradient.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(logits, scores(), atol=0.1)


def test_a_module_of_flax_is_computed_in_inference_mode_and_stays_in_training(jax):
    nnx = small_jax.beside_jax("flax.nnx")

    net = small_jax.nnx_net()
    before = [np.array(leaf) for leaf in jax.tree.leaves(nnx.state(net, nnx.Param, nnx.BatchStat))]
    found = logits_of(model_of(net))
    np.testing.assert_array_equal(found, logits_of(model_of(net)))
    assert (net.drop.deterministic, net.norm.use_running_average) == (False, False)
    after = jax.tree.leaves(nnx.state(net, nnx.Param, nnx.BatchStat))
    assert all(map(np.array_equal, before, after))
    net.eval()
    np.testing.assert_allclose(found, net(X), rtol=1e-5, atol=1e-6)


def test_a_module_of_equinox_may_be_for_one_image_or_for_a_batch(jax):
    equinox = small_jax.beside_jax("equinox")
    net, images = small_jax.equinox_net(), X.transpose(0, 3, 1, 2)
    plain = equinox.nn.inference_mode(net)
    expected = np.stack([plain(image) for image in images])
    np.testing.assert_allclose(logits_of(model_of(net), images), expected, rtol=1e-5, atol=1e-6)
    assert net.drop.inference is False

    class Batched(equinox.Module):
        inner: equinox.Module

        def __call__(self, x):
            return jax.vmap(self.inner)(x.reshape(x.shape[0], *images.shape[1:]))

    found = logits_of(model_of(Batched(net)), images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("net", "said"),
    [(lambda jax: (apply, 3), r"no network of JAX; pass \(apply, params\)"),
     (lambda jax: lambda x: x, "harness.wrap_function")],
)  # fmt: skip
def test_what_is_none_is_refused_in_one_line(jax, net, said):
    with pytest.raises(BackendError, match=said) as error:
        harness.wrap(net(jax))
    one_line(error)


def test_a_module_of_flax_linen_without_weights_says_what_to_pass(jax):
    linen = small_jax.beside_jax("flax.linen")
    with pytest.raises(BackendError, match=r"holds no weights; pass \(net.apply, variables\)"):
        harness.wrap(linen.Dense(3))


# No gradient


@pytest.mark.parametrize("cut", ["stop_gradient", "argmax", "round"])
def test_a_network_without_a_gradient_says_so_in_one_sentence(jax, cut):
    cuts = {
        "stop_gradient": lambda p, x: apply(p, jax.lax.stop_gradient(x)),
        "argmax": lambda p, x: 9.0 * jax.nn.one_hot(apply(p, x).argmax(1), CLASSES),
        "round": lambda p, x: apply(p, (9 * x).astype(jax.numpy.int32) / 9),
    }
    model = model_of((cuts[cut], params()))
    with pytest.raises(MeasurementError, match=r"^the network gives no gradient: "):
        model.logits_and_gradient(model.asarray(X), model.asarray(Y), CrossEntropy())


def test_a_function_that_jax_cannot_compile_is_pointed_to_the_black_box(jax):
    model = model_of((lambda p, x: apply(p, np.asarray(x)), params()))
    with pytest.raises(
        MeasurementError, match=r"cannot be compiled by JAX.*wrap_function"
    ) as error:
        model.logits(model.asarray(X))
    one_line(error)


# The process


def test_float64_is_that_of_the_model_alone(jax, weights, images, labels):
    model = at_hand("jax").build(Network(NET, weights), dtype="float64")
    exact = registry.builder("numpy").build(Network(NET, weights), dtype="float64")
    x = images.astype(np.float64)
    expected = exact.logits_and_gradient(x, labels, CrossEntropy())
    found = model.logits_and_gradient(model.asarray(x), model.asarray(labels), CrossEntropy())
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    assert jax.config.jax_enable_x64 is False
    assert jax.numpy.asarray(np.ones(3)).dtype == np.float32
    assert logits_of(at_hand("jax").build(Network(NET, weights)), images).dtype == np.float32


def test_float32_stays_where_the_user_has_switched_float64_on(jax, weights, images, labels):
    with jax.enable_x64(True):
        model = at_hand("jax").build(Network(NET, weights))
        x, y = model.asarray(images), model.asarray(labels)
        arrays = [model.logits(x), *model.logits_and_gradient(x, y, CrossEntropy())]
        assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_no_setting_of_jax_is_changed(jax):
    at_hand("jax")
    script = (
        "import os, jax\n"
        "before = dict(jax.config.values), dict(os.environ)\n"
        "import numpy as np, harness\n"
        "assert 'flax' not in __import__('sys').modules\n"
        "net = (lambda p, x: x.reshape(len(x), -1) @ p, np.ones((4, 2), np.float32))\n"
        "x = np.linspace(0, 1, 24, dtype=np.float32).reshape(6, 2, 2)\n"
        "harness.evaluate(net, x, np.zeros(6, int), epsilons=[0.1])\n"
        "assert (dict(jax.config.values), dict(os.environ)) == before\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Sizes of batches


def test_a_batch_of_any_size_is_made_of_few(jax):
    at_hand("jax")
    from backends.jax_wrapped import ON_CPU, pieces_of

    for count in range(1, 400):
        sizes = pieces_of(count, ON_CPU)
        assert set(sizes) <= set(ON_CPU)
        assert sum(sizes[:-1]) < count <= sum(sizes)
        assert sum(sizes) <= max(2, 4 / 3 * count)


def test_sizes_that_an_attack_makes_are_compiled_once(jax):
    traced = []

    def net(held, x):
        traced.append(x.shape[0])
        return apply(held, x)

    model = model_of((net, params()))
    x = np.concatenate([X] * 30)[:333]
    whole = logits_of(model, x)
    for count in range(1, 333, 7):
        np.testing.assert_allclose(logits_of(model, x[:count]), whole[:count], rtol=1e-5, atol=1e-6)
    assert sorted(traced) == [2, 8, 32, 128]


def test_a_network_of_one_batch_size_is_asked_of_that(jax):
    model = model_of((lambda p, x: apply(p, x.reshape(12, 108)), params()))
    np.testing.assert_allclose(logits_of(model), scores(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits_of(model), scores(), rtol=1e-5, atol=1e-6)


def test_the_footprint_is_what_the_gradient_keeps_of_an_image(jax):
    """Of x W → tanh → V: the 8 hidden values, and the 4 logits, in float32, at least."""
    found = model_of((apply, params())).footprint(X[:2])
    assert 4 * (8 + 4) <= found <= 4 * (108 + 4 * 8 + 4)


# Devices


def test_devices(jax):
    model = model_of((apply, params()), Wrapping(device="cpu"))
    assert model.about().device == "cpu"
    for name, said in [("cuda:7", "cuda:7 is not here; there is cpu"), ("mps", "PyTorch's"),
                       ("gpu", "gpu is none of cpu, cuda, cuda:N, tpu")]:  # fmt: skip
        with pytest.raises(HarnessError, match=said):
            model_of((apply, params()), Wrapping(device=name))


def test_the_second_of_two_devices(jax):
    script = (
        "import numpy as np, harness, jax\n"
        "net = (lambda p, x: x.reshape(len(x), -1) @ p, np.ones((4, 2), np.float32))\n"
        "model = harness.wrap(net, device='cpu:1')\n"
        "assert model.about().device == 'cpu:1', model.about()\n"
        "assert model.held.devices() == {jax.devices()[1]}\n"
        "model.logits(np.ones((3, 2, 2), np.float32))\n"
    )
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", script], check=True, env=_environment(flags))


def _environment(more):
    import os

    return {**os.environ, **more}


# What is missing


def test_an_old_python_is_told_what_jax_needs(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 12, "final", 0))
    assert registry.missing("jax") == (
        "backend jax: needs Python 3.11 or newer, and this is 3.10; in an environment of that, "
        "pip install 'robustness-harness[jax]'"
    )


def test_without_jax_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(registry, "_installed", lambda package: False)
    monkeypatch.setattr(sys, "version_info", (3, 11, 0, "final", 0))
    assert registry.missing("jax") == (
        "backend jax: jax not installed; pip install 'robustness-harness[jax]'"
    )
    registry.backend.cache_clear()
    with pytest.raises(BackendError, match=r"pip install 'robustness-harness\[jax\]'"):
        harness.wrap((apply, {}))
    registry.backend.cache_clear()
