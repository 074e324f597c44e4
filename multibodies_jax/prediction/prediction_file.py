"""What was predicted for one person, as a file: all M hypotheses, the n chosen ones, and how to choose anew.

A prediction is a dictionary of arrays (numbers and text, no pickles). Keys that begin with `all_` hold the M
hypotheses, the same keys without it the n representatives, the most probable first; the rest is about the person.
Metres; the camera frame is x right, y down, z forward; pixels are those of the upright image. `SHAPES` and `MEANINGS`
describe every array.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import io, untrusted
from multibodies_jax.export import camera, weighting
from multibodies_jax.geometry import boxes, cameras, image_cameras, joints
from multibodies_jax.hypotheses import quantize
from multibodies_jax.hypotheses.hypotheses import Hypotheses, projected_joints
from multibodies_jax.prediction import plausibility
from multibodies_jax.prediction.people import Person

Record = dict[str, np.ndarray]

_FORMAT = 2  # 1 lacked the camera of the photograph and the body's fingerprint; `load` fills them in.
_PREDICTED = ("rotmats", "betas", "cam", "joints24", "midhip", "log_prior", "log_scores")  # The last one is optional.
_FIELDS = (*_PREDICTED, "translation", "photo_translation", "error_px")
_STORED = {  # Of the M hypotheses: `load` refuses a file without them.
    "all_rotmats": ("M", 24, 3, 3), "all_betas": ("M", "S"), "all_cam": ("M", 3), "all_joints24": ("M", 24, 3),
    "all_midhip": ("M", 3), "all_translation": ("M", 3), "all_photo_translation": ("M", 3), "all_log_prior": ("M",),
    "all_error_px": ("M",), "photo_rotation": (3, 3), "focal_px": (), "principal_point": (2,), "focal_source": (),
    "intrinsics": (3, 3), "box_center": (2,), "box_scale": (), "image_size": (2,), "keypoints": (24, 3),
    "joint_names": (24,), "quantizer": (), "image": (), "person": (), "body": (), "body_fingerprint": (),
    "trained_on": (), "commit": (), "refined": (), "format": (), "placed": (24,), "annotation": (), "temperatures": (),
    "sharpness": (),
}  # fmt: skip
_OPTIONAL = {"all_log_scores": ("M",)}  # Absent where the network has no score head.
_CHOSEN = {"index": ("n",), "probabilities": ("n",), "joints24_camera": ("n", 24, 3), "warnings": ()}
# Shape of every array of a prediction.
SHAPES = (
    {
        name.removeprefix("all_"): ("n", *shape[1:])
        for name, shape in (_STORED | _OPTIONAL).items()
        if name.startswith("all_")
    }
    | _CHOSEN
    | _STORED
    | _OPTIONAL
)
_ABOUT_A_BODY = {
    "rotmats": "SMPL rotations, the root in the camera frame",
    "betas": "SMPL shape",
    "cam": "s, tx, ty of the crop's camera",
    "joints24": "J24, centred on the mid-hip",
    "midhip": "the mid-hip in the body model's own frame",
    "translation": "of the body model's frame before the crop's camera, whose matrix is `intrinsics`: exact, as predicted",
    "photo_translation": "p_camera = photo_rotation @ p + photo_translation takes the body model's frame to the photograph's camera",
    "log_prior": "log p(X), eq (4), nats",
    "log_scores": "logarithm of the learned probability, which sums to 1 over M; optional: of networks with a score head",
    "error_px": "mean distance of the projected joints to the known keypoints, pixels; NaN without keypoints",
}
# Array -> what it is; an array that begins with `all_` is the same for all M hypotheses.
MEANINGS = {
    **_ABOUT_A_BODY,
    **{f"all_{name}": f"{meaning}; of all M" for name, meaning in _ABOUT_A_BODY.items()},
    "index": "which of the M hypotheses the representatives are",
    "probabilities": "mass of each representative's cluster under the weights that `quantizer` names, to the power of its `sharpness`, over the sum of these; they sum to 1",
    "joints24_camera": "J24 before the crop's camera: joints24 + midhip + translation",
    "warnings": "what is implausible of the person or the representatives, in sentences (`plausibility`); empty where nothing is",
    "intrinsics": "matrix of the crop's camera in pixels of the whole image, one for each person: with the focal length of the photograph where `refined`, else with a very long lens",
    "focal_px": "focal length of the photograph, pixels; one for all people of an image",
    "principal_point": "of the photograph, pixels: the middle of the image",
    "focal_source": "`exif`, `given` or `assumed`",
    "photo_rotation": "turns the crop's camera frame into that of the photograph, which sees the person off its axis",
    "box_center": "centre of the crop, pixels",
    "box_scale": "side of the crop in units of 200 pixels",
    "image_size": "width, height, pixels",
    "keypoints": "x, y in pixels, and 1 where the joint is known; J24",
    "joint_names": "the names of J24",
    "placed": "1 where the user put the joint there (`multibodies view`), 0 elsewhere; optional, without it none was put; J24",
    "quantizer": "settings of `quantize.select`, as JSON; `weights` in it: `prior` (eq (2)), `uniform`, `scores` or `scores_and_prior`",
    "temperatures": "temperature of each kind of weights, as JSON, which `quantizer` gets when they are chosen; optional, without it that of `quantizer` stays",
    "sharpness": "sharpness of the probabilities under each kind of weights, as JSON, likewise; optional, without it 1",
    "image": "file name of the image",
    "person": "index of the person in the image; of a people file, among all entries of that image",
    "annotation": "id of the person's entry in the people file, empty where there is none; optional",
    "body": "the body model",
    "body_fingerprint": "SHA-256 of the body model; empty in files of format 1",
    "trained_on": "what the model was trained on",
    "refined": "whether the hypotheses were fitted to the known keypoints (`multibodies_jax.fitting`)",
    "commit": "the commit that made the file",
    "format": "version of this layout: 2",
}
_TEXTS = (
    "joint_names",
    "quantizer",
    "image",
    "body",
    "body_fingerprint",
    "trained_on",
    "commit",
    "focal_source",
    "annotation",
    "temperatures",
    "sharpness",
)
_SINCE_2 = (
    "all_photo_translation",
    "photo_rotation",
    "focal_px",
    "principal_point",
    "focal_source",
    "body_fingerprint",
    "refined",
)


class PredictionError(ValueError):
    """A file of predictions that cannot be used; the message names it and the cause."""


_LARGEST_BYTES = 2**26  # Of one array; a prediction of 1,000 hypotheses has 2 MB.
_MOST_HYPOTHESES = 10_000
_MOST_REPEATED = 10_000  # Starts and iterations of the quantizer: more are not waited for.


class VideoTableError(PredictionError):
    """The file is the table of a person of a video, whose bodies move; the message says what to take instead."""


class DamagedSettingsError(PredictionError):
    """The settings of the quantizer in a prediction are damaged; the message names the person."""


def describe(
    hypotheses: Hypotheses,
    person: Person,
    box: tuple[Float[np.ndarray, "2"], float],
    about: Mapping[str, Any],
    lens: camera.Lens | None = None,
    focal: float = cameras.FOCAL,
) -> Record:
    """All that is known about a person before representatives are chosen.

    Args:
      hypotheses: of one person, leading axis M, scored.
      person: whose keypoints the hypotheses are compared with.
      box: centre and scale of the crop.
      about: `image`, `image_size` (width, height), `person` (its number in the image), `body`, `body_fingerprint`,
        `trained_on`, `refined`, `commit`; `placed` where the user put joints; `temperatures` and
        `sharpness` where they are known.
      lens: of the photograph; None assumes one (`camera.lens`).
      focal: of the crop's camera that `hypotheses.cam` belongs to, in half-sides of the crop.

    Raises:
      ValueError: a hypothesis is not finite.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(hypotheses)):
        raise ValueError("the network's answer is not finite; the checkpoint is unusable, or the evidence is far off")
    center, scale = jnp.asarray(box[0], jnp.float32), jnp.float32(box[1])
    seen = jnp.asarray(person.keypoints)
    translation, intrinsics, error_px = _measure(hypotheses, seen, center, scale, jnp.float32(focal))
    values = {name: getattr(hypotheses, name) for name in _PREDICTED}
    if hypotheses.log_scores is None:
        del values["log_scores"]
    values |= {"translation": translation, "error_px": error_px}
    record = {f"all_{name}": np.asarray(value) for name, value in values.items()}
    record |= {"intrinsics": np.asarray(intrinsics), "box_center": np.asarray(center), "box_scale": np.asarray(scale)}
    record |= {"keypoints": person.keypoints, "joint_names": np.array(joints.J24), "format": np.array(_FORMAT)}
    record |= {"placed": np.zeros(24, np.float32), "annotation": np.array(person.annotation)}
    record |= {name: np.array("{}") for name in weighting.BY_KIND}
    record |= {name: np.asarray(value) for name, value in about.items()}
    return place(record, camera.lens(record["image_size"]) if lens is None else lens)


