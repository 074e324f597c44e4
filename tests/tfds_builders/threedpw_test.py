"""3DPW from small archives in the official format, against values computed from the same raw numbers."""

import os
import pickle
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from scipy.spatial.transform import Rotation

from multibodies_jax.geometry import joints
from tests.helpers import macos, threedpw_fixture, training_checks
from tfds_builders import archives, building, features
from tfds_builders.sources import threedpw as sequences
from tfds_builders.threedpw import threedpw_dataset_builder

no_workers = pytest.fixture(training_checks.no_workers)
LIMBS = [i for i, name in enumerate(joints.J24) if name.endswith(("ankle", "knee", "wrist", "elbow", "shoulder"))]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("threedpw")
    return (root, *threedpw_fixture.archive(root))


def builder(data_dir, manual_dir, **options):
    made = threedpw_dataset_builder.Builder(
        data_dir=str(data_dir),
        config=threedpw_dataset_builder.Builder.make_config("official", threedpw_dataset_builder.Options(**options)),
    )
    made.manual_dir = manual_dir
    return made


def examples(tmp_path, manual_dir, split="test", **options):
    """What the tasks of a split make: examples by id, and what was skipped."""
    every = [
        made
        for task in builder(tmp_path, manual_dir, **options).tasks(split)
        for made in threedpw_dataset_builder.Builder.make(task)
    ]
    skipped = [one for one in every if isinstance(one, archives.Skip)]
    return {one["example_id"]: one for one in every if not isinstance(one, archives.Skip)}, skipped


def test_a_built_set_has_every_aligned_person_in_order(archive, tmp_path, no_workers):
    made = builder(tmp_path, archive[0])
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=archive[0]))
    ids = {
        split: [record["example_id"].decode() for record in building.open_split(made, split)]
        for split in made.info.splits
    }
    assert ids == {
        "validation": ["threedpw/validation/b_00/00000/0", "threedpw/validation/b_00/00001/0"],
        "test": ["threedpw/test/a_00/00000/0", "threedpw/test/a_00/00001/0", "threedpw/test/a_00/00001/1"],
    }
    report = "\n".join(archives.report(made))
    assert "test: 3 examples, but the complete archive gives 35515" in report
    assert "1 skipped: camera not aligned with the person (a_00 frame 0 person 1)" in report
    assert "1 skipped: no 2D detection: kept, with the limbs projected (a_00 frame 1 person 0)" in report
    record = building.open_split(made, "test")[0]
    path = archive[0] / "imageFiles/a_00/image_00000.jpg"
    x, y, w, h = record["window"]
    np.testing.assert_array_equal(record["image"], np.asarray(Image.open(path))[y : y + h, x : x + w])
    assert record["image_size"].tolist() == [threedpw_fixture.WIDTH, threedpw_fixture.HEIGHT]
    assert record["protocol_hint"] == b"3dpw" and features.DATASETS[record["dataset"]] == "threedpw"


def test_bodies_turn_with_the_camera_and_joints_land_on_the_detected_keypoints(archive, tmp_path):
    root, test, _ = archive
    made, _ = examples(tmp_path, root)
    for frame, person in [(0, 0), (1, 1)]:
        example = made[f"threedpw/test/a_00/{frame:05d}/{person}"]
        world = test["jointPositions"][person][frame].reshape(24, 3)
        by_name = dict(zip(joints.SMPL24, threedpw_fixture.in_camera(world, frame), strict=True))
        np.testing.assert_array_equal(np.flatnonzero(example["joints3d_valid"]), LIMBS)
        expected = [by_name[joints.J24[i]] for i in LIMBS]
        np.testing.assert_allclose(example["joints3d"][LIMBS], expected, atol=1e-6)

        x, y, confidence = test["poses2d"][person][frame]
        for k, name in enumerate(threedpw_fixture.OPENPOSE):
            if name != "neck":  # OpenPose's is not the neck of J24.
                i = joints.J24.index(name)
                np.testing.assert_allclose(example["kp2d"][i], [x[k], y[k]], rtol=1e-6)
                np.testing.assert_allclose(example["kp2d_valid"][i], confidence[k], rtol=1e-6)
        assert np.count_nonzero(example["kp2d_valid"]) == 17
        np.testing.assert_allclose(
            threedpw_fixture.project(example["joints3d"][LIMBS]), example["kp2d"][LIMBS], atol=1e-3
        )

        root_world = Rotation.from_rotvec(test["poses"][person][frame, :3]).as_matrix()
        turned = Rotation.from_rotvec(example["pose"][0]).as_matrix()
        np.testing.assert_allclose(turned, threedpw_fixture.camera(frame)[:3, :3] @ root_world, atol=1e-6)
        np.testing.assert_allclose(example["pose"][1:].ravel(), test["poses"][person][frame, 3:], rtol=1e-6)
        np.testing.assert_allclose(example["betas"], test["betas"][person][:10], rtol=1e-6)
        np.testing.assert_allclose(example["intrinsics"], threedpw_fixture.INTRINSICS)
        assert example["gender"] == person and example["smpl_valid"] == 1

        low, high = (x.min(), y.min()), (x.max(), y.max())
        np.testing.assert_allclose(example["box_center"], np.add(low, high) / 2, rtol=1e-6)
        np.testing.assert_allclose(example["box_scale"], 1.2 * max(np.subtract(high, low)) / 200, rtol=1e-6)


