import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multibodies_jax.models import flow

SMALL = flow.Flow(layers=4, width=8, dropout=0.3, size=5)
small_log_prob = jax.jit(SMALL.apply)


def random_variables(model, seed=0):
    """Parameters and statistics of ordinary size: at the start every coupling is the identity, which hides mistakes."""
    variables = model.init(jax.random.key(seed), jnp.zeros((1, model.size)))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32), variables["params"])
    mean, std = rng.normal(size=model.size), rng.uniform(0.5, 2, model.size)
    stats = {"mean": jnp.asarray(mean, jnp.float32), "std": jnp.asarray(std, jnp.float32)}
    return {**variables, "params": params, "stats": stats}


def random_points(seed, num, size):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(num, size)), jnp.float32)


class Authors:
    """The flow as the authors compute it, coupling by coupling in float64."""

    def __init__(self, variables):
        self.params = jax.tree.map(np.float64, variables["params"]["couplings"])
        self.masks = np.array(variables["masks"]["couplings"], np.float64)
        self.mean, self.std = (np.array(variables["stats"][k], np.float64) for k in ("mean", "std"))

    def log_prob(self, X):
        z, log_det = (np.array(X, np.float64) - self.mean) / self.std, -np.sum(np.log(self.std))
        for i in reversed(range(len(self.masks))):
            u = self.masks[i] * z
            s, t = self.scale_and_shift(i, u)
            z = u + (1 - self.masks[i]) * (z - t) * np.exp(-s)
            log_det = log_det - s.sum(axis=-1)
        return log_det - 0.5 * np.sum(z**2, axis=-1) - 0.5 * z.shape[-1] * np.log(2 * np.pi)

    def sample(self, z):
        x = np.array(z, np.float64)
        for i in range(len(self.masks)):
            u = self.masks[i] * x
            s, t = self.scale_and_shift(i, u)
            x = u + (1 - self.masks[i]) * (x * np.exp(s) + t)
        return x * self.std + self.mean

    def scale_and_shift(self, i, u):
        return tuple(x * (1 - self.masks[i]) for x in (np.tanh(self.mlp("scale", i, u)), self.mlp("shift", i, u)))

    def mlp(self, name, layer, x):
        for k in range(3):
            weights = self.params[f"{name}_{k}"]
            x = x @ weights["kernel"][layer] + weights["bias"][layer]
            if k < 2:
                x = np.where(x > 0, x, 0.01 * x)
        return x


class TorchAuthors(Authors):
    """The same with PyTorch's layers in evaluation, where dropout is off."""

    def mlp(self, name, layer, x):
        torch = pytest.importorskip("torch")
        layers = []
        for k in range(3):
            weights = self.params[f"{name}_{k}"]
            linear = torch.nn.Linear(*weights["kernel"][layer].shape, dtype=torch.float64)
            linear.weight.data = torch.tensor(weights["kernel"][layer].T)
            linear.bias.data = torch.tensor(weights["bias"][layer])
            layers += [linear, torch.nn.Dropout(0.2), torch.nn.LeakyReLU()]
        with torch.no_grad():
            return torch.nn.Sequential(*layers[:-2]).eval()(torch.tensor(x)).numpy()


@pytest.mark.slow
def test_log_prob_equals_the_authors_form():
    variables, X = random_variables(SMALL), random_points(1, 6, 5)
    np.testing.assert_allclose(small_log_prob(variables, X), Authors(variables).log_prob(X), rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def full_size():
    """The released flow's sizes, without standardisation: variables, base points and what they become, X and log p."""
    model = flow.Flow()
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 72)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s.shape) / np.sqrt(s.shape[-2]), jnp.float32), shapes["params"]
    )
    masks = {"couplings": jnp.asarray(rng.random((20, 72)) < 0.5)}
    variables = {"params": params, "masks": masks, "stats": {"mean": jnp.zeros(72), "std": jnp.ones(72)}}
    z, X = random_points(1, 4, 72), 0.3 * random_points(2, 4, 72)
    samples = jax.jit(jax.vmap(lambda z: model.bind(variables).distribution(None).bijector.forward(z)))(z)
    return variables, z, samples, X, jax.jit(model.apply)(variables, X)


