"""The plan of `multibodies tables`: what it runs, what it repeats, and what it refuses."""

import json
import pathlib
import sys

import pytest

from multibodies_jax.reporting import paper_runs
from multibodies_jax.training import config_checks


def test_every_method_of_a_seed_has_the_same_start_seed_and_budget():
    where = ("tables", pathlib.Path("w"), 3, "")
    runs = {run.name: run for run in (*paper_runs.methods(*where), *paper_runs.open_choices(*where))}
    assert set(runs) > {"trunk", "hmr", "ours", "smpl_mdn", "smpl_cvae", "no_reprojection", "m25", "released_losses"}
    budgets = set()
    for name, run in runs.items():
        config = paper_runs.config_of(run, {})
        config_checks.validate(config)
        assert config.seed == 3
        if name != "trunk":
            assert config.init == "w/seed3/trunk" and config.freeze == "trunk"
            budgets.add((config.train.steps, config.train.batch, config.optim.learning_rate, config.data.cached_passes))
    assert len(budgets) == 1
    names = {run.name for run in paper_runs.methods("synthetic", pathlib.Path("w"), 3, "given")}
    assert names == {"hmr", "ours", "smpl_mdn", "smpl_cvae", "no_reprojection"}
    for base in ("synthetic", "demo", "tables:keypoints_gpu", "tables:images_gpu"):
        budgets = set()
        for run in paper_runs.methods(base, pathlib.Path("w"), 3, "given"):
            config = paper_runs.config_of(run, {})
            config_checks.validate(config)
            assert not config.train.baseline and config.quantizer.weights == "prior" and config.freeze is None
            budgets.add((config.train.steps, config.train.batch, config.optim.learning_rate))
        assert len(budgets) == 1
    runs = {run.name: run for run in paper_runs.methods("tables:movenet", pathlib.Path("w"), 3, "")}
    configs = {name: paper_runs.config_of(run, {}) for name, run in runs.items()}
    for config in configs.values():
        config_checks.validate(config)
        assert config.model.trunk == "movenet" and config.freeze == "trunk" and config.data.cached_passes
    first = configs.pop("trunk")
    assert first.init is None and first.train.steps == first.stage1.steps and first.model.num_hypotheses == 1
    assert {config.init for config in configs.values()} == {"w/seed3/trunk"}
    assert {config.train.steps for config in configs.values()} == {configs["ours"].train.steps} != {first.train.steps}
    for run in paper_runs.methods("mixture:paper", pathlib.Path("w"), 3, "spin"):
        config = paper_runs.config_of(run, {})
        config_checks.validate(config)
        assert config.data.sets[0] == "h36m/official" and config.init == "spin" and config.freeze is None


def test_runs_of_labels_differ_in_their_labels_alone():
    runs = {run.name: run for run in paper_runs.labels("tables", pathlib.Path("w"), 3, "")}
    seen = {}
    for name, run in runs.items():
        config = paper_runs.config_of(run, {})
        config_checks.validate(config)
        assert (config.init, config.seed, config.train.steps, config.train.batch) == ("w/seed3/trunk", 3, 1000, 64)
        losses = (*config.loss.to_dict().values(), config.optim.clip, config.optim.learning_rate)
        seen[name] = config.model.name, config.data.withheld_3d, losses
    assert len({losses for name, (_, _, losses) in seen.items() if name != "graphcmr"}) == 1
    shares = {name: (model, share) for name, (model, share, _) in seen.items()}
    assert shares["hmr_half"] == ("hmr", 0.5) and shares["spin"] == ("spin", 0.5) and shares["spin_2d"] == ("spin", 1.0)
    assert shares["hmr_all"] == ("hmr", 0.0) and shares["graphcmr"] == ("graphcmr", 0.0)
    first = paper_runs.config_of(runs["spin_first_fits"], {})
    assert first.data.withheld_3d == 0.5 and not first.spin.fit
    from_nothing = [paper_runs.config_of(run, {}) for run in paper_runs.labels("synthetic", pathlib.Path("w"), 3, "")]
    assert len(from_nothing) == 7 and not any(config.init for config in from_nothing)
    assert not list(
        paper_runs.labels("demo", pathlib.Path("w"), 3, "")
    )  # People seen by virtual cameras have all labels.


@pytest.mark.parametrize(("base", "first"), [("tables", "seed0/trunk"), ("synthetic", "labels/seed0/hmr_all")])
def test_only_the_labels_need_the_trunk_alone(base, first, tmp_path, monkeypatch):
    calls = []

    def call(command, seconds):
        calls.append(command)
        return 0

    monkeypatch.setattr(paper_runs, "call", call)
    (tmp_path / "labels/seed0/spin").mkdir(parents=True)
    (tmp_path / "labels/seed0/spin/results.json").write_text("{}", encoding="utf-8")
    assert paper_runs.main([f"--workdir={tmp_path}", "--seeds=0", "--only=labels", f"--base={base}"]) == 0
    names = [c[5].removeprefix(f"--workdir={tmp_path}/") for c in calls[:-1]]
    assert names[0] == first and names[-1] == "labels/seed0/graphcmr" and len(names) == 7 + (base == "tables")
    assert calls[-1][-2:] == [f"--workdirs={tmp_path}/labels/seed0/spin", f"--out={pathlib.Path('report/labels')}"]


