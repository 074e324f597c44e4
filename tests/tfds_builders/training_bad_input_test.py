"""The training sets and AMASS: what is missing, damaged, of another version or makes no sense."""

import json

import h5py
import numpy as np
import pytest
import scipy.io

import tfds_builders
from tests.helpers import macos, training_archives, training_checks
from tests.helpers.training_checks import build, write_list
from tfds_builders import building
from tfds_builders.sources import mat, spin

no_workers = pytest.fixture(autouse=True)(training_checks.no_workers)
archive = pytest.fixture(params=["lsp"])(training_checks.archive)


@pytest.mark.parametrize("name", ["lsp", "lspet", "mpii", "mpii/json", "coco2014", "mpi_inf_3dhp", "amass", "lsp/spin"])
def test_a_missing_archive_is_explained_with_both_trees(name, tmp_path):
    root = tmp_path / "archive"
    (root / "holiday").mkdir(parents=True)
    with pytest.raises(building.BuildError, match=r"(?s)there is no .*MANUAL_DIR must hold.*Found there:\n  holiday/"):
        build(name, root)


def test_missing_images_are_an_error_before_anything_is_built_and_damaged_ones_are_counted(archive):
    root, _ = archive
    image = root / "lsp_dataset_original/images/im0002.jpg"
    image.write_bytes(image.read_bytes()[:500])
    rows, report = build("lsp", root, split_at=2)
    assert [r["example_id"] for r in rows["train"]] == [b"lsp/train/im0001"]
    assert "1 skipped: unreadable image" in report and "im0002.jpg" in report
    image.unlink()
    with pytest.raises(building.BuildError, match=r"there is no image images/im0002.jpg \(1 of 3 are not there\)"):
        build("lsp", root, split_at=3)


def test_joints_that_are_not_finite_or_not_there_and_boxes_outside_are_counted(tmp_path):
    root = tmp_path / "archive"
    root.mkdir()
    points = training_archives.write_lspet(root)
    labelled = np.ones((3, 14, 1))
    points[0, 3, 1] = np.nan
    labelled[1] = 0
    points[2] += 5000
    content = np.concatenate([points, labelled], axis=-1).transpose(1, 2, 0)
    scipy.io.savemat(root / "hr-lspet/joints.mat", {"joints": content})
    with pytest.raises(building.BuildError, match="no example in all of"):
        build("lspet", root)
    points[2] -= 5000
    scipy.io.savemat(
        root / "hr-lspet/joints.mat", {"joints": np.concatenate([points, labelled], axis=-1).transpose(1, 2, 0)}
    )
    rows, report = build("lspet", root)
    assert len(rows["train"]) == 1
    assert "1 skipped: a joint that is not finite (lspet/train/im00001)" in report
    assert "1 skipped: no annotated joint (lspet/train/im00002)" in report


@pytest.mark.parametrize("archive", ["coco2014"], indirect=True)
def test_images_of_another_size_and_boxes_outside_are_counted(archive):
    root, _ = archive
    training_archives.write_image(root / "train2014/COCO_train2014_000000000009.jpg", size=(160, 120))
    path = root / "annotations/person_keypoints_train2014.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["annotations"][0]["bbox"] = [4000.0, 0.0, 10.0, 10.0]
    content["annotations"][4]["bbox"] = [10.0, 10.0, 0.0, 0.0]
    content["annotations"].append(content["annotations"][4] | {"bbox": [10.0, 10.0, 50.0, 50.0], "id": 7})
    path.write_text(json.dumps(content), encoding="utf-8")
    rows, report = build("coco2014", root)
    assert [r["example_id"] for r in rows["train"]] == [b"coco2014/train/000000000057/7"]
    assert "1 skipped: a box outside the image (coco2014/train/000000000057/900)" in report
    assert "1 skipped: a box that is not finite or has no area (coco2014/train/000000000057/904)" in report
    assert (
        "1 skipped: an image of another size than annotated" in report and "(160, 120), annotated (320, 240)" in report
    )


def test_mat_files_of_the_other_version_are_explained(tmp_path):
    v5, v73 = tmp_path / "v5.mat", tmp_path / "v73.mat"
    scipy.io.savemat(v5, {"joints": np.zeros(3)})
    with h5py.File(v73, "w", userblock_size=512) as file:
        file["joints"] = np.zeros(3)
    np.testing.assert_array_equal(mat.read_v5(v5, ["joints"])["joints"], np.zeros((1, 3)))
    np.testing.assert_array_equal(mat.read_v73(v73, ["joints"])["joints"], np.zeros(3))
    with pytest.raises(mat.MatError, match=r"v73.mat is a MATLAB v7.3 \(HDF5\) file, but the official one is v5"):
        mat.read_v5(v73, ["joints"])
    with pytest.raises(mat.MatError, match=r"v5.mat is no MATLAB v7.3 \(HDF5\) file"):
        mat.read_v73(v5, ["joints"])
    for read, path in ((mat.read_v5, v5), (mat.read_v73, v73)):
        with pytest.raises(mat.MatError, match=r"has no variable poses; it has joints"):
            read(path, ["poses"])
        path.write_bytes(path.read_bytes()[: 700 if path == v73 else 150])
        with pytest.raises(mat.MatError, match="Download it again"):
            read(path, ["joints"])


