"""The keypoint trunk: visible 2D keypoints as the evidence, as any 2D detector gives them."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from multibodies_jax.batch import Inputs


class KeypointTrunk(nn.Module):
    """A residual MLP on keypoints: cheap enough to learn on two cores, and blind to whether a person is real.

    Attributes:
      width: of every layer and of the feature.
      blocks: residual blocks of two layers (Martinez et al., 2017, with LayerNorm).
    """

    width: int = 1024
    blocks: int = 3

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B F"]:
        """The feature of the visible keypoints.

        Args:
          inputs: their `evidence` where `kp2d_input` is above 0.
          train: unused, every trunk has it.
        """
        del train  # LayerNorm does the same in both.
        x = nn.Dense(self.width, name="input")(keypoint_evidence(inputs.evidence, inputs.kp2d_input))
        for block in range(self.blocks):
            y = nn.LayerNorm(name=f"block{block}_norm")(x)
            y = nn.relu(nn.Dense(self.width, name=f"block{block}_dense1")(y))
            x = x + nn.Dense(self.width, name=f"block{block}_dense2")(y)
        return nn.relu(nn.LayerNorm(name="norm")(x))


def keypoint_evidence(kp2d: Float[Array, "B 24 2"], visible: Float[Array, "B 24"]) -> Float[Array, "B 72"]:
    """What the network may know: the places of visible keypoints (hidden ones are 0) and which are visible.

    Args:
      kp2d: [-1, 1] of the crop; hidden entries may hold anything, NaN included.
      visible: 0 or 1.

    Returns:
      48 coordinates, keypoint-major, then 24 visibilities.
    """
    places = jnp.where(visible[..., None] > 0, kp2d, 0.0)  # A product would let a hidden NaN through.
    return jnp.concatenate([places.reshape(kp2d.shape[0], -1), visible], axis=-1)
