"""A batch of examples: what networks read of them, and the target with which losses and metrics compare bodies.

A row, one example before batching, is a dictionary by the same names (docs/interfaces.md, section 2).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, no_type_check

import flax.struct
from jaxtyping import Array, Float, Int32, UInt8, UInt32


@no_type_check  # Before they are on a device the arrays are NumPy's; templates hold shapes.
class Inputs(flax.struct.PyTreeNode):
    """What networks read.

    Attributes:
      evidence: 2D keypoints in [-1, 1] of the crop (x right, y down); with a detector's noise in training without images.
      kp2d_input: 1 where a keypoint is annotated and not hidden: what may be read of `evidence`, and what eq (5) compares.
      example_hash: of the example's id; everything random about an example depends on it alone.
      image: the crop; None for networks that read keypoints.
      feature: what the trunk makes of the image, where it ran before (kept of a frozen one, or `models.onnx_trunk`), and
        for some networks a map; None: the trunk runs.
    """

    evidence: Float[Array, "B 24 2"]
    kp2d_input: Float[Array, "B 24"]
    example_hash: UInt32[Array, "B"]
    image: UInt8[Array, "B S S 3"] | None = None
    feature: Float[Array, "B *F"] | None = None


@no_type_check  # As `Inputs`.
class Target(flax.struct.PyTreeNode):
    """What bodies are compared with; every `valid` is 0 where there is no annotation.

    Attributes:
      joints3d, joints3d_valid: J24 in the camera frame turned with the crop, metres, mid-hip centred.
      kp2d, kp2d_valid: J24 in [-1, 1] of the crop, also those that are hidden from the network.
      rotmats, betas, smpl_valid: SMPL's rotations, the root in the crop's camera frame, and its shape.
    """

    joints3d: Float[Array, "B 24 3"]
    joints3d_valid: Float[Array, "B 24"]
    kp2d: Float[Array, "B 24 2"]
    kp2d_valid: Float[Array, "B 24"]
    rotmats: Float[Array, "B 24 3 3"]
    betas: Float[Array, "B 10"]
    smpl_valid: Float[Array, "B"]


@no_type_check  # As `Inputs`.
class Origin(flax.struct.PyTreeNode):
    """Where training examples come from, for what is kept of them between steps.

    Attributes:
      place: number of the example among those of all training sets, one set after the other.
      angle: by which it was turned, about the camera's z axis, radians.
      flip: 1 where it was mirrored after that.
    """

    place: Int32[Array, "B"]
    angle: Float[Array, "B"]
    flip: Float[Array, "B"]


@no_type_check  # As `Inputs`.
class Batch(flax.struct.PyTreeNode):
    """Examples for training or evaluation; `valid` is 0 for the padding of a last evaluation batch.

    `origin` is there for networks that keep something of every example between steps (`models.build.Targets`), else None.
    """

    inputs: Inputs
    target: Target
    valid: Float[Array, "B"]
    origin: Origin | None = None


def batch_of(rows: Mapping[str, Any]) -> Batch:
    """The batch of rows that are stacked, name by name; names that it lacks are left out."""
    target = Target(**{field.name: rows[field.name] for field in dataclasses.fields(Target)})
    origin = Origin(rows["place"], rows["angle"], rows["flip"]) if "place" in rows else None
    return Batch(inputs_of(rows), target, rows["valid"], origin)


def inputs_of(rows: Mapping[str, Any]) -> Inputs:
    """What networks read of rows that are stacked; without `evidence` the keypoints are read as they are annotated."""
    return Inputs(
        evidence=rows["evidence"] if "evidence" in rows else rows["kp2d"],
        kp2d_input=rows["kp2d_input"],
        example_hash=rows["example_hash"],
        image=rows.get("image"),
        feature=rows.get("feature"),
    )
