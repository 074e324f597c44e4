"""The rasteriser against a loop over pixels, and the properties of drawn bodies."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from multibodies_jax.vis import render


def rasterize_by_loops(xy_px, depth, faces, height, width):
    """Solves for the weights of every pixel centre in every triangle; float64, no shortcuts."""
    ids, weights = np.full((height, width), -1), np.zeros((height, width, 3))
    nearest = np.full((height, width), np.inf)
    for t, face in enumerate(faces):
        if not (depth[face] > render.NEAR).all():
            continue
        matrix = np.vstack([xy_px[face].T, np.ones(3)])
        if np.linalg.det(matrix) > -1e-9:  # Seen from behind.
            continue
        for i in range(height):
            for j in range(width):
                screen = np.linalg.solve(matrix, [j + 0.5, i + 0.5, 1.0])
                if screen.min() < 0:
                    continue
                # The ray through the pixel meets the triangle where x/z, y/z agree: weights proportional to screen / z.
                world = screen / depth[face] / (screen / depth[face]).sum()
                z = world @ depth[face]
                if z < nearest[i, j]:
                    nearest[i, j], ids[i, j], weights[i, j] = z, t, world
    return ids, weights


@given(seed=st.integers(0, 2**31 - 1), spread=st.sampled_from([3.0, 12.0, 60.0]))
def test_rasterize_equals_a_loop_over_pixels(seed, spread):
    rng = np.random.default_rng(seed)
    height, width = 11, 17
    center = rng.uniform(0, [width, height], (12, 1, 2))
    xy_px = (center + spread * rng.normal(size=(12, 3, 2))).reshape(-1, 2)
    depth = rng.uniform(-0.3, 4.0, len(xy_px))
    faces = np.arange(36).reshape(12, 3)
    ids, weights = render.rasterize(xy_px, depth, faces, height, width)
    expected_ids, expected_weights = rasterize_by_loops(xy_px, depth, faces, height, width)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-7)


def test_rasterize_leaves_out_what_is_not_finite():
    xy_px = np.array([[0, 0], [0, 8], [8, 0], [np.nan, 0]])
    faces = np.array([[0, 1, 2], [3, 1, 2]])
    ids, _ = render.rasterize(xy_px, np.array([2.0, 2.0, 2.0, 1.0]), faces, 4, 4)
    np.testing.assert_array_equal(ids, 0)
    ids, weights = render.rasterize(xy_px, np.array([2.0, np.inf, 2.0, 1.0]), faces, 4, 4)
    assert (ids == -1).all() and (weights == 0).all()


def sphere(center, radius, n=24):
    """A closed mesh with outward triangles."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, n), np.linspace(0, 2 * np.pi, n), indexing="ij")
    verts = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1).reshape(-1, 3)
    i, j = (k.ravel() for k in np.meshgrid(np.arange(n - 1), np.arange(n - 1), indexing="ij"))
    a, b, c, d = i * n + j, (i + 1) * n + j, (i + 1) * n + j + 1, i * n + j + 1
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return radius * verts + center, faces


INTRINSICS = np.array([[100.0, 0, 40], [0, 100, 30], [0, 0, 1]])
GREY = np.full((60, 80, 3), 128, np.uint8)
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def test_vertex_normals_of_a_sphere_point_outwards():
    verts, faces = sphere((0, 0, 0), 2.0)
    normals = render.vertex_normals(verts, faces)
    # Around a pole and a seam, vertices are doubled and some have a single sliver: look at the others.
    inner = np.abs(verts[:, 2]) < 1.9
    assert ((normals * verts).sum(1)[inner] / 2 > 0.97).all()


def test_interpolate_gives_the_vertices_back_at_the_corners():
    values = np.random.default_rng(0).normal(size=(5, 4))
    faces = np.array([[0, 1, 2], [4, 3, 2]])
    points = render.interpolate(values, faces, np.array([0, 1, 1]), np.array([[0, 1, 0], [1, 0, 0], [0.25, 0.25, 0.5]]))
    np.testing.assert_allclose(points, [values[1], values[4], values[[4, 3, 2, 2]].mean(0)])


def test_nearer_bodies_hide_farther_ones_whatever_the_order():
    near, faces = sphere((0, 0, 3.0), 0.3)
    far, _ = sphere((0.1, 0, 6.0), 1.0)
    image = render.draw_bodies(GREY, [near, far], faces, INTRINSICS, [RED, BLUE], alpha=1.0)
    np.testing.assert_array_equal(
        image, render.draw_bodies(GREY, [far, near], faces, INTRINSICS, [BLUE, RED], alpha=1.0)
    )
    assert image[30, 40, 0] > 60 and image[30, 40, 2] == 0  # The near one in the middle,
    assert image[30, 55, 2] > 60 and image[30, 55, 0] == 0  # the far one around it,
    np.testing.assert_array_equal(image[0, 0], GREY[0, 0])  # and the image elsewhere.


