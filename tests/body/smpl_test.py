"""The body against a float64 loop and PyPI's smplx, joints without a mesh against the mesh, and its file formats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from multibodies_jax import exact
from multibodies_jax.body import smpl
from multibodies_jax.geometry import rotations
from tests.helpers import python2, random_body

mesh = jax.jit(smpl.mesh)
joints = jax.jit(smpl.joints)


def posed_by_loops(body, rotmats, betas):
    """Float64 loops over vertices and joints: vertices, joint positions, joint rotations."""
    rotmats, betas = np.asarray(rotmats, np.float64), np.asarray(betas, np.float64)
    features = np.concatenate([(R - np.eye(3)).ravel() for R in rotmats[1:]])
    shaped = [v + s @ betas for v, s in zip(body["v_template"], body["shapedirs"], strict=True)]
    rest_joints = [sum(r * v for r, v in zip(row, shaped, strict=True)) for row in body["J_regressor"]]
    R_world, p_world = [rotmats[0]], [rest_joints[0]]
    for joint in range(1, 24):
        parent = body["parents"][joint]
        R_world.append(R_world[parent] @ rotmats[joint])
        p_world.append(p_world[parent] + R_world[parent] @ (rest_joints[joint] - rest_joints[parent]))
    vertices = []
    for v, directions, weights in zip(shaped, body["posedirs"], body["weights"], strict=True):
        rest = v + directions @ features
        vertices.append(sum(w * (R_world[k] @ (rest - rest_joints[k]) + p_world[k]) for k, w in enumerate(weights)))
    return np.array(vertices), np.array(p_world), np.array(R_world)


@pytest.mark.parametrize("seed", range(3))
def test_posing_equals_a_loop_in_float64(seed):
    body = random_body.arrays(seed)
    model = smpl.build(**body)
    rotmats, betas = random_body.poses(seed)
    vertices, p_world, R_world = posed_by_loops(body, rotmats, betas)
    np.testing.assert_allclose(mesh(model, rotmats, betas), vertices, atol=1e-5)
    T_world_joint = smpl.forward_kinematics(rotmats, smpl.shape(model, betas)[1], model.parents)
    np.testing.assert_allclose(T_world_joint[:, :3, 3], p_world, atol=1e-5)
    np.testing.assert_allclose(T_world_joint[:, :3, :3], R_world, atol=1e-5)
    np.testing.assert_array_equal(T_world_joint[:, 3], np.tile([0, 0, 0, 1], (24, 1)))


def test_the_rest_pose_is_the_shaped_template():
    model, _, _ = random_body.make()
    _, betas = random_body.poses(0)
    rotmats = jnp.broadcast_to(jnp.eye(3), (24, 3, 3))
    rest_verts, rest_joints = smpl.shape(model, betas)
    np.testing.assert_allclose(mesh(model, rotmats, betas), rest_verts, atol=1e-6)
    np.testing.assert_allclose(rest_joints, np.asarray(model.J_regressor) @ np.asarray(rest_verts), atol=1e-6)


@pytest.mark.slow
def test_batch_axes_are_independent():
    model, _, joint_model = random_body.make()
    rotmats, betas = random_body.poses(0, (2, 3))
    for function, fixed in ((mesh, model), (joints, joint_model)):
        together = function(fixed, rotmats, betas)
        for index in np.ndindex(2, 3):
            np.testing.assert_allclose(together[index], function(fixed, rotmats[index], betas[index]), atol=1e-5)


@pytest.mark.parametrize("seed", range(2))
def test_contracted_joints_equal_the_regressor_on_the_mesh(seed):
    model, _, _ = random_body.make(seed)
    rng = np.random.default_rng(seed)
    regressor = rng.normal(size=(5, 60)) * (rng.uniform(size=(5, 60)) < 0.2)  # Rows of any sum and sign.
    regressor[4] = np.eye(60)[7]
    joint_model = smpl.contract(model, regressor.astype(np.float32))
    rotmats, betas = random_body.poses(seed, (4,))
    expected = np.einsum("xv,bva->bxa", regressor, np.asarray(mesh(model, rotmats, betas), np.float64))
    np.testing.assert_allclose(joints(joint_model, rotmats, betas), expected, atol=1e-5)


def test_contraction_keeps_only_the_bones_that_touch():
    body = random_body.arrays()
    body["weights"] = np.eye(24)[np.arange(60) % 24]  # Every vertex on one bone.
    joint_model = smpl.contract(smpl.build(**body), np.eye(60, dtype=np.float32)[[0, 4, 28]])
    # Pairs (0, 0), (1, 4), (2, 4), and the vector 1 -> 4 of the skeleton with 0 -> 1 before it.
    assert sorted(joint_model.bones) == [0, 0, 1, 4, 4]


@jax.jit
def gradients(model, regressor, joint_model, axis_angle, betas, weight):
    """Of weighted joints, through the mesh and directly, by axis-angle and shape."""

    def through_mesh(axis_angle, betas):
        vertices = smpl.mesh(model, rotations.axis_angle_to_matrix(axis_angle), betas)
        return jnp.sum(weight * exact.einsum("xv,bva->bxa", regressor, vertices))

    def directly(axis_angle, betas):
        return jnp.sum(weight * smpl.joints(joint_model, rotations.axis_angle_to_matrix(axis_angle), betas))

    return [jax.grad(function, argnums=(0, 1))(axis_angle, betas) for function in (through_mesh, directly)]


@pytest.mark.slow
@pytest.mark.parametrize("angle", [0.0, 1e-8, 2.0, np.pi])
def test_gradients_are_finite_and_equal_with_and_without_a_mesh(angle):
    rng = np.random.default_rng(0)
    weight, axis = rng.normal(size=(2, 2, 24, 3))
    axis_angle = jnp.asarray(angle * axis / np.linalg.norm(axis, axis=-1, keepdims=True), jnp.float32)
    betas = jnp.asarray(rng.normal(size=(2, 10)), jnp.float32)
    through_mesh, directly = gradients(*random_body.make(), axis_angle, betas, jnp.asarray(weight, jnp.float32))
    for one, other in zip(directly, through_mesh, strict=True):
        assert np.isfinite(one).all()
        assert np.abs(one).max() > 1e-3
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_a_subset_is_part_of_the_whole():
    model, _, _ = random_body.make()
    ids = np.array([7, 3, 50, 0, 21])
    rotmats, betas = random_body.poses(0)
    part = smpl.subset(model, ids)
    np.testing.assert_allclose(mesh(part, rotmats, betas), mesh(model, rotmats, betas)[ids], atol=1e-6)
    np.testing.assert_array_equal(smpl.shape(part, betas)[1], smpl.shape(model, betas)[1])


def test_a_subset_keeps_the_faces_between_its_vertices():
    body = random_body.arrays()
    body["faces"] = np.array([[0, 1, 2], [5, 4, 2], [2, 4, 5], [2, 3, 4]])
    part = smpl.subset(smpl.build(**body), np.array([5, 2, 4]))
    np.testing.assert_array_equal(part.faces, [[0, 2, 1], [1, 2, 0]])


def test_mesh_and_joints_lower_for_every_platform():
    model, _, joint_model = random_body.make()
    poses = random_body.poses(0, (2,))
    for function, fixed in ((mesh, model), (joints, joint_model)):
        assert export.export(function, platforms=["cpu", "cuda", "tpu"])(fixed, *poses).platforms


def official(body, **changes):
    """The same body with the keys and types of official files."""
    table = np.stack(
        [np.where(np.array(body["parents"]) < 0, 2**32 - 1, body["parents"]), np.arange(24, dtype=np.uint32)]
    )
    keys = ("v_template", "shapedirs", "posedirs", "weights", "J_regressor")
    return {key: body[key] for key in keys} | {"f": body["faces"].astype(np.uint32), "kintree_table": table} | changes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_vertices_and_joints_equal_smplx(tmp_path):
    torch, smplx = pytest.importorskip("torch"), pytest.importorskip("smplx")
    body = {key: np.asarray(value) for key, value in random_body.arrays(0, vertices=6890).items()}
    path = tmp_path / "SMPL_NEUTRAL.npz"
    parents = np.where(body["parents"] < 0, 2**32 - 1, body["parents"])
    np.savez(path, **official(body, kintree_table=np.stack([parents, np.arange(24)])))
    rotmats, betas = random_body.poses(0, (2,))
    with np.load(path) as file:
        reference = smplx.SMPL("", data_struct=smplx.utils.Struct(**file), batch_size=2)
    R = torch.tensor(np.asarray(rotmats))
    expected = reference(
        betas=torch.tensor(np.asarray(betas)), global_orient=R[:, :1], body_pose=R[:, 1:], pose2rot=False
    )
    model = smpl.load(path)
    np.testing.assert_allclose(mesh(model, rotmats, betas), expected.vertices.detach(), atol=1e-5)
    chain = smpl.forward_kinematics(rotmats, smpl.shape(model, betas)[1], model.parents)[..., :3, 3]
    np.testing.assert_allclose(chain, expected.joints[:, :24].detach(), atol=1e-5)
    rows = np.random.default_rng(0).integers(0, 6890, 24)
    regressed = joints(smpl.contract(model, np.eye(6890, dtype=np.float32)[rows]), rotmats, betas)
    np.testing.assert_allclose(regressed, expected.vertices.detach()[:, rows], atol=1e-5)


def assert_same_model(got, expected):
    assert got.parents == expected.parents
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def python2_body(body):
    """As the official files: v1.0's constants of chumpy, a selection of shapes, and a sparse regressor."""
    wide = np.concatenate([body["shapedirs"], np.ones((60, 3, 4))], axis=2)
    idxs = np.arange(wide.size).reshape(wide.shape)[:, :, :10].ravel()
    shape = np.array([60, 3, 10])
    constants = {key: python2.chumpy_constant(body[key]) for key in ("v_template", "posedirs", "weights")}
    return (
        official(body)
        | constants
        | {
            "shapedirs": python2.chumpy_selection(python2.chumpy_constant(wide), idxs, shape),
            "J_regressor": python2.sparse_columns(body["J_regressor"]),
            "J": python2.Instance("chumpy.ch", "MatVecMult", {"mtx": np.eye(2), "vec": np.ones(2)}),
            "bs_type": "lrotmin",
            "pose_training_info": {"poses": ["a", "b"], "n": 2},
        }
    )


