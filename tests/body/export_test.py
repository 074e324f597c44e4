"""Every jitted entry point lowers for CPU, CUDA and TPU, so that nothing works on one platform only."""

import functools
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.batch import Batch, Inputs, Target
from multibodies_jax.body import smpl
from multibodies_jax.hypotheses import hypotheses, quantize
from multibodies_jax.losses import objective, total
from multibodies_jax.models import build, flow
from tests.helpers import random_body

PLATFORMS = ("cpu", "cuda", "tpu")
MEAN = np.tile([1.0, 0, 0, 1, 0, 0], 27)[:157]
BODY, _, JOINT_MODEL = random_body.make()


def assert_exports(function, *args):
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*args)
    assert exported.platforms == PLATFORMS
    return exported


def shaped(*shape, dtype=jnp.float32) -> Any:  # A shape stands for an array.
    return jax.ShapeDtypeStruct(shape, dtype)


def keys(num):
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), num))


INPUTS = Inputs(
    evidence=shaped(2, 24, 2),
    kp2d_input=shaped(2, 24),
    example_hash=shaped(2, dtype=jnp.uint32),
    image=shaped(2, 32, 32, 3, dtype=jnp.uint8),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trunk", "dtype"), [("resnet50", "bfloat16"), ("resnet_small", "float32"), ("keypoints", "float32")]
)
def test_a_training_step_of_the_model(trunk, dtype):
    model = build.build(mean_state=MEAN, trunk=trunk, dtype=dtype, crop_size=32, width=4, num_hypotheses=3, hidden=8)
    variables = jax.eval_shape(model.init, jax.random.key(0), INPUTS)

    def gradient(variables, batch, key):
        def loss(params):
            state, updated = model.apply(
                {**variables, "params": params}, batch, True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            bodies = hypotheses.decode(state, JOINT_MODEL)
            return jnp.sum(hypotheses.zero_root_joints(bodies) ** 2), updated

        return jax.grad(loss, has_aux=True)(variables["params"])

    exported = assert_exports(gradient, variables, INPUTS, jax.eval_shape(lambda: jax.random.key(0)))
    assert len(exported.out_avals) == len(jax.tree.leaves(variables))


def test_inference_and_picking():
    model = build.build(mean_state=MEAN, trunk="keypoints", num_hypotheses=3, hidden=8, width=8)
    variables = jax.eval_shape(model.init, jax.random.key(0), INPUTS)

    def infer(variables, batch, index):
        return hypotheses.pick(hypotheses.decode(jnp.asarray(model.apply(variables, batch)), JOINT_MODEL), index)

    exported = assert_exports(infer, variables, INPUTS, shaped(2, 2, dtype=jnp.int32))
    assert [aval.shape for aval in exported.out_avals][3] == (2, 2, 24, 3)


@pytest.mark.parametrize("train", [False, True])
def test_the_prior(train):
    model = flow.Flow(layers=2, width=4)
    variables = jax.eval_shape(model.init, jax.random.key(0), shaped(2, 72))

    def gradient(variables, X, key):
        def loss(params):
            return jnp.mean(jnp.asarray(model.apply({**variables, "params": params}, X, train, rngs={"dropout": key})))

        return jax.value_and_grad(loss)(variables["params"])

    assert_exports(gradient, variables, shaped(2, 3, 72), jax.eval_shape(lambda: jax.random.key(0)))


def test_sampling_the_prior():
    model = flow.Flow(layers=2, width=4)
    variables = jax.eval_shape(model.init, jax.random.key(0), shaped(2, 72))
    sample = functools.partial(model.apply, method="sample")
    exported = assert_exports(lambda v, key: sample(v, key, 5), variables, jax.eval_shape(lambda: jax.random.key(0)))
    assert exported.out_avals[0].shape == (5, 72)


@pytest.mark.slow
def test_quantization():
    cluster = functools.partial(quantize.quantize, n=2, starts=2, iterations=3)
    assert_exports(
        lambda points, weights, keys: cluster(points, weights, keys=keys), shaped(2, 5, 72), shaped(2, 5), keys(2)
    )


@pytest.mark.slow
@pytest.mark.parametrize("reading", ["paper", "released"])
def test_the_loss(reading):
    target = Target(
        kp2d=shaped(2, 24, 2),
        kp2d_valid=shaped(2, 24),
        joints3d=shaped(2, 24, 3),
        joints3d_valid=shaped(2, 24),
        rotmats=shaped(2, 24, 3, 3),
        betas=shaped(2, 10),
        smpl_valid=shaped(2),
    )
    batch = Batch(INPUTS, target, shaped(2))
    settings = objective.Settings(
        weights=dict.fromkeys(total.TERMS, 1.0),
        vertices=functools.partial(smpl.mesh, BODY),
        joints=functools.partial(smpl.joints, JOINT_MODEL),
    )
    loss_of = objective.OBJECTIVES[reading](settings)

    def gradient(state, batch):
        def loss(state):
            bodies = hypotheses.decode(state, JOINT_MODEL)
            return jnp.sum(loss_of(bodies, batch)[0])

        return jax.grad(loss)(state)

    assert_exports(gradient, shaped(2, 3, 157), batch)
