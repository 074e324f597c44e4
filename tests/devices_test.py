"""On eight devices every example has the numbers that it has on one, each device does its own work, and training goes on."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from multibodies_jax.training import logs
from tests.helpers import many_devices, trained

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What `many_devices` found in a process of its own."""
    folder = tmp_path_factory.mktemp("devices")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={many_devices.COUNT}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.many_devices", str(trained.workdir()), str(folder)],
        cwd=ROOT,
        # With as many threads as a small machine has cores, XLA's virtual devices wait for each other for ever.
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "NPROC": str(2 * many_devices.COUNT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


def test_evaluation_gives_the_same_bits_on_one_device_and_on_eight(found):
    assert found["evaluation"]["arrays"] > 30
    assert found["evaluation"]["differences"] == {}


def test_prediction_gives_the_same_bits_on_one_device_and_on_eight(found):
    assert "sees keypoints only" in found["predictions"]["problem"]
    assert found["predictions"]["differences"] == {}


def test_a_fit_differs_by_rounding_on_eight_devices(found):
    """XLA orders the sums of its program otherwise for several devices; a fit makes the last bit more, in metres and pixels."""
    assert all(difference < 5e-3 for difference in found["predictions"]["refined"].values())
    assert found["predictions"]["fit"]  # The fit moved somebody.
    assert all(difference > 1e-2 for difference in found["predictions"]["fit"].values())


def test_no_collective_is_in_the_forward_pass_and_every_device_has_its_own_images(found):
    counts = found["forward"]["collectives"]
    assert counts["forward"] == counts["loop on each"] == 0
    assert counts["mean"] > 0 and counts["loop that follows"] > 0  # Which are found where there are some.
    assert found["forward"]["images"] == ["2"]


def test_the_work_of_a_device_does_not_depend_on_their_number(found):
    one, many = found["forward"]["flops"]
    assert one == many > 1e5


def test_eight_devices_train_as_one_does(found):
    """The prior, and the stage with several hypotheses."""
    for folder, name, losses in (("prior", "loss_nf", "prior"), ("checkpoints", "loss", "whole")):
        one = [line[name] for line in logs.read(trained.workdir() / folder)]
        np.testing.assert_allclose(found["training"][losses], one, rtol=2e-4)


def test_batch_norms_take_the_statistics_of_the_whole_batch(found):
    steps = found["image steps"]
    np.testing.assert_allclose(steps["many"], steps["one"], rtol=1e-5)
    assert max(steps["statistics"].values(), default=0.0) < 1e-4


def test_a_training_goes_on_with_other_numbers_of_devices(found):
    whole, changing = found["training"]["whole"], found["training"]["changing"]
    assert len(whole) == len(changing) == 6 and whole[0] != whole[-1]
    np.testing.assert_allclose(changing, whole, rtol=1e-5)  # Sums over the batch are in another order.
    assert found["training"]["kernel"] < 1e-5