@pytest.mark.slow
@pytest.mark.parametrize("authors", [Authors, TorchAuthors])
def test_density_and_samples_equal_the_authors_at_full_size(full_size, authors):
    variables, z, samples, X, log_prob = full_size
    expected = authors(variables).sample(z)
    np.testing.assert_allclose(samples, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(log_prob, authors(variables).log_prob(X), rtol=1e-4)


@pytest.mark.slow
def test_any_leading_axes():
    variables, X = random_variables(SMALL), random_points(2, 6, 5)
    flat = small_log_prob(variables, X)
    np.testing.assert_allclose(small_log_prob(variables, X.reshape(2, 3, 5)), flat.reshape(2, 3), atol=1e-4)
    np.testing.assert_allclose(small_log_prob(variables, X[0]), flat[0], atol=1e-4)


def bijector(variables):
    return SMALL.bind(variables).distribution(None).bijector


@pytest.mark.slow
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31 - 1))
def test_log_det_equals_autodiff_and_the_inverse_undoes(seed):
    variables, z = random_variables(SMALL, seed % 7), random_points(seed, 1, 5)[0]

    @jax.jit
    def both_ways(variables, z):
        x, log_det = bijector(variables).forward_and_log_det(z)
        back, inverse_log_det = bijector(variables).inverse_and_log_det(x)
        return x, log_det, back, inverse_log_det, jax.jacfwd(bijector(variables).forward)(z)

    _, log_det, back, inverse_log_det, jacobian = both_ways(variables, z)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(np.float64(jacobian))[1], atol=1e-3)
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-3)
    np.testing.assert_allclose(back, z, atol=1e-3)


@pytest.mark.slow
def test_density_integrates_to_one():
    model = flow.Flow(layers=4, width=8, size=2)
    variables = random_variables(model)
    samples = np.asarray(model.apply(variables, jax.random.key(0), 2000, method="sample"))
    center, side = samples.mean(axis=0), 2.2 * np.abs(samples - samples.mean(axis=0)).max()
    axis = np.linspace(-0.5, 0.5, 500) * side
    grid = np.stack(np.meshgrid(axis + center[0], axis + center[1]), axis=-1).reshape(-1, 2)
    density = np.exp(np.float64(jax.jit(model.apply)(variables, jnp.asarray(grid, jnp.float32))))
    np.testing.assert_allclose(density.sum() * (axis[1] - axis[0]) ** 2, 1.0, atol=0.02)


@pytest.mark.slow
def test_samples_have_the_density():
    """The mean of an indicator under samples and under the density agree: sampling is the inverse of scoring."""
    variables = random_variables(SMALL)
    samples = jnp.asarray(SMALL.apply(variables, jax.random.key(3), 4000, method="sample"))
    assert samples.shape == (4000, 5)
    base = jax.vmap(bijector(variables).inverse)(samples)
    np.testing.assert_allclose(base.mean(axis=0), 0.0, atol=0.08)
    np.testing.assert_allclose(np.cov(np.asarray(base).T), np.eye(5), atol=0.12)


def moons(num, seed):
    rng = np.random.default_rng(seed)
    angle, upper = rng.uniform(0, np.pi, num), rng.integers(0, 2, num)
    points = np.stack([np.cos(angle) + upper - 0.5, np.sin(angle) * (1 - 2 * upper) + 0.25 * (2 * upper - 1)], axis=1)
    return jnp.asarray(0.01 * (points + 0.08 * rng.normal(size=points.shape)) + 3.0, jnp.float32)


