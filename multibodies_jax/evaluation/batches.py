"""Evaluation batches."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from multibodies_jax.data import augment, pipeline, sources
from multibodies_jax.evaluation import protocols

OTHER = "other_"
"""Prefix of the evidence of another example in a batch."""

_EVIDENCE = ("image", "kp2d", "kp2d_input")


def examples(config: Any, name: str, split: str, others: bool = False) -> Iterator[dict[str, Any]]:
    """Evaluation batches of one set, in order, the last one padded.

    Args:
      config: of the experiment.
      name: of the set, as in `eval.sets`.
      split: of the set.
      others: adds the evidence of another example to each row, under keys that start with `OTHER`.

    Raises:
      ValueError: see `evaluation_row`.
    """
    source = _Pairs(sources.open_source(config, name, split))

    def make(pair: Mapping[str, Any]) -> dict[str, Any]:
        row = evaluation_row(config, pair["record"])
        if not others:
            return row
        other = evaluation_row(config, pair["other"]())
        return row | {OTHER + key: other[key] for key in _EVIDENCE if key in other}

    return pipeline.evaluation_batches(source, config.eval.batch, make, max_examples=config.eval.max_examples)


def count(config: Any, name: str, split: str) -> int:
    """How many batches `examples` yields."""
    size = len(sources.open_source(config, name, split))
    size = min(size, config.eval.max_examples) if config.eval.max_examples else size
    return -(-size // config.eval.batch)


def evaluation_row(config: Any, record: augment.Record) -> dict[str, Any]:
    """One row of an evaluation batch.

    Raises:
      ValueError: the example lacks the truth that the protocol scores against, or belongs to another protocol.
    """
    with_image = config.model.trunk != "keypoints"
    row = augment.evaluation_example(
        record,
        config.model.crop_size,
        with_image=with_image,
        crop=config.data.crop,
        contrast_stretch=config.data.get("contrast_stretch", False),
    )
    hint = record["protocol_hint"]
    protocols.check_example(
        protocols.PROTOCOLS[config.eval.protocol], row, hint.decode() if isinstance(hint, bytes) else str(hint)
    )
    return row


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
