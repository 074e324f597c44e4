"""Examples: image, keypoints, joints and body must move together."""

import dataclasses

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.data import augment, occlusion, pipeline, spin_crops
from multibodies_jax.geometry import boxes, joints

_SIZE = 64
_STILL = augment.Strength(flip=0.0, rotate=0.0, scale=0.0, shift=0.0, gain=0.0)


def _record(seed=0, **fields):
    """A weak camera's view of a random skeleton: kp2d = 100 xy + offset, a disc painted on the right wrist."""
    rng = np.random.default_rng(seed)
    joints3d = rng.uniform(-0.4, 0.4, (24, 3)).astype(np.float32)
    origin = np.array([40, 25], np.int32)
    kp2d = (100 * joints3d[:, :2] + origin + [100.0, 80.0]).astype(np.float32)
    image = np.zeros((160, 200, 3), np.uint8)
    wrist = kp2d[6] - origin
    cv2.circle(image, [round(16 * float(v - 0.5)) for v in wrist], 16 * 5, (255, 200, 100), -1, cv2.LINE_AA, 4)
    ones = np.ones(24, np.float32)
    center, scale = boxes.visible_box(kp2d, ones)
    return {
        "example_id": f"test/{seed}".encode(),
        "image": image,
        "window": np.array([*origin, 200, 160], np.int32),
        "image_size": np.array([300, 200], np.int32),
        "box_center": center,
        "box_scale": scale,
        "box_center_full": center,
        "box_scale_full": scale,
        "kp2d": kp2d,
        "kp2d_valid": ones,
        "kp2d_input": ones,
        "joints3d": joints3d + np.array([0.1, 0.2, 3.0], np.float32),
        "joints3d_valid": ones,
        "pose": rng.normal(size=(24, 3)).astype(np.float32),
        "betas": rng.normal(size=10).astype(np.float32),
        "smpl_valid": np.float32(1),
        "gender": np.int32(1),
        "occlusion": np.int64(0),
    } | fields


def _centroid(image):
    weights = image[..., 0].astype(np.float64)
    at = (np.arange(len(image)) + 0.5) / (len(image) / 2) - 1
    return np.array([(weights.sum(0) * at).sum(), (weights.sum(1) * at).sum()]) / weights.sum()


def _training(record, seed=0, size=_SIZE, **options):
    return augment.training_example(record, np.random.default_rng(seed), size, **options)


def _assert_equal(a, b, **tolerance):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_allclose(a[key], b[key], err_msg=key, **tolerance)


def test_flipping_twice_is_the_identity_bit_for_bit():
    example = _training(_record(), with_image=False) | {"image": _training(_record())["image"]}
    once = augment.flip_example(example)
    _assert_equal(augment.flip_example(once), example, rtol=0)
    for key in ("image", "kp2d", "evidence", "joints3d", "rotmats"):
        assert not np.array_equal(once[key], example[key])
    right_wrist, left_wrist = 6, 11
    np.testing.assert_array_equal(once["kp2d"][left_wrist], example["kp2d"][right_wrist] * [-1, 1])
    np.testing.assert_array_equal(once["evidence"][left_wrist], example["evidence"][right_wrist] * [-1, 1])
    np.testing.assert_array_equal(once["joints3d"][left_wrist], example["joints3d"][right_wrist] * [-1, 1, 1])
    np.testing.assert_allclose(_centroid(once["image"]), once["kp2d"][left_wrist], atol=0.01)


