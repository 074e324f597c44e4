"""Fits out of and into work directories, as SPIN stores them."""

import numpy as np
import pytest

from multibodies_jax import fits
from multibodies_jax.baselines.spin import targets
from multibodies_jax.data import fit_files
from multibodies_jax.training import checkpoints


def trained(workdir, **state):
    """A work directory with a checkpoint of a store of two sets, with 3 and 2 examples."""
    rng = np.random.default_rng(0)
    memory = {"pose": rng.normal(size=(5, 24, 3)), "betas": rng.normal(size=(5, 10))}
    memory |= {"loss_px2": np.array([0.0, 50.0, 200.0, 5.0, 5.0])}
    about = {"sets": [["lsp/spin", 3], ["a/b", 2]]}
    metadata = {"config": {"spin": {"threshold": 100.0}}, "targets": about}
    checkpoints.save(workdir / "checkpoints", 7, {"state": state or {"memory": memory}}, metadata)
    return memory


def test_fits_are_exported_set_by_set(tmp_path, capsys):
    memory = trained(tmp_path / "run")
    assert fits.main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "lsp-orig_fits.npy: 3 fits of lsp/spin at step 7, 67% of them good labels" in printed
    arrays = [np.load(tmp_path / "out" / f"{name}_fits.npy") for name in ("lsp-orig", "a-b")]
    assert [a.shape for a in arrays] == [(3, 82), (2, 82)] and arrays[0].dtype == np.float64
    np.testing.assert_array_equal(np.concatenate(arrays)[:, :72], memory["pose"].reshape(5, 72))
    np.testing.assert_array_equal(np.concatenate(arrays)[:, 72:], memory["betas"])


def test_what_is_exported_can_be_imported(tmp_path, capsys):
    memory = trained(tmp_path / "run")
    fits.main(["export", str(tmp_path / "run"), str(tmp_path / "out")])
    files = sorted(map(str, (tmp_path / "out").iterdir()))
    assert fits.main(["import", str(tmp_path / "new"), *files]) == 0
    assert "lsp-orig_fits.npy: 3 fits" in capsys.readouterr().out
    path = fit_files.find(tmp_path / "new" / targets.FIRST_FOLDER, "lsp/spin")
    assert path is not None
    found = fit_files.read(path, 3)
    np.testing.assert_array_equal(found.pose, memory["pose"][:3])


def test_the_last_import_of_a_set_holds_and_two_at_once_are_refused(tmp_path, capsys):
    for folder, value in (("a", 1.0), ("b", 2.0)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "mpii_fits.npy", np.full((3, 82), value))
    np.savez(tmp_path / "mpii_fits.npz", pose=np.zeros((3, 72)), shape=np.zeros((3, 10)))
    both = [str(tmp_path / folder / "mpii_fits.npy") for folder in ("a", "b")]
    assert fits.main(["import", str(tmp_path / "new"), *both]) == 2
    assert "b/mpii_fits.npy are fits of one set: give one of them" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    for given, value in ((str(tmp_path / "mpii_fits.npz"), 0.0), (both[1], 2.0), (both[0], 1.0)):
        assert fits.main(["import", str(tmp_path / "new"), given]) == 0
        path = fit_files.find(tmp_path / "new" / targets.FIRST_FOLDER, "mpii/spin")
        assert path is not None and np.all(fit_files.read(path, 3).betas == value)


def test_fits_beside_a_file_that_would_be_read_instead_are_not_exported(tmp_path, capsys):
    trained(tmp_path / "run")
    (tmp_path / "out").mkdir()
    np.savez(tmp_path / "out" / "a-b_fits.npz", pose=np.zeros((2, 72)), shape=np.zeros((2, 10)))
    assert fits.main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 2
    assert "a-b_fits.npz has fits of a/b, which would be read instead" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a-b_fits.npz"]


@pytest.mark.parametrize(
    "name, array, message",
    [
        ("b_fits.npy", np.full((3, 82), np.nan), "3 of 3 fits are not finite; the first is that of row 0 (from 0)"),
        ("b_fits.npy", np.zeros((3, 72)), "shapes (3, 0)"),
        ("b.npy", np.zeros((3, 82)), "b.npy is not called SET_fits.npy"),
        ("b_fits.npy", None, "b_fits.npy"),
    ],
)
def test_imports_that_cannot_be_used_are_refused_and_nothing_is_copied(tmp_path, capsys, name, array, message):
    np.save(tmp_path / "a_fits.npy", np.zeros((3, 82)))
    if array is not None:
        np.save(tmp_path / name, array)
    assert fits.main(["import", str(tmp_path / "new"), str(tmp_path / "a_fits.npy"), str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_training_does_not_change_its_first_fits(tmp_path, capsys):
    trained(tmp_path / "run")
    np.save(tmp_path / "a_fits.npy", np.zeros((3, 82)))
    assert fits.main(["import", str(tmp_path / "run"), str(tmp_path / "a_fits.npy")]) == 2
    assert "has trained for 7 steps from other fits: import into a new work directory" in capsys.readouterr().err


def test_exports_of_other_trainings_are_refused(tmp_path, capsys):
    trained(tmp_path / "run", params=np.zeros(2))
    assert fits.main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 2
    assert "was not trained with fits in the loop" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
