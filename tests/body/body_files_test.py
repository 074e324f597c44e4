"""Loading the embedded body and folders of licensed files, and saying what is wrong with them."""

import pickle
import shutil

import numpy as np
import pytest

from multibodies_jax.body import body_files, mesh_points
from multibodies_jax.geometry import joints

NEUTRAL_PKL = ("SMPL_NEUTRAL.pkl", "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl")
BESIDE = ("J_regressor_extra.npy", "J_regressor_h36m.npy", "smpl_mean_params.npz")


@pytest.fixture(scope="module")
def embedded():
    return body_files.load()


@pytest.fixture(scope="module")
def body_arrays():
    with np.load(body_files.ASSETS / "mannequin.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture
def folder(tmp_path):
    """A folder like a user's, with the mannequin in the place of SMPL."""
    shutil.copy(body_files.ASSETS / "mannequin.npz", tmp_path / "SMPL_NEUTRAL.npz")
    with np.load(body_files.ASSETS / "companions.npz") as file:
        np.save(tmp_path / "J_regressor_extra.npy", file["J_regressor_extra"].astype(np.float64))
        np.save(tmp_path / "J_regressor_h36m.npy", file["J_regressor_h36m"])
        mean = {"pose": file["mean_pose"], "shape": file["mean_shape"], "cam": file["mean_cam"]}
        np.savez(tmp_path / "smpl_mean_params.npz", **mean)
    return tmp_path


def test_the_embedded_body_needs_nothing(embedded):
    assert embedded.directory is None and "no licence needed" in embedded.description
    assert embedded.smpl.v_template.shape == (6890, 3)
    assert embedded.smpl.shapedirs.shape == (6890, 3, 10)
    assert embedded.j49_regressor.shape == (49, 6890)
    assert embedded.j24_regressor.shape == (24, 6890)
    assert embedded.h36m_regressor.shape == (17, 6890)
    assert (
        embedded.mean_rot6d.shape == (144,) and embedded.mean_betas.shape == (10,) and embedded.mean_cam.shape == (3,)
    )
    assert len(embedded.fingerprint) == 64


def test_the_fingerprint_is_repeatable_and_covers_what_is_loaded(embedded):
    again = body_files.load()
    assert again.fingerprint == embedded.fingerprint
    assert body_files.load(shape_components=4).fingerprint != embedded.fingerprint


def test_fewer_shape_components(embedded):
    body = body_files.load(shape_components=4)
    assert body.smpl.shapedirs.shape == (6890, 3, 4) and body.mean_betas.shape == (4,)
    np.testing.assert_array_equal(body.smpl.shapedirs, embedded.smpl.shapedirs[..., :4])
    with pytest.raises(ValueError, match="10 shape components"):
        body_files.load(shape_components=11)


def test_j49_rows_by_a_dumb_loop(embedded, folder):
    """SPIN's construction: 24 joint rows, 21 single vertices, 9 extra rows, picked by the published table."""
    extra = np.load(folder / "J_regressor_extra.npy")
    smpl_rows = np.asarray(embedded.smpl.J_regressor)
    vertices = [332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787]
    vertices += [2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905, 6016, 6133]
    picked = [24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34]
    picked += [8, 5, 45, 46, 4, 7, 21, 19, 17, 16, 18, 20, 47, 48, 49, 50, 51, 52, 53, 24, 26, 25, 28, 27]
    verts = np.random.default_rng(0).normal(size=(6890, 3))
    for row, source in zip(embedded.j49_regressor, picked, strict=True):
        if source < 24:
            expected = smpl_rows[source] @ verts
        elif source < 45:
            expected = verts[vertices[source - 24]]
        else:
            expected = extra[source - 45] @ verts
        np.testing.assert_allclose(row @ verts, expected, atol=1e-6)
    np.testing.assert_array_equal(embedded.j24_regressor, embedded.j49_regressor[25:])
    np.testing.assert_allclose(embedded.j49_regressor.sum(1), 1, atol=1e-5)


def test_a_folder_of_files_loads_like_the_embedded_body(embedded, folder):
    body = body_files.load(folder)
    assert body.directory is not None
    assert body.description == f"SMPL_NEUTRAL.npz from {folder}"
    assert body.fingerprint == embedded.fingerprint
    np.testing.assert_array_equal(body.j49_regressor, embedded.j49_regressor)
    np.testing.assert_array_equal(body.mean_rot6d, embedded.mean_rot6d)


@pytest.mark.parametrize("name", NEUTRAL_PKL)
def test_pickled_bodies_are_found_by_their_names(name, embedded, folder, body_arrays):
    (folder / "SMPL_NEUTRAL.npz").unlink()
    plain = {key: value for key, value in body_arrays.items() if value.ndim}
    (folder / name).write_bytes(pickle.dumps(plain, protocol=2))
    body = body_files.load(folder)
    assert name in body.description and body.fingerprint == embedded.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda f: np.save(f / "J_regressor_h36m.npy", np.load(f / "J_regressor_h36m.npy")[::-1]),
        lambda f: np.save(f / "J_regressor_extra.npy", np.load(f / "J_regressor_extra.npy")[[1, 0, *range(2, 9)]]),
        lambda f: np.savez(f / "smpl_mean_params.npz", pose=np.ones(144), shape=np.zeros(10), cam=np.zeros(3)),
    ],
)
def test_any_other_file_gives_another_fingerprint(change, embedded, folder):
    change(folder)
    assert body_files.load(folder).fingerprint != embedded.fingerprint