def test_the_official_files_are_read(tmp_path):
    body = random_body.arrays()
    np.savez(tmp_path / "body.npz", **official(body))
    (tmp_path / "body.pkl").write_bytes(python2.dumps(python2_body(body)))
    expected = smpl.build(**body)
    assert_same_model(smpl.load(tmp_path / "body.npz"), expected)
    assert_same_model(smpl.load(str(tmp_path / "body.pkl")), expected)


def test_more_shape_components_than_asked_are_cut_and_fewer_refused(tmp_path):
    body = random_body.arrays()
    body["shapedirs"] = np.random.default_rng(0).normal(size=(60, 3, 300))
    np.savez(tmp_path / "body.npz", **official(body))
    model = smpl.load(tmp_path / "body.npz", shape_components=16)
    np.testing.assert_array_equal(model.shapedirs, body["shapedirs"][:, :, :16].astype(np.float32))
    assert model.J_shapedirs.shape == (24, 3, 16)
    assert smpl.load(tmp_path / "body.npz", shape_components=300).shapedirs.shape == (60, 3, 300)
    for asked in (301, 0):
        with pytest.raises(ValueError, match=f"has 300 shape components, {asked} were asked for"):
            smpl.load(tmp_path / "body.npz", shape_components=asked)


def with_nan(array):
    return np.where(np.arange(array.size).reshape(array.shape) == 5, np.nan, array)


