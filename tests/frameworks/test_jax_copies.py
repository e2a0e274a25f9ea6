"""Copies of networks of JAX: stages, float64, and one that learns; the network stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import small_jax
from backends_at_hand import at_hand
from small_jax import CLASSES, X, Y, apply, logits_of, model_of, params, scores

from harness.data.dataset import one_hot
from harness.errors import MeasurementError, NotApplicable
from harness.protocol import Batch


def copies_of(net, x=X):
    """What makes copies of a network that has seen images."""
    model = model_of(net)
    logits_of(model, x)
    return at_hand("jax").copies(model)


def held_of(model):
    """Arrays of floats by what leads to them."""
    import jax

    floats = [(path, leaf) for path, leaf in jax.tree.leaves_with_path(model.held)
              if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)]  # fmt: skip
    return {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in floats}


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_stages_go_from_the_output_to_the_input_as_the_network_computes():
    copies = copies_of((apply, params()))
    assert copies.stages() == 2
    own = held_of(copies.randomised(0, 0))
    assert changed(own, held_of(copies.randomised(1, 0))) == {"['head']['w']", "['head']['b']"}
    assert changed(own, held_of(copies.randomised(2, 0))) == set(own)


def test_random_weights_are_those_of_the_seed_and_keep_the_size_of_activations():
    copies = copies_of((apply, params()))
    first, again, other = (held_of(copies.randomised(2, seed)) for seed in (3, 3, 4))
    assert not changed(first, again)
    assert changed(first, other) == {"['head']['w']", "['stem']['w']"}
    np.testing.assert_allclose(first["['stem']['w']"].std(), (2 / (108 + 8)) ** 0.5, rtol=0.1)


def test_a_norm_goes_with_its_layer_and_loses_its_statistics():
    copies = copies_of(small_jax.nnx_net())
    assert copies.stages() == 2
    fresh = held_of(copies.randomised(2, 0))
    norm = {name: value for name, value in fresh.items() if "norm" in name}
    assert {float(v.min()) for n, v in norm.items() if "mean" in n or "bias" in n} == {0.0}
    assert {float(v.max()) for n, v in norm.items() if "var" in n or "scale" in n} == {1.0}


def test_the_copy_in_float64_is_the_same_network_without_its_rounding():
    copies = copies_of((apply, params()))
    exact = copies.float64()
    found = logits_of(exact)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, scores(), rtol=1e-12)


def test_a_network_that_sets_its_precision_has_no_copy_in_float64():
    at_hand("jax")
    import jax.numpy as jnp

    def single(held, x):
        return apply(held, x.astype(jnp.float32)).astype(x.dtype)

    with pytest.raises(NotApplicable, match="in a precision that they set themselves"):
        copies_of((single, params())).float64()


def test_a_function_without_arrays_has_no_copies():
    at_hand("jax")
    import jax

    with pytest.raises(NotApplicable, match=r"pass \(apply, params\)"):
        copies_of(jax.jit(lambda x: apply(params(), x))).stages()


@pytest.mark.parametrize("kind", ["pair", "half", "nnx", "equinox"])
def test_a_copy_learns_and_the_network_does_not(kind):
    at_hand("jax")
    import jax

    halves = jax.tree.map(lambda a: jax.numpy.asarray(a, jax.numpy.bfloat16), params())
    nets = {"pair": lambda: (apply, params()), "half": lambda: (apply, halves),
            "nnx": small_jax.nnx_net, "equinox": small_jax.equinox_net}  # fmt: skip
    images = X.transpose(0, 3, 1, 2) if kind == "equinox" else X
    copies = copies_of(nets[kind](), images)
    before = copies.randomised(0, 0)
    learner = copies.learner(0)
    batch = Batch(np.ascontiguousarray(images), one_hot(Y, CLASSES))
    steps = [learner.step(batch, 3e-2) for _ in range(60)]
    assert steps[-1].loss < 0.5 * steps[0].loss
    assert steps[-1].correct > steps[0].correct or steps[0].correct == len(Y)
    assert not changed(held_of(before), held_of(copies.randomised(0, 0)))
    with pytest.raises(MeasurementError, match="has 4 classes, and the labels are of 3"):
        learner.step(Batch(batch.x, one_hot(Y % 3, 3)), 1e-2)
