"""The sharpness of probabilities; `quantize_test` has what it does to a choice of representatives."""

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.hypotheses import quantize, sharpening
from tests.helpers.random_hypotheses import keys, make_hypotheses


def test_a_cluster_without_mass_keeps_none_and_a_sharpness_below_0_is_refused():
    found = sharpening.sharpened(jnp.array([0.75, 0.25, 0.0]), 0.0)
    np.testing.assert_allclose(found, [0.5, 0.5, 0.0])
    assert np.isnan(sharpening.sharpened(jnp.array([0.75, np.nan]), 0.5)).all()
    for bad in (-0.1, np.nan, np.inf, 1e300):
        with pytest.raises(ValueError, match=r"The sharpness is .*; it has to be from 0 .all clusters alike. to 100"):
            quantize.select(make_hypotheses(), 4, keys(3), sharpness=bad)
