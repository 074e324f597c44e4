"""Lists in SPIN's format, scored from a work directory of weights that were not trained here: a row of the README each."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from multibodies_jax.evaluation import evaluate, methods, pictures
from multibodies_jax.models import flow
from multibodies_jax.training import checkpoints, config_checks, initialization, provenance, setup
from tests.helpers import batches, list_files, tiny

_FIELDS = {
    "quantizer__reading": "released",
    "quantizer__temperature": 1.0,
    "eval__methods": default.METHODS,
    "eval__batch": 4,
    "eval__ns": (1,),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Lists, images, and a tiny network with random weights as `convert` leaves one."""
    root = tmp_path_factory.mktemp("released")
    for name, images, keys in (
        ("h36m_valid_protocol2", list_files.H36M, ("part", "S")),
        ("3dpw_test_all", list_files.THREEDPW, ("part", "pose", "shape", "gender")),
    ):
        arrays = list_files.arrays(images, keys=keys)
        list_files.save(root / f"{name}.npz", **arrays)
        list_files.write_images(root / "images", images)
    config = tiny.config()
    bodies = setup.load_bodies(config)
    example = batches.inputs(kp2d_input=jnp.ones((1, 24)))
    model = setup.build_model(config, 6, bodies)
    params = initialization.variables(config, model, 6, None, example, jax.random.key(0))["params"]
    about = provenance.metadata(config, bodies) | {"num_hypotheses": 6, "images_seen": 0, "data_position": None}
    state = {"step": np.int32(0), "params": params, "batch_stats": {}}
    checkpoints.save(root / "out" / "checkpoints", 0, {"state": state}, about)
    density = flow.Flow(layers=2, width=16, dropout=0.0).init(jax.random.key(1), jnp.zeros((2, 72)), method="log_prob")
    items = {"params": density.pop("params"), "fixed": density}
    unknown = {"noise_mm": 0.0, "held_out_log_prob": None}
    checkpoints.save(root / "out" / "prior", 0, items, provenance.metadata(config, bodies) | unknown)
    stored = {"converted": "multibodies", "model": {"trunk": "keypoints", "num_hypotheses": 6}}
    (root / "out" / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    return root


def scored(folder, images, protocol, published, **other):
    config = tiny.config(
        **_FIELDS,
        model__num_hypotheses=None,
        data__npz_dir=str(folder),
        data__image_dir=str(folder / "images"),
        eval__sets=(f"spin/{images}",),
        eval__protocol=protocol,
        eval__published=published,
        **other,
    )
    config_checks.validate(config)
    return evaluate.evaluate(config, folder / "out")


def test_h36m_needs_no_body_parameters(folder):
    result = scored(folder, "h36m_valid_protocol2", "h36m_p2", "h36m", quantizer__weights="uniform")
    scores = result["metrics"]["spin/h36m_valid_protocol2"]
    assert set(scores[methods.OURS]["1"]) == {"mpjpe", "pa_mpjpe", "mpjpe_strict", "pa_mpjpe_strict"}
    assert scores[methods.OURS]["1"]["mpjpe"]["count"] == 3 and methods.shuffled_of(methods.OURS) not in scores
    assert result["protocol_strict"]["name"] == "h36m_p2_strict" and result["num_hypotheses"] == 6
    (row,) = (r for r in result["published"]["spin/h36m_valid_protocol2"] if (r["n"], r["metric"]) == (1, "pa_mpjpe"))
    assert row["difference"] == pytest.approx(scores[methods.OURS]["1"]["pa_mpjpe"]["mean"] - 41.626)
    text = (folder / "out" / "results.md").read_text(encoding="utf-8")
    assert "The authors' numbers for h36m" in text and "| ours, strict |" in text
    assert (folder / "out" / "figures" / "figure6_hypotheses.png").exists()


def test_3dpw_has_gendered_vertices_and_another_protocol_is_refused(folder, monkeypatch):
    monkeypatch.setattr(pictures, "draw", lambda *arguments: None)
    scores = scored(folder, "3dpw_test_all", "3dpw", "3dpw")["metrics"]["spin/3dpw_test_all"][methods.OURS]["1"]
    assert set(scores) == {f"{m}{s}" for m in ("mpjpe", "pa_mpjpe", "vertex", "pa_vertex") for s in ("", "_strict")}
    assert scores["pa_vertex"]["mean"] < scores["vertex"]["mean"] and scores["mpjpe"]["count"] == 4
    with pytest.raises(ValueError, match=r"belongs to a set of '3dpw', and protocol 'h36m_p2' scores Human3\.6M"):
        scored(folder, "3dpw_test_all", "h36m_p2", None)
