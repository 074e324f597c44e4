"""The losses against loops in float64, their gradients against differences, and missing annotations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.losses import total as losses

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


def fake_mesh(rotmats, betas, xp=jnp):
    """Eleven 'vertices' that depend on all parameters."""
    blend = xp.asarray(BLEND, rotmats.dtype)
    return xp.einsum("vai,nji->nva", blend, rotmats.reshape(*rotmats.shape[:-2], 9)) + betas[:, :3][:, None]


def make(seed=0, m=M):
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


def smpl_joints(rotmats, betas, xp=jnp):
    """Stands in for the joints of the SMPL parameters: 24 points that depend on all of them."""
    points = xp.concatenate([fake_mesh(rotmats, betas, xp)] * 3, axis=1)[:, :24]
    return 0.1 * (points - points[:, 2:4].mean(axis=1, keepdims=True))


def floats(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def run(hyps, batch, **options):
    return jax.jit(functools.partial(total, **options))(floats(hyps), floats(batch))


def total(hyps, batch, weights=None, **options):
    """`losses.total` with the stand-ins."""
    options = {"vertices": fake_mesh, "smpl_joints": smpl_joints(batch["rotmats"], batch["betas"])} | options
    return losses.total(Hypotheses(**hyps), batch, WEIGHTS if weights is None else weights, **options)


def project(joints24, midhip, cam):
    s, tx, ty = cam
    points = joints24 + midhip + np.array([tx, ty, 2 * 5000 / (224 * s)])
    return 5000 * points[:, :2] / points[:, 2:] / 112


def mean_error(pred, target, valid, reading, numbers):
    """Loops over joints: a mean of norms over valid ones, or a sum of squares over a fixed count of numbers."""
    if reading == "released":
        return sum(v * ((p - t) ** 2).sum() for p, t, v in zip(pred, target, valid, strict=True) if v) / numbers
    norms = [v * np.linalg.norm(p - t) for p, t, v in zip(pred, target, valid, strict=True) if v]
    return np.sum(norms) / np.sum(valid) if norms else 0.0


def reference(hyps, batch, reading, reduce, mode0):
    """One example after the other, in float64."""
    rows, best = [], []
    for b in range(B):
        h, y = {k: v[b] for k, v in hyps.items()}, {k: v[b] for k, v in batch.items()}
        released = reading == "released"
        in_2d = [project(h["joints24"][m], h["midhip"][m], h["cam"][m]) for m in range(len(h["cam"]))]
        e3 = [mean_error(x, y["joints3d"], y["joints3d_valid"], reading, 72) for x in h["joints24"]]
        e2 = [mean_error(x, y["kp2d"], y["kp2d_input" if released else "kp2d_valid"], reading, 98) for x in in_2d]
        otherwise = e2
        if released:  # The authors: by the joints of the SMPL truth, unweighted; with neither, the first.
            truth = smpl_joints(y["rotmats"][None], y["betas"][None], np)[0]
            otherwise = [y["smpl_valid"] * np.mean((x - truth) ** 2) for x in h["joints24"]]
        chosen = int(np.argmin(e3 if y["joints3d_valid"].any() else otherwise))
        best.append(chosen)
        inputs = [mean_error(x, y["kp2d"], y["kp2d_input"], reading, 98) for x in in_2d]
        row = {"reprojection_all": np.mean(inputs) if reduce == "mean" else np.sum(inputs)}
        row["camera"] = np.mean(np.exp(-10 * h["cam"][:, 0]) ** 2)
        for prefix, m in (("", chosen), ("mode0_", 0))[: 2 if mode0 else 1]:
            row[prefix + "best"], row[prefix + "reprojection_best"] = e3[m], e2[m]
            turn, shape = h["rotmats"][m] - y["rotmats"], h["betas"][m] - y["betas"]
            mesh = [
                fake_mesh(r[None], s[None], np)[0]
                for r, s in ((h["rotmats"][m], h["betas"][m]), (y["rotmats"], y["betas"]))
            ]
            values = (
                (np.mean(turn**2), np.mean(shape**2), np.mean(np.abs(mesh[0] - mesh[1])))
                if released
                else (
                    np.mean([np.linalg.norm(d) for d in turn]),
                    np.linalg.norm(shape),
                    np.mean([np.linalg.norm(d) for d in mesh[0] - mesh[1]]),
                )
            )
            for name, value in zip(("pose", "betas", "vertices"), values, strict=True):
                row[prefix + name] = value if y["smpl_valid"] else 0.0
        rows.append(row)
    terms = {k: np.array([row[k] for row in rows]) for k in rows[0]}
    return sum(WEIGHTS[k.removeprefix("mode0_")] * v for k, v in terms.items()), terms, best


@pytest.mark.parametrize(
    ("reading", "reduce", "mode0"), [("paper", "mean", True), ("paper", "sum", False), ("released", "mean", True)]
)
def test_total_is_the_sum_of_loops(reading, reduce, mode0):
    hyps, batch = make()
    loss, terms, best = run(hyps, batch, reading=reading, reduce=reduce, mode0=mode0)
    expected_loss, expected, expected_best = reference(hyps, batch, reading, reduce, mode0)
    assert list(best) == expected_best and len(set(expected_best)) > 1
    assert set(terms) == set(expected)
    for name, value in terms.items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-4, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-4)


@pytest.mark.parametrize("reading", ["paper", "released"])
def test_gradient_is_the_slope_of_the_reference(reading):
    hyps, batch = make(1)
    rng = np.random.default_rng(2)
    as_jax = floats((hyps, batch))

    def loss(hyps):
        return total(hyps, as_jax[1], reading=reading)[0].sum()

    gradient = jax.jit(jax.grad(loss))(as_jax[0])
    for name in ("rotmats", "betas", "cam", "joints24", "midhip"):
        direction = rng.normal(size=hyps[name].shape)
        values = [
            reference(hyps | {name: hyps[name] + step * direction}, batch, reading, "mean", True)[0].sum()
            for step in (1e-5, -1e-5)
        ]
        slope = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(np.sum(np.asarray(gradient[name]) * direction), slope, rtol=2e-3, err_msg=name)


@pytest.mark.parametrize("reading", ["paper", "released"])
def test_what_is_missing_may_be_nan(reading):
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

    def loss(hyps, batch):
        return total(hyps, batch, reading=reading)[0].sum()

    as_jax = floats((hyps, batch, holes))
    slope = jax.jit(jax.value_and_grad(loss))
    whole, expected = slope(as_jax[0], as_jax[1])
    value, gradient = slope(as_jax[0], as_jax[2])
    assert value == whole and np.isfinite(value)
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)


@pytest.mark.parametrize("reading", ["paper", "released"])
def test_nothing_annotated_costs_nothing_but_the_camera(reading):
    hyps, batch = make(4)
    batch = batch | {k: np.zeros_like(batch[k]) for k in ("kp2d_valid", "kp2d_input", "joints3d_valid", "smpl_valid")}
    loss, terms, best = run(hyps, batch, reading=reading)
    np.testing.assert_allclose(loss, WEIGHTS["camera"] * terms["camera"], rtol=1e-6)
    assert list(best) == [0] * B


@pytest.mark.parametrize("reading", ["paper", "released"])
def test_gradient_is_finite_at_the_truth(reading):
    hyps, batch = make(5, m=1)
    batch = batch | {k: np.ones_like(batch[k]) for k in ("kp2d_valid", "kp2d_input", "joints3d_valid", "smpl_valid")}
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


def test_only_the_best_and_hypothesis_0_learn_in_3d():
    hyps, batch = make(6)
    weights = WEIGHTS | {"reprojection_all": 0.0, "camera": 0.0}
    as_jax = floats((hyps, batch))

    def loss(joints24):
        value, _, best = total(as_jax[0] | {"joints24": joints24}, as_jax[1], weights)
        return value.sum(), best

    gradient, best = jax.jit(jax.grad(loss, has_aux=True))(as_jax[0]["joints24"])
    moved = np.abs(gradient).sum(axis=(2, 3)) > 0
    for b in (0, 1, 2, 4):  # Example 3 has no joints and no keypoints.
        assert set(np.nonzero(moved[b])[0]) == {0, int(best[b])}


def test_evidence_and_truth_are_different_keypoints():
    hyps, batch = make(8)
    _, before, _ = run(hyps, batch)
    hidden = (batch["kp2d_valid"] > 0) & (batch["kp2d_input"] == 0)
    batch["kp2d"] = np.where(hidden[..., None], batch["kp2d"] + 1, batch["kp2d"])
    _, after, _ = run(hyps, batch)
    np.testing.assert_array_equal(before["reprojection_all"], after["reprojection_all"])
    assert (np.asarray(before["mode0_reprojection_best"] != after["mode0_reprojection_best"])[hidden.any(axis=1)]).all()
    _, released, _ = run(hyps, batch, reading="released")  # The authors' code never sees what is hidden.
    batch["kp2d"] = np.where(hidden[..., None], np.nan, batch["kp2d"])
    _, unseen, _ = run(hyps, batch, reading="released")
    np.testing.assert_array_equal(released["reprojection_best"], unseen["reprojection_best"])


def test_mesh_is_built_only_where_it_counts():
    def forbidden(rotmats, betas):
        raise AssertionError("meshed with weight 0")

    hyps, batch = make(9)
    as_jax = floats((hyps, batch))
    _, terms, _ = total(*as_jax, WEIGHTS | {"vertices": 0.0}, vertices=forbidden)
    assert "vertices" not in terms


def test_rejects_what_it_does_not_know():
    hyps, batch = make()
    as_jax = floats((hyps, batch))
    h = Hypotheses(**as_jax[0])
    with pytest.raises(ValueError, match=r"missing \['camera'\], unknown \['kamera'\]"):
        losses.total(h, as_jax[1], {k.replace("camera", "kamera"): v for k, v in WEIGHTS.items()})
    with pytest.raises(ValueError, match="no `vertices` function"):
        losses.total(h, as_jax[1], WEIGHTS)
    with pytest.raises(ValueError, match="Unknown reading 'printed'"):
        run(hyps, batch, reading="printed")
    with pytest.raises(ValueError, match="pass `smpl_joints`"):
        run(hyps, batch, reading="released", smpl_joints=None)
    with pytest.raises(ValueError, match="Unknown reduction 'max'"):
        run(hyps, batch, reduce="max")


def test_empty_batch_is_empty():
    hyps, batch = make()
    loss, terms, best = run(*jax.tree.map(lambda x: x[:0], (hyps, batch)), reading="released")
    assert loss.shape == best.shape == terms["best"].shape == (0,)
    assert float(jnp.sum(loss)) == 0.0
