"""The console script `multibodies`, run.py and `python -m multibodies_jax`: arguments, help, messages and statuses."""

import importlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import jax
import numpy as np
import pytest

from configs import default
from multibodies_jax import cli, cli_flags, doctor, programs
from multibodies_jax.evaluation import evaluate
from multibodies_jax.prediction import predict, predictor, pretrained
from multibodies_jax.training import loop, multihost, plan

ROOT = pathlib.Path(__file__).parents[1]


def _python(*arguments: str, cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8"
    )


class _Loaded(tuple):
    """Stands for a model: what it was loaded with."""

    def weighted_by(self, kind):
        return _Loaded((*self, kind))


@pytest.fixture
def called(monkeypatch):
    """What training, evaluation and prediction were called with, instead of running them."""
    calls = []
    monkeypatch.setattr(loop, "train", lambda config, workdir: calls.append(("train", config, workdir)))
    monkeypatch.setattr(evaluate, "open_inputs", lambda config: None)
    monkeypatch.setattr(evaluate, "evaluate", lambda *arguments: calls.append(("evaluate", *arguments)))
    monkeypatch.setattr(predict, "predict", lambda *arguments: calls.append(("predict", *arguments)))
    monkeypatch.setattr(predictor, "load", lambda *arguments: _Loaded(arguments))
    monkeypatch.setattr(pretrained, "load_pretrained", lambda: "embedded")
    monkeypatch.setattr(plan, "plan", lambda *arguments: calls.append(("plan", *arguments)))
    monkeypatch.chdir(ROOT)
    return calls


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", '{"seed": null}', "a config is a Python file.*--mode=evaluate"),
        ("mine.py", "from nowhere import base", "No module named 'nowhere'"),
        ("mine.py", "get_config = null", "name 'null' is not defined"),
    ],
)
def test_a_file_that_is_no_config_is_refused(name, content, message, tmp_path, capsys):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert cli.main(["train", f"--config={tmp_path / name}"]) == 2
    assert re.search(message, capsys.readouterr().err, re.DOTALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.model.num_hypothesis=5"], "num_hypothesis"),
        (["--config.train.steps=many"], "many"),
        (["--config=configs/hmr.py:nonsense"], "no config 'nonsense' to build upon"),
        (["--config=configs/nonsense.py"], "there is no config file configs/nonsense.py. Known: .*configs/demo.py"),
        (["--config.model.trunk=resnet"], "accepted is one of"),
        (["--config.eval.ns=(1,500)"], "n = \\[500\\]"),
        (["--config.eval.protocol=official"], "config.eval.protocol is 'official'; accepted is one of 'strict'"),
        (["--config.eval.methods=('main','best')"], r"config.eval.methods is \('main', 'best'\); accepted is"),
        (["stray"], "unknown arguments"),
        (["--mode=predict"], "needs photographs, folders of them, or videos: multibodies predict photo.jpg"),
        (["--mode=predict", "a.jpg", "--config.model.trunk=resnet"], "accepted is one of"),
        (["--mode=nonsense"], "mode"),
        (["--config=configs/demo.py:x"], r"--config=.*demo.py:x: get_config\(\) takes 0 positional arguments"),
        (["--config=configs/demo.py", "--config=configs/hmr.py"], "--config is there 2 times, and one config is read"),
        (["--workdir="], "--workdir is empty"),
        (["--n=0"], "--n=0: 0 is not a positive integer"),
        (["--mode=train", "--n=3"], "--n is a flag of predict, and this is train: leave it out"),
        (["--onnx"], "--onnx is a flag of evaluate, predict, and this is all"),
    ],
)
def test_bad_flags_are_messages_with_status_2(arguments, message, tmp_path, capsys, called):
    assert cli.run([f"--workdir={tmp_path}", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(message, error) and "Traceback (" not in error
    assert not called


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def get_config(:\n", r"error: invalid syntax \(own.py, line 1\)"),
        ("def get_config():\n  raise RuntimeError('why')\n", "error: why"),
        ("def get_config():\n  return {}\n", r"gives \{\}, and a ConfigDict was expected"),
        ("def get_config():\n  pass\n", "gives None, and a ConfigDict was expected"),
        (
            "from ml_collections import ConfigDict\ndef get_config():\n  return ConfigDict({'seed': 0})\n",
            "has no config.body.allow_other, config.body.dir, .*begin get_config",
        ),
        (
            "from configs import default\n"
            "def get_config():\n  c = default.get_config().unlock()\n  c.model.hiden = 3\n  return c\n",
            "config.model.hiden is no field that anything reads; was config.model.hidden meant",
        ),
    ],
)
def test_what_is_wrong_with_a_config_file_is_said(content, message, tmp_path, capsys, called):
    path = tmp_path / "own.py"
    path.write_text(content, encoding="utf-8")
    assert cli.main(["train", f"--config={path}", f"--workdir={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err
    assert re.search(message, told) and "This error was not expected" not in told
    assert not called and not (tmp_path / "run").exists()


@pytest.mark.parametrize("program", [("run.py", "--mode=train"), ("-m", "multibodies_jax", "train")])
def test_the_programs_refuse_alike(program, tmp_path):
    done = _python(*program, f"--workdir={tmp_path}", "--config.model.num_hypothesis=5")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert "num_hypotheses" in done.stderr  # What was probably meant.


@pytest.mark.parametrize("mode", cli_flags.MODES)
def test_a_command_does_what_run_py_does_in_that_mode(mode, tmp_path, called):
    flags = ["--config=configs/hmr.py:synthetic", f"--workdir={tmp_path}", "--config.train.steps=7"]
    images = ["--images=some.png", "--n=3", "--focal=900"] if mode == "predict" else []
    assert cli.main([mode, *flags, *images]) == cli.run([f"--mode={mode}", *flags, *images]) == 0
    half = len(called) // 2
    assert [repr(call) for call in called[:half]] == [repr(call) for call in called[half:]]
    assert {call[0] for call in called} == ({"train", "evaluate"} if mode == "all" else {mode})
    if mode == "predict":
        (workdir, config, onnx), *rest = called[0][1:]
        assert not onnx
        assert rest == [["some.png"], None, 3, tmp_path / "predictions", 900.0, True]
    else:
        config, workdir = called[0][1:3]
    assert config.train.steps == 7 and config.model.name == "hmr" and workdir == tmp_path


def test_a_photograph_alone_is_predicted_with_the_embedded_weights(called):
    assert cli.main(["predict", "a.jpg", "folder", "--norefine", "--people=k.json"]) == 0
    assert called == [
        ("predict", "embedded", ["a.jpg", "folder"], "k.json", 5, pathlib.Path("predictions"), None, False)
    ]


def test_the_user_chooses_the_weights_of_a_prediction(called, monkeypatch):
    monkeypatch.setattr(pretrained, "load_pretrained", lambda: _Loaded(("embedded",)))
    assert cli.main(["predict", "a.jpg", "--weights=scores"]) == 0
    assert called[0][1] == ("embedded", "scores")


def test_a_work_directory_predicts_with_the_config_that_it_has(called, tmp_path):
    assert cli.main(["predict", f"--workdir={tmp_path}", "a.jpg", "--out=x"]) == 0
    assert called[0][1] == (tmp_path, None, False) and called[0][5] == "x"


def test_onnx_runtime_is_chosen_by_a_flag(called, tmp_path, capsys):
    assert cli.main(["predict", "--onnx", f"--workdir={tmp_path}", "a.jpg"]) == 0
    assert cli.main(["evaluate", "--onnx", f"--workdir={tmp_path}"]) == cli.main(["evaluate"]) == 0
    assert called[0][1] == (tmp_path, None, True) and [call[3:] for call in called[1:]] == [(True,), (False,)]
    assert cli.main(["predict", "--onnx", "a.jpg"]) == 2 and len(called) == 3
    assert re.search("embedded model reads keypoints: leave --onnx out, or give --workdir", capsys.readouterr().err)


def test_home_folders_in_a_config_file_are_read(called, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/h")
    lines = [
        "from configs import default",
        "def get_config():",
        "    c = default.add_authors_fields(default.get_config())",
        "    c.data.dir, c.data.options, c.body.dir, c.eval.hmr = '~/data', 'seed=1,crops=~/c', '~', '~/hmr'",
        "    return c",
    ]
    (tmp_path / "mine.py").write_text("\n".join(lines), encoding="utf-8")
    assert cli.main(["train", f"--config={tmp_path}/mine.py", "--config.data.npz_dir=~/lists"]) == 0
    data, config = called[0][1].data, called[0][1]
    assert (data.dir, data.options, data.npz_dir) == ("/h/data", "seed=1,crops=/h/c", "/h/lists")
    assert (config.body.dir, config.eval.hmr, data.people) == ("/h", "/h/hmr", "synthetic_poses")


@pytest.mark.parametrize("value", [True, False])
def test_the_flag_of_earlier_versions_chooses_the_rows(value, called):
    assert cli.main(["evaluate", f"--config.eval.controls={value}"]) == 0
    assert called[0][1].eval.methods == default.METHODS + (default.CONTROLS if value else ())


def test_the_work_directory_is_named_after_the_config(called):
    assert cli.main(["train", "--config=configs/synthetic.py"]) == 0 and cli.main(["train"]) == 0
    assert [call[2] for call in called] == [pathlib.Path("runs/synthetic"), pathlib.Path("runs/demo")]


def test_a_config_is_found_in_the_installed_package_from_another_folder(called, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for config in ("--config=configs/hmr.py:synthetic", "--config=configs/hmr.py"):
        assert cli.main(["train", config]) == 0
    assert cli.main(["train", "--config", "configs/hmr.py"]) == 0 and cli.main(["train"]) == 0
    assert [call[1].model.name for call in called] == ["hmr", "hmr", "hmr", "multibodies"]
    assert [call[1].model.trunk for call in called] == ["resnet_small", "keypoints", "keypoints", "keypoints"]
    assert [call[2].name for call in called] == ["hmr", "hmr", "hmr", "demo"]
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "hmr.py").write_text(
        "from configs import demo\nget_config = demo.get_config\n", encoding="utf-8"
    )
    assert cli.main(["train", "--config=configs/hmr.py"]) == 0  # The one in the current folder comes first.
    assert called[-1][1].model.name == "multibodies"
    assert cli.main(["train", "--config=configs/other.py"]) == 2
    assert "there is no config file configs/other.py. Known: configs/hmr.py." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("bad"), 2), (FileNotFoundError("bad"), 2), (OSError("bad"), 1), (FloatingPointError("bad"), 1)],
)
def test_failures_are_messages_with_a_status_and_the_traceback_in_a_file(
    error, status, called, monkeypatch, tmp_path, capsys
):
    def fail(*_):
        raise error

    monkeypatch.setattr(loop, "train", fail)
    assert cli.main(["train", f"--workdir={tmp_path}"]) == status
    assert "error: bad" in capsys.readouterr().err
    assert "Traceback" in (tmp_path / "multibodies_jax_error.log").read_text(encoding="utf-8")


def _because(error, cause):
    """An error as `raise error from cause` makes it."""
    error.__cause__ = ValueError(cause)
    return error


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("bad"), 2, "error: bad\n"),
        (ZeroDivisionError("bad"), 1, "ZeroDivisionError: bad\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ValueError("UNKNOWN: Gloo AllGather failed: x"),
            1,
            "another process of this run has ended, and will have said",
        ),
        (
            _because(
                ValueError("Could not write (Gloo AllGather failed). Free some space."), "Gloo AllGather failed: x"
            ),
            1,
            "without it (Gloo AllGather failed: x)",
        ),
        (ValueError("no other processes (coordination service)"), 2, "error: no other processes"),
        (RuntimeError("RESOURCE_EXHAUSTED: NCCL, remote process exited"), 1, "the device's memory is full"),
    ],
)
def test_of_several_processes_one_that_fails_leaves_and_has_a_report_of_its_own(
    error, status, said, called, monkeypatch, tmp_path, capsys
):
    def fail(*_):
        raise error

    left = []
    monkeypatch.setattr(loop, "train", fail)
    monkeypatch.setattr(multihost, "initialize", lambda: None)
    monkeypatch.setattr(multihost, "end_soon", left.append)
    monkeypatch.setattr(jax, "process_index", lambda: 3)
    monkeypatch.setattr(programs, "PROCESS", 0)  # Which the command sets, and `monkeypatch` puts back.
    assert cli.main(["train", "--distributed", f"--workdir={tmp_path}"]) == status
    assert left == [status] and said in capsys.readouterr().err
    written = ["multibodies_jax_error_process3.log"] if isinstance(error, Exception) else []
    assert [path.name for path in tmp_path.glob("*.log")] == written


