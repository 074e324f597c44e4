"""Measures the latent of an SMPL-CVAE on held-out examples: its information, and the errors that reveal its two failures."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float

from multibodies_jax.baselines.smpl_cvae import objective
from multibodies_jax.batch import Batch
from multibodies_jax.evaluation import diagnostics, metrics
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.training import inference, multihost, setup

VERDICTS = ("collapsed", "cheats", "neither")
_ACTIVE_VARIANCE = 0.01
_SEED = 0x3E0  # Of the samples of z that estimate the mutual information.
_ROWS = 512  # Of the N x N densities that exist at once.


def inspect(
    config: Any,
    regressor: inference.Regressor,
    batches: Iterable[tuple[Batch, hypotheses.Hypotheses]],
) -> dict[str, Any]:
    """Measures the latent of a trained SMPL-CVAE.

    Args:
      config: of the experiment.
      regressor: the network, `model.name=smpl_cvae`.
      batches: evaluation batches of the validation split with the hypotheses of each; examples without SMPL parameters
        do not count.

    Returns:
      `information`; `error_encoded_mm`, the error of J24 (mid-hip centred) with z the encoder's mean of the truth;
      `error_sample_mm` and `error_sampled_mm`, of one sample of z and of the best of M; `spread_mm` of the samples; and
      `verdict`, `verdict` on them. Only {"verdict": "not measured: ..."} where no example has SMPL parameters.
    """
    encoded = objective.encoder_inputs(config.cvae, regressor.bodies.smpl, regressor.bodies.j24)
    rows = []
    for batch, samples in batches:
        keep = np.asarray((batch.valid > 0) & (batch.target.smpl_valid > 0))
        row = _measure(regressor, batch, samples, encoded(batch).mesh)
        rows.append({name: np.asarray(values)[keep] for name, values in row.items()})
    rows = multihost.in_turns(rows)
    if not sum(len(row["mean"]) for row in rows):
        return {"verdict": "not measured: no example of the validation split has SMPL parameters"}
    found = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    result: dict[str, Any] = information(found.pop("mean"), found.pop("log_var"))
    result |= {name: float(values.mean()) for name, values in found.items()}
    told = ("kl", "active_units", "error_encoded_mm", "error_sampled_mm", "spread_mm")
    return result | {"verdict": verdict(**{name: result[name] for name in told})}


def describe(found: Mapping[str, Any]) -> str:
    """What `inspect` returned, in a sentence; "" where nothing was measured."""
    if "kl" not in found:
        return ""
    return (
        f"SMPL-CVAE, collapsed or cheating: {found['verdict']} ({found['kl']:.1f} nats in z; error with the encoded z "
        f"{found['error_encoded_mm']:.1f} mm, with the best sample {found['error_sampled_mm']:.1f} mm; samples spread by "
        f"{found['spread_mm']:.1f} mm)."
    )


@jax.jit
def _measure(
    regressor: inference.Regressor,
    batch: Batch,
    samples: hypotheses.Hypotheses,
    mesh: Float[Array, "B V 3"],
) -> dict[str, Array]:
    model, variables, body = regressor.model, regressor.variables, regressor.bodies.j24
    mean, log_var = model.apply(variables, mesh, method="encode")
    one = hypotheses.decode(model.apply(variables, batch.inputs, mean[:, None], method="decode_with"), body)
    truth = setup.centred_joints(regressor.bodies, batch.target.rotmats, batch.target.betas)[0][:, None]
    errors = metrics.mpjpe_mm(samples.joints24, truth)
    uniform = jnp.full(errors.shape, 1.0 / errors.shape[1])
    return {
        "mean": mean,
        "log_var": log_var,
        "error_encoded_mm": metrics.mpjpe_mm(one.joints24, truth)[:, 0],
        "error_sample_mm": errors[:, 0],
        "error_sampled_mm": jnp.min(errors, axis=1),
        "spread_mm": jnp.mean(diagnostics.joint_spread_mm(samples.joints24, uniform), axis=1),
    }


def information(mean: Float[np.ndarray, "N Z"], log_var: Float[np.ndarray, "N Z"]) -> dict[str, float]:
    """How much the latents say of N truths (only of examples with one).

    Args:
      mean, log_var: of the encoder.

    Returns:
      kl: mean divergence from the prior, nats. An upper bound of the information of z about the truth: that and how far
        the mixture of all encodings is from the prior (Hoffman and Johnson, 2016).
      mutual_information: the first of these two, nats: the mean of log q(z | x) - log mean_x' q(z | x') over the N
        examples, by one seeded sample of z of each. At most log N, so that only values well below it are exact.
      mutual_information_limit: log N.
      active_units: numbers of the latent whose mean varies by more than 0.01 among examples (Burda et al., 2016).

    Raises:
      ValueError: no examples, or numbers that are not finite.
    """
    mean, log_var = np.asarray(mean, np.float64), np.asarray(log_var, np.float64)
    if not mean.size or not np.isfinite(mean).all() or not np.isfinite(log_var).all():
        raise ValueError(f"The information in z needs finite encodings of examples, got {mean.shape} of them, or NaN.")
    divergence = 0.5 * (np.square(mean) + np.expm1(log_var) - log_var)
    return {
        "kl": float(divergence.sum(axis=1).mean()),
        "mutual_information": _mutual_information(mean, log_var),
        "mutual_information_limit": math.log(len(mean)),
        "active_units": float(np.sum(mean.var(axis=0) > _ACTIVE_VARIANCE)),
    }


def _mutual_information(mean: Float[np.ndarray, "N Z"], log_var: Float[np.ndarray, "N Z"]) -> float:
    noise = np.random.default_rng(_SEED).normal(size=mean.shape)
    z, precision = mean + np.exp(log_var / 2) * noise, np.exp(-log_var)
    own = -0.5 * np.sum(np.square(noise) + log_var, axis=1)
    offset = np.sum(np.square(mean) * precision + log_var, axis=1)
    gains = []
    for start in range(0, len(z), _ROWS):
        some = z[start : start + _ROWS]
        # All pairs at once: (z - mean)^2 multiplied out, in float64, where it does not cancel.
        squared = np.square(some) @ precision.T - 2 * some @ (mean * precision).T + offset[None]
        log_sum = np.asarray(scipy.special.logsumexp(-0.5 * squared, axis=1))
        gains.append(own[start : start + _ROWS] - log_sum + math.log(len(z)))
    return float(np.clip(np.concatenate(gains).mean(), 0.0, math.log(len(z))))


def verdict(
    *, kl: float, active_units: float, error_encoded_mm: float, error_sampled_mm: float, spread_mm: float
) -> str:
    """Which of the two known failures a trained SMPL-CVAE shows, if any.

    "cheats", the paper's word (section 5): the encoder transports the truth itself, not only the mode of ambiguity.
    A mode can be found by chance, so that among M samples one is about as good as the decoder with the encoded z. The
    error with the encoded z below half of the best sample's means that most of what z says cannot be found so.

    "collapsed" (Bowman et al., 2016): z says nothing, so that all samples are alike. Each of these is enough: less than
    log 2 nats, which cannot even tell two modes apart; no active unit; or samples spread by less than 2 % of their
    error, which the choice of the best can then hardly lower (the paper's gains 3 % from n = 1 to 25: 70.1 to 68.1 mm).

    Cheating comes first: a decoder that gains from the encoded z listens to it, even if its samples are alike because
    the encodings lie far from the prior.

    Args:
      kl, active_units: of `information`.
      error_encoded_mm: mean error with z the encoder's mean, held-out examples.
      error_sampled_mm: mean over the same examples of the best of M samples' error, M as in evaluation.
      spread_mm: mean distance of the joints of samples to their mean over the samples.

    Returns:
      One of `VERDICTS`.

    Raises:
      ValueError: a number that is negative or not finite.
    """
    numbers = {"kl": kl, "active_units": active_units, "error_encoded_mm": error_encoded_mm}
    numbers |= {"error_sampled_mm": error_sampled_mm, "spread_mm": spread_mm}
    bad = {name: value for name, value in numbers.items() if not (math.isfinite(value) and value >= 0)}
    if bad:
        raise ValueError(f"A verdict on SMPL-CVAE needs finite numbers that are not negative, got {bad}.")
    if error_encoded_mm < 0.5 * error_sampled_mm:
        return "cheats"
    collapsed = kl < math.log(2) or active_units < 1 or spread_mm < 0.02 * error_sampled_mm
    return "collapsed" if collapsed else "neither"
