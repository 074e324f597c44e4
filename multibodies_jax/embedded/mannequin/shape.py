"""The shape space: anthropometric variations of the mannequin, reduced to uncorrelated components of unit variance.

Each variation is a linear field that moves vertices and joints, so that bone lengths vary too. Standard deviations
follow published population statistics: stature 7 cm, waist girth 11 cm, hip and chest girth 8 cm, shoulder breadth
2 cm, segment ratios 2 to 3 %.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from multibodies_jax.embedded.mannequin.skeleton import both_sides, joint, rest_joints
from multibodies_jax.embedded.mannequin.triangles import Faces, Verts, smooth_normals
from multibodies_jax.geometry import joints

_TRUNK = {"pelvis": "spine1", "spine1": "spine2", "spine2": "spine3", "spine3": "neck", "neck": "head"}
_LIMB = {"hip": "knee", "knee": "ankle", "ankle": "foot", "collar": "shoulder", "shoulder": "elbow", "elbow": "wrist"}
_MAIN_CHILD = _TRUNK | {
    f"{side}_{parent}": f"{side}_{child}"
    for side in ("left", "right")
    for parent, child in (_LIMB | {"wrist": "hand"}).items()
}

# Shared causes of several variations; the values are correlations with the cause.
_CAUSES = (
    {  # Sex.
        "size": 0.45, "shoulder_width": 0.65, "hip_width": -0.45, "bust": -0.70, "muscle": 0.55, "waist": 0.30,
        "glutes": -0.30, "chest": 0.30, "thighs": -0.30, "head_size": 0.20, "foot_length": 0.35, "arms": 0.20,
        "neck_length": 0.15, "belly": 0.15,
    },
    {  # Nutrition.
        "weight": 0.85, "belly": 0.55, "bust": 0.30, "waist": 0.35, "glutes": 0.30, "muscle": 0.15, "thighs": 0.30,
        "hip_width": 0.25, "chest": 0.3,
    },
    {"legs": 0.55, "arms": 0.60, "trunk": -0.25, "foot_length": 0.20},  # Long limbs.
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Variation:
    """One standard deviation of a measure: how it moves the vertices (V, 3) and the joints (24, 3), metres."""

    name: str
    verts: np.ndarray
    joints: np.ndarray


def _bump(x: np.ndarray, center: float, radius: float) -> np.ndarray:
    """1 at the center, falling smoothly to 0 at center +- radius."""
    t = np.clip(np.abs(x - center) / radius, 0, 1)
    return (1 - t * t) ** 2


def _ramp(x: np.ndarray, start: float, end: float) -> np.ndarray:
    """Rises smoothly from 0 at the start to 1 at the end."""
    t = np.clip((x - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


class _Template:
    """The rest body, with the shares of its parts in every vertex."""

    def __init__(self, verts: Verts, faces: Faces, weights: np.ndarray):
        def share(*names: str) -> np.ndarray:
            return weights[:, [name.split("_")[-1] in names for name in joints.SMPL24]].sum(1)

        self.verts, self.weights = verts, weights
        self.side = np.abs(verts[:, 0])
        self.height = verts[:, 1]
        self.normal = smooth_normals(verts, faces)
        self.joints = rest_joints()
        self.upper_arm, self.forearm, self.hand = share("shoulder"), share("elbow"), share("wrist", "hand")
        self.thigh, self.shank, self.foot = share("hip"), share("knee"), share("ankle", "foot")
        self.girdle, self.neck, self.head = share("collar"), share("neck"), share("head")
        self.trunk = share("pelvis", "spine1", "spine2", "spine3") + self.girdle

    def bone(self, name: str) -> np.ndarray:
        """From the parent joint to the named one."""
        return self.joints[joint(name)] - self.joints[joints.SMPL_PARENTS[joint(name)]]

    def stretch(self, shift: np.ndarray) -> np.ndarray:
        """Carries a displacement of the joints to the vertices: bones move rigidly and stretch along themselves."""
        moved = np.zeros_like(self.verts)
        for j, name in enumerate(joints.SMPL24):
            weight = self.weights[:, j : j + 1]
            if name not in _MAIN_CHILD:
                moved += weight * shift[j]
                continue
            child = joint(_MAIN_CHILD[name])
            axis = self.joints[child] - self.joints[j]
            along = np.clip((self.verts - self.joints[j]) @ axis / (axis @ axis), -0.3, 1.3)[:, None]
            moved += weight * (shift[j] + along * (shift[child] - shift[j]))
        return moved

    def scale_about(self, name: str, factors: float) -> np.ndarray:
        """Scales what hangs on one bone about its joint."""
        j = joint(name)
        return self.weights[:, j : j + 1] * (self.verts - self.joints[j]) * factors

    def moved(self, name: str, moves: dict | None = None, field: np.ndarray | float = 0.0) -> Variation:
        """A variation from moves of left and mid-line joints, which carry all below them, and a field on top."""
        shift = both_sides(moves or {})
        for j in range(1, 24):
            shift[j] += shift[joints.SMPL_PARENTS[j]]
        return Variation(name, self.stretch(shift) + field, shift)

    def pushed(self, name: str, amount: np.ndarray, moves: dict | None = None) -> Variation:
        """A variation that moves vertices along their normals by `amount` metres."""
        return self.moved(name, moves, self.normal * amount[:, None])


def _lengths(t: _Template) -> list[Variation]:
    root = t.joints[0]
    hand = 0.02 * (t.scale_about("left_hand", 1.0) + t.scale_about("right_hand", 1.0))
    arms = {
        f"left_{name}": k * t.bone(f"left_{name}") for name, k in (("elbow", 0.026), ("wrist", 0.026), ("hand", 0.02))
    }
    foot = [0.03, 0.0, 0.045]
    foot_shift = {"left_foot": t.bone("left_foot") * foot}
    return [
        Variation("size", 0.035 * (t.verts - root), 0.035 * (t.joints - root)),
        t.moved("legs", {f"left_{name}": 0.035 * t.bone(f"left_{name}") for name in ("knee", "ankle")}),
        t.moved("trunk", {name: 0.030 * t.bone(name) for name in ("spine1", "spine2", "spine3", "neck")}),
        t.moved("arms", arms, hand),
        t.moved("shank_ratio", {"left_knee": -0.020 * t.bone("left_knee"), "left_ankle": 0.024 * t.bone("left_ankle")}),
        t.moved("arm_ratio", {"left_elbow": -0.020 * t.bone("left_elbow"), "left_wrist": 0.024 * t.bone("left_wrist")}),
        t.moved("head_size", field=0.030 * t.head[:, None] * (t.verts - t.joints[joint("head")])),
        t.moved("neck_length", {"head": (0, 0.007, 0.001)}),
        dataclasses.replace(
            t.moved("foot_length", foot_shift),
            verts=sum(
                (t.weights[:, joint(f"{side}_ankle")] + t.weights[:, joint(f"{side}_foot")])[:, None]
                * (t.verts - t.joints[joint(f"{side}_ankle")])
                * foot
                for side in ("left", "right")
            ),
        ),
    ]


def _widths(t: _Template) -> list[Variation]:
    outwards = np.sign(t.verts[:, :1]) * np.array([1.0, 0, 0])
    shoulders = 0.008 * (t.side / 0.16) * _bump(t.height, 1.33, 0.20) * (t.trunk - t.girdle)
    hips = 0.009 * (t.side / 0.17) * _bump(t.height, 0.90, 0.17) * t.trunk
    hips = hips + 0.004 * t.thigh * _ramp(t.height, 0.70, 0.88)
    return [
        t.moved(
            "shoulder_width",
            {"left_collar": (0.002, 0, 0), "left_shoulder": (0.006, 0, 0)},
            outwards * shoulders[:, None],
        ),
        t.moved(
            "hip_width",
            {"left_hip": (0.0055, 0, 0), "left_knee": (-0.0015, 0, 0), "left_ankle": (-0.0025, 0, 0)},
            outwards * hips[:, None],
        ),
    ]


def _fat(t: _Template) -> np.ndarray:
    """Where one standard deviation of weight goes, metres."""
    y = t.height
    trunk = 0.0082 * _bump(y, 1.07, 0.22) + 0.0060 * _bump(y, 1.30, 0.20) * (1 - 0.3 * t.girdle)
    return (
        t.trunk * (trunk + 0.0068 * _bump(y, 0.90, 0.20))
        + t.thigh * (0.0025 + 0.0042 * _ramp(y, 0.50, 0.85))
        + t.shank * 0.0028 * _bump(y, 0.36, 0.30)
        + t.upper_arm * 0.0042
        + t.forearm * 0.0018 * _ramp(-t.side, -0.69, -0.45)
        + t.neck * 0.0045
        + t.head * 0.0022 * _ramp(-y, -1.60, -1.50)
        + 0.0008 * (t.foot + t.hand)
    )


def _muscle(t: _Template) -> np.ndarray:
    y = t.height
    return (
        t.upper_arm * 0.0052
        + t.forearm * 0.0028 * _ramp(-t.side, -0.69, -0.46)
        + t.neck * 0.0038
        + t.girdle * 0.005
        + t.trunk * 0.004 * _bump(y, 1.30, 0.16)
        + t.thigh * 0.0045 * _bump(y, 0.70, 0.28)
        + t.shank * 0.0040 * _bump(y, 0.36, 0.20)
    )


def _girths(t: _Template) -> list[Variation]:
    y, side = t.height, t.side
    front, back = _ramp(t.normal[:, 2], -0.1, 0.8), _ramp(-t.normal[:, 2], 0.0, 0.8)
    weight_moves = {"left_hip": (0.002, 0, 0), "left_ankle": (0.008, 0, 0), "left_knee": (0.004, 0, 0)}
    chest = _bump(y, 1.29, 0.17) * 0.006 + _bump(y, 1.30, 0.20) * front * 0.003
    bust = front * _bump(y, 1.285, 0.085) * _bump(side, 0.077, 0.085) * 0.018
    glutes = (t.trunk + t.thigh) * back * _bump(y, 0.885, 0.13) * _bump(side, 0.08, 0.12) * 0.013
    return [
        t.pushed("weight", _fat(t), weight_moves),
        t.pushed("belly", t.trunk * _bump(y, 1.045, 0.19) * (0.0105 * front + 0.002)),
        t.pushed("waist", t.trunk * _bump(y, 1.10, 0.13) * 0.0055),
        t.pushed("chest", t.trunk * chest),
        t.pushed("bust", t.trunk * bust),
        t.pushed("glutes", glutes),
        t.pushed("muscle", _muscle(t)),
        t.pushed("thighs", t.thigh * 0.0055 * _ramp(y, 0.5, 0.8)),
        t.pushed("calves", t.shank * 0.0042 * _bump(y, 0.34, 0.30) + t.foot * 0.0012),
    ]


def _correlations(names: list[str]) -> np.ndarray:
    """Correlations that the shared causes give the variations; each has unit variance."""
    loadings = np.array([[cause.get(name, 0.0) for cause in _CAUSES] for name in names])
    correlation = loadings @ loadings.T
    np.fill_diagonal(correlation, 1.0)
    return correlation


def _signs(components: np.ndarray, verts: Verts) -> np.ndarray:
    """Component 0 is positive for the tall, the others for those with a larger waist."""
    tall = components[verts[:, 1].argmax(), 1] - components[verts[:, 1].argmin(), 1]
    waist = (np.abs(verts[:, 1] - 1.07) < 0.03) & (np.abs(verts[:, 0]) < 0.2)
    girth = (components[waist] * (verts[waist] * [1, 0, 1])[:, :, None]).sum((0, 1))
    return np.sign(np.r_[tall[0], girth[1:]])


def shape_space(
    verts: Verts, faces: Faces, weights: Float[np.ndarray, "V 24"], num: int = 10
) -> tuple[Float[np.ndarray, "V 3 S"], Float[np.ndarray, "24 3 S"]]:
    """The main components of the population, scaled to one standard deviation each.

    Args:
      verts, faces: the template, floor at y = 0.
      weights: skinning weights, which tell the parts of the body apart.
      num: S.

    Returns:
      How each component moves the vertices and the joints, metres. The vertex parts are orthogonal.
    """
    template = _Template(verts, faces, weights)
    variations = _lengths(template) + _widths(template) + _girths(template)
    value, vector = np.linalg.eigh(_correlations([v.name for v in variations]))
    root = vector * np.sqrt(np.maximum(value, 0))
    of_verts = np.stack([v.verts.ravel() for v in variations], 1) @ root
    of_joints = np.stack([v.joints.ravel() for v in variations], 1) @ root
    left, scale, right = np.linalg.svd(of_verts, full_matrices=False)
    components = (left * scale)[:, :num].reshape(-1, 3, num)
    signs = _signs(components, verts)
    return components * signs, (of_joints @ right.T)[:, :num].reshape(24, 3, num) * signs
