"""Views of posed bodies without images: random cameras, hidden keypoints and crops, drawn on the device.

Training data of the keypoint trunk. `STANDARD` cameras are those of the embedded images (`synthetic/scene.py`) with some
steeper ones. `WIDE` views are for a model that meets photographs: lenses near the person, rolled and steep cameras,
people cut by the edge of the image, boxes around what a detector found, and a detector that errs.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from multibodies_jax import exact
from multibodies_jax.batch import Batch, Inputs, Target
from multibodies_jax.body import smpl
from multibodies_jax.data import augment, occlusion
from multibodies_jax.geometry import boxes, centring, joints, rotations

IMAGE_PX = 224.0  # Width of the virtual image; the box's least side is in these pixels, all else is relative.
FILL = (0.70, 0.78)  # Of the image, by the joints; the skin reaches a twentieth further.
PITCH_DEG = (5.0, 10.0)  # Mean and std; positive looks down on the body.
MAX_BETA = 2.0
MIN_DEPTH = 0.5  # Metres from the camera to the nearest joint.


@dataclasses.dataclass(frozen=True)
class Detector:
    """How the keypoints of a 2D detector differ from the projected joints, in crop units (the crop is [-1, 1]).

    Attributes:
      noise: (low, high) std of the normal error; each example draws its own, log-uniform.
      hip_factor: the hips' error is larger by it: detectors and annotators place them least alike.
      stray: (probability that an example has strays, rate per keypoint, std): keypoints that are far off.
      swapped_legs: probability that left and right leg are confused.
      swapped_arms: the same of the arms.
    """

    noise: tuple[float, float]
    hip_factor: float = 1.0
    stray: tuple[float, float, float] = (0.0, 0.0, 0.0)
    swapped_legs: float = 0.0
    swapped_arms: float = 0.0


@dataclasses.dataclass(frozen=True)
class Variety:
    """How much the views differ from each other.

    Attributes:
      focal: (low, high) focal length in image widths.
      steep: (probability, std in degrees) of cameras that look steeply up or down.
      roll_deg: std of the turn of the camera about its axis, degrees.
      box_scale: std of the box's side, relative.
      box_shift: std of the box's place along x and y, in half-sides.
      box_of_detected: the box is around the keypoints that the detector found; False: around all visible ones.
      strategies: probabilities of the occlusion strategies of appendix B, in the order of `occlusion.STRATEGIES`.
      truncated: probability that the edge of the image cuts the person, in place of those strategies.
      exchanged: probability that legs or arms are those of another person.
      bent: (probability, std in radians) of joints that are turned at random.
      detector: of the evidence.
    """

    focal: tuple[float, float] = (2.5, 4.0)
    steep: tuple[float, float] = (0.1, 30.0)
    roll_deg: float = 3.0
    box_scale: float = 0.05
    box_shift: float = 0.03
    box_of_detected: bool = False
    strategies: tuple[float, ...] = occlusion.PROBABILITIES
    truncated: float = 0.0
    exchanged: float = 0.0
    bent: tuple[float, float] = (0.0, 0.0)
    detector: Detector = Detector(noise=(augment.EVIDENCE_NOISE, augment.EVIDENCE_NOISE))


STANDARD = Variety()
WIDE = Variety(
    focal=(1.0, 6.0),
    steep=(0.25, 35.0),
    roll_deg=12.0,
    box_scale=0.08,
    box_shift=0.05,
    box_of_detected=True,
    strategies=(0.4, 0.2, 0.2, 0.2),
    truncated=0.25,
    exchanged=0.25,
    bent=(0.3, 0.12),
    detector=Detector(
        noise=(0.005, 0.04), hip_factor=1.7, stray=(0.3, 0.06, 0.25), swapped_legs=0.03, swapped_arms=0.02
    ),
)


def _which(names: tuple[str, ...], parts: tuple[str, ...]) -> Bool[np.ndarray, "24"]:
    """Which of 24 joints are a left or right one of some parts of the body."""
    return np.array([name.partition("_")[2] in parts for name in names])


_IS_LEG = _which(joints.SMPL24, ("hip", "knee", "ankle", "foot"))
_IS_ARM = _which(joints.SMPL24, ("collar", "shoulder", "elbow", "wrist", "hand"))
_IS_HIP = _which(joints.J24, ("hip",))
_J24_LEGS = _which(joints.J24, ("hip", "knee", "ankle"))
_J24_ARMS = _which(joints.J24, ("elbow", "wrist"))


@functools.partial(jax.jit, static_argnames=("hide", "redraw_betas", "variety"))
def synthesize(
    pose: Float[Array, "B 24 3"],
    betas: Float[Array, "B S"],
    keys: Key[Array, "B"],
    joint_model: smpl.JointModel,
    hide: str = "paper",
    redraw_betas: bool = True,
    variety: Variety = STANDARD,
    other_pose: Float[Array, "B 24 3"] | None = None,
) -> Batch:
    """Sees each body once, from a random side.

    Args:
      pose: axis-angle; the root is upright (y up, facing +z).
      betas: shape coefficients, kept where `redraw_betas` is False.
      keys: one per example: an example depends on nothing else in the batch.
      joint_model: the body contracted with the J24 regressor.
      hide: `paper` draws occlusion strategies (appendix B); `none` shows everything.
      redraw_betas: draw shapes from N(0, 1) clipped to +-2.
      variety: of cameras, crops and detectors.
      other_pose: another pose per example, whose legs or arms it may get (`Variety.exchanged`).

    Returns:
      A training batch without images, its `evidence` as a 2D detector gives keypoints: noisy everywhere; those that
      it lacks are 0 in `kp2d_input`.

    Raises:
      ValueError: an unknown `hide`, or limbs are to be exchanged without `other_pose`.
    """
    if hide not in ("paper", "none"):
        raise ValueError(f"The occlusion of virtual views is 'paper' or 'none', got {hide!r}.")
    if variety.exchanged and other_pose is None:
        raise ValueError(f"Limbs are exchanged in {variety.exchanged:.0%} of the views: give other_pose.")
    view = functools.partial(
        _view, joint_model=joint_model, hide=hide == "paper", redraw_betas=redraw_betas, variety=variety
    )
    return jax.vmap(view)(pose, pose if other_pose is None else other_pose, betas, keys)


def _view(
    pose: Float[Array, "24 3"],
    other_pose: Float[Array, "24 3"],
    betas: Float[Array, "S"],
    key: Key[Array, ""],
    joint_model: smpl.JointModel,
    hide: bool,
    redraw_betas: bool,
    variety: Variety,
) -> Batch:
    """One example of `synthesize`."""
    k_body, k_camera, k_strategy, k_box, k_detector, k_hash = jax.random.split(key, 6)
    pose = _exchange(pose, other_pose, jax.random.fold_in(k_body, 1), variety.exchanged)
    rotmats, betas = _body(pose, betas, k_body, redraw_betas)
    rotmats = _bend(rotmats, jax.random.fold_in(k_body, 2), variety.bent)
    k_rotation, k_lens = jax.random.split(k_camera)
    rotmats = rotmats.at[0].set(exact.matmul(camera_rotation(k_rotation, variety), rotmats[0]))
    p_camera = smpl.joints(joint_model, rotmats, betas)
    p_camera = centring.centre(p_camera)
    kp2d_px = _photograph(p_camera, k_lens, variety.focal)

    seen = jnp.ones(24)
    visible = seen
    if hide:
        strategy = jax.random.choice(k_strategy, len(occlusion.STRATEGIES), p=jnp.array(variety.strategies))
        visible = jnp.asarray(occlusion.hide(strategy, seen)[0])
        visible = _truncate(kp2d_px, visible, jax.random.fold_in(k_strategy, 1), variety.truncated)
    k_drop, k_noise = jax.random.split(k_detector)
    detected = _drop_keypoints(visible, k_drop)
    kp2d = _crop(kp2d_px, detected if variety.box_of_detected else visible, k_box, variety)
    inputs = Inputs(
        evidence=_detect(kp2d, k_noise, variety.detector),
        kp2d_input=detected,
        example_hash=jax.random.bits(k_hash),
    )
    target = Target(
        joints3d=p_camera,
        joints3d_valid=seen,
        kp2d=kp2d,
        kp2d_valid=seen,
        rotmats=rotmats,
        betas=betas,
        smpl_valid=jnp.ones(()),
    )
    return Batch(inputs, target, valid=jnp.ones(()))


def camera_rotation(key: Key[Array, ""], variety: Variety = STANDARD) -> Float[Array, "3 3"]:
    """Draws the rotation from the body's world (y up) to a camera (x right, y down, z forward)."""
    steep_probability, steep_std_deg = variety.steep
    k_uniform, k_normal = jax.random.split(key)
    turn, steepness = jax.random.uniform(k_uniform, (2,))
    up_down, roll = jax.random.normal(k_normal, (2,))
    pitch = PITCH_DEG[0] + jnp.where(steepness < steep_probability, steep_std_deg, PITCH_DEG[1]) * up_down
    # The half turn about x points y down and makes a body with yaw 0 face the camera.
    yaw_deg, pitch_deg, roll_deg = 360 * turn, 180 + pitch, variety.roll_deg * roll
    angles = jnp.deg2rad(jnp.stack([pitch_deg, yaw_deg, roll_deg]))
    about_x, about_y, about_z = rotations.axis_angle_to_matrix(jnp.diag(angles))
    return exact.matmul(about_z, exact.matmul(about_x, about_y))


