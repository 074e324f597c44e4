"""Thirteen families of everyday activity, as random clinical joint angles.

Each family is a function `(rng, n) -> Angles` (see `articulation`) that draws n people at once. Typical angles are
textbook values of gait and posture, adjusted by looking at the bodies. All angles are in degrees.
"""

from collections.abc import Callable

import numpy as np

from multibodies_jax.embedded.clinical_angles import LIMBS, LIMITS, Angles
from multibodies_jax.embedded.synthetic.arm_styles import draw_arms


def _half(rng, sd, shape):
    return np.abs(rng.normal(0, sd, shape))


def _replace(angles: Angles, where: np.ndarray, side: int, **values: np.ndarray) -> None:
    """Overwrites angles of one side (0 left, 1 right) of the people selected."""
    for name, value in values.items():
        angles[name][:, side] = np.where(where, value, angles[name][:, side])


def _trunk(rng: np.random.Generator, n: int, flexion=0.0, sd=(6.0, 4.0, 7.0)) -> Angles:
    """A spine around `flexion`, and a head that looks roughly ahead; the root leans by chance, all limbs are at 0."""
    spine_flexion = flexion + rng.normal(0, sd[0], n)
    spine_bend, spine_twist = rng.normal(0, sd[1], n), rng.normal(0, sd[2], n)
    limbs = {name: np.zeros((n, 2)) for name in LIMBS}
    return limbs | {
        "root_pitch": rng.normal(0, 4, n),
        "root_roll": rng.normal(0, 3, n),
        "spine_flexion": spine_flexion,
        "spine_bend": spine_bend,
        "spine_twist": spine_twist,
        "neck_flexion": 4 + rng.normal(0, 12, n) - 0.25 * spine_flexion,
        "neck_bend": rng.normal(0, 6, n) - 0.3 * spine_bend,
        "neck_twist": rng.normal(0, 25, n) - 0.3 * spine_twist,
        "ankle_turn": rng.normal(0, 4, (n, 2)),
    }


def _standing(rng: np.random.Generator, n: int, angles: Angles, width: float = 1.0) -> Angles:
    """Adds standing legs: the weight is on one of them, the other knee relaxes and the spine leans over."""
    shift = rng.normal(0, 0.8, n)
    soft = np.maximum(np.stack([shift, -shift], 1), 0)
    flexion = rng.normal(0, 5, (n, 2)) + 9 * soft
    knee = 3 + _half(rng, 3, (n, 2)) + 20 * soft
    legs = {
        "hip_flexion": flexion,
        "hip_abduction": 2 + _half(rng, 6 * width, (n, 1)) + rng.normal(0, 2, (n, 2)),
        "hip_rotation": rng.normal(6, 8, (n, 2)),
        "knee_flexion": knee,
        "ankle_dorsiflexion": 0.5 * knee - 0.3 * flexion + rng.normal(0, 3, (n, 2)),
    }
    return angles | legs | {"spine_bend": angles["spine_bend"] + 5 * shift}


def _stand(rng, n):
    angles = _standing(rng, n, _trunk(rng, n))
    return angles | draw_arms(rng, n, 0.75, hang=0.72, on_hip=0.10, folded=0.10, behind_back=0.08)


def _gesture(rng, n):
    angles = _standing(rng, n, _trunk(rng, n, 2, (7, 5, 10)))
    return angles | draw_arms(
        rng, n, 0.35, talk=0.30, point=0.15, phone=0.12, wave=0.10, folded=0.13, hang=0.14, on_hip=0.06
    )


