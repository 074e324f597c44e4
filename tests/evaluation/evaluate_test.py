"""To a table: tiny networks are evaluated on keypoints and, trained on them, on images, and drawn."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from multibodies_jax import io
from multibodies_jax.baselines import controls
from multibodies_jax.data import sources
from multibodies_jax.evaluation import (
    batches,
    calibration,
    evaluate,
    fitted,
    methods,
    pictures,
    protocols,
    results_page,
    tuning,
)
from multibodies_jax.fitting import refine
from multibodies_jax.models import build
from multibodies_jax.prediction import pretrained
from multibodies_jax.released import methods as released
from multibodies_jax.training import checkpoints, inference, loop, packed, provenance
from tests.helpers import evaluation_fixture as fixture
from tests.helpers import small_sets, tiny, trained, trunk_apart
from tfds_builders import building


def _config(data_dir: pathlib.Path, **overrides):
    fields = {"data__dir": str(data_dir), "eval__batch": 4, "eval__vertex_stride": 100}
    return tiny.config(**fields | overrides)


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "dataset_options", lambda config: small_sets.OPTIONS)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(config, workdir, result) of a finished keypoint run."""
    root = tmp_path_factory.mktemp("evaluate")
    config = _config(small_sets.data_dir())
    shutil.copytree(trained.workdir(), root / "run")
    return config, root / "run", evaluate.evaluate(config, root / "run")


