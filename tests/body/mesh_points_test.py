"""Points of the mesh against the values of the released code."""

import numpy as np
import pytest

from multibodies_jax.body import mesh_points


def test_the_49_joint_map_is_the_published_one():
    openpose = [24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, *range(25, 35)]
    j24 = [8, 5, 45, 46, 4, 7, 21, 19, 17, 16, 18, 20, *range(47, 54), 24, 26, 25, 28, 27]
    np.testing.assert_array_equal(mesh_points.J49_FROM_54, openpose + j24)
    with pytest.raises(ValueError, match="read-only"):
        mesh_points.J49_FROM_54[0] = 3


def test_landmarks_are_different_vertices():
    assert len(mesh_points.LANDMARK_VERTICES) == len(set(mesh_points.LANDMARK_VERTICES.values())) == 21
