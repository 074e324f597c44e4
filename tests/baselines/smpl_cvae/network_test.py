"""SMPL-CVAE against its equations, HMR, and the distribution of its encoder."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from multibodies_jax.baselines.smpl_cvae import network
from tests.helpers import batches, small_cvae
from tests.helpers.small_cvae import INPUTS, RNG, TRAINING, VERTICES, B, M, Z


@pytest.mark.slow
def test_a_trained_hmr_drops_in_and_starts_unchanged(trained):
    source = small_cvae.random_parameters(small_cvae.hmr_of_one)["params"]
    own = trained["params"]
    assert set(own) == {"trunk", "head", "encoder", "fuse_in", "fuse_out"}
    assert jax.tree.map(jnp.shape, {name: own[name] for name in source}) == jax.tree.map(jnp.shape, source)
    initial = jax.jit(lambda: small_cvae.build().init(jax.random.key(0), INPUTS)["params"]["fuse_out"])()
    start = {"params": own | source | {"fuse_out": initial}}
    expected = small_cvae.single({"params": source}, INPUTS)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(small_cvae.evaluate(start, INPUTS), np.tile(expected, (1, M, 1)), atol=1e-5 * scale)
    expected = small_cvae.single(
        {"params": source}, INPUTS, train=True, rngs={"dropout": jax.random.key(0)}
    )  # As in `train`.
    np.testing.assert_allclose(small_cvae.train(start, TRAINING, jax.random.key(1))[0], expected, atol=1e-5 * scale)


@pytest.mark.slow
def test_the_decoder_equals_its_equations(trained):
    """relu([f, z] W + b) V + c is added to the feature, per sample, before HMR's head."""
    feature, z = RNG.normal(size=(2, 16)).astype(np.float32), RNG.normal(size=(2, 3, Z)).astype(np.float32)
    params = jax.tree.map(np.asarray, trained["params"])
    single = {"params": {name: trained["params"][name] for name in ("trunk", "head")}}
    got: Any = small_cvae.build().apply(
        trained, batches.inputs(feature=jnp.asarray(feature)), jnp.asarray(z), method="decode_with"
    )
    for b in range(2):
        hidden = [np.concatenate([feature[b], row]) @ params["fuse_in"]["kernel"] for row in z[b]]
        hidden = np.maximum(np.stack(hidden) + params["fuse_in"]["bias"][None], 0)
        change = hidden @ params["fuse_out"]["kernel"] + params["fuse_out"]["bias"][None]
        expected = small_cvae.single(single, batches.inputs(feature=jnp.asarray(feature[b][None] + change)))[:, 0]
        np.testing.assert_allclose(got[b], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_samples_depend_on_the_hash_alone(trained):
    """Neither on M, nor on the rest of the batch, nor on the place in it."""
    states = small_cvae.evaluate(trained, INPUTS)
    assert states.shape == (B, M, 157)
    assert np.abs(np.diff(states, axis=1)).max(axis=2).min() > 1e-2  # All M differ.
    order = jnp.asarray([2, 0, 2, 2])
    some = small_cvae.evaluate(trained, jax.tree.map(lambda value: value[order], INPUTS))
    np.testing.assert_allclose(some, states[order], atol=1e-4 * np.abs(states).max())
    hashes = jnp.arange(200, dtype=jnp.uint32).at[:B].set(INPUTS.example_hash)
    latents = np.asarray(network.standard_latents(hashes, 2 * M, Z))
    expected: Any = small_cvae.build().apply(trained, INPUTS, jnp.asarray(latents[:B, :M]), method="decode_with")
    np.testing.assert_allclose(states, expected, atol=1e-4 * np.abs(states).max())
    np.testing.assert_array_equal(latents[0], latents[3])  # The same hash.
    different = np.unique(latents.reshape(-1, Z), axis=0)
    assert len(different) == len(np.unique(hashes)) * 2 * M
    assert scipy.stats.kstest(different.ravel(), "norm").pvalue > 1e-3


def test_evaluation_does_not_see_the_truth(trained):
    lost = TRAINING.replace(mesh=jnp.full((B, VERTICES, 3), jnp.nan), mesh_valid=jnp.full(B, jnp.nan))
    np.testing.assert_array_equal(small_cvae.evaluate(trained, lost), small_cvae.evaluate(trained, INPUTS))


@pytest.mark.slow
def test_training_encodes_the_truth_where_there_is_one(trained):
    key = jax.random.key(1)
    states, mean, log_var = small_cvae.train(trained, TRAINING.replace(mesh=TRAINING.mesh.at[1].set(jnp.nan)), key)
    assert states.shape == (B, 1, 157) and np.isfinite(states).all()
    known = np.array([0, 2])
    expected: Any = small_cvae.build().apply(trained, TRAINING.mesh, method="encode")
    for got, encoded in zip((mean, log_var), expected, strict=True):
        np.testing.assert_allclose(got[known], encoded[known], atol=1e-4)
        np.testing.assert_array_equal(got[1::2], 0.0)  # No truth: the divergence is 0 and z standard normal.
    other, *_ = small_cvae.train(trained, TRAINING.replace(mesh=TRAINING.mesh + 1.0), key)
    changed = np.abs(other - states).max(axis=(1, 2))
    assert changed[known].min() > 1e-3 and changed[1::2].max() == 0
    again, *_ = small_cvae.train(trained, TRAINING, jax.random.key(2))
    assert np.abs(again - states).max(axis=(1, 2)).min() > 1e-3  # z is random for all.


def test_z_in_training_has_the_distribution_of_the_encoder(trained):
    many = jax.tree.map(lambda value: jnp.repeat(value, 500, axis=0), TRAINING)

    @jax.jit
    def draw(variables):
        def spy(next_call, args, kwargs, context):
            if context.method_name != "_decode":
                return next_call(*args, **kwargs)
            seen.append(args[1])
            return jnp.zeros((len(args[1]), 1, 157))

        seen = []
        with nn.intercept_methods(spy):
            apply = small_cvae.build().apply
            _, changed = apply(variables, many, True, rngs={"latent": jax.random.key(3)}, mutable=["extras"])
        return seen[0], changed["extras"]["mean"][0], changed["extras"]["log_var"][0]

    encoder = trained["params"]["encoder"]
    bias = jnp.asarray([0.5, -0.5, 0.0, -2.0, 1.0, 2.0])  # Spreads that are not 1, so that a wrong factor shows.
    encoder = encoder | {"out": encoder["out"] | {"bias": bias}}
    z, mean, log_var = draw({"params": trained["params"] | {"encoder": encoder}})
    assert z.shape == (500 * B, 1, Z)
    standard = (z[:, 0] - mean) * np.exp(-log_var / 2)
    for example in np.split(np.asarray(standard), B):
        assert scipy.stats.kstest(example.ravel(), "norm").pvalue > 1e-3


@pytest.mark.slow
def test_the_gradient_reaches_everything_in_training(trained):
    inputs = TRAINING.replace(mesh=TRAINING.mesh.at[1].set(jnp.nan))
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(jnp.square(small_cvae.train(v, inputs, jax.random.key(0))[0]))))(
        trained
    )
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path


@pytest.mark.parametrize("name", ["vertices", "z_size", "width"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=rf"at least 1.*{name} = 0"):
        small_cvae.build(**{name: 0}).init(jax.random.key(0), INPUTS)


def test_what_does_not_fit_the_model_is_refused(trained):
    with pytest.raises(ValueError, match="needs the truth: `EncoderInputs`, got Inputs"):
        small_cvae.train(trained, INPUTS, jax.random.key(0))
    with pytest.raises(ValueError, match=r"reads 7 vertices.*got 6"):
        small_cvae.train(trained, TRAINING.replace(mesh=TRAINING.mesh[:, 1:]), jax.random.key(0))
    with pytest.raises(ValueError, match="has 3 numbers, got 2"):
        small_cvae.build().apply(trained, INPUTS, jnp.zeros((B, 1, 2)), method="decode_with")
