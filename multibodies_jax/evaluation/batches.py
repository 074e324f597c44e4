"""Evaluation batches."""

from typing import Any

from multibodies_jax.data import augment
from multibodies_jax.evaluation import protocols


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
        protocols.get(config.eval.protocol), row, hint.decode() if isinstance(hint, bytes) else str(hint)
    )
    return row
