"""The rendered set: complete annotations, the same people in both configs, seeded occlusion, and its verification."""

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

import tfds_builders
from multibodies_jax.body import body_files, smpl
from multibodies_jax.data import occlusion
from multibodies_jax.geometry import boxes, rotations
from tests.helpers import training_archives
from tests.tfds_builders.building_test import assert_same, records
from tfds_builders import building, options, people, verification
from tfds_builders.synthetic_bodies.synthetic_bodies_dataset_builder import occlude

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {"num_train": 6, "num_validation": 2, "num_test": 4, "image_size": 64}


@pytest.fixture(scope="module")
def bodies_dir(tmp_path_factory):
    """Tiny `clean` and `ambiguous` sets; two worker processes render them."""
    data_dir = tmp_path_factory.mktemp("bodies")
    tfds_builders.build("synthetic_bodies/ambiguous", data_dir, num_processes=2, **TINY)
    return data_dir


def test_clean_people_are_whole_and_fully_annotated(bodies_dir):
    for split, count in (("train", 6), ("validation", 2), ("test", 4)):
        rows = records(tfds_builders.source("synthetic_bodies", split, bodies_dir, **TINY))
        assert [r["example_id"].decode() for r in rows] == [f"synthetic_bodies/{split}/{i:06d}" for i in range(count)]
        for r in rows:
            assert r["image"].shape == (64, 64, 3) and r["image"].dtype == np.uint8
            assert r["window"].tolist() == [0, 0, 64, 64] and r["image_size"].tolist() == [64, 64]
            assert np.all(r["kp2d_valid"] == 1) and np.all(r["kp2d_input"] == 1) and np.all(r["joints3d_valid"] == 1)
            assert r["smpl_valid"] == r["intrinsics_valid"] == 1 and r["gender"] == -1
            assert np.all((r["kp2d"] > 0) & (r["kp2d"] < 64))
            projected = r["joints3d"] @ r["intrinsics"].T
            np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], r["kp2d"], atol=1e-3)
            center, scale = boxes.visible_box(r["kp2d"], np.ones(24))
            np.testing.assert_allclose(r["box_center"], center, rtol=1e-6)
            np.testing.assert_allclose(r["box_scale"], scale, rtol=1e-6)


def test_the_body_model_gives_the_stored_joints(bodies_dir):
    """With the stored pose and shape, up to the translation, which is not stored."""
    files = body_files.load()
    j24 = smpl.contract(files.smpl, files.j24_regressor)
    for r in records(tfds_builders.source("synthetic_bodies", "train", bodies_dir, **TINY)):
        modelled = smpl.joints(j24, rotations.axis_angle_to_matrix(jnp.asarray(r["pose"])), jnp.asarray(r["betas"]))
        np.testing.assert_allclose(np.asarray(modelled - modelled[14:15]), r["joints3d"] - r["joints3d"][14], atol=1e-4)


def test_ambiguous_has_the_same_people_and_images(bodies_dir):
    changed = {"occlusion", "kp2d_input", "box_center", "box_scale"}
    for split in people.SPLITS:
        clean = records(tfds_builders.source("synthetic_bodies", split, bodies_dir, **TINY))
        ambiguous = records(tfds_builders.source("synthetic_bodies/ambiguous", split, bodies_dir, **TINY))
        without = [[{k: v for k, v in r.items() if k not in changed} for r in rows] for rows in (clean, ambiguous)]
        assert_same(*without)


def test_ambiguous_hides_what_the_seeded_strategy_says(bodies_dir):
    rows = [r for s in people.SPLITS for r in tfds_builders.source("synthetic_bodies/ambiguous", s, bodies_dir, **TINY)]
    for r in rows:
        strategy = occlusion.strategy_for(r["example_id"].decode(), seed=0)
        assert r["occlusion"] == strategy
        np.testing.assert_array_equal(r["kp2d_input"], ~occlusion.HIDDEN[strategy])
        center, scale = boxes.visible_box(r["kp2d"], r["kp2d_input"])
        np.testing.assert_allclose(r["box_center"], center, rtol=1e-6)
        np.testing.assert_allclose(r["box_scale"], scale, rtol=1e-6)
    assert len({int(r["occlusion"]) for r in rows}) >= 3