def place(record: Record, lens: camera.Lens) -> Record:
    """Puts all hypotheses, and the representatives if there are some, before the camera of the photograph.

    Args:
      record: from `describe` or `load`.
      lens: of the photograph.

    Returns:
      The record with `focal_px`, `focal_source`, `principal_point`, `photo_rotation` and `photo_translation`.
    """
    size = record["image_size"]
    points = record["all_joints24"] + record["all_midhip"][:, None]
    given = points, record["all_cam"], record["keypoints"][:, 2], record["box_center"], record["box_scale"]
    matrix = camera.intrinsics(lens.focal_px, size)
    focal = crop_focal(record)
    rotation, translation = _place(*(jnp.asarray(value, jnp.float32) for value in (*given, matrix, focal)))
    record = record | {
        "focal_px": np.array(lens.focal_px, np.float32),
        "focal_source": np.array(lens.source),
        "principal_point": matrix[:2, 2],
        "photo_rotation": np.asarray(rotation),
        "all_photo_translation": np.asarray(translation),
    }
    if "index" in record:
        record["photo_translation"] = record["all_photo_translation"][record["index"]]
    return record


def crop_focal(record: Record) -> float:
    """The focal length of the crop's camera that `cam`, `translation` and `intrinsics` belong to, in half-sides of the crop."""
    return float(record["intrinsics"][0, 0]) / boxes.half_side(float(record["box_scale"]))


