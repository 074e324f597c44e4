"""Outlines of bodies against loops over cells, and the place of a body from its keypoints."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.body import smpl
from multibodies_jax.evaluation import lenses, silhouettes
from multibodies_jax.geometry import cameras
from tests.helpers import evaluation_fixture as fixture

FOCAL = np.array([3.0, cameras.FOCAL, 10.0], np.float32)


def test_a_cell_is_covered_where_a_point_lies_in_it():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.2, 1.2, (2, 50, 2)).astype(np.float32)
    points[0, :3] = [[np.nan, 0], [-1.0, 0.0], [np.inf, 0.1]]
    expected = np.zeros((2, silhouettes.CELLS, silhouettes.CELLS), bool)
    for b, row in enumerate(points.astype(np.float64)):
        for x, y in row:
            if abs(x) < 1 and abs(y) < 1:
                expected[b, int((y + 1) * 28), int((x + 1) * 28)] = True
    np.testing.assert_array_equal(silhouettes.covered(jnp.asarray(points)), expected)


def seen(points, translation):
    p = points + translation[:, None]
    return FOCAL[:, None, None] * p[..., :2] / p[..., 2:]


def test_a_body_is_placed_where_its_keypoints_say():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(3, 24, 3)).astype(np.float32) * 0.4
    translation = np.array([[0.2, -0.1, 5.0], [0.0, 0.3, 60.0], [-0.5, 0.0, 12.0]], np.float32)
    kp2d, valid = seen(points, translation), np.ones((3, 24), np.float32)
    kp2d[:, 5], valid[:, 5] = 9.0, 0.0  # Not annotated.
    found = silhouettes.placed(*map(jnp.asarray, (points, kp2d, valid, FOCAL)))
    np.testing.assert_allclose(found, translation, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def out():
    return fixture.made()


def bodies_at(out, translation):
    """The true bodies in the place of hypotheses, at cameras of the networks, and a target that shows them there."""
    scorer, target = out.networks.scorer, out.batch.target
    cam = jnp.stack([cameras.FOCAL / translation[:, 2], translation[:, 0], translation[:, 1]], axis=-1)
    points = smpl.joints(scorer.j24, target.rotmats, target.betas)
    shown = dataclasses.replace(
        target,
        kp2d=cameras.project_crop(points, cam),
        kp2d_valid=jnp.ones(points.shape[:2]),
        smpl_valid=jnp.ones(len(points)),
    )
    hyps = out.hyps.replace(
        rotmats=jnp.broadcast_to(target.rotmats[:, None], out.hyps.rotmats.shape),
        betas=jnp.broadcast_to(target.betas[:, None], out.hyps.betas.shape),
        cam=jnp.broadcast_to(cam[:, None], out.hyps.cam.shape),
    )
    return hyps, shown


@pytest.mark.slow
def test_the_outline_of_the_true_body_is_its_own_and_that_of_a_moved_one_is_not(out):
    translation = jnp.tile(jnp.asarray([0.05, -0.02, 2.5 * cameras.FOCAL]), (fixture.B, 1))
    hyps, target = bodies_at(out, translation)
    surface, j24 = out.networks.scorer.neutral.surface, out.networks.scorer.j24
    assert (silhouettes.iou(surface, j24, hyps, target, None) > 0.9).all()  # Except for cells at the edge.
    beside = hyps.replace(cam=hyps.cam.at[..., 1].add(10.0))
    np.testing.assert_array_equal(silhouettes.iou(surface, j24, beside, target, None), 0.0)
    m = hyps.cam.shape[1]
    half = hyps.replace(cam=hyps.cam.at[:, : m // 2, 1].add(10.0))
    np.testing.assert_allclose(silhouettes.iou(surface, j24, half, target, None), 1 - (m // 2) / m, atol=0.1)


def test_of_a_person_whose_body_or_place_is_not_known_there_is_no_outline(out):
    hyps, target = bodies_at(out, jnp.tile(jnp.asarray([0.0, 0.0, 100.0]), (fixture.B, 1)))
    target = target.replace(smpl_valid=target.smpl_valid.at[0].set(0), kp2d_valid=target.kp2d_valid.at[1, 3:].set(0))
    surface, j24 = out.networks.scorer.neutral.surface, out.networks.scorer.j24
    lens = lenses.Lens(np.full(fixture.B, 44, np.float32), np.tile(np.eye(3, dtype=np.float32), (fixture.B, 1, 1)))
    found = np.asarray(silhouettes.iou(surface, j24, hyps, target, lens))
    assert np.isnan(found[:2]).all() and np.isfinite(found[2:]).all()


@pytest.mark.slow
def test_the_true_body_is_placed_by_the_camera_of_the_image_also_far_from_its_axis(out, monkeypatch):
    """An image of 1920 x 1080, people of two metres' distance at its side; hypotheses are put where the truth is."""
    scorer, target, B = out.networks.scorer, out.batch.target, fixture.B
    surface = scorer.neutral.surface
    K = np.array([[1960, 0, 960], [0, 1960, 540], [0, 0, 1]], np.float32)
    points, mesh = (
        np.asarray(made) + np.array([1.2, 0.1, 3.0], np.float32)
        for made in (
            smpl.joints(scorer.j24, target.rotmats, target.betas),
            smpl.mesh(surface, target.rotmats, target.betas),
        )
    )
    pixels, outline = (p[..., :2] / p[..., 2:] * 1960 + K[:2, 2] for p in (points, mesh))
    center, scale = (pixels.max(axis=1) + pixels.min(axis=1)) / 2, np.full(B, 5.0, np.float32)
    crop, shown = (((p - center[:, None]) / 500).astype(np.float32) for p in (pixels, outline))
    lens = lenses.of_rows(
        {"intrinsics": np.tile(K, (B, 1, 1)), "intrinsics_valid": np.ones(B), "box_center": center, "box_scale": scale}
    )
    assert lens is not None and lens.offset is not None and abs(lens.offset).max() > 0.5
    # Hypotheses that appear exactly where the person does.
    monkeypatch.setattr(cameras, "project_crop", lambda p, cam: jnp.asarray(shown))
    known = target.replace(kp2d=jnp.asarray(crop), kp2d_valid=jnp.ones((B, 24)), smpl_valid=jnp.ones(B))
    iou = jax.jit(lambda lens: inspect.unwrap(silhouettes.iou)(surface, scorer.j24, out.hyps, known, lens))
    np.testing.assert_array_less(0.97, iou(lens))
    centred = lenses.Lens(lens.focal, lens.turn, np.zeros_like(lens.offset))
    np.testing.assert_array_less(iou(centred), 0.9)