def test_one_process_renders_what_two_do(bodies_dir, tmp_path):
    one = tfds_builders.source("synthetic_bodies", "train", tmp_path, num_processes=1, **TINY)
    assert_same(records(one), records(tfds_builders.source("synthetic_bodies", "train", bodies_dir, **TINY)))


def test_occlude_follows_the_seed_and_falls_back_when_nothing_would_stay_visible(bodies_dir):
    decoders = {"image": tfds.decode.SkipDecoding()}
    builder = tfds_builders.make_builder("synthetic_bodies", bodies_dir, **TINY)
    record = building.open_split(builder, "test", decoders)[0]
    strategies = {occlude(record, seed)["occlusion"] for seed in range(30)}
    assert strategies == set(occlusion.STRATEGIES)
    face_only = {**record, "kp2d_valid": np.eye(24, dtype=np.float32)[19]}
    for seed in range(30):
        example = occlude(face_only, seed)
        assert example["occlusion"] in ("none", "legs")
        np.testing.assert_array_equal(example["kp2d_input"], face_only["kp2d_valid"])


def test_verify_passes_a_good_set_and_draws_it(bodies_dir):
    builder = tfds_builders.make_builder("synthetic_bodies/ambiguous", bodies_dir, **TINY)
    report = verification.verify(builder)
    text = "\n".join(report.lines)
    assert report.passed and "FAIL" not in text
    for words in (
        "train: 6 examples",
        "144 keypoints, 100.0 % inside",
        "land within",
        "occlusion none 0.",
        "train: 6 different ids",
    ):
        assert words in text
    sheet = training_archives.read_image(pathlib.Path(builder.data_path) / "contact_sheet.png")
    assert sheet.shape == (256, 6 * 256, 3) and np.all(sheet[:, 4 * 256 :] == 0) and sheet[:, : 4 * 256].std() > 10


def test_verify_notices_wrong_annotations(bodies_dir, monkeypatch):
    builder = tfds_builders.make_builder("synthetic_bodies/clean", bodies_dir, **TINY)
    open_split = building.open_split

    def spoiled(builder, split):
        rows = [dict(r) for r in open_split(builder, split)]
        rows[0]["kp2d"] = rows[0]["kp2d"] + np.float32(1)
        rows[1]["betas"] = rows[1]["betas"] * np.float32("nan")
        rows[1]["example_id"] = rows[0]["example_id"]
        return rows

    monkeypatch.setattr(building, "open_split", spoiled)
    report = verification.verify(builder)
    failed = [line for line in report.lines if "FAIL" in line]
    assert not report.passed
    for words in ("land within 1.4 px", "1 with numbers", "different ids"):
        assert sum(words in line for line in failed) == 3  # In each split.
    assert len(failed) == 9


@pytest.mark.parametrize("wrong", ["", "mirrored", "of another row"])
def test_verify_fits_joints_to_keypoints_where_no_camera_is_stored(bodies_dir, monkeypatch, wrong):
    builder = tfds_builders.make_builder("synthetic_bodies/clean", bodies_dir, **TINY)
    open_split = building.open_split

    def without_cameras(builder, split):
        rows = [dict(r) for r in open_split(builder, split)]
        others = rows[1:] + rows[:1]
        for row, other in zip([dict(r) for r in rows], others, strict=True):
            points = other["joints3d"] if wrong == "of another row" else row["joints3d"]
            points = (points - points[2:4].mean(0)) * np.array([-1 if wrong == "mirrored" else 1, 1, 1], np.float32)
            nothing = {"intrinsics": np.zeros((3, 3), np.float32), "intrinsics_valid": np.float32(0)}
            yield row | nothing | {"joints3d": points}

    monkeypatch.setattr(building, "open_split", lambda *a: list(without_cameras(*a)))
    report = verification.verify(builder)
    lines = [line for line in report.lines if "fit best without a camera" in line]
    assert len(lines) == 3 and all(("FAIL" in line) == bool(wrong) for line in lines)


def test_sets_with_other_bodies_are_refused(bodies_dir, monkeypatch):
    monkeypatch.setattr(options, "body_fingerprint", lambda directory: "another")
    with pytest.raises(building.BuildError, match=r"body_fingerprint .*now 'another'"):
        tfds_builders.build("synthetic_bodies/clean", bodies_dir, **TINY)