def _stride(rng, n, lean, hip, knee, ankle, arm, elbow):
    """One instant of a gait cycle: legs and arms swing in opposite phase.

    `hip`, `arm` and `elbow` are (mean, swing), `knee` is (mean, bend in the swing phase, bend at contact), `ankle` the
    push-off.
    """
    phase = rng.uniform(0, 2 * np.pi, (n, 1)) + np.array([0, np.pi])
    vigour = np.exp(rng.normal(0, 0.22, (n, 1)))
    swing = vigour * np.cos(phase)
    lifted = vigour * np.maximum(-np.sin(phase - 0.35), 0) ** 1.3
    forward = np.clip(arm[0] - arm[1] * swing, -45, 60)
    sideways = 9 + _half(rng, 5, (n, 2))
    twist = 0.25 * hip[1] * swing[:, 0] + rng.normal(0, 3, n)
    angles = _trunk(rng, n)
    return angles | {
        "root_pitch": 0.3 * lean + rng.normal(0, 3, n),
        "spine_flexion": lean + rng.normal(0, 4, n),
        "spine_bend": rng.normal(0, 2.5, n),
        "spine_twist": twist,
        "neck_twist": -0.6 * twist + rng.normal(0, 14, n),
        "neck_flexion": -0.5 * lean + rng.normal(0, 8, n),
        "hip_flexion": hip[0] + hip[1] * swing + rng.normal(0, 3, (n, 2)),
        "hip_abduction": rng.normal(1, 2.5, (n, 2)),
        "hip_rotation": rng.normal(4, 6, (n, 2)),
        "knee_flexion": knee[0] + knee[1] * lifted + knee[2] * np.maximum(np.cos(phase), 0) + _half(rng, 4, (n, 2)),
        "ankle_dorsiflexion": 4 - ankle * np.maximum(-np.cos(phase - 0.3), 0) + rng.normal(0, 4, (n, 2)),
        "shoulder_elevation": np.hypot(forward, sideways),
        "shoulder_plane": np.degrees(np.arctan2(forward, sideways)),
        "shoulder_rotation": rng.normal(10, 10, (n, 2)),
        "elbow_flexion": elbow[0] - elbow[1] * swing + rng.normal(0, 9, (n, 2)),
        "pronation": rng.normal(0, 18, (n, 2)),
        "finger_flexion": rng.normal(15, 12, (n, 2)),
    }


def _walk(rng, n):
    angles = _stride(rng, n, 2.0, hip=(8, 20), knee=(7, 44, 6), ankle=16, arm=(4, 20), elbow=(22, 12))
    # A quarter of the people carry something, phone or point with one hand.
    busy = draw_arms(rng, n, 0.0, folded=0.25, phone=0.25, talk=0.25, point=0.25)
    carries, side = rng.random(n) < 0.25, rng.integers(0, 2, n)
    for k in range(2):
        _replace(angles, carries & (side == k), k, **{name: value[:, k] for name, value in busy.items()})
    return angles


def _run(rng, n):
    return _stride(rng, n, 10.0, hip=(18, 41), knee=(18, 94, 14), ankle=26, arm=(12, 46), elbow=(88, 16))


def _sit(rng, n):
    back = rng.normal(0, 10, n)
    angles = _trunk(rng, n, 10 - 0.6 * back, (9, 5, 8))
    angles |= draw_arms(rng, n, 0.6, lap=0.34, table=0.22, talk=0.15, folded=0.12, phone=0.07, on_head=0.04, hang=0.06)
    knee = rng.normal(86, 17, (n, 2))
    angles |= {
        "root_pitch": back - 8,
        "hip_flexion": rng.normal(84, 9, (n, 2)) + 0.5 * back[:, None],
        "hip_abduction": rng.normal(9, 8, (n, 2)),
        "hip_rotation": rng.normal(0, 8, (n, 2)),
        "knee_flexion": knee,
        "ankle_dorsiflexion": rng.normal(0, 8, (n, 2)) + 0.3 * (knee - 86),
    }
    _replace(
        angles,
        rng.random(n) < 0.18,  # Crossed legs: the left thigh on the right one.
        side=0,
        hip_flexion=angles["hip_flexion"][:, 0] + 14,
        hip_abduction=rng.normal(-12, 3, n),
        hip_rotation=rng.normal(-4, 5, n),
        knee_flexion=rng.normal(74, 12, n),
    )
    return angles


