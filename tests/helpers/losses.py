"""Training losses in float64, one example after the other, and what every reading of them must fulfil."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.losses import objective
from tests.helpers import batches

WEIGHTS = {
    "best": 25.0,
    "pose": 1.0,
    "betas": 0.5,  # Large enough to be seen beside the others.
    "vertices": 2.0,
    "reprojection_best": 3.0,
    "reprojection_all": 0.7,
    "camera": 1.5,
}
B, M = 5, 5
BLEND = np.random.default_rng(7).normal(size=(11, 3, 9)) * 0.1
ANNOTATIONS = ("kp2d_valid", "kp2d_input", "joints3d_valid", "smpl_valid")


@dataclasses.dataclass(frozen=True)
class Loops:
    """The parts in which readings differ, of one hypothesis, in NumPy.

    Attributes:
      joints: (pred, target (24, 3), valid (24,)) -> error.
      keypoints: (pred, target (24, 2), valid (24,)) -> error.
      pose, betas, vertices: of the difference of two bodies.
      best_keypoints: name of the mask of the best hypothesis' 2D keypoints.
      fallback: (joints (24, 3), its 2D error, example) -> what decides without 3D joints.
    """

    joints: Callable[..., float]
    keypoints: Callable[..., float]
    pose: Callable[[np.ndarray], float]
    betas: Callable[[np.ndarray], float]
    vertices: Callable[[np.ndarray], float]
    best_keypoints: str
    fallback: Callable[[np.ndarray, float, dict[str, Any]], float]


def fake_mesh(rotmats, betas, xp: Any = jnp):
    """Eleven 'vertices' that depend on all parameters."""
    blend = xp.asarray(BLEND, rotmats.dtype)
    return xp.einsum("vai,nji->nva", blend, rotmats.reshape(*rotmats.shape[:-2], 9)) + betas[:, :3][:, None]


def smpl_joints(rotmats, betas, xp: Any = jnp):
    """Stands in for the joints of the SMPL parameters: 24 points that depend on all of them."""
    points = xp.concatenate([fake_mesh(rotmats, betas, xp)] * 3, axis=1)[:, :24]
    return 0.1 * (points - points[:, 2:4].mean(axis=1, keepdims=True))


def make(seed=0, m=M):
    """Hypotheses and a batch of examples with every kind of annotation, float64."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape)

    hyps = {
        "rotmats": normal(B, m, 24, 3, 3),
        "betas": normal(B, m, 10),
        "cam": np.concatenate([rng.uniform(0.5, 1.2, (B, m, 1)), 0.1 * normal(B, m, 2)], axis=2),
        "joints24": 0.4 * normal(B, m, 24, 3),
        "midhip": 0.1 * normal(B, m, 3),
        "log_prior": np.zeros((B, m)),
    }
    batch = {
        "kp2d": 0.5 * normal(B, 24, 2),
        "kp2d_valid": (rng.random((B, 24)) < 0.8).astype(float),
        "joints3d": 0.4 * normal(B, 24, 3),
        "joints3d_valid": (rng.random((B, 24)) < 0.8) * rng.uniform(0.3, 1, (B, 24)),  # Also confidences.
        "rotmats": normal(B, 24, 3, 3),
        "betas": normal(B, 10),
        "smpl_valid": np.array([1.0, 0.0, 1.0, 1.0, 0.0]),
    }
    batch["kp2d_input"] = batch["kp2d_valid"] * (rng.random((B, 24)) < 0.6)
    # Example 0 has everything, 1 no SMPL, 2 no 3D joints, 3 nothing but SMPL, 4 nothing but 2D keypoints.
    batch["joints3d_valid"][2:] = 0
    batch["kp2d_valid"][3] = batch["kp2d_input"][3] = 0
    return hyps, batch