@pytest.mark.slow
def test_training_learns_moons_and_leaves_masks_and_statistics_alone():
    data, held_out = moons(2000, 0), moons(1000, 1)
    model = flow.Flow(layers=8, width=32, dropout=0.0, size=2)
    variables = model.init(jax.random.key(0), data[:2])
    mean, std = flow.standardization(data)
    masks = jnp.arange(16).reshape(8, 2) % 4 % 3 == 0  # Random masks of two coordinates are often trivial.
    fixed = {"masks": {"couplings": masks}, "stats": {"mean": mean, "std": std}}
    optimizer = optax.adam(3e-3)

    def loss(params, x):
        log_prob = model.apply({"params": params, **fixed}, x, train=True, rngs={"dropout": jax.random.key(0)})
        return -jnp.mean(jnp.asarray(log_prob))

    def step(carry, key):
        params, opt_state = carry
        x = data[jax.random.randint(key, (128,), 0, len(data))]
        updates, opt_state = optimizer.update(jax.grad(loss)(params, x), opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    @jax.jit
    def train(params):
        keys = jax.random.split(jax.random.key(1), 400)
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

    before, after = loss(variables["params"], held_out), loss(train(variables["params"]), held_out)
    covariance = np.cov(np.asarray(data).T)
    gaussian = 0.5 * (2 + 2 * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1])
    assert before == pytest.approx(gaussian, abs=0.2)  # Starts as a Gaussian of the data's spread.
    assert after < gaussian - 0.5
    dropped = {"dropout": jax.random.key(0)}
    _, left = model.apply({**variables, **fixed}, data[:2], True, rngs=dropped, mutable=["masks", "stats"])
    jax.tree.map(np.testing.assert_array_equal, dict(left), fixed)


@pytest.mark.slow
def test_masks_are_drawn_once_per_seed_and_fair():
    model = flow.Flow(layers=20, width=4)
    first, again, other = (
        np.asarray(model.init(jax.random.key(seed), jnp.zeros((1, 72)))["masks"]["couplings"]) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (20, 72)
    assert 0.45 < first.mean() < 0.55
    assert len(np.unique(first, axis=0)) == 20


@pytest.mark.slow
def test_dropout_is_off_unless_training_and_differs_among_examples():
    variables, X = random_variables(SMALL), jnp.tile(random_points(4, 1, 5), (8, 1))
    still = small_log_prob(variables, X)
    np.testing.assert_allclose(still, still[:1].repeat(8), atol=1e-5)
    moving = SMALL.apply(variables, X, True, rngs={"dropout": jax.random.key(0)})
    assert len(np.unique(np.asarray(moving))) == 8


@pytest.mark.slow
def test_dropout_differs_among_layers():
    """Two equal couplings stretch by the square of one, unless they drop different units."""
    params = jax.tree.map(lambda x: 0.4 * x[:1], random_variables(SMALL)["params"]["couplings"])
    mask, x = jnp.array([[True, True, True, False, False]]), random_points(6, 1, 5)[0]

    def log_det(layers, key):
        stacked, masks = jax.tree.map(lambda leaf: leaf.repeat(layers, axis=0), (params, mask))
        couplings = flow.Couplings(flow.Conditioner(8, 0.3), stacked, masks, key)
        return float(couplings.forward_and_log_det(x)[1])

    assert log_det(2, None) == pytest.approx(2 * log_det(1, None), abs=1e-5)
    key = jax.random.key(0)
    assert abs(log_det(2, key) - 2 * log_det(1, key)) > 1e-3


@pytest.mark.slow
def test_scale_is_bounded():
    variables = random_variables(SMALL)
    params = jax.tree.map(lambda x: 100 * x[0], variables["params"]["couplings"])
    conditioner = flow.Conditioner(8, 0.0)
    log_scale, _ = conditioner.apply({"params": params}, random_points(5, 1, 5)[0])
    assert np.abs(log_scale).max() <= 1.0


def test_standardization_keeps_still_coordinates_finite():
    X = np.random.default_rng(0).normal(2.0, 0.1, (500, 3))
    X[:, 2] = 0.0
    mean, std = flow.standardization(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(mean, X.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(std[:2], X.std(axis=0)[:2], rtol=1e-4)
    assert std[2] == pytest.approx(1e-3)


@pytest.mark.slow
def test_joints_that_were_not_flattened_are_refused():
    model = flow.Flow(layers=2, width=4)
    with pytest.raises(ValueError, match="72 coordinates, got an X of shape"):
        model.init(jax.random.key(0), jnp.zeros((2, 24, 3)))
