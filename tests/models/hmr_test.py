import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import hmr, hmr_preactivated
from multibodies_jax.models.keypoint_trunk import KeypointTrunk
from tests.helpers import batches

RNG = np.random.default_rng(0)
MEAN = tuple(RNG.normal(size=157).tolist())
FEATURES, HIDDEN = 6, 8


def head(M, kind=hmr.IterativeHead, **fields):
    return kind(hmr.HeadSettings(MEAN, M, hidden=HIDDEN, **fields))


def random_params(module, batch, seed=0):
    """Parameters of ordinary size everywhere: the small initial ones would hide a wrong feedback."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), batch)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(0.1 * rng.normal(size=s.shape), jnp.float32), shapes)


def reference(params, feature, M, iterations, activation):
    """HMR as it is usually written: feed the feature and the whole state back, add the correction."""
    params = jax.tree.map(np.float64, params)
    act = {"none": lambda x: x, "relu": lambda x: np.maximum(x, 0)}[activation]
    out = []
    for f in np.array(feature, np.float64):
        state = np.tile(np.array(MEAN, np.float64), M)
        for _ in range(iterations):
            x = np.concatenate([f, state / M])
            for layer in ("fc1", "fc2"):
                x = act(x @ params[layer]["kernel"] + params[layer]["bias"])
            state = state + x @ params["dec"]["kernel"] + params["dec"]["bias"]
        out.append(state.reshape(M, 157))
    return np.stack(out)


@pytest.mark.parametrize("batch", [1, 3])  # Below and above a quarter of the hidden width: both orders of products.
@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("M", [1, 3])
@pytest.mark.parametrize("kind", [hmr.IterativeHead, hmr_preactivated.PreactivatedHead])
def test_head_equals_the_plain_iteration(batch, activation, M, kind):
    feature = jnp.asarray(RNG.normal(size=(batch, FEATURES)), jnp.float32)
    module = head(M, kind, activation=activation)
    params = random_params(module, feature)
    got = jax.jit(module.apply)({"params": params}, feature)
    expected = reference(params, feature, M, 3, activation)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_a_step_of_adam_moves_the_feedback_alike_for_every_M():
    """Adam's first step is lr x sign(gradient), whatever M is; many nearly equal states must not add it up."""
    feature = jnp.asarray(RNG.normal(size=(4, FEATURES)), jnp.float32)
    single = random_params(head(1), feature)
    moved = {}
    for M in (1, 50):
        module = head(M, init_noise=0.0)
        params = hmr.expand_to_hypotheses({"trunk": {}, "head": single}, M, 0.0, jax.random.key(0))["head"]

        def output(params, module=module):
            return jnp.asarray(module.apply({"params": params}, feature))

        gradient = jax.grad(lambda p: jnp.sum(output(p) ** 2))(params)
        kernel = params["fc1"]["kernel"]
        stepped = kernel.at[FEATURES:].add(-1e-3 * jnp.sign(gradient["fc1"]["kernel"][FEATURES:]))
        after = output(params | {"fc1": params["fc1"] | {"kernel": stepped}})
        moved[M] = float(jnp.abs(after - output(params)).max())
    assert moved[50] < 1.5 * moved[1], moved


@pytest.mark.slow
def test_the_start_is_the_mean_body():
    feature = jnp.asarray(RNG.normal(size=(2, FEATURES)), jnp.float32)
    module = head(1)
    state = jnp.asarray(module.apply(module.init(jax.random.key(0), feature), feature))
    np.testing.assert_allclose(state[:, 0], np.tile(MEAN, (2, 1)), atol=0.1)
    assert np.abs(state[:, 0] - np.array(MEAN)[None]).max() > 1e-4  # But it depends on the evidence.
    assert np.abs(state[0] - state[1]).max() > 1e-4


@pytest.mark.slow
def test_dropout_only_in_training_and_differs_among_examples():
    feature = jnp.tile(jnp.asarray(RNG.normal(size=(1, FEATURES)), jnp.float32), (2, 1))
    module = head(2)
    variables = {"params": random_params(module, feature)}
    still = jnp.asarray(module.apply(variables, feature))
    np.testing.assert_allclose(still[0], still[1], atol=1e-5)
    moving = module.apply(variables, feature, True, rngs={"dropout": jax.random.key(0)})
    assert np.abs(moving[0] - moving[1]).max() > 1e-2
    again = module.apply(variables, feature, True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(moving, again)


def network(M, **fields):
    return hmr.HMR(KeypointTrunk(width=16, blocks=1), hmr.HeadSettings(MEAN, M, hidden=HIDDEN, **fields))


def evidence(batch=2, seed=0):
    rng = np.random.default_rng(seed)
    kp2d = jnp.asarray(rng.uniform(-1, 1, (batch, 24, 2)), jnp.float32)
    return batches.inputs(kp2d=kp2d, kp2d_input=jnp.asarray(rng.integers(0, 2, (batch, 24)), jnp.float32))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["none", "relu"])
