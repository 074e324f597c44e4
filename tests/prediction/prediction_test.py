"""A photograph in, weighted bodies out: what `Predictor.predict` gives is consistent, and can be kept and written."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import multibodies_jax
from multibodies_jax import detection, io
from multibodies_jax.data import images
from multibodies_jax.prediction import people, prediction, prediction_file, requantize
from tests.helpers import tiny
from tests.helpers import trained as shared_run

pytestmark = pytest.mark.slow

KEYPOINTS = np.array([[30 + 9 * (k % 5), 20 + 4 * k, k % 3 > 0] for k in range(24)], np.float32)
PERSON = people.Person(KEYPOINTS * KEYPOINTS[:, 2:])
IMAGE = np.random.default_rng(0).integers(0, 256, (130, 90, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("prediction") / "w"
    shutil.copytree(shared_run.workdir(), workdir)
    config = tiny.config(quantizer__temperature=0.5, fitting__steps=2)
    io.write_json(workdir / "config.json", json.loads(config.to_json_best_effort()))
    return multibodies_jax.load(workdir)


@pytest.fixture(scope="module")
def one(model):
    (found,) = model.predict(IMAGE, [PERSON], n=2)
    return found


@pytest.mark.slow
def test_bodies_are_weighted_and_stand_before_the_camera(model, one):
    assert one.n == 2 and one.name == "image_0"
    np.testing.assert_allclose(one.probabilities.sum(), 1, rtol=1e-5)
    assert one.probabilities[0] >= one.probabilities[1]
    assert one.joints.shape == (2, 24, 3) and (one.joints[..., 2] > 0).all()
    for k in range(2):
        vertices = one.mesh(k)
        regressed = np.einsum("kv,va->ka", model.bodies.files.j24_regressor, vertices)
        np.testing.assert_allclose(regressed, one.joints[k], atol=1e-4)
        assert vertices[one.faces].shape[1:] == (3, 3)
    with pytest.raises(IndexError, match="Body 2 of 2"):
        one.mesh(2)
    assert one.spread.shape == (24,) and (one.spread > 0).any()
    np.testing.assert_array_equal(one.keypoints, PERSON.keypoints)


def test_refinement_is_on_unless_it_is_asked_not_to_be(model, one):
    (plain,) = model.predict(IMAGE, [PERSON], n=2, refine=False)
    assert bool(one.record["refined"]) and not bool(plain.record["refined"])
    assert one.record["all_error_px"].mean() < 0.9 * plain.record["all_error_px"].mean()


def test_another_n_is_that_of_predicting_with_it(model, one):
    (three,) = model.predict(IMAGE, [PERSON], n=3)
    again = one.requantize(3)
    assert again.n == 3 and one.n == 2
    np.testing.assert_array_equal(again.record["index"], three.record["index"])
    np.testing.assert_array_equal(again.probabilities, three.probabilities)
    with pytest.raises(ValueError, match="choose 1 to 6"):
        one.requantize(7)


def test_weights_are_those_of_the_config_or_of_the_user_and_are_kept(model, one, tmp_path, capsys):
    """Learned scores are in the file, so that weights can be changed without the network."""
    (scored,) = model.weighted_by("scores").predict(IMAGE, [PERSON], n=2)
    settings = [json.loads(str(found.record["quantizer"])) for found in (one, scored)]
    assert [its["weights"] for its in settings] == ["prior", "scores"]
    assert settings[1]["temperature"] == settings[0]["temperature"] == 0.5  # For who goes back to the prior.
    logs = scored.record["all_log_scores"]
    np.testing.assert_allclose(np.exp(logs).sum(), 1, rtol=1e-5)
    every = scored.requantize(6)
    np.testing.assert_allclose(every.probabilities, np.exp(logs)[every.record["index"]], rtol=1e-4)
    np.testing.assert_array_equal(every.record["log_scores"], logs[every.record["index"]])
    np.testing.assert_array_equal(scored.requantize(2, "prior").probabilities, one.probabilities)
    one.save(tmp_path / "one.npz")
    arguments = [str(tmp_path / "one.npz"), "--n=2", f"--out={tmp_path / 'other.npz'}"]
    assert requantize.main([*arguments, "--weights=scores"]) == 0
    assert "Weights of the hypotheses: learned scores." in capsys.readouterr().out
    np.testing.assert_array_equal(prediction.load(tmp_path / "other.npz").probabilities, scored.probabilities)


def test_other_weights_have_the_temperature_that_was_chosen_for_them(model, tmp_path, capsys):
    chosen = {"temperatures": {"prior": 0.5, "scores_and_prior": 0.1}, "fitting": {"temperatures": {"prior": 0.02}}}
    chosen["sharpness"], chosen["fitting"]["sharpness"] = {"prior": 2.0, "scores_and_prior": 3.0}, {"prior": 0.0}
    config = tiny.config(fitting__steps=2)
    tuned = dataclasses.replace(model, config=config, tuned=chosen)
    for refine, temperature in ((True, 0.02), (False, 0.5)):
        (both,) = tuned.weighted_by("scores_and_prior").predict(IMAGE, [PERSON], n=2, refine=refine)
        (expected,) = tuned.predict(IMAGE, [PERSON], n=3, refine=refine)
        file, out = tmp_path / "both.npz", tmp_path / "out.npz"
        both.save(file)
        assert requantize.main([str(file), "--n=3", f"--out={out}", "--weights=prior"]) == 0
        assert "is kept" not in capsys.readouterr().err
        found = prediction.load(out)
        settings = json.loads(str(found.record["quantizer"]))
        assert (settings["temperature"], settings["sharpness"]) == (temperature, 0.0 if refine else 2.0)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        back = json.loads(str(found.requantize(3, "scores_and_prior").record["quantizer"]))
        assert (back["weights"], back["temperature"]) == ("scores_and_prior", 0.1)
        assert back["sharpness"] == (1.0 if refine else 3.0)
        if refine:
            np.testing.assert_allclose(found.probabilities, 1 / 3, rtol=1e-6)


def test_predictions_without_temperatures_keep_theirs_and_say_so(one, tmp_path, capsys):
    old = {name: value for name, value in one.record.items() if name not in ("temperatures", "sharpness")}
    file, out = tmp_path / "old.npz", tmp_path / "out.npz"
    prediction_file.save(file, old)
    for kind, note in (("prior", False), ("uniform", False), ("scores", False), ("scores_and_prior", True)):
        assert requantize.main([str(file), "--n=2", f"--out={out}", f"--weights={kind}"]) == 0
        assert ("temperature of the weights 'scores_and_prior': that of 'prior', 0.5, is kept" in _err(capsys)) == note
    assert json.loads(str(prediction.load(out).record["quantizer"]))["sharpness"] == 1
    for damaged in ("temperatures", "sharpness"):
        for text in ('{"scores_and_prior": -1}', '{"scores_and_prior": "much"}', '{"scores_and_prior": 1e300', "[]"):
            prediction_file.save(file, old | {damaged: np.array(text)})
            assert requantize.main([str(file), "--n=2", f"--out={out}", "--weights=scores_and_prior"]) == 2
            assert "old.npz: the quantizer's settings are damaged" in _err(capsys)


def _err(capsys):
    return capsys.readouterr().err


def test_weights_that_are_mistyped_are_not_a_damaged_file(one, tmp_path, capsys):
    one.save(tmp_path / "one.npz")
    arguments = [str(tmp_path / "one.npz"), "--n=2", f"--out={tmp_path / 'x.npz'}", "--weights=prio"]
    assert requantize.main(arguments) == 2
    assert (
        _err(capsys) == "error: There are no weights 'prio': choose one of prior, uniform, scores, scores_and_prior.\n"
    )
    assert not (tmp_path / "x.npz").exists()


def test_predictions_without_scores_open_and_cannot_be_weighted_by_them(model, one, tmp_path, capsys):
    plain = {name: value for name, value in one.record.items() if "log_scores" not in name}
    prediction_file.save(tmp_path / "old.npz", plain)
    old = prediction.load(tmp_path / "old.npz")
    np.testing.assert_array_equal(old.requantize(3).probabilities, one.requantize(3).probabilities)
    assert requantize.main([str(tmp_path / "old.npz"), "--n=2", f"--out={tmp_path / 'x.npz'}", "--weights=scores"]) == 2
    told = capsys.readouterr().err
    assert "need learned scores, and the prediction of person 0 of image has none" in told and "damaged" not in told
    with pytest.raises(
        ValueError, match=r"this model has no score head: train one with a config that has model.scores"
    ):
        dataclasses.replace(model, has_scores=False).weighted_by("scores_and_prior")
    with pytest.raises(ValueError, match="no weights 'best': choose one of prior, uniform, scores"):
        model.weighted_by("best")
    prediction_file.save(tmp_path / "wrong.npz", one.record | {"all_log_scores": np.zeros(5)})
    with pytest.raises(prediction_file.PredictionError, match="all_log_scores has the shape"):
        prediction.load(tmp_path / "wrong.npz")


@pytest.mark.slow
def test_a_saved_prediction_is_the_same(one, tmp_path):
    one.save(tmp_path / "one.npz")
    again = prediction.load(tmp_path / "one.npz")
    np.testing.assert_array_equal(again.joints, one.joints)
    with pytest.raises(ValueError, match=r"give load\(path, image=...\)"):
        again.picture()
    picture = prediction.load(tmp_path / "one.npz", image=IMAGE).picture()
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(one.picture()))
    other = one.record | {"body_fingerprint": np.array("1" * 64)}
    prediction_file.save(tmp_path / "other.npz", other)
    with pytest.raises(prediction_file.PredictionError, match="predicted with the body"):
        prediction.load(tmp_path / "other.npz")


@pytest.mark.slow
def test_files_are_written(one, tmp_path):
    one.to_glb(tmp_path / "one.glb", spread_colors=True)
    one.to_html(tmp_path / "one.html")
    assert (tmp_path / "one.glb").read_bytes()[:4] == b"glTF"
    assert "<title>image: 1 person" in (tmp_path / "one.html").read_text(encoding="utf-8")


def test_a_file_is_read_with_its_name_and_its_people_are_detected(model, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    seen = []

    def detector(image):
        seen.append(image)
        points = (10.0 + 5 * np.arange(34).reshape(17, 2) % 80).astype(np.float32)
        person = detection.Detection(points, np.full(17, 0.9, np.float32), (0.0, 0.0, 90.0, 90.0), 0.9)
        return [person, person]

    found = model.predict(tmp_path / "photo.png", n=1, detector=detector)
    assert [person.name for person in found] == ["photo_0", "photo_1"]
    np.testing.assert_array_equal(seen[0], IMAGE)
    assert str(found[0].record["focal_source"]) == "assumed"
    (given,) = model.predict(tmp_path / "photo.png", [PERSON], n=1, focal_px=200.0)
    assert str(given.record["focal_source"]) == "given" and given.record["focal_px"] == 200


def test_floats_from_0_to_1_are_an_image_too(model, one, tmp_path):
    (found,) = model.predict(IMAGE / np.float32(255), [PERSON], n=2)
    np.testing.assert_array_equal(found.record["all_cam"], one.record["all_cam"])
    np.testing.assert_array_equal(found.image, IMAGE)
    with pytest.raises(images.ImageError, match="floats goes from 0 to 1"):
        model.hypotheses(IMAGE * 1.0, KEYPOINTS)
    with pytest.raises(images.ImageError, match="floats goes from 0 to 1"):
        model.predict(IMAGE * 1.0, [PERSON])


def test_what_cannot_be_used_is_said(model, tmp_path):
    with pytest.raises(
        people.PeopleError, match=r"image: The detector found no person .* 90 x 130 pixels\. Give the people"
    ):
        model.predict(IMAGE, detector=lambda image: [])
    with pytest.raises(ValueError, match="sees keypoints only, and this person has none"):
        model.predict(IMAGE, [people.Person(np.zeros((24, 3), np.float32))])
    with pytest.raises(images.ImageError, match=r"none\.png"):
        model.predict(tmp_path / "none.png", [PERSON])
    with pytest.raises(ValueError, match="choose 1 to 6"):
        model.predict(IMAGE, [PERSON], n=7)
