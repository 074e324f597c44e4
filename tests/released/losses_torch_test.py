"""The released losses through a tiny network, against PyTorch and its gradients, as the released code computes them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.body import smpl
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.released import losses
from tests.helpers import batches, random_body

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

# The authors' weights, the released models' where they differ from the code's; betas enough to be seen.
WEIGHTS = {"best": 25.0, "pose": 1.0, "betas": 0.1, "vertices": 1.0, "reprojection_best": 1.0, "reprojection_all": 1.0}
WEIGHTS["camera"] = 1.0
B, M, FEATURES = 5, 3, 6
BODY, REGRESSOR, JOINTS = random_body.make(3)
SUBSET = np.arange(0, 60, 4)


def batch_of_all_kinds(rng):
    """Example 0 has everything, 1 no SMPL, 2 no 3D joints, 3 neither, 4 SMPL alone; confidences and hidden keypoints."""
    turns, _ = np.linalg.qr(rng.normal(size=(B, 24, 3, 3)))
    kp2d_valid = (rng.random((B, 24)) < 0.8) * rng.uniform(0.3, 1, (B, 24))
    joints3d = 0.3 * rng.normal(size=(B, 24, 3))
    batch = {
        "kp2d": 0.5 * rng.normal(size=(B, 24, 2)),
        "kp2d_valid": kp2d_valid,
        "kp2d_input": kp2d_valid * (rng.random((B, 24)) < 0.7),
        "joints3d": joints3d - joints3d[:, 2:4].mean(axis=1, keepdims=True),
        "joints3d_valid": rng.uniform(0.3, 1, (B, 24)) * np.array([1, 1, 0, 0, 0])[:, None],
        "rotmats": turns * np.sign(np.linalg.det(turns))[..., None, None],
        "betas": rng.normal(size=(B, 10)),
        "smpl_valid": np.array([1.0, 0, 1, 0, 1]),
    }
    batch["kp2d_input"][4] = 0
    return batch


def ours(weights, feature, start, batch):
    state = (jnp.einsum("bf,fs->bs", feature, weights) + start[None]).reshape(B, M, 157)
    some = smpl.subset(BODY, SUBSET)

    def centred(rotmats, betas):
        points = smpl.joints(JOINTS, rotmats, betas)
        midhip = points[:, 2:4].mean(axis=1, keepdims=True)
        return points - midhip, smpl.mesh(some, rotmats, betas) - midhip

    loss, terms, best = losses.total_loss(
        hypotheses.decode(state, JOINTS),
        batches.batch(**batch),
        WEIGHTS,
        vertices=lambda *body: centred(*body)[1],
        joints=lambda *body: centred(*body)[0],
    )
    return loss.mean(), (loss, terms, best)


class Reference:
    """Bodies and losses as the authors' code has them, one example and hypothesis at a time, in float64."""

    def __init__(self):
        self.arrays = {k: torch.tensor(np.asarray(v)) for k, v in random_body.arrays(3).items()}
        self.regressor = torch.tensor(np.float64(REGRESSOR))

    def rotations(self, pose):
        x = pose.reshape(24, 3, 2)
        a, b = x[:, :, 0], x[:, :, 1]
        a = torch.nn.functional.normalize(a, dim=1)
        b = torch.nn.functional.normalize(b - (a * b).sum(1, keepdim=True) * a, dim=1)
        return torch.stack([a, b, torch.linalg.cross(a, b)], dim=2)

    def body(self, R, betas):
        """Joints, vertices (both minus the mid-hip) and the mid-hip."""
        a = self.arrays
        shaped = a["v_template"] + a["shapedirs"] @ betas
        rest = a["J_regressor"] @ shaped
        posed = shaped + a["posedirs"] @ (R[1:] - torch.eye(3)).reshape(-1)
        turn, place = [R[0]], [rest[0]]
        for j, parent in enumerate(random_body.PARENTS[1:], 1):
            place.append(place[parent] + turn[parent] @ (rest[j] - rest[parent]))
            turn.append(turn[parent] @ R[j])
        moved = torch.stack([(posed - rest[j]) @ turn[j].T + place[j] for j in range(24)], dim=1)
        vertices = (a["weights"][:, :, None] * moved).sum(1)
        joints = self.regressor @ vertices
        midhip = joints[2:4].mean(0)
        return joints - midhip, vertices[SUBSET] - midhip, midhip

    def keypoints(self, joints, midhip, cam, y):
        t = torch.stack([cam[1], cam[2], 2 * 5000 / (224 * cam[0] + 1e-9)])
        p = joints + midhip + t
        error = y["kp2d_input"][:, None] * (5000 * p[:, :2] / p[:, 2:] / 112 - y["kp2d"]) ** 2
        return torch.cat([torch.zeros(25, 2), error]).mean()  # OpenPose's 25 have the weight 0.

    def example(self, states, y):
        has_smpl, has_joints = bool(y["smpl_valid"]), bool(y["joints3d_valid"].any())
        bodies = [(self.rotations(s[:144]), s[144:154], s[154:]) for s in states]
        built = [self.body(R, betas) for R, betas, _ in bodies]
        truth = self.body(y["rotmats"], y["betas"])
        by_joints = [(y["joints3d_valid"][:, None] * (j - y["joints3d"]) ** 2).mean() for j, _, _ in built]
        by_smpl = [((j - truth[0]) ** 2).mean() if has_smpl else torch.tensor(0.0) for j, _, _ in built]
        best = int(torch.stack(by_joints if has_joints else by_smpl).argmin())
        in_2d = [self.keypoints(j, o, b[2], y) for (j, _, o), b in zip(built, bodies, strict=True)]
        terms = {"reprojection_all": sum(in_2d) / M}
        terms["camera"] = torch.stack([torch.exp(-10 * b[2][0]) ** 2 for b in bodies]).mean()
        for prefix, m in (("", best), ("mode0_", 0)):
            zero = torch.tensor(0.0)
            terms[prefix + "best"] = by_joints[m] if has_joints else zero
            terms[prefix + "reprojection_best"] = in_2d[m]
            terms[prefix + "pose"] = ((bodies[m][0] - y["rotmats"]) ** 2).mean() if has_smpl else zero
            terms[prefix + "betas"] = ((bodies[m][1] - y["betas"]) ** 2).mean() if has_smpl else zero
            terms[prefix + "vertices"] = (built[m][1] - truth[1]).abs().mean() if has_smpl else zero
        return terms, best


