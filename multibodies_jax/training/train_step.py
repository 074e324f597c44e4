"""One step of training: forward pass, losses, gradient and update, as one function that is jitted whole."""

import functools
from collections.abc import Callable
from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Int

from configs import default
from multibodies_jax.batch import Batch
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.losses import objective, total
from multibodies_jax.models import build, scores
from multibodies_jax.training import accumulation, setup, step_metrics


@no_type_check  # Restoring fills it with NumPy arrays, templates with shapes.
class TrainState(flax.struct.PyTreeNode):
    """What a step changes; all of it is in the checkpoint."""

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    ema: Any  # Averaged parameters, which are evaluated; empty when `optim.ema` is 0.
    opt_state: Any
    memory: Any = flax.struct.field(default_factory=dict)  # Of `build.Targets`; empty without.


def make_train_step(
    config: Any,
    model: Any,
    bodies: setup.Bodies,
    optimizer: optax.GradientTransformation,
    num_hypotheses: int,
    prepare: Callable[[Any, Array], Batch],
    split: NamedSharding,
    targets: build.Targets | None = None,
) -> Callable[[TrainState, Any, Array, setup.Bodies], tuple[TrainState, dict[str, Array]]]:
    """Builds `train_step(state, batch, key, setup.loss_bodies(...)) -> (state, metrics)`; its losses are not weighted.

    Args:
      config: of the experiment.
      model: the network, (inputs, train) -> states (B, M, 157).
      bodies: the body and its joint regressors.
      optimizer: of the parameters that learn.
      num_hypotheses: M.
      prepare: (what `training_data.Data` holds or yields, key) -> the batch (`Data.prepare`).
      split: how a batch is split over the devices.
      targets: what replaces the targets of the data (`setup.targets`).
    """
    network = setup.network(config, num_hypotheses)
    inputs_of, own_config = setup.training_inputs(config, num_hypotheses, bodies), network.own(config)
    score_head = setup.score_head(config, num_hypotheses)
    mode0 = config.loss.mode0 and num_hypotheses > 1 and not network.exchangeable
    held = default.optional(config, "data.cached_passes") or default.optional(config, "data.resident")
    resident = config.data.sets is None or held

    def train_step(
        state: TrainState, batch: Any, key: Array, bodies: setup.Bodies
    ) -> tuple[TrainState, dict[str, Array]]:
        loss_of = make_objective(config, bodies, mode0)

        def loss_fn(params: Any, carried: Any, batch: Any, key: Array) -> tuple[Array, tuple[Any, dict[str, Array]]]:
            batch_stats, memory = carried
            k_prepare, k_dropout = jax.random.split(key)
            batch = prepare(batch, k_prepare)
            batch = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, split), batch)

            # Forward pass: M bodies of every example.
            variables = {"params": _stop_frozen(config, num_hypotheses, params), "batch_stats": batch_stats}
            rngs = {"dropout": k_dropout, "latent": jax.random.fold_in(key, 2)}
            out, changed = model.apply(
                variables, inputs_of(batch), train=True, rngs=rngs, mutable=["batch_stats", "extras"]
            )
            extras = {name: values[-1] for name, values in changed.get("extras", {}).items()}
            states, own, own_weights = network.states_and_extra_terms(own_config, out, extras, batch, state.step)
            hyps = hypotheses.decode(states, bodies.j24, extras.get(hypotheses.VERTICES))

            # Targets: those of the data, for most networks.
            of_targets = {}
            if targets is not None:
                memory, batch, of_targets = targets(memory, jax.lax.stop_gradient(hyps), batch, bodies.j24)

            # Losses: eq (8), and the terms that only this network has.
            loss, terms, best = loss_of(hyps, batch)
            loss = loss + sum(own_weights[term] * value for term, value in own.items())

            metrics = {f"loss_{term}": jnp.mean(value) for term, value in (terms | dict(own)).items()}
            metrics["loss"] = jnp.mean(loss)
            metrics |= step_metrics.annotated_shares(batch.target) | dict(of_targets)
            metrics["best_mm"] = 1000 * step_metrics.best_error(hyps, batch.target, best)
            if states.shape[1] == num_hypotheses:  # Some baselines train one prediction, whatever M is.
                metrics["used_hypotheses"] = step_metrics.used_hypotheses(best, num_hypotheses)
            if score_head is not None:  # No gradient of it reaches another parameter, nor does it count in the loss.
                own_params, feature = params[scores.NAME], extras[scores.FEATURE]
                log_scores = scores.score(score_head, own_params, feature, hyps, batch.inputs)
                foreseen = scores.winner_loss(log_scores, best, batch.target.joints3d_valid)
                metrics["loss_scores"] = jnp.mean(foreseen)
                loss = loss + foreseen
            return jnp.mean(loss), ((changed.get("batch_stats", {}), memory), metrics)

        # Gradient, the mean over the parts of the batch.
        keys = jax.random.split(jax.random.fold_in(key, state.step), config.train.accumulate)
        carried = (state.batch_stats, state.memory)
        _, gradient, (batch_stats, memory), metrics = accumulation.accumulated_gradient(
            loss_fn, state.params, carried, batch, keys, whole=bool(resident)
        )

        # Update of the parameters and of their running mean.
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = running_mean(state.ema, params, config.optim.ema) if config.optim.ema else {}
        new = TrainState(state.step + 1, params, batch_stats, ema, opt_state, memory)
        of_bodies = {name: part for name, part in gradient.items() if name != scores.NAME}
        return new, metrics | {"gradient_norm": optax.tree.norm(of_bodies)}

    return train_step


def running_mean(mean: Any, values: Any, share: float) -> Any:
    """The mean after one more step, share mean + (1 - share) values, of trees of arrays; what does not change stays exactly
    as it is (the two products would round)."""
    return jax.tree.map(lambda before, value: before + (1 - share) * (value - before), mean, values)


def make_objective(config: Any, bodies: setup.Bodies, mode0: bool) -> objective.Objective:
    """The loss that `loss.reading` names, with the weights of this experiment, of `setup.loss_bodies`."""
    settings = objective.Settings(
        weights={term: config.loss[term] for term in total.TERMS},
        mode0=mode0,
        vertices=functools.partial(setup.centred_mesh, bodies),
        joints=lambda rotmats, betas: setup.centred_joints(bodies, rotmats, betas)[0],
        midhip=lambda rotmats, betas: setup.centred_joints(bodies, rotmats, betas)[1][..., 0, :],
        of_mesh=lambda mesh: (
            mesh[:, setup.loss_vertices(config, bodies.files)],
            setup.regressed(bodies.files.j24_regressor, mesh),
        ),
    )
    return objective.OBJECTIVES[config.loss.reading](settings)


def trained(config: Any, num_hypotheses: int, params: Any) -> Any:
    """Which parameters of a stage learn (`freeze`), as a tree of booleans."""
    frozen = setup.freeze(config, num_hypotheses)
    return build.trained(params, frozen, name=config.model.name, head=config.model.head)


def _stop_frozen(config: Any, num_hypotheses: int, params: Any) -> Any:
    """No gradient for what is frozen: its backward pass is not computed, and it counts in no norm."""
    learns = trained(config, num_hypotheses, params)
    return jax.tree.map(lambda learns, x: x if learns else jax.lax.stop_gradient(x), learns, params)
