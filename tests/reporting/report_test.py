"""Reports of many work directories: what they print, and what they refuse."""

import csv
import json
import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from multibodies_jax import io
from multibodies_jax.body import body_files
from multibodies_jax.evaluation import results_page
from multibodies_jax.reporting import __main__ as command
from multibodies_jax.reporting import document, extras, files, page_data, plots, runs, tables, text
from tests.helpers import report_fixture, tiny

CLEAN, HARD = report_fixture.SETS
KINDS = {
    "ours": ("multibodies", 0.0, {}),
    "mdn": ("smpl_mdn", 6.0, {}),
    "hmr": ("hmr", 3.0, {}),
    "plain": ("multibodies", 2.0, {"loss__reprojection_all": 0.0}),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two seeds of four methods, of which no test changes a file."""
    folder = tmp_path_factory.mktemp("workdirs")
    for seed in (0, 1):
        for name, (model, level, changes) in KINDS.items():
            report_fixture.make(folder / f"{name}_{seed}", model, seed, level, **changes)
    report_fixture.make(
        folder / "released_0", "multibodies", 0, 2.0, loss__reading="released", model__num_hypotheses=25
    )
    return folder


@pytest.fixture(scope="module")
def cast(root):
    return runs.cast(runs.find(f"{root}/*")[0])


@pytest.fixture
def copy(root, tmp_path):
    """One work directory of ours to spoil, and another beside it."""
    shutil.copytree(root / "ours_0", tmp_path / "a")
    shutil.copytree(root / "mdn_0", tmp_path / "b")
    return tmp_path


def refused(*paths):
    with pytest.raises(runs.RefusedError) as error:
        runs.cast(list(paths))
    return str(error.value)


def test_seeds_are_pooled_and_ablations_said_in_words(cast):
    labels = {group.label: group.seeds for group in cast.groups}
    assert labels == {
        "HMR (M = 1)": (0, 1),
        "SMPL-MDN": (0, 1),
        "ours": (0, 1),
        "ours, no hypothesis re-projection": (0, 1),
        "ours, released losses, M = 25": (0,),
    }
    ours = cast.reference("multibodies")
    assert ours is not None and ours.label == "ours" and not ours.differs
    stack = ours.stack(f"{HARD}|ours|5|mpjpe", (1,))
    np.testing.assert_array_equal(stack[0], report_fixture.errors(8.0, 1))


def test_table_1_has_methods_controls_and_the_means_of_both_seeds(cast):
    rows = tables.cells(tables.table1(cast, HARD), HARD)
    assert list(dict.fromkeys(row["method"] for row in rows)) == [
        "HMR (M = 1)",
        "SMPL-MDN",
        "ours",
        "SMPL-MDN, quantized",
        "SMPL-MDN, all M = 50",
        "ours, all M = 50",
        "random n of the M",
        "HMR + tuned noise",
        "image-independent",
    ]
    (ours,) = [r for r in rows if (r["method"], r["n"], r["metric"]) == ("ours", 5, "mpjpe")]
    seeds = [report_fixture.errors(8.0, seed).astype(float) for seed in (0, 1)]
    assert ours["mean"] == pytest.approx(np.mean(seeds))
    assert (ours["seeds"], ours["seed_min"]) == (2, pytest.approx(min(map(np.mean, seeds))))
    assert ours["low"] < ours["mean"] < ours["high"]


def test_refined_rows_are_a_table_of_their_own_with_the_controls_on_the_same_terms(cast):
    assert [row.label for row in tables.refined(cast, HARD)] == [
        "HMR (M = 1), refined",
        "SMPL-MDN, refined",
        "ours, refined",
        "ours, refined, learned scores",
        "HMR + tuned noise, refined",
    ]
    tested = tables.tests(cast, HARD)
    at = {(r["against"], r["n"]): r for r in tested if (r["method"], r["metric"]) == ("ours, refined", "mpjpe")}
    difference = np.mean([report_fixture.errors(3.0, s) - report_fixture.errors(10.0, s) for s in (0, 1)])
    assert at["SMPL-MDN, refined", 10]["mean"] == pytest.approx(difference, rel=1e-5)
    assert at["ours", 5]["verdict"] == at["SMPL-MDN, refined", 10]["verdict"] == "better"
    claims = {(r["claim"], r["n"], r["metric"]): r["outcome"] for r in tables.order(cast, HARD, tested, [])}
    assert claims["ours, refined below SMPL-MDN, refined", 25, "mpjpe"] == "holds"
    assert claims["ours, refined not worse than HMR (M = 1), refined", 1, "mpjpe"] == "holds"
    assert claims["ours, refined below ours as predicted", 25, "pa_mpjpe"] == "holds"


@pytest.mark.slow
def test_the_row_that_leads_is_below_every_row_of_other_methods_at_every_n(cast):
    found = [row for row in tables.leading(cast, HARD) if row["metric"] == "mpjpe"]
    first, second = found[:2]
    assert first["method"] == "ours, refined" and second["method"] == "ours, refined, learned scores"
    # At n = 1 HMR and HMR refined; at every n noise, image-independent and random n, noise refined, and MDN three times.
    assert (first["others"], first["below"], first["above"]) == (2 + 4 * 7, 30, 0)
    assert first["against"].endswith(", refined") and -6 < first["mean"] < first["high"] < 0
    last = found[-1]
    assert last["method"] == "image-independent" and last["above"] == last["others"] and last["below"] == 0


def test_tests_are_paired_and_the_order_follows(cast):
    tested = tables.tests(cast, HARD)
    at = {(r["against"], r["n"], r["metric"]): r for r in tested if r["method"] == "ours"}
    row = at["SMPL-MDN", 10, "mpjpe"]
    difference = np.mean([report_fixture.errors(6.0, s) - report_fixture.errors(12.0, s) for s in (0, 1)])
    assert row["mean"] == pytest.approx(difference, rel=1e-5)
    assert row["verdict"] == "better" and row["same_sign"] == 2 and row["p"] < 1e-6 and row["high"] - row["low"] < 3
    assert ("HMR (M = 1)", 5, "mpjpe") not in at  # It was not measured.
    assert next(r["against"] for r in tested if r["method"] == "ours, all M = 50") == "SMPL-MDN, all M = 50"
    order = tables.order(cast, HARD, tested, tables.against_reference(cast, HARD))
    claims = {(r["claim"], r["n"], r["metric"]): r["outcome"] for r in order}
    assert claims["ours below SMPL-MDN", 25, "pa_mpjpe"] == "holds"
    assert claims["ours not worse than HMR (M = 1)", 1, "mpjpe"] == "holds"
    assert claims["error falls from n = 1 to 5: ours", 5, "mpjpe"] == "holds"
    assert claims["ours not worse than without the re-projection loss", 25, "mpjpe"] == "holds"
    assert claims["ours not worse than without the flow weights", 5, "mpjpe"] == "holds"
    clean = tables.order(cast, CLEAN, tables.tests(cast, CLEAN), [])
    assert not any(r["claim"].startswith("ours below") for r in clean)  # Expected of ambiguous images only.


def test_a_stronger_setting_of_a_baseline_is_met_too(tmp_path):
    ours, plain = (
        report_fixture.make(tmp_path / "a", level=0.0),
        report_fixture.make(tmp_path / "b", "smpl_mdn", 0, 6.0),
    )
    strong = report_fixture.make(tmp_path / "c", "smpl_mdn", 0, -1.0, mdn__root="mixture")
    again = report_fixture.make(tmp_path / "d", seed=1, level=0.0)  # Of this seed there is ours alone.
    tested = tables.tests(runs.cast([ours, plain, strong, again]), HARD)
    found = {r["against"]: r["verdict"] for r in tested if (r["n"], r["metric"]) == (10, "mpjpe")}
    assert found["SMPL-MDN"] == "better" and found["SMPL-MDN, global rotation in the mixture"] == "worse"


@pytest.mark.parametrize(
    ("low", "high", "strict", "outcome"),
    [
        (-2.0, -1.0, True, "holds"),
        (-1.0, 2.0, True, "not shown"),
        (-1.0, 2.0, False, "not refuted"),
        (1.0, 2.0, False, "does not hold"),
    ],
)
def test_a_claim_is_decided_by_its_interval(low, high, strict, outcome):
    row = {"set": HARD, "n": 5, "metric": "mpjpe", "mean": (low + high) / 2, "low": low, "high": high}
    assert tables.decided(row, "ours below another", strict)["outcome"] == outcome


def test_single_hypotheses_are_told_with_their_means(cast):
    rows = {(r["method"], r["taken"], r["metric"]): r["mean"] for r in extras.single(cast, CLEAN)}
    expected = np.mean([report_fixture.errors(7.0, seed) for seed in (0, 1)])
    assert rows["SMPL-MDN", "first", "mpjpe"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_diagnostics_and_dead_hypotheses_are_told_and_seeds_that_differ(cast):
    spread = {r["method"]: r["mean"] for r in extras.diagnostics(cast, HARD) if r["name"] == "spread_hidden_mm"}
    hidden = [np.arange(report_fixture.IMAGES) % 2 == 1, [20.0 + report_fixture.errors(0, seed) for seed in (0, 1)]]
    assert spread["ours"] == pytest.approx(np.mean([values[hidden[0]] for values in hidden[1]]), rel=1e-5)
    dead = {r["method"]: r["mean"] for r in extras.numbers(cast, HARD) if r["name"] == "hypotheses_never_best"}
    assert dead["ours"] == 7.5 and "SMPL-MDN" not in dead  # Its hypotheses are exchangeable.
    assert any("Not all methods have the same seeds" in note for note in document.build(cast, "all", [])["notes"])


@pytest.mark.slow
def test_what_is_not_alike_is_said(tmp_path):
    """A lone ablation, other losses, a single body by another name, a control of another budget."""
    ours = report_fixture.make(tmp_path / "a", level=0.0, loss__reading="released", loss__reprojection_all=0.0)
    mdn = report_fixture.make(tmp_path / "b", "smpl_mdn", 0, 6.0)
    body = report_fixture.make(tmp_path / "c", "multibodies", 0, 30.0, model__num_hypotheses=1)
    report_fixture.edit(ours, lambda result: result["images_seen"].update({"HMR (M = 1)": 10}))
    cast = runs.cast([ours, mdn, body])
    assert [group.label for group in cast.groups] == ["HMR (M = 1)", "SMPL-MDN", "ours"]
    rows = tables.table1(cast, HARD)
    assert "HMR + tuned noise" not in [row.label for row in rows]
    notes = " ".join(document.build(cast, "all", [])["notes"])
    assert "trained on another number of images or from other weights" in notes
    assert "no ours without its ablations; the one in the tables: no hypothesis re-projection, released losses" in notes
    assert "loss.reading = 'paper', ours with 'released'" in notes


def test_one_evaluation_says_what_is_unusual_about_it():
    def said(**changes):
        config = tiny.config(**changes)
        result = {"config": json.loads(config.to_json_best_effort()), "model": config.model.name}
        return results_page.unusual_settings(result | {"num_hypotheses": config.model.num_hypotheses})

    assert said() == said(model__name="smpl_mdn") == []
    assert said(model__name="hmr", model__num_hypotheses=1, loss__mode0=False, quantizer__weights="uniform") == []
    (line,) = said(loss__reprojection_all=0.0, loss__mode0=False, quantizer__weights="uniform")
    words = "no hypothesis re-projection, hypothesis 0 not supervised, quantized with uniform weights"
    assert line == f"Not the usual setting: {words}."
    assert "samples of the mixture" in said(model__name="smpl_mdn", mdn__draw="samples")[0]


@pytest.mark.slow
def test_a_part_of_a_work_directory_and_a_file_as_folder_are_named(copy, capsys):
    (copy / "a" / "hmr").mkdir()
    assert f"{copy / 'a' / 'hmr'} is a part of the work directory {copy / 'a'}" in refused(copy / "a" / "hmr")
    (copy / "file").touch()
    assert command.main(["table1", f"--workdirs={copy / 'a'}", f"--out={copy / 'file'}"]) == 2
    assert "has to be a folder" in capsys.readouterr().err


@pytest.mark.parametrize(("of_hmr", "kept"), [("0" * 16, True), (None, True), ("1" * 16, False)])
def test_an_hmr_beside_ours_counts_if_it_started_alike(tmp_path, of_hmr, kept):
    path = report_fixture.make(tmp_path / "a")
    report_fixture.edit(path, lambda result: result.update(inits={"ours": "0" * 16, "HMR (M = 1)": of_hmr}))
    labels = [row.label for row in tables.table1(runs.cast([path]), HARD)]
    assert ("HMR (M = 1)" in labels) == ("HMR + tuned noise" in labels) == kept


def test_of_two_settings_the_default_one_is_the_reference(tmp_path):
    other = report_fixture.make(tmp_path / "a", "smpl_mdn", 0, 6.0, mdn__weight=0.01)
    usual = report_fixture.make(tmp_path / "b", "smpl_mdn", 0, 6.0, mdn__weight=0.0001)
    assert [group.label for group in runs.cast([other, usual]).groups] == ["SMPL-MDN", "SMPL-MDN, mdn.weight=0.01"]


def test_an_order_that_does_not_hold_is_said(tmp_path):
    worse = report_fixture.make(tmp_path / "a", level=9.0)
    equal = report_fixture.make(tmp_path / "b", "smpl_cvae", 0, 9.0)
    better = report_fixture.make(tmp_path / "c", "smpl_mdn", 0, 3.0)
    alone = report_fixture.make(tmp_path / "d", "hmr", 0, 4.0)
    cast = runs.cast([worse, equal, better, alone])
    order = tables.order(cast, HARD, tables.tests(cast, HARD), [])
    claims = {(r["claim"], r["metric"]): r["outcome"] for r in order if r["n"] in (1, 25)}
    assert claims["ours below SMPL-MDN", "mpjpe"] == "does not hold"
    assert claims["ours below SMPL-CVAE", "mpjpe"] == "not shown"
    assert claims["ours not worse than HMR (M = 1)", "mpjpe"] == "does not hold"


def test_table_2_crosses_the_two_components(cast):
    rows = tables.table2(cast)
    assert [(on, flow, m.group.label, m.method) for on, flow, m in rows] == [
        (False, False, "ours, no hypothesis re-projection", "ours, uniform weights"),
        (False, True, "ours, no hypothesis re-projection", "ours"),
        (True, False, "ours", "ours, uniform weights"),
        (True, True, "ours", "ours"),
    ]
    assert [m.label for m in tables.variants(cast, HARD)] == ["ours, centroids", "ours, released losses, M = 25"]
    ablated = {(r["method"], r["n"], r["metric"]): r for r in tables.against_reference(cast, HARD)}
    row = ablated["ours, released losses, M = 25", 5, "mpjpe"]
    only = report_fixture.errors(10.0, 0).astype(float) - report_fixture.errors(8.0, 0)  # The one seed that both have.
    assert (row["mean"], row["seeds"], row["against"]) == (pytest.approx(only.mean()), 1, "ours")
    assert ("both (ours)", 5, "mpjpe") not in ablated


@pytest.mark.slow
def test_uniform_weights_have_no_temperature(tmp_path):
    def uniform(result):
        for by_n in result["calibration"].values():
            for scores in by_n.values():
                scores["temperature"] = 0.0

    report_fixture.make(tmp_path / "ours", "multibodies", 0, 1.0)
    assert "temperature" in extras.calibration(runs.cast([tmp_path / "ours"]), CLEAN)[0]
    report_fixture.edit(tmp_path / "ours", uniform)
    (row, *_) = extras.calibration(runs.cast([tmp_path / "ours"]), CLEAN)
    assert "temperature" not in row and "ece" in row


@pytest.mark.slow
def test_a_fitted_temperature_and_a_fitted_sharpness_are_not_averaged(tmp_path):
    def older(result):
        for part in ("calibration", "calibration_refined"):
            for by_n in result[part].values():
                for scores in by_n.values():
                    del scores["sharpness"]

    for seed in (0, 1):
        report_fixture.make(tmp_path / f"ours{seed}", "multibodies", seed, 1.0)
    cast = runs.cast([tmp_path / "ours0", tmp_path / "ours1"])
    (row, *_) = extras.calibration(cast, CLEAN)
    assert (row["sharpness"], row["sharpness_scores"], row["ece_fitted"]) == (0.5, pytest.approx(1.9), 0.05)
    assert row["top_ece_scores_fitted"] == 0.02 and row["bins_fitted"][0]["count"] == 60
    report_fixture.edit(tmp_path / "ours1", older)
    (row, *_) = extras.calibration(runs.cast([tmp_path / "ours0", tmp_path / "ours1"]), CLEAN)
    assert not {"sharpness", "ece_fitted"} & row.keys() and not row["bins_fitted"] and "ece" in row


@pytest.mark.slow
def test_the_command_writes_every_form_and_keeps_what_it_does_not_replace(root, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("kept", encoding="utf-8")
    assert command.main(["all", f"--workdirs={root}/*", f"--out={out}"]) == 0
    shown = capsys.readouterr().out
    page = (out / "all.md").read_text(encoding="utf-8")
    assert page in shown and "ours, centroids against ours" in page and "hypotheses never best (dead)" in page
    doc = json.loads((out / "all.json").read_text(encoding="utf-8"))
    assert [row["seed"] for row in doc["fairness"]] == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    with open(out / "all.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    (line,) = [x for x in lines if (x["set"], x["method"], x["n"], x["metric"]) == (CLEAN, "SMPL-MDN", "1", "mpjpe")]
    (row,) = [x for x in doc["sets"][CLEAN]["table1"] if (x["method"], x["n"], x["metric"]) == ("SMPL-MDN", 1, "mpjpe")]
    assert {name: float(line[name]) for name in ("mean", "low", "high", "seed_max")} == {
        name: row[name] for name in ("mean", "low", "high", "seed_max")
    }
    assert "Is one row below all others at every n?" in page and "HMR (M = 1), refined" in page
    assert f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}] ({row['seed_min']:.1f} to" in page
    assert {row["method"] for row in doc["sets"][CLEAN]["calibration"]} >= {
        "ours",
        "ours, refined",
        "SMPL-MDN, refined",
    }
    (found,) = [line for line in page.splitlines() if line.startswith("| SMPL-MDN, refined | 5 |")][:1]
    less = doc["sets"][CLEAN]["calibration"][0]["intervals"]["log_loss_scores_less"]["mean"]
    assert less == pytest.approx(-30 / 1.5, rel=0.05) and f"| {less:+.1f} [{less:+.1f}, {less:+.1f}] |" in page
    assert found.count("[") == 14  # Five log losses, four differences, five calibration errors.
    bins = doc["sets"][CLEAN]["calibration"][0]["bins"]
    assert bins[0] == {"probability": pytest.approx(0.25), "frequency": pytest.approx(0.2), "count": 60}
    figures = {
        f"{kind}_synthetic_bodies_{name}.png"
        for kind in ("every_n", "reliability", "shape")
        for name in ("clean", "ambiguous")
    }
    expected = {
        "all.md",
        "all.csv",
        "all.json",
        "mine.txt",
        "training.png",
        "error_against_n.png",
        "spread.png",
    } | figures
    assert {path.name for path in out.iterdir()} == expected


def test_what_killed_reports_left_is_removed_after_a_day_and_no_other_folder(tmp_path):
    for name, hours in ((".making-0_oldest", 25), (".making-newest_0", 1), ("mine", 25), (".making-of", 25)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "all.md").touch()
        written = time.time() - 3600 * hours
        os.utime(tmp_path / name, (written, written))
    files.remove_left(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".making-newest_0", "mine", ".making-of"}


@pytest.mark.slow
def test_bodies_of_the_methods_are_drawn_for_the_same_images(root, tmp_path, capsys):
    body = body_files.load()
    for name, count in (("ours", 2), ("hmr", 1)):
        shutil.copytree(root / f"{name}_0", tmp_path / name)
        report_fixture.edit(tmp_path / name, lambda r: r.update(body_fingerprint=body.fingerprint))
        report_fixture.add_examples(tmp_path / name, count)
    cast = runs.cast([tmp_path / "ours", tmp_path / "hmr"])
    assert plots.hypotheses(cast, tmp_path / "two.png")
    with Image.open(tmp_path / "two.png") as picture:
        two = picture.size
    report_fixture.add_examples(tmp_path / "ours", 2, "other")  # Of other images than the first method's.
    assert plots.hypotheses(cast, tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.height < 0.6 * two[1]
    assert not capsys.readouterr().err
    examples = tmp_path / "hmr" / "figures" / "examples.npz"
    whole = examples.read_bytes()
    for damaged in (whole[: len(whole) // 2], b""):
        examples.write_bytes(damaged)
        assert plots.hypotheses(cast, tmp_path / "one.png")
        told = capsys.readouterr().err
        assert told.startswith("left out of the figure of bodies: ") and str(examples) in told and "again" in told
    report_fixture.edit(tmp_path / "ours", lambda r: r.update(body_fingerprint="0"))
    report_fixture.edit(tmp_path / "hmr", lambda r: r.update(body_fingerprint="0"))
    cast = runs.cast([tmp_path / "ours", tmp_path / "hmr"])
    assert not plots.hypotheses(cast, tmp_path / "none.png")  # Another body: no mesh that could be drawn.


def test_a_report_that_fails_leaves_the_old_one(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(plots, "draw", lambda *_: [])
    assert command.main(["table1", f"--workdirs={root}/hmr_0", f"--out={out}"]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(before) == {"table1.md", "table1.csv", "table1.json"}

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(text, "long_csv", full)
    assert command.main(["table1", f"--workdirs={root}/hmr_1", f"--out={out}"]) == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.slow
def test_the_papers_numbers_stand_below_ours_where_the_set_is_theirs(tmp_path):
    path = report_fixture.make(tmp_path / "a", eval__published="3dpw")
    shown = text.markdown(document.build(runs.cast([path]), "all"))
    assert "| SMPL-CVAE, paper | 96.3 | 93.7 | 92.9 | 92.0 |  |" in shown
    assert "| SPIN, paper | 96.9 |  |  |  |  |" in shown and "| both, paper |  | 82.2 | 79.4 | 75.8 |" in shown
    assert "No work directory of SMPL-MDN, SMPL-CVAE was given" in shown
    assert "its row is the one trained on beside ours" in shown and "without the hypothesis re-projection loss" in shown


@pytest.mark.slow
def test_without_a_single_body_its_rows_are_left_out_with_a_note(tmp_path):
    path = report_fixture.edit(
        report_fixture.make(tmp_path / "a"), lambda r: r["images_seen"].update({"HMR (M = 1)": 1})
    )
    doc = document.build(runs.cast([path]), "table1")
    assert "its rows are left out" in " ".join(doc["notes"])
    assert not any("HMR" in row["method"] for row in doc["sets"][HARD]["table1"])


def _lose_seal(result):
    """The key of its checksum is damaged beyond resemblance."""
    result.update(io.sealed(result | {"schema": 3}))
    result["qqqqqq"] = result.pop(io.SEAL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["protocol"].update(name="released"), "evaluated under protocol .* 'released'"),
        (lambda r: r["protocol"].update(joints=["a"]), "under a protocol with the fields"),
        (lambda r: r.update(split="validation"), "on split .* 'validation'"),
        (lambda r: r["datasets"][CLEAN].update(fingerprint="x"), f"on images of {CLEAN} "),
        (lambda r: r["datasets"].pop(CLEAN), "on the sets"),
        (lambda r: r.update(body_fingerprint="e" * 64), "with a body"),
        (lambda r: r["config"]["quantizer"].update(weights="uniform"), "with the quantizer"),
        (lambda r: r["config"]["eval"].update(vertex_stride=1), "vertex_stride"),
        (lambda r: r["images_seen"].update({"SMPL-MDN": 99}), "trained on 99 images, .* on 320"),
        (lambda r: r["init"].update(fingerprint="0" * 15 + "9"), "started from the weights '?0000000000000009"),
        (lambda r: r.update(schema=1), "has schema 1, where 2 and 3 are read: evaluate it again"),
        (lambda r: r.pop("init"), r"damaged or incomplete \(init\)"),
        (lambda r: r["init"].pop("fingerprint"), r"damaged or incomplete \(init\)"),
        (lambda r: r["steps"].update({"SMPL-MDN": 39}), "are of step 39, its latest checkpoint is step 40"),
        (lambda r: r["config"]["optim"].update(learning_rate=1.0), r"another training than .*\(optim.learning_rate\)"),
        (lambda r: r.update(model="nerf"), "of a model 'nerf'"),
        (lambda r: r["metrics"][HARD]["SMPL-MDN"]["5"]["mpjpe"].update(mean=1.0), "of different evaluations"),
        (lambda r: r["datasets"][CLEAN].update(examples=59), "60 images of .*, results.json 59"),
        (lambda r: r["metrics"][HARD]["SMPL-MDN"]["5"]["pa_mpjpe"].update(ci95=0.1), "of different evaluations"),
        (lambda r: r["metrics"][HARD]["SMPL-MDN"]["5"].pop("mpjpe"), "of different evaluations"),
        (
            lambda r: r["metrics"][HARD]["SMPL-MDN"]["5"]["mpjpe"].update(mean=np.nan),
            r"5.mpjpe.mean is nan, and a finite",
        ),
        (lambda r: r["calibration"][CLEAN]["5"].update(ece=1.5), r"5.ece is 1.5, and a number from 0 to 1 was"),
        (lambda r: r["calibration"][CLEAN]["5"]["bins"][1].update(count=-1), r"bins\[1\].count is -1"),
        (lambda r: r.update(temperature=1e9), "temperature is 1000000000.0, and a number from above 0 to 100 was"),
        (lambda r: r.update(sha256="0" * 64), r"results.json was changed since .*\(its own sha256 differs"),
        (lambda r: r.update(schema=3), r"results.json was changed since .*or is absent\)"),
        (_lose_seal, r"was changed since"),
        (lambda r: r.update(schema=[3]), r"has schema \[3\]"),
    ],
)
def test_what_is_not_comparable_is_refused_with_the_reason(copy, change, message):
    report_fixture.edit(copy / "b", change)
    with pytest.raises(runs.RefusedError, match=message):
        runs.cast([copy / "a", copy / "b"])


def test_a_sealed_result_is_read_and_errors_below_0_are_not(copy):
    report_fixture.edit(copy / "b", lambda r: r.update(io.sealed(r | {"schema": 3})))
    runs.cast([copy / "a", copy / "b"])
    arrays = dict(np.load(copy / "b" / "per_example.npz"))
    arrays[f"{HARD}|SMPL-MDN|5|mpjpe"][3] = -1
    np.savez(copy / "b" / "per_example.npz", allow_pickle=False, **arrays)
    with pytest.raises(runs.RefusedError, match="has errors below 0 or above inf"):
        runs.cast([copy / "a", copy / "b"])


def test_what_is_misspelt_is_not_absent(copy):
    arrays = dict(np.load(copy / "b" / "per_example.npz"))
    arrays[f"{HARD}|SMPL-MDN|5|mpipe"] = arrays.pop(f"{HARD}|SMPL-MDN|5|mpjpe")
    np.savez(copy / "b" / "per_example.npz", allow_pickle=False, **arrays)
    assert f"lacks '{HARD}|SMPL-MDN|5|mpjpe', whose mean is in results.json" in refused(copy / "b")
    report_fixture.edit(copy / "b", lambda r: r.update(sha265="0" * 64))
    assert "results.json has 'sha265', and 'sha256', which it resembles, is absent" in refused(copy / "b")


@pytest.mark.parametrize("name", ["config.json", "results.json", "per_example.npz"])
def test_a_missing_or_damaged_file_is_named(copy, name):
    (copy / "b" / name).write_text("[1, 2", encoding="utf-8")
    assert f"{name} cannot be read" in refused(copy / "b")
    (copy / "b" / name).unlink()
    assert f"has no {name}: run `multibodies " in refused(copy / "b")


def test_a_file_with_objects_is_not_opened(copy):
    np.savez(copy / "b" / "per_example.npz", x=np.array([{}], dtype=object))
    assert "per_example.npz cannot be read" in refused(copy / "b")


def test_no_checkpoint_another_order_of_images_and_the_same_seed_twice_are_refused(copy):
    shutil.copytree(copy / "a", copy / "twice")
    assert "same training with the same seed 0" in refused(copy / "a", copy / "twice")
    arrays = dict(np.load(copy / "b" / "per_example.npz"))
    np.savez(copy / "b" / "per_example.npz", **arrays | {f"{CLEAN}|example_id": arrays[f"{CLEAN}|example_id"][::-1]})
    assert "have other images" in refused(copy / "a", copy / "b")
    shutil.rmtree(copy / "b" / "checkpoints")
    assert "has no checkpoint" in refused(copy / "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table2", "--workdirs={root}/mdn_*"], "Table 2 is about ours"),
        (["table1", "--workdirs={root}/nothing*"], "names no folder"),
        (["table1", "--workdirs=,"], "names no folder"),
    ],
)
def test_the_command_refuses_with_one_message_and_writes_nothing(root, tmp_path, capsys, arguments, message):
    out = tmp_path / "out"
    assert command.main([a.format(root=root) for a in arguments] + [f"--out={out}"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err and captured.err.count("\n") == 1
    assert not captured.out and not out.exists()


def test_a_folder_that_two_patterns_name_counts_once(root):
    assert runs.find(f"{root}/ours_0, {root}/ours_*") == ([root / "ours_0", root / "ours_1"], [])


def test_results_of_packed_weights_need_no_training_beside_them(copy):
    shutil.rmtree(copy / "a" / "checkpoints")
    (copy / "a" / "config.json").unlink()
    assert "has no config.json" in refused(copy / "a")
    report_fixture.edit(copy / "a", lambda r: r.update(packed={"sha256": "0" * 64}))
    assert [row.label for row in tables.table1(runs.cast([copy / "a"]), HARD)][:2] == ["HMR (M = 1)", "ours"]


def test_a_glob_leaves_out_what_was_not_evaluated_and_says_so_but_a_name_does_not(copy, capsys):
    (copy / "a" / "results.json").unlink()
    assert runs.find(f"{copy}/*") == ([copy / "b"], [copy / "a"])
    doc = document.build(runs.cast([copy / "b"]), "table1", [copy / "a"])
    assert f"Not evaluated and left out: {copy / 'a'}." in doc["notes"]
    assert command.main(["table1", f"--workdirs={copy}/a,{copy}/b", f"--out={copy}/out"]) == 2
    assert "has no results.json: run `multibodies evaluate`" in capsys.readouterr().err
    (copy / "b" / "results.json").unlink()
    with pytest.raises(runs.RefusedError, match="names no evaluated work directory"):
        runs.find(f"{copy}/*")


def test_an_ablation_of_a_baseline_stands_against_its_own_reference(tmp_path):
    paths = [report_fixture.make(tmp_path / "ours")]
    paths += [report_fixture.make(tmp_path / "mdn", "smpl_mdn", 0, 6.0)]
    paths += [report_fixture.make(tmp_path / "rate", "smpl_mdn", 0, 9.0, optim__learning_rate=1e-3)]
    cast = runs.cast(paths)
    rows = tables.against_reference(cast, HARD)
    (row,) = [r for r in rows if r["method"].startswith("SMPL-MDN") and (r["n"], r["metric"]) == (5, "mpjpe")]
    assert (row["method"], row["against"]) == ("SMPL-MDN, optim.learning_rate=0.001", "SMPL-MDN")
    assert row["verdict"] == "worse"


@pytest.mark.slow
def test_weights_that_are_not_the_prior_leave_table_2_out_of_a_whole_report(tmp_path):
    path = report_fixture.make(tmp_path / "ours", "multibodies", 0, 1.0, quantizer__weights="scores_and_prior")
    doc = document.build(runs.cast([path]), "all")
    part = doc["sets"][CLEAN]
    assert "table2" not in part and {row["method"] for row in part["variants"]} == {"ours, centroids"}
    assert {row["method"] for row in part["ablated"]} == {"ours, centroids"}
    assert "Table 2 is left out" in text.markdown(doc) and "### Each change against the same" in text.markdown(doc)
    assert "evaluated with 'scores_and_prior' only" in refused_table2(path)


def refused_table2(path):
    with pytest.raises(runs.RefusedError) as error:
        document.build(runs.cast([path]), "table2")
    return str(error.value)


@pytest.mark.slow
def test_cameras_have_rows_of_their_own(tmp_path):
    path = report_fixture.make(tmp_path / "ours", "multibodies", 0, 1.0)
    summary = {"sum": 300.0, "count": 3, "mean": 100.0, "ci95": 2.0, "low": 91.0, "high": 112.0}

    def seen_by_cameras(result):
        result["cameras"] = {CLEAN: {camera: {"ours": {"5": {"mpjpe": summary}}} for camera in ("cam01", "cam02")}}

    report_fixture.edit(path, seen_by_cameras)
    doc = document.build(runs.cast([path]), "all")
    assert "| cam02: ours | 100.0 [91.0, 112.0] |" in text.markdown(doc)
    (line,) = [line for line in page_data.to_csv(doc).splitlines() if "cam02" in line]
    assert line.startswith('cameras,"clean, cam02",ours,,5,mpjpe,100.0,91.0,112.0')


def test_training_errors_go_on_where_the_first_stage_ended(tmp_path):
    """The fixture logs 85, 80, 75 and 70 mm at steps 10 to 40, of 8 images each."""
    first = report_fixture.make(tmp_path / "first", "hmr", 0, 1.0)
    paths = [
        report_fixture.make(tmp_path / name, model, 0, 1.0)
        for name, model in (("ours", "multibodies"), ("mdn", "smpl_mdn"))
    ]
    rows = extras.training(runs.cast(paths))
    assert [(row["method"], row["images"], row["mean"]) for row in rows[-4:]] == [
        ("ours", 80, 85.0),
        ("ours", 160, 80.0),
        ("ours", 240, 75.0),
        ("ours", 320, 70.0),
    ]
    for path in paths:
        config = json.loads((path / "config.json").read_text(encoding="utf-8")) | {"init": str(first)}
        (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        report_fixture.edit(path, lambda result: result["config"].update(init=str(first)))
    rows = extras.training(runs.cast(paths))
    found = {row["method"]: row["images"] for row in rows}
    assert found == {extras.FIRST_STAGE: 320, "SMPL-MDN": 640, "ours": 640} and len(rows) == 12
    assert plots.training(rows, tmp_path / "training.png") and not plots.training([], tmp_path / "none.png")
    (first / "config.json").write_text("[", encoding="utf-8")
    (paths[0] / "checkpoints" / "log.jsonl").unlink()
    assert {row["method"]: row["images"] for row in extras.training(runs.cast(paths))} == {"SMPL-MDN": 320}
