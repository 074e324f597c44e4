"""From one stored record to one row of a batch: crop, flip, rotation, colour, hidden keypoints, in NumPy.

Image, 2D keypoints, 3D joints and body parameters move together. Features and units: docs/interfaces.md, sections 1, 2.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64, Int, UInt8

from multibodies_jax import io
from multibodies_jax.data import crops, occlusion, spin_crops
from multibodies_jax.geometry import boxes, centring, joints

Record = Mapping[str, Any]
Example = dict[str, Any]

# What 2D detectors can see of J24, and how often training pretends that one of them gave the evidence.
DETECTORS: Bool[np.ndarray, "3 24"] = np.stack(
    [np.ones(24, bool), joints.J24_FROM_COCO17 >= 0, joints.J24_FROM_OPENPOSE25 >= 0]
)
DETECTOR_PROBABILITIES = (0.5, 0.25, 0.25)
_DETECTOR_EDGES = np.cumsum(DETECTOR_PROBABILITIES)[:-1]  # Of the detectors' shares of [0, 1).
CROPS = ("exact", "spin")
MISS_PROBABILITY, MISS_RATE = (
    0.3,
    0.15,
)  # Share of examples in which a detector misses keypoints, and its rate per keypoint.
EVIDENCE_NOISE = 0.02  # Std of detected keypoints in [-1, 1] of the crop: 1 % of its side.


@dataclasses.dataclass(frozen=True)
class Strength:
    """How far training examples are moved from what is stored.

    Attributes:
      flip: probability of a mirror image.
      rotate: probability of an in-plane rotation; its angle is N(0, `angle_deg`) clipped to twice that.
      angle_deg: degrees.
      scale: std of the factor on the box's side, which is N(1, `scale`) clipped to one std.
      shift: std of the box centre's shift along x and y, in half-sides; clipped to two stds.
      gain: each colour channel is multiplied by U(1 - gain, 1 + gain).
    """

    flip: float = 0.5
    rotate: float = 0.4
    angle_deg: float = 10.0
    scale: float = 0.1
    shift: float = 0.05
    gain: float = 0.3


MILD = Strength()  # For small sets and small trunks, which large rotations keep from learning in short trainings.
SPIN = Strength(angle_deg=30.0, scale=0.25, shift=0.0, gain=0.4)  # Kolotouros et al. (2019); the paper follows it.


def training_example(
    record: Record,
    rng: np.random.Generator,
    crop_size: int,
    occlusion: str = "paper",
    augment: bool = True,
    with_image: bool = True,
    strength: Strength = MILD,
    crop: str = "exact",
    contrast_stretch: bool = False,
    finished: bool = True,
) -> Example:
    """Makes one row of a training batch.

    Args:
      record: the features of section 1 of docs/interfaces.md.
      rng: consumed; the row depends on nothing else.
      crop_size: S, pixels.
      occlusion: `paper` draws a strategy (appendix B), hides its keypoints and crops around the others; `none` keeps
        what the record stores (a set that is ambiguous already stays so).
      augment: flip, turn, scale, shift, colour; and without an image also the faults of 2D detectors.
      with_image: False for the keypoint trunk: no `image`, and `evidence`, the keypoints as a detector gives them, is
        added. The keypoints that detector lacks are also 0 in `kp2d_input`.
      strength: of the augmentations.
      crop: `exact` is continuous (`crops`); `spin` rounds and resizes as SPIN (`spin_crops`).
      contrast_stretch: of `spin` crops, as in `spin_crops.stretch_contrast`.
      finished: False leaves out what `finish` does, which costs little more for a batch of rows than for one.

    Returns:
      The keys of section 2 without the batch axis.

    Raises:
      ValueError: a record that cannot be used; the message names its `example_id`.
    """
    check(record, needs_keypoints=True)
    visible, center, scale = _view(record, rng, occlusion)
    angle, flip = 0.0, False
    if augment:
        half_side = boxes.half_side(scale)
        scale = scale * _clip(rng.normal(1.0, strength.scale), 1 - strength.scale, 1 + strength.scale)
        center = center + half_side * strength.shift * rng.normal(size=2).clip(-2.0, 2.0)
        if rng.random() < strength.rotate:
            angle = np.deg2rad(strength.angle_deg) * _clip(rng.normal(), -2.0, 2.0)
        flip = rng.random() < strength.flip
    drawn = augment or occlusion != "none"
    box = Box(center, scale, crop_size, angle, crop, contrast_stretch, drawn)
    example = _crop(record, visible, box, flip, with_image)
    if augment and with_image:
        gain = rng.uniform(1 - strength.gain, 1 + strength.gain, 3)
        example["image"] = _gain(example["image"], gain, rounding=0.0 if crop == "spin" else 0.5)
    if not with_image:
        example["detected"] = draw_detected(rng) if augment else DETECTORS[0]
        example["noise"] = EVIDENCE_NOISE * augment * rng.normal(size=(24, 2))
    if "place" in record:
        example |= {"place": record["place"], "angle": np.float32(angle), "flip": np.float32(flip)}
    return finish(example) if finished else example


def finish(rows: Example) -> Example:
    """Centres, turns and mirrors what belongs to the images of unfinished rows, and adds a detector's evidence.

    Args:
      rows: of `training_example` without `finished`; one, or many stacked along leading axes.

    Returns:
      The keys of section 2.
    """
    from scipy.spatial.transform import Rotation  # Late: prediction imports this module for its constants.

    rows = dict(rows)
    pose, turn, mirrored = (rows.pop(key) for key in ("pose", "turn", "mirrored"))
    rows["kp2d"] = np.where(rows["kp2d_valid"][..., None] > 0, rows["kp2d"], np.float32(0))
    joints3d, rows["joints3d_valid"] = centred(rows)

    # The turn is about the camera's axis. One call for all: SciPy takes 24 us for a call and 3 us for 25 rotations.
    about_z = np.zeros((*np.shape(turn), 1, 3))
    about_z[..., 0, 2] = turn
    rotvecs = np.concatenate([pose, about_z], axis=-2)
    rotmats = Rotation.from_rotvec(rotvecs.reshape(-1, 3)).as_matrix().astype(np.float32)
    rotmats = rotmats.reshape(*rotvecs.shape, 3)
    turned, rows["rotmats"] = rotmats[..., 24, :, :], rotmats[..., :24, :, :]
    rows["rotmats"][..., 0, :, :] = turned @ rows["rotmats"][..., 0, :, :]
    rows["joints3d"] = joints3d @ np.swapaxes(turned, -1, -2)

    flipped = flip_example({key: rows[key] for key in (*_POINTS, *_PER_JOINT, "rotmats") if key in rows})
    for key, value in flipped.items():
        where = np.reshape(mirrored, np.shape(mirrored) + (1,) * (value.ndim - np.ndim(mirrored)))
        rows[key] = np.where(where, value, rows[key])
    if "noise" in rows:
        rows["kp2d_input"] = drop_keypoints(rows["kp2d_input"], rows.pop("detected"))
        rows["evidence"] = (rows["kp2d"] + rows.pop("noise")).astype(np.float32)
    return rows


def evaluation_example(
    record: Record, crop_size: int, with_image: bool = True, crop: str = "exact", contrast_stretch: bool = False
) -> Example:
    """Makes one row of an evaluation batch: the stored box and visibility, nothing drawn.

    Args:
      record: the features of section 1 of docs/interfaces.md; only without an image must it have keypoints.
      crop_size: S, pixels.
      with_image: False leaves `image` out.
      crop: `exact` or `spin`, as in `training_example`.
      contrast_stretch: of `spin` crops, as in `training_example`.

    Returns:
      The keys of section 2 without the batch axis, with `occlusion`, `gender` and `example_id`.

    Raises:
      ValueError: a record that cannot be used; the message names its `example_id`.
    """
    check(record, needs_keypoints=not with_image)
    box = Box(record["box_center"], float(record["box_scale"]), crop_size, 0.0, crop, contrast_stretch)
    example = finish(_crop(record, np.asarray(record["kp2d_input"]), box, False, with_image))
    labels = {key: np.int32(record[key]) for key in ("occlusion", "gender")}
    return example | labels | {"example_id": example_id(record)}


def flip_example(example: Example) -> Example:
    """Mirrors rows left to right: image, keypoints, joints and body. Twice is the identity.

    The mirror image of a rotation R is M R M with M = diag(-1, 1, 1); in axis-angle, y and z are negated (SPIN).
    Shapes are kept: the body models are taken to be symmetric.
    """
    flipped = dict(example)
    for key in example.keys() & {*_PER_JOINT}:
        flipped[key] = example[key].take(joints.J24_FLIP, axis=-1)
    for key in example.keys() & {*_POINTS}:
        points = example[key].take(joints.J24_FLIP, axis=-2)
        flipped[key] = points * _MIRROR[: points.shape[-1]]
    flipped["rotmats"] = example["rotmats"].take(joints.SMPL_FLIP, axis=-3) * _MIRROR_ROTMATS
    if "image" in example:
        flipped["image"] = np.ascontiguousarray(example["image"][..., ::-1, :])
    return flipped


_MIRROR = np.array([-1.0, 1.0, 1.0], np.float32)
_MIRROR_ROTMATS = np.outer(_MIRROR, _MIRROR)
_POINTS = ("kp2d", "evidence", "joints3d")
_PER_JOINT = ("kp2d_valid", "kp2d_input", "joints3d_valid")


def draw_detected(rng: np.random.Generator) -> Bool[np.ndarray, "24"]:
    """What a 2D detector gives: J24 itself, OpenPose's or COCO's part of it, with random misses."""
    detector = DETECTORS[_DETECTOR_EDGES.searchsorted(rng.random(), side="right")]
    misses = (rng.random() < MISS_PROBABILITY) & (rng.random(24) < MISS_RATE)
    return detector & ~misses


def drop_keypoints(
    visible: Float[np.ndarray, "*batch 24"], detected: Bool[np.ndarray, "*batch 24"]
) -> Float[np.ndarray, "*batch 24"]:
    """Hides what a 2D detector does not give.

    Args:
      visible: 1 where a keypoint may be used.
      detected: as `draw_detected` has it.

    Returns:
      A subset of `visible`, never an empty one.
    """
    kept = np.where(detected, visible, np.float32(0))
    return np.where((kept > 0).any(axis=-1, keepdims=True), kept, visible)


def example_hash(name: str) -> np.uint32:
    """The first four bytes (little-endian) of the SHA-256 of an example's id: seeds all that is drawn for it."""
    return np.uint32(io.number_of(name, 4, "little"))