@pytest.mark.parametrize("first", [True, False])
def test_a_run_says_at_its_end_what_compiling_took(first, called, monkeypatch, tmp_path, capsys):
    def compiles(*_):
        jax.jit(lambda x: 3 * x - 1)(np.ones(2))
        print("trained")

    monkeypatch.setattr(loop, "train", compiles)
    monkeypatch.setattr(multihost, "is_first", lambda: first)
    assert cli.main(["train", f"--workdir={tmp_path}"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    said = re.fullmatch(r"Tracing and compiling took \d+\.\d of \d+\.\d s \(programs: 1.*\)\.", last)
    assert said if first else last == "trained"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--config.nosuch=3", "The config has no field 'nosuch'."),
        ("--config.optim.learning_rat=3", "no field 'learning_rat'. Did you mean \"learning_rate\""),
        ("--config.optim.learning_rat=None", "no field 'learning_rat'. Did you mean \"learning_rate\""),
        ("--config.optim.learning_rate=None", "config.optim.learning_rate is None; accepted is"),
    ],
)
def test_an_unknown_field_is_named_as_one(flag, said, called, capsys):
    assert cli.main(["train", flag]) == 2
    assert said in capsys.readouterr().err and not called


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config.model.num_hypotheses=None"], {"model.num_hypotheses": None}),
        (["--config.quantizer.temperature=None", "--config.data.sets=None"], {"quantizer.temperature": None}),
        (["--config.model.num_hypotheses=None", "--config.model.num_hypotheses=30"], {"model.num_hypotheses": 30}),
        (["--config.model.num_hypotheses=30", "--config.model.num_hypotheses=None"], {"model.num_hypotheses": None}),
        (["--config.eval.ns=(1,3)", "--config.seed=3", "--config.eval.ns=(1,)"], {"eval.ns": (1,), "seed": 3}),
    ],
)
def test_none_is_read_for_every_field_and_the_last_value_of_a_field_counts(arguments, expected, called, tmp_path):
    assert cli.main(["train", f"--workdir={tmp_path}", *arguments]) == 0
    ((_, config, _),) = called
    for path, value in expected.items():
        part, _, name = path.rpartition(".")
        assert (config[part] if part else config)[name] == value


