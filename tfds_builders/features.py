"""The one feature dictionary that every image dataset fills, and the smaller one of people without images.

`README.md` says what each feature means, with units and frames.
"""

from typing import Any, cast

import cv2
import numpy as np
import tensorflow_datasets as tfds

from multibodies_jax.data import occlusion

DATASETS = (
    "synthetic_bodies",
    "h36m",
    "threedpw",
    "ah36m",
    "a3dpw",
    "mpi_inf_3dhp",
    "lsp",
    "lspet",
    "mpii",
    "coco2014",
    "pose2sim_demo",
)
UNKNOWN_GENDER = -1

_IMAGE_FORMATS = ("png", "jpeg")
# Runs only: on photographs 3.5 times faster than searching for longer matches, and a little smaller.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
PATH = "path"
_ARRAYS = {
    "window": ((4,), np.int32),
    "image_size": ((2,), np.int32),
    "box_center": ((2,), np.float32),
    "box_scale": ((), np.float32),
    "box_center_full": ((2,), np.float32),
    "box_scale_full": ((), np.float32),
    "kp2d": ((24, 2), np.float32),
    "kp2d_valid": ((24,), np.float32),
    "kp2d_input": ((24,), np.float32),
    "joints3d": ((24, 3), np.float32),
    "joints3d_valid": ((24,), np.float32),
    "pose": ((24, 3), np.float32),
    "betas": ((10,), np.float32),
    "smpl_valid": ((), np.float32),
    "gender": ((), np.int32),
    "intrinsics": ((3, 3), np.float32),
    "intrinsics_valid": ((), np.float32),
}
# Feature -> unit and frame, meaning: the table of README.md is made from it.
MEANINGS = {
    "example_id": ("", "stable and unique: set, subject, sequence, camera, frame, person; bytes when read"),
    "protocol_hint": ("", "the evaluation protocol that usually scores this set; bytes when read"),
    "image": (
        "RGB",
        "a window of the original image that was never resampled, with a margin for scale 1.25 and any rotation; stored "
        "as PNG (`--jpeg_quality`: JPEG, never for evaluation; `--store=path`: read from the archive)",
    ),
    "window": ("pixels", "x, y, width, height of that window in the original image"),
    "image_size": ("pixels", "width, height of the original image"),
    "box_center": ("pixels", "centre of the crop; in ambiguous sets that of the box of what stays visible"),
    "box_scale": ("200 pixels", "side of the square crop"),
    "box_center_full": ("pixels", "centre of the box without occlusion"),
    "box_scale_full": ("200 pixels", "side of the box without occlusion"),
    "kp2d": ("pixels, J24", "keypoints x, y"),
    "kp2d_valid": ("J24", "1 where annotated: the target; a detector's confidence in `threedpw`"),
    "kp2d_input": ("J24", "1 where annotated and not hidden by the occlusion: the evidence"),
    "joints3d": (
        "metres, camera frame, J24",
        "any origin (compare after centring); the camera's centre where `intrinsics_valid` is 1",
    ),
    "joints3d_valid": ("J24", "1 where annotated"),
    "pose": ("radians, axis-angle", "SMPL's 24 joints relative to their parents; the root in the camera frame"),
    "betas": ("", "SMPL shape"),
    "smpl_valid": ("", "1 where `pose` and `betas` are annotated"),
    "gender": ("", "0 male, 1 female, -1 unknown"),
    "intrinsics": ("pixels", "camera matrix of the original image"),
    "intrinsics_valid": ("", "1 where known"),
    "occlusion": (
        "",
        "`none`, `legs`, `arms_head` or `head`: the strategy used; `none` also where a strategy would hide everything",
    ),
    "dataset": ("", "which set: `features.DATASETS`"),
}
_PERSON_ARRAYS = {name: _ARRAYS[name] for name in ("pose", "betas")}
_LABELS = {"occlusion": occlusion.STRATEGIES, "dataset": DATASETS}
_TEXTS = ("example_id", "protocol_hint")
_REQUIRED = ("example_id", "image", "dataset", "box_center", "box_scale")


def features(image_format: str = "png") -> tfds.features.FeaturesDict:
    """The feature dictionary of a set of images.

    Args:
      image_format: what the images are stored as: "png" (every set that is evaluated on), "jpeg", or `PATH`: where
        the image is in the archive.

    Raises:
      ValueError: another image format.
    """
    if image_format == PATH:
        image = tfds.features.Text()
    else:
        _check_format(image_format)
        image = tfds.features.Image(shape=(None, None, 3), encoding_format=image_format)
    return tfds.features.FeaturesDict(
        {
            **{name: tfds.features.Text() for name in _TEXTS},
            "image": image,
            **{name: tfds.features.Tensor(shape=shape, dtype=dtype) for name, (shape, dtype) in _ARRAYS.items()},
            **{name: tfds.features.ClassLabel(names=list(names)) for name, names in _LABELS.items()},
        }
    )


def person_features() -> tfds.features.FeaturesDict:
    """The feature dictionary of people without images: `example_id`, `pose`, `betas`."""
    return tfds.features.FeaturesDict(
        {
            "example_id": tfds.features.Text(),
            **{name: tfds.features.Tensor(shape=shape, dtype=dtype) for name, (shape, dtype) in _PERSON_ARRAYS.items()},
        }
    )


