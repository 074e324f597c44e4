"""The paper's mixture of training sets: its config reads real sets by their shares."""

from typing import Any

import ml_collections
import numpy as np
import pytest

import tfds_builders
from configs import mixture
from multibodies_jax.data import sources
from multibodies_jax.training import config_checks, setup, training_data
from tests.helpers import small_sets, training_archives
from tests.helpers.training_checks import write_list
from tfds_builders import workers


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """LSP, MPII and COCO from lists of 1, 3 and 2 rows, two of them with fits, and MPI-INF-3DHP."""
    monkeypatch.setattr(workers, "pool", small_sets.in_process)
    root, data = tmp_path / "archive", tmp_path / "data"
    root.mkdir()
    (root / "static_fits").mkdir()
    sets = {
        "lsp": ("lsp_dataset_original_train", ["images/im0001.jpg"], "lsp-orig"),
        "mpii": ("mpii_train", [f"images/01560186{i}.jpg" for i in (4, 5, 6)], "mpii"),
        "coco2014": ("coco_2014_train", [f"train2014/COCO_train2014_00000000000{i}.jpg" for i in (1, 2)], "coco"),
        "mpi_inf_3dhp": ("mpi_inf_3dhp_train", ["S1/Seq1/imageFrames/video_0/frame_000001.jpg"], "mpi-inf-3dhp"),
    }
    for stem, images, fits in sets.values():
        for image in images:
            training_archives.write_image(root / image)
        write_list(root, stem, images)
        np.save(root / f"static_fits/{fits}_fits.npy", np.full((len(images), 82), 0.1))
    options = {"static_fits": str(root / "static_fits"), "jpeg_quality": 90}
    for name in sets:
        tfds_builders.build(f"{name}/spin", data, manual_dir=root, **options)
    return data


@pytest.mark.slow
def test_the_mixture_reads_every_set_by_its_share(data_dir):
    config = mixture.get_config("paper")
    config.data.dir = str(data_dir)
    built = next((data_dir / "lsp").iterdir()).name  # spin-jpeg90-static_fits_...
    config.data.sets = tuple(
        sets.replace("spin", built) for sets in config.data.sets[1:]
    )  # Human3.6M is tested elsewhere.
    config.data.weights = config.data.weights[1:]
    config.model.crop_size = 16
    config_checks.validate(config)
    data = training_data.open_data(config, setup.load_bodies(config), 35, seed=0)
    batch = next(data.batches)
    assert batch["image"].shape == (35, 16, 16, 3) and np.all(batch["smpl_valid"] == 1)
    opened = [sources.open_source(config, name, "train") for name in config.data.sets]
    assert [len(source) for source in opened] == [6, 1]  # 1 + 3 + 2.
    hashes, counts = np.unique(batch["example_hash"], return_counts=True)
    assert len(hashes) == 7 and sorted(counts) == [5] * 7  # 6 to 1, as the weights .6 to .1; in the wild all alike.


def test_the_mixtures_are_those_of_the_paper_and_of_the_released_code():
    paper: Any = mixture.get_config("paper")
    released: Any = mixture.get_config()
    wild = [set(config.data.sets[1].replace("/spin", "").split(", ")) for config in (paper, released)]
    assert wild == [{"lsp", "mpii", "coco2014"}, {"lsp", "lspet", "mpii", "coco2014"}]
    assert released.data.weights == (0.3, 0.6, 0.1) and isinstance(mixture.get_config(), ml_collections.ConfigDict)
    names = [name for config in (paper, released) for name in ", ".join(config.data.sets).split(", ")]
    assert set(names) <= set(tfds_builders.known_names())
    with pytest.raises(ValueError, match="choose one of paper, released"):
        mixture.get_config("spin")
