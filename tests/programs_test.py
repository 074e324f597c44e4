"""What every program does first: home folders in arguments, output in any encoding, figures without a display."""

import ast
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import jax
import pytest

from multibodies_jax import programs

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("~/a", "/h/a"),
        ("~", "/h"),
        ("--out=~/a b", "--out=/h/a b"),
        ("--workdirs=~/a,b,~/c", "--workdirs=/h/a,b,/h/c"),
        ("--config.data.dir=~/data", "--config.data.dir=/h/data"),
        ("--out=a~/b", "--out=a~/b"),
        ("./~/a", "./~/a"),
        ("~nobody-of-this-name/a", "~nobody-of-this-name/a"),
        ("--n=5", "--n=5"),
        (
            "--config.data.options=num_train=9,h36m_fits=~/b,seed=1",
            "--config.data.options=num_train=9,h36m_fits=/h/b,seed=1",
        ),
        ("", ""),
    ],
)
def test_a_home_folder_is_read_where_a_value_begins_with_it(given, read, home):
    assert programs.start([given]) == [read]


def test_without_a_home_folder_the_whole_path_is_asked_for(monkeypatch, capsys):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # As for a user without a name.
    with pytest.raises(SystemExit) as left:
        programs.start(["--out=~/a"])
    assert left.value.code == 2 and "no home folder (HOME is not set): give the whole path" in capsys.readouterr().err


def test_figures_need_no_display_whatever_a_notebook_left_in_the_environment(home):
    programs.start([])
    assert os.environ["MPLBACKEND"] == "agg" and os.environ["JAX_ENABLE_X64"] == "0"


@pytest.mark.slow
def test_a_bare_environment_is_enough(tmp_path):
    """As under `env -i`, in a container whose user has no name, with what other programs' settings leave behind."""
    script = """
import pwd

def nobody(uid):
    raise KeyError(uid)

pwd.getpwuid = nobody
import sys
from multibodies_jax import cli, io
assert cli.main(["doctor"]) in (0, 1)
print("46.2 ± 0.3 mm", file=sys.stderr)
import jax
from multibodies_jax.training import setup
from multibodies_jax.vis import figures
setup.enable_compilation_cache()
assert jax.numpy.zeros(1).dtype == "float32" and jax.config.jax_compilation_cache_dir.startswith(sys.argv[1])
figures.loss_curves(sys.argv[1] + "/a/losses.png", {"prior": [{"step": 1, "loss_nf": 1.0}, {"step": 2, "loss_nf": 0.5}]})
"""
    environment = {"TMPDIR": str(tmp_path), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "MPLBACKEND": "nowhere", "PYTHONPATH": str(ROOT)}
    (tmp_path / "a").mkdir()
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "46.2 \\xb1 0.3 mm" in done.stderr and len(list((tmp_path / "a").iterdir())) == 1


def test_output_never_fails_on_a_letter(home, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    programs.start([])
    print("46.2 ± 0.3 mm", flush=True)
    assert written.getvalue() == b"46.2 \\xb1 0.3 mm\n"


def guarded_main(error: BaseException | None):
    @programs.guarded
    def main(argv):
        """Fails."""
        if error is not None:
            raise error
        return len(argv)

    return main


def test_an_unexpected_error_is_a_message_with_the_place_of_its_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert guarded_main(AttributeError("'int' has no attribute 'x'\udcff"))([]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: AttributeError: 'int' has no attribute 'x'") and "report the fault" in said
    (report,) = tmp_path.iterdir()
    assert str(report) in said and "Traceback" in report.read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" not in said


def test_a_report_that_cannot_be_written_is_not_named(monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/absent")
    assert guarded_main(KeyError("x"))([]) == 1
    said = capsys.readouterr().err
    assert "KeyError" in said and "Full traceback" not in said


def test_an_interruption_is_a_message_and_an_exit_passes_the_net(capsys):
    assert guarded_main(KeyboardInterrupt())([]) == 130
    assert capsys.readouterr().err == "error: interrupted.\n"
    with pytest.raises(SystemExit):
        guarded_main(SystemExit(3))([])


def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path, monkeypatch, capsys):
    with open(tmp_path / "out", "w", encoding="utf-8") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert guarded_main(BrokenPipeError())([]) == 1
        print("more", flush=True)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "" and not capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("bad"), "bad"),
        (OSError("bad"), "bad"),
        (FileExistsError(17, "File exists", "a.txt"), "a.txt has to be a folder, or lie in one, and there is a file"),
        (IsADirectoryError(21, "Is a directory", ".x.tmp", None, "x"), "x is a folder, and has to be a file"),
        (NotADirectoryError(20, "Not a directory", "a.txt/b"), "a.txt/b has to be a folder"),
        (
            FileNotFoundError(2, "No such file or directory", b"/proc/x"),
            "/proc/x is not there, or cannot be made: check the path",
        ),
        (PermissionError(13, "Permission denied", "/x"), r"/x cannot be used \(Permission denied\): choose"),
        (OSError(28, "No space left on device", "/x"), "the disk is full .*'/x'.*: free some space"),
        (OSError(28, "No space left on device"), "the disk is full .*: free some space"),
        (OSError(30, "Read-only file system", "/x"), "/x cannot be used .Read-only file system.: choose"),
    ],
)
def test_errors_of_the_system_say_which_place_and_what_to_do(error, message):
    assert re.match(message, programs.words(error))


def test_a_status_passes_the_net():
    assert guarded_main(None)(["a", "b"]) == 2


def test_every_program_has_the_net():
    """`main` of every module that is a program, and `run` of run.py."""
    root = pathlib.Path(programs.__file__).parents[1]
    for path in sorted([*(root / "multibodies_jax").rglob("*.py"), *(root / "tfds_builders").rglob("*.py")]):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [argument.arg for argument in node.args.args] if isinstance(node, ast.FunctionDef) else []
            if isinstance(node, ast.FunctionDef) and (node.name == "main" and names[:1] in ([], ["argv"])):
                assert [ast.unparse(each) for each in node.decorator_list] == ["programs.guarded"], path
    decorators = [
        ast.unparse(each)
        for node in ast.parse((root / "multibodies_jax" / "cli.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "run"
        for each in node.decorator_list
    ]
    assert decorators == ["programs.guarded"]


def test_a_device_without_memory_is_told_with_what_to_halve(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.\nmore")
    told = programs.unexpected(error, tmp_path)
    assert told.startswith("error: the device's memory is full (RESOURCE_EXHAUSTED: Out of memory")
    assert "--config.train.accumulate=2" in told and "more" not in told and "fault of the program" not in told
    assert "fault of the program" in programs.unexpected(RuntimeError("another"), tmp_path)


def test_an_accelerator_that_was_asked_for_and_is_missing_is_told(tmp_path, monkeypatch):
    def devices(*_):
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    told = programs.unexpected(AssertionError(), tmp_path)
    assert "JAX_PLATFORMS=cuda asks for a device that JAX cannot use (it found none)" in told and "cuda13" in told
