"""GraphCMR: the vertices of a body by graph convolutions, and SMPL's parameters from them (Kolotouros et al., CVPR 2019).

trunk -> feature, which every vertex of the coarse mesh gets beside its place in the template
gc:     Dense 2C; blocks 2C -> C, C -> C ...
shape:  blocks C -> 64 -> 32; group norm, ReLU, Dense 3           -> vertices, metres, frame of the crop's camera
camera: group norm, ReLU, Dense 1, ReLU, Dense over the vertices 3  -> (s, tx, ty)
regressor of [vertices, template]: Dense, batch norm, ReLU; two residual blocks; Dense 24 x 9 + 10
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import exact
from multibodies_jax.baselines.graphcmr import hierarchy, layers
from multibodies_jax.batch import Inputs
from multibodies_jax.geometry import nearest_rotation, rotations
from multibodies_jax.hypotheses.hypotheses import VERTICES, split_state
from multibodies_jax.models import exact_layers, folding, hmr, resnet

HIERARCHY = "hierarchy"
SHAPE = (64, 32)
"""Channels of the blocks that lead to the vertices."""

_POSE, _BETAS = 24 * 9, 10
_NEAR = 1e-4  # Variance with which the last layers begin around the mean body and camera.


class GraphCMR(nn.Module):
    """One body as vertices and as SMPL's parameters; C is `channels`.

    The levels of the mesh (`hierarchy`) lie in the collection "batch_stats", because checkpoints store what is there: weights
    keep the coarse vertices that they were trained with, whatever another machine would compute. The template does not,
    because it is a part of the body.

    Attributes:
      trunk: module whose `(inputs, train)` gives the feature (B, F).
      settings: `mean_state` is the mean body and camera, from which it starts with `start` "mean".
      frozen: as in `hmr.HMR`.
      levels: with which new weights begin.
      template: of the body.
      channels: C, a multiple of 8; 256 in the paper.
      blocks: C -> C; 5 in the published weights.
      hidden: width of the regressor; 1024 in the published weights.
      rotation: one of `nearest_rotation.RULES`.
      start: one of `layers.STARTS`.
    """

    trunk: nn.Module
    settings: hmr.HeadSettings
    frozen: str
    levels: hierarchy.Hierarchy
    template: hierarchy.Template
    channels: int = 256
    blocks: int = 5
    hidden: int = 1024
    rotation: str = "nearest"
    start: str = "mean"

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B 1 157"]:
        """The state of the body of SMPL's parameters; the collection "extras" gets the vertices (B, 1, V, 3).

        Args:
          inputs: with what the trunk reads, or with its `feature`.
          train: batch statistics (mutable collection "batch_stats").
        """
        levels = self.variable("batch_stats", HIERARCHY, lambda: jax.tree.map(jnp.asarray, self.levels.arrays())).value
        feature = inputs.feature
        if feature is None:
            feature = self.trunk(inputs, train and not self.frozen)
        template = jnp.asarray(self.template.vertices)[levels["kept"]]
        x = OfFeature(2 * self.channels, self.start, name="gc_0")(template, feature)
        for block in range(1, self.blocks + 2):
            x = layers.Block(self.channels, self.start, name=f"gc_{block}")(x, levels["neighbours"])
        coarse, cam = self._vertices(x, levels["neighbours"]), self._camera(x)
        vertices = layers.upsample(coarse, levels["corners"], levels["weights"])
        self.sow("extras", VERTICES, vertices[:, None])
        pose, betas = Regressor(self.hidden, self._mean_body(), self.start, name="regressor")(
            jax.lax.stop_gradient(coarse), template, train
        )
        six = rotations.matrix_to_rot6d(nearest_rotation.to_rotation(pose, self.rotation)).reshape(len(pose), -1)
        return jnp.concatenate([six, betas, cam], axis=1)[:, None]

    def fold(self, variables: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
        """The same network in evaluation with the batch norms of the trunk in its convolutions (`folding.Foldable`)."""
        params, stats = dict(variables["params"]), dict(variables.get("batch_stats") or {})
        trunk, params["trunk"] = folding.fold_trunk(self.trunk, params["trunk"], stats.pop("trunk", {}))
        return self.clone(trunk=trunk, parent=None), {**variables, "params": params, "batch_stats": stats}

    def _vertices(self, x: Float[Array, "B N C"], neighbours: Array) -> Float[Array, "B N 3"]:
        for place, features in enumerate(SHAPE):
            x = layers.Block(features, self.start, name=f"shape_{place}")(x, neighbours)
        return layers.dense(3, self.start, "shape_4")(layers.norm_relu(x, "shape_2"))

    def _camera(self, x: Float[Array, "B N C"]) -> Float[Array, "B 3"]:
        one = nn.relu(layers.dense(1, self.start, "camera_2")(layers.norm_relu(x, "camera_0")))[..., 0]
        return _torch_dense(3, self.start, self.settings.mean_state[-3:], "camera_4")(one)

    def _mean_body(self) -> tuple[float, ...]:
        """Rotation matrices, row after row, and shape of the mean body."""
        with jax.ensure_compile_time_eval():
            pose, betas, _ = split_state(jnp.array(self.settings.mean_state, jnp.float32))
            matrices = rotations.rot6d_to_matrix(pose.reshape(24, 6))
        return tuple(np.concatenate([np.ravel(matrices), betas]).tolist())


class OfFeature(nn.Module):
    """A layer of [place in the template, feature] at every vertex, without building that: the feature is the same at all."""

    features: int
    start: str

    @nn.compact
    def __call__(self, template: Float[Array, "N 3"], feature: Float[Array, "B F"]) -> Float[Array, "B N C"]:
        shape = (3 + feature.shape[1], self.features)
        kernel = self.param("kernel", self._start, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        of_place = exact.dot(template, kernel[:3])
        of_image = exact.dot(feature, kernel[3:]) + bias[None]
        return of_place[None] + of_image[:, None]

    def _start(self, key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        """With `start` "mean" the three coordinates have as large a part in the result as the whole feature.

        Otherwise they are lost among its numbers, and all vertices look alike for thousands of steps.
        """
        if self.start == "published":
            return layers.linear_init(self.start)(key, shape, dtype)
        keys = jax.random.split(key)
        parts = [
            layers.linear_init(self.start)(k, (n, shape[1]), dtype)
            for k, n in zip(keys, (3, shape[0] - 3), strict=True)
        ]
        return jnp.concatenate([np.sqrt(1.5) * parts[0], np.sqrt(0.5) * parts[1]])


class Regressor(nn.Module):
    """SMPL's parameters from the vertices of the coarse mesh, in one step.

    Attributes:
      hidden: width.
      mean: the parameters from which it starts with `start` "mean".
      start: one of `layers.STARTS`.
    """

    hidden: int
    mean: tuple[float, ...]
    start: str

    @nn.compact
    def __call__(
        self, vertices: Float[Array, "B N 3"], template: Float[Array, "N 3"], train: bool
    ) -> tuple[Float[Array, "B 24 3 3"], Float[Array, "B 10"]]:
        """Matrices that are no rotations yet, the root first, and shape coefficients."""
        both = jnp.concatenate([vertices, jnp.broadcast_to(template[None], vertices.shape)], axis=-1)
        x = nn.relu(self._layer(both.reshape(len(vertices), -1), train, "0_0"))
        for block in (1, 2):
            y = nn.relu(self._layer(x, train, f"{block}_0"))
            x = nn.relu(x + self._layer(y, train, f"{block}_3"))
        out = _torch_dense(_POSE + _BETAS, self.start, self.mean, "dense_3")(x)
        return out[:, :_POSE].reshape(-1, 24, 3, 3), out[:, _POSE:]

    def _layer(self, x: Array, train: bool, place: str) -> Array:
        x = _torch_dense(self.hidden, self.start, (), f"dense_{place}")(x)
        return resnet.make_norm(False, train, 0.9, jnp.float32)(f"norm_{place}")(x)


def _torch_dense(features: int, start: str, mean: tuple[float, ...], name: str) -> nn.Module:
    """A layer as PyTorch begins it, without a bias; with `start` "mean" and a mean, one that begins near the mean."""
    if start == "published" or not mean:
        kernel = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        return exact_layers.Dense(features, kernel_init=kernel, name=name)
    kernel = nn.initializers.variance_scaling(_NEAR, "fan_in", "uniform")

    def bias(*_: Any) -> Array:
        return jnp.array(mean, jnp.float32)

    return exact_layers.Dense(features, kernel_init=kernel, bias_init=bias, name=name)