_place = jax.jit(camera.place)


@jax.jit
def _measure(
    hypotheses: Hypotheses, keypoints_px: Array, center: Array, scale: Array, focal: Array
) -> tuple[Array, Array, Array]:
    """Translations (M, 3) and the intrinsics of the whole image, and `keypoint_error_px` (M,)."""
    num = hypotheses.cam.shape[0]
    center, scale = jnp.broadcast_to(center, (num, 2)), jnp.broadcast_to(scale, (num,))
    translation, intrinsics = image_cameras.crop_camera_to_full(hypotheses.cam, center, scale, focal=focal)
    return translation, intrinsics[0], keypoint_error_px(hypotheses, keypoints_px, center, scale, focal)


def hypotheses_of(record: Record) -> Hypotheses:
    """All M hypotheses of a person, leading axes (1, M)."""
    return Hypotheses(
        **{name: jnp.asarray(record[f"all_{name}"][None]) for name in _PREDICTED if f"all_{name}" in record}
    )


def choose(record: Record, n: int, settings: Mapping[str, Any]) -> Record:
    """Adds n representatives, replacing those there.

    Args:
      record: from `describe` or `load`.
      n: 1 to M.
      settings: of `quantize.select`: reading, weights, temperature, sharpness, starts, iterations.

    Raises:
      ValueError: n is not in 1..M, a setting is unknown, or the weights need scores and the record has none.
    """
    _check_n(record, n)
    everything = hypotheses_of(record)
    # The name alone is the seed: the same person gets the same representatives, whatever else is predicted.
    name = f"{record['image']}/{record['person']}"
    seed = io.number_of(name, 4, "big")
    chosen = quantize.select(everything, n, jax.random.key(seed)[None], **settings)
    index = np.asarray(chosen.medoid)[0]
    picked = {name: record[f"all_{name}"][index] for name in _FIELDS if f"all_{name}" in record}
    picked["joints24_camera"] = picked["joints24"] + (picked["midhip"] + picked["translation"])[:, None]
    quantizer = np.array(json.dumps(dict(settings)))
    record = record | picked | {"index": index, "probabilities": np.asarray(chosen.prob)[0], "quantizer": quantizer}
    return record | {"warnings": np.array(" ".join(plausibility.warnings(record)))}


