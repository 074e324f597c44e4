"""The shipped body is a proper SMPL body, and the generator makes it."""

import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from multibodies_jax.body import body_files, mesh_points, smpl
from multibodies_jax.embedded.mannequin import build, poses, posing, primitives, remesh, skeleton, surface, triangles
from multibodies_jax.geometry import joints, rotations

MIRROR_X = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def shipped():
    with np.load(body_files.ASSETS / build.BODY_FILE) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def companions():
    with np.load(body_files.ASSETS / build.COMPANION_FILE) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def body():
    return body_files.load()


def check_closed_and_consistent(faces, num_verts):
    """Every directed edge once, its reverse once; one piece; no handles."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    key, reverse = directed @ [num_verts, 1], directed @ [1, num_verts]
    assert len(np.unique(key)) == len(key)
    np.testing.assert_array_equal(np.sort(key), np.sort(reverse))
    assert num_verts - len(key) // 2 + len(faces) == 2
    links = sp.coo_matrix((np.ones(len(directed)), directed.T), (num_verts, num_verts))
    assert connected_components(links)[0] == 1


def check_mirrored(faces, mirror):
    """The mirrored triangles, wound the other way, are the triangles."""
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(mirror)))

    def canonical(triples):
        start = triples.argmin(1)[:, None]
        turned = np.take_along_axis(triples, (start + np.arange(3)) % 3, 1)
        return turned[np.lexsort(turned.T)]

    np.testing.assert_array_equal(canonical(mirror[faces][:, ::-1]), canonical(np.asarray(faces, mirror.dtype)))


def check_correctives(arrays, mirror):
    """On new poses they take linear skinning most of the way to its target, and mirrored poses mirror them."""
    verts, weights, posedirs = (arrays[key].astype(float) for key in ("v_template", "weights", "posedirs"))
    centers = posing.centers_of_rotation(verts, arrays["f"].astype(int), weights)
    rng, flip, before, after = np.random.default_rng(1), np.diag(MIRROR_X), 0.0, 0.0
    for _ in range(8):
        rotmats = poses.pose(poses.random_angles(rng))
        moved, mirrored = (
            posedirs @ (R[1:] - np.eye(3)).ravel() for R in (rotmats, flip @ rotmats[joints.SMPL_FLIP] @ flip)
        )
        np.testing.assert_allclose(mirrored[mirror] * MIRROR_X, moved, atol=1e-5)
        R_world, offset = posing.pose_bones(rotmats, arrays["J"].astype(float))
        target = posing.rotate_about_centers(verts, centers, weights, R_world, offset)
        T = np.einsum("vj,jab->vab", weights, R_world)
        linear, corrected = (np.einsum("vab,vb->va", T, v) + weights @ offset for v in (verts, verts + moved))
        before += ((linear - target) ** 2).sum()
        after += ((corrected - target) ** 2).sum()
    assert after < 0.2 * before


def test_keys_and_sizes_are_those_of_smpl(shipped):
    sizes = {
        "v_template": (6890, 3),
        "f": (13776, 3),
        "shapedirs": (6890, 3, 10),
        "posedirs": (6890, 3, 207),
        "weights": (6890, 24),
        "J_regressor": (24, 6890),
        "J": (24, 3),
        "kintree_table": (2, 24),
        "bs_type": (),
        "bs_style": (),
    }
    assert {key: value.shape for key, value in shipped.items()} == sizes
    np.testing.assert_array_equal(shipped["kintree_table"][1], np.arange(24))
    np.testing.assert_array_equal(shipped["kintree_table"][0, 1:], joints.SMPL_PARENTS[1:])
    assert shipped["kintree_table"][0, 0] == 2**32 - 1
    assert all(value.dtype == np.float32 for value in shipped.values() if value.dtype.kind == "f")


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in body_files.ASSETS.iterdir()) < 2.4e6


def test_the_mesh_is_closed_and_has_no_degenerate_face(shipped):
    verts, faces = shipped["v_template"].astype(float), shipped["f"]
    check_closed_and_consistent(faces, 6890)
    report = triangles.report(verts, faces.astype(int))
    assert report["euler"] == 2 and report["open_edges"] == 0
    assert report["smallest_area_mm2"] > 10
    assert report["smallest_angle_deg"] > 25


def test_the_body_is_exactly_symmetric(shipped, companions):
    mirror = companions["mirror"]
    check_mirrored(shipped["f"], mirror)
    verts = shipped["v_template"]
    np.testing.assert_array_equal(verts[mirror], verts * MIRROR_X.astype(np.float32))
    np.testing.assert_allclose(shipped["weights"][mirror][:, joints.SMPL_FLIP], shipped["weights"], atol=1e-6)
    np.testing.assert_allclose(shipped["J_regressor"][joints.SMPL_FLIP][:, mirror], shipped["J_regressor"], atol=1e-6)
    shapedirs = shipped["shapedirs"]
    np.testing.assert_allclose(shapedirs[mirror] * MIRROR_X[:, None], shapedirs, atol=1e-6)
    h36m, extra = companions["J_regressor_h36m"], companions["J_regressor_extra"]
    np.testing.assert_allclose(h36m[joints.flip_map(joints.H36M17)][:, mirror], h36m, atol=1e-6)
    np.testing.assert_allclose(extra[joints.flip_map(mesh_points.EXTRA9)][:, mirror], extra, atol=1e-6)


def test_a_mirrored_pose_gives_the_mirrored_body(body, companions):
    flip = np.diag(MIRROR_X)
    rotmats = Rotation.from_rotvec(np.random.default_rng(0).normal(0, 0.4, (24, 3))).as_matrix().astype(np.float32)
    mirrored = flip @ rotmats[joints.SMPL_FLIP] @ flip
    betas = jnp.linspace(-1, 1, 10)
    verts, other = (smpl.mesh(body.smpl, jnp.asarray(R, jnp.float32), betas) for R in (rotmats, mirrored))
    np.testing.assert_allclose(other, np.asarray(verts)[companions["mirror"]] * MIRROR_X, atol=2e-5)


def test_weights_and_regressors_are_averages(shipped, companions):
    weights = shipped["weights"]
    assert weights.min() >= 0 and (weights > 0).sum(1).max() <= 4
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert np.array_equal(np.unique(weights.argmax(1)), np.arange(24))  # Every bone moves something.
    for regressor in (shipped["J_regressor"], companions["J_regressor_h36m"], companions["J_regressor_extra"]):
        assert regressor.min() >= 0
        np.testing.assert_allclose(regressor.sum(1, dtype=float), 1, atol=1e-6)
    assert (shipped["J_regressor"] > 0).sum(1).max() <= 20
    np.testing.assert_allclose(shipped["J"], shipped["J_regressor"] @ shipped["v_template"], atol=1e-5)


def test_size_and_orientation_of_the_template(shipped, companions):
    verts = shipped["v_template"].astype(float)
    assert abs(np.ptp(verts[:, 1]) - 1.70) < 0.01
    assert 60 < 1e3 * triangles.volume(verts, shipped["f"].astype(int)) < 70
    np.testing.assert_allclose(verts[:, 1].min(), companions["floor"], atol=0.01)
    np.testing.assert_allclose(shipped["J"][0], skeleton.PELVIS_ORIGIN, atol=1e-4)
    np.testing.assert_allclose(shipped["J"] - shipped["J"][0], skeleton.rest_joints() - [0, 0.96, -0.01], atol=1e-3)
    for name, center in zip(joints.SMPL24, shipped["J"], strict=True):
        side = {"left": 1, "right": -1}.get(name.split("_")[0], 0)
        assert side * center[0] > 0.05 or (side == 0 and abs(center[0]) < 1e-5)


def test_landmark_vertices_are_where_their_names_say(shipped, companions):
    at = {name: shipped["v_template"][vertex] for name, vertex in mesh_points.LANDMARK_VERTICES.items()}
    bone = {name: joints.SMPL24[companions["part"][vertex]] for name, vertex in mesh_points.LANDMARK_VERTICES.items()}
    heads = shipped["v_template"][companions["part"] == joints.SMPL24.index("head")]
    assert abs(at["nose"][0]) < 1e-6 and at["nose"][2] > heads[:, 2].max() - 0.003
    assert abs(at["left_ear"][0] - heads[:, 0].max()) < 0.005
    assert at["left_eye"][1] > at["nose"][1] and at["left_eye"][2] > at["left_ear"][2] + 0.05
    assert at["left_big_toe"][2] > shipped["v_template"][:, 2].max() - 0.005
    assert at["left_small_toe"][0] > at["left_big_toe"][0] > 0
    assert at["left_heel"][2] < at["left_big_toe"][2] - 0.2
    assert at["left_thumb"][2] > at["left_index"][2] > at["left_middle"][2] > at["left_ring"][2] > at["left_pinky"][2]
    for name, vertex in mesh_points.LANDMARK_VERTICES.items():
        np.testing.assert_array_equal(at[joints.mirrored(name)], at[name] * MIRROR_X.astype(np.float32))
        assert companions["mirror"][vertex] == mesh_points.LANDMARK_VERTICES[joints.mirrored(name)]
        part = name.split("_")[-1]
        expected = {"nose": "head", "eye": "head", "ear": "head", "toe": "foot", "heel": "ankle"}.get(part, "hand")
        assert expected in bone[name]


def test_keypoints_are_where_their_names_say(body):
    verts = np.asarray(body.smpl.v_template)
    at = dict(zip(joints.J24, body.j24_regressor @ verts, strict=True))
    h36m = dict(zip(joints.H36M17, body.h36m_regressor @ verts, strict=True))
    centers = dict(zip(joints.SMPL24, np.asarray(body.smpl.J_template), strict=True))
    for points in (at, h36m):
        for name, point in points.items():
            np.testing.assert_allclose(points[joints.mirrored(name)], point * MIRROR_X, atol=1e-5)
        upwards = ["left_ankle", "left_knee", "left_hip", "spine", "neck", "jaw", "head"]
        assert np.all(np.diff([points[name][1] for name in upwards]) > 0)
        outwards = ["neck", "left_shoulder", "left_elbow", "left_wrist"]
        assert np.all(np.diff([points[name][0] for name in outwards]) > 0.1)
    for name in ("left_ankle", "left_knee", "right_wrist", "right_elbow", "left_shoulder"):
        np.testing.assert_allclose(at[name], centers[name], atol=1e-4)
        np.testing.assert_allclose(h36m[name], centers[name], atol=1e-4)
    assert 0.02 < at["left_hip"][0] - centers["left_hip"][0] < 0.05  # LSP's hips are clicked further out.
    assert at["left_hip"][1] < at["pelvis"][1] < at["spine"][1] < at["thorax"][1] < at["neck"][1]
    assert verts[:, 1].max() - 0.01 < at["head_top"][1] < verts[:, 1].max()
    assert at["nose"][1] < at["head"][1] < at["head_top"][1]
    assert at["jaw"][2] > at["neck"][2] + 0.05


def test_shape_components_are_an_uncorrelated_population(shipped):
    shapedirs = shipped["shapedirs"].astype(float).reshape(-1, 10)
    gram = shapedirs.T @ shapedirs
    scale = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(gram / np.outer(scale, scale), np.eye(10), atol=1e-4)
    assert np.all(np.diff(scale) < 0)
    betas = np.random.default_rng(0).normal(size=(300, 10))
    bodies = shipped["v_template"] + np.einsum("vas,bs->bva", shipped["shapedirs"], betas)
    stature = np.ptp(bodies[:, :, 1], axis=1)
    assert abs(stature.mean() - 1.70) < 0.02 and 0.05 < stature.std() < 0.09
    assert np.corrcoef(stature, betas[:, 0])[0, 1] > 0.8  # The first component is size.


@pytest.mark.parametrize(
    ("name", "axis_angle_deg", "most_ml"),
    [("left_elbow", (0, -130, 0), 120), ("left_knee", (130, 0, 0), 320), ("right_hip", (-90, 0, 0), 900)],
)
def test_correctives_keep_the_volume_of_bent_limbs(shipped, body, name, axis_angle_deg, most_ml):
    rotmats = np.tile(np.eye(3), (24, 1, 1))
    rotmats[joints.SMPL24.index(name)] = Rotation.from_rotvec(np.radians(axis_angle_deg)).as_matrix()
    faces = shipped["f"].astype(int)

    def loss_ml(model):
        verts = np.asarray(smpl.mesh(model, jnp.asarray(rotmats, jnp.float32), jnp.zeros(10)), float)
        return 1e6 * (triangles.volume(shipped["v_template"].astype(float), faces) - triangles.volume(verts, faces))

    with_correctives = loss_ml(body.smpl)
    without = loss_ml(body.smpl.replace(posedirs=jnp.zeros_like(body.smpl.posedirs)))
    assert 0 < with_correctives < most_ml
    assert with_correctives < 0.6 * without


def test_correctives_vanish_at_rest_and_stay_local(shipped):
    """A finger does not move a foot: most entries are zero, and unbent vertices have none."""
    moving = skeleton.moving_joints(shipped["weights"].astype(float))[:, 1:]
    used = (shipped["posedirs"].reshape(6890, 3, 23, 9) != 0).any((1, 3))
    assert not np.any(used & ~moving)
    assert used.mean() < 0.1


def test_smplx_loads_the_file_and_agrees(shipped, body):
    torch = pytest.importorskip("torch")
    smplx = pytest.importorskip("smplx")
    model = smplx.SMPL("", data_struct=smplx.utils.Struct(**shipped), batch_size=3)
    rng = np.random.default_rng(0)
    axis_angle, betas = rng.normal(0, 0.7, (3, 24, 3)), rng.normal(size=(3, 10))
    flat = torch.tensor(axis_angle.reshape(3, 72), dtype=torch.float32)
    shape = torch.tensor(betas, dtype=torch.float32)
    with torch.no_grad():
        theirs = model(betas=shape, global_orient=flat[:, :3], body_pose=flat[:, 3:])
    rotmats = rotations.axis_angle_to_matrix(jnp.asarray(axis_angle, jnp.float32))
    betas = jnp.asarray(betas, jnp.float32)
    verts = smpl.mesh(body.smpl, rotmats, betas)
    np.testing.assert_allclose(verts, theirs.vertices.numpy(), atol=1e-5)
    T_world_joint = smpl.forward_kinematics(rotmats, smpl.shape(body.smpl, betas)[1], body.smpl.parents)
    np.testing.assert_allclose(T_world_joint[..., :3, 3], theirs.joints[:, :24].numpy(), atol=1e-5)


def test_the_generator_makes_the_shipped_body(shipped, companions, tmp_path, monkeypatch):
    """Not bit for bit: the last bit of exp and pow differs between CPUs. The surface and what is on it is the same."""
    lines = []
    made, made_companions = build.build(lines.append, num_poses=90)
    assert any("remeshing 9/9" in line for line in lines)
    check_closed_and_consistent(made["f"], 6890)
    check_mirrored(made["f"], made_companions["mirror"])
    assert {key: value.shape for key, value in made.items()} == {key: value.shape for key, value in shipped.items()}
    distance, nearest = KDTree(shipped["v_template"]).query(made["v_template"])
    assert distance.max() < 0.012
    np.testing.assert_allclose(made["J"], shipped["J"], atol=1e-3)
    assert np.abs(made["weights"] - shipped["weights"][nearest]).mean() < 0.005
    assert np.abs(made["shapedirs"] - shipped["shapedirs"][nearest]).mean() < 5e-4
    for arrays, mirror in ((made, made_companions["mirror"]), (shipped, companions["mirror"])):
        check_correctives(arrays, mirror)
    for name in ("J_regressor_extra", "J_regressor_h36m"):
        points = made_companions[name] @ made["v_template"]
        np.testing.assert_allclose(points, companions[name] @ shipped["v_template"], atol=0.01)
    for name in ("mean_pose", "mean_shape", "mean_cam", "floor"):
        np.testing.assert_allclose(made_companions[name], companions[name], atol=1e-3)
    assert np.mean(made_companions["part"] == companions["part"][nearest]) > 0.99
    build.write(made, made_companions, tmp_path)
    monkeypatch.setattr(body_files, "ASSETS", tmp_path)
    assert body_files.load().description == "embedded mannequin (no licence needed)"


def test_the_command_explains_itself(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mannequin", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("multibodies_jax.embedded.mannequin", run_name="__main__")
    assert stop.value.code == 0
    assert "--out DIR" in capsys.readouterr().out


def test_without_scikit_image_the_generator_names_the_extra_that_has_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"scikit-image.*the extra `generate`.*pip install"):
        surface.build_surface(lambda line: None)
    monkeypatch.setattr(sys, "argv", ["mannequin", f"--out={tmp_path / 'body'}"])
    with pytest.raises(SystemExit, match=r"scikit-image.*the extra `generate`") as stop:
        runpy.run_module("multibodies_jax.embedded.mannequin", run_name="__main__")
    assert stop.value.code and not (tmp_path / "body").exists()


def test_remeshing_a_sphere_hits_the_count_and_stays_on_it():
    def project(p):
        return 0.3 * p / np.linalg.norm(p, axis=-1, keepdims=True)

    angle = np.pi * np.arange(40) / 39
    grid = np.stack(np.meshgrid(angle - np.pi / 2, angle, indexing="ij"), -1)  # Longitude about x >= 0, colatitude.
    points = np.stack(
        [
            np.cos(grid[..., 0]) * np.sin(grid[..., 1]),
            np.cos(grid[..., 1]),
            np.sin(grid[..., 0]) * np.sin(grid[..., 1]),
        ],
        -1,
    )
    verts, faces = weld(0.3 * points.reshape(-1, 3), 40)
    for count in (700, 701):
        half_verts, half_faces = remesh.remesh_half(
            verts, faces, lambda p: np.full(len(p), 0.045), project, count, lambda line: None
        )
        full, full_faces, mirror = surface.mirror(half_verts, half_faces)
        assert len(full) == count
        check_closed_and_consistent(full_faces, count)
        check_mirrored(full_faces, mirror)
        np.testing.assert_allclose(np.linalg.norm(full, axis=1), 0.3, atol=2e-6)
        np.testing.assert_allclose(triangles.volume(full, full_faces), 4 / 3 * np.pi * 0.3**3, rtol=0.02)
        assert triangles.report(full, full_faces)["smallest_angle_deg"] > 25


def test_flipping_replaces_the_long_diagonal_and_keeps_the_side():
    verts = np.array([[1.0, 0, 0], [4, 1, 0], [1, 2, 0], [0.5, 1, 0]])  # A kite, cut along its length.
    faces = remesh.flip(verts, np.array([[0, 1, 3], [1, 2, 3]]))
    assert {frozenset(face) for face in faces.tolist()} == {frozenset((0, 1, 2)), frozenset((0, 2, 3))}
    np.testing.assert_allclose(triangles.normals(verts, faces), [[0, 0, 1]] * 2)


def test_collapsing_never_pinches_the_mesh():
    """The ends of edge 0-1 share a third neighbour (4), so that their collapse would leave a flap."""
    verts = np.array([[1.0, 0, 0], [1.1, 0, 0], [1.05, -1, 0], [1.05, 0.4, 0.5], [1.05, 1, 0]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 4, 3], [0, 3, 4]])
    _, _, removed = remesh.collapse(verts, faces, lambda p: np.ones(len(p)), 0.2)
    assert removed == 0


def weld(points, side):
    """Triangles of a square grid whose coincident points are one vertex."""
    rounded = np.where(np.abs(points) < 1e-12, 0.0, points)
    unique, index = np.unique(np.round(rounded, 9), axis=0, return_inverse=True)
    i, j = np.meshgrid(np.arange(side - 1), np.arange(side - 1), indexing="ij")
    a = (i * side + j).ravel()
    b, c, d = a + side, a + 1, a + side + 1
    faces = index.ravel()[np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])]
    faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    if triangles.volume(unique, faces) < 0:
        faces = faces[:, ::-1]
    return unique, np.ascontiguousarray(faces)


def test_primitives_are_negative_inside_and_about_distances():
    p = np.array([[0.0, 0, 0], [0.5, 0, 0], [0, 0.3, 0], [0, 0, 2.0]])
    np.testing.assert_allclose(primitives.ellipsoid(p, (0, 0, 0), (0.5, 0.3, 1.0))[1:3], 0, atol=1e-6)
    assert primitives.ellipsoid(p, (0, 0, 0), (0.5, 0.3, 1.0))[0] <= 0
    cone = primitives.round_cone(p, (0, 0, 0), (0, 0, 1), 0.5, 0.25)
    np.testing.assert_allclose(cone, [-0.5, 0, -0.2, 0.75], atol=1e-12)
    a, b = np.array([0.0, 1.0, -1.0]), np.array([0.0, 2.0, 2.0])
    np.testing.assert_allclose(primitives.smooth_min(a, b, 0.4), [-0.1, 1.0, -1.0])
    np.testing.assert_allclose(primitives.smooth_max(a, b, 0.4), [0.1, 2.0, 2.0])
    x, y, z = np.eye(3)
    rows = [(0.0, 0, 0, 0.2, 0.1, 0.3, 2.0), (1.0, 0, 0, 0.2, 0.1, 0.3, 2.0)]
    tube = primitives.Loft((0, 0, 0), y, x, z, rows, cap=0.01)
    outline = np.array([[0.2, 0.5, 0], [0, 0.5, 0.1], [0, 0.5, -0.3], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(tube(outline), 0, atol=3e-3)
    middle, beyond = tube(np.array([[0.0, 0.5, 0.0], [0.0, 1.2, 0.0]]))
    assert middle < -0.05 and beyond > 0.15


def test_rotation_about_centers_is_rigid_where_the_bones_agree():
    rng = np.random.default_rng(0)
    verts, centers, weights = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.dirichlet(np.ones(24), 5)
    R = Rotation.random(rng=rng).as_matrix()
    t = rng.normal(size=3)
    got = posing.rotate_about_centers(verts, centers, weights, np.tile(R, (24, 1, 1)), np.tile(t, (24, 1)))
    np.testing.assert_allclose(got, verts @ R.T + t, atol=1e-12)


def test_bones_pose_like_the_body_model(body):
    rotmats = Rotation.random(24, rng=np.random.default_rng(0)).as_matrix()
    rest = np.asarray(body.smpl.J_template, float)
    R_world, offset = posing.pose_bones(rotmats, rest)
    T = smpl.forward_kinematics(jnp.asarray(rotmats, jnp.float32), body.smpl.J_template, body.smpl.parents)
    np.testing.assert_allclose(R_world, T[:, :3, :3], atol=1e-5)
    np.testing.assert_allclose(np.einsum("jab,jb->ja", R_world, rest) + offset, T[:, :3, 3], atol=1e-5)


def test_clinical_angles_move_limbs_as_named(body):
    def posed(**angles):
        rotmats = jnp.asarray(poses.pose(angles), jnp.float32)
        T = smpl.forward_kinematics(rotmats, body.smpl.J_template, body.smpl.parents)
        return dict(zip(joints.SMPL24, np.asarray(T[:, :3, 3]), strict=True))

    hanging = posed()
    for side, sign in (("left", 1), ("right", -1)):
        assert hanging[f"{side}_wrist"][1] < hanging["pelvis"][1] + 0.05
        forwards = posed(**{f"{side}_shoulder_elevation": 90.0, f"{side}_shoulder_plane": 90.0})
        assert forwards[f"{side}_wrist"][2] > 0.4
        sideways = posed(**{f"{side}_shoulder_elevation": 90.0})
        assert sign * sideways[f"{side}_wrist"][0] > 0.5
        overhead = posed(**{f"{side}_shoulder_elevation": 170.0})
        assert overhead[f"{side}_wrist"][1] > overhead["head"][1] + 0.3
        assert posed(**{f"{side}_hip_flexion": 90.0})[f"{side}_knee"][2] > 0.35
        assert sign * posed(**{f"{side}_hip_abduction": 40.0})[f"{side}_knee"][0] > 0.3
        assert posed(**{f"{side}_knee_flexion": 90.0})[f"{side}_ankle"][2] < -0.3
        assert posed(**{f"{side}_ankle_dorsiflexion": 20.0})[f"{side}_foot"][1] > hanging[f"{side}_foot"][1] + 0.02
        assert posed(**{f"{side}_elbow_flexion": 90.0})[f"{side}_wrist"][2] > 0.2
    assert posed(spine_flexion=60.0)["head"][2] > 0.3
    assert posed(spine_bend=30.0)["head"][0] > 0.1
    assert posed(neck_flexion=40.0)["head"][2] > hanging["head"][2] + 0.01
    with pytest.raises(ValueError, match="Unknown clinical angles left_hip_flex; the known ones are spine_flexion"):
        poses.pose({"left_hip_flex": 90.0})


def test_random_angles_stay_within_the_range_of_motion():
    rng = np.random.default_rng(0)
    limits = poses.LIMITS
    assert len(limits) == 6 + 2 * 15
    for _ in range(20):
        angles = poses.random_angles(rng)
        assert angles.keys() == limits.keys()
        assert all(limits[name][0] <= angle <= limits[name][1] for name, angle in angles.items())
    assert all(limits[name][0] <= angle <= limits[name][1] for name, angle in poses.STANDING.items())


def test_the_mean_pose_stands_and_faces_the_camera(body):
    """Camera frame: y down, z away. The prior of the regressor must not start upside down or seen from behind."""
    rotmats = rotations.rot6d_to_matrix(jnp.asarray(body.mean_rot6d).reshape(24, 6))
    np.testing.assert_allclose(rotmats[0], np.diag([1.0, -1.0, -1.0]), atol=1e-6)
    verts = jax.jit(smpl.mesh)(body.smpl, rotmats, jnp.asarray(body.mean_betas))
    at = dict(zip(joints.J24, body.j24_regressor @ np.asarray(verts), strict=True))
    assert at["head_top"][1] < at["neck"][1] < at["left_hip"][1] < at["left_knee"][1] < at["left_ankle"][1]
    assert at["nose"][2] < at["left_ear"][2]
    assert at["left_shoulder"][0] > 0 > at["right_shoulder"][0]
    assert at["left_wrist"][1] > at["left_elbow"][1] > at["left_shoulder"][1]
    np.testing.assert_array_equal(body.mean_betas, np.zeros(10))
    np.testing.assert_allclose(body.mean_cam, [0.9, 0, 0])
