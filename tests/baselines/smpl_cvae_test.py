import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from multibodies_jax.baselines.smpl_cvae import latents, objective
from multibodies_jax.baselines.smpl_cvae import network as cvae
from multibodies_jax.models import hmr
from multibodies_jax.models.keypoint_trunk import KeypointTrunk

RNG = np.random.default_rng(0)
MEAN = tuple(RNG.normal(size=157).tolist())
FIELDS = {"trunk": KeypointTrunk(width=16, blocks=1), "mean_state": MEAN, "hidden": 8}
VERTICES, Z, M, B = 7, 3, 5, 4
BATCH = {
    "kp2d": jnp.asarray(RNG.uniform(-1, 1, (B, 24, 2)), jnp.float32),
    "kp2d_input": jnp.asarray(RNG.integers(0, 2, (B, 24)), jnp.float32),
    "example_hash": jnp.asarray([7, 2**32 - 1, 0, 7], jnp.uint32),
}
TRUTH = {
    "mesh": jnp.asarray(0.3 * RNG.normal(size=(B, VERTICES, 3)), jnp.float32),
    "smpl_valid": jnp.asarray([1.0, 0.0, 1.0, 0.0]),
}


def network(samples=M, **fields):
    return cvae.CVAE(**FIELDS | {"num_hypotheses": samples, "vertices": VERTICES, "z_size": Z, "width": 9} | fields)


SINGLE = jax.jit(hmr.HMR(**FIELDS, num_hypotheses=1).apply, static_argnames="train")
EVALUATE = jax.jit(network().apply)


def random_parameters(module):
    """Of ordinary size everywhere: the initial ones ignore z."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), BATCH)
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), shapes)


@pytest.fixture(scope="module")
def trained():
    return random_parameters(network())


@jax.jit
def train(variables, batch, latent):
    rngs = {"latent": latent, "dropout": jax.random.key(0)}
    states, changed = network().apply(variables, batch, True, rngs=rngs, mutable=["extras"])
    return states, changed["extras"]["mean"][0], changed["extras"]["log_var"][0]


def test_divergence_equals_the_integral():
    mean, log_var = np.float32([[-2.0, 0.0, 0.3], [1.5, 0.7, 0.0]]), np.float32([[-4.0, 0.0, 1.2], [0.5, -1.0, 2e-3]])

    def integral(m, v):
        q, p = scipy.stats.norm(m, math.exp(v / 2)), scipy.stats.norm()
        end = 12 * math.exp(v / 2)
        return scipy.integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), m - end, m + end, points=[m])[0]

    expected = np.vectorize(integral)(np.float64(mean), np.float64(log_var))
    np.testing.assert_allclose(
        objective.kl_divergence(jnp.asarray(mean), jnp.asarray(log_var)), expected, rtol=1e-3, atol=0
    )


def test_gradients_are_finite_and_alive_however_wild_the_encoder(trained):
    """A unit that is far out must still be drawn back."""

    @jax.jit
    @jax.value_and_grad
    def loss(encoder):
        variables = {"params": trained["params"] | {"encoder": encoder}}
        mean, log_var = network().apply(variables, TRUTH["mesh"], method="encode")
        return jnp.sum(objective.kl_divergence(mean, log_var)) + jnp.sum(jnp.sin(mean + jnp.exp(log_var / 2)))

    encoder = trained["params"]["encoder"]
    for scale in (0.0, 1e6):
        bias = jnp.concatenate([jnp.zeros(Z), jnp.asarray([-30.0, 30.0, 0.0])])
        value, gradient = loss(encoder | {"out": {"kernel": scale * encoder["out"]["kernel"], "bias": bias}})
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        if scale == 0.0:
            assert gradient["out"]["bias"][Z] < 0 < gradient["out"]["bias"][Z + 1]


@pytest.mark.parametrize(("steps", "expected"), [(4, [0.0, 0.5, 1.5, 2.0, 2.0]), (0, [2.0] * 5)])
def test_the_weight_grows_linearly_and_stays(steps, expected):
    weight = jax.jit(lambda step: objective.annealed(step, 2.0, steps))
    np.testing.assert_allclose([weight(step) for step in (0, 1, 3, 4, 90)], expected, rtol=1e-6)


def test_a_trained_hmr_drops_in_and_starts_unchanged(trained):
    source = random_parameters(hmr.HMR(**FIELDS, num_hypotheses=1))["params"]
    own = trained["params"]
    assert set(own) == {"trunk", "head", "encoder", "fuse_in", "fuse_out"}
    assert jax.tree.map(jnp.shape, {name: own[name] for name in source}) == jax.tree.map(jnp.shape, source)
    initial = jax.jit(lambda: network().init(jax.random.key(0), BATCH)["params"]["fuse_out"])()
    start = {"params": own | source | {"fuse_out": initial}}
    expected = SINGLE({"params": source}, BATCH)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(EVALUATE(start, BATCH), np.tile(expected, (1, M, 1)), atol=1e-5 * scale)
    expected = SINGLE({"params": source}, BATCH, train=True, rngs={"dropout": jax.random.key(0)})  # As in `train`.
    np.testing.assert_allclose(train(start, BATCH | TRUTH, jax.random.key(1))[0], expected, atol=1e-5 * scale)


def test_the_decoder_equals_its_equations(trained):
    """relu([f, z] W + b) V + c is added to the feature, per sample, before HMR's head."""
    feature, z = np.float32(RNG.normal(size=(2, 16))), np.float32(RNG.normal(size=(2, 3, Z)))
    params = jax.tree.map(np.asarray, trained["params"])
    single = {"params": {name: trained["params"][name] for name in ("trunk", "head")}}
    got = network().apply(trained, {"feature": jnp.asarray(feature)}, jnp.asarray(z), method="decode_with")
    for b in range(2):
        hidden = [np.concatenate([feature[b], row]) @ params["fuse_in"]["kernel"] for row in z[b]]
        hidden = np.maximum(np.stack(hidden) + params["fuse_in"]["bias"][None], 0)
        change = hidden @ params["fuse_out"]["kernel"] + params["fuse_out"]["bias"][None]
        expected = SINGLE(single, {"feature": jnp.asarray(feature[b][None] + change)})[:, 0]
        np.testing.assert_allclose(got[b], expected, atol=1e-4 * np.abs(expected).max())


