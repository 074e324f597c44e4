"""Clinical joint angles and their translation into SMPL rotations.

Doctors measure joints by angles of known range (American Academy of Orthopaedic Surgeons, "Joint Motion", 1965; CDC
normal values, Soucie et al., 2011), which makes them the right place for limits. Angles are in degrees. Those of the
trunk have the shape (n,), those of limbs (n, 2): the left, then the right side, with the same sign for the same
movement.

  root       pitch (forward), roll (to the right)
  spine      flexion (forward), bend (to the left), twist (to the left); `neck`: the same, shared by neck and head
  hip        flexion (thigh forward), abduction (outwards), rotation (toes outwards)
  knee       flexion
  ankle      dorsiflexion (toes up), turn (toes outwards)
  toe        extension
  shoulder   elevation (0 hangs, 90 is level, 180 overhead), plane (0 sideways, 90 forward, negative backward),
             rotation (inwards)
  elbow      flexion; pronation is shared by elbow and wrist
  wrist      flexion (to the palm), deviation
  finger     flexion
"""

import numpy as np
from jaxtyping import Float

from multibodies_jax.geometry import joints
from multibodies_jax.geometry.rotations_np import about

Angles = dict[str, np.ndarray]

LIMITS = {
    "spine_flexion": (-28, 80), "spine_bend": (-35, 35), "spine_twist": (-45, 45),
    "neck_flexion": (-55, 48), "neck_bend": (-40, 40), "neck_twist": (-75, 75),
    "hip_flexion": (-20, 120), "hip_abduction": (-25, 50), "hip_rotation": (-38, 48),
    "knee_flexion": (0, 142), "ankle_dorsiflexion": (-45, 22), "ankle_turn": (-20, 20), "toe_extension": (-20, 50),
    "shoulder_elevation": (-5, 175), "shoulder_plane": (-55, 130), "shoulder_rotation": (-75, 70),
    "elbow_flexion": (0, 145), "pronation": (-75, 75), "wrist_flexion": (-65, 70), "wrist_deviation": (-20, 28),
    "finger_flexion": (-20, 70),
}  # fmt: skip
TRUNK = ("spine_flexion", "spine_bend", "spine_twist", "neck_flexion", "neck_bend", "neck_twist")
LIMBS = tuple(name for name in LIMITS if name not in TRUNK)

_SOFT = 0.12  # Share of the range, at both ends, over which angles are compressed.
_SPINE_SHARES = {"spine1": (0.40, 0.35, 0.20), "spine2": (0.35, 0.35, 0.35), "spine3": (0.25, 0.30, 0.45)}
_NECK_SHARES = {"neck": (0.45, 0.45, 0.45), "head": (0.55, 0.55, 0.55)}
_MIRROR = np.outer([-1, 1, 1], [-1, 1, 1])  # Conjugates a rotation with the reflection of x.


def limit(name: str, angle_deg: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
    """Brings an angle within its limits: unchanged in the middle of the range, smoothly compressed at its ends."""
    low, high = LIMITS[name]
    margin = _SOFT * (high - low)
    over = np.maximum(angle_deg - (high - margin), 0)
    under = np.maximum((low + margin) - angle_deg, 0)
    inner = np.clip(angle_deg, low + margin, high - margin)
    return inner + margin * np.tanh(over / margin) - margin * np.tanh(under / margin)


def to_rotations(angles: Angles, limited: bool = True) -> Float[np.ndarray, "n 24 3 3"]:
    """Turns clinical angles into SMPL rotations, relative to the parents.

    Args:
      angles: degrees, see above; all of `TRUNK`, `LIMBS`, `root_pitch` and `root_roll`.
      limited: brings angles within `LIMITS` first, see `limit`; False takes them as they are.

    Returns:
      Rotations of the 24 joints; the root is upright: y up, facing +z, up to its pitch and roll.
    """
    a = {name: limit(name, angles[name]) if limited else angles[name] for name in LIMITS}
    n = len(angles["root_pitch"])
    rotmats = np.tile(np.eye(3), (n, 24, 1, 1))
    rotmats[:, 0] = about("x", angles["root_pitch"]) @ about("z", angles["root_roll"])
    for part, shares in (("spine", _SPINE_SHARES), ("neck", _NECK_SHARES)):
        flexion, bend, twist = (a[f"{part}_{k}"] for k in ("flexion", "bend", "twist"))
        for name, (f, b, t) in shares.items():
            rotmats[:, joints.SMPL24.index(name)] = (
                about("y", t * twist) @ about("z", -b * bend) @ about("x", f * flexion)
            )
    for name, both in (_leg(a) | _arm(a)).items():
        rotmats[:, joints.SMPL24.index(f"left_{name}")] = both[:, 0]
        rotmats[:, joints.SMPL24.index(f"right_{name}")] = both[:, 1] * _MIRROR
    return rotmats


def _leg(a: Angles) -> dict[str, Float[np.ndarray, "n 2 3 3"]]:
    """Rotations of the leg's joints as if both legs were left ones."""
    # Abduction of a flexed hip swings the thigh in the level plane, of a straight one in the frontal plane.
    flexed = np.radians(np.clip(a["hip_flexion"], 0, 90))
    abduction = about("z", a["hip_abduction"] * np.cos(flexed)) @ about("y", a["hip_abduction"] * np.sin(flexed))
    return {
        "hip": abduction @ about("x", -a["hip_flexion"]) @ about("y", a["hip_rotation"]),
        "knee": about("x", a["knee_flexion"]),
        "ankle": about("y", a["ankle_turn"]) @ about("x", -a["ankle_dorsiflexion"]),
        "foot": about("x", -a["toe_extension"]),
    }


def _arm(a: Angles) -> dict[str, Float[np.ndarray, "n 2 3 3"]]:
    """Rotations of the arm's joints as if both arms were left ones; the T-pose is the zero of the rotations."""
    elevation, plane = a["shoulder_elevation"], a["shoulder_plane"]
    azimuth = np.radians(plane)
    # Level, and at right angles to the plane in which the arm is raised.
    axis = np.stack([-np.sin(azimuth), np.zeros_like(azimuth), np.cos(azimuth)], axis=-1)
    upper_arm = about(axis, elevation) @ about("z", -90.0) @ about("x", a["shoulder_rotation"])
    # Scapulo-humeral rhythm (Inman et al., 1944): the collar takes a share of what the arm is raised above 60 degrees.
    shrug = (0.26 * np.maximum(elevation - 60, 0) - 4) * np.cos(azimuth) ** 2
    reach = -0.12 * np.maximum(plane, -40) * np.sin(np.radians(np.clip(elevation, 0, 120)))
    collar = about("z", shrug) @ about("y", reach)
    half_pronation = about("x", 0.5 * a["pronation"])
    return {
        "collar": collar,
        "shoulder": np.swapaxes(collar, -1, -2) @ upper_arm,
        "elbow": about("y", -a["elbow_flexion"]) @ half_pronation,
        "wrist": half_pronation @ about("z", -a["wrist_flexion"]) @ about("y", a["wrist_deviation"]),
        "hand": about("z", -a["finger_flexion"]),
    }
