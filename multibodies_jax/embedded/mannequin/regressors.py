"""Linear regressors from vertices to joints and keypoints: sparse non-negative rows that sum to 1, mirror-symmetric."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import nnls

from multibodies_jax.body import mesh_points
from multibodies_jax.embedded.mannequin.skeleton import joint, rest_joints
from multibodies_jax.embedded.mannequin.triangles import Verts
from multibodies_jax.geometry import joints

Row = Float[np.ndarray, "V"]


def _fit_row(
    verts: Float[np.ndarray, "n 3"],
    shapedirs: Float[np.ndarray, "n 3 S"],
    target: Float[np.ndarray, "3"],
    target_dirs: Float[np.ndarray, "3 S"],
) -> Float[np.ndarray, "n"]:
    """Non-negative least squares on the position, its motion with every shape component, and a sum of 1."""
    num = len(verts)
    distance = np.linalg.norm(verts - target, axis=1)
    near = 2e-5 * (distance / distance.max()) ** 2  # A weak pull towards the joint chooses among the solutions.
    rows = [verts.T, *np.moveaxis(shapedirs, -1, 0).transpose(0, 2, 1), np.full((1, num), 10.0), near[None]]
    wanted = [target, *target_dirs.T, [10.0], [0.0]]
    row, _ = nnls(np.concatenate(rows), np.concatenate(wanted), maxiter=20 * num)
    row[row < 1e-4] = 0
    return row / row.sum()


def joint_regressor(
    verts: Verts,
    shapedirs: Float[np.ndarray, "V 3 S"],
    joint_dirs: Float[np.ndarray, "24 3 S"],
    mirror_map: Int[np.ndarray, "V"],
    candidates: int = 260,
) -> Float[np.ndarray, "24 V"]:
    """Regresses the 24 rest joints, in all shapes, from the nearest vertices.

    Args:
      verts: the template, floor at y = 0.
      shapedirs, joint_dirs: the shape space, see `shape.shape_space`.
      mirror_map: the mirror image of each vertex.
      candidates: vertices offered to each row.
    """
    regressor = np.zeros((24, len(verts)))
    for j, (name, position) in enumerate(zip(joints.SMPL24, rest_joints(), strict=True)):
        if name.startswith("right_"):
            continue
        distance = np.linalg.norm(verts - position, axis=1)
        if name.startswith("left_"):
            distance = distance + 10.0 * (verts[:, 0] < 0.005)
        chosen = np.argsort(distance, kind="stable")[:candidates]
        regressor[j, chosen] = _fit_row(verts[chosen], shapedirs[chosen], position, joint_dirs[j])
        mirrored = regressor[j][mirror_map]
        if name.startswith("left_"):
            regressor[joints.SMPL_FLIP[j]] = mirrored
        else:
            regressor[j] = 0.5 * (regressor[j] + mirrored)
    return regressor


class _Patches:
    """Averages of vertices at anatomical places of the template (floor at y = 0)."""

    def __init__(self, verts: Verts, mirror_map: np.ndarray):
        self.verts, self.mirror_map = verts, mirror_map

    def ring(self, height: float, half_height: float, half_width: float, tilt: float = 0.0) -> Row:
        """The vertices around the body at a height; `tilt` lifts the ring per metre to the front."""
        y = self.verts[:, 1] - tilt * self.verts[:, 2]
        return self._mean((np.abs(y - height) < half_height) & (np.abs(self.verts[:, 0]) < half_width))

    def near(self, position: tuple[float | int, ...], num: int) -> Row:
        """The `num` vertices nearest to a point."""
        order = np.argsort(np.linalg.norm(self.verts - np.array(position), axis=1), kind="stable")
        member = np.zeros(len(self.verts), bool)
        member[order[:num]] = True
        return self._mean(member)

    def symmetric(self, row: Row) -> Row:
        return 0.5 * (row + row[self.mirror_map])

    def _mean(self, member: Bool[np.ndarray, "V"]) -> Row:
        return member / member.sum()


def keypoint_regressors(
    verts: Verts, joint_rows: Float[np.ndarray, "24 V"], mirror_map: Int[np.ndarray, "V"]
) -> tuple[Float[np.ndarray, "17 V"], Float[np.ndarray, "9 V"]]:
    """Regressors of the points that datasets annotate, designed on the mannequin.

    Args:
      verts: the template, floor at y = 0.
      joint_rows: `joint_regressor`.
      mirror_map: the mirror image of each vertex.

    Returns:
      The rows of `joints.H36M17` and of `mesh_points.EXTRA9`. Limbs of Human3.6M are the joint centres. EXTRA9: hips as
      LSP's annotators click them, beside the joint centre towards the trochanter; the neck and the thorax at the base
      of the neck and the top of the sternum, inside the body; the spine at the height of the lowest ribs; the jaw
      (Human3.6M's neck-nose point) behind the mouth; the head top, and Human3.6M's head a little inside it.
    """
    patches = _Patches(verts, mirror_map)
    hips = 0.5 * (joint_rows[joint("left_hip")] + joint_rows[joint("right_hip")])
    crown = 0.5 * (patches.near((0, 1.70, -0.004), 12) + patches.near((0, 1.70, -0.004), 24))
    left_hip = 0.65 * joint_rows[joint("left_hip")] + 0.35 * patches.near((0.172, 0.885, -0.005), 20)
    extra = {
        "left_hip": left_hip,
        "right_hip": left_hip[mirror_map],
        "neck": patches.ring(1.435, 0.018, 0.10, tilt=0.2),
        "head_top": crown,
        "pelvis": 0.5 * hips + 0.5 * joint_rows[joint("pelvis")],
        "thorax": patches.ring(1.395, 0.015, 0.06),
        "spine": patches.ring(1.16, 0.02, 0.2),
        "jaw": 0.5 * (patches.near((0, 1.540, 0.105), 20) + patches.ring(1.545, 0.02, 0.10)),
        "head": 0.8 * crown + 0.2 * patches.ring(1.66, 0.015, 0.10),
    }
    h36m = {name: joint_rows[joint(name)] for name in joints.H36M17 if name in joints.SMPL24}
    h36m |= {"pelvis": hips} | {name: extra[name] for name in ("spine", "neck", "jaw", "head")}

    def stack(rows: dict[str, Row], names: tuple[str, ...]) -> np.ndarray:
        middle = {name: patches.symmetric(row) for name, row in rows.items() if "_hip" not in name}
        return np.stack([middle[n] if joints.mirrored(n) == n else rows[n] for n in names])

    return stack(h36m, joints.H36M17), stack(extra, mesh_points.EXTRA9)
