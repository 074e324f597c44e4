"""Names of sets with options: other content, another name."""

import numpy as np
import pytest

from tfds_builders import options, training_sets
from tfds_builders.h36m import h36m_dataset_builder
from tfds_builders.threedpw import threedpw_dataset_builder


@pytest.mark.parametrize(
    "make, file",
    [
        (lambda folder: training_sets.Options(static_fits=folder), "mpii_fits.npy"),
        (lambda folder: h36m_dataset_builder.Options(h36m_fits=folder), "S1/Directions 1_cam0_aligned.pkl"),
        (lambda folder: threedpw_dataset_builder.Options(smpl_dir=folder), "J_regressor_h36m.npy"),
    ],
)
def test_a_folder_with_other_content_of_the_same_size_names_another_set(make, file, tmp_path):
    path = tmp_path / "given" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one")

    def named() -> tuple[str, dict]:
        chosen = make(str(tmp_path / "given"))
        return options.config_name("spin", chosen), options.provenance(chosen)

    before = named()
    (tmp_path / "given" / "README.txt").write_text("Fits of SMPL.", encoding="utf-8")
    assert named() == before  # What no set reads.
    path.write_bytes(b"two")
    name, provenance = named()
    assert name != before[0] and provenance != before[1]


def test_a_folder_of_poses_is_named_by_the_names_and_sizes_of_its_files(tmp_path):
    (tmp_path / "disk").mkdir()
    np.savez(tmp_path / "disk" / "a_poses.npz", poses=np.zeros((1, 156)))
    (tmp_path / "amass").mkdir()
    (tmp_path / "amass" / "KIT").symlink_to(tmp_path / "disk")
    before = options.config_name("people", options.PeopleOptions(poses=str(tmp_path / "amass")))
    np.savez(tmp_path / "disk" / "b_poses.npz", poses=np.zeros((1, 156)))
    assert options.config_name("people", options.PeopleOptions(poses=str(tmp_path / "amass"))) != before
