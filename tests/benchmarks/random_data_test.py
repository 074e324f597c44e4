"""Random data are the same for all programs that are compared, and of ordinary size."""

import numpy as np

from benchmarks import random_data


def test_a_tensor_depends_on_its_name_alone():
    one, other = (random_data.tensor(name, (400, 100)) for name in ("fc1.weight", "fc2.weight"))
    np.testing.assert_array_equal(random_data.tensor("fc1.weight", (400, 100)), one)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02 and one.dtype == np.float32


def test_kernels_keep_the_size_of_what_they_read_and_norms_are_near_one():
    kernel = random_data.tensor("conv1.weight", (50, 40, 3, 3))
    np.testing.assert_allclose(kernel.std(), 1 / np.sqrt(40 * 3 * 3), rtol=0.02)
    np.testing.assert_allclose(random_data.tensor("fc1.bias", (4000,)).std(), 0.2, rtol=0.05)
    np.testing.assert_allclose(random_data.tensor("init_pose", (1, 4000), 0.02).std(), 0.02, rtol=0.05)
    for name in ("bn1.weight", "bn1.running_var"):
        norm = random_data.tensor(name, (1000,))
        assert 0.5 <= norm.min() < 0.51 and 1.49 < norm.max() <= 1.5


def test_inputs_hold_the_crops():
    crops = random_data.crops(2, 8)
    np.testing.assert_array_equal(random_data.inputs(2, crops).image, crops)
    assert crops.shape == (2, 8, 8, 3) and crops.dtype == np.uint8 and crops.std() > 50
    without = random_data.inputs(3)
    assert without.image is None and len(without.evidence) == len(without.example_hash) == 3