def test_expanded_without_noise_every_hypothesis_equals_the_source(activation):
    batch = evidence()
    params = random_params(network(1), batch)
    source = jnp.asarray(network(1, activation=activation).apply({"params": params}, batch))
    expanded = hmr.expand_to_hypotheses(params, 4, 0.0, jax.random.key(0))
    got = jnp.asarray(network(4, activation=activation).apply({"params": expanded}, batch))
    assert got.shape == (2, 4, 157)
    np.testing.assert_allclose(got, np.tile(source, (1, 4, 1)), atol=1e-5 * np.abs(source).max())


@pytest.mark.slow
def test_expanded_noise_has_the_size_it_says():
    batch, M, noise = evidence(), 300, 0.2
    params = random_params(network(1), batch)
    params["head"]["dec"]["kernel"] = params["head"]["dec"]["kernel"].at[:, 144:154].multiply(5.0)
    expanded = hmr.expand_to_hypotheses(params, M, noise, jax.random.key(0))["head"]["dec"]
    source = params["head"]["dec"]
    added = np.reshape(expanded["kernel"], (HIDDEN, M, 157)) - np.asarray(source["kernel"])[:, None]
    added_bias = np.reshape(expanded["bias"], (M, 157)) - np.asarray(source["bias"])[None]
    for part, bias in ((slice(0, 144), 0.06), (slice(144, 154), 0.06), (slice(154, 157), 0.006)):
        np.testing.assert_allclose(added[..., part].std(), noise * source["kernel"][:, part].std(), rtol=0.05)
        np.testing.assert_allclose(added_bias[:, part].std(), bias, rtol=0.1)
    assert np.abs(added.mean()) < 1e-3


def test_expanding_anything_but_one_hypothesis_is_refused():
    batch = evidence()
    with pytest.raises(ValueError, match="one hypothesis"):
        hmr.expand_to_hypotheses(random_params(network(2), batch), 4, 0.1, jax.random.key(0))
    with pytest.raises(ValueError, match="missing"):
        hmr.expand_to_hypotheses({"trunk": {}}, 4, 0.1, jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("expanded", [False, True])
def test_no_hypothesis_is_dead_at_the_start(expanded):
    """The best of M is spread over the hypotheses, from scratch and from a single-hypothesis model."""
    M, batch = 10, evidence(400)
    params = jax.jit(network(1 if expanded else M).init)(jax.random.key(1), batch)["params"]
    if expanded:
        params = hmr.expand_to_hypotheses(params, M, 0.1, jax.random.key(2))
    state = np.asarray(jax.jit(network(M).apply)({"params": params}, batch))
    truth = np.array(MEAN) + 0.3 * RNG.normal(size=(400, 157))
    assert 0.05 < state[..., :154].std(axis=1).mean() < 0.2  # A few degrees: apart, and near the mean body.
    best = np.argmin(np.sum((state - truth[:, None]) ** 2, axis=2), axis=1)
    share = np.bincount(best, minlength=M) / len(best)
    assert share.min() > 0.1 / M, share
    assert np.exp(-np.sum(share * np.log(share))) > 0.7 * M, share


def test_trunk_and_head_are_named_apart():
    params = jax.eval_shape(network(2).init, jax.random.key(0), evidence())["params"]
    assert set(params) == {"trunk", "head"}
    assert params["head"]["fc1"]["kernel"].shape == (16 + 2 * 157, HIDDEN)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation": "tanh"}, "choose one of none, relu"),
        ({"mean_state": MEAN[:85]}, "157 numbers.*got 85"),
        ({"num_hypotheses": 0}, "at least 1"),
    ],
)
def test_bad_fields_say_what_is_expected(fields, message):
    with pytest.raises(ValueError, match=message):
        hmr.HeadSettings(**{"mean_state": MEAN, **fields})
