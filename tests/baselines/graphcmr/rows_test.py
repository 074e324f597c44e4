"""GraphCMR from its training to its table: the row of the body, and the row of the mesh against the mesh's own joints."""

import json

import jax
import numpy as np
import pytest

from multibodies_jax.baselines.graphcmr import rows
from multibodies_jax.data import sources
from multibodies_jax.evaluation import evaluate, methods, pictures
from multibodies_jax.models import build
from multibodies_jax.training import checkpoints, config_checks, initialization, logs, loop, setup
from tests.helpers import batches, evaluation_fixture, small_sets, sphere_body, tiny

_SET = "synthetic_bodies/clean"


def _config(**overrides):
    fields = {
        "data__dir": str(small_sets.data_dir()),
        "eval__batch": 4,
        "eval__vertex_stride": 50,
        "eval__sets": (_SET,),
    }
    return tiny.config(model__name="graphcmr", **fields | overrides)


@pytest.mark.slow
def test_it_is_trained_and_has_two_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "dataset_options", lambda config: small_sets.OPTIONS)
    monkeypatch.setattr(sources, "load_people", tiny.load_people)
    monkeypatch.setattr(setup, "load_bodies", lambda config: sphere_body.bodies())
    monkeypatch.setattr(pictures, "draw", lambda *arguments: None)
    config = _config(train__steps=2, loss__vertices=0.5, flow__steps=0)
    loop.train(config, tmp_path / "run")
    lines = logs.read(tmp_path / "run" / "checkpoints")
    assert len(lines) == 2 and all(np.isfinite(line["loss"]) and line["loss_mesh_vertices"] > 0 for line in lines)
    items, metadata, _ = checkpoints.restore(tmp_path / "run" / "checkpoints")
    assert items["state"]["batch_stats"]["hierarchy"]["kept"].shape == (41,) and metadata["num_hypotheses"] == 1

    result = evaluate.evaluate(config, tmp_path / "run")
    errors = result["metrics"][_SET]
    assert list(errors) == ["GraphCMR", rows.NAME]
    assert errors["GraphCMR"]["1"].keys() == errors[rows.NAME]["1"].keys() >= {"mpjpe", "pa_mpjpe", "vertex"}
    assert errors["GraphCMR"]["1"]["mpjpe"]["mean"] != errors[rows.NAME]["1"]["mpjpe"]["mean"]
    assert json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["label"] == "GraphCMR"


@pytest.mark.slow
def test_it_starts_from_the_trunk_of_another_network(tmp_path):
    config, bodies = _config(), sphere_body.bodies()
    example = batches.inputs(**sphere_body.images(2))
    hmr = tiny.config(model__num_hypotheses=1, model__name="hmr", loss__mode0=False)
    single = initialization.variables(hmr, setup.build_model(hmr, 1, bodies), 1, None, example, jax.random.key(0))
    source = initialization.Source(tmp_path, single, {"num_hypotheses": 1})
    model = setup.build_model(config, 1, bodies)
    found = initialization.variables(config, model, 1, source, example, jax.random.key(1))
    np.testing.assert_array_equal(
        found["params"]["trunk"]["input"]["kernel"], single["params"]["trunk"]["input"]["kernel"]
    )
    assert "head" not in found["params"] and "regressor" in found["params"] and "hierarchy" in found["batch_stats"]


@pytest.mark.slow
def test_a_network_without_vertices_has_no_such_row():
    out = evaluation_fixture.made()
    assert methods.METHODS["graphcmr_mesh"](evaluation_fixture.evaluation(out)) is None


def test_it_is_one_hypothesis_with_a_head_and_losses_of_its_own(tmp_path):
    assert (
        setup.network(_config(), 1) is build.NETWORKS["graphcmr"]
        and loop.stages(_config(), tmp_path)[0].title == "GraphCMR"
    )
    for words, overrides in {
        r"loss\.reading='graphcmr'": {"loss__reading": "paper"},
        r"set config\.model\.num_hypotheses to 1": {"model__num_hypotheses": 2},
        r"config\.model\.head='paper'": {"model__head": "released", "model__trunk": "resnet50", "data__sets": (_SET,)},
        "multiple of 16": {"graphcmr__channels": 24},
        "one of 'nearest', 'published'": {"graphcmr__rotation": "spin"},
    }.items():
        with pytest.raises(ValueError, match=words):
            config_checks.validate(_config(**overrides))