def test_a_damaged_name_that_is_no_text_is_named_with_the_others(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file[b"joint\xff"] = np.zeros(3)
    with pytest.raises(mat.MatError, match=r"has no variable poses; it has joint\ufffd"):
        mat.read_v73(tmp_path / "a.mat", ["poses"])


def test_the_joints_of_the_other_archive_are_refused(archive):
    root, _ = archive
    scipy.io.savemat(root / "lsp_dataset_original/joints.mat", {"joints": np.zeros((14, 3, 4))})
    with pytest.raises(ValueError, match=r"are \(14, 3, 4\).*should be \(3, 14, 'N'\).*file of the other archive"):
        build("lsp", root)


@pytest.mark.parametrize("archive", ["coco2014"], indirect=True)
@pytest.mark.parametrize("name", ["/etc/private.jpg", "../../private.jpg", "a/../../../private.jpg", 7, "link.jpg"])
def test_an_image_outside_the_archive_is_not_read_whatever_names_it(archive, tmp_path, name):
    root, _ = archive
    training_archives.write_image(tmp_path / "private.jpg")
    (root / "train2014/link.jpg").symlink_to(tmp_path / "private.jpg")
    path = root / "annotations/person_keypoints_train2014.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for image in content["images"]:
        image["file_name"] = name
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises((ValueError, building.BuildError), match=r"not named by a path inside|leads out of"):
        build("coco2014", root)


@pytest.mark.parametrize("name", ["lsp", "mpii", "coco2014", "mpi_inf_3dhp"])
def test_hidden_files_beside_the_real_ones_change_nothing(tmp_path, name):
    root = tmp_path / "archive"
    root.mkdir()
    writers = training_checks.WRITERS | {
        "mpi_inf_3dhp": lambda root: training_archives.write_mpi_inf_3dhp(root, [("S1", "Seq1"), ("S2", "Seq2")]),
    }
    writers[name](root)
    macos.add(root)
    rows, report = build(name, root)
    assert rows["train"] and "unreadable" not in report and "cannot be used" not in report


@pytest.mark.parametrize("archive", ["coco2014"], indirect=True)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"][0].pop("keypoints"), "person_keypoints"),
        (lambda c: c["annotations"][0].pop("bbox"), r"annotation .* is not as COCO's are \(KeyError\('bbox'\)\)"),
        (lambda c: c.pop("images"), "should be an object with the lists images"),
    ],
)
def test_other_json_files_are_refused(archive, change, message):
    root, _ = archive
    path = root / "annotations/person_keypoints_train2014.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        build("coco2014", root)


def test_fits_must_belong_to_the_list(archive):
    root, _ = archive
    np.save(root / "fits.npy", np.zeros((3, 82)))
    with pytest.raises(building.BuildError, match=r"--static_fits has the rows of SPIN's list: build lsp/spin"):
        build("lsp", root, static_fits=str(root / "fits.npy"))
    write_list(root, "lsp_dataset_original_train", ["images/im0001.jpg"])
    with pytest.raises(ValueError, match=r"has poses \(3, 72\).*the list has 1 rows"):
        build("lsp/spin", root, static_fits=str(root / "fits.npy"))
    with pytest.raises(ValueError, match="no file or folder of fits"):
        build("lsp/spin", root, static_fits=str(root / "nothing.npy"))
    np.savez(root / "fits.npz", pose=np.zeros((1, 72)))
    with pytest.raises(ValueError, match="Fits of SMPL are"):
        spin.read_fits(root / "fits.npz", 1)
    np.savez(root / "fits.npz", pose=np.zeros((1, 72)), shape=np.zeros((1, 10)), valid_fits=np.zeros(1))
    with pytest.raises(ValueError, match="has 'valid_fits', and 'valid_fit', which it resembles"):
        spin.read_fits(root / "fits.npz", 1)


def test_images_of_a_list_that_are_missing_are_named(archive):
    root, _ = archive
    write_list(root, "lsp_dataset_original_train", ["images/im0001.jpg", "images/im0009.jpg"])
    with pytest.raises(
        building.BuildError, match=r"lists 2 images, of which 1 are not in .* the first is .*im0009.jpg"
    ):
        build("lsp/spin", root)
    write_list(root, "lsp_dataset_original_train", ["pictures/im0001.jpg"])
    with pytest.raises(building.BuildError, match=r"the first, pictures/im0001.jpg, is neither there"):
        build("lsp/spin", root)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lspet", {"unlabelled": "guess"}, "unlabelled is `drop` or `keep`"),
        ("mpi_inf_3dhp", {"mpi_cameras": "front"}, "mpi_cameras is one of vnect, all"),
        ("mpi_inf_3dhp", {"mpi_skeleton": "human"}, "mpi_skeleton is one of universal, real"),
        ("mpi_inf_3dhp", {"mpi_step": 0}, "mpi_step must be at least 1"),
        ("amass", {"trim": 0.5}, "trim is a share"),
        ("amass", {"frames_per_second": 0.0}, "frames_per_second must be > 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tfds_builders.build(name, tmp_path, **options)
