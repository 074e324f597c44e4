r"""SMPLify of a batch of people, its second-order solver against Adam, and what fits in the loop add to a training step.

    python -m benchmarks.fitting [--people=64] [--trunk=resnet_small --size=64 --batch=32] [--repeats=10]

People are those of the embedded sets, seen by the crop camera, their keypoints 1 % of the crop's side from where they are;
fits start from their pose with 8 degrees of noise in every joint, the mean shape, and a camera 10 % too near. The second
solver gets the fewest steps whose mean objective is not above that of Adam. A step is the whole one of
`train_step.make_train_step`, with M = 1; half of its examples have no SMPL parameters. Medians count.
"""

import argparse
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks import figures, training, turns
from multibodies_jax.baselines.spin import targets
from multibodies_jax.body import body_files, smpl
from multibodies_jax.embedded.synthetic import poses
from multibodies_jax.fitting import pose_mixture, smplify
from multibodies_jax.geometry import cameras
from multibodies_jax.models import build
from multibodies_jax.training import setup

SECOND_ORDER_STEPS = (2, 3, 4, 5, 6, 8, 12, 20)
_NOISE_DEG, _KEYPOINT_NOISE, _NEARER = 8.0, 0.02, 1.1


def people(number: int, joint_model: smpl.JointModel, seed: int = 0) -> tuple[smplify.Body, smplify.Keypoints]:
    """Starts of fits, and the keypoints to fit to: all that `joint_model` regresses."""
    rng = np.random.default_rng(seed)
    pose, _ = poses.sample_poses(number, rng)
    rotmats = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(number, 24, 3, 3)
    upright = Rotation.from_euler("x", 180, degrees=True).as_matrix()  # The camera's y axis points down.
    turned = Rotation.from_rotvec(rng.uniform(-np.pi, np.pi, (number, 1)) * [[0.0, 1.0, 0.0]]).as_matrix()
    rotmats[:, 0] = upright @ turned @ rotmats[:, 0]
    cam = np.concatenate([rng.uniform(0.6, 0.9, (number, 1)), 0.05 * rng.normal(size=(number, 2))], axis=1)
    betas = poses.sample_betas(number, rng)
    as_float = functools.partial(jnp.asarray, dtype=jnp.float32)
    shown = cameras.project_crop(smpl.joints(joint_model, as_float(rotmats), as_float(betas)), as_float(cam))
    shown = shown + as_float(_KEYPOINT_NOISE * rng.normal(size=shown.shape))
    noise = Rotation.from_rotvec(np.deg2rad(_NOISE_DEG) * rng.normal(size=(number * 24, 3))).as_matrix()
    rotmats = rotmats @ noise.reshape(number, 24, 3, 3)
    start = smplify.start_from(as_float(rotmats), jnp.zeros((number, 10)), as_float(cam * [_NEARER, 1, 1]))
    return start, smplify.crop_keypoints(shown, jnp.ones(shown.shape[:2]))


def fits(
    number: int, joint_model: smpl.JointModel, settings: smplify.Settings
) -> tuple[Callable[[], smplify.Fit], float, float]:
    """A function that fits again and waits, seconds of compiling, and the mean objective of the fitted bodies."""
    given = (*people(number, joint_model), joint_model, pose_mixture.load())
    began = time.perf_counter()
    compiled = jax.jit(smplify.fit, static_argnames="settings").lower(*given, settings).compile()
    seconds = time.perf_counter() - began

    def run() -> smplify.Fit:
        return jax.block_until_ready(compiled(*given))

    objective = smplify.body_objective(run().body, *given[1:])
    return run, seconds, float(jnp.mean(objective))


def equal_fits(number: int, joint_model: smpl.JointModel) -> dict[str, tuple[Callable[[], smplify.Fit], float]]:
    """Adam and the second-order solver with the fewest steps that are not worse: a function of each, and its objective."""
    adam, _, objective = fits(number, joint_model, smplify.SPIN)
    equal = {"2 x 100 steps of Adam, in turns": (adam, objective)}
    for steps in SECOND_ORDER_STEPS:
        other, _, reached = fits(number, joint_model, smplify.Settings(steps, solver="second_order"))
        if reached <= objective:
            return equal | {f"{steps} steps of second order": (other, reached)}
    raise RuntimeError(f"{SECOND_ORDER_STEPS[-1]} steps of second order reach {reached:.0f}, Adam {objective:.0f}.")


def loop(config: Any, bodies: setup.Bodies, number: int) -> build.Targets:
    """Fits in the loop of a made-up set with as many examples as a batch."""
    files = bodies.files
    mean_state = np.concatenate([files.mean_rot6d, files.mean_betas, files.mean_cam])
    return targets.Loop(config, bodies.j24, mean_state, pathlib.Path(), {"made": number}, pose_mixture.load())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fitting", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=64, help="that are fitted at once")
    parser.add_argument("--trunk", default="resnet_small", choices=build.TRUNKS)
    parser.add_argument("--size", type=int, default=64, help="of the crop, pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args(argv)
    files = body_files.load()
    for name, regressor in (("J24", files.j24_regressor), ("49 keypoints", files.j49_regressor)):
        run, compiling, _ = fits(args.people, smpl.contract(files.smpl, regressor), smplify.SPIN)
        (seconds,) = turns.medians([run], args.repeats)
        print(
            f"{args.people} people, {name}, 2 x 100 steps of Adam: {1000 * seconds:.0f} ms, compiled in {compiling:.1f} s"
        )
        measured = {"ms": 1000 * seconds, "compiled in, s": compiling}
        figures.tell("fits", f"{args.people} people, {name}", "2 x 100 steps of Adam", measured)
    equal = equal_fits(args.people, smpl.contract(files.smpl, files.j24_regressor))
    seconds = turns.medians([run for run, _ in equal.values()], args.repeats)
    for (name, (_, objective)), one in zip(equal.items(), seconds, strict=True):
        print(f"{name}: {1000 * one:.0f} ms, mean objective {objective:.0f}")
        measured = {"ms": 1000 * one, "mean objective": objective, "times as fast as Adam": seconds[0] / one}
        figures.tell("fits", f"{args.people} people, J24", name, measured)
    print(f"second order is {seconds[0] / seconds[1]:.1f} times faster")
    fields = (args.trunk, args.size, args.batch, 1)
    plain = training.prepare(*fields)
    looped = training.prepare(*fields, base="spin:default", make_targets=functools.partial(loop, number=args.batch))
    a, b = turns.medians([looped.run, plain.run], args.repeats)
    where = f"{args.trunk}, {args.size} pixels, batch {args.batch}, M = 1, {jax.devices()[0].device_kind}"
    for name, shown in (("with fits in the loop", 1000 * a), ("plain", 1000 * b), ("ratio", a / b)):
        figures.tell("step with fits", where, name, {"ms": shown})
    print(where)
    print(f"step with fits in the loop: {1000 * a:.0f} ms   plain step: {1000 * b:.0f} ms   ratio {a / b:.2f}")


if __name__ == "__main__":
    main()
