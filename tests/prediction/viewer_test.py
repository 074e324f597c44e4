"""The page of `multibodies view`: what the user does reaches the session, a real browser shows it, addresses are checked."""

import json
import pathlib
import shutil
import socket

import numpy as np
import pytest
from PIL import Image

import multibodies_jax
from multibodies_jax import io
from multibodies_jax.export import scene
from multibodies_jax.geometry import joints
from multibodies_jax.prediction import people, prediction, session, view_command
from multibodies_jax.training import packed
from tests.helpers import chromium, devtools, tiny
from tests.helpers import trained as shared_run

pytestmark = pytest.mark.slow

viewer = pytest.importorskip("multibodies_jax.prediction.viewer", exc_type=ModuleNotFoundError)  # Needs viser.
browser = pytest.mark.skipif(chromium.PROGRAM is None, reason="needs Chromium: apt-get install chromium")

GREEN = np.full((480, 400, 3), (0, 255, 0), np.uint8)
WRIST = joints.J24.index("left_wrist")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A work directory `w`, a photograph, and a prediction of it with a hidden wrist."""
    path = tmp_path_factory.mktemp("viewer")
    shutil.copytree(shared_run.workdir(), path / "w")
    config = tiny.config(quantizer__temperature=0.5, fitting__steps=10, fitting__prior=0.01, fitting__anchor=1.0)
    io.write_json(path / "w" / "config.json", json.loads(config.to_json_best_effort()))
    model = multibodies_jax.load(path / "w")
    line = np.column_stack([np.linspace(150, 250, 24), np.linspace(60, 420, 24), np.ones(24)]).astype(np.float32)
    points = np.asarray(model.hypotheses(keypoints=line).joints24[0, 0])
    shown = np.column_stack([points[:, :2] * 180 + (200, 240), np.ones(24)]).astype(np.float32)
    shown[WRIST] = 0
    Image.fromarray(GREEN).save(path / "photo.png")
    (found,) = model.predict(path / "photo.png", [people.Person(shown)], n=2)
    found.save(path / "photo_0.npz")
    return path


@pytest.fixture(scope="module")
def model(folder):
    return multibodies_jax.load(folder / "w")


@pytest.fixture
def page(folder, model, tmp_path):
    opened = prediction.load(folder / "photo_0.npz", GREEN)
    found = viewer.Page(session.Session(opened, model), GREEN, tmp_path / "saved.npz", "127.0.0.1", 0)
    yield found
    found.stop()


def first_body(page):
    its = page.session.prediction
    return scene.build([its.record], its.body.smpl).people[0].weighted()[0][1]


def test_the_slider_and_the_colours_redraw(page):
    assert page.shown == page.session.n == 2
    page.n.value = 4
    assert page.session.n == page.shown == 4
    page.colors.value = viewer.BY_SPREAD
    page.hypotheses.value = True
    page.n.value = 1
    assert page.session.n == page.shown == 1 and page.message == ""


def test_a_dropped_joint_is_placed_where_the_camera_sees_it(page, tmp_path):
    point = first_body(page).joints24[WRIST] + (0.1, 0.05, 0.2)
    before = page.session.prediction.spread[WRIST]
    page.drop("left_wrist", point)
    its = page.session
    assert its.placed == ("left_wrist",) and not page.undo.disabled
    np.testing.assert_allclose(its.prediction.keypoints[WRIST, :2], its.pixel_of(point))
    after = its.prediction.spread[WRIST]
    assert f"its spread was {1000 * before:.0f} mm and is {1000 * after:.0f} mm" in page.message
    page.drop("nose", np.array([0.0, 0.0, -1.0]))
    assert "not in front of the camera" in page.message and its.placed == ("left_wrist",)
    page.drop("nose", np.array([900.0, 0.0, 1.0]))
    assert "nose cannot be at" in page.message and its.placed == ("left_wrist",)


def test_without_a_model_bodies_are_shown_and_nothing_is_placed(folder, tmp_path):
    opened = prediction.load(folder / "photo_0.npz")
    page = viewer.Page(session.Session(opened, None, "No weights."), GREEN, tmp_path / "s.npz", "127.0.0.1", 0)
    try:
        assert page.shown == 2 and "cannot be placed without a model. No weights." in page.message
        page.drop("nose", np.array([0.0, 0.0, 1.0]))
        assert not page.session.placed
    finally:
        page.stop()


def test_addresses_that_cannot_be_used_are_said(folder, page, tmp_path):
    for host, port, message in (
        ("127.0.0.1", page.port, rf"Port {page.port} is in use, .* choose another one with --port=NUMBER"),
        ("127.0.0.1", 65536, "There is no port 65536"),
        ("no.such.name.invalid", 0, r"There is no address 'no\.such\.name\.invalid'"),
        ("192.0.2.1", 0, "cannot be listened at"),  # An address for documentation, of no machine.
    ):
        with pytest.raises(viewer.ServerError, match=message):
            viewer.Page(page.session, GREEN, tmp_path / "s.npz", host, port)
    assert page.url == f"http://127.0.0.1:{page.port}"
    with socket.create_connection(("127.0.0.1", page.port), timeout=10):
        pass


def run(folder, *more):
    return view_command.main([str(folder / "photo_0.npz"), "--port=0", *more])


def interrupted(page):
    raise KeyboardInterrupt


def test_the_command_serves_until_it_is_interrupted(folder, monkeypatch, capsys):
    monkeypatch.setattr(viewer.Page, "wait", interrupted)
    monkeypatch.setattr(session.Session, "prepare", lambda self, counts: None)
    assert run(folder, f"--workdir={folder / 'w'}") == 0
    shown = capsys.readouterr().out
    assert "Open http://127.0.0.1:" in shown and "Another model" not in shown
    monkeypatch.setattr(packed, "PATH", folder / "none.npz")
    assert run(folder) == 0
    assert "cannot be placed without a model. There is no file of weights" in capsys.readouterr().out


def test_what_the_command_cannot_use_is_a_message(folder, page, monkeypatch, capsys, tmp_path):
    workdir = f"--workdir={folder / 'w'}"
    Image.fromarray(GREEN[:100]).save(tmp_path / "photo.png")
    for arguments, message in (
        ((str(tmp_path / "none.npz"), workdir), "none.npz cannot be read: there is no such file"),
        ((str(folder / "photo_0.npz"), workdir, f"--photo={tmp_path}"), "has 400 x 100 pixels, the prediction is of"),
        ((str(folder / "photo_0.npz"), f"--workdir={tmp_path}"), "has no config.json"),
        ((str(folder / "photo_0.npz"), workdir, "--weights=prio"), "There are no weights 'prio': choose one of prior"),
        ((str(folder / "photo_0.npz"), workdir, f"--port={page.port}"), "is in use"),
    ):
        assert view_command.main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error
    monkeypatch.setattr(view_command.importlib.util, "find_spec", lambda name: None)
    assert run(folder) == 1
    assert 'pip install "viser>=1.1"' in capsys.readouterr().err


@browser
@pytest.mark.slow
def test_a_browser_shows_bodies_on_the_photograph_and_a_dragged_joint_is_placed(page, tmp_path):
    with devtools.tab(page.url, pathlib.Path(tmp_path / "profile")) as tab:
        tab.until(lambda: "body 2" in tab.text() and tab.evaluate("document.querySelector('canvas') !== null"))
        tab.until(lambda: _green(tab).mean() > 0.1)  # The photograph is there.
        tab.until(lambda: (_inside(tab) == 0).mean() > 0.02)  # And bodies on it.
        left, top, width, height = tab.canvas()
        zoom = height / 2 / np.tan(page.fov / 2)
        x, y, z = first_body(page).joints24[WRIST]
        start = np.array([left + width / 2, top + height / 2]) + zoom * np.array([x, y]) / z
        tab.drag(start, start + np.array([40, 30]))
        tab.until(lambda: "left_wrist is at" in tab.text())
        focal = float(page.session.prediction.record["focal_px"])
        wanted = page.session.pixel_of((x, y, z)) + np.array([40, 30]) * focal / zoom
        np.testing.assert_allclose(page.session.prediction.keypoints[WRIST, :2], wanted, atol=3)
        tab.click("Undo")
        tab.until(lambda: "taken back" in tab.text())
        assert page.session.placed == ()
        tab.click("Save to saved.npz")
        tab.until(lambda: (tmp_path / "saved.npz").exists())
        tab.evaluate("document.querySelector('[role=slider]').focus()")
        tab.press("ArrowRight")
        tab.until(lambda: "body 3" in tab.text())
        assert page.session.n == page.shown == 3 and tab.errors == []


def _green(tab):
    red, green, blue = np.moveaxis(tab.picture().astype(int), 2, 0)
    return (green > 150) & (red < 120) & (blue < 120)


def _inside(tab):
    """Where the photograph's rectangle is green, 1, and where something covers it, 0."""
    green = _green(tab)
    rows, columns = np.flatnonzero(green.mean(1) > 0.1), np.flatnonzero(green.mean(0) > 0.1)
    return green[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(int)
