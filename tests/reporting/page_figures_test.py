"""Figures of pages: drawn from the data of their tables, and again only where these have changed."""

import pathlib
import shutil

import pytest
from matplotlib.axes import Axes
from PIL import Image

from multibodies_jax.reporting import page_figures, pages

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the data of one run, whose SMPL-CVAE has collapsed."""
    monkeypatch.setattr(page_figures, "RUNS", ("tables_movenet",))
    (tmp_path / "docs/images").mkdir(parents=True)
    (tmp_path / pages.RESULTS / "data").mkdir(parents=True)
    shutil.copy(ROOT / pages.RESULTS / "data/tables_movenet.csv", tmp_path / pages.RESULTS / "data")
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
    assert labels[4:8] == [
        f"{label.partition(' (')[0]}, refined{label[9:]}" if "CVAE" in label else f"{label}, refined"
        for label in labels[:4]
    ]
    with Image.open(checkout / path) as image:
        assert image.size == (1470, 1110)
    data = checkout / pages.RESULTS / "data/tables_movenet.csv"
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    own = next(i for i, line in enumerate(lines) if line.startswith("errors,clean,ours,,5,mpjpe"))
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
    lines = [
        line for line in data.read_text(encoding="utf-8").splitlines(keepends=True) if not line.startswith("training,")
    ]
    lines += [
        f'training,,ours,,{images},"training error, mm",{mean},,,,,,,,\n' for images, mean in ((100, 80.0), (200, 60.0))
    ]
    data.write_text("".join(lines), encoding="utf-8")
    (checkout / other).unlink(missing_ok=True)
    assert page_figures.write(checkout) == [other] and page_figures.write(checkout) == []