def _exchange(
    pose: Float[Array, "24 3"], other: Float[Array, "24 3"], key: Key[Array, ""], probability: float
) -> Float[Array, "24 3"]:
    """The pose with the legs or the arms of another one, with some probability."""
    if not probability:
        return pose
    k_whether, k_which = jax.random.split(key)
    limbs = jnp.where(jax.random.bernoulli(k_which), jnp.array(_IS_LEG), jnp.array(_IS_ARM))
    return jnp.where((limbs & jax.random.bernoulli(k_whether, probability))[:, None], other, pose)


def _bend(rotmats: Float[Array, "24 3 3"], key: Key[Array, ""], bent: tuple[float, float]) -> Float[Array, "24 3 3"]:
    """Turns every joint except the root by a random small rotation, with some probability."""
    probability, std = bent
    if not probability:
        return rotmats
    k_whether, k_turn = jax.random.split(key)
    turn = std * jax.random.normal(k_turn, (24, 3)) * jax.random.bernoulli(k_whether, probability)
    return exact.matmul(rotmats, rotations.axis_angle_to_matrix(turn.at[0].set(0.0)))


def _body(
    pose: Float[Array, "24 3"], betas: Float[Array, "S"], key: Key[Array, ""], redraw_betas: bool
) -> tuple[Float[Array, "24 3 3"], Float[Array, "S"]]:
    """The body, mirrored in every second example, in another shape if wanted."""
    k_mirror, k_betas = jax.random.split(key)
    # The mirror image of an axis-angle vector has y and z negated.
    mirrored = pose[joints.SMPL_FLIP] * jnp.array([[1.0, -1.0, -1.0]])
    pose = jnp.where(jax.random.bernoulli(k_mirror), mirrored, pose)
    if redraw_betas:
        betas = jnp.clip(jax.random.normal(k_betas, betas.shape), -MAX_BETA, MAX_BETA)
    return rotations.axis_angle_to_matrix(pose), betas


