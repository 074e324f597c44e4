"""Views of posed bodies without images: random cameras, hidden keypoints and crops, drawn on the device.

Training data of the keypoint trunk. The cameras are those of the embedded images (`synthetic/scene.py`) with some
steeper ones, so that photographs from above and below are not unheard of.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from multibodies_jax.body import smpl
from multibodies_jax.data import augment, occlusion
from multibodies_jax.geometry import boxes, centring, joints, rotations

IMAGE_PX = 224.0  # Width of the virtual image; the box's least side is in these pixels, all else is relative.
FOCAL = (2.5, 4.0)  # Image widths.
FILL = (0.70, 0.78)  # Of the image, by the joints; the skin reaches a twentieth further.
PITCH_DEG = (5.0, 10.0)  # Mean and std; positive looks down on the body.
STEEP_PROBABILITY, STEEP_STD_DEG = 0.1, 30.0
ROLL_STD_DEG = 3.0
BOX_SCALE_STD, BOX_SHIFT_STD = 0.05, 0.03  # Jitter of the box: relative to its side, and in half-sides along x and y.
MAX_BETA = 2.0
MIN_DEPTH = 0.5  # Metres from the camera to the nearest joint.

_matmul = functools.partial(jnp.matmul, precision="highest")


@functools.partial(jax.jit, static_argnames=("hide", "redraw_betas"))
def synthesize(
    pose: Float[Array, "B 24 3"],
    betas: Float[Array, "B S"],
    keys: Key[Array, "B"],
    joint_model: smpl.JointModel,
    hide: str = "paper",
    redraw_betas: bool = True,
) -> dict[str, Array]:
    """Sees each body once, from a random side.

    Args:
      pose: axis-angle; the root is upright (y up, facing +z).
      betas: shape coefficients, kept where `redraw_betas` is False.
      keys: one per example: an example depends on nothing else in the batch.
      joint_model: the body contracted with the J24 regressor.
      hide: `paper` draws occlusion strategies (appendix B); `none` shows everything.
      redraw_betas: draw shapes from N(0, 1) clipped to +-2.

    Returns:
      A training batch (docs/interfaces.md, section 2) without images, with `evidence`, the keypoints as a 2D detector
      gives them: noisy everywhere; those it lacks are 0 in `kp2d_input`.

    Raises:
      ValueError: an unknown `hide`.
    """
    if hide not in ("paper", "none"):
        raise ValueError(f"The occlusion of virtual views is 'paper' or 'none', got {hide!r}.")
    view = functools.partial(_view, joint_model=joint_model, hide=hide == "paper", redraw_betas=redraw_betas)
    return jax.vmap(view)(pose, betas, keys)


def _view(
    pose: Float[Array, "24 3"],
    betas: Float[Array, "S"],
    key: Key[Array, ""],
    joint_model: smpl.JointModel,
    hide: bool,
    redraw_betas: bool,
) -> dict[str, Array]:
    """One example of `synthesize`."""
    k_body, k_camera, k_strategy, k_box, k_detector, k_hash = jax.random.split(key, 6)
    rotmats, betas = _body(pose, betas, k_body, redraw_betas)
    k_rotation, k_lens = jax.random.split(k_camera)
    rotmats = rotmats.at[0].set(_matmul(camera_rotation(k_rotation), rotmats[0]))
    p_camera = smpl.joints(joint_model, rotmats, betas)
    p_camera = centring.centre(p_camera)
    kp2d_px = _photograph(p_camera, k_lens)

    seen = jnp.ones(24)
    visible = seen
    if hide:
        strategy = jax.random.choice(k_strategy, len(occlusion.STRATEGIES), p=jnp.array(occlusion.PROBABILITIES))
        visible = jnp.asarray(occlusion.hide(strategy, seen)[0])
    kp2d = _crop(kp2d_px, visible, k_box)
    k_drop, k_noise = jax.random.split(k_detector)
    return {
        "kp2d": kp2d,
        "kp2d_valid": seen,
        "kp2d_input": _drop_keypoints(visible, k_drop),
        "evidence": kp2d + augment.EVIDENCE_NOISE * jax.random.normal(k_noise, kp2d.shape),
        "joints3d": p_camera,
        "joints3d_valid": seen,
        "rotmats": rotmats,
        "betas": betas,
        "smpl_valid": jnp.ones(()),
        "example_hash": jax.random.bits(k_hash),
        "valid": jnp.ones(()),
    }


def camera_rotation(key: Key[Array, ""]) -> Float[Array, "3 3"]:
    """Draws the rotation from the body's world (y up) to a camera (x right, y down, z forward)."""
    k_uniform, k_normal = jax.random.split(key)
    turn, steepness = jax.random.uniform(k_uniform, (2,))
    up_down, roll = jax.random.normal(k_normal, (2,))
    pitch = PITCH_DEG[0] + jnp.where(steepness < STEEP_PROBABILITY, STEEP_STD_DEG, PITCH_DEG[1]) * up_down
    # The half turn about x points y down and makes a body with yaw 0 face the camera.
    yaw_deg, pitch_deg, roll_deg = 360 * turn, 180 + pitch, ROLL_STD_DEG * roll
    angles = jnp.deg2rad(jnp.stack([pitch_deg, yaw_deg, roll_deg]))
    about_x, about_y, about_z = rotations.axis_angle_to_matrix(jnp.diag(angles))
    return _matmul(about_z, _matmul(about_x, about_y))


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


