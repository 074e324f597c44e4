"""Fits the mixture of poses that ships: python -m multibodies_jax.baselines.spin.fit_mixture --poses=FILE --out=FILE.npz

The shipped file was made of motion capture of the CMU Graphics Lab Motion Capture Database (mocap.cs.cmu.edu, created with
funding from NSF EIA-0196217; free for research and products), retargeted to SMPL's joints; no motion of it is in the file.
"""

import argparse
import pathlib
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from multibodies_jax import io, programs
from multibodies_jax.data import pose_files
from multibodies_jax.fitting import pose_mixture
from multibodies_jax.geometry import joints

COMPONENTS = 8
_FLOOR = 1e-3  # Added to every variance, square radians: recordings do not move all joints.


def mirrored(poses: Float[np.ndarray, "N 24 3"]) -> Float[np.ndarray, "N 24 3"]:
    """The mirror images of poses, left for right."""
    return poses[:, joints.SMPL_FLIP] * np.array([1.0, -1.0, -1.0])


def fit(
    pose_file: pose_files.PoseFile, components: int = COMPONENTS, seed: int = 0, drawn: int = 20_000
) -> dict[str, np.ndarray]:
    """Fits a mixture by expectation maximisation to poses and their mirror images.

    Args:
      pose_file: with the weight of each pose.
      components: K.
      seed: of the draw and of the start.
      drawn: poses, by the weights of their recordings and subjects; each counts with its mirror image.

    Returns:
      `means` (K, 69), `covars` (K, 69, 69) and `weights` (K,), as `pose_mixture.build` takes them; the heaviest first.

    Raises:
      ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise ImportError("Fitting a mixture needs scikit-learn: pip install scikit-learn.") from None
    rng = np.random.default_rng(seed)
    poses = pose_file.poses[rng.choice(len(pose_file.poses), drawn, p=pose_file.weights)].astype(np.float64)
    data = np.concatenate([poses, mirrored(poses)])[:, 1:].reshape(-1, pose_mixture.POSE_SIZE)
    fitted: Any = GaussianMixture(components, reg_covar=_FLOOR, random_state=seed, max_iter=300).fit(data)
    order = np.argsort(-fitted.weights_)
    return {
        "means": fitted.means_[order],
        "covars": fitted.covariances_[order],
        "weights": fitted.weights_[order],
    }


@programs.guarded
def main(argv: list[str] | None = None) -> int:
    """Fits, writes, and prints the mean energy of training and of held-out poses; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m multibodies_jax.baselines.spin.fit_mixture",
        description="Fits the mixture of Gaussians that SMPLify takes as the prior of the pose.",
    )
    parser.add_argument("--poses", required=True, metavar="PATH", help="poses, as config.data.people takes them")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE", help="the .npz to write")
    parser.add_argument("--components", type=int, default=COMPONENTS, metavar="K")
    args = parser.parse_args(programs.start(argv))
    try:
        every = pose_files.load(args.poses)
        parts = {name: pose_files.split(every, name) for name in ("train", "test")}
        arrays = fit(every, args.components)
        of_train = pose_mixture.build(**fit(parts["train"], args.components))
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, part in parts.items():
        poses = part.poses[:, 1:].reshape(-1, pose_mixture.POSE_SIZE)
        energies = np.asarray(pose_mixture.energy(of_train, jnp.asarray(poses)))
        mean = np.average(energies, weights=part.weights)
        print(f"mean energy of the {name} split under a mixture of the train split: {mean:.1f}")
    io.write_npz(args.out, {name: array.astype(np.float32) for name, array in arrays.items()})
    print(f"{args.out}: {args.components} components, {args.out.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
