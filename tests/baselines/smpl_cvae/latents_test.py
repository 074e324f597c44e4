"""What is measured of the latents, where it is known, and the verdicts."""

import math

import numpy as np
import pytest

from multibodies_jax.baselines.smpl_cvae import latents


def test_latents_that_say_nothing_have_no_information():
    prior = np.zeros((600, 4)), np.zeros((600, 4))
    assert latents.information(*prior) == {
        "kl": 0.0,
        "mutual_information": 0.0,
        "mutual_information_limit": pytest.approx(math.log(600)),
        "active_units": 0.0,
    }
    shifted = latents.information(np.full((600, 4), 2.0), np.full((600, 4), -1.0))  # Far from the prior, but all alike.
    assert shifted["kl"] > 8 and shifted["mutual_information"] < 1e-9 and shifted["active_units"] == 0


def test_latents_that_tell_all_apart_have_log_n():
    mean = np.zeros((600, 4))  # More than the rows of one block.
    mean[:, 1] = 10 * np.arange(600)
    got = latents.information(mean, np.full((600, 4), -3.0))
    assert got["mutual_information"] == pytest.approx(math.log(600)) and got["active_units"] == 1


def test_information_of_a_gaussian_channel():
    """z = x + noise with both Gaussian: log(1 + var_x / var_noise) / 2 per number; 2 of 3 numbers carry some."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(1500, 3)) * np.array([[0.8, 0.6, 0.0]])
    log_var = np.log(np.tile([[0.36, 0.64, 1.0]], (1500, 1)))  # The mixture of all is the prior: KL is the information.
    expected = 0.5 * (math.log(1 / 0.36) + math.log(1 / 0.64))
    got = latents.information(mean, log_var)
    assert got["kl"] == pytest.approx(expected, rel=0.06)
    assert got["mutual_information"] == pytest.approx(expected, rel=0.1)
    assert got["active_units"] == 2


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.full((2, 3), np.nan)])
def test_information_refuses_what_is_no_encoding(bad):
    with pytest.raises(ValueError, match="finite encodings of examples"):
        latents.information(np.zeros_like(bad), bad)


HEALTHY = {"kl": 5.0, "active_units": 6.0, "error_encoded_mm": 40.0, "error_sampled_mm": 50.0, "spread_mm": 30.0}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({}, "neither"),
        ({"kl": 0.6}, "collapsed"),
        ({"active_units": 0.0}, "collapsed"),
        ({"spread_mm": 0.9}, "collapsed"),
        ({"error_encoded_mm": 24.0}, "cheats"),
        ({"error_encoded_mm": 24.0, "spread_mm": 0.9}, "cheats"),  # Encodings so far out that samples are alike.
    ],
)
def test_the_verdict(numbers, expected):
    assert latents.verdict(**HEALTHY | numbers) == expected
    assert expected in latents.VERDICTS


@pytest.mark.parametrize("value", [math.nan, -1.0])
def test_a_verdict_needs_numbers(value):
    with pytest.raises(ValueError, match=r"finite numbers.*spread_mm"):
        latents.verdict(**HEALTHY | {"spread_mm": value})
