"""Weights packed from a work directory predict as the work directory does, and damaged files are refused."""

import json
import re
import shutil

import numpy as np
import pytest

import multibodies_jax
from multibodies_jax import io
from multibodies_jax.body import body_files
from multibodies_jax.prediction import pretrained
from multibodies_jax.training import packed as packed_files
from multibodies_jax.training import tuned
from tests.helpers import trained as shared_run

pytestmark = pytest.mark.slow

KEYPOINTS = np.array([[30 + 9 * (k % 5), 20 + 4 * k, k % 3 > 0] for k in range(24)], np.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The tiny experiment with its baseline, and a temperature as an evaluation leaves it."""
    workdir = tmp_path_factory.mktemp("pretrained") / "w"
    shutil.copytree(shared_run.workdir(), workdir)
    io.write_json(workdir / "results.json", {"temperature": 0.25})
    stored = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    stored["data"]["dir"] = str(workdir)  # As on any machine.
    io.write_json(workdir / "config.json", stored)
    return workdir


@pytest.fixture(scope="module")
def packed(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "weights.npz"
    assert pretrained.main([f"--workdir={trained}", f"--out={path}"]) == 0
    return path


@pytest.mark.slow
def test_packed_networks_predict_as_the_work_directory_does(trained, packed):
    expected = multibodies_jax.load(trained)
    model = pretrained.load_pretrained(path=packed)
    ours, theirs = (m.hypotheses(keypoints=KEYPOINTS, name="a") for m in (model, expected))
    assert ours.joints24.shape == (1, 6, 24, 3)
    np.testing.assert_allclose(ours.joints24, theirs.joints24, atol=2e-3)  # Metres; half precision has 3 digits.
    np.testing.assert_allclose(ours.log_prior, theirs.log_prior, rtol=2e-2)
    np.testing.assert_allclose(ours.log_scores, theirs.log_scores, atol=2e-2)
    assert model.quantizer_settings() == expected.quantizer_settings()
    assert model.quantizer_settings()["temperature"] == 0.25
    assert model.config.model.num_hypotheses == 6 and not model.sees_pixels


def test_the_baseline_and_the_prior_come_with_it(trained, packed):
    model = pretrained.load_pretrained("hmr", path=packed)
    assert model.hypotheses(keypoints=KEYPOINTS).joints24.shape == (1, 1, 24, 3)
    with pytest.raises(packed_files.PackedError, match="networks multibodies, hmr; there is no 'mdn'"):
        pretrained.load_pretrained("mdn", path=packed)


def test_the_embedded_weights_weigh_their_hypotheses_by_scores_and_prior():
    model = pretrained.load_pretrained()
    assert model.has_scores and model.quantizer_settings()["weights"] == "scores_and_prior"
    assert pretrained.load_pretrained("hmr").quantizer_settings()["weights"] == "prior"  # Of one, which needs none.


def test_a_file_says_what_it_was_made_from_and_names_no_folder(packed, trained):
    file = packed_files.read(packed)
    about, arrays = file.about, file.arrays
    assert about["body_fingerprint"] == body_files.load("").fingerprint
    assert about["people"].startswith("synthetic_poses/") and about["tuned"] == {"temperature": 0.25}
    assert about["networks"]["hmr"] == {"num_hypotheses": 1, "images_seen": 48, "step": 6}
    assert str(trained) not in json.dumps(about)
    assert about["config"]["data"]["dir"] == "data" and about["config"]["body"]["dir"] is None
    assert {x.dtype for x in arrays.values() if x.dtype.kind == "f"} == {np.dtype(np.float16)}


def test_the_choices_of_an_evaluation_of_the_file_are_taken_and_those_of_another_are_not(packed, tmp_path, capsys):
    before, out = packed_files.read(packed), tmp_path / "weights.npz"
    shutil.copy(packed, out)
    chosen, own = {"temperature": 0.1, "sharpness": {"prior": 1.5}}, {"packed": {"sha256": before.about["sha256"]}}
    arguments = [f"--choices={tmp_path}", f"--out={out}"]
    for results, message in (
        (chosen, "results.json is no evaluation of the weights"),
        (chosen | {"packed": 3}, "results.json is no evaluation of the weights"),
        (
            chosen | {"packed": {"sha256": 64 * "0"}},
            r"results.json is no evaluation of the weights .* evaluate the file",
        ),
        ({"temperature": 0.1} | own, "results.json does not say sharpness, so that it was not chosen there"),
        ({"sharpness": {"prior": 1.5}} | own, "results.json does not say temperature"),
    ):
        io.write_json(tmp_path / "results.json", results)
        assert pretrained.main(arguments) == 2
        assert re.search(message, capsys.readouterr().err) and out.read_bytes() == packed.read_bytes()
    io.write_json(tmp_path / "results.json", chosen | own)
    assert pretrained.main(arguments) == 0
    after = packed_files.read(out)
    assert after.about == {**before.about, "tuned": chosen} and after.arrays.keys() == before.arrays.keys()
    assert pretrained.load_pretrained(path=out).quantizer_settings()["sharpness"] == 1.5


def _rewrite(packed, out, change):
    with np.load(packed) as file:
        arrays = {name: file[name] for name in file.files}
    change(arrays)
    io.write_npz(out, arrays)


def _flip(arrays):
    name = "multibodies/params/map_1/kernel"
    arrays[name] = arrays[name].copy()
    arrays[name][0, 0] += np.float16(1)


def _rename_format(arrays):
    arrays["about"] = np.array(json.dumps(json.loads(str(arrays["about"])) | {"format": 99}))


def _rename_body(arrays):
    arrays["about"] = np.array(json.dumps(json.loads(str(arrays["about"])) | {"body_fingerprint": "0" * 64}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_flip, "damaged .its checksum differs"),
        (_rename_format, "has format 99, and this version reads 1"),
        (_rename_body, "was trained with the body"),
        (lambda arrays: arrays.pop("about"), "damaged or no file of weights"),
        (lambda arrays: arrays.pop("prior/stats/mean"), "checksum differs"),
    ],
)
def test_wrong_files_are_refused(packed, tmp_path, change, message):
    _rewrite(packed, tmp_path / "w.npz", change)
    with pytest.raises(packed_files.PackedError, match=message):
        pretrained.load_pretrained(path=tmp_path / "w.npz")


def test_cut_large_and_missing_files_are_refused(packed, tmp_path, monkeypatch):
    (tmp_path / "cut.npz").write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(packed_files.PackedError, match="damaged or no file of weights"):
        packed_files.read(tmp_path / "cut.npz")
    with pytest.raises(packed_files.PackedError, match="There is no file of weights"):
        packed_files.read(tmp_path / "none.npz")
    monkeypatch.setattr(packed_files, "LARGEST_BYTES", 10_000)
    with pytest.raises(packed_files.PackedError, match="at most 10,000"):
        packed_files.read(packed)


def test_work_directories_that_cannot_be_packed_are_refused(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tuned, "read", lambda workdir: {})
    assert pretrained.main([f"--workdir={trained}", f"--out={tmp_path / 'w.npz'}"]) == 2
    assert "run `multibodies evaluate` first" in capsys.readouterr().err
    assert not (tmp_path / "w.npz").exists()