def test_samples_depend_on_the_hash_alone(trained):
    """Neither on M, nor on the rest of the batch, nor on the place in it."""
    states = EVALUATE(trained, BATCH)
    assert states.shape == (B, M, 157)
    assert np.abs(np.diff(states, axis=1)).max(axis=2).min() > 1e-2  # All M differ.
    order = jnp.asarray([2, 0, 2, 2])
    some = EVALUATE(trained, {key: value[order] for key, value in BATCH.items()})
    np.testing.assert_allclose(some, states[order], atol=1e-4 * np.abs(states).max())
    hashes = jnp.arange(200, dtype=jnp.uint32).at[:B].set(BATCH["example_hash"])
    latents = np.asarray(cvae.standard_latents(hashes, 2 * M, Z))
    expected = network().apply(trained, BATCH, jnp.asarray(latents[:B, :M]), method="decode_with")
    np.testing.assert_allclose(states, expected, atol=1e-4 * np.abs(states).max())
    np.testing.assert_array_equal(latents[0], latents[3])  # The same hash.
    different = np.unique(latents.reshape(-1, Z), axis=0)
    assert len(different) == len(np.unique(hashes)) * 2 * M
    assert scipy.stats.kstest(different.ravel(), "norm").pvalue > 1e-3


def test_evaluation_does_not_see_the_truth(trained):
    lost = {"mesh": (VERTICES, 3), "joints3d": (24, 3), "rotmats": (24, 3, 3), "betas": (10,), "smpl_valid": ()}
    batch = BATCH | {name: jnp.full((B, *shape), jnp.nan) for name, shape in lost.items()}
    np.testing.assert_array_equal(EVALUATE(trained, batch), EVALUATE(trained, BATCH))


def test_training_encodes_the_truth_where_there_is_one(trained):
    key = jax.random.key(1)
    states, mean, log_var = train(trained, BATCH | TRUTH | {"mesh": TRUTH["mesh"].at[1].set(jnp.nan)}, key)
    assert states.shape == (B, 1, 157) and np.isfinite(states).all()
    known = np.array([0, 2])
    expected = network().apply(trained, TRUTH["mesh"], method="encode")
    for got, encoded in zip((mean, log_var), expected, strict=True):
        np.testing.assert_allclose(got[known], encoded[known], atol=1e-4)
        np.testing.assert_array_equal(got[1::2], 0.0)  # No truth: the divergence is 0 and z standard normal.
    other, *_ = train(trained, BATCH | TRUTH | {"mesh": TRUTH["mesh"] + 1.0}, key)
    changed = np.abs(other - states).max(axis=(1, 2))
    assert changed[known].min() > 1e-3 and changed[1::2].max() == 0
    again, *_ = train(trained, BATCH | TRUTH, jax.random.key(2))
    assert np.abs(again - states).max(axis=(1, 2)).min() > 1e-3  # z is random for all.


