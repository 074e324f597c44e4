"""Fits in another order than the rows of their set are refused; those that have no order are not."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.body import smpl
from multibodies_jax.data import fit_files
from multibodies_jax.geometry import cameras, rotations
from multibodies_jax.training import fit_order
from tests.helpers import random_body

N = 24


@pytest.fixture(scope="module")
def joint_model():
    return random_body.make(0)[2]


@pytest.fixture(scope="module")
def fits() -> fit_files.Fits:
    rng = np.random.default_rng(0)
    return fit_files.Fits(0.4 * rng.normal(size=(N, 24, 3)), 0.1 * rng.normal(size=(N, 10)), np.ones(N, bool))


@pytest.fixture(scope="module")
def source(joint_model, fits):
    """Records of a set whose keypoints are those of the fits."""
    rotmats = rotations.axis_angle_to_matrix(jnp.asarray(fits.pose, jnp.float32))
    points = smpl.joints(joint_model, rotmats, jnp.asarray(fits.betas, jnp.float32))
    shown = np.asarray(cameras.project_crop(points, jnp.tile(jnp.asarray([0.8, 0.0, 0.0]), (N, 1))))
    box = {name: np.array([200.0, 200.0]) for name in ("box_center", "box_center_full")}
    box |= {name: 1.0 for name in ("box_scale", "box_scale_full")}
    seen = {name: np.ones(24, np.float32) for name in ("kp2d_valid", "kp2d_input")}
    empty = {"joints3d": np.zeros((24, 3), np.float32), "joints3d_valid": np.zeros(24, np.float32)}
    empty |= {"pose": np.zeros((24, 3), np.float32), "betas": np.zeros(10, np.float32), "smpl_valid": np.float32(0)}
    empty |= {"gender": np.int32(-1), "occlusion": np.int64(0)}
    return [box | seen | empty | {"example_id": f"set/{i}".encode(), "kp2d": 100 * shown[i] + 200} for i in range(N)]


def _turned(fits: fit_files.Fits, by: int) -> fit_files.Fits:
    return fit_files.Fits(*(np.roll(array, by, axis=0) for array in (fits.pose, fits.betas, fits.valid)))


def test_fits_of_their_rows_are_taken(source, fits, joint_model):
    fit_order.check("a/b", source, fits, joint_model, 64)


@pytest.mark.parametrize("by", [1, 11])
def test_fits_of_other_rows_are_refused(source, fits, joint_model, by):
    with pytest.raises(
        fit_files.FitsError, match=r"The fits of a/b are of other rows: .* px\^2, from those of other rows"
    ):
        fit_order.check("a/b", source, _turned(fits, by), joint_model, 64)


def test_what_has_no_order_is_taken(source, fits, joint_model):
    alike = fit_files.Fits(np.zeros((N, 24, 3)), np.zeros((N, 10)), np.ones(N, bool))
    fit_order.check("a/b", source, alike, joint_model, 64)
    few = _turned(fits, 1)
    few.valid[5:] = False
    fit_order.check("a/b", source, few, joint_model, 64)