def _check_n(record: Record, n: int) -> None:
    num = len(record["all_log_prior"])
    if n != int(n) or not 1 <= n <= num:
        raise ValueError(f"n is {n}; choose 1 to {num}, the number of hypotheses M.")


def choose_again(record: Record, n: int, weights: str | None = None) -> Record:
    """As `choose`, with the quantizer's settings that the record has.

    Args:
      record: from `choose` or `load`.
      n: 1 to M.
      weights: other weights of the hypotheses (`weighting.settings_under`); None are those of the record.

    Raises:
      DamagedSettingsError: they are damaged.
      ValueError: n is not in 1..M, there are no such weights, or they need learned scores and the record has none.
    """
    _check_n(record, n)
    if weights is not None:
        weighting.check_kind(record, weights)
    try:
        settings = weighting.settings_under(record, weights)
        if max(settings.get("starts", 1), settings.get("iterations", 1)) > _MOST_REPEATED:
            raise TypeError(f"starts and iterations are at most {_MOST_REPEATED}, got {settings}")
        return choose(record, n, settings)
    except (ValueError, TypeError, OverflowError) as error:
        raise DamagedSettingsError(
            f"the quantizer's settings are damaged: person {record['person']} of {record['image']} ({error})."
        ) from error


def requantize(path: str | os.PathLike, n: int, out: str | os.PathLike, weights: str | None = None) -> Record:
    """Chooses another number of representatives of a saved prediction, without the network.

    Args:
      path: a file that `predict` wrote.
      n: 1 to M.
      out: the file to write; may be the same one.
      weights: other weights of the hypotheses, as `choose_again`.

    Returns:
      What was written.

    Raises:
      PredictionError: `path` is no prediction.
      ValueError: n is not in 1..M, or there are no such weights.
    """
    try:
        record = choose_again(load(path), n, weights)
    except DamagedSettingsError as error:
        raise DamagedSettingsError(f"{path}: {error}") from error
    save(out, record)
    return record


def save(path: str | os.PathLike, record: Record) -> None:
    """Writes a prediction; a file that is there stays as it is until the new one is complete."""
    io.write_npz(path, record)