def test_a_mirrored_body_has_y_and_z_of_its_axis_angles_negated():
    record = _record()
    rotmats = augment.flip_example(augment.evaluation_example(record, _SIZE))["rotmats"]
    expected = record["pose"][joints.SMPL_FLIP] * [1, -1, -1]
    np.testing.assert_allclose(rotmats, Rotation.from_rotvec(expected).as_matrix(), atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_image_keypoints_joints_and_root_move_together(seed):
    record = _record(seed)
    strength = augment.Strength(rotate=1.0, angle_deg=40.0, scale=0.25, shift=0.1)
    plain = augment.evaluation_example(record, _SIZE)
    moved = _training(record, seed + 50, strength=strength, occlusion="none")
    if not _same_handed(plain, moved):
        moved = augment.flip_example(moved)
    # The image: the painted wrist is where its keypoint is, if it is inside.
    if np.abs(moved["kp2d"][6]).max() < 0.7:
        np.testing.assert_allclose(_centroid(moved["image"]), moved["kp2d"][6], atol=0.015)
    # The weak camera that explained the keypoints explains them still: one zoom, no turn.
    X, u = moved["joints3d"][:, :2], moved["kp2d"]
    linear = _linear(X, u)
    np.testing.assert_allclose(linear, np.eye(2) * linear[0, 0], atol=1e-3)
    # The body: the same rotation about z for joints and root, nothing else.
    turn = moved["rotmats"][0] @ plain["rotmats"][0].T
    np.testing.assert_allclose(turn[2], [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(moved["joints3d"], plain["joints3d"] @ turn.T, atol=1e-6)
    np.testing.assert_allclose(moved["rotmats"][1:], plain["rotmats"][1:], atol=1e-6)
    assert abs(turn[0, 1]) > 1e-3


def _same_handed(plain, example):
    """Whether an example was not mirrored; mirroring also swaps left and right, which no affine map does."""
    design = np.concatenate([plain["kp2d"], np.ones((24, 1))], axis=1)
    residual = example["kp2d"] - design @ np.linalg.lstsq(design, example["kp2d"], rcond=None)[0]
    return np.abs(residual).max() < 1e-3


def _linear(source, target):
    """The 2 x 2 part of the affine map between point sets, by least squares."""
    design = np.concatenate([source, np.ones((24, 1))], axis=1).astype(np.float64)
    return np.linalg.lstsq(design, target.astype(np.float64), rcond=None)[0][:2].T


def test_evaluation_uses_the_stored_box_and_visibility():
    visible = np.zeros(24, np.float32)
    visible[6:12] = 1
    center, scale = np.array([150.0, 110.0], np.float32), np.float32(0.3)
    record = _record(kp2d_input=visible, box_center=center, box_scale=scale, occlusion=np.int64(1))
    example = augment.evaluation_example(record, _SIZE)
    np.testing.assert_allclose(example["kp2d"], (record["kp2d"] - center) / 30, atol=1e-5)
    np.testing.assert_array_equal(example["kp2d_input"], visible)
    assert (example["example_id"], example["occlusion"], example["gender"], example["valid"]) == ("test/0", 1, 1, 1)
    assert example["image"].shape == (_SIZE, _SIZE, 3)
    assert "image" not in augment.evaluation_example(record, _SIZE, with_image=False)
    # Training without occlusion sees an ambiguous set as it is stored.
    np.testing.assert_array_equal(_training(record, strength=_STILL, occlusion="none")["kp2d"], example["kp2d"])


def test_joints_are_centred_on_the_hips_or_not_valid():
    example = augment.evaluation_example(_record(), _SIZE)
    np.testing.assert_allclose(example["joints3d"][2:4].mean(0), 0, atol=1e-6)
    one_hip = np.ones(24, np.float32)
    one_hip[3] = 0
    example = augment.evaluation_example(_record(joints3d_valid=one_hip), _SIZE)
    assert not example["joints3d_valid"].any() and not example["joints3d"].any()


@pytest.mark.slow
def test_training_hides_by_the_papers_probabilities_and_crops_around_the_rest():
    record = _record()
    hidden = {strategy: 0 for strategy in occlusion.STRATEGIES}
    rng = np.random.default_rng(0)
    for _ in range(400):
        example = augment.training_example(record, rng, 8, strength=_STILL)
        visible = example["kp2d_input"]
        matches = [
            s
            for s, row in zip(occlusion.STRATEGIES, occlusion.HIDDEN, strict=True)
            if not visible[row].any() and visible[~row].all()
        ]
        hidden[matches[-1] if matches else "?"] += 1
        extent = np.abs(example["kp2d"][visible > 0]).max()
        np.testing.assert_allclose(extent, 1 / boxes.PADDING, rtol=1e-4)
        assert example["kp2d_valid"].all()
    shares = [hidden[strategy] / 400 for strategy in occlusion.STRATEGIES]
    np.testing.assert_allclose(shares, occlusion.PROBABILITIES, atol=0.08)


def test_nothing_moves_without_augmentation():
    record = _record()
    example = _training(record, augment=False, occlusion="none")
    evaluated = augment.evaluation_example(record, _SIZE)
    _assert_equal(example, {key: evaluated[key] for key in example}, rtol=0)
    without = _training(record, augment=False, occlusion="none", with_image=False)
    np.testing.assert_array_equal(without["evidence"], example["kp2d"])
    np.testing.assert_array_equal(without["kp2d_input"], example["kp2d_input"])


@pytest.mark.slow
def test_strengths_are_what_they_say():
    record, rng = _record(), np.random.default_rng(0)
    plain = augment.evaluation_example(record, 8)
    zooms, angles, flips = [], [], []
    for _ in range(600):
        example = augment.training_example(record, rng, 8, occlusion="none", strength=augment.SPIN)
        flips.append(not _same_handed(plain, example))
        example = augment.flip_example(example) if flips[-1] else example
        linear = _linear(plain["kp2d"], example["kp2d"])
        zooms.append(1 / np.sqrt(np.linalg.det(linear)))
        angles.append(np.rad2deg(np.arctan2(linear[1, 0], linear[0, 0])))
    assert 0.43 < np.mean(flips) < 0.57
    assert 0.74 < min(zooms) < 0.76 and 1.24 < max(zooms) < 1.26
    turned = np.abs(angles) > 1e-3
    assert 0.33 < turned.mean() < 0.47 and 50 < np.abs(angles).max() <= 60.001
    assert 24 < np.std(np.array(angles)[turned]) < 34


def test_the_shift_is_in_half_sides():
    record, rng = _record(), np.random.default_rng(0)
    strength = dataclasses.replace(_STILL, shift=0.1)
    plain = augment.evaluation_example(record, 8)["kp2d"]
    examples = [augment.training_example(record, rng, 8, occlusion="none", strength=strength) for _ in range(400)]
    shifts = np.array([(example["kp2d"] - plain).mean(0) for example in examples])
    assert 0.08 < shifts.std() < 0.11 and np.abs(shifts).max() <= 0.2 + 1e-5


def test_the_gain_multiplies_each_channel_and_clips():
    grey = _record(image=np.full((160, 200, 3), 200, np.uint8))
    strength = dataclasses.replace(_STILL, gain=0.4)
    colours = np.array(
        [_training(grey, seed, strength=strength, occlusion="none")["image"][32, 32] for seed in range(60)]
    )
    assert colours.min() < 140 and colours.min() >= 119 and colours.max() == 255
    assert len(np.unique(colours[0])) == 3


def test_detectors_lack_what_their_joint_sets_lack():
    assert augment.DETECTORS.sum(1).tolist() == [24, 17, 19]
    rng, visible = np.random.default_rng(0), np.ones(24, np.float32)
    kept = np.array([augment.drop_keypoints(visible, augment.draw_detected(rng)) for _ in range(2000)])
    misses = augment.MISS_PROBABILITY * augment.MISS_RATE
    np.testing.assert_allclose(kept[:, 16].mean(), 0.5 * (1 - misses), atol=0.04)  # The spine: J24 only.
    np.testing.assert_allclose(kept[:, 14].mean(), 0.75 * (1 - misses), atol=0.04)  # The pelvis: OpenPose too.
    np.testing.assert_allclose(kept[:, 6].mean(), 1 - misses, atol=0.02)
    only_spine = np.eye(24, dtype=np.float32)[16]
    for _ in range(50):
        np.testing.assert_array_equal(augment.drop_keypoints(only_spine, augment.draw_detected(rng)), only_spine)


@pytest.mark.parametrize("options", [{}, {"with_image": False}, {"crop": "spin", "strength": augment.SPIN}])
def test_a_batch_is_finished_as_its_rows_are(options):
    one_hip = np.ones(24, np.float32)
    one_hip[3] = 0
    records = [_record(seed, **({"joints3d_valid": one_hip} if seed == 4 else {})) for seed in range(12)]
    rows = pipeline.collate([_training(record, i, **options) for i, record in enumerate(records)])
    unfinished = [_training(record, i, finished=False, **options) for i, record in enumerate(records)]
    assert {bool(row["mirrored"]) for row in unfinished} == {True, False}
    batch = augment.finish(pipeline.collate(unfinished))
    assert {key: value.dtype for key, value in batch.items()} == {key: value.dtype for key, value in rows.items()}
    _assert_equal(batch, rows, rtol=0)


def test_evidence_is_a_detectors_and_the_truth_is_not():
    record = _record()
    examples = [_training(record, seed, strength=_STILL, occlusion="none", with_image=False) for seed in range(100)]
    truth = augment.evaluation_example(record, _SIZE)["kp2d"]
    assert all(np.array_equal(example["kp2d"], truth) for example in examples)
    noise = np.array([example["evidence"] for example in examples]) - truth
    assert 0.4 < np.mean([example["kp2d_input"][16] for example in examples]) < 0.6  # The spine: half of the detectors.
    assert abs(noise.std() / augment.EVIDENCE_NOISE - 1) < 0.05


def test_the_hash_is_of_the_id_alone():
    assert augment.example_hash("test/0") == np.uint32(int.from_bytes(bytes.fromhex("582fa647"), "little"))
    assert augment.evaluation_example(_record(), 8)["example_hash"] == augment.example_hash("test/0")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"kp2d": np.full((24, 2), np.nan, np.float32)}, "test/0: kp2d is not finite"),
        ({"pose": np.full((24, 3), np.inf, np.float32)}, "test/0: pose is not finite"),
        ({"box_scale": np.float32(0)}, "test/0: box_scale must be > 0"),
        ({"kp2d_valid": np.zeros(24, np.float32)}, "test/0: no keypoint in kp2d_valid"),
        ({"kp2d_input": np.zeros(24, np.float32)}, "test/0: no keypoint in kp2d_input"),
    ],
)
def test_unusable_records_are_named(fields, message):
    for make in (_training, lambda record: augment.evaluation_example(record, 8, with_image=False)):
        with pytest.raises(ValueError, match=message):
            make(_record(**fields))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'paper' or 'none', got 'heavy'"):
        _training(_record(), occlusion="heavy")
    with pytest.raises(ValueError, match="'exact' or 'spin', got 'loose'"):
        augment.evaluation_example(_record(), 8, crop="loose")