def _photograph(
    p_camera: Float[Array, "24 3"], key: Key[Array, ""], focal_range: tuple[float, float]
) -> Float[Array, "24 2"]:
    """Projects joints with a lens and a distance that make the body fill the image; pixels of the virtual image."""
    low, high = jnp.array([focal_range, FILL]).T
    focal, fill = jax.random.uniform(key, (2,), minval=low, maxval=high)
    low, high = jnp.min(p_camera, axis=0), jnp.max(p_camera, axis=0)
    middle = (low + high) / 2
    # Somebody seen feet first is short: the camera must not be inside.
    distance = jnp.maximum(focal * jnp.max(high[:2] - low[:2]) / fill, high[2] - middle[2] + MIN_DEPTH)
    p_placed = p_camera - middle[None] + jnp.stack([jnp.zeros(()), jnp.zeros(()), distance])[None]
    return IMAGE_PX * (0.5 + focal * p_placed[:, :2] / p_placed[:, 2:])


def _truncate(
    kp2d_px: Float[Array, "24 2"], visible: Float[Array, "24"], key: Key[Array, ""], probability: float
) -> Float[Array, "24"]:
    """Which keypoints are inside an image whose lower (mostly), left, right or upper edge cuts the person.

    The edge leaves 35 % to 95 % of the extent of all keypoints; with some probability, else `visible` stays.
    """
    if not probability:
        return visible
    k_whether, k_edge, k_share = jax.random.split(key, 3)
    outward = jnp.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]])
    along = exact.matmul(kp2d_px, jax.random.choice(k_edge, outward, p=jnp.array([0.6, 0.15, 0.15, 0.1])))
    share = jax.random.uniform(k_share, minval=0.35, maxval=0.95)
    inside = along <= jnp.min(along) + share * (jnp.max(along) - jnp.min(along))
    return jnp.where(jax.random.bernoulli(k_whether, probability), inside.astype(jnp.float32), visible)


