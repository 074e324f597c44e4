"""Training: continues exactly, also after a kill; stops on NaN; refuses wrong work directories. On many devices: `devices_test`."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from multibodies_jax import devices, io
from multibodies_jax.data import sources
from multibodies_jax.losses import total
from multibodies_jax.training import checkpoints, inference, logs, loop, prior, provenance, setup
from tests.helpers import batches, tiny
from tests.helpers import trained as shared_run

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def people(monkeypatch):
    monkeypatch.setattr(sources, "load_people", tiny.load_people)


def _run(config, workdir: pathlib.Path) -> dict:
    loop.train(config, workdir)
    return checkpoints.restore(workdir / "checkpoints")[0]["state"]


def _assert_same(a, b):
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope="module")
def trained():
    """One finished run, shared: all stages."""
    return shared_run.workdir()


@pytest.fixture
def fitted(trained, tmp_path):
    """A work directory with the finished prior alone."""
    shutil.copytree(trained / "prior", tmp_path / "w" / "prior")
    return tmp_path / "w"


def test_all_stages_leave_their_checkpoints_and_logs(trained):
    for folder, last in {"prior": 4, "stage1": 4, "checkpoints": 6, "hmr": 6}.items():
        assert checkpoints.latest_step(trained / folder) == last
        assert logs.read(trained / folder)[-1]["step"] == last
    metadata = checkpoints.restore(trained / "checkpoints")[1]
    assert metadata["num_hypotheses"] == 6 and metadata["images_seen"] == 48
    assert checkpoints.restore(trained / "hmr")[1]["images_seen"] == 48


def test_a_run_that_stopped_continues_to_the_same_weights_and_losses(trained, tmp_path, monkeypatch):
    """And a SIGTERM during the last save of a stage ends the run before the next one."""
    workdir = tmp_path / "copy"
    shutil.copytree(trained, workdir)
    shutil.rmtree(workdir / "checkpoints" / "6")  # As if it had been stopped after step 4.
    shutil.rmtree(workdir / "hmr")
    save = checkpoints.save

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        save(*arguments)

    monkeypatch.setattr(checkpoints, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.train(tiny.config(), workdir)
    assert not (workdir / "hmr").exists()
    state = checkpoints.restore(workdir / "checkpoints")[0]["state"]
    _assert_same(checkpoints.restore(trained / "checkpoints")[0]["state"], state)
    assert logs.read(workdir / "checkpoints") == logs.read(trained / "checkpoints")


def test_sigterm_during_the_prior_saves_it_and_trains_nothing_else(tmp_path, monkeypatch):
    write = logs.Logger.write

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        write(*arguments)

    monkeypatch.setattr(logs.Logger, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.train(tiny.config(train__checkpoint_every=100), tmp_path)
    assert checkpoints.latest_step(tmp_path / "prior") == 2 and not (tmp_path / "stage1").exists()


def test_a_second_training_of_a_work_directory_is_refused_at_once(tmp_path):
    told = (
        rf"{tmp_path.name} is held by process {os.getpid()} on .*, which is training there. Wait .* another --workdir"
    )
    with provenance.locked(tmp_path, "training"), pytest.raises(io.LockedError, match=told):
        loop.train(tiny.config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["training.lock"]


@pytest.mark.parametrize(("fields", "field"), [({"stage1__batch": 7}, "stage1"), ({"train__batch": 9}, "train")])
def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_bound_or_trained(
    fields, field, tmp_path, monkeypatch
):
    monkeypatch.setattr(prior, "train_prior", lambda *_: pytest.fail("the prior was trained"))
    monkeypatch.setattr(devices, "everywhere", lambda: Mesh(np.array(2 * jax.devices()[:1]), (devices.EXAMPLES,)))
    with pytest.raises(ValueError, match=rf"over 2 devices: set config.{field}.batch to"):
        loop.train(tiny.config(**fields), tmp_path / "w")
    assert not (tmp_path / "w" / "config.json").exists()


def test_image_sets_are_opened_before_anything_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(prior, "train_prior", lambda *_: pytest.fail("the prior was trained"))
    monkeypatch.setattr(sources, "open_source", lambda *_: pytest.fail("a set was built before all names were known"))
    fields = {"data__sets": ("synthetic_bodies/clean", "synthetic_bodies/clear"), "data__weights": (0.5, 0.5)}
    with pytest.raises(ValueError, match="synthetic_bodies has no config 'clear'"):
        loop.train(tiny.config(data__dir=str(tmp_path / "data"), **fields), tmp_path / "w")


def test_more_steps_train_a_finished_run_on(trained, tmp_path, capsys):
    loop.train(tiny.config(), trained)
    assert "all 6 steps are done. --config.train.steps=12 trains it on" in capsys.readouterr().out
    shutil.copytree(trained, tmp_path / "w")
    config = tiny.config(train__steps=8)
    loop.train(config, tmp_path / "w")
    for folder in ("checkpoints", "hmr"):
        metadata = checkpoints.restore(tmp_path / "w" / folder, {})[1]
        assert checkpoints.latest_step(tmp_path / "w" / folder) == 8
        assert metadata["extended"] == [{"at_step": 6, "planned_steps": 6}]
    assert [line["step"] for line in logs.read(tmp_path / "w" / "checkpoints")] == list(range(1, 9))
    assert re.findall(r"(M = \d+|HMR): first step after \d+\.\d s\.", capsys.readouterr().err) == ["M = 6", "HMR"]
    assert json.loads((tmp_path / "w" / "config.json").read_text(encoding="utf-8"))["train"]["steps"] == 8
    with pytest.raises(ValueError, match=r"(?s)train.steps: 8 there, 6 now.*More steps than 8 train it on"):
        loop.train(tiny.config(), tmp_path / "w")


def test_a_killed_run_continues_to_the_same_weights(trained, tmp_path):
    code = "import sys, pathlib; from tests.helpers import batches, tiny; from multibodies_jax.data import sources; from multibodies_jax.training import loop; sources.load_people = tiny.load_people; "
    code += "loop.train(tiny.config(), pathlib.Path(sys.argv[1]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "w")], cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}
    )
    deadline = time.time() + 120
    while (
        checkpoints.latest_step(tmp_path / "w" / "stage1") is None and time.time() < deadline and process.poll() is None
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = _run(tiny.config(), tmp_path / "w")
    _assert_same(checkpoints.restore(trained / "checkpoints")[0]["state"], state)


def test_a_finished_run_is_not_trained_again(trained):
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*")}
    loop.train(tiny.config(), trained)
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*")} == before


def test_nan_stops_with_the_step_and_the_term(fitted, monkeypatch):
    original = total.total_loss

    def poisoned(*args, **kwargs):
        loss, terms, best = original(*args, **kwargs)
        return loss * np.nan, terms | {"pose": terms["pose"] * np.nan}, best

    monkeypatch.setattr(total, "total_loss", poisoned)
    with pytest.raises(FloatingPointError, match=r"step 1: .*loss_pose"):
        loop.train(tiny.config(), fitted)
    assert checkpoints.latest_step(fitted / "stage1") is None


def test_another_config_is_refused_but_evaluation_fields_are_free(trained):
    with pytest.raises(ValueError, match=r"loss.best: 25.0 there, 1.0 now"):
        loop.train(tiny.config(loss__best=1.0), trained)
    provenance.check_workdir(tiny.config(eval__ns=(1,), quantizer__weights="uniform"), trained)


def test_init_starts_from_a_single_hypothesis(trained, fitted):
    config = tiny.config(
        init=str(trained), train__baseline=False
    )  # As many steps: the program of the source is used again.
    loop.train(config, fitted)
    assert not (fitted / "stage1").exists()


def test_expanded_hypotheses_start_at_the_single_one_without_noise(trained, fitted, tmp_path):
    """From a source with a mean body of its own, as converted ones have, which goes with the weights."""
    source = tmp_path / "source"
    items, metadata, _ = checkpoints.restore(trained / "stage1")
    mean_state = [0.9 * x + 0.1 for x in metadata["mean_state"]]
    checkpoints.save(source, 4, items, metadata | {"mean_state": mean_state})
    config = tiny.config(
        init=str(source), model__init_noise=0.0, train__steps=1, optim__learning_rate=0.0, train__baseline=False
    )
    loop.train(config, fitted)
    bodies = setup.load_bodies(config)
    many = inference.restore(config, fitted / "checkpoints", bodies)
    one = inference.restore(config, source, bodies)
    kp2d = jnp.linspace(-1, 1, 2 * 48, dtype=np.float32).reshape(2, 24, 2)
    inputs = batches.inputs(kp2d=kp2d, kp2d_input=jnp.ones((2, 24)))
    np.testing.assert_allclose(many(inputs).joints24, np.repeat(one(inputs).joints24, 6, axis=1), atol=1e-5)
    carried = checkpoints.restore(fitted / "checkpoints")[1]["mean_state"]
    np.testing.assert_allclose(carried, mean_state, rtol=1e-6)


def test_frozen_trunk_does_not_move(trained, fitted):
    config = tiny.config(init=str(trained), freeze="trunk", train__steps=2, train__baseline=False)
    loop.train(config, fitted)
    before = checkpoints.restore(trained / "stage1")[0]["state"]["params"]["trunk"]
    after = checkpoints.restore(fitted / "checkpoints")[0]["state"]["params"]
    _assert_same(before, after["trunk"])


def test_config_json_holds_the_whole_config(trained):
    assert json.loads((trained / "config.json").read_text(encoding="utf-8"))["loss"]["best"] == 25.0