@pytest.mark.slow
def test_bodies_of_the_right_gender_give_all_joints(archive, tmp_path):
    root, test, _ = archive
    made, _ = examples(tmp_path, root, smpl_dir=str(threedpw_fixture.body_folder(tmp_path / "smpl")))
    for frame, person in [(0, 0), (1, 1)]:
        body = test["poses"][person][frame].reshape(24, 3), test["betas"][person][:10], test["trans"][person][frame]
        _, j24 = threedpw_fixture.posed("mf"[person], *body)
        example = made[f"threedpw/test/a_00/{frame:05d}/{person}"]
        np.testing.assert_allclose(example["joints3d"], threedpw_fixture.in_camera(j24, frame), atol=2e-5)
        assert example["joints3d_valid"].all()


def test_without_a_detection_the_box_and_keypoints_are_those_of_the_body(archive, tmp_path):
    root, test, _ = archive
    example = examples(tmp_path, root)[0]["threedpw/test/a_00/00001/0"]
    pixels = threedpw_fixture.project(threedpw_fixture.in_camera(test["jointPositions"][0][1].reshape(24, 3), 1))
    np.testing.assert_allclose(example["box_center"], (pixels.min(0) + pixels.max(0)) / 2, rtol=1e-5)
    np.testing.assert_allclose(example["box_scale"], 1.2 * np.ptp(pixels, axis=0).max() / 200, rtol=1e-5)
    np.testing.assert_array_equal(np.flatnonzero(example["kp2d_valid"]), LIMBS)
    expected = [pixels[joints.SMPL24.index(joints.J24[i])] for i in LIMBS]
    np.testing.assert_allclose(example["kp2d"][LIMBS], expected, rtol=1e-5)


def test_archives_may_be_unpacked_into_folders_of_their_own(archive, tmp_path):
    root = archive[0]
    for name in ("sequenceFiles", "imageFiles"):
        (tmp_path / "twice" / name).mkdir(parents=True)
        (tmp_path / "twice" / name / name).symlink_to(root / name)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "3DPW").symlink_to(root)
    expected = list(examples(tmp_path, root)[0])
    shutil.copytree(root, tmp_path / "copied")
    macos.add(tmp_path / "copied")
    for folder in ("twice", "deeper", "copied"):
        assert list(examples(tmp_path, tmp_path / folder)[0]) == expected


def test_blocks_of_frames_cover_a_sequence_once(tmp_path, monkeypatch):
    content = threedpw_fixture.sequence(3, "m", frames=5)
    threedpw_fixture.write(tmp_path, "train", "c_00", content)
    whole = list(examples(tmp_path, tmp_path, "train")[0])
    monkeypatch.setattr(threedpw_dataset_builder, "BLOCK", 2)
    assert list(examples(tmp_path, tmp_path, "train")[0]) == whole and len(whole) == 5


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda c: c["jointPositions"][0].fill(np.nan), "numbers that are not finite"),
        (lambda c: c["poses2d"][0].fill(np.nan), "numbers that are not finite"),
        (lambda c: c["poses2d"][0][:, :2].__iadd__(5000.0), "a box outside the image"),
        (lambda c: (c["poses2d"][0].fill(0), c["cam_poses"][:, 2, 3].__isub__(9.0)), "no visible joint"),
    ],
)
def test_people_without_usable_annotations_are_counted(spoil, reason, tmp_path):
    content = threedpw_fixture.sequence(1, "m")
    spoil(content)
    threedpw_fixture.write(tmp_path, "test", "a", content)
    made, skipped = examples(tmp_path, tmp_path)
    assert not made
    assert {(one.reason, one.what) for one in skipped} >= {(reason, f"a frame {f} person 0") for f in (0, 1)}