def test_the_plan_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    """Runs that stand there complete are not repeated; out of time it says how to go on."""
    calls = []

    def call(command, seconds):
        calls.append(command)
        if "report" in command:
            return 0
        if len(calls) > 3:
            return paper_runs.STOPPED
        folder = pathlib.Path(next(c for c in command if c.startswith("--workdir=")).partition("=")[2])
        run = next(r for r in paper_runs.methods("tables", tmp_path, 0, "") if r.name == folder.name)
        config = paper_runs.config_of(run, {"flow.steps": "5", "eval.batch": "5"})
        (folder / "checkpoints" / str(config.train.steps)).mkdir(parents=True)
        stored = json.loads(config.to_json_best_effort())
        (folder / "config.json").write_text(json.dumps(stored), encoding="utf-8")
        (folder / "results.json").write_text(json.dumps({"config": stored}), encoding="utf-8")
        return 0

    monkeypatch.setattr(paper_runs, "call", call)
    arguments = [f"--workdir={tmp_path}", "--seeds=0", "--config.flow.steps=5", "--config.eval.batch=5"]
    assert paper_runs.main(arguments) == paper_runs.STOPPED
    assert "the same command continues" in capsys.readouterr().out
    assert [c[5].rpartition("/")[2] for c in calls] == ["trunk", "hmr", "ours", "smpl_mdn"]
    calls.clear()
    assert paper_runs.main(arguments) == paper_runs.STOPPED or calls
    assert calls[0][5].endswith("smpl_mdn")


def test_some_runs_are_trained_alone_and_evaluated_later(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(paper_runs, "call", lambda command, seconds: calls.append(command) or 0)
    arguments = [f"--workdir={tmp_path}", "--base=tables:keypoints_gpu", "--seeds=1,2", "--runs=trunk,ours"]
    assert paper_runs.main([*arguments, "--train-only"]) == 0
    places = [str(tmp_path / f"seed{seed}" / name) for seed in (1, 2) for name in ("trunk", "ours")]
    assert [(c[3], c[5].partition("=")[2]) for c in calls] == [("train", place) for place in places]
    assert "without --train-only evaluates" in capsys.readouterr().out
    calls.clear()
    assert paper_runs.main(arguments) == 0
    assert [c[3] for c in calls] == ["train", "all", "train", "all"]


@pytest.mark.slow
def test_a_call_that_takes_too_long_is_asked_to_save(tmp_path):
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'w').close(), sys.exit(1)));"
        "print('ready', flush=True); time.sleep(60)"
    )
    status = paper_runs.call([sys.executable, "-c", code, str(tmp_path / "saved")], 5.0)
    assert status == paper_runs.STOPPED and (tmp_path / "saved").exists()
    assert paper_runs.call([sys.executable, "-c", "raise SystemExit(3)"], 60.0) == 3


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--seeds=0,0", "'0,0' has a number twice"),
        ("--seeds=a", "'a' is no list of whole numbers"),
        ("--base=nonsense", "no config 'nonsense'"),
        ("--base=released", "--base=released"),
        ("--base=smpl_mdn", "the base is ours"),
        ("--base=demo:x", "configs/demo.py takes no argument, got 'x'"),
        ("--init=nowhere", "'nowhere' holds no checkpoint"),
        ("--confg.seed=1", "unknown argument '--confg.seed=1'"),
        ("--config.nope=1", "there is no field config.nope"),
        ("--config.eval=5", "--config.eval=5"),
        ("--config.model.num_hypotheses=25", "is set for them"),
        ("--only=mesh", "'mesh' is no part of the plan; choose from methods, labels, open"),
        ("--runs=ours,outs", "--runs names 'outs'"),
        ("--minutes=-1", "--minutes=-1"),
        ("--minutes=nan", "--minutes=nan"),
        ("--seeds=100000000000000000000000", "config.seed is 100000000000000000000000; accepted is"),
        (f"--workdir={__file__}", "has to be a folder"),
    ],
)
def test_bad_arguments_are_messages_with_status_2(argument, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(paper_runs, "call", lambda *_: pytest.fail("ran"))
    with pytest.raises(SystemExit) as stopped:
        paper_runs.main([f"--workdir={tmp_path}", argument])
    assert stopped.value.code == 2 and message in capsys.readouterr().err.partition("error: ")[2]
