"""Files of real poses: every layout, what is dropped, how subjects are weighted and split, and bad files."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy.spatial.transform import Rotation

from multibodies_jax.data import pose_files, pose_readers
from multibodies_jax.embedded.synthetic import poses
from multibodies_jax.geometry import joints, rotations_np

Z_UP = Rotation.from_euler("x", 90, degrees=True)  # From a world with y up to one with z up.


@pytest.fixture(scope="module")
def people():
    """Possible poses of standing people, facing +z, without hands."""
    got = poses.sample_poses(60, np.random.default_rng([0, 0]))[0]
    got[:, 22:] = 0
    got[:, 0] = 0
    return got


def with_root(people, root):
    """The people with another root rotation (a scipy Rotation of one or of all)."""
    got = people.copy()
    got[:, 0] = root.as_rotvec()
    return got


def write_amass(path, people, rate=30.0, **extra):
    path.parent.mkdir(parents=True, exist_ok=True)
    body = np.pad(people[:, :22].reshape(len(people), 66), ((0, 0), (0, 90)), constant_values=0.1)
    np.savez(path, poses=body.astype(np.float64), mocap_framerate=rate, gender=np.array(b"male"), **extra)


# Layouts


@pytest.mark.parametrize("shape", [(60, 72), (60, 24, 3)])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_arrays_with_a_root(tmp_path, people, shape, ending):
    path = tmp_path / f"my_poses.{ending}"
    if ending == "npy":
        np.save(path, people.reshape(shape))
    else:
        np.savez(path, whatever=people.reshape(shape))
    got = pose_files.load(path)
    np.testing.assert_allclose(got.poses, people, atol=1e-6)
    assert got.poses.dtype == np.float32
    assert got.clip_names == got.subjects == ("my_poses",)
    np.testing.assert_allclose(got.weights, 1 / 60)


@pytest.mark.parametrize("shape", [(60, 69), (60, 23, 3)])
def test_arrays_without_a_root_stand_upright(tmp_path, people, shape):
    np.save(tmp_path / "p.npy", people[:, 1:].reshape(shape).astype(np.float64))
    got = pose_files.load(tmp_path / "p.npy").poses
    np.testing.assert_allclose(got, people, atol=1e-6)


@pytest.mark.parametrize("up", ["+x", "-x", "+y", "-y", "+z", "-z"])
def test_the_up_axis_of_arrays_is_found(tmp_path, people, up):
    axis = "xyz".index(up[1])
    wanted = np.eye(3)[axis] * (1 if up[0] == "+" else -1)
    world = Rotation.align_vectors(wanted[None], [[0, 1, 0]])[0]
    lean = Rotation.from_euler("x", 20, degrees=True)
    np.save(tmp_path / "p.npy", with_root(people, world * lean))
    got = pose_files.load(tmp_path / "p.npy").poses
    tilt = np.degrees(np.arccos(rotations_np.axis_angle_to_matrix(got[:, 0])[:, 1, 1]))
    np.testing.assert_allclose(tilt, 20, atol=0.01)
    np.testing.assert_allclose(got[:, 1:], people[:, 1:], atol=1e-6)


def test_arrays_that_point_everywhere_are_refused(tmp_path, people):
    np.save(tmp_path / "p.npy", with_root(people, Rotation.random(60, rng=np.random.default_rng(0))))
    with pytest.raises(ValueError, match=r"which way is up.*Leave the root rotation out"):
        pose_files.load(tmp_path / "p.npy")


def test_amass_is_thinned_turned_and_loses_its_hands(tmp_path, people):
    path = tmp_path / "KIT" / "3" / "walk_poses.npz"
    write_amass(
        path, with_root(people, Z_UP * Rotation.from_euler("x", 15, degrees=True)), rate=float(np.float32(29.97))
    )
    got = pose_files.load(path)
    np.testing.assert_allclose(got.poses[:, 1:], people[::3, 1:], atol=1e-6)
    np.testing.assert_allclose(np.degrees(got.poses[:, 0]), np.tile([[15.0, 0, 0]], (20, 1)), atol=1e-3)
    assert got.subjects == ("KIT/3",) and got.clip_names == ("KIT/3/walk_poses",)


def test_the_72_numbers_of_smpl_and_the_parts_of_smplx_are_read_too(tmp_path, people):
    turned = with_root(people, Z_UP).reshape(60, 72)
    np.savez(tmp_path / "smpl.npz", poses=turned, mocap_framerate=10)
    np.savez(
        tmp_path / "smplx_stageii.npz",
        root_orient=turned[:, :3],
        pose_body=turned[:, 3:66],
        poses=np.zeros((60, 165)),
        mocap_frame_rate=10,
    )
    for name in ("smpl", "smplx_stageii"):
        np.testing.assert_allclose(pose_files.load(tmp_path / f"{name}.npz").poses, people, atol=1e-6)


def test_a_folder_of_amass_files(tmp_path, people):
    turned = with_root(people, Z_UP)
    write_amass(tmp_path / "KIT" / "3" / "b_poses.npz", turned[:30], rate=10)
    write_amass(tmp_path / "KIT" / "3" / "a_poses.npz", turned[30:], rate=10)
    write_amass(tmp_path / "SFU" / "12" / "a_poses.npz", turned[:6], rate=10)
    np.savez(tmp_path / "KIT" / "3" / "shape.npz", betas=np.zeros(16))
    np.savez(tmp_path / "KIT" / "3" / "a_stagei.npz", betas=np.zeros(16))
    got = pose_files.load(tmp_path)
    assert got.clip_names == ("KIT/3/a_poses", "KIT/3/b_poses", "SFU/12/a_poses")
    assert got.subjects == ("KIT/3", "KIT/3", "SFU/12")
    np.testing.assert_array_equal(got.clip, np.repeat([0, 1, 2], [30, 30, 6]))
    np.testing.assert_allclose(got.poses, np.concatenate([people[30:], people[:30], people[:6]]), atol=1e-6)


def test_recordings_behind_links_are_read_under_their_own_subjects(tmp_path, people):
    turned = with_root(people, Z_UP)
    write_amass(tmp_path / "disk" / "12" / "a_poses.npz", turned, rate=10)
    write_amass(tmp_path / "annex" / "1f" / "key" / "x.npz", turned, rate=10)
    amass = tmp_path / "amass"
    (amass / "KIT" / "3").mkdir(parents=True)
    (amass / "SFU").symlink_to(tmp_path / "disk")
    (amass / "KIT" / "back").symlink_to(amass)
    (amass / "KIT" / "3" / "b_poses.npz").symlink_to(tmp_path / "annex" / "1f" / "key" / "x.npz")
    clips = pose_readers.read(amass)
    assert [(clip.name, clip.subject) for clip in clips] == [("KIT/3/b_poses", "KIT/3"), ("SFU/12/a_poses", "SFU/12")]


def write_clips(path, people, names, clip):
    np.savez(path, poses=people.astype(np.float16), clip=np.asarray(clip, np.int16), clip_name=np.array(names), fps=10)


def test_our_own_clips(tmp_path, people):
    names = ["01_02.amc: climb", "never used", "07_01.bvh: walk", "dance"]
    clip = np.repeat([0, 2, 3], 20)
    write_clips(tmp_path / "p.npz", people, names, clip)
    got = pose_files.load(tmp_path / "p.npz")
    assert got.clip_names == ("01_02.amc: climb", "07_01.bvh: walk", "dance")
    assert got.subjects == ("01", "07", "dance")
    np.testing.assert_array_equal(got.clip, np.repeat([0, 1, 2], 20))
    np.testing.assert_allclose(got.poses, people, atol=2e-3)


# Headings and angles


@given(seed=st.integers(0, 2**31 - 1))
def test_removing_the_heading_undoes_any_turn_about_y(seed):
    rng = np.random.default_rng(seed)
    root = Rotation.random(5, rng=rng)
    turned = Rotation.from_euler("y", rng.uniform(-np.pi, np.pi, (5, 1))) * root
    got = pose_files.remove_heading(root.as_matrix())
    np.testing.assert_allclose(pose_files.remove_heading(turned.as_matrix()), got, atol=1e-6)
    np.testing.assert_allclose(got[:, 1], root.as_matrix()[:, 1], atol=1e-9)  # How the body leans: what up is to it.
    np.testing.assert_allclose(Rotation.from_matrix(got).as_quat()[:, 1], 0, atol=1e-9)  # No twist about y is left.


def test_leans_without_heading_stay_as_they_are():
    for angles in ([0, 0], [60, 0], [-90, 0], [0, 30], [180, 0]):
        root = Rotation.from_rotvec(np.radians([[angles[0], 0.0, angles[1]]])).as_matrix()
        np.testing.assert_allclose(pose_files.remove_heading(root), root, atol=1e-9)


def test_angles_beyond_a_turn_are_wrapped(tmp_path, people):
    more = people.astype(np.float64)
    angle = np.linalg.norm(more, axis=-1, keepdims=True)
    more = np.where(angle > 0.3, more * (1 - 2 * np.pi / np.maximum(angle, 1e-9)), more)
    np.save(tmp_path / "p.npy", more)
    assert np.abs(more).max() > np.pi
    np.testing.assert_allclose(pose_files.load(tmp_path / "p.npy").poses, people, atol=1e-5)


# What is dropped


@pytest.mark.parametrize(
    "name, angle_deg, reason",
    [
        ("right_ankle", (100, 0, 0), "ankle beyond 85 degrees"),
        ("left_wrist", (0, 0, 120), "wrist beyond 110 degrees"),
        ("head", (0, 100, 0), "head beyond 95 degrees"),
        ("left_knee", (-40, 0, 0), "knee bent backwards"),
        ("right_knee", (-40, 0, 0), "knee bent backwards"),
        ("left_elbow", (0, 40, 0), "elbow bent backwards"),
        ("right_elbow", (0, -40, 0), "elbow bent backwards"),
    ],
)
def test_glitches_are_dropped_and_counted(tmp_path, people, name, angle_deg, reason):
    bad = people.copy()
    bad[[3, 40], joints.SMPL24.index(name)] = np.radians(angle_deg)
    np.save(tmp_path / "p.npy", bad)
    got = pose_files.load(tmp_path / "p.npy")
    assert got.dropped == {reason: 2}
    np.testing.assert_allclose(got.poses, np.delete(people, [3, 40], axis=0), atol=1e-6)
    assert f"58 poses of 1 recordings of 1 subjects; dropped 2 ({reason})" in pose_files.describe(got)


def test_a_frame_is_dropped_for_one_reason(tmp_path, people):
    bad = people.copy()
    bad[7, [joints.SMPL24.index("head"), joints.SMPL24.index("left_wrist")]] = (0, 0, 2.2)
    np.save(tmp_path / "p.npy", bad)
    assert pose_files.load(tmp_path / "p.npy").dropped == {"head beyond 95 degrees": 1}


def test_no_parametric_pose_is_dropped(tmp_path):
    np.save(tmp_path / "p.npy", poses.sample_poses(2000, np.random.default_rng([1, 0]))[0])
    assert pose_files.load(tmp_path / "p.npy").dropped == {}


def test_a_file_without_a_possible_pose_is_refused(tmp_path):
    np.save(tmp_path / "p.npy", np.full((5, 24, 3), 1.7))
    with pytest.raises(ValueError, match=r"None of the 5 poses.*is possible.*SMPL's"):
        pose_files.load(tmp_path / "p.npy")


# Weights and splits


def many_clips(tmp_path, people, frames):
    """A file with clips called <subject>_<trial>, each with its number of frames."""
    clip = np.repeat(np.arange(len(frames)), list(frames.values()))
    write_clips(tmp_path / "many.npz", np.resize(people, (len(clip), 24, 3)), list(frames), clip)
    return pose_files.load(tmp_path / "many.npz")


def test_weights_grow_with_the_square_root(tmp_path, people):
    got = many_clips(tmp_path, people, {"01_01": 400, "01_02": 100, "02_01": 100, "03_01": 25})
    by_clip = np.bincount(got.clip, got.weights)
    assert by_clip.sum() == pytest.approx(1)
    by_subject = np.array([by_clip[0] + by_clip[1], by_clip[2], by_clip[3]])
    np.testing.assert_allclose(by_subject / by_subject[1], np.sqrt([3, 1, 0.5]))
    assert by_clip[0] / by_clip[1] == pytest.approx(2)


def test_splits_partition_the_frames_by_subject(tmp_path, people):
    frames = {f"{s:02d}_{t:02d}": 3 + (s * 7 + t) % 5 for s in range(1, 21) for t in range(1, 4)}
    got = many_clips(tmp_path, people, frames | {"99_01": 4000})
    parts = {name: pose_files.split(got, name) for name in pose_files.SPLITS}
    subjects = {name: set(part.frame_subjects.tolist()) for name, part in parts.items()}
    assert set.union(*subjects.values()) == set(got.subjects)
    assert sum(len(s) for s in subjects.values()) == len(set(got.subjects))  # None is in two.
    assert sum(len(part.poses) for part in parts.values()) == len(got.poses)
    for name, part in parts.items():
        share = got.weights[np.isin(got.frame_subjects, list(subjects[name]))].sum()
        assert (0.6 < share < 0.9) if name == "train" else (0.1 <= share < 0.2)
        assert part.weights.sum() == pytest.approx(1)
    assert pose_files.describe(got).endswith("differ in subjects")


def test_a_dominant_subject_is_for_training(tmp_path, people):
    for large in range(1, 7):
        frames = {f"{s:02d}_01": 3000 if s == large else 100 for s in range(1, 7)}
        train = pose_files.split(many_clips(tmp_path, people, frames), "train")
        assert f"{large:02d}" in train.frame_subjects


def test_splits_do_not_depend_on_the_order_of_the_clips(tmp_path, people):
    names = [f"{s:02d}_01" for s in range(1, 9)]
    first = many_clips(tmp_path, people, dict.fromkeys(names, 10))
    second = many_clips(tmp_path, people, dict.fromkeys(reversed(names), 10))
    for name in pose_files.SPLITS:
        one, other = (set(pose_files.split(f, name).frame_subjects.tolist()) for f in (first, second))
        assert one == other


def test_a_new_training_subject_moves_nobody(tmp_path, people):
    names = [f"{s:02d}_01" for s in range(1, 18)]
    before = many_clips(tmp_path, people, dict.fromkeys(names, 4))
    held_out = {name: set(pose_files.split(before, name).frame_subjects.tolist()) for name in ("validation", "test")}
    for gone in names:
        if gone[:2] in set.union(*held_out.values()):
            continue
        after = many_clips(tmp_path, people, dict.fromkeys([n for n in names if n != gone], 4))
        for name, subjects in held_out.items():
            assert set(pose_files.split(after, name).frame_subjects.tolist()) == subjects


def test_every_split_gets_a_unit_however_small():
    for large in range(3):
        mass = np.full(3, 0.01)
        mass[large] = 0.98
        got = pose_files.hold_out(["a", "b", "c"], mass)
        assert sorted(got.tolist()) == [0, 1, 2] and got[large] == pose_files.SPLITS.index("train")


@pytest.mark.parametrize(
    "frames, level",
    [
        ({"01_01": 20, "02_01": 20, "03_01": 20}, "subjects"),
        ({"01_01": 20, "01_02": 20, "01_03": 20, "02_01": 10}, "recordings"),
        ({"01_01": 40, "02_01": 20}, "frames"),
    ],
)
def test_few_subjects_split_by_recordings_and_few_recordings_by_frames(tmp_path, people, frames, level):
    got = many_clips(tmp_path, people, frames)
    parts = [pose_files.split(got, name) for name in pose_files.SPLITS]
    assert all(len(part.poses) for part in parts)
    assert sum(len(part.poses) for part in parts) == len(got.poses)
    assert pose_files.describe(got).endswith(f"differ in {level}")
    if level == "recordings":
        assert len({int(c) for part in parts for c in np.unique(part.clip)}) == sum(
            len(np.unique(part.clip)) for part in parts
        )


def test_bad_splits_are_refused(tmp_path, people):
    got = many_clips(tmp_path, people, {"01_01": 3})
    with pytest.raises(ValueError, match="Unknown split 'val'; the splits are train, validation, test"):
        pose_files.split(got, "val")
    with pytest.raises(ValueError, match="3 poses are too few for a test split"):
        pose_files.split(got, "test")


# Bad files


def array_file(value):
    return lambda path: np.save(path.with_suffix(".npy"), value)


def archive(**arrays):
    return lambda path: np.savez(path.with_suffix(".npz"), **arrays)


def raw(ending, content):
    return lambda path: path.with_suffix(ending).write_bytes(content)


GOOD = np.zeros((4, 24, 3), np.float32)
AMASS = np.zeros((4, 156))


@pytest.mark.parametrize(
    "write, message",
    [
        (array_file(np.zeros((4, 70))), r"shape \(4, 70\).*\(N, 72\)"),
        (array_file(np.zeros(72)), r"shape \(72,\)"),
        (array_file(np.zeros((0, 72))), "no frames"),
        (array_file(np.array(1.0)), r"shape \(\)"),
        (array_file(np.where(np.arange(288).reshape(4, 72) == 100, np.nan, 0.0)), "1 frames with NaN.*first is 1"),
        (array_file(np.full((4, 72), 45.0)), "number.*is 45;.*numpy.radians"),
        (array_file(np.full((4, 72), "a")), "type <U1"),
        (array_file(np.array([{}], object)), "without pickled objects"),
        (raw(".npy", b"\x80\x04 no array"), "cannot be read"),
        (raw(".npy", b""), "cannot be read"),
        (raw(".npz", b"PK\x03\x04 broken"), "cannot be read"),
        (raw(".pkl", b""), "no file of poses by its ending"),
        (lambda path: path.with_suffix(".npy").write_bytes(npz_bytes(path)), "rename it to .npz"),
        (lambda path: path.with_suffix(".npz").write_bytes(npy_bytes(path)), "rename it to .npy"),
        (archive(a=GOOD, b=GOOD), "none of which is called poses"),
        (archive(poses=np.array([{}], object)), "cannot be read as .*'poses' is damaged or no plain array"),
        (archive(poses=GOOD, clip=np.zeros(3, int), clip_name=["a"]), r"for each of 4 frames.*shape \(3,\)"),
        (archive(poses=GOOD, clip=np.ones(4, int), clip_name=["a"]), "index into the 1 clip_name"),
        (archive(poses=GOOD, clip=np.zeros(4), clip_name=["a"]), "array float64"),
        (archive(poses=GOOD, clip=np.ones(4, int), clipname=["a", "b"]), "has 'clipname', and 'clip_name', which it"),
        (archive(poses=GOOD, mocap_frame_rte=10.0), "has 'mocap_frame_rte', and 'mocap_framerate', which it"),
        (archive(poses=AMASS, mocap_framerate=0.0), "one positive number"),
        (archive(poses=AMASS, mocap_framerate=np.nan), "one positive number"),
        (archive(poses=AMASS, mocap_framerate=[1.0, 2.0]), "one positive number"),
        (archive(poses=np.zeros((4, 63)), mocap_framerate=10.0), r"are \(4, 63\)"),
        (archive(trans=AMASS, mocap_framerate=10.0), "has no poses; it has"),
        (archive(root_orient=GOOD, pose_body=AMASS, mocap_framerate=10.0), "not .T, 3., .T, 63."),
        (archive(poses=AMASS[:0], mocap_framerate=10.0), "no frames"),
    ],
)
def test_bad_files_are_refused(tmp_path, write, message):
    write(tmp_path / "bad")
    path = next(p for p in tmp_path.iterdir() if p.stem == "bad")
    with pytest.raises(ValueError, match=message):
        pose_files.load(path)


def npz_bytes(path):
    np.savez(path.with_name("other.npz"), poses=GOOD)
    return path.with_name("other.npz").read_bytes()


def npy_bytes(path):
    np.save(path.with_name("other.npy"), GOOD)
    return path.with_name("other.npy").read_bytes()


def test_missing_files_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No file of poses at .*AMASS"):
        pose_files.load(tmp_path / "nothing.npz")
    with pytest.raises(FileNotFoundError, match=r"has no AMASS \.npz files"):
        pose_files.load(tmp_path)


def test_a_folder_with_something_else_names_the_file(tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"weights.npz has no mocap_framerate.*it has a"):
        pose_readers.read(tmp_path)


def test_hidden_files_in_a_folder_of_recordings_are_left_out(tmp_path):
    for name in ("a/b_poses.npz", "a/._b_poses.npz", ".trash/c_poses.npz", "a/shape.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert pose_readers.amass_files(tmp_path) == [tmp_path / "a/b_poses.npz"]
