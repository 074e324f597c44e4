"""A work directory restored from nothing but its folder predicts what it was trained to, and refuses what it cannot."""

import copy
import dataclasses
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import multibodies_jax
from multibodies_jax import io
from multibodies_jax.body import smpl
from multibodies_jax.geometry import cameras, joints
from multibodies_jax.prediction import people, predictor
from multibodies_jax.prediction.evidence import evidence
from multibodies_jax.training import config_versions, inference, prior, setup
from tests.helpers import tiny, trunk_apart
from tests.helpers import trained as shared_run

KEYPOINTS = np.array([[30 + 9 * (k % 5), 20 + 4 * k, k % 3 > 0] for k in range(24)], np.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The tiny experiment, with a temperature so that no evaluation has to choose one."""
    workdir = tmp_path_factory.mktemp("predictor") / "w"
    shutil.copytree(shared_run.workdir(), workdir)
    io.write_json(workdir / "config.json", json.loads(_config().to_json_best_effort()))
    return workdir


def _config():
    return tiny.config(quantizer__temperature=0.5)


def test_the_folder_alone_gives_the_hypotheses_of_regressor_and_prior(trained):
    model = multibodies_jax.load(trained)
    found = model.hypotheses(keypoints=KEYPOINTS, name="a")
    config = _config()
    restored, expected = (config_versions.modern(json.loads(c.to_json_best_effort())) for c in (model.config, config))
    assert restored == expected
    bodies = setup.load_bodies(config)
    person = people.Person(KEYPOINTS * KEYPOINTS[:, 2:])
    inputs = evidence(np.zeros((1, 1, 3), np.uint8), person, people.box(person, (1, 1)), "a", 0)
    regressor = inference.restore(config, trained / "checkpoints", bodies)
    expected = inference.score(regressor(inputs), prior.load_prior(config, trained, bodies))
    assert found.joints24.shape == (1, 6, 24, 3) and model.num_hypotheses == 6
    np.testing.assert_allclose(found.joints24, expected.joints24, atol=1e-5)
    np.testing.assert_allclose(found.log_prior, expected.log_prior, rtol=1e-4)


def test_with_a_trunk_of_its_own_runtime_the_hypotheses_are_the_same(trained, monkeypatch):
    expected = multibodies_jax.load(trained).hypotheses(keypoints=KEYPOINTS)
    sizes = trunk_apart.use(monkeypatch)
    found = multibodies_jax.load(trained, onnx=True).hypotheses(keypoints=KEYPOINTS)
    assert sizes == [1]
    np.testing.assert_allclose(found.joints24, expected.joints24, atol=1e-5)
    np.testing.assert_allclose(found.log_scores, expected.log_scores, atol=1e-4)


def test_quantized_bodies_have_probabilities_and_meshes_on_their_joints(trained):
    model = multibodies_jax.load(trained)
    found = model.hypotheses(keypoints=KEYPOINTS)
    chosen = model.quantize(found, n=2)
    assert chosen.medoid.shape == (1, 2)
    np.testing.assert_allclose(chosen.prob.sum(), 1.0, rtol=1e-5)
    bodies = multibodies_jax.pick(found, chosen.medoid)
    vertices = model.mesh(bodies)
    assert vertices.shape == (1, 2, len(model.bodies.smpl.v_template), 3)
    regressed = jnp.einsum("kv,bnvd->bnkd", jnp.asarray(model.bodies.files.j24_regressor), vertices)
    np.testing.assert_allclose(regressed, bodies.joints24, atol=1e-4)
    midhip = regressed[..., list(joints.MIDHIP_J24), :].mean(axis=-2)
    np.testing.assert_allclose(midhip, jnp.zeros((1, 2, 3)), atol=1e-5)
    assert isinstance(model.bodies.smpl, smpl.SmplModel)


def test_refined_hypotheses_lie_nearer_to_the_keypoints_under_the_factors_that_evaluation_chose(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    chosen = {"prior": 0.01, "anchor": 0.5, "steps": 10, "temperature": 0.02}
    (tmp_path / "w" / "results.json").write_text(json.dumps({"temperature": 0.25, "fitting": chosen}), encoding="utf-8")
    config = tiny.config(fitting__steps=4)
    model = multibodies_jax.load(tmp_path / "w", config)
    assert model.quantizer_settings()["temperature"] == 0.25
    assert model.quantizer_settings(refined=True)["temperature"] == 0.02
    person = people.Person(KEYPOINTS * KEYPOINTS[:, 2:])
    inputs = evidence(np.zeros((1, 1, 3), np.uint8), person, people.box(person, (1, 1)), "", 0)
    seen = inputs.kp2d_input[0] > 0

    def distance(hyps):
        shown = cameras.project_crop(hyps.joints24 + hyps.midhip[..., None, :], hyps.cam)
        return float(np.linalg.norm(shown - inputs.evidence[:, None], axis=-1)[..., seen].mean())

    plain, refined = (model.hypotheses(keypoints=KEYPOINTS, refined=refined) for refined in (False, True))
    assert distance(refined) < 0.7 * distance(plain)
    fixed = multibodies_jax.load(
        tmp_path / "w", tiny.config(fitting__steps=4, fitting__anchor=1e4, fitting__prior=10.0)
    )
    held = fixed.hypotheses(keypoints=KEYPOINTS, refined=True)
    assert np.abs(held.rotmats[:, :, 1:] - plain.rotmats[:, :, 1:]).max() < 0.05
    assert np.abs(refined.rotmats[:, :, 1:] - plain.rotmats[:, :, 1:]).max() > 0.1
    off = multibodies_jax.load(tmp_path / "w", tiny.config(fitting__steps=0))
    np.testing.assert_array_equal(off.hypotheses(keypoints=KEYPOINTS, refined=True).joints24, plain.joints24)
    assert off.quantizer_settings(refined=True)["temperature"] == 0.25


def test_what_the_network_reads_has_to_be_given(trained):
    model = multibodies_jax.load(trained)
    assert not model.sees_pixels and model.crop_size == 0 and model.needs_detector
    for trunk, needed in (("resnet_small", False), ("movenet", True)):
        config = copy.deepcopy(model.config).unlock()
        config.model.trunk, config.model.crop_size = trunk, 64
        other = dataclasses.replace(model, config=config)
        assert other.sees_pixels and other.needs_detector == needed
    for known in (None, KEYPOINTS * (np.arange(24) == 1)[:, None]):
        with pytest.raises(ValueError, match="two or more known keypoints"):
            model.hypotheses(keypoints=known)
    with pytest.raises(ValueError, match="n=7"):
        model.quantize(model.hypotheses(keypoints=KEYPOINTS), n=7)


def test_a_tuned_temperature_is_read_from_the_evaluation(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    config = tiny.config()
    model = multibodies_jax.load(tmp_path / "w", config)
    with pytest.raises(ValueError, match="run `multibodies evaluate` first"):
        model.quantizer_settings()
    (tmp_path / "w" / "results.json").write_text(json.dumps({"temperature": 0.25}), encoding="utf-8")
    model = multibodies_jax.load(tmp_path / "w", config)
    assert model.quantizer_settings()["temperature"] == 0.25


def test_each_kind_of_weights_has_the_temperature_that_was_chosen_for_it(trained):
    model = dataclasses.replace(multibodies_jax.load(trained), config=tiny.config(fitting__steps=4))
    chosen = {
        "temperature": 0.25,
        "temperatures": {"scores_and_prior": 0.1},
        "sharpness": {"prior": 1.3, "scores": 0.8},
        "fitting": {"temperatures": {"prior": 0.03}, "sharpness": {"prior": 0.2}},
    }
    model = dataclasses.replace(model, tuned=chosen)
    both = model.weighted_by("scores_and_prior")
    assert [its.quantizer_settings(refined)["temperature"] for its in (model, both) for refined in (False, True)] == [
        *(0.25, 0.03),
        *(0.1, 0.1),
    ]
    same = {"uniform": 0.25, "scores": 0.25, "scores_and_prior": 0.1}
    assert [model.temperatures(), model.temperatures(True)] == [same | {"prior": 0.25}, same | {"prior": 0.03}]
    assert [model.sharpness(refined) for refined in (False, True)] == [{"prior": 1.3, "scores": 0.8}, {"prior": 0.2}]
    assert [its.quantizer_settings(refined)["sharpness"] for its in (model, both) for refined in (False, True)] == [
        *(1.3, 0.2),
        *(1.0, 1.0),
    ]
    given = dataclasses.replace(model, config=tiny.config(quantizer__temperature=0.5))
    assert given.quantizer_settings()["sharpness"] == 1.0  # It was fitted to other clusters.
    off = dataclasses.replace(model, config=tiny.config(fitting__steps=0))
    assert off.sharpness(True) == model.sharpness()
    assert dataclasses.replace(model, tuned={}).temperatures() == {"uniform": 1.0, "scores": 1.0}  # Have no effect.
    assert dataclasses.replace(model, tuned={}).weighted_by("scores").quantizer_settings()["weights"] == "scores"


def test_fields_that_the_stored_config_lacks_are_at_their_defaults(trained, tmp_path):
    stored = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    del stored["data"]["augment"]
    stored["converted"] = {"kind": "spin"}
    (tmp_path / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    stored["loss"]["reduce"] = "mean"  # A field of an earlier version.
    stored["mdn"] = {"weight": 3.0}  # A part that default.py lacks.
    (tmp_path / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    config = predictor.stored_config(tmp_path)
    assert "reduce" not in config.loss and config.mdn.weight == 3.0 and "converted" not in config
    assert config.data.augment == "spin" and config.eval.ns == (1, 2, 5) and config.train.steps == 6


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [("flow", "layers", 10**9), ("model", "dropout", 2.0), ("model", "trunk", "vit"), ("quantizer", "starts", 0)],
)
def test_a_stored_config_has_to_be_one_that_a_command_accepts(trained, tmp_path, part, field, value):
    stored = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    stored[part][field] = value
    (tmp_path / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"(?s)config.json is no config .*config.{part}.{field} is .* accepted is"):
        predictor.stored_config(tmp_path)


def test_a_folder_without_a_training_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        multibodies_jax.load(tmp_path)
