"""A trunk that does not change, run once: its features over augmented passes of the training sets, kept on disk."""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from multibodies_jax import io, untrusted

_MANIFEST = "manifest.json"


def open_cache(
    folder: pathlib.Path,
    description: Mapping[str, Any],
    count: int,
    batches: Callable[[], Iterator[dict[str, np.ndarray]]],
    trunk: Callable[[dict[str, np.ndarray]], jax.Array],
) -> dict[str, np.ndarray]:
    """The rows of a cache, memory-mapped: a training batch without `image`, with `feature` (N, F) instead.

    It is made if `folder` is not there, and appears whole or not at all; another run that wants the same one waits.

    Args:
      folder: of this cache; named after its description, so that another trunk or another set has another folder.
      description: what it was made from, for people and for the check of a folder that is there.
      count: rows, N; a multiple of the batch size.
      batches: starts the training batches with `image`; only called to make the cache.
      trunk: batch -> feature (B, F).

    Raises:
      ValueError: the folder holds something else.
    """
    with io.lock(folder.with_name(folder.name + ".lock")):
        if not folder.is_dir():
            io.remove_unfinished(folder)
            with io.new_folder(folder) as temporary:
                _make(temporary, description, count, batches, trunk)
    try:
        manifest = untrusted.read_json(folder / _MANIFEST, advice="It is no manifest.")
        rows = {name: untrusted.read_npy(folder / f"{name}.npy", mapped=True) for name in manifest["arrays"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is no cache of features ({error}): delete that folder.") from error
    counts = {values.shape[:1] for values in rows.values()}
    if manifest.get("description") != dict(description) or counts != {(count,)}:
        raise ValueError(f"{folder} is a cache of other features: delete that folder.")
    return rows


def _make(folder: pathlib.Path, description, count, batches, trunk) -> None:
    """Writes the arrays, one batch after the other, and then the manifest."""
    arrays: dict[str, Any] = {}  # Memory maps.
    source, done = batches(), 0
    with tqdm(total=count, desc="features", unit="image", mininterval=1) as bar:
        while done < count:
            batch = next(source)
            row = {"feature": np.asarray(trunk(batch)), **{k: v for k, v in batch.items() if k != "image"}}
            size = len(row["feature"])
            for name, values in row.items():
                if name not in arrays:
                    arrays[name] = np.lib.format.open_memmap(
                        folder / f"{name}.npy", "w+", values.dtype, (count, *values.shape[1:])
                    )
                arrays[name][done : done + size] = values[: count - done]
            done += size
            bar.update(size)
    for values in arrays.values():
        values.flush()
    manifest = {"description": dict(description), "arrays": sorted(arrays)}
    io.write_json(folder / _MANIFEST, manifest)
