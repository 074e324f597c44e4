"""A training with fits in the loop: it continues with the same store, and leaves files that others train on."""

import functools
import os
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest

from multibodies_jax.baselines.spin import targets
from multibodies_jax.data import fit_files, sources
from multibodies_jax.training import checkpoints, initialization, logs, loop, setup, training_data
from tests.helpers import small_sets, tiny

pytestmark = pytest.mark.slow
_SET, _COUNT = "synthetic_bodies/clean", small_sets.OPTIONS["num_train"]


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "dataset_options", lambda config: small_sets.OPTIONS)
        yield


def _config(**overrides):
    fields = {"data__dir": str(small_sets.data_dir()), "data__sets": (_SET,), "train__baseline": False}
    spin = {"model__name": "spin", "flow__steps": 0, "spin__steps": 3, "spin__threshold": 1000.0}
    return tiny.config(model__num_hypotheses=1, eval__ns=(1,), **spin | fields | overrides)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("spin") / "run"
    loop.train(_config(), workdir)
    return workdir


def _state(workdir: pathlib.Path):
    return checkpoints.restore(workdir / "checkpoints")[0]["state"]


def test_the_store_gets_better_where_there_is_no_truth(trained):
    assert max(line["fits_replaced"] for line in logs.read(trained / "checkpoints")) > 0
    assert checkpoints.restore(trained / "checkpoints")[1]["targets"] == {"sets": [[_SET, _COUNT]]}
    first, last = targets.make(_config(), *_bodies(), trained).first(), _state(trained)["memory"]
    known = first.loss_px2 == 0
    assert 0 < known.sum() < _COUNT  # Half of the examples have their 3D labels.
    for name in ("pose", "betas", "loss_px2"):
        np.testing.assert_array_equal(last[name][known], getattr(first, name)[known])
    changed = last["loss_px2"] != first.loss_px2
    assert changed.any() and (np.any(last["pose"] != first.pose, axis=(1, 2)) == changed).all()


@functools.cache
def _bodies():
    return (setup.load_bodies(_config()),)


def test_a_killed_run_continues_with_the_same_store(trained, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(trained, workdir)
    shutil.rmtree(workdir / "checkpoints" / "6")
    loop.train(_config(), workdir)
    jax.tree.map(np.testing.assert_array_equal, _state(workdir), _state(trained))
    assert logs.read(workdir / "checkpoints") == logs.read(trained / "checkpoints")
    name = f"{fit_files.stem(_SET)}.npz"
    assert (workdir / "fits" / name).read_bytes() == (trained / "fits" / name).read_bytes()


def test_the_fits_are_there_wherever_the_last_checkpoint_is(trained, tmp_path, monkeypatch):
    workdir, save = tmp_path / "copy", checkpoints.save
    shutil.copytree(trained, workdir)
    shutil.rmtree(workdir / "checkpoints" / "6")
    shutil.rmtree(workdir / "fits")

    def stopped(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        save(*arguments)

    monkeypatch.setattr(checkpoints, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        loop.train(_config(), workdir)
    name = f"{fit_files.stem(_SET)}.npz"
    assert checkpoints.latest_step(workdir / "checkpoints") == 6
    assert (workdir / "fits" / name).read_bytes() == (trained / "fits" / name).read_bytes()


def test_others_train_on_the_fits_that_it_left(trained):
    config = tiny.config(data__dir=str(small_sets.data_dir()), data__sets=(_SET,), data__withheld_3d=0.5)
    (bare,) = training_data.open_each(config)
    config.data.fits = str(trained)
    (filled,) = training_data.open_each(config)
    valid = fit_files.read_set(trained, _SET, _COUNT).valid
    for record, without, good in zip(filled, bare, valid, strict=True):
        assert record["smpl_valid"] == max(float(without["smpl_valid"]), float(good))
    assert sum(r["smpl_valid"] for r in filled) > sum(r["smpl_valid"] for r in bare)


def test_a_store_of_other_sets_is_not_trained_on(trained, tmp_path, monkeypatch):
    memory, metadata = _state(trained)["memory"], checkpoints.restore(trained / "checkpoints")[1]
    source = initialization.Source(trained, {}, metadata, memory)
    made = targets.make(_config(), *_bodies(), trained)
    found = source.memory_of(made)
    assert isinstance(found, targets.Store)
    np.testing.assert_array_equal(found.pose, memory["pose"])
    monkeypatch.setattr(targets.Loop, "about", {"sets": [["other", 3]]})
    assert source.memory_of(made) is None
    shutil.copytree(trained, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"(?s)labels of .*clean.*the sets were built anew with other examples"):
        loop.train(_config(train__steps=8), tmp_path / "copy")
