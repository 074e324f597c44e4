"""Poses from clinical joint angles, and random ones within the normal range of motion (AAOS).

Angles in degrees, 0 at rest: hip flexion (thigh forwards), abduction (outwards), rotation (toes outwards); knee
flexion; ankle dorsiflexion (toes up) and turn; spine and neck flexion (forwards), bend (to the left), twist (to the
left); shoulder elevation (0 hangs, 90 is horizontal, 180 overhead), plane of elevation (0 sideways, 90 forwards) and
inward rotation; elbow flexion and pronation; wrist flexion and deviation. Signs are the left side's; the right mirrors.
"""

import numpy as np
from jaxtyping import Float

from multibodies_jax.embedded.mannequin.posing import axis_angle_to_matrix
from multibodies_jax.embedded.mannequin.skeleton import joint

TRUNK_LIMITS = {
    "spine_flex": (-28, 80),
    "spine_bend": (-35, 35),
    "spine_twist": (-45, 45),
    "neck_flex": (-55, 48),
    "neck_bend": (-40, 40),
    "neck_twist": (-75, 75),
}
LIMB_LIMITS = {
    "hip_flex": (-20, 120),
    "hip_abduct": (-25, 50),
    "hip_rotate": (-38, 48),
    "knee_flex": (0, 142),
    "ankle_flex": (-45, 22),
    "ankle_turn": (-20, 20),
    "toe_flex": (-10, 40),
    "elevation": (-5, 175),
    "plane": (-55, 130),
    "arm_rotate": (-75, 70),
    "elbow_flex": (0, 145),
    "pronation": (-75, 75),
    "wrist_flex": (-65, 70),
    "wrist_deviate": (-20, 28),
    "finger_flex": (0, 40),
}

# A relaxed stand: the start of iterative regressors and the middle of what people do, not the T-pose that nobody does.
STANDING = {
    "spine_flex": 6.0,
    "neck_flex": 4.0,
    **{
        f"{side}_{name}": angle
        for side in ("left", "right")
        for name, angle in {
            "hip_flex": 12.0,
            "hip_abduct": 5.0,
            "knee_flex": 20.0,
            "ankle_flex": 4.0,
            "elevation": 28.0,
            "plane": 25.0,
            "arm_rotate": 8.0,
            "elbow_flex": 32.0,
            "finger_flex": 12.0,
        }.items()
    },
}

Angles = dict[str, float]


def _turn(axis: str | np.ndarray, degrees: float) -> Float[np.ndarray, "3 3"]:
    direction = np.eye(3)["xyz".index(axis)] if isinstance(axis, str) else axis
    return axis_angle_to_matrix(direction * np.radians(degrees))


def _column(rotmats: np.ndarray, angles: Angles, region: str, shares: dict[str, tuple[float, float, float]]) -> None:
    """Spreads flexion, bend and twist over the joints of the spine or the neck."""
    for name, (flex, bend, twist) in shares.items():
        turned = _turn("y", twist * angles.get(f"{region}_twist", 0.0))
        turned = turned @ _turn("z", -bend * angles.get(f"{region}_bend", 0.0))
        rotmats[joint(name)] = turned @ _turn("x", flex * angles.get(f"{region}_flex", 0.0))


def _shoulder(elevation: float, plane: float, rotate: float) -> tuple[np.ndarray, np.ndarray]:
    """The left collar and shoulder: beyond 60 degrees the shoulder blade takes part of the elevation."""
    azimuth = np.radians(plane)
    axis = np.cross([0.0, -1.0, 0.0], [np.cos(azimuth), 0, np.sin(azimuth)])
    arm = _turn(axis, elevation) @ _turn("z", -90.0) @ _turn("x", rotate)
    lift = 0.26 * max(elevation - 60.0, 0.0) - 4.0
    swing = -0.12 * max(plane, -40) * np.sin(np.radians(np.clip(elevation, 0, 120)))
    collar = _turn("z", lift * np.cos(azimuth) ** 2) @ _turn("y", swing)
    return collar, collar.T @ arm


def _left_limbs(angles: Angles) -> dict[str, np.ndarray]:
    """Rotations of one arm and leg, as if they were the left ones."""

    def get(name: str) -> float:
        return angles.get(name, 0.0)

    collar, shoulder = _shoulder(get("elevation"), get("plane"), get("arm_rotate"))
    # Abduction of a flexed hip swings the knee sideways, so it turns about y then.
    flexed = np.radians(np.clip(get("hip_flex"), 0, 90))
    abduct = _turn("z", get("hip_abduct") * np.cos(flexed)) @ _turn("y", get("hip_abduct") * np.sin(flexed))
    return {
        "hip": abduct @ _turn("x", -get("hip_flex")) @ _turn("y", get("hip_rotate")),
        "knee": _turn("x", get("knee_flex")),
        "ankle": _turn("y", get("ankle_turn")) @ _turn("x", -get("ankle_flex")),
        "foot": _turn("x", -get("toe_flex")),
        "collar": collar,
        "shoulder": shoulder,
        "elbow": _turn("y", -get("elbow_flex")) @ _turn("x", 0.5 * get("pronation")),
        "wrist": _turn("x", 0.5 * get("pronation")) @ _turn("z", -get("wrist_flex")) @ _turn("y", get("wrist_deviate")),
        "hand": _turn("z", -get("finger_flex")),
    }


def pose(angles: Angles) -> Float[np.ndarray, "24 3 3"]:
    """SMPL rotations of a pose; the root is not turned.

    Args:
      angles: the names of `TRUNK_LIMITS`, and those of `LIMB_LIMITS` after `left_` or `right_`; what is absent is 0.
    """
    rotmats = np.tile(np.eye(3), (24, 1, 1))
    spine = {"spine1": (0.40, 0.35, 0.20), "spine2": (0.35, 0.35, 0.35), "spine3": (0.25, 0.30, 0.45)}
    _column(rotmats, angles, "spine", spine)
    _column(rotmats, angles, "neck", {"neck": (0.45, 0.45, 0.45), "head": (0.55, 0.55, 0.55)})
    flip = np.diag([-1.0, 1.0, 1.0])
    for side in ("left", "right"):
        own = {name.removeprefix(f"{side}_"): angle for name, angle in angles.items() if name.startswith(side)}
        for name, R in _left_limbs(own).items():
            rotmats[joint(f"{side}_{name}")] = R if side == "left" else flip @ R @ flip
    return rotmats


def random_angles(rng: np.random.Generator) -> Angles:
    """Independent angles within the range of motion, in some poses near rest and in others out to the limits."""
    limits = TRUNK_LIMITS | {f"{side}_{name}": lim for side in ("left", "right") for name, lim in LIMB_LIMITS.items()}
    extent = rng.uniform(0.2, 1.0)
    return {name: extent * rng.uniform(low, high) for name, (low, high) in limits.items()}
