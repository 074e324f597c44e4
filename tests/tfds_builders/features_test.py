"""The feature dictionary: what every builder fills, and what it refuses."""

from typing import Any, cast

import cv2
import numpy as np
import pytest

from multibodies_jax.data import occlusion
from tfds_builders import features

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def minimal(**fields):
    base = {
        "example_id": "set/train/1",
        "image": IMAGE,
        "dataset": "lsp",
        "box_center": np.array([3.0, 2.0]),
        "box_scale": 0.1,
    }
    return features.example(**{**base, **fields})


def test_shapes_types_and_names():
    dictionary: Any = features.features()  # TFDS types its entries as the base class of all features.
    shapes = {key: feature.shape for key, feature in dictionary.items()}
    assert shapes == {
        "example_id": (),
        "image": (None, None, 3),
        "window": (4,),
        "image_size": (2,),
        "box_center": (2,),
        "box_scale": (),
        "box_center_full": (2,),
        "box_scale_full": (),
        "kp2d": (24, 2),
        "kp2d_valid": (24,),
        "kp2d_input": (24,),
        "joints3d": (24, 3),
        "joints3d_valid": (24,),
        "pose": (24, 3),
        "betas": (10,),
        "smpl_valid": (),
        "gender": (),
        "intrinsics": (3, 3),
        "intrinsics_valid": (),
        "occlusion": (),
        "dataset": (),
        "protocol_hint": (),
    }
    integers = {"window", "image_size", "gender"}
    assert all(dictionary[key].np_dtype == np.int32 for key in integers)
    floats = set(shapes) - integers - {"example_id", "image", "occlusion", "dataset", "protocol_hint"}
    assert all(dictionary[key].np_dtype == np.float32 for key in floats)
    assert dictionary["occlusion"].names == list(occlusion.STRATEGIES)
    assert dictionary["dataset"].names[:5] == ["synthetic_bodies", "h36m", "threedpw", "ah36m", "a3dpw"]
    assert cast(Any, features.features("jpeg"))["image"].encoding_format == "jpeg"


def test_an_example_without_annotations_is_zeros_with_valid_zero():
    example = minimal()
    assert set(example) == set(features.features())
    assert example["gender"] == -1 and example["occlusion"] == "none"
    for key in ("kp2d", "kp2d_valid", "kp2d_input", "joints3d_valid", "pose", "smpl_valid", "intrinsics_valid"):
        assert not np.any(example[key])


def test_the_box_without_occlusion_and_the_evidence_default_to_the_plain_ones():
    valid = (np.arange(24) % 2).astype(np.float32)
    example = minimal(kp2d=RNG.random((24, 2)), kp2d_valid=valid)
    np.testing.assert_array_equal(example["box_center_full"], [3, 2])
    assert example["box_scale_full"] == np.float32(0.1)
    np.testing.assert_array_equal(example["kp2d_input"], valid)
    assert example["kp2d"].dtype == np.float32


def test_examples_survive_being_stored():
    fields = {"pose": RNG.random((24, 3)).astype(np.float32), "gender": 1, "occlusion": "legs", "window": [1, 2, 7, 5]}
    example = minimal(**fields)
    dictionary: Any = features.features()  # TFDS types its entries as the base class of all features.
    stored = dictionary.deserialize_example_np(dictionary.serialize_example(dictionary.encode_example(example)))
    assert stored["example_id"] == b"set/train/1"
    np.testing.assert_array_equal(stored["image"], IMAGE)
    np.testing.assert_array_equal(stored["pose"], fields["pose"])
    np.testing.assert_array_equal(stored["window"], [1, 2, 7, 5])
    assert stored["occlusion"] == 1 and stored["gender"] == 1 and stored["dataset"] == features.DATASETS.index("lsp")


def decode(encoded):
    """Pixels (H, W, 3), BGR."""
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_encode_image_is_lossless_png_in_rgb_or_jpeg():
    decoded = decode(features.encode_image(IMAGE))
    np.testing.assert_array_equal(decoded[..., ::-1], IMAGE)
    smooth = np.tile(np.arange(0, 240, 15, dtype=np.uint8)[:, None, None], (1, 16, 3))
    jpeg = features.encode_image(smooth, "jpeg")
    assert jpeg.startswith(b"\xff\xd8")
    assert np.abs(decode(jpeg).astype(int) - smooth).max() < 8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kp2d": np.zeros((17, 2))}, r"kp2d must have shape \(24, 2\), got \(17, 2\)"),
        ({"joints3d": np.full((24, 3), np.nan)}, "joints3d holds 72 number"),
        ({"kp2d_valid": np.full(24, 2.0)}, r"kp2d_valid must be within \[0, 1\]"),
        ({"kp2d_input": np.ones(24), "kp2d_valid": np.zeros(24)}, "kp2d_input may only"),
        ({"window": np.array([0.5, 0, 1, 1])}, "window must be int32, got float64"),
        ({"keypoints": np.zeros(3)}, "unknown feature.*keypoints; known: .*kp2d"),
        ({"dataset": "h3.6m"}, "dataset must be one of synthetic_bodies, h36m"),
        ({"occlusion": 3}, "occlusion must be one of none, legs"),
        ({"box_scale": 0.0}, "box_scale must be positive"),
        ({"image": IMAGE.astype(np.float32)}, r"uint8 array in RGB, got \(5, 7, 3\) float32"),
        ({"image": IMAGE[..., 0]}, r"got \(5, 7\) uint8"),
        ({"image": b"GIF89a"}, "neither PNG nor JPEG"),
        ({"example_id": ""}, "example_id must be a text"),
    ],
)
def test_bad_fields_are_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        minimal(**fields)


def test_missing_fields_and_formats_are_refused():
    with pytest.raises(ValueError, match="lacks example_id, image"):
        features.example(dataset="lsp", box_center=np.zeros(2), box_scale=1.0)
    with pytest.raises(ValueError, match="'gif'"):
        features.features("gif")
    with pytest.raises(ValueError, match="Person 'a' lacks betas"):
        features.person(example_id="a", pose=np.zeros((24, 3)))
    with pytest.raises(ValueError, match="pose must have shape"):
        features.person(example_id="a", pose=np.zeros(72), betas=np.zeros(10))
