"""Evaluation batches."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from configs import default
from multibodies_jax import devices
from multibodies_jax.batch import Batch, Inputs, batch_of, inputs_of
from multibodies_jax.data import augment, pipeline, sources
from multibodies_jax.evaluation import lenses, other_views, protocols

_OTHER = "other_"  # Prefix of what networks read of another example, in a row.
_EVIDENCE = ("image", "kp2d", "kp2d_input")


@dataclasses.dataclass(frozen=True)
class EvaluationBatch:
    """A batch, and what is known of its examples beside.

    Attributes:
      batch: NumPy arrays.
      gender: 0 for male, 1 for female, -1 for unknown.
      occlusion: index into `data.occlusion.STRATEGIES`.
      example_id: texts.
      others: what networks read of another example instead of each; None unless it was asked for.
      lens: of the images that the crops are of.
      views: other cameras, of a set that has them.
    """

    batch: Batch
    gender: Int[np.ndarray, "B"]
    occlusion: Int[np.ndarray, "B"]
    example_id: np.ndarray
    others: Inputs | None = None
    lens: lenses.Lens | None = None
    views: other_views.OtherViews | None = None


def examples(config: Any, name: str, split: str, others: bool = False) -> Iterator[EvaluationBatch]:
    """Evaluation batches of one set, in order, the last one padded: those of this process, where there are several.

    A batch has `eval.batch` examples for each device of the process. Processes take the batches in turns, and all of them
    as many (`pipeline.evaluation_batches`).

    Args:
      config: of the experiment.
      name: of the set, as in `eval.sets`.
      split: of the set.
      others: adds what networks read of another example each.

    Raises:
      ValueError: see `evaluation_row`.
    """
    source = _Pairs(sources.open_source(config, name, split))

    def make(pair: Mapping[str, Any]) -> dict[str, Any]:
        row = evaluation_row(config, pair["record"])
        if not others:
            return row
        other = evaluation_row(config, pair["other"]())
        return row | {_OTHER + key: other[key] for key in _EVIDENCE if key in other}

    read = pipeline.evaluation_batches(
        source,
        size(config),
        make,
        max_examples=config.eval.max_examples,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    return map(stacked, read)


def size(config: Any) -> int:
    """Examples of a batch: `eval.batch` for each device of the process."""
    return config.eval.batch * devices.count()


def stacked(rows: pipeline.Rows) -> EvaluationBatch:
    """The evaluation batch of rows (`evaluation_row`) that are stacked (`pipeline.collate`)."""
    others = {name.removeprefix(_OTHER): values for name, values in rows.items() if name.startswith(_OTHER)}
    return EvaluationBatch(
        batch=batch_of(rows),
        gender=rows["gender"],
        occlusion=rows["occlusion"],
        example_id=np.asarray(rows["example_id"], str),
        others=inputs_of({"example_hash": rows["example_hash"]} | others) if others else None,
        lens=lenses.of_rows(rows),
        views=other_views.of_rows(rows),
    )


def count(config: Any, name: str, split: str) -> int:
    """How many batches `examples` yields."""
    number = len(sources.open_source(config, name, split))
    number = min(number, config.eval.max_examples) if config.eval.max_examples else number
    return -(-number // (size(config) * jax.process_count()))


def evaluation_row(config: Any, record: augment.Record) -> dict[str, Any]:
    """One row of an evaluation batch, in the crop that `config.eval.box` names.

    Raises:
      ValueError: the example lacks the truth that the protocol scores against, or belongs to another protocol.
    """
    with_image = config.model.trunk != "keypoints"
    record = in_box(config, record)
    row = augment.evaluation_example(
        record,
        config.model.crop_size,
        with_image=with_image,
        crop=default.optional(config, "data.crop"),
        contrast_stretch=default.optional(config, "data.contrast_stretch"),
    )
    row |= lenses.row(record) | other_views.row(record)
    hint = record["protocol_hint"]
    protocols.check_example(
        protocols.PROTOCOLS[config.eval.protocol], row, hint.decode() if isinstance(hint, bytes) else str(hint)
    )
    return row


def in_box(config: Any, record: augment.Record) -> augment.Record:
    """A record whose box is the one that `config.eval.box` names."""
    if default.optional(config, "eval.box") != "full":
        return record
    return {**record, "box_center": record["box_center_full"], "box_scale": record["box_scale_full"]}


class _Pairs(Sequence):
    """Each record with the one half the set away, which is read when it is called."""

    def __init__(self, source: Sequence[dict]):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> dict[str, Any]:
        size = len(self)
        other = (index + max(size // 2, 1)) % size
        return {"record": self._source[index], "other": functools.partial(self._source.__getitem__, other)}