def empty_example() -> dict[str, Any]:
    """An example in which nothing is annotated: zeros, `valid` 0, gender unknown, no image."""
    arrays: dict[str, Any] = {name: np.zeros(shape, dtype) for name, (shape, dtype) in _ARRAYS.items()}
    arrays["gender"] = np.asarray(UNKNOWN_GENDER, np.int32)
    return {**dict.fromkeys(_TEXTS, ""), "image": b"", **arrays, "occlusion": "none", "dataset": DATASETS[0]}


def example(**fields: Any) -> dict[str, Any]:
    """Fills the feature dictionary, with `empty_example` where a set has no annotation, and checks what it is given.

    `box_center_full`, `box_scale_full` and `kp2d_input` are by default `box_center`, `box_scale` and `kp2d_valid`.

    Args:
      **fields: by feature name; `image` is encoded bytes (`encode_image`), an (H, W, 3) uint8 array, stored as PNG, or
        the path of the image in the archive (of sets with `features(PATH)`).

    Returns:
      What `GeneratorBasedBuilder._generate_examples` yields.

    Raises:
      ValueError: an unknown or missing feature, a wrong shape or type, a number that is not finite, a `valid` outside
        [0, 1], an empty box, an unknown class. The message names the example and the feature.
    """
    name = fields.get("example_id", "?")
    if missing := [key for key in _REQUIRED if key not in fields]:
        raise ValueError(f"Example {name!r} lacks {', '.join(missing)}.")
    fields.setdefault("box_center_full", fields["box_center"])
    fields.setdefault("box_scale_full", fields["box_scale"])
    if "kp2d_valid" in fields:
        fields.setdefault("kp2d_input", fields["kp2d_valid"])
    filled = _fill(empty_example(), fields, _ARRAYS)
    filled["image"] = _stored_image(name, fields["image"])
    if not filled["box_scale"] > 0 or not filled["box_scale_full"] > 0:
        raise ValueError(f"Example {name!r}: box_scale must be positive, got {filled['box_scale']}.")
    if np.any(filled["kp2d_input"] > filled["kp2d_valid"]):
        raise ValueError(f"Example {name!r}: kp2d_input may only hold keypoints that kp2d_valid holds.")
    return filled


def person(**fields: Any) -> dict[str, Any]:
    """The same as `example` for people without images: `example_id`, `pose`, `betas`, all three required."""
    empty = {"example_id": "", **{name: np.zeros(shape, dtype) for name, (shape, dtype) in _PERSON_ARRAYS.items()}}
    if missing := [key for key in empty if key not in fields]:
        raise ValueError(f"Person {fields.get('example_id', '?')!r} lacks {', '.join(missing)}.")
    return _fill(empty, fields, _PERSON_ARRAYS)


def encode_image(image: np.ndarray, image_format: str = "png", quality: int = 95) -> bytes:
    """Encodes an (H, W, 3) uint8 RGB image; without loss as "png", with `quality` as "jpeg".

    Raises:
      ValueError: another type, shape or format.
    """
    _check_format(image_format)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        got = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"An image must be an (H, W, 3) uint8 array in RGB, got {got}.")
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality] if image_format == "jpeg" else _PNG
    ok, encoded = cv2.imencode(f".{image_format}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    if not ok:
        raise ValueError(f"OpenCV could not encode a {image.shape} image as {image_format}.")
    return encoded.tobytes()


def _check_format(image_format: str) -> None:
    if image_format not in _IMAGE_FORMATS:
        raise ValueError(f"Images are stored as one of {_IMAGE_FORMATS}, got {image_format!r}.")


def _stored_image(name: str, image: bytes | np.ndarray | str) -> bytes | str:
    if isinstance(image, str) and image:
        return image
    encoded = image if isinstance(image, bytes) else encode_image(cast(np.ndarray, image))
    if not encoded.startswith((b"\x89PNG", b"\xff\xd8")):
        raise ValueError(f"Example {name!r}: the image bytes are neither PNG nor JPEG.")
    return encoded


def _fill(empty: dict[str, Any], fields: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """Puts `fields` into `empty`, each checked against the type of its feature."""
    name = fields["example_id"]
    if unknown := sorted(set(fields) - set(empty)):
        raise ValueError(f"Example {name!r}: unknown feature(s) {', '.join(unknown)}; known: {', '.join(empty)}.")
    for key, value in fields.items():
        if key in arrays:
            empty[key] = _checked_array(f"Example {name!r}: {key}", value, *arrays[key], unit=key.startswith("kp2d_"))
        elif key in _LABELS and value not in _LABELS[key]:
            raise ValueError(f"Example {name!r}: {key} must be one of {', '.join(_LABELS[key])}, got {value!r}.")
        elif key in _TEXTS and not (isinstance(value, str) and (value or key != "example_id")):
            raise ValueError(f"Example {name!r}: {key} must be a text, got {value!r}.")
        else:
            empty[key] = value
    return empty


def _checked_array(what: str, value: Any, shape: tuple[int, ...], dtype: type, unit: bool) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(f"{what} must have shape {shape}, got {array.shape}.")
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"{what} must be {np.dtype(dtype)}, got {array.dtype}.")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{what} holds {np.count_nonzero(~np.isfinite(array))} number(s) that are not finite.")
    if unit and (array.min() < 0 or array.max() > 1):
        raise ValueError(f"{what} must be within [0, 1], got {array.min()} to {array.max()}.")
    return array.astype(dtype)
