"""What every program does first: home folders in arguments, output in any encoding, figures without a display."""

import io
import os
import sys

import pytest

from multibodies_jax import programs


@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/h")
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
        ("a=~/b", "a=~/b"),
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
    assert os.environ["MPLBACKEND"] == "agg"


def test_output_never_fails_on_a_letter(home, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    programs.start([])
    print("46.2 ± 0.3 mm", flush=True)
    assert written.getvalue() == b"46.2 \\xb1 0.3 mm\n"