def example_id(record: Record) -> str:
    """The record's id as text; TFDS gives text features back as bytes."""
    name = record["example_id"]
    return name.decode() if isinstance(name, bytes) else str(name)


def _clip(value: float, low: float, high: float) -> float:
    """`np.clip` of one number, which takes 5 us."""
    return min(max(value, low), high)


def _view(record: Record, rng: np.random.Generator, mode: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Which keypoints are visible, and the box in original pixels."""
    if mode == "none":
        return np.asarray(record["kp2d_input"]), record["box_center"], float(record["box_scale"])
    if mode != "paper":
        raise ValueError(f"The occlusion of training examples is 'paper' or 'none', got {mode!r}.")
    visible, strategy = occlusion.hide(occlusion.draw(rng), np.asarray(record["kp2d_valid"]))
    if strategy == 0:
        return np.asarray(visible), record["box_center_full"], float(record["box_scale_full"])
    center, scale = boxes.visible_box(np.asarray(record["kp2d"]), visible)
    return np.asarray(visible), np.asarray(center), float(scale)


@dataclasses.dataclass(frozen=True)
class Box:
    """What of the image a crop shows, and how it is made: arguments of `crops` and `spin_crops`.

    A box that was `drawn` may lie beside the image, and is black there; that of a set shows some of it.
    """

    center: Float[np.ndarray, "2"]
    scale: float
    size: int
    angle: float = 0.0
    crop: str = "exact"
    contrast_stretch: bool = False
    drawn: bool = False

    @functools.cached_property
    def transform(self) -> Float64[np.ndarray, "2 3"]:
        """Original pixels -> crop pixels of an exact crop."""
        return boxes.affine(self.center, self.scale, self.size, self.angle)

    def points(self, points_px: Float[np.ndarray, "24 2"]) -> Float[np.ndarray, "24 2"]:
        """Original pixels -> [-1, 1] of the crop."""
        if self.crop == "spin":
            return spin_crops.to_crop(points_px, self.center, self.scale, self.size, self.angle)
        return boxes.to_crop(points_px, self.transform, self.size)

    def image(self, window: UInt8[np.ndarray, "h w 3"], origin: Int[np.ndarray, "2"]) -> UInt8[np.ndarray, "S S 3"]:
        """The crop of a window of the original image."""
        if self.crop == "spin":
            place = self.center, self.scale, self.size, self.angle
            return spin_crops.warp(window, *place, origin, stretch=self.contrast_stretch, empty=self.drawn)
        return crops.warp(window, self.transform, self.size, origin)


def _crop(record: Record, visible: Float[np.ndarray, "24"], box: Box, mirrored: bool, with_image: bool) -> Example:
    """Everything of a record, seen through a box: an unfinished row (`finish`)."""
    if box.crop not in CROPS:
        raise ValueError(f"Crops are {' or '.join(map(repr, CROPS))}, got {box.crop!r}.")
    example = {
        "kp2d": box.points(np.asarray(record["kp2d"])).astype(np.float32),
        "kp2d_valid": np.asarray(record["kp2d_valid"], np.float32),
        "kp2d_input": (np.asarray(visible) > 0).astype(np.float32),  # Of a detection with any confidence.
        "joints3d": np.asarray(record["joints3d"], np.float32),
        "joints3d_valid": np.asarray(record["joints3d_valid"], np.float32),
        "pose": np.asarray(record["pose"]),
        "turn": np.float64(box.angle),
        "mirrored": np.bool_(mirrored),
        "betas": np.asarray(record["betas"], np.float32),
        "smpl_valid": np.float32(record["smpl_valid"]),
        "example_hash": example_hash(example_id(record)),
        "valid": np.float32(1),
    }
    if with_image:
        try:
            image = box.image(record["image"], record["window"][:2])
        except ValueError as error:
            raise ValueError(f"{example_id(record)}: {error}") from error
        example["image"] = cv2.flip(image, 1) if mirrored else image
    return example


def centred(record: Record) -> tuple[Float[np.ndarray, "*batch 24 3"], Float[np.ndarray, "*batch 24"]]:
    """The 3D joints of a record, or of stacked ones, relative to the middle of the hips, and which are valid.

    Without both hips there is no common origin, and none is valid.
    """
    points, valid = (np.asarray(record[key], np.float32) for key in ("joints3d", "joints3d_valid"))
    hips = (valid[..., joints.MIDHIP_J24] > 0).all(axis=-1, keepdims=True)
    valid = np.where(hips, valid, np.float32(0))
    return np.where(valid[..., None] > 0, centring.centre(points), np.float32(0)), valid


def _gain(
    image: UInt8[np.ndarray, "S S 3"], gain: Float[np.ndarray, "3"], rounding: float
) -> UInt8[np.ndarray, "S S 3"]:
    """Multiplies each colour channel, clipped to 255; rounded with 0.5, truncated with 0 (SPIN)."""
    table = (_LEVELS * gain + rounding).clip(0, 255).astype(np.uint8)
    return cv2.LUT(image, table[None])


_LEVELS = np.arange(256.0)[:, None]


def check(record: Record, needs_keypoints: bool) -> None:
    """Refuses what would become a NaN or an empty crop later on.

    Raises:
      ValueError: the message names the `example_id` and the feature.
    """
    numbers = ("box_center", "box_scale", "box_center_full", "box_scale_full", "kp2d", "joints3d", "pose", "betas")
    if not np.isfinite(np.concatenate([record[key] for key in numbers], axis=None)).all():
        key = next(key for key in numbers if not np.isfinite(record[key]).all())
        raise ValueError(f"{example_id(record)}: {key} is not finite. Store zeros with valid = 0 for what is unknown.")
    for key in ("box_scale", "box_scale_full"):
        if not record[key] > 0:
            raise ValueError(f"{example_id(record)}: {key} must be > 0, got {record[key]}.")
    for key in ("kp2d_valid", "kp2d_input"):
        if needs_keypoints and not (np.asarray(record[key]) > 0).any():
            raise ValueError(f"{example_id(record)}: no keypoint in {key}; an example needs at least one.")
