"""Fits in another order than the rows of their set are refused; those that have no order are not."""

import numpy as np
import pytest

from multibodies_jax.data import fit_files
from multibodies_jax.training import fit_order
from tests.helpers import fitted_rows, random_body


@pytest.fixture(scope="module")
def joint_model():
    return random_body.make(0)[2]


@pytest.fixture(scope="module")
def source(joint_model):
    return fitted_rows.records(joint_model)


@pytest.mark.slow
def test_fits_of_their_rows_are_taken(source, joint_model):
    fit_order.check("a/b", source, fitted_rows.fits(), joint_model, 64)


@pytest.mark.slow
@pytest.mark.parametrize("by", [1, 11])
def test_fits_of_other_rows_are_refused(source, joint_model, by):
    with pytest.raises(
        fit_files.FitsError, match=r"The fits of a/b are of other rows: .* px\^2, from those of other rows"
    ):
        fit_order.check("a/b", source, fitted_rows.turned(by), joint_model, 64)


def test_what_has_no_order_is_taken(source, joint_model):
    N = fitted_rows.N
    alike = fit_files.Fits(np.zeros((N, 24, 3)), np.zeros((N, 10)), np.ones(N, bool))
    fit_order.check("a/b", source, alike, joint_model, 64)
    few = fitted_rows.turned(1)
    few.valid[5:] = False
    fit_order.check("a/b", source, few, joint_model, 64)
