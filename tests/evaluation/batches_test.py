"""Evaluation batches: in order, padded, and with the evidence of another example where that is asked for."""

import dataclasses

import jax
import numpy as np
import pytest

from multibodies_jax.data import sources
from multibodies_jax.evaluation import batches
from multibodies_jax.geometry import boxes
from tests.helpers import tiny


@pytest.fixture
def numbers(monkeypatch):
    """Five records that are numbers, and rows that say which."""
    monkeypatch.setattr(sources, "open_source", lambda config, name, split: [{"number": i} for i in range(5)])

    def row(config, record):
        number = record["number"]
        kp2d = np.full((24, 2), number, np.float32)
        fields = dict.fromkeys(("kp2d_valid", "kp2d_input", "joints3d", "joints3d_valid"), np.zeros(1, np.float32))
        fields |= dict.fromkeys(("rotmats", "smpl_valid"), np.float32(number))
        fields |= dict.fromkeys(("gender", "occlusion", "example_hash"), np.int32(number))
        fields |= {"example_id": f"image{number}", "kp2d": kp2d, "betas": np.float32(number), "valid": np.float32(1)}
        return fields

    monkeypatch.setattr(batches, "evaluation_row", row)


def read(others, **fields):
    config = tiny.config(eval__batch=2, **fields)
    found = list(batches.examples(config, "a set", "test", others))
    assert len(found) == batches.count(config, "a set", "test")
    keep = np.concatenate([one.batch.valid for one in found]) > 0
    return jax.tree.map(lambda *parts: np.concatenate(parts)[keep], *map(dataclasses.asdict, found))


@pytest.mark.usefixtures("numbers")
def test_every_example_comes_once_and_in_order():
    found = read(others=False)
    assert list(found["example_id"]) == [f"image{i}" for i in range(5)]
    assert found["others"] is None
    assert list(read(others=False, eval__max_examples=3)["example_id"]) == ["image0", "image1", "image2"]


@pytest.mark.usefixtures("numbers")
def test_other_evidence_is_of_the_example_half_the_set_away_and_has_no_truth():
    found = read(others=True)
    np.testing.assert_array_equal(found["others"]["evidence"][:, 0, 0], [2, 3, 4, 0, 1])
    np.testing.assert_array_equal(found["batch"]["inputs"]["evidence"][:, 0, 0], np.arange(5))
    np.testing.assert_array_equal(found["batch"]["target"]["kp2d"][:, 0, 0], np.arange(5))
    np.testing.assert_array_equal(found["others"]["example_hash"], np.arange(5))  # What is random stays the example's.


def test_the_full_box_gives_one_person_the_same_crop_with_and_without_hidden_limbs():
    rng = np.random.default_rng(0)
    ones, kp2d = np.ones(24, np.float32), rng.uniform(20, 180, (24, 2)).astype(np.float32)
    (center_full, scale_full), (center, scale) = (
        boxes.visible_box(kp2d, v) for v in (ones, np.eye(24, dtype=np.float32)[:12].sum(0))
    )
    record = {"example_id": b"a", "protocol_hint": b"", "kp2d": kp2d, "kp2d_valid": ones, "kp2d_input": ones}
    record |= {"box_center": center, "box_scale": scale, "box_center_full": center_full, "box_scale_full": scale_full}
    record |= {"joints3d": rng.normal(size=(24, 3)).astype(np.float32), "joints3d_valid": ones, "intrinsics_valid": 1.0}
    record |= {"pose": rng.normal(size=(24, 3)).astype(np.float32), "betas": np.zeros(10), "smpl_valid": np.float32(1)}
    record |= {"gender": np.int32(1), "occlusion": np.int32(1), "intrinsics": np.diag([900.0, 900.0, 1.0])}
    found = {}
    for name, expected in (("visible", (center, scale)), ("full", (center_full, scale_full))):
        row = batches.evaluation_row(tiny.config(eval__box=name), record)
        np.testing.assert_allclose(row["kp2d"], (kp2d - expected[0]) / (boxes.SIDE / 2 * expected[1]), rtol=1e-4)
        found[name] = row["box_scale"]
    assert found["visible"] < found["full"]
