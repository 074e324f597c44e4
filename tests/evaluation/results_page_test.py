"""The page of one evaluation: a row for each method, what was chosen, and what an inspection found."""

import dataclasses

import pytest

from multibodies_jax.evaluation import methods, results, results_page
from tests.evaluation import results_test
from tests.helpers import evaluation_fixture as fixture
from tests.helpers import tiny


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results.sources, "source_name", lambda config, name: f"{name}-1")
        patch.setattr(results.sources, "load_people", tiny.load_people)
        return _result()


def _result():
    evaluation = fixture.evaluation(fixture.made())
    found = results.describe(evaluation, {})
    tuned = {"temperature": {"chosen": 0.3}, "noise_deg": {"mpjpe-2": {"root": 2.5, "pose": 4.0}}}
    settings = dataclasses.replace(evaluation.settings, sharpness={"prior": {"": 0.7}})
    choices = results.Choices(settings, tuned)
    findings = results_test.findings()
    scalars = {name: findings.diagnostics["energy_mm|2"] for name in ("spread_visible_mm", "effective_printed")}
    scalars |= {"effective_tuned": findings.diagnostics["energy_mm|2"]}
    scalars |= {name: 0 * scalars["effective_tuned"] + 0.25 for name in ("silhouette_iou", "hmr_silhouette_iou")}
    findings = results_test.findings(diagnostics={**findings.diagnostics, **scalars})
    results.add_set(found, evaluation, "a", findings, methods.rows(evaluation), choices)
    return found | {"same_people": results.same_people({"a": findings, "b": findings}, "ours")}


@pytest.mark.slow
def test_the_page_has_every_row_and_choice(result):
    text = results_page.markdown(result)
    means = result["metrics"]["a"]["ours"]["2"]
    cell = f"{means['mpjpe']['mean']:.1f} ± {means['mpjpe']['ci95']:.1f}"
    assert "| method | MPJPE-1 | RE-1 | MPJPE-2 | RE-2 |" in text and cell in text
    for name in results_test.NAMES:
        assert f"\n| {name} | " in text
    assert "- a: temperature 0.3." in text and "mpjpe-2 2.5/4" in text
    assert "Hypotheses ever best: 3; never: 3" in text
    assert "the person's, intersection over union: 0.25 (of HMR: 0.25)." in text


@pytest.mark.parametrize("ns", [("5",), ("5", "9")])
def test_every_number_of_the_table_stands_under_or_beside_its_n(ns, result):
    """Where the main row has one n alone, too."""

    def sets(*ns):
        return {n: {"mpjpe": {"mean": 50.0 + int(n), "ci95": 1.0}} for n in ns}

    shown = {"ours": sets(*ns), methods.HMR: sets("1"), "all M = 12": sets("12")}
    lines = results_page.markdown(result | {"metrics": {"a": shown}}).splitlines()
    header, _, ours, hmr, every = lines[next(i for i, line in enumerate(lines) if line.startswith("| method |")) :][:5]
    assert header == "| method | " + " | ".join(f"MPJPE-{n}" for n in ("1", *ns)) + " |"
    assert ours == "| ours |  | " + " | ".join(f"{50 + int(n)}.0 ± 1.0" for n in ns) + " |"
    assert hmr == f"| {methods.HMR} | 51.0 ± 1.0 |" + "  |" * len(ns)
    assert every == "| all M = 12, n = 12: 62.0 ± 1.0 |" + " |" * (1 + len(ns))


@pytest.mark.slow
def test_uniform_weights_have_no_temperature(result):
    config = result["config"] | {"quantizer": result["config"]["quantizer"] | {"weights": "uniform"}}
    none = {"temperature": 0.0, "weights": "uniform"}
    calibration = {n: scores | none for n, scores in result["calibration"]["a"].items()}
    text = results_page.markdown(result | {"config": config, "calibration": {"a": calibration}})
    assert "| 2 | uniform weights | " in text and "| 2 | 0.000" not in text and "- a: temperature" not in text


@pytest.mark.slow
def test_learned_scores_are_named_and_have_columns_of_their_own(result):
    config = result["config"] | {"quantizer": result["config"]["quantizer"] | {"weights": "scores"}}
    learned = {"ece": 0.1, "top_ece": 0.125, "log_loss": 1.5, "sharpness": 1.3, "top_ece_fitted": 0.011}
    its = {"temperature": 0.0, "weights": "scores", "scores": learned | {"log_loss_fitted": 1.45}}
    calibration = {n: scores | its for n, scores in result["calibration"]["a"].items()}
    text = results_page.markdown(result | {"config": config, "calibration": {"a": calibration}})
    assert "Not the usual setting: quantized with learned scores." in text
    assert "| 2 | learned scores | " in text and "log loss, learned scores | sharpness fitted, learned scores |" in text
    assert "| 0.125 | 1.500 | 1.300 | 0.011 | 1.450 |" in text and "| 0.700 | " in text


@pytest.mark.slow
def test_each_camera_of_a_set_has_a_table_with_intervals_of_blocks(result):
    summary = {"mean": 50.0, "ci95": 1.0, "low": 44.0, "high": 56.0}
    row = {"1": {"mpjpe": summary, "other_views_px": summary}}
    cameras = {"a": {"cam01": {"ours": row, methods.HMR: row, "random n of the M": row}}}
    frames = {"frame": "a camera that looks at the crop's centre", "block": 20}
    text = results_page.markdown(result | {"cameras": cameras, "protocol": {**result["protocol"], **frames}})
    its = text.partition("Camera cam01:")[2].partition("Paired difference")[0]
    assert "| method | MPJPE-1 | other views, px-1 |" in its and "| ours | 50.0 ± 6.0 | 50.0 ± 6.0 |" in its
    assert f"| {methods.HMR} | 50.0" in its and "random" not in its
    assert "In the frame of a camera that looks at the crop's centre. Intervals are of blocks of 20 frames." in text


@pytest.mark.slow
def test_a_run_that_was_trained_on_says_so(result):
    text = results_page.markdown(result | {"extended": [{"at_step": 6, "planned_steps": 9}]})
    assert "trained on at step 6, after a schedule of 9 steps" in text


@pytest.mark.slow
def test_an_inspection_is_told_in_the_words_of_its_network(result):
    found = {"kl": 3.0, "verdict": "neither", "error_encoded_mm": 1.0, "error_sampled_mm": 2.0, "spread_mm": 3.0}
    text = results_page.markdown(
        result | {"model": "smpl_cvae", "cvae": {"a": found, "b": {"verdict": "not measured"}}}
    )
    assert "- a: SMPL-CVAE, collapsed or cheating: neither (3.0 nats in z; error with the encoded z 1.0 mm" in text
    assert "- b: SMPL-CVAE" not in text
    assert "SMPL-CVAE" not in results_page.markdown(result)
