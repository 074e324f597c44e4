"""SMPL-CVAE: an encoder of the true mesh and a decoder of the feature and a latent (3D Multi-bodies, appendix C)."""

from typing import no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from multibodies_jax.batch import Inputs
from multibodies_jax.models import exact_layers
from multibodies_jax.models.hmr import HMR

_SAMPLES = 0x3E0  # Purpose of random keys.
_MESH_SCALE = 0.3  # Metres: about the root mean square of mid-hip centred vertices.
_LOG_VAR_LIMIT = 8.0  # Standard deviations between 1/55 and 55.


@no_type_check  # As `Inputs`.
class EncoderInputs(Inputs, kw_only=True):
    """`Inputs` in training, with the truth for the encoder.

    Attributes:
      mesh: the vertices that it reads, metres, camera frame, mid-hip centred.
      mesh_valid: 0 where there is no truth.
    """

    mesh: Float[Array, "B V 3"]
    mesh_valid: Float[Array, "B"]


class CVAE(HMR):
    """HMR's network with a latent z that says which of the bodies that fit the evidence is meant (Sohn et al., 2015).

    The encoder gives a Gaussian of z from the true mesh. The decoder is `HMR` with one hypothesis, before whose head a
    two-layer network adds what z says to the feature. It adds 0 at the start, so that the parameters of a trained
    `HMR` with M = 1 drop in ("trunk" and "head") and z has no effect until it is learned.

    The paper leaves the encoder open. Here it reads some vertices only (every k-th, say): neighbours move together, so
    that the rest would tell nothing new and only make its first layer larger.

    Attributes:
      settings: its `num_hypotheses` are the samples of z in evaluation, M; training has one per example.
      vertices: how many vertices of the truth the encoder reads, V.
      z_size: numbers of the latent, Z.
      width: of the encoder's layers and of the layer that mixes feature and latent.
    """

    vertices: int = 0
    z_size: int = 64
    width: int = 512

    def setup(self):
        sizes = {"vertices": self.vertices, "z_size": self.z_size, "width": self.width}
        if min(sizes.values()) < 1:
            got = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            raise ValueError(f"The sizes of SMPL-CVAE must be at least 1, got {got}.")
        self.encoder = _Encoder(self.z_size, self.width)

    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B M 157"]:
        """States in training of one body per example, z from its encoded truth; else of M, z from the standard normal.

        Args:
          inputs: what the trunk reads or its `feature`. In training they are `EncoderInputs`; without a truth z is
            standard normal. In evaluation the samples depend on `example_hash` alone: neither on the other examples
            nor on M, so that a smaller set is the beginning of a larger one.
          train: as in `HMR`; needs the rng "latent" too. "extras" gets `mean` and `log_var` (B, Z) of the encoder, both
            0 without a truth, as is their divergence.

        Raises:
          ValueError: training without a mesh, or a mesh of another size.
        """
        feature = self.read(inputs, train)
        if train:
            return self._decode(feature, self._encoded(inputs)[:, None], train)
        if self.is_initializing():
            self.encode(jnp.zeros((1, self.vertices, 3)))
        return self._decode(feature, standard_latents(inputs.example_hash, self.settings.num_hypotheses, self.z_size))

    def encode(self, mesh: Float[Array, "B V 3"]) -> tuple[Float[Array, "B Z"], Float[Array, "B Z"]]:
        """Mean and log-variance of z, given the truth as in `__call__`; `model.apply(..., method="encode")`."""
        if mesh.shape[1] != self.vertices:
            raise ValueError(
                f"The encoder reads {self.vertices} vertices of a mesh, got {mesh.shape[1]}: "
                "set `vertices` to as many as the batches have."
            )
        return self.encoder(mesh)

    def decode_with(self, inputs: Inputs, z: Float[Array, "B K Z"]) -> Float[Array, "B K 157"]:
        """States of given latents, as in evaluation; `model.apply(..., method="decode_with")`.

        With `encode(mesh)[0][:, None]` it is the reconstruction of the truth, which `latents.verdict` compares with samples.
        """
        if z.shape[-1] != self.z_size:
            raise ValueError(f"A latent of this model has {self.z_size} numbers, got {z.shape[-1]}.")
        return self._decode(self.read(inputs), z)

    def _encoded(self, inputs: Inputs) -> Float[Array, "B Z"]:
        """A random z of each example's truth."""
        if not isinstance(inputs, EncoderInputs):
            raise ValueError(f"Training SMPL-CVAE needs the truth: `EncoderInputs`, got {type(inputs).__name__}.")
        known = inputs.mesh_valid > 0
        mean, log_var = self.encode(jnp.where(known[:, None, None], inputs.mesh, 0.0))
        mean, log_var = jnp.where(known[:, None], mean, 0.0), jnp.where(known[:, None], log_var, 0.0)
        self.sow("extras", "mean", mean)
        self.sow("extras", "log_var", log_var)
        return mean + jnp.exp(log_var / 2) * jax.random.normal(self.make_rng("latent"), mean.shape)

    @nn.compact
    def _decode(
        self, feature: Float[Array, "B F"], z: Float[Array, "B K Z"], train: bool = False
    ) -> Float[Array, "B K 157"]:
        (B, F), K = feature.shape, z.shape[1]
        feature = jnp.repeat(feature, K, axis=0)
        mixed = exact_layers.Dense(self.width, name="fuse_in")(jnp.concatenate([feature, z.reshape(B * K, -1)], axis=1))
        change = exact_layers.Dense(F, kernel_init=nn.initializers.zeros, name="fuse_out")(nn.relu(mixed))
        return self.make_head(1)(feature + change, train).reshape(B, K, -1)


class _Encoder(nn.Module):
    """Mean and log-variance of z, from vertices."""

    z_size: int
    width: int

    @nn.compact
    def __call__(self, mesh: Float[Array, "B V 3"]) -> tuple[Float[Array, "B Z"], Float[Array, "B Z"]]:
        x = mesh.reshape(len(mesh), -1) / _MESH_SCALE
        for layer in ("dense1", "dense2"):
            x = nn.relu(exact_layers.Dense(self.width, name=layer)(x))
        mean, log_var = jnp.split(exact_layers.Dense(2 * self.z_size, name="out")(x), 2, axis=1)
        # Bounded smoothly: past a hard limit the gradient would be 0, and a unit would stay there for good.
        return mean, _LOG_VAR_LIMIT * jnp.tanh(log_var / _LOG_VAR_LIMIT)


def standard_latents(example_hash: Shaped[Array, "B"], count: int, size: int) -> Float[Array, "B M Z"]:
    """`count` samples of N(0, I) for each example, from its hash and the number of the sample alone."""
    key = jax.random.key(_SAMPLES)

    def draw(example: Array, sample: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, example), sample), (size,))

    return jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(example_hash, jnp.arange(count))
