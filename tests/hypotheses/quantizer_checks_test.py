"""What the quantizer refuses is refused by everything that calls it, with a message."""

import jax.numpy as jnp
import pytest

from multibodies_jax.hypotheses import quantize
from tests.helpers.random_hypotheses import keys, make_hypotheses


def test_a_truth_value_is_no_number_of_bodies():
    with pytest.raises(ValueError, match=r"Cannot choose n=True .* whole"):
        quantize.select(make_hypotheses(), True, keys(3))


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), jnp.float32(-0.1)])
def test_a_temperature_below_0_is_refused_whatever_the_weights(temperature):
    for weights in ("prior", "uniform"):
        with pytest.raises(ValueError, match=r"has to be 0 .* or more"):
            quantize.select(make_hypotheses(), 2, keys(3), weights=weights, temperature=temperature)


def test_bad_input_is_explained():
    h = make_hypotheses()
    with pytest.raises(ValueError, match="n=13 of M=12"):
        quantize.select(h, 13, keys(3))
    with pytest.raises(ValueError, match="one key per example"):
        quantize.select(h, 2, keys(2))
    with pytest.raises(ValueError, match="n=0 of M=12"):
        quantize.random_subset(12, 0, keys(3))
    with pytest.raises(ValueError, match=r"Unknown quantizer\.reading 'kmeans'; choose one of paper"):
        quantize.select(h, 5, keys(3), reading="kmeans")
    with pytest.raises(ValueError, match="at least 1 start"):
        quantize.select(h, 5, keys(3), starts=0)
    with pytest.raises(ValueError, match="one key per example"):
        quantize.quantize(h.joints24.reshape(3, 12, 72), h.log_prior, 5, keys(1))
