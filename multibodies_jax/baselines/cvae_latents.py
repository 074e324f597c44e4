"""What the latent of an SMPL-CVAE says, on held-out examples: its information, and the errors that tell its two failures."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax.baselines import smpl_cvae
from multibodies_jax.evaluation import metrics
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.training import inference, setup


def inspect(config: Any, regressor: inference.Regressor, batches: Iterable[dict[str, Array]]) -> dict[str, Any]:
    """Measures the latent of a trained SMPL-CVAE.

    Args:
      config: of the experiment.
      regressor: the network, `model.name=smpl_cvae`.
      batches: evaluation batches of the validation split; examples without SMPL parameters do not count.

    Returns:
      `cvae.information`; `error_encoded_mm`, the error of J24 (mid-hip centred) with z the encoder's mean of the truth;
      `error_sample_mm` and `error_sampled_mm`, of one sample of z and of the best of M; `spread_mm` of the samples; and
      `verdict`, `cvae.verdict` on them. Only {"verdict": "not measured: ..."} where no example has SMPL parameters.
    """
    encoded = setup.encoded_mesh(config, regressor.bodies)
    rows = []
    for batch in batches:
        keep = np.asarray((batch["valid"] > 0) & (batch["smpl_valid"] > 0))
        row = _measure(regressor, batch, encoded(batch))
        rows.append({name: np.asarray(values)[keep] for name, values in row.items()})
    if not sum(len(row["mean"]) for row in rows):
        return {"verdict": "not measured: no example of the validation split has SMPL parameters"}
    found = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    result: dict[str, Any] = smpl_cvae.information(found.pop("mean"), found.pop("log_var"))
    result |= {name: float(values.mean()) for name, values in found.items()}
    told = ("kl", "active_units", "error_encoded_mm", "error_sampled_mm", "spread_mm")
    return result | {"verdict": smpl_cvae.verdict(**{name: result[name] for name in told})}


@jax.jit
def _measure(regressor: inference.Regressor, batch: dict[str, Array], mesh: Float[Array, "B V 3"]) -> dict[str, Array]:
    model, variables, body = regressor.model, regressor.variables, regressor.bodies.j24
    mean, log_var = model.apply(variables, mesh, method="encode")
    one = hypotheses.decode(model.apply(variables, batch, mean[:, None], method="decode_with"), body)
    samples = regressor(batch)
    truth = setup.centred_joints(regressor.bodies, batch["rotmats"], batch["betas"])[0][:, None]
    errors = metrics.mpjpe_mm(samples.joints24, truth)
    uniform = jnp.full(errors.shape, 1.0 / errors.shape[1])
    return {
        "mean": mean,
        "log_var": log_var,
        "error_encoded_mm": metrics.mpjpe_mm(one.joints24, truth)[:, 0],
        "error_sample_mm": errors[:, 0],
        "error_sampled_mm": jnp.min(errors, axis=1),
        "spread_mm": jnp.mean(metrics.joint_spread_mm(samples.joints24, uniform), axis=1),
    }
