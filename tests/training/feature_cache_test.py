"""Cached features are those of the images, whole, and of what the folder is named after."""

import concurrent.futures
import json
import time

import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.training import feature_cache


def test_features_are_those_of_the_images(tmp_path):
    images = np.arange(6 * 4).reshape(6, 2, 2).astype(np.float32)
    calls = []

    def batches():
        calls.append(1)
        return iter({"image": images[i : i + 2], "valid": np.arange(i, i + 2)} for i in (0, 2, 4))

    def opened(**description):
        return feature_cache.open_cache(
            tmp_path / "c", description, 6, batches, lambda batch: jnp.asarray(batch["image"]).sum((1, 2))[:, None]
        )

    rows = opened(trunk="a")
    np.testing.assert_array_equal(rows["feature"][:, 0], images.sum((1, 2)))
    np.testing.assert_array_equal(rows["valid"], np.arange(6))
    assert "image" not in rows
    np.testing.assert_array_equal(opened(trunk="a")["feature"], rows["feature"])
    assert len(calls) == 1
    with pytest.raises(ValueError, match="cache of other features"):
        opened(trunk="b")
    (tmp_path / "c" / "feature.npy").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is no cache of features"):
        opened(trunk="a")


def test_two_runs_that_make_the_same_cache_leave_it_whole(tmp_path):
    calls = []

    def made():
        return feature_cache.open_cache(tmp_path / "c", {}, 4, batches, lambda batch: jnp.asarray(batch["image"]))[
            "feature"
        ][:, 0]

    def batches():
        calls.append(1)
        yield {"image": np.full((2, 3), 1.0)}
        if len(calls) == 1:
            other.append(pool.submit(made))  # Another run begins before this one is done.
            time.sleep(0.3)
        yield {"image": np.full((2, 3), 2.0)}

    other: list = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        np.testing.assert_array_equal(made(), [1, 1, 2, 2])
        np.testing.assert_array_equal(other[0].result(), [1, 1, 2, 2])
    assert len(calls) == 1


def test_a_cache_that_was_stopped_is_not_there(tmp_path):
    def batches():
        yield {"image": np.zeros((2, 3)), "valid": np.zeros(2)}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feature_cache.open_cache(tmp_path / "c", {}, 4, batches, lambda batch: jnp.asarray(batch["image"]))
    assert not (tmp_path / "c").exists()


def test_rows_beyond_the_count_are_left_out_and_no_more_batches_are_read(tmp_path):
    read = []

    def batches():
        for start in (0, 2, 4):
            read.append(start)
            yield {"image": np.arange(start, start + 2.0)[:, None], "index": np.arange(start, start + 2)}

    rows = feature_cache.open_cache(tmp_path / "c", {}, 3, batches, lambda batch: jnp.asarray(10 * batch["image"]))
    np.testing.assert_array_equal(rows["feature"], [[0.0], [10.0], [20.0]])
    np.testing.assert_array_equal(rows["index"], [0, 1, 2])
    assert read == [0, 2]


@pytest.mark.parametrize("damage", ["no manifest", "no array", "another count"])
def test_a_damaged_cache_is_refused_with_what_to_do(tmp_path, damage):
    def opened(count=2):
        return feature_cache.open_cache(tmp_path / "c", {}, count, lambda: iter([{"image": np.ones((2, 1))}]), _image)

    opened()
    if damage == "no manifest":
        (tmp_path / "c" / "manifest.json").unlink()
    elif damage == "no array":
        (tmp_path / "c" / "manifest.json").write_text(
            json.dumps({"description": {}, "arrays": ["pose"]}), encoding="utf-8"
        )
    with pytest.raises(ValueError, match=r"c is (no cache|a cache of other features).*: delete that folder"):
        opened(4 if damage == "another count" else 2)


def _image(batch):
    return batch["image"]
