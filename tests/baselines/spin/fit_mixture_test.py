"""The script that fits the shipped mixture, on made-up recordings."""

import numpy as np

from multibodies_jax.baselines.spin import fit_mixture
from multibodies_jax.data import pose_files
from multibodies_jax.fitting import pose_mixture
from multibodies_jax.geometry import joints


def recordings(N=60):
    """Two recordings around two poses, the second of which has no weight."""
    rng = np.random.default_rng(0)
    poses = 0.05 * rng.normal(size=(N, 24, 3))
    poses[: N // 2, joints.SMPL24.index("left_elbow"), 1] -= 1.0
    poses[N // 2 :] += 5.0
    return pose_files.PoseFile(
        poses=poses.astype(np.float32),
        clip=np.repeat([0, 1], N // 2),
        clip_names=("bent", "elsewhere"),
        subjects=("a", "b"),
        weights=np.repeat([2 / N, 0.0], N // 2),
        dropped={},
    )


def test_a_mixture_is_fitted_to_weighted_poses_and_their_mirror_images():
    arrays = fit_mixture.fit(recordings(), components=2, drawn=200)
    left, right = (3 * (joints.SMPL24.index(f"{side}_elbow") - 1) + 1 for side in ("left", "right"))
    first = 0 if arrays["means"][0, left] < -0.5 else 1
    np.testing.assert_allclose(arrays["means"][first, [left, right]], [-1.0, 0.0], atol=0.05)
    np.testing.assert_allclose(arrays["means"][1 - first, [left, right]], [0.0, 1.0], atol=0.05)
    np.testing.assert_allclose(arrays["weights"], 0.5, atol=1e-6)
    assert np.linalg.eigvalsh(arrays["covars"]).min() > 0.9e-3
    pose_mixture.build(**arrays)  # Accepts it.


def test_a_recording_that_is_missing_is_a_message(tmp_path, capsys):
    status = fit_mixture.main([f"--poses={tmp_path / 'nothing.npz'}", f"--out={tmp_path / 'mixture.npz'}"])
    assert status == 2
    assert "nothing.npz" in capsys.readouterr().err
    assert not (tmp_path / "mixture.npz").exists()
