"""One step of training: what is frozen does not move, and accumulation changes nothing."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from multibodies_jax.data import virtual_views
from multibodies_jax.models import build
from multibodies_jax.training import initialization, optimizer, setup, train_step
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
    params: Any = initialization.variables(config, model, 6, None, batch.inputs, key(1))["params"]
    adam = optimizer.make_optimizer(config, train_step.trained(config, 6, params), 10, 1e-3)
    state = train_step.TrainState(jnp.zeros((), jnp.int32), params, {}, {}, adam.init(params))
    split = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
    step = train_step.make_train_step(config, model, bodies, adam, 6, lambda batch, key: batch, split)
    after, metrics = jax.jit(step)(state, batch, key(2), setup.loss_bodies(config, bodies))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, params)
    expected = build.trained(params, "loaded")
    assert moved.pop("scores")["logits"]["kernel"] and expected.pop("scores")["hidden"]["kernel"]
    assert moved == expected and moved["head"]["dec"]["kernel"]
    learned = params["head"]["dec"]["kernel"].size + sum(x.size for x in jax.tree.leaves(params["scores"]))
    assert sum(x.size for x in jax.tree.leaves(after.opt_state)) < 2.2 * learned
    assert np.isfinite(metrics["loss"]) and metrics["gradient_norm"] > 0


def test_a_running_mean_is_the_mean_of_both_and_leaves_what_does_not_change():
    values = np.random.default_rng(0).normal(size=(2, 10_000)).astype(np.float32)
    before, after = jnp.asarray(values)
    got = jax.jit(train_step.running_mean, static_argnums=2)(
        {"a": before, "b": before}, {"a": after, "b": before}, 0.99
    )
    np.testing.assert_allclose(got["a"], 0.99 * before + 0.01 * after, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got["b"], before)
    assert np.any(jnp.asarray(optax.incremental_update(before, before, 0.01)) != before)  # Two products round.


@pytest.mark.slow
def test_a_score_head_learns_and_changes_nothing_else():
    """To rounding: XLA fuses the two programs differently."""
    poses, betas = tiny.load_people(tiny.config(), "train")
    bodies = setup.load_bodies(tiny.config())
    keys = jax.random.split(key(0), 2)
    batch = virtual_views.synthesize(jnp.asarray(poses[:2]), jnp.asarray(betas[:2]), keys, bodies.j24)
    split = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
    descent, after = optax.sgd(1e-3), {}
    for scored in (True, False):
        config = tiny.config(model__scores=scored, optim__ema=0.5)
        model = setup.build_model(config, 6, bodies)
        params = initialization.variables(config, model, 6, None, batch.inputs, key(1))["params"]
        state = train_step.TrainState(jnp.zeros((), jnp.int32), params, {}, params, descent.init(params))
        step = train_step.make_train_step(config, model, bodies, descent, 6, lambda batch, key: batch, split)
        state, metrics = jax.jit(step)(state, batch, key(2), setup.loss_bodies(config, bodies))
        after[scored] = jax.device_get((state.params, state.ema, metrics))
    np.testing.assert_allclose(after[True][2].pop("loss_scores"), np.log(6), rtol=1e-6)
    for tree in after[True][:2]:
        assert tree.pop("scores")["logits"]["kernel"].any()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after[True], after[False])


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
        params = initialization.variables(config, model, 6, None, batch.inputs, key(1))["params"]
        descent = optax.sgd(1e-2)
        state = train_step.TrainState(jnp.zeros((), jnp.int32), params, {}, {}, descent.init(params))
        step = train_step.make_train_step(config, model, bodies, descent, 6, lambda batch, key: batch, split)
        arguments = state, batch, key(2), setup.loss_bodies(config, bodies)
        program = jax.jit(step).trace(*arguments)
        results.append(program.lower().compile()(*arguments))
        # XLA runs convolutions inside a loop 12 times slower on CPUs: without parts there must be none.
        assert ("scan[" in str(program.jaxpr)) == (parts > 1)
    (whole, whole_metrics), (parted, parted_metrics) = results
    np.testing.assert_allclose(parted_metrics["loss"], whole_metrics["loss"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(parted.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
