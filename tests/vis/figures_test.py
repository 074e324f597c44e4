"""Figures show what they are given: the right bodies in the right colours, and every curve."""

import numpy as np
import pytest
from PIL import Image

from multibodies_jax.geometry import joints
from multibodies_jax.vis import figures

FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def _body(rng, n=()):
    """Tetrahedra with some noise."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    return corners + rng.normal(0, 0.05, (*n, 4, 3))


def _evidence(rng, crop=False):
    visible = np.ones(24)
    visible[:6] = 0
    picture = np.full((32, 32, 3), (200, 180, 40), np.uint8) if crop else None
    return figures.Evidence(rng.uniform(-0.5, 0.5, (24, 2)), visible, picture)


def _example(n, best, crop=False):
    rng = np.random.default_rng(n)
    return figures.Example(_evidence(rng, crop), _body(rng, (n,)), np.full(n, 1 / n), best, _body(rng))


def _columns(path, columns, color):
    """Which columns of panels, after the input's, have a notable number of pixels of a colour's hue."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(float)
    found = []
    for i, part in enumerate(np.array_split(pixels, columns, axis=1)):
        saturated = part[np.ptp(part, axis=-1) > 40]
        hue = saturated - saturated.mean(-1, keepdims=True)
        wanted = np.array(color) - np.mean(color)
        cosine = (hue @ wanted) / (np.linalg.norm(hue, axis=-1) * np.linalg.norm(wanted))
        if i > 0 and (cosine > 0.97).sum() > 200:
            found.append(i)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("best", [0, 2])
def test_figure6_shows_the_closest_in_blue_and_the_truth_in_green(tmp_path, best):
    figures.figure6(tmp_path / "a" / "6.png", [_example(3, best), _example(3, best, crop=True)], FACES)
    assert _columns(tmp_path / "a" / "6.png", 5, figures.BLUE) == [best + 1]
    assert _columns(tmp_path / "a" / "6.png", 5, figures.GREEN) == [4]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["6.png"]


def test_figure6_refuses_what_does_not_fit_one_grid(tmp_path):
    with pytest.raises(ValueError, match=r"same number of bodies, got \[3, 2\]"):
        figures.figure6(tmp_path / "6.png", [_example(3, 0), _example(2, 0)], FACES)
    with pytest.raises(ValueError, match="got none"):
        figures.figure6(tmp_path / "6.png", [], FACES)


@pytest.mark.slow
def test_figure2_has_the_single_body_the_set_and_the_truth(tmp_path):
    rng = np.random.default_rng(0)
    figures.figure2(tmp_path / "2.png", _evidence(rng), _body(rng), _body(rng, (3,)), _body(rng), FACES)
    assert _columns(tmp_path / "2.png", 6, figures.GREEN) == [5]
    pixels = np.asarray(Image.open(tmp_path / "2.png").convert("L"))
    assert all((part < 220).mean() > 0.01 for part in np.array_split(pixels, 6, axis=1))


