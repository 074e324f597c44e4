"""One step of training: what is frozen does not move, and accumulation changes nothing."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from multibodies_jax.data import virtual_views
from multibodies_jax.models import build
from multibodies_jax.training import optimizer, setup, train_step
from tests.helpers import tiny

key = jax.random.key


@pytest.mark.slow
def test_a_step_with_everything_loaded_frozen_moves_only_what_is_larger():
    released = {"loss__reading": "released", "loss__vertex_set": "regressed", "optim__warmup": 0}
    config = tiny.config(freeze="loaded", data__sets=("synthetic_bodies/clean",), **released)
    poses, betas = tiny.load_people(config, "train")
    bodies = setup.load_bodies(config)
    keys = jax.random.split(key(0), 4)
    batch = virtual_views.synthesize(jnp.asarray(poses[:4]), jnp.asarray(betas[:4]), keys, bodies.j24)
    model = setup.build_model(config, 6, bodies)
    params: Any = model.init(key(1), batch.inputs)["params"]
    adam = optimizer.make_optimizer(config, train_step.trained(config, 6, params), 10, 1e-3)
    state = train_step.TrainState(jnp.zeros((), jnp.int32), params, {}, {}, adam.init(params))
    split = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
    step = train_step.make_train_step(config, model, bodies, adam, 6, lambda batch, key: batch, split)
    after, metrics = jax.jit(step)(state, batch, key(2), setup.loss_bodies(config, bodies))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, params)
    assert moved == build.trained(params, "loaded") and moved["head"]["dec"]["kernel"]
    assert sum(x.size for x in jax.tree.leaves(after.opt_state)) < 2.2 * params["head"]["dec"]["kernel"].size
    assert np.isfinite(metrics["loss"]) and metrics["gradient_norm"] > 0


@pytest.mark.slow
def test_gradient_accumulation_equals_the_whole_batch():
    poses, betas = tiny.load_people(tiny.config(), "train")
    bodies = setup.load_bodies(tiny.config())
    keys = jax.random.split(jax.random.key(0), 8)
    batch = virtual_views.synthesize(jnp.asarray(poses[:8]), jnp.asarray(betas[:8]), keys, bodies.j24)
    split = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
    results = []
    for parts in (1, 4):
        config = tiny.config(data__sets=("synthetic_bodies/clean",), train__accumulate=parts)
        model = setup.build_model(config, 6, bodies)
        params = model.init(jax.random.key(1), batch.inputs)["params"]
        descent = optax.sgd(1e-2)
        state = train_step.TrainState(jnp.zeros((), jnp.int32), params, {}, {}, descent.init(params))
        step = train_step.make_train_step(config, model, bodies, descent, 6, lambda batch, key: batch, split)
        step = functools.partial(step, bodies=setup.loss_bodies(config, bodies))
        results.append(jax.jit(step)(state, batch, jax.random.key(2)))
        # XLA runs convolutions inside a loop 12 times slower on CPUs: without parts there must be none.
        assert ("scan[" in str(jax.make_jaxpr(step)(state, batch, jax.random.key(2)))) == (parts > 1)
    (whole, whole_metrics), (parted, parted_metrics) = results
    np.testing.assert_allclose(parted_metrics["loss"], whole_metrics["loss"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(parted.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
