"""The score head: how probable each of the M hypotheses is to be the nearest to the truth.

Eq (1) trains one hypothesis per example, the winner, and leaves open which of them a reader should believe where the truth
is unknown. A small network learns to foresee the winner from what the trunk makes of the evidence and, where the evidence
is keypoints, from how far each hypothesis is from them. In multiple-choice learning a score for each hypothesis does the
same (resilient multiple-choice learning: Letzelter et al., NeurIPS 2023), and ScoreHypo (CVPR 2024) trains a network that
ranks body hypotheses. Scores are not in 3D Multi-bodies, whose weights are those of a prior (eq 2).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from multibodies_jax.batch import Inputs
from multibodies_jax.hypotheses.hypotheses import Hypotheses, projected_joints
from multibodies_jax.models import exact_layers

NAME = "scores"
"""The head's name among the parameters of a regressor, beside those of its network: "params/scores"."""

FEATURE = "feature"
"""What networks that can be scored sow into the collection "extras" (`sow_feature`)."""

_FARTHEST = 0.5  # Crop units; offsets beyond it are alike.


class ScoreHead(nn.Module):
    """A small network from a feature, and from the 2D offsets of each hypothesis, to log-probabilities of M hypotheses.

      x       = relu(W1 feature + b1)
      log p_m = log_softmax_m [ (W2 x + b2)_m + w4 . relu(W3 offsets_m + V3 x + c_m) ]

    The second term, the same function for every hypothesis except its c_m, is there if `keypoints` is. At the start all
    hypotheses are equally probable. No gradient passes to what the head reads, so that whatever else is trained stays as it
    is without it.

    Attributes:
      num_hypotheses: M.
      keypoints: whether keypoints are the evidence, with which hypotheses can be compared; a network of images gets none.
      hidden: width of x.
      width: of the layer of each hypothesis.
    """

    num_hypotheses: int
    keypoints: bool
    hidden: int = 256
    width: int = 64

    @nn.compact
    def __call__(
        self, feature: Float[Array, "B F"], offsets: Float[Array, "B M 24 2"], visible: Float[Array, "B 24"]
    ) -> Float[Array, "B M"]:
        """The logarithm of the probability that each hypothesis is the winner of eq (1); exp of it sums to 1 over M.

        Args:
          feature: of the example.
          offsets: from each visible keypoint to the joint of the hypothesis, crop units; 0 where hidden (`offsets_of`).
          visible: 1 where a keypoint is visible.
        """
        feature, offsets = jax.lax.stop_gradient((feature, offsets))
        zeros = nn.initializers.zeros
        x = nn.relu(exact_layers.Dense(self.hidden, name="hidden")(feature))
        logits = exact_layers.Dense(self.num_hypotheses, kernel_init=zeros, name="logits")(x)
        if self.keypoints:
            number = self.param("number", nn.initializers.normal(0.1), (self.num_hypotheses, self.width))
            of_each = exact_layers.Dense(self.width, name="offsets")(_described(offsets, visible))
            context = exact_layers.Dense(self.width, use_bias=False, name="context")(x)
            of_each = of_each + context[:, None] + number[None]
            fit = exact_layers.Dense(1, use_bias=False, kernel_init=zeros, name="fit")
            logits = logits + fit(nn.relu(of_each))[..., 0]
        return jax.nn.log_softmax(logits, axis=-1)


def score(
    head: ScoreHead, params: Any, feature: Float[Array, "B F"], hyps: Hypotheses, inputs: Inputs
) -> Float[Array, "B M"]:
    """The log-probabilities of hypotheses (B, M) from the head's parameters; see `ScoreHead.__call__`."""
    visible = jnp.where(inputs.kp2d_input > 0, 1.0, 0.0)
    found = head.apply({"params": params}, feature, offsets_of(hyps, inputs), visible)
    return jnp.asarray(found)


def offsets_of(hyps: Hypotheses, inputs: Inputs) -> Float[Array, "B M 24 2"]:
    """From each visible keypoint to where each hypothesis (B, M) projects its joint, crop units; 0 where hidden."""
    seen = (inputs.kp2d_input > 0)[:, None, :, None]
    return jnp.where(seen, projected_joints(hyps) - inputs.evidence[:, None], 0.0)


def winner_loss(
    log_scores: Float[Array, "B M"], best: Int[Array, "B"], joints3d_valid: Float[Array, "B J"]
) -> Float[Array, "B"]:
    """Cross-entropy of the scores with the winner of eq (1), -log of the probability that they gave it, nats.

    It trains the score head. The scoring loss of resilient multiple-choice learning (Letzelter et al., NeurIPS 2023) has one
    independent binary probability for each hypothesis; these exclude each other and sum to 1, because eq (1) has one winner.

    Args:
      log_scores: normalised over M.
      best: the winner, as `losses.best_of_m.nearest_hypothesis` found it.
      joints3d_valid: which 3D joints are annotated; an example without any has no winner in 3D, and its loss is 0.
    """
    given = jnp.take_along_axis(log_scores, best[:, None], axis=1)[:, 0]
    return jnp.where(jnp.any(joints3d_valid > 0, axis=1), -given, 0.0)


def sow_feature(network: nn.Module, feature: Float[Array, "B F"]) -> None:
    """Makes a network one that can be scored; only while it is called."""
    if not network.is_initializing():  # What a network is initialised with are its variables.
        network.sow("extras", FEATURE, feature)


def initial(head: ScoreHead, network: nn.Module, inputs: Inputs, key: Key[Array, ""]) -> dict[str, Any]:
    """The parameters of a head at the start, for the features that a network sows."""

    def feature(key: Key[Array, ""]) -> Array:
        variables = network.init({"params": key, "dropout": key}, inputs)
        sown: Any = network.apply(variables, inputs, mutable=["extras"])[1]
        return jnp.asarray(sown["extras"][FEATURE][-1])

    size = jax.eval_shape(feature, key).shape[1]
    empty = jnp.zeros((1, size)), jnp.zeros((1, head.num_hypotheses, 24, 2)), jnp.zeros((1, 24))
    return dict(head.init(key, *empty)["params"])


def _described(offsets: Float[Array, "B M 24 2"], visible: Float[Array, "B 24"]) -> Float[Array, "B M 49"]:
    """Offsets and the logarithm of their mean length, in numbers of about 1."""
    lengths = jnp.sqrt(jnp.sum(jnp.square(offsets), axis=-1) + 1e-8)
    mean = jnp.sum(lengths * visible[:, None], axis=-1) / jnp.maximum(jnp.sum(visible, axis=-1), 1.0)[:, None]
    near = jnp.clip(offsets, -_FARTHEST, _FARTHEST) * 10
    return jnp.concatenate([jnp.log(mean + 1e-3)[..., None], near.reshape(*near.shape[:2], 48)], axis=-1)