def floats(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def total(hyps, batch, *, reading, **settings):
    """The objective of a reading, with the stand-ins for the body."""
    settings = {"weights": WEIGHTS, "vertices": fake_mesh, "joints": smpl_joints} | settings
    return objective.OBJECTIVES[reading](objective.Settings(**settings))(Hypotheses(**hyps), batches.batch(**batch))


def run(hyps, batch, **settings):
    """`total`, compiled, in float32."""
    return jax.jit(lambda hyps, batch: total(hyps, batch, **settings))(floats(hyps), floats(batch))


def project(joints24, midhip, cam):
    s, tx, ty = cam
    points = joints24 + midhip + np.array([tx, ty, 2 * 5000 / (224 * s)])
    return 5000 * points[:, :2] / points[:, 2:] / 112


def reference(hyps, batch, loops: Loops, mode0=True):
    """One example after the other, in float64."""
    rows, best = [], []
    for b in range(B):
        h, y = {k: v[b] for k, v in hyps.items()}, {k: v[b] for k, v in batch.items()}
        in_2d = [project(h["joints24"][m], h["midhip"][m], h["cam"][m]) for m in range(len(h["cam"]))]
        e3 = [loops.joints(x, y["joints3d"], y["joints3d_valid"]) for x in h["joints24"]]
        e2 = [loops.keypoints(x, y["kp2d"], y[loops.best_keypoints]) for x in in_2d]
        otherwise = [loops.fallback(x, e, y) for x, e in zip(h["joints24"], e2, strict=True)]
        chosen = int(np.argmin(e3 if y["joints3d_valid"].any() else otherwise))
        best.append(chosen)
        inputs = [loops.keypoints(x, y["kp2d"], y["kp2d_input"]) for x in in_2d]
        row: dict[str, Any] = {"reprojection_all": np.mean(inputs)}
        row["camera"] = np.mean(np.exp(-10 * h["cam"][:, 0]) ** 2)
        for prefix, m in (("", chosen), ("mode0_", 0))[: 2 if mode0 else 1]:
            row[prefix + "best"], row[prefix + "reprojection_best"] = e3[m], e2[m]
            meshes = [
                fake_mesh(r[None], s[None], np)[0]
                for r, s in ((h["rotmats"][m], h["betas"][m]), (y["rotmats"], y["betas"]))
            ]
            differences = {
                "pose": h["rotmats"][m] - y["rotmats"],
                "betas": h["betas"][m] - y["betas"],
                "vertices": meshes[0] - meshes[1],
            }
            for name, difference in differences.items():
                row[prefix + name] = getattr(loops, name)(difference) if y["smpl_valid"] else 0.0
        rows.append(row)
    terms = {k: np.array([row[k] for row in rows]) for k in rows[0]}
    return np.asarray(sum(WEIGHTS[k.removeprefix("mode0_")] * v for k, v in terms.items())), terms, best


def assert_sum_of_loops(reading: str, loops: Loops, mode0: bool) -> None:
    hyps, batch = make()
    loss, terms, best = run(hyps, batch, reading=reading, mode0=mode0)
    expected_loss, expected, expected_best = reference(hyps, batch, loops, mode0)
    assert list(best) == expected_best and len(set(expected_best)) > 1
    assert set(terms) == set(expected)
    for name, value in terms.items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-4, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-4)


def assert_gradient_is_the_slope(reading: str, loops: Loops) -> None:
    hyps, batch = make(1)
    rng = np.random.default_rng(2)
    as_jax = floats((hyps, batch))
    gradient = jax.jit(jax.grad(lambda hyps: total(hyps, as_jax[1], reading=reading)[0].sum()))(as_jax[0])
    for name in ("rotmats", "betas", "cam", "joints24", "midhip"):
        direction = rng.normal(size=hyps[name].shape)
        values = [
            reference(hyps | {name: hyps[name] + step * direction}, batch, loops)[0].sum() for step in (1e-5, -1e-5)
        ]
        slope = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(np.sum(np.asarray(gradient[name]) * direction), slope, rtol=2e-3, err_msg=name)


def assert_missing_may_be_nan(reading: str) -> None:
    hyps, batch = make(3)
    holes = dict(batch)
    for name, valid in (
        ("kp2d", "kp2d_valid"),
        ("joints3d", "joints3d_valid"),
        ("rotmats", "smpl_valid"),
        ("betas", "smpl_valid"),
    ):
        missing = (batch[valid] == 0).reshape(batch[valid].shape + (1,) * (batch[name].ndim - batch[valid].ndim))
        assert missing.any()
        holes[name] = np.where(missing, np.nan, batch[name])
    as_jax = floats((hyps, batch, holes))
    slope = jax.jit(jax.value_and_grad(lambda hyps, batch: total(hyps, batch, reading=reading)[0].sum()))
    whole, expected = slope(as_jax[0], as_jax[1])
    value, gradient = slope(as_jax[0], as_jax[2])
    assert value == whole and np.isfinite(value)
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)


def assert_nothing_annotated_costs_the_camera_alone(reading: str) -> None:
    hyps, batch = make(4)
    batch = batch | {k: np.zeros_like(batch[k]) for k in ANNOTATIONS}
    loss, terms, best = run(hyps, batch, reading=reading)
    np.testing.assert_allclose(loss, WEIGHTS["camera"] * terms["camera"], rtol=1e-6)
    assert list(best) == [0] * B


def assert_gradient_is_finite_at_the_target(reading: str) -> None:
    hyps, batch = make(5, m=1)
    batch = batch | {k: np.ones_like(batch[k]) for k in ANNOTATIONS}
    batch |= {"joints3d": hyps["joints24"][:, 0], "rotmats": hyps["rotmats"][:, 0], "betas": hyps["betas"][:, 0]}
    hyps["cam"][:, :, 0] = -7.0  # exp(140) would be infinite.
    as_jax = floats((hyps, batch))

    def loss(hyps):
        value, terms, _ = total(hyps, as_jax[1], reading=reading)
        return value.sum(), terms

    gradient, terms = jax.jit(jax.grad(loss, has_aux=True))(as_jax[0])
    for name in ("best", "pose", "betas", "vertices"):
        np.testing.assert_array_equal(terms[name], 0.0)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    assert (np.asarray(gradient["cam"])[..., 0] < 0).all()  # Towards a positive scale.


def assert_empty_batch_is_empty(reading: str) -> None:
    hyps, batch = make()
    loss, terms, best = run(*jax.tree.map(lambda x: x[:0], (hyps, batch)), reading=reading)
    assert loss.shape == best.shape == terms["best"].shape == (0,)
    assert float(jnp.sum(loss)) == 0.0
