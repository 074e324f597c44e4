"""Every method on one frozen trunk, from its training to its table; and what `make tables` does about it all."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from configs import default
from multibodies_jax.data import sources
from multibodies_jax.evaluation import evaluate, pictures
from multibodies_jax.models import build
from multibodies_jax.training import checkpoints, config_checks, logs, loop, provenance, training_data
from tests.helpers import small_sets, tiny

_IMAGES = {
    "model__trunk": "resnet_small",
    "model__crop_size": 32,
    "model__width": 4,
    "data__sets": ("synthetic_bodies/clean",),
}
_SET = "synthetic_bodies/ambiguous"


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "dataset_options", lambda config: small_sets.OPTIONS)
        patch.setattr(training_data, "FEATURE_BATCH", 8)
        yield


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """Work directory of a trunk, below a folder that also has its data."""
    root = tmp_path_factory.mktemp("baselines")
    shutil.copytree(small_sets.data_dir(), root / "data")  # Features are kept beside the sets.
    config = _config(root, model__num_hypotheses=1, model__name="hmr", loss__mode0=False, eval__ns=(1,))
    loop.train(config, root / "trunk")
    return root / "trunk"


def _config(root: pathlib.Path, **overrides):
    fields = {"data__dir": str(root / "data"), "eval__batch": 4, "eval__vertex_stride": 200, "eval__sets": (_SET,)}
    return tiny.config(**_IMAGES | fields | overrides)


def _on_trunk(trunk, **overrides):
    fields = {"freeze": "trunk", "data__cached_passes": 2, "train__baseline": False, "init": str(trunk)}
    return _config(trunk.parent, **fields | overrides)


@pytest.mark.parametrize("name", ["multibodies", "smpl_mdn", "smpl_cvae"])
def test_a_method_learns_on_the_cached_features_of_a_frozen_trunk(trunk, name, monkeypatch):
    if name != "smpl_mdn":  # One of them draws its figures.
        monkeypatch.setattr(pictures, "draw", lambda *arguments: None)
    workdir = trunk.parent / name
    rows = default.METHODS if name == "smpl_mdn" else ("main",)  # The others' rows: evaluation.evaluate_test.
    config = _on_trunk(trunk, model__name=name, eval__methods=rows)
    loop.train(config, workdir)
    source = checkpoints.restore(trunk / "checkpoints")[0]["state"]
    items, metadata, _ = checkpoints.restore(workdir / "checkpoints")
    for part in ("params", "batch_stats"):
        for a, b in zip(
            jax.tree.leaves(source[part]["trunk"]), jax.tree.leaves(items["state"][part]["trunk"]), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    assert metadata["init"]["fingerprint"] and metadata["training_seconds"] > 0
    caches = [path for path in (trunk.parent / "data" / "features").iterdir() if path.is_dir()]
    assert len(caches) == 1  # Made once, for all methods.
    own = {"multibodies": "loss_best", "smpl_mdn": "loss_mixture", "smpl_cvae": "loss_kl"}[name]
    last = logs.read(workdir / "checkpoints")[-1]
    assert np.isfinite(last[own]) and ("used_hypotheses" in last) == (name == "multibodies")
    manifests = [(folder / "prior" / "4" / "manifest.json").read_bytes() for folder in (trunk, workdir)]
    assert manifests[0] == manifests[1]  # Taken over: one that was trained again would name this model.
    result = evaluate.evaluate(config, workdir)
    errors = result["metrics"][_SET][build.NETWORKS[name].label]
    assert errors["1"]["mpjpe"]["mean"] >= errors["5"]["mpjpe"]["mean"] > 0
    assert (
        result["init"]["fingerprint"] == metadata["init"]["fingerprint"] == result["inits"][build.NETWORKS[name].label]
    )
    assert ("collapsed or cheating" in (workdir / "results.md").read_text(encoding="utf-8")) == (name == "smpl_cvae")


@pytest.mark.parametrize("field", [{"freeze": None}, {"freeze_statistics": False}, {"init": None}])
def test_features_of_a_trunk_that_changes_are_refused(tmp_path, field):
    config = _config(tmp_path, **{"freeze": "trunk", "data__cached_passes": 1, "init": "trunk"} | field)
    with pytest.raises(ValueError, match="a trunk that does not change"):
        config_checks.validate(config)


@pytest.mark.parametrize("name", ["smpl_mdn", "smpl_cvae"])
@pytest.mark.parametrize("field", ["num_hypotheses", "head"])
def test_baselines_refuse_one_hypothesis_and_the_released_head(name, field):
    config = tiny.config(model__name=name).unlock()
    config.model[field] = {"num_hypotheses": 1, "head": "released"}[field]
    config.model.trunk, config.data.sets = "resnet50", ("synthetic_bodies/clean",)
    with pytest.raises(ValueError, match=r"2 or more.*head='paper'"):
        config_checks.validate(config)


def test_cached_passes_with_several_processes_are_refused(trunk, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="cached_passes=2 works with one process, and there are 2"):
        loop.stages(_on_trunk(trunk), trunk.parent / "x")


def test_another_models_fields_bind_nobody_and_its_own_do(trunk):
    loop.train(_on_trunk(trunk, model__name="multibodies"), trunk.parent / "multibodies")
    stored = json.loads((trunk.parent / "multibodies" / "config.json").read_text(encoding="utf-8"))
    stored["mdn"] = {"weight": 7.0}  # Earlier versions stored the fields of all models.
    (trunk.parent / "multibodies" / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    provenance.check_workdir(_on_trunk(trunk), trunk.parent / "multibodies")
    loop.train(_on_trunk(trunk, model__name="smpl_mdn"), trunk.parent / "smpl_mdn")
    with pytest.raises(ValueError, match=r"mdn\.weight"):
        provenance.check_workdir(_on_trunk(trunk, model__name="smpl_mdn", mdn__weight=7.0), trunk.parent / "smpl_mdn")