def test_an_unreadable_image_is_counted_and_a_missing_one_refused(tmp_path):
    threedpw_fixture.write(tmp_path, "test", "a", threedpw_fixture.sequence(1, "m"))
    (tmp_path / "imageFiles/a/image_00000.jpg").write_bytes(b"\xff\xd8 cut short")
    made, (skip,) = examples(tmp_path, tmp_path)
    assert len(made) == 1 and skip.reason == "unreadable image" and "image_00000.jpg" in skip.what
    os.remove(tmp_path / "imageFiles/a/image_00000.jpg")
    with pytest.raises(archives.BuildError, match=r"lacks 1 of 2 images, the first is image_00000.jpg. Unpack"):
        examples(tmp_path, tmp_path)
    shutil.rmtree(tmp_path / "imageFiles/a")
    with pytest.raises(
        archives.BuildError, match=r"(?s)no imageFiles/a in .*MANUAL_DIR must hold.*Found there:.*sequenceFiles/"
    ):
        examples(tmp_path, tmp_path)


def test_a_missing_archive_shows_what_was_expected_and_found(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        archives.BuildError, match=r"(?s)sequenceFiles/\{train,validation,test\}/.*Found there:\n  photos/"
    ):
        examples(tmp_path, tmp_path)


class Foreign:
    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("cam_poses"), "is no sequence of 3DPW: it lacks cam_poses. It has sequence, genders"),
        (lambda c: c.update(genders=["x"]), "the gender of person 0 is 'x'; expected is 'm' or 'f'"),
        (lambda c: c.update(genders=["m", "f"]), "genders must have one entry for each of the 1 people, got 2"),
        (
            lambda c: c.update(poses2d=[np.zeros((2, 18, 3))]),
            r"poses2d\[0\] has shape \(2, 18, 3\); expected is 2 x 3 x 18",
        ),
        (lambda c: c.update(betas=[np.zeros(8)]), "person 0 has 8 shape coefficients; 10 or more"),
        (lambda c: c.update(trans=[["a", "b"]]), r"trans\[0\] is a list, not an array of numbers"),
        (lambda c: c.update(poses=None), "poses must be a list with an array for each person, got NoneType"),
        (lambda c: ["no dictionary"], "holds a list, not the dictionary of a 3DPW sequence"),
    ],
)
def test_wrong_pickles_are_explained(change, message, tmp_path):
    content = threedpw_fixture.sequence(1, "m")
    changed = change(content)
    (tmp_path / "a.pkl").write_bytes(threedpw_fixture.python2.dumps(changed if isinstance(changed, list) else content))
    with pytest.raises(ValueError, match=message):
        sequences.read(tmp_path / "a.pkl")


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(threedpw_fixture.sequence(1, "m") | {"extra": Foreign()}, protocol=2))
    with pytest.raises(ValueError, match=r"wants to construct posix\.system, which could run code"):
        sequences.read(path)
    assert not os.path.exists("hacked")


def test_pickles_of_python_3_and_other_spellings_are_read_too(tmp_path):
    content = threedpw_fixture.sequence(1, "f")
    content["gender"], content["poses2D"] = [g.encode() for g in content.pop("genders")], content.pop("poses2d")
    content["poses"] = np.stack(content["poses"])  # One array instead of a list of arrays.
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=2))
    person = sequences.read(tmp_path / "a.pkl").people[0]
    assert person.gender == 1 and person.keypoints.shape == (2, 18, 3)


def test_frames_and_images_must_belong_together(tmp_path):
    threedpw_fixture.write(tmp_path, "test", "a", threedpw_fixture.sequence(1, "m"), images=3)
    made, (skip,) = examples(tmp_path, tmp_path)
    assert len(made) == 2 and (skip.reason, skip.what) == ("an image without annotations", "a frame 2")
    few = threedpw_fixture.sequence(1, "m")
    threedpw_fixture.write(tmp_path / "few", "test", "a", few, images=1)
    with pytest.raises(
        ValueError, match=r"a.pkl has 2 frames with people up to frame 1, but imageFiles/a has 1 images"
    ):
        examples(tmp_path, tmp_path / "few")
    few["campose_valid"][0][1] = 0
    threedpw_fixture.write(tmp_path / "few", "test", "a", few, images=1)
    assert len(examples(tmp_path, tmp_path / "few")[0]) == 1


