"""Figures of pages: drawn from the data of their tables, and again only where these have changed."""

import pathlib

import pytest
from matplotlib.axes import Axes
from PIL import Image

from multibodies_jax.reporting import page_figures, pages, plots

ROOT = pathlib.Path(__file__).parents[2]


COLUMNS = "table,set,method,against,n,metric,mean,low,high,half,seed_min,seed_max,seeds,p,same_sign"
METHODS = {"SMPL-MDN": (90.0, 70.0), "SMPL-CVAE": (80.0, 79.8), "ours": (85.0, 60.0), "HMR + tuned noise": (80.0, 75.0)}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the data of one run, whose SMPL-CVAE has collapsed."""
    monkeypatch.setattr(page_figures, "RUNS", ("tables_movenet",))
    (tmp_path / "docs/images").mkdir(parents=True)
    (tmp_path / pages.RESULTS / "data").mkdir(parents=True)
    lines = [
        f'errors,{dataset},"{method}{fitted}",,{n},mpjpe,{mean},{mean - 5},{mean + 5},,,,,,\n'
        for dataset in ("clean", "ambiguous")
        for fitted in ("", ", refined")
        for method, means in METHODS.items()
        for n, mean in zip((1, 5), means, strict=True)
    ]
    (tmp_path / pages.RESULTS / "data/tables_movenet.csv").write_text(f"{COLUMNS}\n{''.join(lines)}", encoding="utf-8")
    return tmp_path


def test_the_committed_figures_are_of_the_committed_data():
    differing = page_figures.write(ROOT, check=True)
    assert not differing, f"run `multibodies report pages`: {', '.join(map(str, differing))}"


def test_a_figure_is_drawn_where_it_is_absent_or_of_other_data(checkout, monkeypatch):
    labels = []
    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda self, *args, **style: (labels.append(style["label"]), plot(self, *args, **style))[1]
    )
    path = pathlib.Path("docs/images/tables_movenet_error_against_n.png")
    assert page_figures.write(checkout, check=True) == [path] and not (checkout / path).exists()
    assert page_figures.write(checkout) == [path] and page_figures.write(checkout) == []
    assert labels[:4] == ["SMPL-MDN", "SMPL-CVAE (collapsed)", "ours", "HMR + tuned noise"]
    assert labels[5:7] == ["SMPL-CVAE, refined (collapsed)", "ours, refined"]
    with Image.open(checkout / path) as image:
        assert image.size == (1470, 1110)
    data = checkout / pages.RESULTS / "data/tables_movenet.csv"
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    own = next(i for i, line in enumerate(lines) if line.startswith('errors,clean,"ours",,5,mpjpe'))
    data.write_text("".join([*lines[:own], *lines[own + 1 :]]), encoding="utf-8")
    assert page_figures.write(checkout) == [path]
    (checkout / path).write_text("no image", encoding="utf-8")
    assert page_figures.write(checkout) == [path]


def test_a_run_whose_training_is_known_has_a_figure_of_it(checkout):
    page_figures.write(checkout)
    data, other = (
        checkout / pages.RESULTS / "data/tables_movenet.csv",
        pathlib.Path("docs/images/tables_movenet_training.png"),
    )
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    lines += [
        f'training,,ours,,{images},"training error, mm",{mean},,,,,,,,\n' for images, mean in ((100, 80.0), (200, 60.0))
    ]
    data.write_text("".join(lines), encoding="utf-8")
    assert page_figures.write(checkout) == [other] and page_figures.write(checkout) == []


def test_refined_rows_alone_have_their_panel(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, title, **style: titles.append((title, self.has_data())))
    rows = [{"method": "ours, refined", "n": n, "mean": 60.0 - n, "low": 50.0, "high": 70.0} for n in (1, 5)]
    assert plots.bands({"clean": [[], rows], "ambiguous": [[], rows]}, tmp_path / "figure.png")
    assert titles == [("all keypoints visible, refined", True), ("limbs hidden, refined", True)]