def test_missing_files_are_all_named_with_their_source(folder):
    for name in ("SMPL_NEUTRAL.npz", *BESIDE):
        (folder / name).unlink()
    (folder / "SMPLX_NEUTRAL.npz").write_bytes(b"")
    with pytest.raises(FileNotFoundError) as error:
        body_files.load(folder)
    message = str(error.value)
    for wanted in (*BESIDE, *NEUTRAL_PKL, "SMPL_NEUTRAL.npz", "smpl.is.tue.mpg.de", "github.com/nkolot/SPIN"):
        assert wanted in message
    assert "Found there: SMPLX_NEUTRAL.npz." in message and "body.dir empty" in message


@pytest.mark.parametrize("name", BESIDE)
def test_one_missing_file_is_named_alone(name, folder):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError) as error:
        body_files.load(folder)
    assert f"  {name}, from SPIN" in str(error.value)
    assert sum(f"  {other}, from" in str(error.value) for other in BESIDE) == 1


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No folder .*nowhere.*body.dir empty"):
        body_files.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_damaged_files_are_named(name, content, folder):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} cannot be read as"):
        body_files.load(folder)


def test_damaged_archives_are_named(folder):
    path = folder / "smpl_mean_params.npz"
    np.savez_compressed(path, pose=np.arange(144.0), shape=np.zeros(10), cam=np.zeros(3))
    whole = path.read_bytes()
    garbled = bytearray(whole)
    garbled[60:120] = b"\xff" * 60  # Inside the compressed pose.
    for content in (whole[:500], bytes(garbled), (folder / "J_regressor_h36m.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"smpl_mean_params.npz cannot be read as an archive of arrays"):
            body_files.load(folder)


@pytest.mark.parametrize("name", BESIDE)
def test_pickled_objects_are_refused(name, folder):
    (folder / name).write_bytes(pickle.dumps({"pose": 1}))
    with pytest.raises(ValueError, match=rf"{name} cannot be read as"):
        body_files.load(folder)
    save = np.save if name.endswith("npy") else lambda path, value: np.savez(path, pose=value, shape=value, cam=value)
    save(folder / name, np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match=rf"{name} cannot be read as"):
        body_files.load(folder)


def test_wrong_contents_are_explained(folder):
    regressor = np.load(folder / "J_regressor_extra.npy")
    np.save(folder / "J_regressor_extra.npy", regressor[:8])
    with pytest.raises(ValueError, match=r"J_regressor_extra.npy has the shape \(8, 6890\); \(9, 6890\) was expected"):
        body_files.load(folder)
    regressor[3] *= 2
    np.save(folder / "J_regressor_extra.npy", regressor)
    with pytest.raises(ValueError, match=r"Row 3 of J_regressor_extra.npy sums to 2"):
        body_files.load(folder)
    regressor[3] = np.nan
    np.save(folder / "J_regressor_extra.npy", regressor)
    with pytest.raises(ValueError, match=r"Row 3 of J_regressor_extra.npy sums to nan"):
        body_files.load(folder)


def test_wrong_mean_parameters_are_explained(folder):
    np.savez(folder / "smpl_mean_params.npz", pose=np.zeros(72), shape=np.zeros(10), cam=np.zeros(3))
    with pytest.raises(ValueError, match=r"pose of smpl_mean_params.npz has the shape \(72,\); 144 finite numbers"):
        body_files.load(folder)
    np.savez(folder / "smpl_mean_params.npz", pose=np.zeros(144), shape=np.zeros(10))
    with pytest.raises(
        ValueError, match=r"smpl_mean_params.npz cannot be read.*has no array 'cam'; it has 'pose', 'shape'"
    ):
        body_files.load(folder)
    np.savez(folder / "smpl_mean_params.npz", pose=np.full(144, np.inf), shape=np.zeros(10), cam=np.zeros(3))
    with pytest.raises(ValueError, match=r"pose of smpl_mean_params.npz .*finite"):
        body_files.load(folder)


def test_another_mesh_is_refused(folder, body_arrays):
    few = np.arange(200)
    kept = {key: body_arrays[key][few] for key in ("v_template", "shapedirs", "posedirs", "weights")}
    regressor = body_arrays["J_regressor"][:, few] + 1e-3
    kept |= {"J_regressor": regressor / regressor.sum(1, keepdims=True), "f": np.array([[0, 1, 2]], np.uint32)}
    np.savez(folder / "SMPL_NEUTRAL.npz", **kept, kintree_table=body_arrays["kintree_table"])
    with pytest.raises(ValueError, match=r"200 vertices and 24 joints; SMPL has 6890 and 24"):
        body_files.load(folder)


def test_gendered_bodies_are_read_when_asked_for(embedded, folder, body_arrays):
    for gender in ("male", "female", "neutral"):
        assert embedded.gendered(gender) is embedded.smpl
    body = body_files.load(folder)
    assert body.gendered("neutral") is body.smpl
    with pytest.raises(FileNotFoundError, match=r"(?s)lacks:\n  the male body \(SMPL_MALE.pkl or .*SMPL_NEUTRAL.npz"):
        body.gendered("male")
    taller = body_arrays | {"v_template": 1.1 * body_arrays["v_template"]}
    np.savez(folder / "SMPL_MALE.npz", **taller)
    np.testing.assert_allclose(body.gendered("male").v_template, 1.1 * np.asarray(body.smpl.v_template), rtol=1e-6)
    with pytest.raises(FileNotFoundError, match="the female body"):
        body.gendered("female")
    with pytest.raises(ValueError, match="Unknown gender 'm'; the known ones are neutral, male, female"):
        body.gendered("m")


@pytest.mark.parametrize("name", ["mannequin.npz", "companions.npz"])
def test_a_flipped_byte_in_the_shipped_files_is_noticed(name, tmp_path, monkeypatch):
    shutil.copytree(body_files.ASSETS, tmp_path / "assets")
    monkeypatch.setattr(body_files, "ASSETS", tmp_path / "assets")
    body_files.load()
    path = tmp_path / "assets" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is not the file that was shipped.*Reinstall"):
        body_files.load()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"lacks .*{name}.*Reinstall"):
        body_files.load()


def test_joint_names_of_j24_rows(embedded):
    """Limbs of J24 are SMPL's own joints, whatever the table says."""
    rows = dict(zip(joints.J24, embedded.j24_regressor, strict=True))
    centers = dict(zip(joints.SMPL24, np.asarray(embedded.smpl.J_regressor), strict=True))
    for name in ("right_ankle", "right_knee", "left_knee", "left_wrist", "right_elbow", "left_shoulder"):
        np.testing.assert_array_equal(rows[name], centers[name])
    assert rows["nose"].argmax() == 332 and rows["left_eye"].argmax() == 2800 and rows["right_ear"].argmax() == 4071


def test_regressed_vertices_are_all_that_the_joints_need(embedded):
    largest = np.concatenate([np.asarray(embedded.smpl.J_regressor), embedded.j49_regressor]).max(axis=0)
    landmarks = set(mesh_points.LANDMARK_VERTICES.values())
    expected = [vertex for vertex, weight in enumerate(largest) if weight > 1e-9 or vertex in landmarks]
    assert list(embedded.regressed_vertices) == expected and 100 < len(expected) < 3000