def test_table_has_every_method_and_errors_fall_with_n(run):
    _, workdir, result = run
    for name in ("synthetic_bodies/clean", "synthetic_bodies/ambiguous"):
        table = result["metrics"][name]
        for method in (methods.OURS, methods.UNIFORM, methods.PRINTED, released.KEPT, *controls.COMPARED):
            errors = [table[method][str(n)]["mpjpe"]["mean"] for n in (1, 2, 5)]
            assert np.all(np.isfinite(errors)) and table[method]["1"]["mpjpe"]["count"] == 7
        assert table[controls.RANDOM]["1"]["mpjpe"]["mean"] > table["all M = 6"]["6"]["mpjpe"]["mean"]
        assert len(result["datasets"][name]["fingerprint"]) == 64
        assert result["diagnostics"][name]["worse_when_shuffled"] > -1
        assert 0 < result["diagnostics"][name]["silhouette_iou"]["mean"] < 1
        noisy = [table[controls.NOISE][str(n)]["mpjpe"]["mean"] for n in (1, 2, 5)]
        assert noisy == sorted(noisy, reverse=True)
    prints = [dataset["fingerprint"] for dataset in result["datasets"].values()]
    assert prints[0] != prints[1]  # The same people, but not the same set.
    people = result["same_people"]
    assert sum(entry["examples"] for entry in people.values()) <= 7
    assert all(np.isfinite(entry["single_mpjpe"]["mean"]) for entry in people.values())
    assert json.loads((workdir / "results.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    text = (workdir / "results.md").read_text(encoding="utf-8")
    assert f"Computed with jax {jax.__version__} on 1 device(s), cpu." in text
    assert "embedded mannequin" in text and controls.CODEBOOK in text and "strict" in text


def test_figures_are_written(run):
    names = {p.name for p in (run[1] / "figures").iterdir()}
    assert {"figure2_single_and_set.png", "figure4_prior_samples.png", "figure5_ambiguous.png", "losses.png"} <= names
    assert {"figure6_hypotheses.png", "mpjpe_synthetic_bodies_ambiguous.png"} <= names


def test_no_number_depends_on_the_batch_size_and_both_protocols_stand_side_by_side(run, tmp_path, monkeypatch):
    """Under "released" its strict sibling gives again what "strict" gave alone, in other batches."""
    monkeypatch.setattr(pictures, "draw", lambda *arguments: None)
    config, workdir, _ = run
    before = dict(np.load(workdir / "per_example.npz"))
    shutil.copytree(workdir, tmp_path / "copy")
    other = _config(pathlib.Path(config.data.dir), eval__batch=7, eval__protocol="released")
    result = evaluate.evaluate(other, tmp_path / "copy")
    after = dict(np.load(tmp_path / "copy" / "per_example.npz"))
    for key, values in before.items():
        if key.endswith("example_id"):
            assert list(values) == list(after[key])
        elif "|diagnostic|" in key:
            np.testing.assert_allclose(after[key], values, rtol=1e-3, atol=0.05, err_msg=key)
        elif "|curve|" in key:
            assert len(values) == len(after[key]) == 7  # Of the protocol's own selection.
        elif "|calibration|" in key:
            np.testing.assert_allclose(after[key], values, atol=1e-3, err_msg=key)
        elif f"|{controls.NOISE}|" not in key:  # Its noise is tuned for the protocol.
            np.testing.assert_allclose(after[key + "_strict"], values, atol=0.05, err_msg=key)
            assert "|single|" in key or np.all(after[key] >= after[key + "_strict"])
    assert {key.removesuffix("_strict") for key in after} == set(before)
    assert (result["protocol"]["name"], result["protocol_strict"]["name"]) == ("released", "strict")
    scores = result["metrics"]["synthetic_bodies/clean"][methods.OURS]["5"]
    assert scores["mpjpe"]["mean"] > scores["mpjpe_strict"]["mean"]
    text = (tmp_path / "copy" / "results.md").read_text(encoding="utf-8")
    assert "Protocol released: by joint error" in text and "Protocol strict: minimum per metric" in text
    assert "| ours, strict |" in text


def test_per_example_errors_add_up_to_the_table(run):
    _, workdir, result = run
    stored = np.load(workdir / "per_example.npz")
    name = "synthetic_bodies/ambiguous"
    values = stored[f"{name}|{methods.OURS}|2|pa_mpjpe"]
    assert result["metrics"][name][methods.OURS]["2"]["pa_mpjpe"]["mean"] == pytest.approx(values.mean(), rel=1e-6)


def test_a_damaged_checkpoint_and_an_untrained_folder_are_refused(run, tmp_path):
    config, workdir, _ = run
    shutil.copytree(workdir, tmp_path / "copy")
    largest = max((tmp_path / "copy" / "checkpoints" / "6").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(checkpoints.CheckpointError, match="damaged"):
        evaluate.evaluate(config, tmp_path / "copy")
    with pytest.raises(ValueError, match="Nothing was trained"):
        evaluate.evaluate(config, tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_with_a_trunk_of_its_own_runtime_the_errors_are_the_same(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "draw", lambda *arguments: None)
    config, workdir, result = run
    shutil.copytree(workdir, tmp_path / "copy")
    sizes = trunk_apart.use(monkeypatch)
    found = evaluate.evaluate(config, tmp_path / "copy", onnx=True)
    assert set(sizes) == {config.eval.batch}
    assert (result["computed"]["trunk"], found["computed"]["trunk"]) == ("XLA", "ONNX Runtime")
    assert "the trunk in ONNX Runtime" in (tmp_path / "copy" / "results.md").read_text(encoding="utf-8")
    for name, table in result["metrics"].items():
        errors = found["metrics"][name]["all M = 6"]["6"]["mpjpe"]["mean"], table["all M = 6"]["6"]["mpjpe"]["mean"]
        assert errors[0] == pytest.approx(errors[1], rel=1e-4)


def test_packed_networks_are_evaluated_as_those_of_the_work_directory(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "draw", lambda *arguments: None)
    monkeypatch.setattr(refine, "refine", lambda bodies, *arguments: bodies)
    config, workdir, expected = run
    pretrained.pack(workdir, tmp_path / "weights.npz")
    name, methods_ = "synthetic_bodies/ambiguous", ("main", "hmr", "refined")
    fields = {"eval__packed": str(tmp_path / "weights.npz"), "eval__methods": methods_, "eval__sets": (name,)}
    fields |= {"eval__chosen_on": ("synthetic_bodies/clean",)}
    result = evaluate.evaluate(_config(pathlib.Path(config.data.dir), **fields), tmp_path / "results")
    for method, n in ((methods.OURS, "5"), (methods.HMR, "1")):
        found, its = (one["metrics"][name][method][n]["mpjpe"]["mean"] for one in (result, expected))
        assert found == pytest.approx(its, abs=2)  # Millimetres: half precision, and another temperature.
    assert result["temperature"] == expected["tuned_on_validation"]["synthetic_bodies/clean"]["temperature"]["chosen"]
    plain, refined = (result[key][name]["5"] for key in ("calibration", "calibration_refined"))
    assert set(refined) == set(plain) and refined["scores"]["ece"] > 0
    kind = plain["weights"]
    assert refined["sharpness"] == result["fitting"]["sharpness"][kind]
    assert plain["sharpness"] == result["sharpness"][kind] and plain["log_loss_fitted"] > 0
    px = {key: value["mean"] for key, value in result["diagnostics"][name].items() if key.endswith("reprojection_px")}
    assert px["refined_reprojection_px"] == px["reprojection_px"] and "hmr_refined_reprojection_px" not in px
    assert result["packed"]["commit"] == checkpoints.git_commit() and result["steps"][methods.HMR] == 6
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        *("evaluating.lock", "per_example.npz", "results.json", "results.md"),
    ]
    with pytest.raises(ValueError, match=r"has networks of its own, and config.eval.packed is to be evaluated"):
        evaluate.evaluate(_config(pathlib.Path(config.data.dir), **fields), workdir)
    with pytest.raises(packed.PackedError, match=r"has other networks: config.model.width is 16, and there 32"):
        evaluate.evaluate(_config(pathlib.Path(config.data.dir), model__width=16, **fields), tmp_path / "other")


def _refuse(*_):
    raise ValueError("the example lacks the truth of the protocol")


def test_what_an_evaluation_reads_is_opened_first(run, tmp_path, monkeypatch):
    config, workdir, _ = run
    evaluate.open_inputs(config)
    for fields, message in (
        ({"eval__sets": ("synthetic_bodies/clean", "spin/list"), "data__npz_dir": "nowhere"}, "'nowhere' is no folder"),
        ({"eval__sets": ("synthetic_bodies/clear",)}, "no config 'clear'"),
        ({"eval__split": "validation", "eval__hmr": str(tmp_path)}, "has no checkpoints/ with a finished step"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate.open_inputs(_config(tmp_path / "data", **fields))
    assert not (tmp_path / "data").exists()
    sets = {"eval__sets": ("synthetic_bodies/clean", "pose2sim_demo/clean")}
    for fields, message in ((sets, "pose2sim"), ({}, "lacks the truth")):
        with monkeypatch.context() as patch, pytest.raises((ValueError, building.BuildError), match=message):
            patch.setattr(tuning, "Temperatures", lambda *_: pytest.fail("chosen before every set was read"))
            patch.setattr(protocols, "check_example", _refuse)
            evaluate.evaluate(_config(pathlib.Path(config.data.dir), **fields), workdir)
    with provenance.locked(workdir, "evaluating"), pytest.raises(io.LockedError, match="which is evaluating there"):
        evaluate.evaluate(config, workdir)


def test_images_train_and_evaluate_too(run, tmp_path):
    fields = {
        "model__trunk": "resnet_small",
        "model__crop_size": 32,
        "model__width": 4,
        "data__sets": ("synthetic_bodies/clean",),
        "eval__sets": ("synthetic_bodies/ambiguous",),
        "eval__methods": ("main",),
        "optim__ema": 0.9,
    }
    config = _config(pathlib.Path(run[0].data.dir), **fields, train__baseline=False, quantizer__temperature=0.3)
    shutil.copytree(trained.workdir() / "prior", tmp_path / "prior")
    loop.train(config, tmp_path)
    last = checkpoints.restore(tmp_path / "checkpoints")[0]["state"]
    shutil.rmtree(tmp_path / "checkpoints" / "6")  # The data's position is part of a checkpoint.
    loop.train(config, tmp_path)
    again = checkpoints.restore(tmp_path / "checkpoints")[0]["state"]
    np.testing.assert_array_equal(again["params"]["head"]["dec"]["kernel"], last["params"]["head"]["dec"]["kernel"])
    result = evaluate.evaluate(config, tmp_path)
    assert result["metrics"]["synthetic_bodies/ambiguous"][methods.OURS]["1"]["mpjpe"]["count"] == 7
    assert "| ours |" in results_page.markdown(result)


def test_a_single_hypothesis_is_evaluated_without_sets(run, tmp_path):
    config = _config(pathlib.Path(run[0].data.dir), model__num_hypotheses=1, loss__mode0=False, eval__ns=(1,))
    provenance.check_workdir(config, tmp_path, create=True)
    for part, folder in {"prior": "prior", "hmr": "checkpoints"}.items():
        shutil.copytree(trained.workdir() / part, tmp_path / folder)
    table = evaluate.evaluate(config, tmp_path)["metrics"]["synthetic_bodies/clean"]
    assert set(table) == {methods.OURS}


def _tuned(monkeypatch, out, rows, **overrides):
    """What is chosen on a validation split of one batch."""
    monkeypatch.setattr(batches, "count", lambda *arguments: 1)
    monkeypatch.setattr(batches, "examples", lambda *arguments: [out.examples])
    return evaluate.tune(fixture.evaluation(out, **overrides), rows, "a")


def test_the_rows_of_one_hypothesis_choose_on_the_validation_split_too(monkeypatch):
    out, bodies = fixture.made(m=1, hmr=False), lambda out, candidate: out.hyps
    config = ConfigDict({"fitting": {"steps": 1}})
    row = fitted.Fitted("smplify", "SMPLify", (1,), bodies, config, in_order=True)
    chosen = _tuned(monkeypatch, out, [row])
    assert set(chosen.tuned) == {"smplify"} and len(chosen.tuned["smplify"]["tried"]) == len(fitted.CANDIDATES)
    assert chosen.settings == out.settings and not chosen.settings.sharpness


def test_a_network_is_inspected_also_where_the_temperature_is_given(monkeypatch):
    network, out = build.NETWORKS["smpl_cvae"], fixture.made(exchangeable=True)
    counted = dataclasses.replace(network, inspect=lambda config, main, pairs: {"batches": len(list(pairs))})
    monkeypatch.setattr(build, "NETWORKS", {**build.NETWORKS, "smpl_cvae": counted})
    chosen = _tuned(monkeypatch, out, [], model__name="smpl_cvae", quantizer__temperature=0.3)
    assert chosen.inspected == {"cvae": {"batches": 1}} and not chosen.tuned


def test_sets_larger_than_the_network_has_hypotheses_are_refused_with_both_numbers():
    config = tiny.config(model__num_hypotheses=None, eval__ns=(7, 9))
    with pytest.raises(ValueError, match=r"config.eval.ns is \(7, 9\), and the network has M = 6 hypotheses"):
        evaluate.settings_of(config, 6)
    assert evaluate.settings_of(config, 8).ns == (7,)


def test_each_split_is_read_once_and_the_network_runs_once_for_each_of_its_batches(run, tmp_path, monkeypatch):
    """Twice where the evidence is shuffled, on the evaluated split alone; a set has 4 validation and 7 test examples."""
    read, hypothesized, single = [], [], []

    def counted(function, calls):
        def call(*arguments):
            calls.append(arguments)
            return function(*arguments)

        return call

    config, workdir, before = run
    shutil.copytree(workdir, tmp_path / "copy")
    monkeypatch.setattr(batches, "examples", counted(batches.examples, read))
    monkeypatch.setattr(inference, "hypothesize", counted(inference.hypothesize, hypothesized))
    monkeypatch.setattr(inference, "respond", counted(inference.respond, single))
    monkeypatch.setattr(pictures, "draw", lambda *arguments: None)
    result = evaluate.evaluate(config, tmp_path / "copy")
    names = [(name, split, others) for _, name, split, others in read]
    assert names == [(name, *how) for name in config.eval.sets for how in (("validation", False), ("test", True))]
    assert len(hypothesized) == 2 * (1 + 2 * 2) and len(single) == 2 * (1 + 2)
    assert result["metrics"] == before["metrics"] and result["calibration"] == before["calibration"]


class _Remembering:
    """A row that chooses the set that was read last, and notes under which choice it is measured on which set."""

    name, ns, compared, reads_others = "remembering", (1,), False, False

    def __init__(self, read):
        self._read, self.chosen, self.measured = read, None, []

    def observe(self, out):
        pass

    def choose(self):
        self.chosen = self._read[-1][0]
        return {"remembering": self.chosen}

    def sets(self, out, n):
        self.measured.append((self._read[-1][0], self.chosen))
        return out.members(out.first(n))


def test_sets_that_are_chosen_on_the_same_one_read_its_validation_split_once(run, tmp_path, monkeypatch):
    """Another choice between them does not replace theirs."""
    examples, main, read = batches.examples, methods.main, []
    row, names = _Remembering(read), ("synthetic_bodies/clean", "synthetic_bodies/ambiguous")
    monkeypatch.setattr(batches, "examples", lambda *its: read.append(its[1:3]) or examples(*its))
    monkeypatch.setattr(methods, "rows", lambda evaluation: [main(evaluation), row])
    monkeypatch.setattr(pictures, "draw", lambda *arguments: None)
    shutil.copytree(run[1], tmp_path / "copy")
    fields = {"eval__sets": (*names, names[0]), "eval__chosen_on": (names[1], names[0], names[1]), "eval__ns": (2,)}
    result = evaluate.evaluate(_config(pathlib.Path(run[0].data.dir), **fields), tmp_path / "copy")
    assert read == [
        *((names[1], "validation"), (names[0], "test"), (names[0], "validation"), (names[1], "test")),
        (names[0], "test"),
    ]
    assert set(row.measured[:4]) == {(names[0], names[1]), (names[1], names[0])}
    assert set(row.measured[4:]) == {(names[0], names[1])}
    told = result["tuned_on_validation"]
    assert [told[name]["remembering"] for name in names] == [names[1], names[0]]
    assert result["temperature"] == told[names[0]]["temperature"]["chosen"]


def test_the_config_chooses_the_rows_and_a_tuned_quantizer_reads_no_validation_split(run, tmp_path, monkeypatch):
    read = []
    examples = batches.examples
    monkeypatch.setattr(batches, "examples", lambda *arguments: read.append(arguments[2]) or examples(*arguments))
    monkeypatch.setattr(pictures, "draw", lambda *arguments: None)
    shutil.copytree(run[1], tmp_path / "copy")
    fields = {"eval__methods": ("random", "main"), "quantizer__temperature": 0.3, "eval__ns": (2,)}
    config = _config(pathlib.Path(run[0].data.dir), eval__sets=("synthetic_bodies/clean",), **fields)
    result = evaluate.evaluate(config, tmp_path / "copy")
    assert list(result["metrics"]["synthetic_bodies/clean"]) == [controls.RANDOM, methods.OURS]
    assert [row["control"] for row in result["compared"]["synthetic_bodies/clean"]] == [controls.RANDOM] * 2
    assert read == ["test"] and result["tuned_on_validation"]["synthetic_bodies/clean"] == {}
    assert result["temperature"] == 0.3 and "sharpness" not in result["calibration"]["synthetic_bodies/clean"]["2"]


def test_the_bodies_of_the_pictures_have_the_probabilities_that_prediction_says(run, tmp_path, monkeypatch):
    for name in ("error_curve", "loss_curves", "figure2", "figure4", "figure5", "figure6"):
        monkeypatch.setattr(pictures.figures, name, lambda *arguments, **options: None)
    monkeypatch.setattr(calibration, "SHARPNESSES", (0.0,))
    shutil.copytree(run[1], tmp_path / "copy")
    fields = {"eval__methods": ("main",), "eval__ns": (2,), "eval__sets": ("synthetic_bodies/clean",)}
    result = evaluate.evaluate(_config(pathlib.Path(run[0].data.dir), **fields), tmp_path / "copy")
    assert result["sharpness"] == {"prior": 0.0}
    prob = np.load(tmp_path / "copy" / "figures" / "examples.npz")["prob"]
    np.testing.assert_allclose(prob, np.full(prob.shape, 1 / prob.shape[1]), rtol=1e-6)


def test_a_network_that_answers_nan_is_refused_with_the_name_of_the_example_and_writes_nothing(
    run, tmp_path, monkeypatch
):
    hypothesize = inference.hypothesize

    def poisoned(*arguments):
        hyps = hypothesize(*arguments)
        return dataclasses.replace(hyps, joints24=hyps.joints24.at[3].set(np.nan))

    monkeypatch.setattr(inference, "hypothesize", poisoned)
    shutil.copytree(run[1], tmp_path / "copy")
    (tmp_path / "copy" / "results.json").unlink()
    fields = {"eval__methods": ("main",), "quantizer__temperature": 0.3, "eval__ns": (2,)}
    config = _config(pathlib.Path(run[0].data.dir), eval__sets=("synthetic_bodies/clean",), **fields)
    with pytest.raises(FloatingPointError, match=r"example .*/test/000003: the bodies of the network \(joints24\)"):
        evaluate.evaluate(config, tmp_path / "copy")
    assert not (tmp_path / "copy" / "results.json").exists()
