"""Scalar logs: what is written is read back, once per step, also after kills and restarts."""

import importlib
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from multibodies_jax.training import logs


def _events(directory):
    """(step, tag, value) of all event files: records of length (8), crc (4), data, crc (4)."""
    found = []
    for path in sorted(directory.glob("events*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])  # pyright: ignore[reportAttributeAccessIssue]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            at += length + 16
    return found


def test_scalars_come_back_from_both_files(tmp_path):
    with logs.Logger(tmp_path / "run") as logger:
        logger.write(1, {"loss": 0.5, "rate": np.float32(0.25)})
        logger.write(2, {"loss": jnp.array([4.0]).reshape(())})
    expected = [{"step": 1, "loss": 0.5, "rate": 0.25}, {"step": 2, "loss": 4.0}]
    assert logs.read(tmp_path / "run") == expected
    assert _events(tmp_path / "run") == [(1, "loss", 0.5), (1, "rate", 0.25), (2, "loss", 4.0)]


def test_what_is_not_finite_is_null(tmp_path):
    with logs.Logger(tmp_path) as logger:
        logger.write(1, {"a": float("nan"), "b": float("inf"), "c": 1.0})
    assert (tmp_path / "log.jsonl").read_text(encoding="utf-8") == '{"step": 1, "a": null, "b": null, "c": 1.0}\n'
    assert _events(tmp_path) == [(1, "c", 1.0)]


def test_every_line_is_on_disk_at_once(tmp_path):
    logger = logs.Logger(tmp_path)
    logger.write(1, {"loss": 1.0})
    assert logs.read(tmp_path) == [{"step": 1, "loss": 1.0}]
    logger.close()


def test_a_resumed_run_has_every_step_once(tmp_path):
    with logs.Logger(tmp_path) as logger:
        for step in range(1, 6):
            logger.write(step, {"loss": step})
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 6, "lo')  # Killed here.
    with logs.Logger(tmp_path, step=3) as logger:
        for step in range(4, 7):
            logger.write(step, {"loss": 10 * step})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50), (6, 60)]


def test_a_new_run_starts_a_new_log(tmp_path):
    for value in (1.0, 2.0):
        with logs.Logger(tmp_path) as logger:
            logger.write(1, {"loss": value})
    assert logs.read(tmp_path) == [{"step": 1, "loss": 2.0}]


@pytest.mark.parametrize("line", ["rubbish", "[1]", '{"loss": 1}', '{"step": "1"}', "\xff"])
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "log.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n', encoding="latin1")
    with pytest.raises(ValueError, match=r"Line 2 of .*log.jsonl"):
        logs.read(tmp_path)


def test_a_missing_log_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        logs.read(tmp_path)


def test_pytorch_is_not_imported_and_can_be_afterwards(tmp_path, monkeypatch):
    """It stands for PyTorch, and says when it is imported."""
    (tmp_path / "torch.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tensorboardX", "torch")]:
        monkeypatch.delitem(sys.modules, name)
    with logs.Logger(tmp_path / "run") as logger:
        logger.write(1, {"loss": 0.5})
    assert _events(tmp_path / "run") == [(1, "loss", 0.5)]
    with pytest.raises(RuntimeError, match="imported"):
        importlib.import_module("torch")
