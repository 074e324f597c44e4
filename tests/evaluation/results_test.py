"""What is written of findings: means, pairs, use of hypotheses, calibration, curves, arrays, and the three files."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from multibodies_jax.evaluation import calibration, methods, protocols, results
from tests.helpers import evaluation_fixture as fixture
from tests.helpers import tiny

N, M = 8, 4
NAMES = ("ours", "random n of the M", "ours, evidence shuffled")


def findings(seed=0, **fields):
    rng = np.random.default_rng(seed)

    def scores():
        return {"mpjpe": rng.uniform(50, 90, N), "pa_mpjpe": rng.uniform(30, 60, N), "vertex": rng.uniform(50, 90, N)}

    errors = {name: {n: scores() for n in (("1",) if "shuffled" in name else ("1", "2"))} for name in NAMES}
    gathered: Any = calibration.Calibration  # From the devices: its fields are NumPy's.
    prob = dict(zip(("", "_uniform", "_fitted"), rng.dirichlet(np.ones(2), (3, N)), strict=True))
    usual = {
        "ids": np.array([f"image{i}" for i in range(N)]),
        "errors": errors,
        "diagnostics": {
            "spread_mm": rng.uniform(10, 20, (N, 24)).astype(np.float32),
            "seen": rng.uniform(size=(N, 24)) < 0.5,
            "best_hypothesis": np.array([0, 0, 0, 0, 1, 1, 3, 3]),
            "spread_hidden_mm": np.array([1, 2, 3, np.nan, 5, 6, 7, 8], np.float32),
            "beta_norm": np.full(N, np.nan, np.float32),
            "energy_mm|2": np.arange(N, dtype=np.float32),
            "occlusion": np.array([0, 0, 0, 1, 1, 1, 2, 0]),
        },
        "single": {"first": {"mpjpe": rng.uniform(50, 90, N)}},
        "calibration": {"2": gathered(rng.integers(0, 2, N), prob)},
        "curves": {
            "random": {"mpjpe": np.tile(np.arange(4.0, 0, -1), (N, 1))},
            "quantized": {"mpjpe": np.ones((N, 2))},
        },
    }
    return results.Findings(**usual | fields)


@pytest.fixture(scope="module")
def found():
    return findings()


def test_batches_are_joined_in_order_and_rows_keep_theirs(found):
    first, second = (
        results.ordered_map(lambda values, rows=rows: values[rows], found) for rows in (slice(3), slice(3, N))
    )
    joined = results.join([first, second])
    assert joined.ids.tolist() == found.ids.tolist() and list(joined.errors) == list(NAMES)
    np.testing.assert_array_equal(joined.errors["ours"]["2"]["vertex"], found.errors["ours"]["2"]["vertex"])
    for ending, prob in found.calibration["2"].prob.items():
        np.testing.assert_array_equal(joined.calibration["2"].prob[ending], prob)


def test_means_and_pairs(found):
    means = results.of_metrics(found)
    assert means["ours"]["2"]["mpjpe"]["mean"] == pytest.approx(found.errors["ours"]["2"]["mpjpe"].mean())
    assert results.of_single(found, None)["first"]["mpjpe"]["count"] == N
    rows = results.comparisons(found, "ours", ["random n of the M"])
    assert [(row["n"], row["metric"]) for row in rows] == [
        (n, metric) for n in (1, 2) for metric in ("mpjpe", "pa_mpjpe")
    ]
    own, other = (found.errors[name]["2"]["mpjpe"] for name in NAMES[:2])
    assert rows[2]["mean"] == pytest.approx((own - other).mean()) and rows[2]["control"] == "random n of the M"


def test_diagnostics_are_means_of_what_was_measured_and_count_the_hypotheses_in_use(found):
    told = results.diagnose(found, M, fixture.settings())
    assert told["spread_hidden_mm"]["count"] == 7 and "beta_norm" not in told and "seen" not in told
    assert told["energy_mm"]["2"]["mean"] == pytest.approx(3.5)
    assert (told["hypotheses_ever_best"], told["hypotheses_never_best"]) == (3, 1)
    share = np.array([0.5, 0.25, 0.25])
    assert told["hypotheses_in_use"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    ratio = found.errors["ours, evidence shuffled"]["1"]["mpjpe"].mean() / found.errors["ours"]["1"]["mpjpe"].mean()
    assert told["worse_when_shuffled"] == pytest.approx(ratio - 1)
    assert "hypotheses_in_use" not in results.diagnose(found, M, fixture.settings(exchangeable=True))


def test_calibration_has_the_scores_of_a_sharpness_only_where_one_was_fitted(found):
    settings = fixture.settings(temperature=0.3, sharpness={"prior": {"": 0.5}})
    one = found.calibration["2"]
    fitted = results.of_calibration(found.calibration, settings)["2"]
    assert (fitted["weights"], fitted["temperature"], fitted["sharpness"]) == ("prior", 0.3, 0.5)
    hit, prob = np.asarray(one.hit), np.asarray(one.prob["_fitted"])
    assert fitted["bins_fitted"] == calibration.bins(prob, calibration.outcomes(hit, 2))
    told = calibration.scores(hit, prob)
    assert told == {name.removesuffix("_fitted"): fitted[name] for name in (f"{own}_fitted" for own in told)}
    its = one.replace(prob={"": one.prob[""], "_uniform": one.prob["_uniform"], "_scores": prob})
    bare = results.of_calibration({"2": its}, settings)["2"]
    assert bare.pop("scores") == told and bare == {name: fitted[name] for name in bare}
    assert not [name for name in bare if "fitted" in name or name == "sharpness"]
    its = its.replace(prob=its.prob | {"_scores_fitted": prob})
    settings = fixture.settings(sharpness={"prior": {"": 0.5, "_scores": 2.0}})
    learned = results.of_calibration({"2": its}, settings)["2"]["scores"]
    assert learned == told | {"sharpness": 2.0} | {f"{name}_fitted": value for name, value in told.items()}


def test_what_prediction_uses_of_the_choices(found, monkeypatch):
    monkeypatch.setattr(results.sources, "source_name", lambda config, name: f"{name}-1")
    evaluation = fixture.evaluation(fixture.made(hmr=False, weights="scores_and_prior", scored=True))
    fits = {
        row: {"chosen": {"prior": p, "temperature": t, "sharpness": s, "sharpness_scores": 0.9}}
        for row, p, t, s in (("refined", 0.3, 0.1, 0.5), ("refined_prior", 0.1, 1.0, 0.6))
    } | {"refined_scores": {"chosen": {"prior": 0.2, "sharpness": 0.0}}}
    settings = fixture.settings(weights="scores_and_prior", temperatures={"scores_and_prior": 0.5, "prior": 0.3})
    settings = dataclasses.replace(
        settings, sharpness={"scores_and_prior": {"": 0.7, "_scores": 0.8}, "prior": {"": 1.2}}
    )
    result = results.describe(evaluation, {})
    refined = {"2": found.calibration["2"]}
    results.add_set(result, evaluation, "a", findings(calibration_refined=refined), [], results.Choices(settings, fits))
    assert result["calibration_refined"]["a"]["2"]["temperature"] == 0.1
    assert result["calibration"]["a"]["2"]["temperature"] == 0.5
    assert (result["temperature"], result["temperatures"]) == (0.5, {"scores_and_prior": 0.5, "prior": 0.3})
    assert result["sharpness"] == {"scores_and_prior": 0.7, "prior": 1.2}
    both = result["calibration"]["a"]["2"], result["calibration_refined"]["a"]["2"]
    assert [its["sharpness"] for its in both] == [0.7, 0.5]
    assert result["fitting"] == {
        "prior": 0.3,
        "temperature": 0.1,
        "temperatures": {"scores_and_prior": 0.1, "prior": 1.0},
        "sharpness": {"scores_and_prior": 0.5, "prior": 0.6, "scores": 0.0},
    }


def test_learned_scores_are_measured_in_the_clusters_of_the_main_row():
    found = findings()
    one = found.calibration["2"]
    one.prob.pop("_fitted")
    hit, prob = np.asarray(one.hit), np.asarray(one.prob[""])
    scored = one.replace(prob=one.prob | {"_scores": prob[:, ::-1]})
    its = results.of_calibration({"2": scored}, fixture.settings(weights="scores"))["2"]
    assert its["scores"] == calibration.scores(hit, prob[:, ::-1])
    assert (its["weights"], its["temperature"]) == ("scores", 0.0)
    assert its["log_loss"] == calibration.log_loss(prob, hit) != its["scores"]["log_loss"]
    arrays = results.per_example({"a": findings(calibration={"2": scored}, calibration_refined={"2": one})})
    kept = {f"{name}{ending}" for name in ("log_loss", "top_probability", "top_true") for ending in ("", "_uniform")}
    of_scores = {f"{name}_scores" for name in ("log_loss", "top_probability", "top_true")}
    assert {key for key in arrays if "calibration" in key} == {
        *(f"a|calibration|2|{name}" for name in kept | of_scores),
        *(f"a|calibration_refined|2|{name}" for name in kept),
    }
    for ending, told in (("", its), ("_scores", its["scores"])):
        assert arrays[f"a|calibration|2|log_loss{ending}"].mean() == pytest.approx(told["log_loss"], rel=1e-5)


def test_frames_of_videos_have_intervals_of_blocks_and_results_of_each_camera():
    ids = np.array([f"set/test/{camera}/{frame:06d}" for frame in range(4) for camera in ("cam01", "cam02")])
    found, protocol = findings(ids=ids), protocols.PROTOCOLS["limbs"]
    timeline = results.timeline_of(found, protocol)
    assert timeline is not None and timeline.frame.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and timeline.block == 20
    values = np.asarray(found.errors["ours"]["2"]["mpjpe"])
    told = results.of_metrics(found, timeline)["ours"]["2"]["mpjpe"]
    assert (told["low"], told["high"]) == timeline.interval(values)
    taken = results.of_single(found, timeline)["first"]["mpjpe"]
    assert (taken["low"], taken["high"]) == timeline.interval(np.asarray(found.single["first"]["mpjpe"]))
    cameras = results.of_cameras(found, timeline)
    assert list(cameras) == ["cam01", "cam02"]
    assert cameras["cam02"]["ours"]["2"]["mpjpe"]["mean"] == pytest.approx(values[1::2].mean())
    rows = results.comparisons(found, "ours", ["random n of the M"], timeline)
    own, other = (np.asarray(found.errors[name]["1"]["mpjpe"]) for name in NAMES[:2])
    difference = own - other
    assert (rows[0]["low"], rows[0]["high"]) == timeline.interval(difference)
    assert results.timeline_of(found, protocols.PROTOCOLS["strict"]) is None
    with pytest.raises(
        ValueError, match=r"Protocol 'limbs' is for frames of videos. .* end in CAMERA/FRAME; got 'image0'"
    ):
        results.timeline_of(findings(), protocol)


def test_curves_have_a_mean_for_every_n(found):
    curves = results.of_curves(found)
    assert curves == {"n": [1, 2, 3, 4], "random": {"mpjpe": [4, 3, 2, 1]}, "quantized": {"mpjpe": [1, 1]}}
    assert results.of_curves(findings(curves={})) == {}


def test_hiding_is_measured_on_the_same_people(found):
    hidden = findings(1)
    told = results.same_people({"plain": found, "hidden": hidden}, "ours")
    assert [entry["examples"] for entry in told.values()] == [4, 3]  # A strategy of one image has no interval.
    rows = np.array([3, 4, 5])
    difference = hidden.errors["ours"]["1"]["mpjpe"] - found.errors["ours"]["1"]["mpjpe"]
    assert [*told.values()][1]["single_mpjpe"]["mean"] == pytest.approx(difference[rows].mean())
    gone = found.diagnostics["seen"] & ~hidden.diagnostics["seen"]
    wider = hidden.diagnostics["spread_mm"] - found.diagnostics["spread_mm"]
    own = [wider[i][gone[i]].mean() for i in rows]
    assert [*told.values()][1]["spread_of_hidden_joints_mm"]["mean"] == pytest.approx(np.mean(own), rel=1e-5)
    assert results.same_people({"plain": found}, "ours") == {}
    others = findings(ids=np.array([f"other{i}" for i in range(N)]))
    assert results.same_people({"plain": found, "others": others}, "ours") == {}


def test_per_example_arrays_have_every_row_and_the_scalars(found):
    arrays = results.per_example({"a": found, "b": findings(1)})
    assert arrays["a|example_id"].tolist() == found.ids.tolist()
    np.testing.assert_array_equal(arrays["b|ours|2|mpjpe"], findings(1).errors["ours"]["2"]["mpjpe"])
    assert {"a|diagnostic|spread_hidden_mm", "a|single|first|mpjpe", "a|curve|random|mpjpe"} <= set(arrays)
    assert not {"a|diagnostic|seen", "a|diagnostic|spread_mm", "a|diagnostic|best_hypothesis"} & set(arrays)


def test_published_numbers_stand_beside_those_of_the_main_row():
    means = {n: {"mpjpe": {"mean": 60.0}, "pa_mpjpe": {"mean": 40.0}} for n in ("1", "5")}
    rows = results.PUBLISHED["h36m"](means)
    assert [(row["n"], row["metric"]) for row in rows] == [(n, m) for n in (1, 5) for m in ("mpjpe", "pa_mpjpe")]
    assert rows[0]["difference"] == pytest.approx(60.0 - 61.517)


@pytest.mark.slow
def test_the_head_says_what_was_evaluated_and_the_files_are_replaced_together(tmp_path, found, monkeypatch):
    monkeypatch.setattr(results.sources, "load_people", tiny.load_people)
    evaluation = fixture.evaluation(fixture.made())
    result = results.describe(evaluation, {"init": None, "training_seconds": 3.0})
    assert result["label"] == "ours" and result["num_hypotheses"] == fixture.M and result["training_seconds"] == 3.0
    assert list(result["steps"]) == ["ours", methods.HMR] and result["protocol"]["name"] == "strict"
    monkeypatch.setattr(results.sources, "source_name", lambda config, name: f"{name}-1")
    rows = methods.rows(evaluation)
    choices = results.Choices(evaluation.settings, {"temperature": {"chosen": 0.3}}, {"cvae": {"kl": 1.0}})
    results.add_set(result, evaluation, "a", found, rows, choices)
    assert result["tuned_on_validation"]["a"] == choices.tuned and result["cvae"]["a"] == {"kl": 1.0}
    assert result["temperature"] == 0.5 and result["datasets"]["a"]["examples"] == N
    monkeypatch.setattr(results.results_page, "markdown", lambda result: "page")
    results.write(tmp_path, result, results.per_example({"a": found}))
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["metrics"] == result["metrics"]
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == "page\n" and len(list(tmp_path.iterdir())) == 3
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(TypeError):
        results.write(tmp_path, result | {"a number": object()}, {})
    assert (tmp_path / "results.json").read_bytes() == before