def _sit_cross_legged(rng, n):
    angles = _trunk(rng, n, 18, (9, 4, 6)) | draw_arms(rng, n, 0.7, lap=0.6, folded=0.25, talk=0.15)
    return angles | {
        "root_pitch": rng.normal(-6, 5, n),
        "hip_flexion": rng.normal(88, 6, (n, 2)),
        "hip_abduction": rng.normal(40, 5, (n, 2)),
        "hip_rotation": rng.normal(38, 6, (n, 2)),
        "knee_flexion": rng.normal(118, 8, (n, 2)),
        "ankle_dorsiflexion": rng.normal(-15, 8, (n, 2)),
    }


def _sit_long(rng, n):
    """Legs in front, stretched or bent; hands on them, or behind."""
    angles = _trunk(rng, n, 14, (10, 4, 6)) | draw_arms(rng, n, 1.0, lap=0.5, propped=0.5)
    bend = rng.random((n, 1))
    return angles | {
        "root_pitch": rng.normal(-18, 9, n),
        "hip_flexion": 70 + 38 * bend + rng.normal(0, 6, (n, 2)),
        "hip_abduction": rng.normal(7, 5, (n, 2)),
        "knee_flexion": 8 + 100 * bend + _half(rng, 8, (n, 2)),
        "ankle_dorsiflexion": rng.normal(-12, 9, (n, 2)),
    }


def _sit_on_floor(rng, n):
    return _either(rng, n, (_sit_cross_legged, _sit_long), (0.5, 0.5))


def _squat(rng, n):
    depth = rng.beta(2, 1.6, (n, 1))
    angles = _trunk(rng, n, 18 * depth[:, 0], (10, 5, 8))
    angles |= draw_arms(rng, n, 0.6, lap=0.3, folded=0.25, point=0.2, talk=0.15, hang=0.1)
    return angles | {
        "root_pitch": 5 + 22 * depth[:, 0] + rng.normal(0, 6, n),
        "hip_flexion": 35 + 75 * depth + rng.normal(0, 7, (n, 2)),
        "hip_abduction": rng.normal(10, 7, (n, 2)),
        "hip_rotation": rng.normal(8, 7, (n, 2)),
        "knee_flexion": 40 + 95 * depth + rng.normal(0, 7, (n, 2)),
        "ankle_dorsiflexion": 12 + 8 * depth + rng.normal(0, 5, (n, 2)),
    }


def _kneel(rng, n):
    """On the right knee."""
    angles = _squat(rng, n)
    everybody = np.ones(n, bool)
    _replace(
        angles,
        everybody,
        side=1,
        hip_flexion=rng.normal(5, 8, n),
        knee_flexion=rng.normal(95, 10, n),
        ankle_dorsiflexion=rng.normal(-25, 15, n),
        toe_extension=rng.normal(20, 10, n),
    )
    _replace(
        angles,
        everybody,
        side=0,
        hip_flexion=rng.normal(86, 9, n),
        hip_abduction=rng.normal(6, 5, n),
        knee_flexion=rng.normal(88, 11, n),
        ankle_dorsiflexion=rng.normal(0, 6, n),
    )
    return angles | {"root_pitch": rng.normal(3, 6, n)}


def _crouch(rng, n):
    return _either(rng, n, (_squat, _kneel), (0.7, 0.3))