def _crop(
    kp2d_px: Float[Array, "24 2"], visible: Float[Array, "24"], key: Key[Array, ""], variety: Variety
) -> Float[Array, "24 2"]:
    """Keypoints in [-1, 1] of the box around the visible ones, which is a little off, as a person detector's is."""
    center, scale = boxes.visible_box(kp2d_px, visible)
    jitter = jnp.clip(jax.random.normal(key, (3,)), -2.0, 2.0)
    zoom, shift = 1 + variety.box_scale * jitter[0], variety.box_shift * jitter[1:]
    return ((kp2d_px - center[None]) / boxes.half_side(scale) - shift[None]) / zoom


def _detect(kp2d: Float[Array, "24 2"], key: Key[Array, ""], detector: Detector) -> Float[Array, "24 2"]:
    """The keypoints with the errors of a 2D detector."""
    low, high = detector.noise
    std = jnp.full((), low)
    if high > low:
        std = jnp.exp(jax.random.uniform(jax.random.fold_in(key, 1), minval=jnp.log(low), maxval=jnp.log(high)))
    if detector.hip_factor != 1:
        std = jnp.where(jnp.array(_IS_HIP), detector.hip_factor * std, std)[:, None]
    detected = kp2d + std * jax.random.normal(key, kp2d.shape)
    probability, rate, stray_std = detector.stray
    if probability:
        k_whether, k_which, k_error = jax.random.split(jax.random.fold_in(key, 2), 3)
        strays = jax.random.bernoulli(k_whether, probability) & jax.random.bernoulli(k_which, rate, (24,))
        detected = detected + strays[:, None] * stray_std * jax.random.normal(k_error, kp2d.shape)
    for number, (limbs, swapped) in enumerate(((_J24_LEGS, detector.swapped_legs), (_J24_ARMS, detector.swapped_arms))):
        if swapped:
            swap = jnp.array(limbs)[:, None] & jax.random.bernoulli(jax.random.fold_in(key, 3 + number), swapped)
            detected = jnp.where(swap, detected[joints.J24_FLIP], detected)
    return detected


def _drop_keypoints(visible: Float[Array, "24"], key: Key[Array, ""]) -> Float[Array, "24"]:
    """`augment.drop_keypoints`, on the device."""
    k_detector, k_fails, k_misses = jax.random.split(key, 3)
    number = jax.random.choice(k_detector, len(augment.DETECTORS), p=jnp.array(augment.DETECTOR_PROBABILITIES))
    misses = jax.random.bernoulli(k_fails, augment.MISS_PROBABILITY) & jax.random.bernoulli(
        k_misses, augment.MISS_RATE, (24,)
    )
    kept = jnp.where(jnp.array(augment.DETECTORS)[number] & ~misses, visible, 0.0)
    return jnp.where(jnp.any(kept > 0), kept, visible)
