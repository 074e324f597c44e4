"""Two processes train as one does, and one of them alone writes."""

import concurrent.futures
import os
import pathlib
import re
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from multibodies_jax.data import sources
from multibodies_jax.training import checkpoints, logs, loop, multihost
from tests.helpers import tiny

ROOT = pathlib.Path(__file__).parents[2]
TRAIN = """
import pathlib, sys
from multibodies_jax.data import sources
from multibodies_jax.training import loop, multihost
from tests.training import multihost_test
from tests.helpers import tiny
sources.load_people, sources.build_data = tiny.load_people, lambda config: None
multihost.initialize()
loop.train(multihost_test.config(), pathlib.Path(sys.argv[1]))
"""


def config() -> Any:
    return tiny.config(model__name="hmr", model__num_hypotheses=1, eval__ns=(1,))


def _start(workdir: pathlib.Path, **variables: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(workdir)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def test_two_processes_train_as_one_does_and_write_once(tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    runs = []
    for process in range(2):
        variables = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(process)}
        runs.append(_start(tmp_path / "two", **variables))
    monkeypatch.setattr(sources, "load_people", tiny.load_people)
    loop.train(config(), tmp_path / "one")
    outputs = [run.communicate(timeout=600)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    for folder in ("prior", "checkpoints"):
        one, two = (logs.read(tmp_path / name / folder) for name in ("one", "two"))
        assert [line["step"] for line in two] == [line["step"] for line in one]
        loss = "loss_nf" if folder == "prior" else "loss"
        np.testing.assert_allclose([line[loss] for line in two], [line[loss] for line in one], rtol=2e-4)
    assert len(list((tmp_path / "two" / "checkpoints").glob("events.*"))) == 1
    state = checkpoints.restore(tmp_path / "two" / "checkpoints")[0]["state"]
    assert state["params"]["head"]["dec"]["kernel"].shape[1] == 157
    assert "HMR" in outputs[0] and "HMR" not in outputs[1]


def test_without_other_processes_the_message_says_how_to_start_them(tmp_path):
    command = [sys.executable, "run.py", "--distributed", "--mode=train", f"--workdir={tmp_path}"]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2 and "JAX_COORDINATOR_ADDRESS" in done.stderr and "Traceback" not in done.stderr


def _meet(port, process_id, seconds=5.0, num_processes=3):
    try:
        multihost.meet(f"localhost:{port}", num_processes, process_id, seconds)
    except ValueError as error:
        return str(error)
    return "met"


def _free_port():
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("come", "seconds", "told"),
    [
        ((0, 1, 2), 5.0, {0: "met", 1: "met", 2: "met"}),
        ((0, 2), 0.5, {0: "process 1 of 3 did not come", 2: "did not answer, or others did not come"}),
        ((1,), 0.3, {1: "the first process at localhost:.* did not answer"}),
    ],
)
def test_processes_wait_for_each_other_and_say_who_is_missing(come, seconds, told):
    port = _free_port()
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        answers = {i: threads.submit(_meet, port, i, seconds) for i in come}
        for number, answer in answers.items():
            assert re.search(told[number], answer.result())
    with socket.create_server(("", port)):
        pass  # The port is free for JAX.


@pytest.mark.parametrize(
    ("address", "number", "message"),
    [
        ("localhost", 0, "is not HOST:PORT"),
        ("localhost:99999", 0, "is not HOST:PORT"),
        ("localhost:80", 3, "JAX_PROCESS_ID=3 is not from 0 to 2"),
        ("no.such.host.invalid:80", 1, "there is no host 'no.such.host.invalid'"),
    ],
)
def test_addresses_and_numbers_that_cannot_be_are_refused(address, number, message):
    with pytest.raises(ValueError, match=message):
        multihost.meet(address, 3, number, 0.5)
