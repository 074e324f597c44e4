"""What becomes of rows that are stacked."""

import jax
import numpy as np
import pytest

from multibodies_jax import batch


def _rows():
    rng = np.random.default_rng(0)
    names = ("kp2d", "kp2d_valid", "kp2d_input", "joints3d", "joints3d_valid", "rotmats", "betas", "smpl_valid")
    return {name: rng.normal(size=2) for name in (*names, "example_hash", "valid")}


def test_every_array_goes_to_the_field_of_its_name():
    rows = _rows() | {"image": np.ones(2), "occlusion": np.zeros(2)}
    found = batch.batch_of(rows)
    for part in (found.inputs, found.target, found):
        for name, values in rows.items():
            if hasattr(part, name):
                assert getattr(part, name) is values
    assert len(jax.tree.leaves(found)) == len(_rows()) + 2  # The image, and `kp2d` as evidence and as target.


def test_a_detectors_noise_is_evidence_and_no_target():
    rows = _rows() | {"evidence": np.ones(2)}
    found = batch.batch_of(rows)
    assert found.inputs.evidence is rows["evidence"] and found.target.kp2d is rows["kp2d"]
    assert found.inputs.image is None and found.inputs.feature is None


def test_a_row_that_lacks_a_target_makes_no_batch():
    rows = _rows()
    del rows["betas"]
    with pytest.raises(KeyError, match="betas"):
        batch.batch_of(rows)
    assert batch.inputs_of(rows).evidence is rows["kp2d"]
