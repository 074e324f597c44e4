"""Sources whose labels are withheld, filled with fits, or numbered."""

import numpy as np
import pytest

from multibodies_jax.data import augment, fit_files, labels


def records(N=200, smpl_valid=1.0):
    ones = np.ones(24, np.float32)
    return [
        {
            "example_id": f"set/{i}".encode(),
            "kp2d_valid": ones,
            "joints3d": np.full((24, 3), i, np.float32),
            "joints3d_valid": ones,
            "pose": np.full((24, 3), i, np.float32),
            "betas": np.full(10, i, np.float32),
            "smpl_valid": np.float32(smpl_valid),
        }
        for i in range(N)
    ]


def test_3d_labels_are_withheld_from_about_the_share_and_always_from_the_same_examples():
    every = records()
    half, more = labels.Withheld(every, 0.5), labels.Withheld(every[::-1], 0.7)
    lost = {bytes(r["example_id"]) for r in half if r["smpl_valid"] == 0}
    assert 80 < len(lost) < 120
    assert lost < {bytes(r["example_id"]) for r in more if r["smpl_valid"] == 0}
    for old, new in zip(every, half, strict=True):
        without = new["smpl_valid"] == 0
        for name in ("joints3d", "joints3d_valid", "pose", "betas", "smpl_valid"):
            np.testing.assert_array_equal(new[name], 0 * old[name] if without else old[name])
            assert new[name].dtype == old[name].dtype
        np.testing.assert_array_equal(new["kp2d_valid"], old["kp2d_valid"])
    assert all(r["smpl_valid"] == 1 for r in labels.Withheld(every, 0.0))
    assert all(r["smpl_valid"] == 0 for r in labels.Withheld(every, 1.0))


def test_valid_fits_stand_in_for_parameters_that_are_missing():
    every = records(1) + records(3, smpl_valid=0.0)[1:]
    fits = fit_files.Fits(np.full((3, 24, 3), 7.0), np.full((3, 10), 8.0), np.array([True, False, True]))
    found = list(labels.WithFits(every, fits))
    assert [float(r["smpl_valid"]) for r in found] == [1, 0, 1]
    assert [float(r["pose"][0, 0]) for r in found] == [0, 1, 7] and found[2]["pose"].dtype == np.float32
    assert float(found[2]["betas"][0]) == 8
    with pytest.raises(ValueError, match="3 fits and 4 examples"):
        labels.WithFits(records(4), fits)


def test_places_count_on_from_the_sets_before():
    numbered = labels.Numbered(records(3), 5)
    assert [int(r["place"]) for r in numbered] == [5, 6, 7]
    with pytest.raises(IndexError, match="no example 3"):
        numbered[3]


def test_an_example_says_how_it_was_augmented_if_its_place_is_asked_for():
    rng = np.random.default_rng(0)
    ones, kp2d = np.ones(24, np.float32), rng.uniform(20, 80, (24, 2)).astype(np.float32)
    record = records(1)[0] | {"kp2d": kp2d, "kp2d_input": ones}
    record |= {name: np.array([50.0, 50.0]) for name in ("box_center", "box_center_full")}
    record |= {"box_scale": 0.4, "box_scale_full": 0.4, "pose": np.zeros((24, 3), np.float32)}
    strength = augment.Strength(flip=1.0, rotate=1.0, angle_deg=30.0)
    (numbered,) = labels.Numbered([record], 9)
    example = augment.training_example(numbered, np.random.default_rng(1), 64, with_image=False, strength=strength)
    assert example["place"] == 9 and example["flip"] == 1
    # Mirrored after it was turned: the root's rotation about z has the other sign.
    angle = np.arctan2(example["rotmats"][0, 1, 0], example["rotmats"][0, 0, 0])
    assert angle == pytest.approx(-float(example["angle"]), abs=1e-6) and abs(angle) > 0.01
    without = augment.training_example(record, np.random.default_rng(1), 64, with_image=False, strength=strength)
    assert set(example) - set(without) == {"place", "angle", "flip"}