def test_z_in_training_has_the_distribution_of_the_encoder(trained):
    many = {name: jnp.repeat(value, 500, axis=0) for name, value in (BATCH | TRUTH).items()}

    @jax.jit
    def draw(variables):
        def spy(next_call, args, kwargs, context):
            if context.method_name != "_decode":
                return next_call(*args, **kwargs)
            seen.append(args[1])
            return jnp.zeros((len(args[1]), 1, 157))

        seen = []
        with nn.intercept_methods(spy):
            apply = network().apply
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


def test_the_gradient_reaches_everything_in_training(trained):
    batch = BATCH | TRUTH | {"mesh": TRUTH["mesh"].at[1].set(jnp.nan)}
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(jnp.square(train(v, batch, jax.random.key(0))[0]))))(trained)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path


def test_latents_that_say_nothing_have_no_information():
    prior = np.zeros((600, 4)), np.zeros((600, 4))
    assert latents.information(*prior) == {
        "kl": 0.0,
        "mutual_information": 0.0,
        "mutual_information_limit": pytest.approx(math.log(600)),
        "active_units": 0.0,
    }
    shifted = latents.information(np.full((600, 4), 2.0), np.full((600, 4), -1.0))  # Far from the prior, but all alike.
    assert shifted["kl"] > 8 and shifted["mutual_information"] < 1e-9 and shifted["active_units"] == 0


def test_latents_that_tell_all_apart_have_log_n():
    mean = np.zeros((600, 4))  # More than the rows of one block.
    mean[:, 1] = 10 * np.arange(600)
    got = latents.information(mean, np.full((600, 4), -3.0))
    assert got["mutual_information"] == pytest.approx(math.log(600)) and got["active_units"] == 1


def test_information_of_a_gaussian_channel():
    """z = x + noise with both Gaussian: log(1 + var_x / var_noise) / 2 per number; 2 of 3 numbers carry some."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(1500, 3)) * np.array([[0.8, 0.6, 0.0]])
    log_var = np.log(np.tile([[0.36, 0.64, 1.0]], (1500, 1)))  # The mixture of all is the prior: KL is the information.
    expected = 0.5 * (math.log(1 / 0.36) + math.log(1 / 0.64))
    got = latents.information(mean, log_var)
    assert got["kl"] == pytest.approx(expected, rel=0.06)
    assert got["mutual_information"] == pytest.approx(expected, rel=0.1)
    assert got["active_units"] == 2


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.full((2, 3), np.nan)])
def test_information_refuses_what_is_no_encoding(bad):
    with pytest.raises(ValueError, match="finite encodings of examples"):
        latents.information(np.zeros_like(bad), bad)


HEALTHY = {"kl": 5.0, "active_units": 6.0, "error_encoded_mm": 40.0, "error_sampled_mm": 50.0, "spread_mm": 30.0}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({}, "neither"),
        ({"kl": 0.6}, "collapsed"),
        ({"active_units": 0.0}, "collapsed"),
        ({"spread_mm": 0.9}, "collapsed"),
        ({"error_encoded_mm": 24.0}, "cheats"),
        ({"error_encoded_mm": 24.0, "spread_mm": 0.9}, "cheats"),  # Encodings so far out that samples are alike.
    ],
)
def test_the_verdict(numbers, expected):
    assert latents.verdict(**HEALTHY | numbers) == expected
    assert expected in latents.VERDICTS


@pytest.mark.parametrize("value", [math.nan, -1.0])
def test_a_verdict_needs_numbers(value):
    with pytest.raises(ValueError, match=r"finite numbers.*spread_mm"):
        latents.verdict(**HEALTHY | {"spread_mm": value})


@pytest.mark.parametrize("name", ["num_hypotheses", "vertices", "z_size", "width"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=rf"at least 1.*{name} = 0"):
        network(**{name: 0}).init(jax.random.key(0), BATCH)


def test_what_does_not_fit_the_model_is_refused(trained):
    with pytest.raises(ValueError, match="got no `mesh`"):
        train(trained, BATCH, jax.random.key(0))
    with pytest.raises(ValueError, match=r"reads 7 vertices.*got 6"):
        train(trained, BATCH | TRUTH | {"mesh": TRUTH["mesh"][:, 1:]}, jax.random.key(0))
    with pytest.raises(ValueError, match="has 3 numbers, got 2"):
        network().apply(trained, BATCH, jnp.zeros((B, 1, 2)), method="decode_with")
