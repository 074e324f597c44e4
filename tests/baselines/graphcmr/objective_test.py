"""GraphCMR's losses against loops in float64, with what an example lacks left out, and the two places without a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.baselines.graphcmr import objective
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.losses import total
from multibodies_jax.training import train_step
from tests.helpers import batches, random_body, sphere_body, tiny

B, STRIDE = 4, 3
WEIGHTS = {"best": 2.0, "pose": 3.0, "betas": 0.1, "vertices": 5.0, "reprojection_best": 7.0, "camera": 0.5}
BODIES = sphere_body.bodies()


def _objective():
    config = tiny.config(model__name="graphcmr", loss__vertex_stride=STRIDE).unlock()
    for name, weight in WEIGHTS.items():
        config.loss[name] = weight
    return train_step.make_objective(config, train_step.setup.loss_bodies(config, BODIES), False)


@pytest.fixture(scope="module")
def problem():
    """Hypotheses with vertices, and a batch whose example 0 has everything, 1 no SMPL, 2 no 3D joints, 3 neither."""
    rng = np.random.default_rng(0)
    rotmats, betas = random_body.poses(1, (B, 1))
    true_rotmats, true_betas = random_body.poses(2, (B,))
    six = rotmats[..., :2].reshape(B, 1, 144)
    cam = jnp.asarray(rng.uniform(0.5, 1, (B, 1, 3)), jnp.float32)
    vertices = jnp.asarray(0.4 * rng.normal(size=(B, 1, 162, 3)), jnp.float32)
    hyps = hypotheses.decode(jnp.concatenate([six, betas, cam], axis=-1), BODIES.j24, vertices)
    joints = 0.3 * rng.normal(size=(B, 24, 3))
    rows = {
        "kp2d": 0.5 * rng.normal(size=(B, 24, 2)),
        "kp2d_valid": (rng.random((B, 24)) < 0.8) * rng.uniform(0.3, 1, (B, 24)),
        "joints3d": joints - joints[:, 2:4].mean(axis=1, keepdims=True),
        "joints3d_valid": rng.uniform(0.3, 1, (B, 24)) * np.array([1, 1, 0, 0])[:, None],
        "rotmats": true_rotmats,
        "betas": true_betas,
        "smpl_valid": np.array([1.0, 0, 1, 0]),
    }
    return hyps, batches.batch(**{name: jnp.asarray(value, jnp.float32) for name, value in rows.items()})


def _expected(hyps, batch):
    """Every term by loops, the mean over the batch."""
    from multibodies_jax.body import smpl

    t = jax.tree.map(lambda x: np.asarray(x, np.float64), batch.target)
    regressor = BODIES.files.j24_regressor.astype(np.float64)
    meshes = {
        "": np.asarray(smpl.mesh(BODIES.smpl, hyps.rotmats[:, 0], hyps.betas[:, 0]), np.float64),
        "mesh_": np.asarray(hyps.vertices[:, 0], np.float64),
    }
    true = np.asarray(smpl.mesh(BODIES.smpl, batch.target.rotmats, batch.target.betas), np.float64)
    cam = np.asarray(hyps.cam[:, 0], np.float64)
    values = {}
    for prefix, mesh in meshes.items():
        vertices, best, reprojection = [], [], []
        for b in range(B):
            joints = regressor @ mesh[b]
            if t.smpl_valid[b]:
                vertices.append(np.abs(mesh[b, ::STRIDE] - true[b, ::STRIDE]).mean())
            if t.joints3d_valid[b].any():
                off = joints - joints[2:4].mean(axis=0) - t.joints3d[b]
                best.append((t.joints3d_valid[b][:, None] * off**2).mean())
            projected = cam[b, 0] * (joints[:, :2] + cam[b, 1:])
            reprojection.append((t.kp2d_valid[b][:, None] * (projected - t.kp2d[b]) ** 2).mean())
        found = {"vertices": vertices, "best": best, "reprojection_best": reprojection}
        values |= {prefix + name: np.mean(value) for name, value in found.items()}
    own = [b for b in range(B) if t.smpl_valid[b]]
    rotmats, betas = np.asarray(hyps.rotmats[:, 0]), np.asarray(hyps.betas[:, 0])
    values["pose"] = np.mean([((rotmats[b] - t.rotmats[b]) ** 2).mean() for b in own])
    values["betas"] = np.mean([((betas[b] - t.betas[b]) ** 2).mean() for b in own])
    values["camera"] = np.mean(np.exp(-10 * cam[:, 0]) ** 2)
    return values


@pytest.mark.slow
def test_every_term_is_that_of_a_loop_and_the_loss_their_weighted_sum(problem):
    loss, values, best = jax.jit(_objective())(*problem)
    expected = _expected(*problem)
    assert values.keys() == expected.keys() and best.tolist() == [0] * B
    for name, value in expected.items():
        np.testing.assert_allclose(np.mean(values[name]), value, rtol=1e-4, err_msg=name)
    total_of_terms = sum(WEIGHTS[name.removeprefix("mesh_")] * value for name, value in expected.items())
    np.testing.assert_allclose(np.mean(loss), total_of_terms, rtol=1e-4)


@pytest.mark.slow
def test_what_is_not_annotated_may_hold_anything(problem):
    hyps, batch = problem
    t = batch.target
    nan = lambda values, valid: jnp.where(valid > 0, values, jnp.nan)  # noqa: E731
    hidden = t.replace(
        kp2d=nan(t.kp2d, t.kp2d_valid[..., None]),
        joints3d=nan(t.joints3d, t.joints3d_valid[..., None]),
        rotmats=nan(t.rotmats, t.smpl_valid[:, None, None, None]),
        betas=nan(t.betas, t.smpl_valid[:, None]),
    )
    run = _objective()

    def of(vertices, cam):
        return jnp.mean(run(hyps.replace(vertices=vertices, cam=cam), batch.replace(target=hidden))[0])

    gradients = jax.jit(jax.grad(of, argnums=(0, 1)))(hyps.vertices, hyps.cam)
    assert all(np.isfinite(leaf).all() for leaf in gradients)


def test_the_reprojection_of_the_body_moves_no_camera_and_that_of_the_mesh_does(problem):
    hyps, batch = problem
    run = _objective()

    def of(cam, name):
        return jnp.sum(run(hyps.replace(cam=cam), batch)[1][name])

    gradient = jax.jit(jax.grad(of), static_argnums=1)
    assert not np.any(gradient(hyps.cam, "reprojection_best")) and np.any(gradient(hyps.cam, "mesh_reprojection_best"))


@pytest.mark.slow
def test_a_batch_without_any_annotation_costs_only_the_camera(problem):
    hyps, _ = problem
    loss, values, _ = _objective()(hyps, batches.batch(betas=jnp.full((B, 10), jnp.nan)))
    np.testing.assert_allclose(loss, WEIGHTS["camera"] * values["camera"])


def test_other_networks_and_weights_that_have_no_meaning_are_refused(problem):
    hyps, batch = problem
    with pytest.raises(ValueError, match=r"use it with model\.name='graphcmr'"):
        _objective()(hyps.replace(vertices=None), batch)
    settings = train_step.objective.Settings(
        weights=dict.fromkeys(total.TERMS, 1.0), vertices=lambda rotmats, betas: betas
    )
    with pytest.raises(ValueError, match=r"set loss\.reprojection_all to 0"):
        objective.graphcmr(settings)
    settings = train_step.objective.Settings(
        weights=dict.fromkeys(total.TERMS, 0.0) | {"vertices": 1.0}, vertices=lambda rotmats, betas: betas
    )
    with pytest.raises(ValueError, match="needs the functions vertices, midhip, of_mesh"):
        objective.graphcmr(settings)(hyps, batch)
