"""The command `multibodies export`: files for each format, and clear refusals that leave nothing half written."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from multibodies_jax.body import body_files
from multibodies_jax.prediction import export_command, export_files, prediction_file, video_files
from tests.helpers import glb_reader, made_predictions


@pytest.fixture(autouse=True)
def body(monkeypatch):
    """The random body as if it had been read from files, with the fingerprint of the made predictions."""
    files = body_files.BodyFiles(
        smpl=made_predictions.body()[0],
        j49_regressor=np.zeros((49, 60), np.float32),
        h36m_regressor=np.zeros((17, 60), np.float32),
        mean_rot6d=np.zeros(144, np.float32),
        mean_betas=np.zeros(10, np.float32),
        mean_cam=np.zeros(3, np.float32),
        directory=None,
        description="a random body",
        fingerprint="0" * 64,
    )
    monkeypatch.setattr(body_files, "load", lambda directory: files)
    return files


@pytest.fixture
def folder(tmp_path):
    """Two people of one photograph and one of another, as `predict` leaves them, and the photographs."""
    for image, person, center in (
        ("a.png", 0, (250.0, 200.0)),
        ("a.png", 1, (420.0, 220.0)),
        ("b.png", 0, (250.0, 200.0)),
    ):
        record = made_predictions.record(seed=person, person=person, center=center, image=image)
        prediction_file.save(tmp_path / f"{image[0]}_{person}.npz", record)
        Image.new("RGB", made_predictions.SIZE, "green").save(tmp_path / image)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def export(*arguments):
    """The exit status of the command."""
    return export_command.main([*map(str, arguments)])


@pytest.mark.slow
@pytest.mark.parametrize("format", ["glb", "obj", "ply", "csv"])
def test_one_prediction_makes_one_file_beside_it(folder, format, capsys):
    before = names(folder)
    assert export(folder / "a_1.npz", f"--format={format}") == 0
    assert names(folder) == sorted([*before, f"a_1.{format}"])
    shown = capsys.readouterr().out
    assert "a.png: focal length 9" in shown and "(50 mm on 35 mm film), assumed" in shown and f"a_1.{format}" in shown


@pytest.mark.slow
def test_people_of_one_photograph_make_one_scene_and_photographs_make_files(folder):
    assert export(folder, "--format=glb", f"--out={folder / 'out'}") == 0
    assert names(folder / "out") == ["a.glb", "b_0.glb"]
    file = glb_reader.Glb((folder / "out" / "a.glb").read_bytes())
    roots = [file.json["nodes"][k]["name"] for k in file.json["scenes"][0]["nodes"]]
    assert [name for name in roots if name.endswith("body_0")] == ["person_0_body_0", "person_1_body_0"]


@pytest.mark.slow
def test_another_n_and_another_focal_length(folder):
    out = folder / "set.glb"
    assert export(folder / "a_0.npz", "--format=glb", "--n=5", "--focal=2000", f"--out={out}") == 0
    file = glb_reader.Glb(out.read_bytes())
    expected = prediction_file.choose(made_predictions.record(image="a.png"), 5, made_predictions.SETTINGS)
    found = [file.named(f"person_0_body_{k}")["extras"] for k in range(5)]
    assert [extras["hypothesis"] for extras in found] == expected["index"].tolist()
    assert [extras["probability"] for extras in found] == pytest.approx(expected["probabilities"].tolist())
    camera = file.named("photograph")["extras"]
    assert (camera["focal_px"], camera["focal_source"]) == (2000, "given")


@pytest.mark.slow
def test_bvh_is_a_file_for_each_body(folder):
    assert export(folder / "a_0.npz", "--format=bvh", f"--out={folder / 'out'}") == 0
    assert names(folder / "out") == [f"a_0_person_0_body_{k}.bvh" for k in range(3)]
    assert export(folder / "a_0.npz", "--format=bvh", "--n=1", f"--out={folder / 'one.bvh'}") == 0
    assert (folder / "one.bvh").read_text(encoding="utf-8").startswith("HIERARCHY")


@pytest.mark.slow
def test_pages_of_a_folder_and_their_index(folder):
    assert export(folder, "--format=html", f"--out={folder / 'out'}") == 0
    assert names(folder / "out") == ["a.html", "b.html", "index.html"]
    text = (folder / "out" / "a.html").read_text(encoding="utf-8")
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert [person["number"] for person in data["people"]] == [0, 1]
    assert list(data["people"][0]["sets"]) == [str(n) for n in range(1, 11)]
    fives = prediction_file.choose(made_predictions.record(image="a.png"), 5, made_predictions.SETTINGS)
    its = data["people"][0]
    assert [its["bodies"][k]["index"] for k in its["sets"]["5"]["bodies"]] == fives["index"].tolist()


def test_spread_as_colours(folder):
    assert export(folder / "a_0.npz", "--format=glb", "--colors=spread") == 0
    mesh = glb_reader.Glb((folder / "a_0.glb").read_bytes()).json["meshes"][0]
    assert "COLOR_0" in mesh["primitives"][0]["attributes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a_0.npz", "--format=glb", "--n=13"], "n is 13; choose 1 to 12"),
        (["a_0.npz", "--format=glb", "--n=0"], "n is 0; choose 1 to 12"),
        (["a_0.npz", "--format=glb", "--focal=2"], "none of a photograph of 640 x 480 pixels"),
        (["missing.npz", "--format=glb"], "missing.npz: no such file or folder"),
        (["empty", "--format=glb"], "no .npz files in this folder"),
        (["damaged.npz", "--format=glb"], "damaged.npz cannot be read as an archive of arrays"),
        (["a_0.npz", "b_0.npz", "--format=glb", "--out=set.glb"], "2 photographs make as many files"),
        (["a_0.npz", "--format=html", "--photo=empty"], "the photograph a.png is shown, and there is no"),
        (["a_0.npz", "--format=html", "--photo=small.png"], "has 10 x 10 pixels"),
        (
            ["a_0.npz", "b_0.npz", "--format=html", "--photo=a.png"],
            "is one photograph, and the predictions are of 2: give",
        ),
        (
            ["a_0.npz", "--format=obj", "--colors=spread"],
            "--colors=spread is for the formats glb and ply; obj does not",
        ),
        (
            ["a_0.npz", "--format=html", "--colors=spread"],
            "--colors=spread is for the formats glb and ply; html does not",
        ),
        (["a_0.npz", "--format=obj", "--photo=a.png"], "--photo=a.png is for the format html; obj shows no photograph"),
        (
            ["a_0.npz", "other.npz", "--format=html"],
            "a_0.npz and other.npz are of different photographs, and would both",
        ),
        (["r1", "r2", "--format=html", "--photo=."], "their index would lie in"),
        (
            ["index_0.npz", "b_0.npz", "--format=html"],
            "index.html, the page that links all pages: export that photograph",
        ),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_is_written(folder, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "damaged.npz").write_bytes((folder / "a_0.npz").read_bytes()[:5000])
    Image.new("RGB", (10, 10)).save(folder / "small.png")
    for name, image in (("other", "a.jpg"), ("r1/a_0", "a.png"), ("r2/b_0", "b.png"), ("index_0", "index.png")):
        record = prediction_file.load(folder / "b_0.npz") | {"image": np.array(image)}
        prediction_file.save(folder / f"{name}.npz", record)
        Image.new("RGB", made_predictions.SIZE).save(folder / image)
    before = names(folder)
    assert export(*arguments) == 2
    assert message.lower() in capsys.readouterr().err.lower()
    assert names(folder) == before


@pytest.fixture
def apart(tmp_path):
    """Photographs of one name, in the folders that `predict` makes for them, and the photographs in such folders."""
    for place, seed in (("a", 0), ("b", 1)):
        record = made_predictions.record(seed=seed, image="x.png")
        prediction_file.save(tmp_path / "out" / place / "x_0.npz", record)
        (tmp_path / "photos" / place).mkdir(parents=True)
        Image.new("RGB", made_predictions.SIZE, ("green", "red")[seed]).save(tmp_path / "photos" / place / "x.png")
    return tmp_path


def test_photographs_of_one_name_are_told_apart_by_their_folders(apart):
    out = apart / "out"
    assert export(out / "a", out / "b", "--format=csv") == 0
    assert (out / "a" / "x_0.csv").read_text("utf-8") != (out / "b" / "x_0.csv").read_text("utf-8")
    assert export(out / "a", out / "b", "--format=csv", f"--out={apart / 'new'}") == 0
    for place in "ab":
        there = (apart / "new" / place / "x_0.csv").read_text("utf-8")
        assert there == (out / place / "x_0.csv").read_text("utf-8")


def test_photographs_of_other_endings_in_other_folders_do_not_replace_each_other(apart):
    record = prediction_file.load(apart / "out" / "b" / "x_0.npz") | {"image": np.array("x.jpg")}
    prediction_file.save(apart / "out" / "b" / "x_0.npz", record)
    assert export(apart / "out" / "a", apart / "out" / "b", "--format=csv", f"--out={apart / 'new'}") == 0
    assert sorted(path.relative_to(apart / "new").as_posix() for path in (apart / "new").rglob("*.csv")) == [
        "a/x_0.csv",
        "b/x_0.csv",
    ]


def test_the_folders_that_predict_makes_for_equal_names_are_read(apart, capsys):
    assert export(apart / "out", "--format=csv") == 2
    assert "no .npz files in this folder" in capsys.readouterr().err  # Whose sub-folders may hold anything.
    (apart / "out" / "index.html").touch()
    (apart / "out" / "a" / ".hidden").mkdir()
    for name in ("a/.hidden/y_0.npz", "a/notes.npz"):
        (apart / "out" / name).write_bytes(b"no prediction")
    assert export(apart / "out", "--format=html", f"--photo={apart / 'photos'}") == 0
    index = (apart / "out" / "index.html").read_text(encoding="utf-8")
    assert index.index('href="a/x.html"') < index.index('href="b/x.html"')
    pages = [(apart / "out" / place / "x.html").read_text(encoding="utf-8") for place in "ab"]
    photographs = [page.partition('<img src="')[2].partition('"')[0] for page in pages]
    assert photographs[0] != photographs[1]  # Each has its own.


def test_tables_of_videos_in_a_folder_are_named_and_left_out(folder, capsys):
    """`predict` on a folder writes both; what is in a table is in the animated files beside it."""
    about_a_video: dict[str, Any] = dict.fromkeys(video_files.MEANINGS, np.zeros(1))
    np.savez(folder / "clip_0.npz", **about_a_video)
    assert export(folder, "--format=csv") == 0
    said = capsys.readouterr().out
    assert said.count("Left out") == 1 and "clip_0.npz: this is the table of a person of a video" in said
    assert [name for name in names(folder) if name.endswith(".csv")] == ["a.csv", "b_0.csv"]
    assert export(folder / "clip_0.npz", "--format=csv") == 2
    assert "clip_0.npz: this is the table of a person of a video" in capsys.readouterr().err
    for path in folder.glob("[ab]_*.npz"):
        path.unlink()
    assert export(folder, "--format=csv") == 2
    assert "1 tables of videos (named above), and no predictions" in capsys.readouterr().err


def test_unknown_formats_are_refused_with_the_known_ones(folder, body, capsys):
    before = names(folder)
    assert export(folder / "a_0.npz", "--format=fbx") == 2
    assert "no format 'fbx'; the known ones are glb, obj, ply, bvh, html, csv" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no colours by 'heat'; the known ones are body, spread"):
        export_files.export([folder / "a_0.npz"], "glb", body, colors="heat")
    assert names(folder) == before


def test_a_place_that_cannot_be_written(folder, capsys):
    (folder / "taken").write_text("a file", encoding="utf-8")
    before = names(folder)
    assert export(folder / "a_0.npz", "--format=glb", f"--out={folder / 'taken'}") == 1
    assert "taken cannot be written" in capsys.readouterr().err and names(folder) == before


def test_predictions_of_another_body_are_refused(folder, monkeypatch, body, capsys):
    monkeypatch.setattr(body_files, "load", lambda directory: dataclasses.replace(body, fingerprint="f" * 64))
    assert export(folder / "a_0.npz", "--format=glb") == 2
    assert "fingerprint 000000000000" in (shown := capsys.readouterr().err) and "--body.dir=DIR" in shown
    record = prediction_file.load(folder / "a_0.npz")
    old = {name: value for name, value in record.items() if name != "body_fingerprint"} | {"format": np.array(1)}
    prediction_file.save(folder / "a_0.npz", old)
    assert export(folder / "a_0.npz", "--format=glb") == 0  # Format 1 knows its body by the description alone.
    prediction_file.save(folder / "a_0.npz", old | {"body": np.array("another")})
    assert export(folder / "a_0.npz", "--format=glb") == 2


def test_a_name_in_a_prediction_leads_into_no_other_folder(folder, capsys):
    record = prediction_file.load(folder / "a_0.npz") | {"image": np.array("../secret/a.png")}
    prediction_file.save(folder / "a_0.npz", record)
    assert export(folder / "a_0.npz", "--format=html", f"--out={folder / 'out'}") == 0
    assert names(folder / "out") == ["a.html"]
