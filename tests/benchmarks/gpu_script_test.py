"""`benchmarks/gpu.sh` runs every command and tells what failed; `.ci/run` runs it whole at small sizes."""

import os
import pathlib
import subprocess
import tarfile

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "gpu.sh"
NAMES = {
    "figures": {"cold_demo", "cold_training", "released", "stages", "quantizer", "joints", "tests"},
    "roofline": {"roofline_bfloat16", "roofline_float32", "pipeline"},
    "released": {"released_bfloat16", "released_float32"},
    "torch": {"torch_bfloat16", "torch_float32"},
    "tests": {"tests"},
    "compile": {
        f"{how}_{what}" for how in ("autotuned", "no_triton", "not_autotuned") for what in ("demo", "multibodies")
    },
}


def _run(part, python, out):
    """With a Python that does nothing but end, as `true` or `false`."""
    environment = os.environ | {"SMALL": "1", "PYTHON": python, "OUT": str(out)}
    return subprocess.run(
        ["bash", str(SCRIPT), part],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize("part", NAMES)
def test_each_part_runs_its_commands_and_says_which_failed(part, tmp_path):
    (tmp_path / "true").mkdir()
    (tmp_path / "true" / "of_another_part.txt").touch()  # Is not packed with this part's.
    done = _run(part, "true", tmp_path / "true")
    assert done.returncode == 0 and "status" not in done.stdout and not done.stderr
    names = NAMES[part] | {"installed"}  # What it ran on, whatever the part.
    assert {path.stem for path in (tmp_path / "true").glob("*.txt")} == names | {"of_another_part"}
    with tarfile.open(tmp_path / "true" / f"{part}.tar.gz") as packed:
        assert {name.partition(".")[0] for name in packed.getnames()} == names
    failed = _run(part, "false", tmp_path / "false")
    assert failed.returncode == 1 and failed.stdout.count("status 1; see") == len(NAMES[part])


def test_a_machine_without_the_detector_is_no_failure(tmp_path):
    """`multibodies doctor` ends with 1 there, and with more, or by a signal, where it breaks."""
    for status, failed in ((1, 0), (2, 1)):
        python = tmp_path / f"python{status}"
        python.write_text(f"#!/bin/sh\ncase $3 in doctor) exit {status};; esac\n", encoding="utf-8")
        python.chmod(0o755)
        assert _run("figures", str(python), tmp_path / f"{status}").returncode == failed


def test_an_unknown_part_is_refused(tmp_path):
    done = _run("rooflines", "false", tmp_path)
    assert done.returncode == 2 and "figures, roofline, released, torch, compile or tests" in done.stderr
