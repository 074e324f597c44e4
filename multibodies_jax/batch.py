"""A batch of examples, typed: what training, evaluation and prediction hand to a network, a loss and a metric."""

from collections.abc import Mapping
from typing import Any, no_type_check

import flax.struct
import numpy as np
from jaxtyping import Array, Float, Int, UInt8, UInt32


@no_type_check  # Tree operations fill it with shapes, shardings or NumPy arrays as well.
class Batch(flax.struct.PyTreeNode):
    """B examples; a field that a batch lacks is None (docs/interfaces.md, section 2).

    Attributes:
      kp2d: 2D keypoints in [-1, 1] of the crop (x right, y down); finite where they are not valid.
      kp2d_valid: annotated keypoints, 0 or 1, or a confidence.
      kp2d_input: those of them that can be seen in the image.
      evidence: keypoints as a 2D detector gives them (noisy), which the keypoint trunk reads instead of `kp2d`.
      image: the crops.
      feature: features of a frozen trunk, read instead of images.
      mesh: vertices of the target, mid-hip centred, metres; for networks that encode it in training.
      joints3d: J24 joints in the camera frame, turned with the crop, mid-hip centred, metres.
      joints3d_valid: 1 where such a joint is annotated.
      rotmats: SMPL rotations, the root's in the camera frame of the crop.
      betas: SMPL shape coefficients.
      smpl_valid: 1 where rotations and shape are annotated.
      example_hash: of the example's id, on which alone its random draws depend.
      valid: 0 for the padding of the last batch of an evaluation.
      occlusion: index of the occlusion strategy (appendix B).
      gender: 0 male, 1 female, -1 unknown.
    """

    kp2d: Float[Array, "B 24 2"] | None = None
    kp2d_valid: Float[Array, "B 24"] | None = None
    kp2d_input: Float[Array, "B 24"] | None = None
    evidence: Float[Array, "B 24 2"] | None = None
    image: UInt8[Array, "B S S 3"] | None = None
    feature: Float[Array, "B F"] | None = None
    mesh: Float[Array, "B V 3"] | None = None
    joints3d: Float[Array, "B 24 3"] | None = None
    joints3d_valid: Float[Array, "B 24"] | None = None
    rotmats: Float[Array, "B 24 3 3"] | None = None
    betas: Float[Array, "B 10"] | None = None
    smpl_valid: Float[Array, "B"] | None = None
    example_hash: UInt32[Array, "B"] | None = None
    valid: Float[Array, "B"] | None = None
    occlusion: Int[Array, "B"] | None = None
    gender: Int[Array, "B"] | None = None

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> "Batch":
        """A batch of the arrays of a pipeline, by name; texts (`example_id`) stay behind.

        Raises:
          ValueError: an array that no field is for.
        """
        numbers = {name: value for name, value in arrays.items() if np.asarray(value).dtype.kind in "fiub"}
        if unknown := sorted(set(numbers) - set(cls.__dataclass_fields__)):
            raise ValueError(
                f"A batch has no {', '.join(unknown)}; its fields are {', '.join(cls.__dataclass_fields__)}."
            )
        return cls(**numbers)