@pytest.mark.slow
def test_every_term_and_the_gradient_equal_pytorch():
    rng = np.random.default_rng(0)
    batch, feature = batch_of_all_kinds(rng), rng.normal(size=(B, FEATURES))
    weights = 0.1 * rng.normal(size=(FEATURES, M * 157))
    start = np.tile(np.concatenate([np.tile([1, 0, 0, 1, 0, 0], 24), np.zeros(10), [0.5, 0, 0]]), M)
    start = start + 0.2 * rng.normal(size=start.shape)
    start.reshape(M, 157)[:, 154] = (0.9, 0.4, 0.1)

    arguments = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (weights, feature, start, batch))
    (_, (loss, terms, best)), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(*arguments)

    reference, w = Reference(), torch.tensor(weights, requires_grad=True)
    states = (torch.tensor(feature) @ w + torch.tensor(start)).reshape(B, M, 157)
    rows: list[Any] = [
        reference.example(states[b], {k: torch.tensor(v[b]) for k, v in batch.items()}) for b in range(B)
    ]
    totals: list[Any] = [sum(WEIGHTS[k.removeprefix("mode0_")] * v for k, v in terms.items()) for terms, _ in rows]
    torch.stack(totals).mean().backward()

    assert list(best) == [best for _, best in rows] and len({best for _, best in rows}) > 1 and best[3] == 0
    assert set(terms) == set(rows[0][0])
    for name, value in terms.items():
        expected = [float(row[name].detach()) for row, _ in rows]
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(loss, [float(t.detach()) for t in totals], rtol=1e-4)
    assert w.grad is not None
    np.testing.assert_allclose(gradient, w.grad.numpy(), atol=1e-3 * float(w.grad.abs().max()))
    assert np.abs(np.asarray(gradient)).max() > 1e-2