BODY = official(random_body.arrays())
WRONG = {
    "lacks weights": {key: value for key, value in BODY.items() if key != "weights"},
    "lacks v_template": {"poses": np.zeros((3, 72)), "trans": np.zeros(3)},
    "posedirs has 1 values that are NaN": BODY | {"posedirs": with_nan(BODY["posedirs"])},
    r"posedirs has shape \(60, 3, 93\); with 60 vertices and 24 joints it must be 60 x 3 x 207": (
        BODY | {"posedirs": BODY["posedirs"][..., :93]}
    ),
    r"weights has shape \(59, 24\)": BODY | {"weights": BODY["weights"][1:]},
    r"J_regressor has shape \(60, 24\)": BODY | {"J_regressor": BODY["J_regressor"].T},
    "must be tables": BODY | {"kintree_table": BODY["kintree_table"][0]},
    r"row \d+ of weights sums to 1\.1": BODY | {"weights": 1.1 * BODY["weights"]},
    "row 3 of J_regressor sums to 2": BODY
    | {"J_regressor": BODY["J_regressor"] * np.where(np.arange(24) == 3, 2, 1)[:, None]},
    "negative entries": BODY | {"weights": BODY["weights"] + np.eye(24)[[0] * 60] - np.eye(24)[[1] * 60]},
    "f refers to vertices": BODY | {"f": BODY["f"] + 50},
    "name an earlier joint": BODY
    | {"kintree_table": np.where(np.arange(48).reshape(2, 24) == 5, 9, BODY["kintree_table"])},
    "number the joints from 0": BODY | {"kintree_table": BODY["kintree_table"][:, ::-1]},
    "not an array of numbers": BODY | {"weights": BODY["weights"].astype(str)},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_bodies_are_refused_with_what_is_wrong(tmp_path, message):
    np.savez(tmp_path / "body.npz", **WRONG[message])
    with pytest.raises(ValueError, match=rf"body\.npz.*{message}"):
        smpl.load(tmp_path / "body.npz")


def test_missing_and_unreadable_files_say_where_to_get_one(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no body model at .*absent\.pkl.*SMPL_NEUTRAL.*smpl\.is\.tue\.mpg\.de"
    ):
        smpl.load(tmp_path / "absent.pkl")
    (tmp_path / "body.obj").write_text("v 0 0 0", encoding="utf-8")
    with pytest.raises(ValueError, match=r"ends neither in \.npz nor in \.pkl"):
        smpl.load(tmp_path / "body.obj")
    (tmp_path / "text.npz").write_text("no archive", encoding="utf-8")
    with pytest.raises(ValueError, match=r"cannot be read as an archive of arrays \(\.npz\)"):
        smpl.load(tmp_path / "text.npz")
    (tmp_path / "list.pkl").write_bytes(python2.dumps([1, 2]))
    with pytest.raises(ValueError, match="holds a list, not a dictionary"):
        smpl.load(tmp_path / "list.pkl")
    (tmp_path / "computed.pkl").write_bytes(
        python2.dumps(BODY | {"weights": python2.Instance("chumpy.ch", "MatVecMult", {"mtx": 1})})
    )
    with pytest.raises(ValueError, match="weights is a Chumpy, not an array"):
        smpl.load(tmp_path / "computed.pkl")
    (tmp_path / "hostile.pkl").write_bytes(
        b"\x80\x02" + python2.call("posix", "system", f"touch {tmp_path}/ran") + b"."
    )
    with pytest.raises(ValueError, match=r"wants to construct posix\.system"):
        smpl.load(tmp_path / "hostile.pkl")
    assert not (tmp_path / "ran").exists()
