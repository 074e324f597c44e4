"""Boxes: around the visible keypoints, and the map from original pixels to the crop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from multibodies_jax.geometry import boxes

keypoints = hnp.arrays(np.float64, (24, 2), elements=st.floats(-2000, 2000, allow_subnormal=False))
visibility = hnp.arrays(np.float32, 24, elements=st.sampled_from([0.0, 1.0])).filter(np.any)


def test_visible_box_of_known_points():
    kp2d = np.array([[10, 20], [110, 220], [-500, np.nan]], np.float32)
    center, scale = boxes.visible_box(kp2d, np.array([1, 1, 0], np.float32))
    np.testing.assert_allclose(center, [60, 120])
    np.testing.assert_allclose(scale, 1.1 * 200 / 200)
    assert center.dtype == scale.dtype == np.float32


@given(kp2d=keypoints, visible=visibility)
def test_visible_box_contains_the_visible_and_is_tight(kp2d, visible):
    center, scale = boxes.visible_box(kp2d, visible)
    reach = np.max(np.abs(kp2d[visible > 0] - center))
    assert reach <= 100 * scale + 1e-9
    assert scale == pytest.approx(max(1.1 * 2 * reach, 16.0) / 200)


@given(
    kp2d=keypoints,
    visible=visibility,
    shift=hnp.arrays(float, 2, elements=st.floats(-1e3, 1e3)),
    zoom=st.floats(0.1, 10),
)
def test_visible_box_moves_and_scales_with_the_points(kp2d, visible, shift, zoom):
    center, scale = boxes.visible_box(kp2d, visible, min_side=0.0)
    moved_center, moved_scale = boxes.visible_box(zoom * kp2d + shift, visible, min_side=0.0)
    np.testing.assert_allclose(moved_center, zoom * center + shift, atol=1e-8)
    np.testing.assert_allclose(moved_scale, zoom * scale, atol=1e-8)


def test_visible_box_of_one_joint_has_a_size():
    kp2d = np.full((24, 2), 7.0)
    visible = np.eye(24)[5]
    center, scale = boxes.visible_box(kp2d, visible)
    np.testing.assert_allclose(center, 7.0)
    assert 200 * scale == 16.0


def test_visible_box_needs_a_visible_joint_in_numpy_and_stays_finite_in_jax():
    kp2d, visible = np.ones((2, 24, 2), np.float32), np.ones((2, 24), np.float32)
    visible[1] = 0
    with pytest.raises(ValueError, match="1 example"):
        boxes.visible_box(kp2d, visible)
    center, scale = jax.jit(boxes.visible_box)(kp2d, visible)
    np.testing.assert_allclose(center, [[1, 1], [0, 0]])
    np.testing.assert_allclose(scale, 16 / 200)


def test_visible_box_batches_like_a_loop_in_numpy_and_under_jit():
    rng = np.random.default_rng(0)
    kp2d = rng.uniform(0, 500, (3, 4, 24, 2)).astype(np.float32)
    visible = (rng.random((3, 4, 24)) < 0.5).astype(np.float32)
    visible[..., 0] = 1
    center, scale = boxes.visible_box(kp2d, visible)
    scale = np.asarray(scale)
    for i in np.ndindex(3, 4):
        one_center, one_scale = boxes.visible_box(kp2d[i], visible[i])
        np.testing.assert_array_equal(center[i], one_center)
        np.testing.assert_array_equal(scale[i], one_scale)
    jitted = jax.jit(boxes.visible_box)(jnp.asarray(kp2d), visible)
    np.testing.assert_allclose(jitted[0], center, rtol=1e-6)
    np.testing.assert_allclose(jitted[1], scale, rtol=1e-6)


@pytest.mark.slow
def test_visible_box_has_finite_gradients():
    kp2d = jnp.asarray(np.random.default_rng(0).uniform(0, 500, (24, 2)), jnp.float32)
    visible = jnp.ones(24).at[6:14].set(0.0)
    gradient = jax.grad(lambda x: jnp.sum(boxes.visible_box(x, visible)[0]) + boxes.visible_box(x, visible)[1])(kp2d)
    assert np.all(np.isfinite(gradient)) and np.any(gradient != 0)


@given(
    x=st.floats(-50, 400), y=st.floats(-50, 400), scale=st.floats(0.05, 5), angle=st.floats(-7, 7),
    size=st.integers(8, 300),
)  # fmt: skip
def test_the_box_spans_minus_one_to_one(x, y, scale, angle, size):
    center = np.array([x, y])
    transform = boxes.affine(center, scale, size, angle)
    points = center + scale * 100 * np.random.default_rng(size).normal(size=(5, 3, 2))
    there = boxes.to_crop(points, transform, size)
    np.testing.assert_allclose(
        np.linalg.norm(there, axis=-1), np.linalg.norm(points - center, axis=-1) / (100 * scale), rtol=1e-6
    )
    assert boxes.to_crop(points.astype(np.float32), transform, size).dtype == np.float32


@pytest.mark.parametrize("center, scale", [((np.nan, 1.0), 1.0), ((1.0, 1.0), 0.0), ((1.0, 1.0), np.inf)])
def test_boxes_without_area_are_refused(center, scale):
    with pytest.raises(ValueError, match="finite centre and a scale > 0"):
        boxes.affine(np.array(center), scale, 64)
