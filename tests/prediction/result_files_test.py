"""Names of results: none replaces an input or the result of another file, and only those of the same file are removed."""

import numpy as np
import pytest

from multibodies_jax.prediction import prediction_file, result_files


def _touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return [folder / name for name in names]


def test_files_that_cannot_be_told_apart_are_refused(tmp_path):
    files = [tmp_path / name for name in ("x/a.png", "x/y/a.png", "x/y/a.jpg")]
    with pytest.raises(ValueError, match=r"x/y/a'\]; results are named after them"):
        result_files.folders(files, tmp_path / "out")
    with pytest.raises(ValueError, match=r"named \['a'\], and a people file knows images by their names"):
        result_files.folders(files[:2], tmp_path / "out", apart=False)
    folders = result_files.folders(files[:2], tmp_path / "out")
    assert list(folders.values()) == [tmp_path / "out", tmp_path / "out" / "y"]


@pytest.mark.parametrize(
    ("names", "lost"),
    [
        (("a.jpg", "a_0.png"), "a_0.png"),
        (("a.jpg", "a_12.png"), "a_12.png"),
        (("a.jpg", "a.b.png", "a_3.npz"), "a_3.npz"),  # An image of another ending is read when it is named.
        (("clip.mp4", "clip_overlay.mp4"), "clip_overlay.mp4"),
        (("a.jpg", "a_x.png", "a_0.jpg", "a_0_1.tif", "b_0.png", "clip.mp4", "other_overlay.mp4"), None),
    ],
)
def test_no_result_may_be_one_of_the_files(tmp_path, names, lost):
    files = _touch(tmp_path / "in", *names)
    assert set(result_files.folders(files, tmp_path / "out").values()) == {tmp_path / "out"}
    same = tmp_path / "in" / ".." / "in"
    if lost is None:
        assert result_files.folders(files, same)
    else:
        with pytest.raises(ValueError, match=f"{lost} is one of the files to predict, and a result of .*--out"):
            result_files.folders(files, same)


def test_no_result_may_replace_what_a_link_leads_to(tmp_path):
    (real,) = _touch(tmp_path / "out", "a_0.png")
    (photo,) = _touch(tmp_path / "in", "a.jpg")
    (tmp_path / "in" / "b.png").symlink_to(real)
    with pytest.raises(ValueError, match=r"a_0\.png is one of the files to predict"):
        result_files.folders([photo, tmp_path / "in" / "b.png"], tmp_path / "out")


def test_a_video_and_a_photograph_with_one_scene_are_refused(tmp_path):
    clip, photo = tmp_path / "x" / "clip.mp4", tmp_path / "clip_0.jpg"
    with pytest.raises(ValueError, match=r"clip\.mp4 and .*clip_0\.jpg would both have the result .*clip_0\.glb"):
        result_files.folders([clip, photo], tmp_path / "out")
    assert result_files.folders([clip, tmp_path / "clip_a.jpg", tmp_path / "clip_0.mp4"], tmp_path / "out")


def test_a_photograph_named_as_the_index_page_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"index\.jpg: the page of this photograph would be index\.html"):
        result_files.folders([tmp_path / "index.jpg", tmp_path / "b.jpg"], tmp_path / "out")
    assert result_files.folders([tmp_path / "index.mp4"], tmp_path / "out")
    inside = [tmp_path / name for name in ("a.jpg", "x/a.jpg", "x/index.jpg")]
    assert result_files.folders(inside, tmp_path / "out")[inside[2]] == tmp_path / "out" / "x"


def test_names_that_leave_no_room_for_those_of_results_are_refused(tmp_path):
    assert result_files.folders([tmp_path / f"{'a' * 244}.jpg"], tmp_path / "out")
    with pytest.raises(ValueError, match="at most 255 bytes: without its ending it has 246, and at most 244"):
        result_files.folders([tmp_path / f"{'é' * 123}.jpg"], tmp_path / "out")
    with pytest.raises(ValueError, match="without its ending it has 240, and at most 236"):
        result_files.folders([tmp_path / f"{'a' * 240}.mp4"], tmp_path / "out")


def test_only_what_an_earlier_prediction_of_the_same_file_wrote_is_removed(tmp_path, capsys):
    clip, out = tmp_path / "clip.mp4", tmp_path / "out"
    for name, video in (("clip_0", "clip.mp4"), ("clip_1", "clip.mp4"), ("clip_2", "clip.mov"), ("clip_a", "clip.mp4")):
        prediction_file.save(out / f"{name}.npz", {"video": np.array(video)})
        _touch(out, f"{name}.glb", f"{name}_body_0.bvh", f"{name}_body_1.bvh")
    _touch(out, "clip_1.html", "clip_3.npz", "clip_3.glb", "clip_0_body_x.bvh", "clip_0.txt", "clip_0_0.npz")
    before = {path.name for path in out.iterdir()}
    there = result_files.for_people({clip: out})[clip]
    written = [out / "clip_0.npz", out / "clip_0.glb", out / "clip_0_body_0.bvh"]
    result_files.remove_rest(result_files.of_the_same(clip, there), written)
    gone = {"clip_0_body_1.bvh", "clip_1.npz", "clip_1_body_0.bvh", "clip_1_body_1.bvh"}
    assert before - {path.name for path in out.iterdir()} == gone
    assert "clip_0_body_1.bvh, clip_1.npz, clip_1_body_0.bvh" in capsys.readouterr().err
