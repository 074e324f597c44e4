"""The sheet of a prediction: bodies where the camera puts them, evidence, probabilities, origin."""

import numpy as np
import pytest

from multibodies_jax.body import smpl
from multibodies_jax.geometry import joints
from multibodies_jax.prediction import overlays

GREY = (90, 90, 90)
SIDE = overlays.PANEL_PX + overlays.MARGIN_PX


def _body():
    """An egg around the origin, 0.1 m in radius and 0.15 m deep, carried by the root."""
    ring = np.stack(
        [(np.cos(a) * np.cos(b), np.sin(b), np.sin(a) * np.cos(b)) for b in _LATITUDES for a in _LONGITUDES]
    )
    n, faces = len(_LONGITUDES), []
    for i in range(len(_LATITUDES) - 1):
        for j in range(n):
            a, b, c, d = i * n + j, i * n + (j + 1) % n, (i + 1) * n + j, (i + 1) * n + (j + 1) % n
            faces += [[a, c, b], [b, c, d]]
    weights = np.eye(24)[np.zeros(len(ring), int)]
    regressor = np.full((24, len(ring)), 1 / len(ring))
    shapes, poses = np.zeros((len(ring), 3, 10)), np.zeros((len(ring), 3, 207))
    return smpl.build(ring * [0.1, 0.1, 0.15], shapes, poses, weights, regressor, np.array(faces), joints.SMPL_PARENTS)


_LATITUDES, _LONGITUDES = np.linspace(-1.5, 1.5, 9), np.linspace(0, 2 * np.pi, 16, endpoint=False)


def _record(translations, error=3.0):
    n = len(translations)
    keypoints = np.zeros((24, 3), np.float32)
    return {
        "rotmats": np.tile(np.eye(3, dtype=np.float32), (n, 24, 1, 1)),
        "betas": np.zeros((n, 10), np.float32),
        "translation": np.array(translations, np.float32),
        "joints24_camera": np.repeat(np.array(translations, np.float32)[:, None], 24, axis=1),
        "intrinsics": np.array([[1000, 0, 100], [0, 1000, 80], [0, 0, 1]], np.float32),
        "box_center": np.array([100, 80], np.float32),
        "box_scale": np.array(0.5, np.float32),
        "keypoints": keypoints,
        "error_px": np.full(n, error, np.float32),
        "probabilities": np.full(n, 1 / n, np.float32),
        "image": np.array("a.png"),
        "person": np.array(0),
        "trained_on": np.array("synthetic people"),
    }


def _panel(sheet, column, row=0):
    x = overlays.MARGIN_PX + column * SIDE
    y = overlays.MARGIN_PX + overlays.CAPTION_PX + row * overlays.PANEL_PX
    return np.asarray(sheet)[y : y + overlays.PANEL_PX, x : x + overlays.PANEL_PX].astype(int)


def _draw(record):
    return overlays.draw(np.full((160, 200, 3), GREY, np.uint8), record, _body())


@pytest.mark.slow
def test_bodies_lie_where_the_camera_puts_them():
    sheet = _draw(_record([(0, 0, 10), (0.3, -0.2, 10)]))
    centers = []
    for column in (1, 2):
        changed = np.abs(_panel(sheet, column) - np.array(GREY)).max(-1) > 25
        rows, columns = np.nonzero(changed)
        centers.append((columns.mean() + 0.5, rows.mean() + 0.5))
        assert 2 * np.sqrt(changed.sum() / np.pi) == pytest.approx(20 * 300 / 110, rel=0.12)  # 20 of 110 pixels.
    np.testing.assert_allclose(centers[0], (150, 150), atol=3)
    np.testing.assert_allclose(np.subtract(*centers[::-1]), np.array([30, -20]) * 300 / 110, atol=3)


def test_the_region_follows_bodies_that_leave_the_crop_but_not_for_ever():
    near, far = _record([(0, 0.8, 10)]), _record([(0, 500.0, 10)])
    assert overlays.region(_record([(0, 0, 10)]))[1] == pytest.approx(0.5 * 1.1)
    assert overlays.region(near)[1] == pytest.approx(0.5 * (1.1 + 1.7) / 2, rel=1e-3)
    assert overlays.region(far)[1] == pytest.approx(0.5 * (1.1 + overlays.MOST_ZOOM_OUT) / 2, rel=1e-3)
    above = _record([(-500.0, -500.0, 10)])
    center, scale = overlays.region(above)
    assert scale == pytest.approx(0.5 * (1.1 + overlays.MOST_ZOOM_OUT) / 2, rel=1e-3) and (center < (100, 80)).all()
    behind = _record([(0, 0, -1.0)])
    assert overlays.region(behind)[1] == pytest.approx(0.5 * 1.1)
    assert np.asarray(_draw(behind)).any()


def test_outside_of_the_image_is_light_grey():
    record = _record([(-1, 0, 10)])  # The body and the crop are centred on the left edge of the image.
    record["box_center"] = np.array([0, 80], np.float32)
    panel = _panel(_draw(record), 1)
    assert (panel[:, :100] == overlays.OUTSIDE_GREY).all() and (panel[:, -100:] == GREY[0]).all()


def test_known_keypoints_and_the_crop_are_drawn():
    record = _record([(0, 0, 10)])
    plain = _panel(_draw(record), 0)
    record["keypoints"][[1, 2]] = [(80, 60, 1), (120, 60, 1)]
    marked = _panel(_draw(record), 0)
    rows, columns = np.nonzero(np.abs(plain - marked).max(-1))
    np.testing.assert_allclose((columns.mean(), rows.mean()), 150 + np.array([0, -20]) * 300 / 110, atol=2)
    assert np.ptp(columns) == pytest.approx(40 * 300 / 110 + 6, abs=3)
    assert np.abs(plain - marked).max(-1)[round(150 - 20 * 300 / 110), 150] > 50  # The line from knee to hip.
    corner = round(150 - 50 * 300 / 110)
    assert (np.abs(plain[150, corner - 2 : corner + 3] - np.array(overlays.BOX_COLOR)).max(-1) < 10).any()


@pytest.mark.slow
def test_many_bodies_wrap_into_rows():
    few, many = (_draw(_record([(0, 0, 10)] * n)).size for n in (2, 6))
    assert few[0] == 3 * SIDE + overlays.MARGIN_PX and many[0] == 6 * SIDE + overlays.MARGIN_PX
    assert many[1] > 1.9 * few[1] - 100


def test_texts_tell_numbers_apart():
    texts = []
    for change in (
        {},
        {"error_px": np.array([np.nan])},
        {"probabilities": np.array([0.5])},
        {"trained_on": np.array("x")},
    ):
        texts.append(np.asarray(_draw(_record([(0, 0, 10)]) | change)).tobytes())
    assert len(set(texts)) == 4


def test_the_side_view_shows_depth():
    sheet = _draw(_record([(0, 0, 10)]))
    rows, columns = np.nonzero(_panel(sheet, 1, row=1).max(-1) < 250)
    assert np.ptp(columns) == pytest.approx(1.5 * np.ptp(rows), rel=0.1)
    assert (_panel(sheet, 0, row=1) == 255).all()
