"""The lens of an image as the crop's camera has it: focal length and turn, where they are known."""

import numpy as np

from multibodies_jax.data import pipeline
from multibodies_jax.evaluation import lenses
from multibodies_jax.geometry import cameras


def record(center, known=1.0, focal=900.0):
    K = np.array([[focal, 0, 300], [0, focal, 200], [0, 0, 1]])
    return {"intrinsics": K, "intrinsics_valid": known, "box_center": np.array(center), "box_scale": 1.5}


def test_a_crop_has_the_focal_length_of_its_image_and_is_turned_towards_its_centre():
    lens = lenses.of_rows(pipeline.collate([lenses.row(record(c)) for c in ((300.0, 200.0), (450.0, 120.0))]))
    assert lens is not None
    np.testing.assert_allclose(lens.focal, 900 / 150)
    np.testing.assert_allclose(lens.turn[0], np.eye(3), atol=1e-6)
    ray = np.array([150 / 900, -80 / 900, 1])
    np.testing.assert_allclose(np.asarray(lens.turn)[1, :, 2], ray / np.linalg.norm(ray), atol=1e-6)
    np.testing.assert_allclose(lens.turn[1] @ lens.turn[1].T, np.eye(3), atol=1e-6)


def test_an_unknown_camera_is_that_of_the_networks():
    rows = pipeline.collate([lenses.row(record((450.0, 120.0), known=0.0, focal=0.0))])
    lens = lenses.of_rows(rows)
    assert lens is not None
    np.testing.assert_allclose(lens.focal, cameras.FOCAL)
    np.testing.assert_array_equal(lens.turn, np.eye(3)[None])
    assert lenses.of_rows({name: rows[name] for name in ("box_center", "box_scale")}) is None
