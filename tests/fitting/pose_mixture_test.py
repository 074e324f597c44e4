"""The mixture of poses against SciPy's densities, and the files that it is read from."""

import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.fitting import pose_mixture
from tests.helpers import smplify_reference as reference

POSES = 0.3 * np.random.default_rng(0).normal(size=(5, 69))


def test_the_energy_is_that_of_the_likeliest_component_in_float64():
    expected = [reference.energy(pose) for pose in POSES]
    found = pose_mixture.energy(reference.mixture(), jnp.asarray(POSES, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_gradient_flows_through_the_likeliest_component():
    expected = reference.gradient(reference.energy, POSES[0])
    found = jax.grad(lambda pose: pose_mixture.energy(reference.mixture(), pose))(jnp.asarray(POSES[0], jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_the_curvature_is_the_second_derivative():
    pose = jnp.asarray(POSES[0], jnp.float32)
    expected = jax.hessian(lambda pose: pose_mixture.energy(reference.mixture(), pose))(pose)
    found = pose_mixture.curvature(reference.mixture(), pose)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("weight", [0.0, 1e-30])
def test_a_component_of_hardly_any_weight_never_wins(weight):
    arrays = reference.mixture_arrays()
    alone = {name: array[:1] for name, array in arrays.items()}
    weights = np.array([1.0, weight])
    # Its mean is the pose itself.
    both = {"means": np.stack([arrays["means"][0], POSES[0]]), "covars": arrays["covars"][[0, 0]], "weights": weights}
    pose = jnp.asarray(0.3 * POSES[0] + 0.7 * arrays["means"][0], jnp.float32)
    np.testing.assert_allclose(
        pose_mixture.energy(pose_mixture.build(**both), pose),
        pose_mixture.energy(pose_mixture.build(**alone | {"weights": np.ones(1)}), pose),
        rtol=1e-5,
    )


def test_determinants_that_float32_cannot_hold_are_no_infinity():
    arrays = {"means": np.zeros((2, 69)), "covars": np.stack([1e-6 * np.eye(69), 1e6 * np.eye(69)])}
    mixture = pose_mixture.build(**arrays, weights=np.ones(2))
    found = pose_mixture.energy(mixture, jnp.full((1, 69), 100.0))
    np.testing.assert_allclose(found, 69 / 2 * np.log(2 * np.pi) + 69 * np.log(1e6) + 0.5 * 69 * 1e-2, rtol=1e-5)


def test_the_mixture_that_ships_prefers_bent_to_overstretched_knees():
    mixture = pose_mixture.load()
    knees = jnp.zeros((2, 69)).at[:, jnp.array([9, 12])].set(jnp.array([[0.5], [-0.5]]))
    bent, overstretched = pose_mixture.energy(mixture, knees)
    assert bent < overstretched


@pytest.mark.parametrize("kind", ["npz", "pkl"])
def test_files_of_both_kinds_are_read(tmp_path, kind):
    path, arrays = tmp_path / f"gmm.{kind}", reference.mixture_arrays()
    if kind == "npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(pickle.dumps(arrays, protocol=2))
    jax.tree.map(np.testing.assert_array_equal, pose_mixture.load(path), reference.mixture())


def test_a_file_that_is_missing_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gmm_08\.pkl of SMPLify's prior.*the mixture that ships.*is used"):
        pose_mixture.load(tmp_path / "gmm_08.pkl")


def _wrong(name, array):
    return reference.mixture_arrays() | {name: array}


@pytest.mark.parametrize(
    "content, message",
    [
        (_wrong("means", np.zeros((3, 72))), "means (3, 72)"),
        (_wrong("weights", np.array([1.0, -1.0, 1.0])), "negative"),
        (_wrong("covars", np.full((3, 69, 69), np.nan)), "not finite"),
        (_wrong("covars", np.zeros((3, 69, 69))), "not positive definite"),
        (_wrong("weights", ["a", "b", "c"]), "no arrays of numbers"),
        ([1, 2], "a dictionary with means, covars, weights was expected, and list"),
        ({"means": 1}, "means is there"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, content, message):
    path = tmp_path / "gmm_08.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is no mixture of poses: .*{re.escape(message)}"):
        pose_mixture.load(path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "gmm_08.pkl"
    path.write_bytes(b"csklearn.mixture\nGMM\n.")
    with pytest.raises(ValueError, match=r"it wants to construct sklearn\.mixture\.GMM"):
        pose_mixture.load(path)