def _photograph(p_camera: Float[Array, "24 3"], key: Key[Array, ""]) -> Float[Array, "24 2"]:
    """Projects joints with a lens and a distance that make the body fill the image; pixels of the virtual image."""
    low, high = jnp.array([FOCAL, FILL]).T
    focal, fill = jax.random.uniform(key, (2,), minval=low, maxval=high)
    low, high = jnp.min(p_camera, axis=0), jnp.max(p_camera, axis=0)
    middle = (low + high) / 2
    # Somebody seen feet first is short: the camera must not be inside.
    distance = jnp.maximum(focal * jnp.max(high[:2] - low[:2]) / fill, high[2] - middle[2] + MIN_DEPTH)
    p_placed = p_camera - middle[None] + jnp.stack([jnp.zeros(()), jnp.zeros(()), distance])[None]
    return IMAGE_PX * (0.5 + focal * p_placed[:, :2] / p_placed[:, 2:])


def _crop(kp2d_px: Float[Array, "24 2"], visible: Float[Array, "24"], key: Key[Array, ""]) -> Float[Array, "24 2"]:
    """Keypoints in [-1, 1] of the box around the visible ones, which is a little off, as a person detector's is."""
    center, scale = boxes.visible_box(kp2d_px, visible)
    jitter = jnp.clip(jax.random.normal(key, (3,)), -2.0, 2.0)
    zoom, shift = 1 + BOX_SCALE_STD * jitter[0], BOX_SHIFT_STD * jitter[1:]
    return ((kp2d_px - center[None]) / (boxes.SIDE / 2 * scale) - shift[None]) / zoom


def _drop_keypoints(visible: Float[Array, "24"], key: Key[Array, ""]) -> Float[Array, "24"]:
    """`augment.drop_keypoints`, on the device."""
    k_detector, k_fails, k_misses = jax.random.split(key, 3)
    number = jax.random.choice(k_detector, len(augment.DETECTORS), p=jnp.array(augment.DETECTOR_PROBABILITIES))
    misses = jax.random.bernoulli(k_fails, augment.MISS_PROBABILITY) & jax.random.bernoulli(
        k_misses, augment.MISS_RATE, (24,)
    )
    kept = jnp.where(jnp.array(augment.DETECTORS)[number] & ~misses, visible, 0.0)
    return jnp.where(jnp.any(kept > 0), kept, visible)
