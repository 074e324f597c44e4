"""The HTML page: what is in it, what is refused, and what a real browser shows."""

import base64
import dataclasses
import html.parser
import json
import re
import urllib.parse

import numpy as np
import pytest

from multibodies_jax.export import page, scene
from multibodies_jax.vis import render
from tests.helpers import chromium, made_predictions

pytestmark = pytest.mark.slow

GREEN = np.full((480, 640, 3), (0, 255, 0), np.uint8)
browser = pytest.mark.skipif(chromium.PROGRAM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def made():
    record = made_predictions.record()
    choices = {n: made_predictions.choice(record, n) for n in (1, 2, 4)}
    other = made_predictions.record(seed=1, person=1, center=(420.0, 220.0))
    return made_predictions.made([record, other], choices=[choices, {}], vertex_spread=True)


def content(text):
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_bodies_are_exact_to_a_tenth_of_a_millimetre(made):
    data = content(page.encode(made, GREEN))
    for person, its in zip(data["people"], made.people, strict=True):
        for body, expected in zip(person["bodies"], its.bodies, strict=True):
            packed = np.frombuffer(base64.b64decode(body["vertices"]), "<u2").reshape(-1, 3)
            found = np.array(body["low"]) + np.array(body["step"]) * packed
            assert np.abs(found - made.vertices(expected)).max() < 1e-4
            pixels = np.array(body["pixels"]) @ [*expected.joints24[3], 1]
            seen = its.crop_intrinsics @ expected.crop_view @ [*expected.joints24[3], 1]
            np.testing.assert_allclose(pixels, seen)
    faces = np.frombuffer(base64.b64decode(data["faces"]), "<u2").reshape(-1, 3)
    np.testing.assert_array_equal(faces, made.faces)


def test_the_slider_has_every_set_of_a_person(made):
    person = content(page.encode(made, GREEN))["people"][0]
    assert list(person["sets"]) == ["1", "2", "3", "4"]
    for n, its in person["sets"].items():
        expected = made.people[0].choices[int(n)]
        assert its["bodies"] == list(expected.bodies) and its["probabilities"] == pytest.approx(
            list(expected.probabilities), abs=1e-6
        )
    assert person["spread_mm"] == pytest.approx(1000 * made.people[0].joint_spread, abs=0.05)
    np.testing.assert_allclose(person["keypoints"], made.people[0].keypoints, atol=0.005)


def test_names_of_files_do_not_become_markup(made):
    evil = dataclasses.replace(made, image="</script><img src=x onerror=alert(1)>{{data}}.png", about="<b>{{script}}")
    text = page.encode(evil, GREEN)
    assert "<img src=x" not in text and "<b>" not in text
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;{{data}}.png" in text
    assert text.count("</script>") == 2


class Outside(html.parser.HTMLParser):
    """Everything that a page would load from elsewhere, and images without a text."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        for name in ("src", "href"):
            if name in values and not str(values[name]).startswith("data:"):
                self.found.append((tag, values[name]))
        if tag == "img" and not values.get("alt"):
            self.found.append((tag, "no alt"))


def test_a_page_loads_nothing(made):
    parser = Outside()
    parser.feed(page.encode(made, GREEN))
    assert parser.found == []


def test_another_photograph_is_refused(made):
    with pytest.raises(scene.SceneError, match=r"has 100 x 80 pixels, the predictions of photo\.png .* 640 x 480"):
        page.encode(made, np.zeros((80, 100, 3), np.uint8))


def test_a_mesh_of_too_many_vertices_is_refused(made):
    many = dataclasses.replace(made, skinning=np.zeros((70_000, 24)))
    with pytest.raises(scene.SceneError, match="70000 vertices; a page takes at most 65535"):
        page.encode(many, GREEN)


def test_the_index_links_the_pages(tmp_path, made):
    picture = page.thumbnail(made, GREEN)
    assert picture.shape == (270, 360, 3) and (picture != (0, 255, 0)).any(axis=2).mean() > 0.01
    entries = [
        page.Entry("a.html", 'a "quoted" <name>.png', "1 person", picture),
        page.Entry("b.html", "b", "2", picture),
    ]
    page.write_index(entries, tmp_path / "index.html")
    parser = Outside()
    parser.feed((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert parser.found == [("a", "a.html"), ("a", "b.html")]


def test_the_links_of_the_index_lead_to_files_of_any_name(tmp_path):
    names = ["photo #1.html", "50%20off?.html", "a/b&c.html", "é:\"x'.html"]
    page.write_index([page.Entry(name, name, "", GREEN[:2, :2]) for name in names], tmp_path / "index.html")
    parser = Outside()
    parser.feed((tmp_path / "index.html").read_text(encoding="utf-8"))
    links = [urllib.parse.urlsplit(link) for _, link in parser.found]
    assert [urllib.parse.unquote(link.path) for link in links] == names
    assert not any(link.scheme or link.netloc or link.query or link.fragment for link in links)


def bodies_over_the_photograph(picture):
    """Where the photograph, all green, is covered, (480, 640): the stage is where green is."""
    red, green, blue = np.moveaxis(picture.astype(int), 2, 0)
    is_green = (green > 200) & (red < 80) & (blue < 80)
    rows, columns = np.flatnonzero(is_green.any(1)), np.flatnonzero(is_green.any(0))
    y = np.linspace(rows[0], rows[-1] + 1, 480, endpoint=False) + 0.5 * (rows[-1] + 1 - rows[0]) / 480
    x = np.linspace(columns[0], columns[-1] + 1, 640, endpoint=False) + 0.5 * (columns[-1] + 1 - columns[0]) / 640
    return ~is_green[np.ix_(y.astype(int), x.astype(int))]


@browser
def test_a_browser_shows_the_chosen_bodies_on_the_person(tmp_path, made):
    page.write(made, GREEN, tmp_path / "page.html")
    covered = {}
    for n in (1, 4):
        state = f"n={n}&opacity=1&marks=off"
        covered[n] = bodies_over_the_photograph(
            chromium.picture(tmp_path / "page.html", state, tmp_path / f"profile{n}")
        )
        bodies = []
        for person in made.people:
            choice = person.choices[n if n in person.choices else max(person.choices)]
            for k in choice.bodies:
                seen = made.vertices(person.bodies[k]) @ person.bodies[k].crop_view[:, :3].T
                homogeneous = (seen + person.bodies[k].crop_view[:, 3]) @ person.crop_intrinsics.T
                bodies.append(homogeneous)
        pixels = render.draw_bodies(GREEN, bodies, made.faces, np.eye(3), [(1, 0, 1)] * len(bodies), alpha=1)
        expected = (pixels != GREEN).any(axis=2)
        both = (covered[n] & expected).sum() / (covered[n] | expected).sum()
        assert both > 0.93, f"n = {n}: intersection over union {both:.3f}"
    assert covered[4].sum() > covered[1].sum()


@browser
def test_a_browser_lists_the_set_of_the_slider(tmp_path, made):
    one = dataclasses.replace(made, people=made.people[:1])
    page.write(one, GREEN, tmp_path / "page.html")
    for n in (2, 4):
        text = chromium.dom(tmp_path / "page.html", f"n={n}", tmp_path / f"profile{n}")
        assert 'data-ready="yes"' in text and f"{n} bodies of one person, the most probable first" in text
        shown = re.findall(r"<output>([\d.]+) %</output>", text)
        np.testing.assert_allclose(np.array(shown, float) / 100, one.people[0].choices[n].probabilities, atol=6e-4)
        assert text.count("<circle") >= 21 and "right_wrist: hidden, spread" in text
