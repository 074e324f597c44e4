"""How deep a posed body cuts into itself: limbs as capsules, trunk and head as ellipsoids."""

import itertools

import numpy as np
from jaxtyping import Float

from multibodies_jax.embedded.mannequin.skeleton import joint, rest_joints
from multibodies_jax.geometry.rotations_np import forward_kinematics

# From joint, to joint, radius in metres. Arms come first.
_BONES = (("elbow", "wrist", 0.034), ("wrist", "hand", 0.040), ("knee", "ankle", 0.050), ("hip", "knee", 0.066))
_CAPSULES = [(f"{side}_{a}", f"{side}_{b}", radius) for a, b, radius in _BONES for side in ("left", "right")]
_ARMS, _SHANKS = range(4), range(4, 6)

# Joint, centre and half axes in its frame, metres.
_ELLIPSOIDS = (
    ("pelvis", (0, -0.02, 0.02), (0.145, 0.12, 0.105)),
    ("spine2", (0, -0.04, 0.022), (0.14, 0.13, 0.10)),
    ("spine3", (0, 0.06, 0.025), (0.155, 0.13, 0.112)),
    ("head", (0, 0.06, 0.012), (0.082, 0.115, 0.105)),
)
_ELLIPSOID_SAMPLES = np.linspace(0, 1, 7)


def _connected(i: int, j: int) -> bool:
    return bool(set(_CAPSULES[i][:2]) & set(_CAPSULES[j][:2]))


# Arms against all other limbs, and the legs against each other, except the thighs, which meet when one sits.
_PAIRS = np.array(
    [
        (i, j)
        for i, j in itertools.combinations(range(len(_CAPSULES)), 2)
        if not _connected(i, j) and (i in _ARMS or i in _SHANKS)
    ]
)


def penetration(rotmats: Float[np.ndarray, "n 24 3 3"]) -> Float[np.ndarray, "n"]:
    """The deepest overlap of two body parts, in metres; negative where nothing touches.

    The body is the mannequin's skeleton. Overlaps of a centimetre or two are soft tissue; deeper ones look wrong.
    """
    R_world, p_world = forward_kinematics(rotmats, np.broadcast_to(rest_joints(), (len(rotmats), 24, 3)))
    start = p_world[:, [joint(a) for a, _, _ in _CAPSULES]]
    end = p_world[:, [joint(b) for _, b, _ in _CAPSULES]]
    radius = np.array([r for _, _, r in _CAPSULES])
    i, j = _PAIRS.T
    limbs = radius[i] + radius[j] - segment_distance(start[:, i], end[:, i], start[:, j], end[:, j])
    worst = limbs.max(1)

    moving = [*_ARMS, *_SHANKS]
    t = _ELLIPSOID_SAMPLES[:, None]
    points = start[:, moving, None] * (1 - t) + end[:, moving, None] * t
    for name, center, half_axes in _ELLIPSOIDS:
        local = (points - p_world[:, joint(name), None, None]) @ R_world[:, joint(name), None] - center
        # The depth below an ellipsoid's surface, exact for a sphere.
        depth = (1 - np.linalg.norm(local / half_axes, axis=-1)) * min(half_axes) + radius[moving, None]
        worst = np.maximum(worst, depth.max((1, 2)))
    return worst


def segment_distance(
    a0: Float[np.ndarray, "*batch 3"],
    a1: Float[np.ndarray, "*batch 3"],
    b0: Float[np.ndarray, "*batch 3"],
    b1: Float[np.ndarray, "*batch 3"],
) -> Float[np.ndarray, "*batch"]:
    """The distance of two line segments of positive length (Ericson, "Real-Time Collision Detection", 5.1.9)."""
    u, v, w = a1 - a0, b1 - b0, a0 - b0

    def dot(x, y):
        return (x * y).sum(-1)

    uu, vv, uv, uw, vw = dot(u, u), dot(v, v), dot(u, v), dot(u, w), dot(v, w)
    cross = np.maximum(uu * vv - uv * uv, 1e-12)
    s = np.clip((uv * vw - uw * vv) / cross, 0, 1)  # Nearest on the line through b, then clamped one after the other.
    t = np.clip((uv * s + vw) / vv, 0, 1)
    s = np.clip((uv * t - uw) / uu, 0, 1)
    return np.linalg.norm(w + s[..., None] * u - t[..., None] * v, axis=-1)
