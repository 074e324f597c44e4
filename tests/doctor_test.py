"""`multibodies doctor`: what is there, what is missing with its remedy, and the exit status."""

import importlib.metadata
import pathlib
import re
import tomllib

import jax
import pytest

from multibodies_jax import doctor
from multibodies_jax.detection import weights
from multibodies_jax.training import checkpoints, packed


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A machine with the package and nothing else, seen from an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MULTIBODIES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packed, "PATH", tmp_path / "absent.npz")


def _by_name(findings, state):
    return {finding.what: finding for finding in findings if finding.state == state}


def test_what_is_missing_is_reported_with_what_to_type(capsys):
    assert doctor.main([]) == 1
    shown = capsys.readouterr().out
    assert "-> multibodies fetch detector" in shown and "-> make demo" in shown
    assert shown.rstrip().endswith("lacks: weights (make demo); detector (multibodies fetch detector).")


def test_what_is_there_is_reported_with_its_licence():
    found = _by_name(doctor.examine(), "ok")
    assert {"package", "Python", "libraries", "device", "body", "photographs"} <= set(found)
    assert f"jax {importlib.metadata.version('jax')}" in found["libraries"].text
    assert "mannequin" in found["body"].text and found["body"].licence
    assert "CC BY 2.0" in found["photographs"].licence


def test_with_weights_and_detector_predict_has_all(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(weights, "problems", lambda folder: [])
    monkeypatch.setattr(checkpoints, "latest_step", lambda folder: 7 if folder.parent.name == "demo" else None)
    for name in ("demo", "empty"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "data" / "people" / "1.0.0").mkdir(parents=True)
    (tmp_path / "data" / "people" / "1.0.0" / "dataset_info.json").write_text("{}", encoding="utf-8")
    assert doctor.main([]) == 0
    shown = capsys.readouterr().out
    assert "runs/demo (step 7)" in shown and "empty" not in shown
    assert "has all that it needs" in shown and "Apache-2.0 (Google" in shown
    assert _by_name(doctor.examine(), "ok")["datasets"].text == "people"


def test_weights_that_ship_with_the_package_are_enough(monkeypatch, tmp_path):
    its = packed.Packed(tmp_path, {"commit": "0123456789"}, {})
    monkeypatch.setattr(packed, "read", lambda: its)
    assert "embedded, of commit 01234567" in _by_name(doctor.examine(), "ok")["weights"].text


def test_damaged_weights_are_reported(tmp_path):
    (tmp_path / "absent.npz").write_bytes(b"damaged")
    found = [finding for finding in doctor.examine() if finding.what == "weights" and "absent.npz" in finding.text]
    assert [(finding.state, finding.remedy) for finding in found] == [("missing", "reinstall the package")]


def test_a_folder_without_the_licensed_body_is_reported(tmp_path):
    body = _by_name(doctor.examine(str(tmp_path)), "missing")["body"]
    assert "SMPL_NEUTRAL.pkl" in body.text and "https://smpl.is.tue.mpg.de" in body.licence


def test_without_npm_its_page_is_named(monkeypatch):
    monkeypatch.setattr(weights, "find_npm", lambda: None)
    assert "https://nodejs.org" in _by_name(doctor.examine(), "note")["npm"].remedy


def test_one_broken_check_does_not_hide_the_others(monkeypatch):
    def broken(body):
        raise ImportError("no such library")

    monkeypatch.setattr(doctor, "CHECKS", [broken, doctor.device])
    first, second, *_ = doctor.examine()
    assert (first.state, first.what) == ("missing", "broken") and "ImportError: no such library" in first.text
    assert second.state == "ok"


def test_a_library_that_is_not_installed_is_reported(monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", ("jax", "no-such-library"))
    assert "no-such-library" in _by_name(doctor.examine(), "missing")["libraries"].text


def test_the_libraries_are_dependencies():
    with open(pathlib.Path(__file__).parents[1] / "pyproject.toml", "rb") as file:
        named = " ".join(tomllib.load(file)["project"]["dependencies"])
    assert all(library in named for library in doctor.LIBRARIES if library != "jaxlib")  # It comes with jax.


def test_without_viser_or_onnx_runtime_their_commands_are_named(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    (found,) = doctor.viewer("")
    assert found.state == "note" and found.remedy == 'pip install "viser>=1.1"'
    (found,) = doctor.onnx("")
    assert (found.state, found.text) == ("note", "onnx is not installed: no --onnx")
    with open(pathlib.Path(__file__).parents[1] / "pyproject.toml", "rb") as file:
        extra = tomllib.load(file)["project"]["optional-dependencies"]["onnx"]
    assert found.remedy == "pip install " + " ".join(f'"{package}"' for package in extra)


@pytest.mark.parametrize(
    ("version", "tpu", "remedies"),
    [
        (None, None, []),
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.10  Wed",
            None,
            [r"\.\[cuda13\].*this one is 570.86.10"],
        ),
        (None, "accel0", [r"pip install -e .\[tpu\]"]),
    ],
)
def test_an_accelerator_that_is_not_used_is_reported(version, tpu, remedies, monkeypatch, tmp_path):
    (tmp_path / "dev").mkdir()
    if version:
        (tmp_path / "version").write_text(version, encoding="utf-8")
    if tpu:
        (tmp_path / "dev" / tpu).touch()
    monkeypatch.setattr(doctor, "NVIDIA_DRIVER", tmp_path / "version")
    monkeypatch.setattr(doctor, "DEVICE_FILES", tmp_path / "dev")
    monkeypatch.setattr(doctor, "PLUGINS", ())  # Also where one is installed.
    found = list(doctor.device(""))
    assert [finding.what for finding in found[:2]] == ["device", "precision"] and "float32" in found[1].text
    assert [finding.state for finding in found[2:]] == ["note"] * len(remedies)
    for finding, remedy in zip(found[2:], remedies, strict=True):
        assert re.search(remedy, finding.remedy)


def test_an_accelerator_that_was_asked_for_and_is_missing_is_one_finding_with_the_driver(monkeypatch, tmp_path):
    def devices(*_):
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.10.1  Wed", encoding="utf-8")
    monkeypatch.setattr(doctor, "NVIDIA_DRIVER", tmp_path / "version")

    def computes(body):
        return jax.devices()

    monkeypatch.setattr(doctor, "CHECKS", [doctor.device, computes])
    missing, note = doctor.examine()
    assert missing.text.startswith("JAX_PLATFORMS=cuda asks for a device") and missing.remedy == "see the message"
    assert missing.text.endswith("NVIDIA driver: 470.10.1.")
    assert note.text.endswith("(JAX_PLATFORMS is 'cuda')") and "this one is 470.10.1" in note.remedy


def test_a_plugin_without_a_driver_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2.3")
    monkeypatch.setattr(doctor, "NVIDIA_DRIVER", tmp_path / "none")
    monkeypatch.setattr(doctor, "DEVICE_FILES", tmp_path)
    monkeypatch.setattr(doctor, "PLUGINS", ("jax-cuda12-plugin", "libtpu"))
    assert (
        "jax-cuda12-plugin 1.2.3, libtpu 1.2.3" in next(f for f in doctor.libraries("") if f.what == "libraries").text
    )
    note = list(doctor.device(""))[-1]
    assert note.text.startswith("jax-cuda12-plugin 1.2.3 is installed, and there is no NVIDIA driver")
    assert "580 for cuda13" in note.remedy