def test_bodies_that_pass_through_each_other_are_cut_where_they_meet():
    left, faces = sphere((-0.2, 0, 5.0), 0.5)
    right, _ = sphere((0.2, 0, 5.0), 0.5)
    image = render.draw_bodies(GREY, [left, right], faces, INTRINSICS, [RED, BLUE], alpha=1.0)
    assert image[30, 38, 2] == 0 and image[30, 38, 0] > 0
    assert image[30, 42, 0] == 0 and image[30, 42, 2] > 0


def test_edges_are_smooth_and_the_input_is_left_alone():
    body, faces = sphere((0, 0, 5.0), 0.5)
    before = GREY.copy()
    white = render.draw_bodies(GREY, [body], faces, INTRINSICS, [(0.0, 0.0, 0.0)], alpha=1.0)
    np.testing.assert_array_equal(GREY, before)
    assert set(np.unique(white)) >= {0, 32, 64, 96, 128}  # Coverages of 2 x 2 samples: 4, 3, 2, 1 and 0 quarters.
    half = render.draw_bodies(GREY, [body], faces, INTRINSICS, [(0.0, 0.0, 0.0)], alpha=0.5)
    assert half[30, 40, 0] == 64


@pytest.mark.parametrize("center", [(0, 0, -5.0), (0, 0, 0.0), (50.0, 0, 5.0)])
def test_bodies_behind_around_and_beside_the_camera_are_not_drawn(center):
    body, faces = sphere(center, 0.5)
    np.testing.assert_array_equal(render.draw_bodies(GREY, [body], faces, INTRINSICS, [RED]), GREY)


def test_drawing_a_window_equals_drawing_everything():
    """The window that saves time must not move anything: compare with one body that covers the whole image."""
    body, faces = sphere((0.4, 0.2, 5.0), 0.3)
    backdrop, _ = sphere((0, 0, 300.0), 290.0)
    alone = render.draw_bodies(GREY, [body], faces, INTRINSICS, [BLUE], alpha=1.0)
    both = render.draw_bodies(GREY, [body, backdrop], faces, INTRINSICS, [BLUE, RED], alpha=1.0)
    assert (both[..., 0] > 0).any(axis=(0, 1))
    covered = both[..., 0] == 0
    np.testing.assert_array_equal(alone[covered], both[covered])
    assert covered.sum() > 80
    np.testing.assert_array_equal(covered & (alone != GREY).any(-1), covered)


def test_no_bodies_give_the_image_back():
    np.testing.assert_array_equal(render.draw_bodies(GREY, [], np.zeros((1, 3), int), INTRINSICS, []), GREY)


def test_bad_arguments_are_refused():
    body, faces = sphere((0, 0, 5.0), 0.5)
    with pytest.raises(ValueError, match="one colour for each body, got 2 for 1"):
        render.draw_bodies(GREY, [body], faces, INTRINSICS, [RED, BLUE])
    with pytest.raises(ValueError, match=r"opacity in \[0, 1\], got 90"):
        render.draw_bodies(GREY, [body], faces, INTRINSICS, [RED], alpha=90)


@given(seed=st.integers(0, 2**31 - 1), yaw=st.floats(-10, 10))
def test_a_panel_holds_the_whole_body_from_every_side(seed, yaw):
    rng = np.random.default_rng(seed)
    verts = rng.normal(size=(40, 3)) * rng.uniform(0.1, 2, 3) + rng.normal(size=3) * 5
    verts_cam, intrinsics = render.look_at_body(verts, yaw)
    xy = render.project(verts_cam, intrinsics)
    assert xy.min() > 0 and xy.max() < 1
    from_the_side = render.project(render.look_at_body(verts, yaw + np.pi / 2)[0], intrinsics)
    assert max(np.abs(xy - 0.5).max(), np.abs(from_the_side - 0.5).max()) > 0.25  # And is not lost in it.
    np.testing.assert_allclose(
        np.linalg.norm(verts_cam[1:] - verts_cam[:-1], axis=1), np.linalg.norm(np.diff(verts, axis=0), axis=1)
    )


def test_a_quarter_turn_shows_the_side_that_was_on_the_right():
    verts = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    verts_cam, _ = render.look_at_body(verts, np.pi / 2)
    assert verts_cam[:, 2].argmin() == 0 and verts_cam[:, 2].argmax() == 1


def test_a_panel_is_white_around_a_body_of_the_given_color():
    body, faces = sphere((3, 2, 1), 0.5)
    panel = render.draw_panel(body, faces, 0.3, 48, (0.2, 0.6, 0.2))
    assert panel.shape == (48, 48, 3) and (panel[0] == 255).all() and (panel[:, -1] == 255).all()
    middle = panel[24, 24].astype(float)
    assert middle[1] > 2 * middle[0] > 0
