"""AMASS from recordings in the official layout: split, frame rate, axes, alias names, what is passed over."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.helpers import macos, training_checks
from tfds_builders import building
from tfds_builders.sources import amass

FRAMES, RATE = 48, 120.0  # 0.4 s: four frames at 10 fps.


no_workers = pytest.fixture(autouse=True)(training_checks.no_workers)


def recording(seed, frames=FRAMES):
    """Someone who stands upright in a world with z up, heading anywhere, with bent arms and moving fingers."""
    rng = np.random.default_rng(seed)
    poses = np.zeros((frames, 52, 3))
    heading = Rotation.from_rotvec(rng.uniform(-3, 3, (frames, 1)) * [0, 0, 1])
    lean = Rotation.from_rotvec(rng.uniform(-0.3, 0.3, (frames, 1)) * [1, 0, 0])
    poses[:, 0] = (heading * Rotation.from_rotvec([np.pi / 2, 0, 0]) * lean).as_rotvec()
    poses[:, 18, 1] = -rng.uniform(0.2, 1.5, frames)
    poses[:, 22:] = rng.uniform(-1, 1, (frames, 30, 3))
    return poses.reshape(frames, 156), lean


def write(path, poses, betas, gender, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = len(poses)
    np.savez(
        path,
        poses=poses,
        trans=np.ones((frames, 3)),
        betas=betas,
        gender=np.array(gender),
        mocap_framerate=np.array(rate),
        dmpls=np.zeros((frames, 8)),
    )


@pytest.fixture
def written(tmp_path):
    """One subset per split, one of them by its new name; a shape to pass over and a subset of no split."""
    root = tmp_path / "archive"
    result = {}
    for i, (split, path, gender) in enumerate(
        (
            ("train", "CMU/01/01_01_poses.npz", "male"),
            ("validation", "HDM05/bk/HDM_bk_poses.npz", b"female"),
            ("test", "SSM_synced/20160930_50032/punch_poses.npz", "female"),
        )
    ):
        poses, lean = recording(i)
        betas = np.random.default_rng(50 + i).normal(size=16)
        write(root / path, poses, betas, gender)
        result[split] = poses, lean, betas
    np.savez(root / "CMU/01/shape.npz", betas=np.zeros(16))
    write(root / "SomethingElse/a/b_poses.npz", result["train"][0], np.zeros(16), "male")
    return root, result


def build(root, **options):
    return training_checks.build("amass", root, **options)


def test_people_are_upright_thinned_and_split_by_subset(written):
    root, recordings = written
    rows, _ = build(root, trim=0.0)
    names = {
        "train": "CMU/01/01_01_poses",
        "validation": "MPI_HDM05/bk/HDM_bk_poses",
        "test": "SSM_synced/20160930_50032/punch_poses",
    }
    steps = {"train": 12, "validation": 12, "test": 6}  # 59 frames per second, though the file says 120.
    for split, (poses, lean, betas) in recordings.items():
        chosen = range(0, FRAMES, steps[split])
        assert [r["example_id"].decode() for r in rows[split]] == [
            f"amass/{split}/{names[split]}/{i:06d}" for i in chosen
        ]
        for i, row in zip(chosen, rows[split], strict=True):
            body = poses.reshape(FRAMES, 52, 3)[i]
            np.testing.assert_allclose(row["pose"][1:22], body[1:22], atol=1e-6)
            np.testing.assert_array_equal(row["pose"][22:], 0)  # Hands.
            root_rotation = Rotation.from_rotvec(row["pose"][0])
            np.testing.assert_allclose(root_rotation.as_matrix(), lean[i].as_matrix(), atol=1e-5)  # y up, facing +z.
            np.testing.assert_allclose(row["betas"], betas[:10], rtol=1e-6)


def test_ends_are_trimmed_and_the_rate_is_an_option(written):
    root, _ = written
    macos.add(root)
    rows, _ = build(root, trim=0.25)
    assert [r["example_id"][-6:] for r in rows["train"]] == [b"000012", b"000024"]
    rows, _ = build(root, trim=0.0, frames_per_second=30.0)
    assert [r["example_id"][-6:] for r in rows["train"]] == [f"{i:06d}".encode() for i in range(0, FRAMES, 4)]


def test_impossible_poses_and_unusable_recordings_are_counted(written):
    root, recordings = written
    poses = recordings["train"][0].copy()
    poses.reshape(FRAMES, 52, 3)[12, 4] = [3.1, 0, 0]  # A knee.
    write(root / "CMU/01/01_02_poses.npz", poses, np.zeros(16), "male")
    write(root / "CMU/01/01_03_poses.npz", np.full((FRAMES, 156), np.nan), np.zeros(16), "male")
    write(root / "CMU/01/01_04_poses.npz", poses, np.zeros(3), "male")
    rows, report = build(root, trim=0.0)
    assert len(rows["train"]) == 4 + 3
    assert "1 skipped: an impossible pose: knee beyond 165 degrees (CMU/01/01_02_poses/000012)" in report
    assert "2 skipped: a recording that cannot be used" in report and "4 frames with NaN" in report
    assert "betas of CMU/01/01_04_poses.npz are (3,)" in report  # Not where this machine has it.


def test_a_subset_under_two_names_is_refused(written):
    root, recordings = written
    write(root / "MPI_HDM05/tr/x_poses.npz", recordings["train"][0], np.zeros(16), "male")
    with pytest.raises(ValueError, match=r"MPI_HDM05 is there twice"):
        build(root)
    with pytest.raises(building.BuildError, match="there is no CMU"):
        build(root / "SomethingElse")


def test_every_subset_is_in_one_split():
    names = [name for subsets in amass.SPLITS.values() for subset in subsets for name in subset]
    assert len(names) == len(set(names))