def _reach(rng, n):
    """With the left arm, up or down; low things are reached with a bent back."""
    elevation, plane = rng.uniform(20, 165, n), rng.uniform(20, 110, n)
    angles = _trunk(rng, n, 12 + 25 * (elevation < 60) + rng.normal(0, 8, n), (8, 8, 14))
    angles = _standing(rng, n, angles, 1.5) | draw_arms(rng, n, 0.5, hang=0.6, talk=0.25, folded=0.15)
    reaching = draw_arms(rng, n, 1.0, point=1.0) | {
        "shoulder_elevation": elevation[:, None],
        "shoulder_plane": plane[:, None],
    }
    _replace(angles, np.ones(n, bool), 0, **{name: value[:, 0] for name, value in reaching.items()})
    return angles | {
        "root_pitch": 0.3 * angles["spine_flexion"],
        "spine_twist": -0.12 * (plane - 40) + rng.normal(0, 8, n),
        "neck_twist": 20 - 0.3 * (plane - 40) + rng.normal(0, 12, n),
        "neck_flexion": 18 - 0.25 * elevation + rng.normal(0, 10, n),
    }


def _arms_up(rng, n):
    angles = _standing(rng, n, _trunk(rng, n, -4, (8, 6, 8)))
    angles |= draw_arms(rng, n, 0.8, up=0.68, on_head=0.16, wave=0.16)
    return angles | {"neck_flexion": rng.normal(-10, 15, n)}


def _bend(rng, n):
    depth = rng.uniform(0.35, 1, n)
    pitch = 32 * depth + rng.normal(0, 8, n)
    knee = _half(rng, 22, n)
    angles = _standing(rng, n, _trunk(rng, n, 52 * depth, (9, 6, 12))) | draw_arms(rng, n, 1.0, point=1.0)
    return angles | {
        "root_pitch": pitch,
        "neck_flexion": rng.normal(-18, 14, n),
        "hip_flexion": (pitch + 0.55 * knee + 10 * depth)[:, None] + rng.normal(0, 5, (n, 2)),
        "knee_flexion": 6 + knee[:, None] + _half(rng, 5, (n, 2)),
        "shoulder_elevation": rng.normal(70, 18, (n, 2)),
        "shoulder_plane": rng.normal(85, 14, (n, 2)),
    }


def _athlete(rng, n):
    angles = _standing(rng, n, _trunk(rng, n, 8, (10, 9, 18)), 2.0)
    return angles | draw_arms(rng, n, 0.3, anywhere=0.4, up=0.2, point=0.2, talk=0.2)


def _lunge(rng, n):
    return _athlete(rng, n) | {
        "root_pitch": rng.normal(8, 7, n),
        "hip_flexion": rng.normal((70, -14), (12, 6), (n, 2)),
        "knee_flexion": np.stack([rng.normal(78, 14, n), 26 + _half(rng, 20, n)], 1),
        "ankle_dorsiflexion": rng.normal((5, 8), 6, (n, 2)),
    }


def _kick(rng, n):
    return _athlete(rng, n) | {
        "root_pitch": rng.normal(-8, 7, n),
        "hip_flexion": rng.normal((68, 4), (18, 5), (n, 2)),
        "hip_abduction": rng.normal((10, 3), (12, 2), (n, 2)),
        "knee_flexion": np.stack([25 + _half(rng, 22, n), 12 + _half(rng, 8, n)], 1),
    }


def _throw(rng, n):
    angles = _athlete(rng, n)
    _replace(
        angles,
        np.ones(n, bool),
        side=0,
        shoulder_elevation=rng.normal(105, 14, n),
        shoulder_plane=rng.normal(-8, 14, n),
        shoulder_rotation=rng.normal(-60, 12, n),
        elbow_flexion=rng.normal(88, 22, n),
        hip_flexion=rng.normal(-10, 6, n),
    )
    _replace(angles, np.ones(n, bool), side=1, hip_flexion=rng.normal(34, 10, n), knee_flexion=rng.normal(26, 8, n))
    return angles | {"spine_twist": rng.normal(22, 10, n)}


def _jump(rng, n):
    tucked = rng.random((n, 1))
    return _athlete(rng, n) | {
        "hip_flexion": 8 + 65 * tucked + rng.normal(0, 7, (n, 2)),
        "knee_flexion": 12 + 85 * tucked + rng.normal(0, 8, (n, 2)),
        "ankle_dorsiflexion": rng.normal(-26, 7, (n, 2)),
    }


