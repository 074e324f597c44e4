"""What evaluation measures and what fits compute, as functions of small arguments, to be traced."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.body import smpl
from multibodies_jax.evaluation import (
    calibration,
    diagnostics,
    expected,
    lenses,
    other_views,
    protocols,
    set_errors,
    silhouettes,
)
from multibodies_jax.fitting import refine, smplify
from multibodies_jax.hypotheses import hypotheses, quantize
from tests.helpers import batches, fitting_reference, random_body, random_hypotheses, smplify_reference

_B, _M, _N, _VIEWS = 2, 5, 2, 3
Program = tuple[Callable[..., Any], tuple]


def of_metrics() -> dict[str, Program]:
    """Everything that evaluation measures of hypotheses, by name: under every protocol where it depends on it."""
    body, _, j24 = random_body.make()
    regressor = np.random.default_rng(2).dirichlet(np.ones(len(body.v_template)), 17).astype(np.float32)
    scored = set_errors.Scored(smpl.contract(body, regressor), body)
    scorer = set_errors.Scorer(scored, j24, (scored, scored), body)
    rotmats, betas = random_body.poses(0, (_B,))
    batch = batches.batch(rotmats=rotmats, betas=betas, smpl_valid=jnp.ones(_B))
    hyps, gender, keys = random_hypotheses.make_hypotheses(0, _B, _M), jnp.zeros(_B, int), random_hypotheses.keys(_B)
    lens = lenses.Lens(jnp.ones(_B), jnp.ones((_B, 3, 3)), jnp.zeros((_B, 2)))
    shapes = {"midhip": (3,), "rotation": (_VIEWS, 3, 3), "translation": (_VIEWS, 3), "intrinsics": (_VIEWS, 3, 3)}
    shapes |= {"distortion": (_VIEWS, 4), "kp2d": (_VIEWS, 24, 2), "valid": (_VIEWS, 24), "unit": (_VIEWS,)}
    views = other_views.OtherViews(**{name: jnp.ones((_B, *shape)) for name, shape in shapes.items()})

    def under(protocol: protocols.Protocol, scorer: set_errors.Scorer, hyps: hypotheses.Hypotheses) -> Any:
        given = protocol.truth == protocols.GIVEN
        truth = set_errors.truth_of(
            scorer, batch.target, gender, protocol, lens if given else None, views if given else None
        )
        errors = set_errors.measure(scorer, hyps, truth, protocol)
        found = quantize.select(hyps, _N, keys)
        pred = set_errors.compared_joints(scorer, hyps, protocol)
        order = jnp.broadcast_to(jnp.arange(_M)[None], (_B, _M))
        calibrated = calibration.measure(hyps.log_prior, hyps.log_prior, {str(_N): found}, truth, {})
        return (
            errors,
            set_errors.measure_centroids(pred, hyps.log_prior, found, truth, protocol),
            set_errors.of_sets(set_errors.members(errors, found.medoid), protocol),
            set_errors.single(errors, hyps.log_prior),
            set_errors.growing(errors, order, protocol),
            diagnostics.diagnose(hyps, batch, truth, jnp.ones(())),
            {n: (its.hit, its.prob) for n, its in calibrated.items()},
        )

    def silhouette(scorer: set_errors.Scorer, hyps: hypotheses.Hypotheses) -> Any:
        return silhouettes.iou(scorer.body, scorer.j24, hyps, batch.target, lens)

    programs: dict[str, Program] = {
        f"protocol {name}": (functools.partial(under, protocols.PROTOCOLS[name]), (scorer, hyps))
        for name in protocols.PROTOCOLS
    }
    programs["reprojection"] = diagnostics.reprojection, (hyps, batch)
    programs["expected body"] = expected.expected_body, (hyps, hyps.log_prior, j24)
    programs["silhouettes"] = silhouette, (scorer, hyps)
    return programs


def of_fits() -> dict[str, Program]:
    """Refined hypotheses, fits from the mean pose, and SMPLify with each of its solvers, by name."""
    hyps = random_hypotheses.make_hypotheses(0, _B, _M)
    points, confidence = jnp.zeros((_B, 24, 2)), jnp.ones((_B, 24))
    settings = refine.Settings(fitting_reference.WEIGHTS, 2)
    mean_state = jnp.concatenate([jnp.tile(jnp.array([1.0, 0, 0, 1, 0, 0]), 24), jnp.zeros(10), jnp.ones(3)])
    fixed = {"joint_model": fitting_reference.joint_model(), "settings": settings}
    fixed |= {"log_prob": jax.tree_util.Partial(fitting_reference.log_prob)}
    programs: dict[str, Program] = {
        "refined": (functools.partial(refine.refine, **fixed), (hyps, points, confidence)),
        "mean pose": (functools.partial(refine.fit_from_mean_pose, **fixed), (points, confidence, mean_state)),
    }
    rotmats, betas = random_body.poses(0, (_B,))
    for solver in smplify.SOLVERS:
        fit = functools.partial(smplify.fit, settings=smplify.Settings(steps=2, solver=solver))
        start = smplify.start_from(rotmats, betas, jnp.ones((_B, 3)))
        keypoints = smplify.crop_keypoints(jnp.zeros((_B, smplify.POINTS, 2)), jnp.ones((_B, smplify.POINTS)))
        given = start, keypoints, smplify_reference.joint_model(), smplify_reference.mixture()
        programs[f"SMPLify, {solver}"] = fit, given
    programs["stored losses"] = smplify.stored_loss_px2, (rotmats, betas, *given[1:3])
    return programs