def load(path: str | os.PathLike) -> Record:
    """Reads a prediction and checks that everything is there in its shape, and finite.

    Only predictions of networks with a score head have `log_scores`. A file of format 1 gets the camera of the photograph by assumption, and an empty fingerprint of its body. A file
    without `placed` gets zeros, one without `annotation` an empty text, one without `temperatures` or `sharpness` none.

    Raises:
      PredictionError: the file cannot be read, or is not what `save` writes (`VideoTableError` of a video's table).
    """
    advice = "Give a file that `multibodies predict` wrote."
    try:
        with untrusted.open_npz(path, advice, PredictionError, _LARGEST_BYTES) as file:
            if "video" in file and "frames" in file:
                raise VideoTableError(
                    f"{path}: this is the table of a person of a video (docs/usage.md); the animated .glb, the .bvh files and "
                    "the overlay were written beside it. Predictions of photographs are meant here."
                )
            if told := untrusted.misspelt(file, SHAPES):
                raise PredictionError(f"{path} {told}. {advice}")
            record = {name: file[name] for name in file if name in SHAPES}  # Others are not even read.
    except FileNotFoundError as error:
        raise PredictionError(f"{path} cannot be read: there is no such file. {advice}") from error
    old = np.array_equal(record.get("format", 0), 1)
    record.setdefault("placed", np.zeros(24, np.float32))
    record.setdefault("annotation", np.array(""))
    for name in weighting.BY_KIND:
        record.setdefault(name, np.array("{}"))
    sizes: dict[str, int] = {}
    for name, shape in (_STORED | _OPTIONAL).items():
        if (old and name in _SINCE_2) or (name in _OPTIONAL and name not in record):
            continue
        if name not in record:
            raise PredictionError(f"{path}: {name} is missing; is it a file that `multibodies predict` wrote?")
        value = record[name]
        if value.dtype.kind not in ("U" if name in _TEXTS else "biuf") or value.ndim != len(shape):
            raise PredictionError(f"{path}: {name} is {value.dtype} {value.shape}, expected the shape {shape}.")
        for got, expected in zip(value.shape, shape, strict=True):
            if got != (sizes.setdefault(expected, got) if isinstance(expected, str) else expected):
                raise PredictionError(f"{path}: {name} has the shape {value.shape}, expected {shape} with {sizes}.")
        if value.dtype.kind != "U" and name != "all_error_px" and not np.isfinite(value).all():
            raise PredictionError(f"{path}: {name} is not finite.")
    if record["format"] not in (1, _FORMAT) or not 1 <= sizes["M"] <= _MOST_HYPOTHESES:
        raise PredictionError(
            f"{path}: format {record['format']} with {sizes['M']} hypotheses; expected format 1 or {_FORMAT}, 1 to "
            f"{_MOST_HYPOTHESES:,} hypotheses."
        )
    if np.min(record["image_size"]) < 1 or not record["box_scale"] > 0 or not record.get("focal_px", 1) > 0:
        raise PredictionError(
            f"{path}: image_size {record['image_size'].tolist()}, box_scale {record['box_scale']} and focal_px "
            f"{record.get('focal_px', 'absent')} have to be positive."
        )
    if old:
        record |= {"format": np.array(_FORMAT), "body_fingerprint": np.array(""), "refined": np.array(False)}
        record = place(record, camera.lens(record["image_size"]))
    return record


def source_of(path: str | os.PathLike) -> str:
    """The file name of the photograph of a prediction, or of the video of a table; "" of any other file."""
    try:
        with untrusted.open_npz(path, raises=PredictionError, largest=_LARGEST_BYTES) as file:
            name = next((file[name] for name in ("video", "image") if name in file), np.array(""))
    except (PredictionError, OSError):
        return ""
    return str(name) if name.dtype.kind == "U" and name.ndim == 0 else ""


def keypoint_error_px(
    hypotheses: Hypotheses,
    keypoints_px: Float[Array, "24 3"],
    center: Float[Array, "M 2"],
    scale: Float[Array, "M"],
    focal: Float[Array, ""] | float = cameras.FOCAL,
) -> Float[Array, "M"]:
    """Mean distance of every hypothesis' projected joints to the known keypoints, pixels of the image.

    Args:
      hypotheses: of one person, leading axis M.
      keypoints_px: x, y, known.
      center: of each hypothesis' crop.
      scale: of each hypothesis' crop.
      focal: of the crop's camera, in half-sides of the crop.

    Returns:
      NaN where no keypoint is known.
    """
    projected = image_cameras.crop_to_image(projected_joints(hypotheses, focal), center, scale)
    known = keypoints_px[:, 2] > 0
    distance = jnp.linalg.norm(projected - keypoints_px[None, :, :2], axis=-1)
    return jnp.mean(distance, axis=1, where=known[None])