def test_a_fault_of_the_program_has_status_1_and_an_interruption_130(called, monkeypatch, tmp_path, capsys):
    def fail(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(loop, "train", fail)
    assert cli.main(["train", f"--workdir={tmp_path}"]) == 1
    said, report = capsys.readouterr().err, tmp_path / "multibodies_jax_error.log"
    assert (
        "error: ZeroDivisionError: by zero" in said
        and str(report) in said
        and "Traceback" in report.read_text(encoding="utf-8")
    )

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", interrupt)
    assert cli.main(["train"]) == 130 and "continues from the last checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("bad"), ZeroDivisionError("bad")])
@pytest.mark.parametrize(
    ("arguments", "folder"),
    [([], "temporary"), (["--config=configs/demo.py"], "runs/demo"), (["--workdir=runs/mine"], "runs/mine")],
)
def test_a_prediction_with_the_embedded_weights_leaves_its_traceback_in_no_work_directory(
    arguments, folder, error, called, monkeypatch, tmp_path, capsys
):
    def fail(*_):
        raise error

    for place in ("temporary", "runs/demo", "runs/mine"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(predict, "predict", fail)
    assert cli.main(["predict", "config.jpg", *arguments]) in (1, 2) and "bad" in capsys.readouterr().err
    assert [path.parent for path in tmp_path.rglob("multibodies_jax_error.log")] == [tmp_path / folder]


def test_all_says_what_evaluation_lacks_before_it_trains(called, monkeypatch, tmp_path, capsys):
    def lacks(config):
        raise ValueError("there is no such set")

    monkeypatch.setattr(evaluate, "open_inputs", lacks)
    assert cli.main(["all", f"--workdir={tmp_path}"]) == 2 and not called
    assert "there is no such set" in capsys.readouterr().err
    assert cli.main(["train", f"--workdir={tmp_path}"]) == 0


def test_people_that_could_not_be_predicted_give_status_1(called, monkeypatch):
    monkeypatch.setattr(predict, "predict", lambda *_: 2)
    assert cli.main(["predict", "--images=some.png"]) == 1


@pytest.mark.parametrize("arguments", [["train"], ["evaluate"], ["predict", "--images=some.png"]])
def test_an_accelerator_that_is_not_used_is_told_before_hours_of_work(arguments, called, monkeypatch, tmp_path, capsys):
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.10  Wed", encoding="utf-8"
    )
    monkeypatch.setattr(doctor, "NVIDIA_DRIVER", tmp_path / "version")
    for asked, told in (("", True), ("cpu", False)):  # Who asks for the processor knows.
        monkeypatch.setenv("JAX_PLATFORMS", asked)
        cli.main([*arguments, f"--workdir={tmp_path / 'run'}"])
        note = "note: accelerator: one is there and JAX does not use it; pip install -e .[cuda13], or .[cuda12]"
        assert (note in capsys.readouterr().err) == told
    assert len(called) == 2


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("report", "multibodies_jax.reporting.__main__"),
        ("tables", "multibodies_jax.reporting.paper_runs"),
        ("convert", "multibodies_jax.convert.__main__"),
        ("data", "tfds_builders.__main__"),
        ("requantize", "multibodies_jax.prediction.requantize"),
        ("view", "multibodies_jax.prediction.view_command"),
        ("fetch", "multibodies_jax.fetch"),
        ("doctor", "multibodies_jax.doctor"),
        ("export", "multibodies_jax.prediction.export_command"),
    ],
)
def test_other_commands_are_the_modules_of_python_m(command, module, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(importlib.import_module(module), "main", lambda argv: given.append(argv) or 5)
    assert cli.main([command, "a", "--b=c"]) == 5 and given == [["a", "--b=c"]]


def test_their_help_names_the_command(capsys):
    for command in ("report", "tables", "convert", "data", "requantize", "view", "fetch", "doctor", "export"):
        try:
            status = cli.main([command, "--help"])
        except SystemExit as leave:
            status = leave.code
        shown = capsys.readouterr().out
        assert status == 0 and f"usage: multibodies {command}" in shown, shown


@pytest.mark.parametrize("mode", cli_flags.MODES)
def test_help_lists_the_flags_of_a_command_and_each_is_taken(mode, called, capsys):
    assert cli.main([mode, "--help"]) == 0
    names = re.findall(r"^  --([a-z]+)", capsys.readouterr().out, flags=re.MULTILINE)
    assert {"config", "workdir"} <= set(names) and ("images" in names) == (mode == "predict")
    values = {"config": "configs/demo.py", "n": "2", "focal": "900", "distributed": "false", "refine": "false"}
    values |= {"devices": "4", "compiled": "false", "onnx": "false"}
    given = [f"--{name}={values.get(name, 'x')}" for name in names]
    assert cli.main([mode, *given]) == 0 and called


@pytest.mark.parametrize("arguments", [["train"], ["evaluate"], ["predict", "x.jpg"], ["all"]])
def test_processes_that_are_to_meet_do_so_first_and_say_who_is_missing(arguments, called, monkeypatch, capsys):
    def initialize():
        raise ValueError("process 1 of 2 did not come")

    monkeypatch.setattr(multihost, "initialize", initialize)
    assert cli.main([*arguments, "--distributed"]) == 2
    assert "process 1 of 2 did not come" in capsys.readouterr().err and not called


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        (["train"], "fits with --config.train.batch=7"),
        (["evaluate"], "config.eval.batch is 50 on each device: try --config.eval.batch=25."),
        (["evaluate", "--config.eval.batch=1"], "which cannot be less"),
        (["predict", "x.jpg"], "Each device predicts one person at a time"),
    ],
)
def test_where_the_memory_of_the_device_is_full_a_smaller_batch_is_told(arguments, fits, called, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    for module, name in ((loop, "train"), (evaluate, "evaluate"), (predict, "predict")):
        monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr(plan, "what_fits", lambda *_: "It fits with --config.train.batch=7.")
    assert cli.main(arguments) == 1
    assert fits in capsys.readouterr().err


def test_a_plan_is_of_the_devices_that_are_asked_for(called, capsys):
    assert cli.main(["plan", "--devices=64", "--compiled", "--workdir=w"]) == 0
    ((name, _, workdir, *rest),) = called
    assert (name, str(workdir), rest) == ("plan", "w", [64, True])
    assert cli.main(["plan"]) == 0 and called[-1][3:] == (1, False)
    assert cli.main(["plan", "--devices=0"]) == 2
    assert "devices" in capsys.readouterr().err


def test_a_flag_of_another_command_is_refused(called, capsys):
    assert cli.main(["train", "--images=x"]) == 2
    assert "--images is a flag of predict, and this is train: leave it out" in capsys.readouterr().err and not called


def test_the_help_of_run_py_explains_modes_and_flags():
    done = _python("run.py", "--help")
    assert done.returncode == 0
    for words in ("--mode=train|evaluate|predict|all|plan", "--config=FILE", "predict: An image", "evaluate: Evaluate"):
        assert words in done.stdout


def test_the_overview_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in (
        "train",
        "evaluate",
        "predict",
        "all",
        "plan",
        "report",
        "tables",
        "convert",
        "data",
        "requantize",
        "view",
        "fetch",
        "doctor",
        "export",
    ):
        assert re.search(rf"^  {command} ", shown, flags=re.MULTILINE)
    assert cli.main(["--version"]) == 0 and re.search(r"\d+\.\d+\.\d+", capsys.readouterr().out)


@pytest.mark.parametrize("argv", [[], ["nonsense"]])
def test_a_missing_or_unknown_command_lists_the_choices(argv, capsys):
    assert cli.main(argv) == 2
    assert "choose one of train, evaluate, predict" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["", "train", "predict", "report", "tables", "convert", "requantize", "view", "fetch", "doctor", "export"],
)
def test_help_answers_before_anything_slow_is_imported(command):
    code = (
        "import sys; from multibodies_jax import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "slow = {'jax', 'numpy', 'tensorflow', 'tensorflow_datasets'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = _python("-c", code, *([command] if command else []), "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout
