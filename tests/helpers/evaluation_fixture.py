"""The outputs of networks that were not trained, on the embedded body: what rows of an evaluation choose from."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.body import smpl
from multibodies_jax.data import pipeline
from multibodies_jax.evaluation import batches, methods, outputs, protocols, set_errors
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.models import flow, scores
from multibodies_jax.training import inference, prior, setup
from tests.helpers import random_network, tiny

B, M = 4, 6


@dataclasses.dataclass(frozen=True)
class States:
    """Stands for a network: M random states of each example, from the first keypoint that it sees."""

    m: int

    def apply(self, variables, inputs, train, mutable=()):
        del variables, train, mutable

        def states(kp2d):
            key = jax.random.fold_in(jax.random.key(0), jnp.int32(1000 * kp2d[0, 0]))
            return 0.4 * jax.random.normal(key, (self.m, hypotheses.STATE_SIZE))

        return jax.vmap(states)(inputs.evidence), {"extras": {scores.FEATURE: (inputs.evidence[:, :, 0],)}}


class Density(prior.Prior):
    """A log-density of any values that differ from one body to the next."""

    def log_prob(self, x):
        return 20 * jnp.sin(10 * jnp.sum(x, axis=-1))


@functools.cache
def bodies() -> setup.Bodies:
    return setup.load_bodies(tiny.config())


def networks(m: int = M, hmr: bool = True, scored: bool = False) -> outputs.Networks:
    found = bodies()
    surface = smpl.subset(found.smpl, np.arange(0, found.smpl.v_template.shape[0], 500))

    def regressor(m: int, scored: bool = False) -> inference.Regressor:
        known = {"bodies": found, "model": States(m), "num_hypotheses": m, "images_seen": 0, "step": 0, "init": None}
        if not scored:
            return inference.Regressor({}, **known)
        head = scores.ScoreHead(m, keypoints=True, hidden=8, width=8)
        shapes = jax.eval_shape(
            head.init, jax.random.key(0), jnp.zeros((1, 24)), jnp.zeros((1, m, 24, 2)), jnp.zeros((1, 24))
        )
        return inference.Regressor(
            {"params": {scores.NAME: random_network.fill(shapes["params"], 0)}}, **known, score_head=head
        )

    return outputs.Networks(
        main=regressor(m, scored),
        density=Density(None, flow.Flow(layers=1, width=4, dropout=0.0), None),
        scorer=set_errors.Scorer(set_errors.Scored(found.h36m, surface), found.j24),
        hmr=regressor(1) if hmr else None,
    )


def settings(**fields) -> outputs.Settings:
    usual = {"ns": (1, 2, 5), "label": "ours", "exchangeable": False, "reading": "paper", "weights": "prior"}
    usual |= {"starts": 2, "iterations": 5, "temperature": 0.5, "protocol": protocols.PROTOCOLS["strict"]}
    return outputs.Settings(**usual | fields)


def rows(seed: int = 0, padding: int = 0) -> pipeline.Rows:
    """Examples with true bodies, and with the evidence of the next one beside; the last `padding` of them do not count."""
    rng = np.random.default_rng(seed)
    rotmats = np.linalg.qr(np.eye(3) + 0.2 * rng.normal(size=(B, 24, 3, 3)))[0]
    rotmats *= np.sign(np.linalg.det(rotmats))[..., None, None]
    seen = (rng.uniform(size=(B, 24)) < 0.6).astype(np.float32)
    seen[:, :2] = [1, 0]
    found = {
        "example_id": np.array([f"{seed}/{i}" for i in range(B)]),
        "example_hash": np.arange(10 * seed, 10 * seed + B, dtype=np.uint32),
        "valid": (np.arange(B) < B - padding).astype(np.float32),
        "kp2d": rng.uniform(-1, 1, size=(B, 24, 2)).astype(np.float32),
        "kp2d_valid": np.ones((B, 24), np.float32),
        "kp2d_input": seen,
        "joints3d": np.zeros((B, 24, 3), np.float32),
        "joints3d_valid": np.zeros((B, 24), np.float32),
        "rotmats": rotmats.astype(np.float32),
        "betas": rng.normal(size=(B, 10)).astype(np.float32),
        "smpl_valid": np.ones(B, np.float32),
        "gender": np.zeros(B, np.int32),
        "occlusion": np.zeros(B, np.int32),
    }
    return found | {f"other_{name}": np.roll(found[name], 1, axis=0) for name in ("kp2d", "kp2d_input")}


def made(
    m: int = M, hmr: bool = True, seed: int = 0, padding: int = 0, scored: bool = False, **fields
) -> outputs.Outputs:
    return outputs.Outputs(networks(m, hmr, scored), settings(**fields), batches.stacked(rows(seed, padding)))


def evaluation(out: outputs.Outputs, **overrides) -> methods.Evaluation:
    return methods.Evaluation(tiny.config(**overrides), out.networks, out.settings)