def test_an_image_alone_can_be_evaluated():
    none = np.zeros(24, np.float32)
    example = augment.evaluation_example(_record(kp2d_valid=none, kp2d_input=none), _SIZE)
    assert example["image"].any() and not example["kp2d"].any()


def test_a_detection_weighs_by_its_confidence_and_is_evidence_with_any():
    confidence = np.linspace(0, 1, 24).astype(np.float32)
    example = augment.evaluation_example(_record(kp2d_valid=confidence, kp2d_input=confidence), _SIZE)
    np.testing.assert_array_equal(example["kp2d_valid"], confidence)
    np.testing.assert_array_equal(example["kp2d_input"], [0] + 23 * [1])


def test_spins_crops_are_evaluated_with_or_without_its_stretch():
    record = _record(box_scale=np.float32(1.9))
    place = record["box_center"], record["box_scale"], _SIZE
    for stretch in (False, True):
        example = augment.evaluation_example(record, _SIZE, crop="spin", contrast_stretch=stretch)
        expected = spin_crops.warp(record["image"], *place, origin=record["window"][:2], stretch=stretch)
        np.testing.assert_array_equal(example["image"], expected)
        np.testing.assert_array_equal(example["kp2d"], spin_crops.to_crop(record["kp2d"], *place).astype(np.float32))
    faint = _record(image=_record()["image"] // 2)
    crops = [augment.evaluation_example(faint, _SIZE, crop="spin", contrast_stretch=s)["image"] for s in (False, True)]
    assert crops[0].max() < 128 and crops[1].max() > 250
    with pytest.raises(ValueError, match=r"test/0: The box spans .* lies wholly outside"):
        augment.evaluation_example(_record(box_center=np.array([-900.0, 5.0], np.float32)), _SIZE, crop="spin")


def test_a_drawn_box_beside_the_image_is_black_and_a_stored_one_is_refused():
    far = np.array([-900.0, 5.0], np.float32)
    record = _record(box_center=far, box_center_full=far)
    for crop in ("spin", "exact"):
        assert not _training(record, 0, strength=augment.SPIN, occlusion="none", crop=crop)["image"].any()
    with pytest.raises(ValueError, match="wholly outside"):
        _training(record, 0, augment=False, occlusion="none", crop="spin")


@pytest.mark.parametrize("seed", range(8))
def test_spins_keypoints_stay_the_projection_of_the_joints(seed):
    example = _training(_record(seed), seed, strength=augment.SPIN, occlusion="none", crop="spin")
    X, u = example["joints3d"][:, :2], example["kp2d"]
    zoom = _linear(X, u)[0, 0]  # One zoom for both axes, and neither turned nor mirrored against each other.
    offset = u - zoom * X
    assert zoom > 1 and np.ptp(offset, axis=0).max() <= 2.5 / (_SIZE / 2)


@pytest.mark.parametrize("seed", range(4))
def test_training_on_spins_crops_is_crop_then_flip_then_noise(seed):
    record = _record(seed, image=np.random.default_rng(seed).integers(0, 256, (160, 200, 3)).astype(np.uint8))
    strength = augment.Strength(flip=float(seed % 2), rotate=1.0, angle_deg=20.0, scale=0.0, shift=0.0, gain=0.4)
    options = {"occlusion": "none", "crop": "spin", "contrast_stretch": True}
    example = _training(record, seed, strength=strength, **options)
    # What was drawn, from the root and the colours; then SPIN's formulas one after the other, in float64.
    plain = Rotation.from_rotvec(record["pose"]).as_matrix()
    root = example["rotmats"][0].astype(np.float64)
    mirror = np.diag([-1.0, 1.0, 1.0]) if strength.flip else np.eye(3)
    turn = mirror @ root @ mirror @ plain[0].T
    rot = -np.arctan2(turn[1, 0], turn[0, 0])
    assert abs(rot) > 1e-3
    R = np.array([[np.cos(-rot), -np.sin(-rot), 0], [np.sin(-rot), np.cos(-rot), 0], [0, 0, 1]])
    place = record["box_center"], record["box_scale"], _SIZE, -rot
    kp2d = spin_crops.to_crop(record["kp2d"], *place)
    joints3d = record["joints3d"].astype(np.float64) @ R.T
    pose = np.concatenate([Rotation.from_matrix(R @ plain[0]).as_rotvec()[None], record["pose"][1:]])
    image = spin_crops.warp(record["image"], *place, record["window"][:2], stretch=True).astype(np.float64)
    if strength.flip:
        kp2d, joints3d, pose = kp2d[joints.J24_FLIP], joints3d[joints.J24_FLIP], pose[joints.SMPL_FLIP]
        kp2d, joints3d, pose = kp2d * [-1, 1], joints3d * [-1, 1, 1], pose * [1, -1, -1]
        image = image[:, ::-1]
    np.testing.assert_allclose(example["kp2d"], kp2d, atol=1e-6)
    np.testing.assert_allclose(example["joints3d"], joints3d - joints3d[2:4].mean(0), atol=1e-6)
    np.testing.assert_allclose(example["rotmats"], Rotation.from_rotvec(pose).as_matrix(), atol=1e-6)
    unclipped = (example["image"] > 20) & (example["image"] < 255)
    for channel in range(3):
        got, before = (a[..., channel][unclipped[..., channel]] for a in (example["image"], image))
        # trunc(gain * before) = got; all but a few pixels, because the angle is known to float32 only.
        low, high = np.quantile(got / before, 0.998), np.quantile((got + 1.0) / before, 0.002)
        assert low < high and high >= 0.6 and low <= 1.4


def test_annotations_that_are_missing_do_no_harm():
    nothing = {"joints3d": np.zeros((24, 3), np.float32), "joints3d_valid": np.zeros(24, np.float32)}
    nothing |= {"pose": np.zeros((24, 3), np.float32), "betas": np.zeros(10, np.float32), "smpl_valid": np.float32(0)}
    some = np.zeros(24, np.float32)
    some[[2, 3, 8, 9]] = 1
    kp2d = np.where(some[:, None] > 0, _record()["kp2d"], 0)
    for seed in range(20):
        example = _training(_record(**nothing, kp2d=kp2d, kp2d_valid=some, kp2d_input=some), seed)
        assert all(np.isfinite(value).all() for value in example.values())
        assert not example["kp2d"][example["kp2d_valid"] == 0].any() and example["kp2d_input"].any()
        assert np.all(example["kp2d_input"] <= example["kp2d_valid"])