@pytest.mark.parametrize("count", [1, 7, 12])
def test_figure4_draws_every_skeleton(tmp_path, count):
    rng = np.random.default_rng(0)
    skeletons = rng.normal(0, 0.4, (count, 24, 3))
    figures.figure4(tmp_path / "4.png", skeletons)
    pixels = np.asarray(Image.open(tmp_path / "4.png").convert("L"))
    columns, rows = min(6, count), -(-count // 6)
    panels = [part for row in np.array_split(pixels, rows) for part in np.array_split(row, columns, axis=1)]
    drawn = [(panel < 200).sum() > 100 for panel in panels]
    assert drawn == [True] * count + [False] * (len(panels) - count)


def test_figure4_tells_left_from_right(tmp_path):
    skeleton = np.zeros((1, 24, 3))
    skeleton[0, :, 1] = np.linspace(0, 0.2, 24)
    for name, x in (("left", 1), ("right", -1)):
        for joint in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder"):
            skeleton[0, joints.J24.index(f"{name}_{joint}"), 0] = x
    figures.figure4(tmp_path / "4.png", skeleton)
    pixels = np.asarray(Image.open(tmp_path / "4.png").convert("RGB")).astype(float)
    left, right = pixels[:, pixels.shape[1] // 2 :], pixels[:, : pixels.shape[1] // 2]
    blueness = [(part[..., 2] - part[..., 0]).mean() for part in (left, right)]
    assert blueness[0] > 0 > blueness[1]  # A person who looks at us has the left side on our right.


def test_figure5_marks_boxes_and_keypoints(tmp_path):
    rng = np.random.default_rng(0)
    image = np.full((60, 80, 3), 128, np.uint8)
    valid, visible = np.ones(24), np.ones(24)
    visible[:6] = 0
    points = rng.uniform(20, 50, (24, 2))
    boxes = ((np.array([40.0, 30.0]), 0.25), (np.array([40.0, 25.0]), 0.15))
    crop = np.full((32, 32, 3), (250, 10, 250), np.uint8)
    arguments = (image, points, valid)
    figures.figure5(tmp_path / "5.png", *arguments, visible, *boxes, crop, "(legs)")
    figures.figure5(tmp_path / "all.png", *arguments, valid, *boxes, crop, "(legs)")
    some, every = (np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int) for name in ("5.png", "all.png"))
    half = some.shape[1] // 2

    def count(pixels, color):
        return (np.abs(pixels - np.array(color)).max(-1) < 30).sum()

    assert count(some[:, half:], (250, 10, 250)) > 5000 and count(some[:, :half], (250, 10, 250)) == 0
    assert count(some[:, :half], (11, 143, 77)) > 100  # The ambiguous crop.
    assert count(some[:, :half], (224, 122, 0)) > 1.5 * count(every[:, :half], (224, 122, 0))  # Hidden keypoints.


def test_the_error_curve_has_every_method(tmp_path):
    ours = {1: (160.0, 3.0), 5: (140.0, 2.5), 25: (115.0, 2.0)}
    figures.error_curve(tmp_path / "one.png", {"ours": ours})
    figures.error_curve(tmp_path / "two.png", {"ours": ours, "HMR": {1: (156.0, 3.0)}})
    one, two = (np.asarray(Image.open(tmp_path / f"{n}.png").convert("RGB")).astype(int) for n in ("one", "two"))
    red = [(pixels[..., 0] - pixels[..., 2] > 80).sum() for pixels in (one, two)]
    assert red[0] == 0 and red[1] > 100


def test_loss_curves_have_a_panel_for_each_scalar(tmp_path):
    lines = [{"step": i, "loss": 1.0 / i, "best_mm": None if i == 3 else 2.0} for i in range(1, 6)]
    figures.loss_curves(tmp_path / "a.png", {"M = 1": lines})
    figures.loss_curves(tmp_path / "b.png", {"M = 1": lines, "prior": [{"step": 1, "loss_nf": 1.0}] * 2})
    one, two = (Image.open(tmp_path / name).size for name in ("a.png", "b.png"))
    assert two[0] == pytest.approx(1.5 * one[0], rel=0.02)
    with pytest.raises(ValueError, match="got none"):
        figures.loss_curves(tmp_path / "c.png", {"M = 1": []})


def test_a_failed_figure_keeps_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "curve.png"
    figures.error_curve(path, {"ours": {1: (1.0, 0.1)}})
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures.Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        figures.error_curve(path, {"ours": {1: (2.0, 0.1)}})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_methods_stand_below_each_other_for_each_image(tmp_path):
    single = figures.Example(
        _evidence(np.random.default_rng(0)), _body(np.random.default_rng(1), (1,)), np.ones(1), 0, None
    )
    figures.by_method(tmp_path / "m.png", [{"HMR": single, "ours": _example(2, 1)}, {"ours": _example(2, 0)}], FACES)
    with Image.open(tmp_path / "m.png") as picture:
        third = picture.height // 3
        rows = [picture.crop((0, i * third, picture.width, (i + 1) * third)) for i in range(3)]
    for i, row in enumerate(rows):
        row.save(tmp_path / f"{i}.png")
    found = [
        _columns(tmp_path / f"{i}.png", 7, figures.BLUE) for i in range(3)
    ]  # Input, two bodies twice, truth twice.
    assert found == [[1, 2], [3, 4], [1, 2]]
    assert [_columns(tmp_path / f"{i}.png", 7, figures.GREEN) for i in range(3)] == [[], [], [5, 6]]
    with pytest.raises(ValueError, match="got none"):
        figures.by_method(tmp_path / "m.png", [{}], FACES)
