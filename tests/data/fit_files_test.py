"""Files of fits: what is written is read, both kinds, and what is wrong with one is a message."""

import re

import numpy as np
import pytest

from multibodies_jax.data import fit_files


def fits(N=3):
    rng = np.random.default_rng(0)
    return fit_files.Fits(rng.normal(size=(N, 24, 3)), rng.normal(size=(N, 10)), np.arange(N) != 1)


@pytest.mark.parametrize("plain", [True, False])
def test_what_is_written_is_read(tmp_path, plain):
    path = fit_files.write(tmp_path, "lsp/spin", fits(), plain)
    assert path.name == f"lsp-orig_fits.np{'y' if plain else 'z'}"
    found = fit_files.read(path, 3)
    np.testing.assert_array_equal(found.pose, fits().pose)
    np.testing.assert_array_equal(found.betas, fits().betas)
    np.testing.assert_array_equal(found.valid, [True] * 3 if plain else fits().valid)
    if plain:
        array = np.load(path)
        assert array.shape == (3, 82) and array.dtype == np.float64
        np.testing.assert_array_equal(array[:, :72], fits().pose.reshape(3, 72))


@pytest.mark.parametrize(
    "name, expected",
    [
        ("h36m/official", "h36m_fits"),
        ("coco2014/spin", "coco_fits"),
        ("mpi_inf_3dhp/spin", "mpi-inf-3dhp_fits"),
        ("synthetic_bodies/clean", "synthetic_bodies-clean_fits"),
        ("spin/mpii_train", "spin-mpii_train_fits"),
    ],
)
def test_files_are_called_as_spin_calls_its_sets(name, expected):
    assert fit_files.stem(name) == expected


def test_the_fits_of_a_set_are_found_in_a_folder_or_in_a_work_directory(tmp_path):
    folder = tmp_path / fit_files.FOLDER
    fit_files.write(folder, "mpii/spin", fits())
    for place in (folder, tmp_path):
        np.testing.assert_array_equal(fit_files.read_set(place, "mpii/spin", 3).pose, fits().pose)
    with pytest.raises(
        fit_files.FitsError, match=r"has no coco_fits\.npz or \.npy, the fits of coco2014/spin.*there: mpii_fits\.npz"
    ):
        fit_files.read_set(folder, "coco2014/spin", 3)
    with pytest.raises(fit_files.FitsError, match="there: no file of fits"):
        fit_files.read_set(tmp_path / "nothing", "mpii/spin", 3)


def test_fits_of_another_length_or_without_numbers_are_refused(tmp_path):
    path = fit_files.write(tmp_path, "mpii/spin", fits(), plain=True)
    with pytest.raises(fit_files.FitsError, match=r"mpii_fits\.npy has 3 fits and the set has 4 examples"):
        fit_files.read(path, 4)
    array = np.load(path)
    array[2, 75] = np.nan
    np.save(path, array)
    with pytest.raises(fit_files.FitsError, match=r"1 of 3 fits are not finite; the first is that of row 2"):
        fit_files.read(path, 3)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"pose": np.zeros((2, 72))}, "lacks shape"),
        ({"pose": np.zeros((2, 69)), "shape": np.zeros((2, 10))}, "has poses (2, 69)"),
        ({"pose": np.zeros((2, 72)), "shape": np.zeros((3, 10))}, "shapes (3, 10)"),
        ({"pose": np.zeros((2, 72)), "shape": np.zeros((2, 10)), "valid": np.zeros(3)}, "flags (3,)"),
        ({"pose": np.full((2, 72), "a"), "shape": np.zeros((2, 10))}, "other arrays than numbers"),
        ({"pose": np.zeros(()), "shape": np.zeros((2, 10))}, "has poses ()"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a_fits.npz", **arrays)
    with pytest.raises(fit_files.FitsError, match=re.escape(message)):
        fit_files.read(tmp_path / "a_fits.npz")
