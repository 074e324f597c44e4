"""Two processes train, evaluate and predict as one does, and one of them alone writes."""

import concurrent.futures
import os
import pathlib
import queue
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from multibodies_jax import io
from multibodies_jax.data import sources
from multibodies_jax.evaluation import evaluate, pictures
from multibodies_jax.prediction import predict, predictor
from multibodies_jax.training import checkpoints, logs, loop, multihost
from tests.helpers import small_sets, tiny

ROOT = pathlib.Path(__file__).parents[2]
PROCESS = """
import sys
from tests.training import multihost_test
multihost_test.process(*sys.argv[1:])
"""


def config(data_dir: str | os.PathLike = "data") -> Any:
    fields = {"model__name": "hmr", "model__num_hypotheses": 1, "eval__ns": (1,), "eval__methods": ("main",)}
    fields |= {"eval__sets": ("synthetic_bodies/clean",), "eval__batch": 3, "eval__vertex_stride": 500}
    return tiny.config(**fields, data__dir=str(data_dir))


def process(workdir: str, data_dir: str, photographs: str) -> None:
    """What each of the two processes does: trains, evaluates and predicts."""
    sources.load_people, sources.build_data = tiny.load_people, lambda config: None
    multihost.initialize()
    loop.train(config(data_dir), pathlib.Path(workdir))
    _evaluate(data_dir, workdir)
    model = predictor.load(workdir, config(data_dir))
    predict.predict(model, photographs, f"{photographs}/people.json", 1, f"{workdir}/predictions", refine=False)
    own = np.arange(3) + 10 * jax.process_index()
    print("turns", [part["a"].tolist() for part in multihost.in_turns([{"a": own}, {"a": own[1:]}])], flush=True)


def _evaluate(data_dir: str | os.PathLike, workdir: str | os.PathLike) -> None:
    sources.dataset_options = lambda config: small_sets.OPTIONS
    pictures.draw = lambda *arguments: None
    evaluate.evaluate(config(data_dir), pathlib.Path(workdir))


def _photographs(folder: pathlib.Path) -> pathlib.Path:
    """Three images, and keypoints of a person in each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = ["a.png", "b.png", "c.png"]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (60, 50, 3)).astype(np.uint8)).save(folder / name)
    people = [
        {"image_id": i, "keypoints": np.column_stack([rng.uniform(5, 45, (17, 2)), np.full(17, 2.0)]).ravel().tolist()}
        for i in range(3)
    ]
    content = {"images": [{"id": i, "file_name": name} for i, name in enumerate(names)], "annotations": people}
    io.write_json(folder / "people.json", content)
    return folder


def _start(*arguments: pathlib.Path, **variables: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def test_two_processes_train_evaluate_and_predict_as_one_does_and_write_once(tmp_path, monkeypatch):
    data_dir, photographs = small_sets.data_dir(), _photographs(tmp_path / "photographs")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    runs = []
    for process in range(2):
        variables = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(process)}
        runs.append(_start(tmp_path / "two", data_dir, photographs, **variables))
    monkeypatch.setattr(sources, "load_people", tiny.load_people)
    loop.train(config(data_dir), tmp_path / "one")
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

    # Batches of 3 of 7 examples: the first and the third, and the second and one of padding.
    assert "Written to" in outputs[0] and "Written to" not in outputs[1]
    shutil.copytree(tmp_path / "two", tmp_path / "again")
    monkeypatch.setattr(sources, "dataset_options", None)  # Which `_evaluate` sets, and `monkeypatch` puts back.
    monkeypatch.setattr(pictures, "draw", None)
    _evaluate(data_dir, tmp_path / "again")
    found, again = (dict(np.load(tmp_path / name / "per_example.npz")) for name in ("two", "again"))
    assert found.keys() == again.keys() and len(found["synthetic_bodies/clean|example_id"]) == 7
    for key, values in found.items():
        np.testing.assert_array_equal(values, again[key], err_msg=key)

    predictions = tmp_path / "two" / "predictions"
    assert sorted(path.name for path in predictions.glob("*.npz")) == ["a_0.npz", "b_0.npz", "c_0.npz"]
    index = (predictions / "index.html").read_text(encoding="utf-8")
    assert all(f"{name}.html" in index for name in "abc")
    assert "3 people written" in outputs[0] and "people written" not in outputs[1]
    assert all("turns [[0, 1, 2], [10, 11, 12], [1, 2], [11, 12]]" in output for output in outputs)


def test_without_other_processes_the_message_says_how_to_start_them(tmp_path):
    command = [sys.executable, "run.py", "--distributed", "--mode=evaluate", f"--workdir={tmp_path}"]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2 and "JAX_COORDINATOR_ADDRESS" in done.stderr and "Traceback" not in done.stderr


def test_a_process_that_an_error_ends_does_not_wait_for_the_others(monkeypatch):
    ended = queue.Queue()
    monkeypatch.setattr(os, "_exit", ended.put)
    multihost.end_soon(1, 0.0)  # Alone.
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    multihost.end_soon(2, 0.0)
    assert ended.get(timeout=60) == 2 and ended.empty()


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


def _say(port, number):
    """A process that says its number, and whatever the test does with its connection."""
    end = time.monotonic() + 20
    while True:
        try:
            connection = socket.create_connection(("localhost", port), timeout=20)
        except ConnectionError:  # The first process does not listen yet.
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            connection.sendall(f"{number}\n".encode())
            return connection


def _reset(connection):
    """Ends a connection as the system does where its process is killed with something unread."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        assert re.match(f"this process cannot listen at port {port}: .*in use", _meet(port, 0))


@pytest.mark.parametrize("end", [socket.socket.close, _reset])
def test_a_process_that_ended_while_it_waited_is_not_there(end):
    port = _free_port()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(_meet, port, 0, 2.0)
        end(_say(port, 1))
        with _say(port, 2):
            assert first.result() == "process 1 of 3 came, and did not wait for all others"


def test_a_process_that_ended_while_it_waited_may_come_again():
    port = _free_port()
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        first = threads.submit(_meet, port, 0, 20.0)
        _reset(_say(port, 1))
        others = [threads.submit(_meet, port, number, 20.0) for number in (1, 2)]
        assert [answer.result() for answer in (first, *others)] == ["met"] * 3


@pytest.mark.parametrize(("end", "why"), [(_reset, "reset"), (None, "timed out")])
def test_a_process_that_ends_when_all_are_there_is_named(end, why, monkeypatch):
    monkeypatch.setattr(multihost, "ANSWER_SECONDS", 0.5)
    port = _free_port()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(_meet, port, 0)
        one, two = _say(port, 1), _say(port, 2)
        with one, two:
            assert one.recv(2) == b"go"
            if end:
                end(one)
            assert re.match(rf"process 1 came, and then ended or did not go on \(.*{why}", first.result())


def test_processes_with_other_numbers_of_devices_are_refused_before_anything_is_trained(tmp_path):
    address, runs = f"localhost:{_free_port()}", []
    for number, count in enumerate((2, 1)):
        variables = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(number)}
        variables |= {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "JAX_PLATFORMS": "cpu"}
        runs.append(
            subprocess.Popen(
                [sys.executable, "-m", "multibodies_jax", "train", "--distributed", f"--workdir={tmp_path / 'w'}"],
                cwd=ROOT,
                env=os.environ | variables,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        )
    for run in runs:
        errors = run.communicate(timeout=300)[1]
        assert run.returncode == 2 and "The 2 processes have 2, 1 devices, and equally many are expected" in errors
    assert not (tmp_path / "w" / "config.json").exists()


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
