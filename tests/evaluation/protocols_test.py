"""Every protocol against float64 loops with the numbers of the authors' code, and what it refuses."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multibodies_jax.body import smpl
from multibodies_jax.evaluation import lenses, protocols, set_errors
from multibodies_jax.geometry import joints
from multibodies_jax.hypotheses import hypotheses
from tests.geometry.procrustes_test import procrustes_error_mm
from tests.helpers import batches, random_body

# As printed in the authors' code and SPIN: rows of the H36M regressor and of J24, for 14 and for 17 joints.
_H36M_ROWS = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9]
_J24_ROWS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 18, 14, 16, 17]
_GENDERS = [0, 1, 0]
_mesh = jax.jit(smpl.mesh)


def scored(seed):
    model = smpl.build(**random_body.arrays(seed))
    regressor = np.random.default_rng(17).dirichlet(np.full(60, 0.1), size=17).astype(np.float32)
    return set_errors.Scored(smpl.contract(model, regressor), model), np.asarray(regressor, np.float64)


def rotations_near(rng, *batch):
    turns = np.linalg.qr(np.eye(3) + 0.15 * rng.normal(size=(*batch, 24, 3, 3)))[0]
    return turns * np.sign(np.linalg.det(turns))[..., None, None]


@pytest.fixture(scope="module")
def case():
    """Three people, five hypotheses of each, three bodies."""
    rng = np.random.default_rng(0)
    neutral, regressor = scored(0)
    _, j24_regressor, j24 = random_body.make(0)
    scorer = set_errors.Scorer(neutral, j24, (scored(1)[0], scored(2)[0]))
    given = rng.normal(size=(3, 24, 3)) * 0.3
    valid = np.ones((3, 24))
    valid[:, [13, 15, 19, 20, 21, 22, 23]] = 0  # Human3.6M has no such joints.
    given = (given - given[:, 2:4].mean(axis=1, keepdims=True)) * valid[..., None]
    batch = {
        "joints3d": given,
        "joints3d_valid": valid,
        "rotmats": rotations_near(rng, 3),
        "betas": rng.normal(size=(3, 10)),
    }
    target = batches.batch(**{key: jnp.float32(value) for key, value in batch.items()}).target
    rotmats, betas = jnp.float32(rotations_near(rng, 3, 5)), jnp.float32(rng.normal(size=(3, 5, 10)))
    points = jax.jit(smpl.joints)(j24, rotmats, betas)
    hyps = hypotheses.Hypotheses(
        rotmats=rotmats,
        betas=betas,
        cam=jnp.ones((3, 5, 3)),
        joints24=points - points[:, :, 2:4].mean(axis=2, keepdims=True),
        midhip=jnp.zeros((3, 5, 3)),
        log_prior=jnp.zeros((3, 5)),
    )
    return types.SimpleNamespace(
        scorer=scorer, target=target, hyps=hyps, regressor=regressor, j24_regressor=j24_regressor
    )


def measured(case, name):
    protocol = protocols.PROTOCOLS[name]
    errors = set_errors.measure(
        case.scorer, case.hyps, set_errors.truth_of(case.scorer, case.target, jnp.int32(_GENDERS), protocol), protocol
    )
    return errors, {key: np.asarray(value) for key, value in set_errors.of_sets(errors, protocol=protocol).items()}


def by_hand(case, name):
    """metric -> errors (3, 5) with the released and with the strict root, and the joint error (3, 5), in float64."""
    count = 17 if name == "mpi_inf_3dhp" else 14
    meshes = np.asarray(_mesh(case.scorer.neutral.surface, case.hyps.rotmats, case.hyps.betas), np.float64)
    released, strict = ({k: np.zeros((3, 5)) for k in ("mpjpe", "pa_mpjpe", "vertex", "pck150", "auc")} for _ in "ab")
    selection = np.zeros((3, 5))
    for b in range(3):
        person = case.target.rotmats[b], case.target.betas[b]
        own_body = (*case.scorer.gendered, case.scorer.neutral)[_GENDERS[b] if name == "3dpw" else 2].surface
        true_mesh = np.asarray(_mesh(own_body, *person), np.float64)
        if name in ("3dpw", "released"):
            true = case.regressor @ true_mesh
            target = strict_target = true[_H36M_ROWS[:count]] - true[0]
            points = np.asarray(case.j24_regressor, np.float64) @ np.asarray(
                _mesh(case.scorer.neutral.surface, *person), np.float64
            )
            points, conf = points - points[2:4].mean(axis=0), np.ones(24)
        else:
            points, conf = (
                np.asarray(case.target.joints3d[b], np.float64),
                np.asarray(case.target.joints3d_valid[b], np.float64),
            )
            target, strict_target = points[_J24_ROWS[:count]], points[_J24_ROWS[:count]] - points[14]
        for m in range(5):
            found = case.regressor @ meshes[b, m]
            pred = found[_H36M_ROWS[:count]] - found[0]
            for errors, goal in ((released, target), (strict, strict_target)):
                distance = 1000 * np.linalg.norm(pred - goal, axis=1)
                errors["mpjpe"][b, m] = distance.mean()
                errors["pa_mpjpe"][b, m] = procrustes_error_mm(pred, goal)
                errors["pck150"][b, m] = 100 * (distance[:14] < 150).mean()
                errors["auc"][b, m] = 100 * np.mean([(distance[:14] < t).mean() for t in range(0, 151, 5)])
                if name in ("3dpw", "released"):
                    moved = meshes[b, m] - found[0], true_mesh - true[0]
                    errors["vertex"][b, m] = 1000 * np.linalg.norm(moved[0] - moved[1], axis=1).mean()
            centred = np.asarray(case.j24_regressor, np.float64) @ meshes[b, m]
            centred = centred - centred[2:4].mean(axis=0)
            selection[b, m] = np.mean(conf[:, None] * (centred - points) ** 2)
    return released, strict, selection


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h36m_p2", "3dpw", "mpi_inf_3dhp", "released"])
def test_a_protocol_and_its_strict_sibling_by_hand(case, name):
    protocol = protocols.PROTOCOLS[name]
    released, strict, selection = by_hand(case, name)
    errors, sets = measured(case, name)
    np.testing.assert_allclose(errors["squared24"], selection, rtol=1e-4)
    chosen = selection.argmin(axis=1)
    assert (chosen != strict["mpjpe"].argmin(axis=1)).any()  # Otherwise the selections could not be told apart.
    for metric in set(protocol.metrics) - {"pa_vertex"}:
        np.testing.assert_allclose(errors[metric], released[metric], rtol=1e-4, atol=1e-3, err_msg=metric)
        np.testing.assert_allclose(sets[metric], released[metric][np.arange(3), chosen], rtol=1e-4, atol=1e-3)
        best = strict[metric].max(axis=1) if metric in ("pck150", "auc") else strict[metric].min(axis=1)
        np.testing.assert_allclose(sets[metric + "_strict"], best, rtol=1e-4, atol=1e-3, err_msg=metric)
    if protocol.truth == protocols.GIVEN:
        assert np.abs(sets["mpjpe"] - sets["mpjpe_strict"]).min() > 1  # Another root.
        assert not any("vertex" in metric for metric in sets)


@pytest.mark.slow
def test_vertices_after_alignment_are_the_released_s_error(case):
    errors, _ = measured(case, "3dpw")
    meshes = np.asarray(_mesh(case.scorer.neutral.surface, case.hyps.rotmats, case.hyps.betas), np.float64)
    for b in range(3):
        own = case.scorer.gendered[_GENDERS[b]].surface
        true = np.asarray(_mesh(own, case.target.rotmats[b], case.target.betas[b]), np.float64)
        expected = [procrustes_error_mm(mesh, true) for mesh in meshes[b]]
        np.testing.assert_allclose(errors["pa_vertex"][b], expected, rtol=1e-4)


@pytest.mark.slow
def test_a_chosen_subset_is_judged_alone(case):
    protocol = protocols.PROTOCOLS["h36m_p2"]
    errors, _ = measured(case, "h36m_p2")
    index = jnp.array([[4, 1], [0, 0], [2, 3]])
    sets = set_errors.of_sets(set_errors.members(errors, index), protocol)
    rows = np.arange(3)[:, None]
    best = index[np.arange(3), np.asarray(errors["squared24"])[rows, index].argmin(axis=1)]
    np.testing.assert_array_equal(sets["pa_mpjpe"], np.asarray(errors["pa_mpjpe"])[np.arange(3), best])
    np.testing.assert_array_equal(sets["mpjpe_strict"], np.asarray(errors["mpjpe_strict"])[rows, index].min(axis=1))


def test_siblings_differ_in_what_is_a_fault_and_nothing_else():
    for name, protocol in protocols.PROTOCOLS.items():
        assert protocol.name == name and protocol.joints[:14] == (joints.J24[:12] if name == "limbs" else joints.J14)
        if protocol.strict and protocol.hint:
            sibling = protocols.PROTOCOLS[protocol.strict]
            assert sibling.selection == protocols.MINIMUM and sibling.truth_root == "pelvis" and not sibling.strict
            assert (sibling.truth, sibling.joints, sibling.metrics) == (
                protocol.truth,
                protocol.joints,
                protocol.metrics,
            )
            assert sibling.hint == protocol.hint
    one, two = (protocols.PROTOCOLS[name] for name in ("h36m_p1", "h36m_p2"))
    differ = {f.name for f in dataclasses.fields(one) if getattr(one, f.name) != getattr(two, f.name)}
    assert differ == {"name", "hint", "strict", "examples"}
    assert [joints.H36M17[i] for i in _H36M_ROWS] == [joints.J24[i] for i in _J24_ROWS] == list(joints.J17)
    with pytest.raises(ValueError, match=r"'official'; choose one of strict, limbs, released, h36m_p1"):
        protocols.PROTOCOLS["official"]


def test_given_joints_have_no_errors_of_vertices():
    given = [protocol for protocol in protocols.PROTOCOLS.values() if protocol.truth == protocols.GIVEN]
    assert {protocol.name.removesuffix("_strict") for protocol in given} == {
        "h36m_p1",
        "h36m_p2",
        "mpi_inf_3dhp",
        "limbs",
    }
    for metric in ("vertex", "pa_vertex"):
        assert all(metric not in protocol.metrics for protocol in given)
        with pytest.raises(ValueError, match=rf"given J24 joints, which have no vertices: leave out \['{metric}'\]"):
            dataclasses.replace(given[0], metrics=("mpjpe", metric))


def row(**other):
    fields = {"example_id": "s/0", "joints3d_valid": np.ones(24), "smpl_valid": 1.0, "gender": np.int32(0)}
    return fields | other


def test_what_a_protocol_needs():
    bare = row(smpl_valid=0.0, gender=np.int32(-1))
    protocols.check_example(protocols.PROTOCOLS["h36m_p2"], bare, "h36m_p2")
    protocols.check_example(protocols.PROTOCOLS["3dpw"], row(joints3d_valid=np.zeros(24)), "3dpw")
    protocols.check_example(protocols.PROTOCOLS["strict"], row(), "3dpw")
    no_hip = np.ones(24)
    no_hip[[2, 14]] = 0
    for name, bad, hint, message in [
        ("strict", bare, "h36m_p2", "s/0 lacks SMPL parameters.*usually scored by 'h36m_p2'"),
        ("3dpw", bare, "3dpw", "lacks SMPL parameters"),
        ("3dpw_strict", row(gender=np.int32(-1)), "3dpw", "lacks its gender"),
        ("h36m_p1", row(joints3d_valid=no_hip), "h36m_p1", "lacks the 3D joints right_hip, pelvis"),
        ("h36m_p1", row(), "h36m_p2", "belongs to a set of 'h36m_p2'"),
        ("3dpw", row(), "strict", "belongs to a set of 'strict'"),
    ]:
        with pytest.raises(ValueError, match=message):
            protocols.check_example(protocols.PROTOCOLS[name], bad, hint)


def test_limbs_are_compared_at_the_mid_hip_in_the_frame_of_the_crops_camera(case):
    protocol = protocols.PROTOCOLS["limbs"]
    turn = np.stack([Rotation.from_euler("xy", angles).as_matrix() for angles in ((0, 0), (0.2, 0.1), (-0.1, 0.3))])
    lens = lenses.Lens(np.full(3, 5, np.float32), turn.astype(np.float32))
    truth = set_errors.truth_of(case.scorer, case.target, jnp.int32(_GENDERS), protocol, lens)
    errors = set_errors.measure(case.scorer, case.hyps, truth, protocol)
    assert set(errors) == {"mpjpe", "pa_mpjpe", "squared24"}
    given, found = (np.asarray(x, np.float64) for x in (case.target.joints3d, case.hyps.joints24))
    for b, m in ((0, 0), (1, 4), (2, 1)):
        goal = (given[b] - given[b, 2:4].mean(axis=0)) @ turn[b]
        expected = 1000 * np.linalg.norm(found[b, m, :12] - goal[:12], axis=1).mean()
        np.testing.assert_allclose(errors["mpjpe"][b, m], expected, rtol=1e-4)
        expected = procrustes_error_mm(found[b, m, :12], goal[:12])
        np.testing.assert_allclose(errors["pa_mpjpe"][b, m], expected, rtol=1e-3)
    compared = set_errors.compared_joints(case.scorer, case.hyps, protocol)
    np.testing.assert_array_equal(compared, case.hyps.joints24[:, :, :12])


def test_limbs_need_the_camera_of_the_image_and_no_pelvis():
    protocol, valid = protocols.PROTOCOLS["limbs"], (np.arange(24) < 12).astype(np.float32)
    row = {"example_id": "s/0", "joints3d_valid": valid, "intrinsics_valid": np.float32(1)}
    protocols.check_example(protocol, row, "limbs")
    with pytest.raises(ValueError, match="s/0 lacks the 3D joints left_wrist, and protocol 'limbs'"):
        protocols.check_example(protocol, row | {"joints3d_valid": valid * (np.arange(24) < 11)}, "limbs")
    with pytest.raises(ValueError, match="s/0 lacks the camera of its image"):
        protocols.check_example(protocol, row | {"intrinsics_valid": np.float32(0)}, "limbs")
    with pytest.raises(ValueError, match="its truth has to be given J24 joints"):
        protocols.Protocol("p", protocols.MINIMUM, frame=protocols.CROP)
    assert protocol.described["block"] == 20 and "block" not in protocols.PROTOCOLS["strict"].described


def test_gendered_truth_needs_gendered_bodies(case):
    with pytest.raises(ValueError, match="no male and female bodies"):
        set_errors.truth_of(
            case.scorer.replace(gendered=None), case.target, jnp.int32(_GENDERS), protocols.PROTOCOLS["3dpw"]
        )