def _sport(rng, n):
    return _either(rng, n, (_lunge, _kick, _throw, _jump), (0.25, 0.25, 0.25, 0.25))


def _lie(rng, n):
    """On the back with bent or straight legs, or on the belly, where only the knees bend."""
    prone = rng.random((n, 1)) < 0.5
    bent = rng.random((n, 2)) ** 2
    angles = _trunk(rng, n, 4, (9, 8, 8))
    angles |= draw_arms(rng, n, 0.5, hang=0.35, folded=0.2, on_head=0.15, up=0.15, anywhere=0.15)
    return angles | {
        "root_pitch": np.where(prone[:, 0], 90, -90) + rng.normal(0, 6, n),
        "root_roll": rng.normal(0, 12, n),
        "spine_flexion": np.where(prone[:, 0], -6, 4) + rng.normal(0, 7, n),
        "hip_flexion": np.where(prone, 0, 6 + 55 * bent) + rng.normal(0, 6, (n, 2)),
        "hip_abduction": rng.normal(6, 6, (n, 2)),
        "hip_rotation": rng.normal(14, 12, (n, 2)),
        "knee_flexion": 6 + 85 * bent + _half(rng, 6, (n, 2)),
        "ankle_dorsiflexion": rng.normal(-22, 9, (n, 2)),
    }


def _anything(rng, n):
    """Large joints anywhere within their limits: unlikely poses, so that nothing is impossible."""
    free = ("hip_flexion", "hip_abduction", "hip_rotation", "knee_flexion", "ankle_dorsiflexion",
            "shoulder_elevation", "shoulder_plane", "shoulder_rotation", "elbow_flexion", "pronation")  # fmt: skip
    angles = _trunk(rng, n, 8, (18, 12, 18))
    for name in free:
        low, high = LIMITS[name]
        angles[name] = low + (high - low) * rng.beta(1.3, 1.8, (n, 2))
    return angles


def _either(rng: np.random.Generator, n: int, kinds: tuple[Callable, ...], shares: tuple[float, ...]) -> Angles:
    """Each person from one of several families."""
    kind = rng.choice(len(kinds), n, p=shares)
    return draw_mixed(rng, kind, kinds)


def draw_mixed(rng: np.random.Generator, kind: np.ndarray, kinds: tuple[Callable, ...]) -> Angles:
    """Draws person i from `kinds[kind[i]]`; all people of one kind are drawn together."""
    order = np.argsort(kind, kind="stable")
    counts = np.bincount(kind, minlength=len(kinds))
    drawn = [draw(rng, int(count)) for draw, count in zip(kinds, counts, strict=True) if count]
    back = np.argsort(order)
    return {name: np.concatenate([angles[name] for angles in drawn])[back] for name in drawn[0]}


# Name, share of the people, generator. The shares are a guess at what photographs of people show.
FAMILIES = {
    "stand": (0.14, _stand),
    "gesture": (0.13, _gesture),
    "walk": (0.15, _walk),
    "run": (0.08, _run),
    "sit": (0.13, _sit),
    "floor_sit": (0.04, _sit_on_floor),
    "crouch": (0.07, _crouch),
    "reach": (0.07, _reach),
    "arms_up": (0.05, _arms_up),
    "bend": (0.05, _bend),
    "sport": (0.05, _sport),
    "lie": (0.02, _lie),
    "random": (0.02, _anything),
}
NAMES = tuple(FAMILIES)
SHARES = np.array([share for share, _ in FAMILIES.values()])


def draw(rng: np.random.Generator, family: np.ndarray) -> Angles:
    """Draws one person of each family given by index into `NAMES`."""
    return draw_mixed(rng, family, tuple(generator for _, generator in FAMILIES.values()))