def test_options_name_the_set_and_bad_ones_are_refused(tmp_path):
    folder = tmp_path / "smpl"
    folder.mkdir()
    (folder / "SMPL_MALE.npz").write_bytes(b"1")
    first = threedpw_dataset_builder.Builder.make_config(
        "official", threedpw_dataset_builder.Options(smpl_dir=str(folder))
    ).name
    (folder / "SMPL_FEMALE.npz").write_bytes(b"2")
    second = threedpw_dataset_builder.Builder.make_config(
        "official", threedpw_dataset_builder.Options(smpl_dir=str(folder))
    ).name
    assert first.startswith("official-smpl_") and first != second
    with pytest.raises(ValueError, match="no folder of bodies"):
        threedpw_dataset_builder.Options(smpl_dir=str(tmp_path / "nowhere"))


def listed(root, name="3dpw_test_all.npz", **more):
    """SPIN's list of three people: two of one image, and not in the order of the images."""
    rng = np.random.default_rng(0)
    images = [("a_00", 1), ("a_00", 0), ("a_00", 1)]
    arrays = {
        "imgname": np.array([f"imageFiles/{sequence}/image_{frame:05d}.jpg" for sequence, frame in images]),
        "center": rng.uniform(50, 80, (3, 2)),
        "scale": rng.uniform(0.2, 0.4, 3),
        "pose": rng.normal(size=(3, 72)),
        "shape": rng.normal(size=(3, 10)),
        "gender": np.array(["m", "f", "f"]),
        **more,
    }
    np.savez(root / name, **arrays)
    return arrays


def spin_builder(data_dir, manual_dir, **options):
    config = threedpw_dataset_builder.Builder.make_config("spin", threedpw_dataset_builder.Options(**options))
    made = threedpw_dataset_builder.Builder(data_dir=str(data_dir), config=config)
    made.manual_dir = manual_dir
    return made


@pytest.mark.parametrize("name", ["3dpw_test_all.npz", "3dpw_test.npz"])
def test_lists_of_spin_are_read_row_by_row(archive, tmp_path, name):
    (tmp_path / "imageFiles").symlink_to(archive[0] / "imageFiles")
    keypoints = np.random.default_rng(1).uniform(20, 100, (3, 24, 3)) * [1, 1, 0.01]
    keypoints[0, 5, 2] = 0
    rows = listed(tmp_path, name, **({"parts_openpose_s24": keypoints} if "all" in name else {}))
    builder = spin_builder(tmp_path / "data", tmp_path)
    made = [
        one
        for task in builder.tasks("test")
        for one in threedpw_dataset_builder.Builder.make(task)
        if isinstance(one, dict)
    ]
    assert builder.expected() == {"test": 35_515}
    assert [one["example_id"] for one in made] == [
        "threedpw/test/a_00/00001/row00000",
        "threedpw/test/a_00/00000/row00001",
        "threedpw/test/a_00/00001/row00002",
    ]
    for i, one in enumerate(made):
        np.testing.assert_allclose(one["box_center"], rows["center"][i], rtol=1e-6)
        np.testing.assert_allclose(one["box_scale"], rows["scale"][i], rtol=1e-6)
        np.testing.assert_allclose(one["pose"].ravel(), rows["pose"][i], rtol=1e-6)
        np.testing.assert_allclose(one["betas"], rows["shape"][i], rtol=1e-6)
        assert one["gender"] == "mf".index(rows["gender"][i]) and one["smpl_valid"] == 1
        assert one["protocol_hint"] == "3dpw" and not one["joints3d_valid"].any()
        known = keypoints[i, :, 2] if "all" in name else np.zeros(24)
        np.testing.assert_allclose(one["kp2d_valid"], known, rtol=1e-6)
        np.testing.assert_allclose(one["kp2d"], keypoints[i, :, :2] * (known[:, None] > 0), rtol=1e-6)


def test_lists_without_their_files_are_refused(archive, tmp_path):
    with pytest.raises(archives.BuildError, match=r"(?s)no 3dpw_test_all.npz or 3dpw_test.npz in .*Found there"):
        spin_builder(tmp_path / "data", tmp_path).tasks("test")
    listed(tmp_path)
    with pytest.raises(archives.BuildError, match=r"lists 2 images"):
        spin_builder(tmp_path / "data", tmp_path).tasks("test")
    with pytest.raises(archives.BuildError, match=r"--smpl_dir places bodies by the official pickles"):
        spin_builder(tmp_path / "data", tmp_path, smpl_dir=str(tmp_path)).tasks("test")
