"""Fits in the loop (Kolotouros et al., 2019, section 3.2): labels for images without 3D truth that get better with the network.

A store has a fit of SMPL for every training example, neither turned nor mirrored. In a step, each example without SMPL
parameters gets a new fit, from where the network says the body is (`fitting.smplify`), and the better of the two is kept,
by the distance from the keypoints. It is the target of the example if that distance is below a threshold.

With M hypotheses the fit starts from the one that is the nearest to the 2D keypoints, which is the best one of eq (1) where
an example has no 3D joints; the target then trains the best one as always.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32
from tqdm import tqdm

from multibodies_jax import exact
from multibodies_jax.batch import Batch, Origin
from multibodies_jax.body import smpl
from multibodies_jax.data import augment, fit_files, pipeline, sources
from multibodies_jax.fitting import pose_mixture, smplify
from multibodies_jax.geometry import joints, rotations
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.hypotheses.hypotheses import Hypotheses, projected_joints
from multibodies_jax.losses import squares
from multibodies_jax.training import fit_order, multihost, setup, training_data

LARGEST_BETA = 3.0
"""A shape with a coefficient beyond it is replaced by the mean one in the loss."""

FIRST_FOLDER = "first_fits"
"""Of a work directory: fits to start from."""

_BATCH = 256  # Examples that are read, and fitted, at once before the first step.
_MIRROR = np.outer([-1, 1, 1], [-1, 1, 1]).astype(np.float32)


@no_type_check  # Tree operations fill it with shapes, shardings or NumPy arrays as well.
class Store(flax.struct.PyTreeNode):
    """The best fit of every training example, as it is stored in its set.

    Attributes:
      pose: axis-angle, the root in the camera frame; of the data where they have SMPL parameters.
      betas: shape.
      loss_px2: with which the fit was accepted (`smplify`); 0 where the data have SMPL parameters.
    """

    pose: Float[Array | np.ndarray, "N 24 3"]
    betas: Float[Array | np.ndarray, "N 10"]
    loss_px2: Float[Array | np.ndarray, "N"]


def augmented(rotmats: Float[Array, "B 24 3 3"], origin: Origin) -> Float[Array, "B 24 3 3"]:
    """Bodies of stored examples as the crops show them: turned, then mirrored."""
    turned = rotmats.at[:, 0].set(_turn(origin.angle, rotmats[:, 0]))
    return jnp.where(origin.flip[:, None, None, None] > 0, _mirrored(turned), turned)


def as_stored(rotmats: Float[Array, "B 24 3 3"], origin: Origin) -> Float[Array, "B 24 3 3"]:
    """The inverse of `augmented`."""
    rotmats = jnp.where(origin.flip[:, None, None, None] > 0, _mirrored(rotmats), rotmats)
    return rotmats.at[:, 0].set(_turn(-origin.angle, rotmats[:, 0]))


def winners(place: Int32[Array, "B"], loss: Float[Array, "B"], better: Bool[Array, "B"]) -> Bool[Array, "B"]:
    """Which of the better fits are stored: of an example that is there several times the one of least loss, the first of equals."""
    loss = jnp.where(better, loss, jnp.inf)
    same = place[:, None] == place[None, :]
    order = jnp.arange(len(place))
    beaten = same & (
        (loss[None, :] < loss[:, None]) | ((loss[None, :] == loss[:, None]) & (order[None, :] < order[:, None]))
    )
    return better & ~jnp.any(beaten & better[None, :], axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """`build.Targets` of this loop.

    Attributes:
      config: of the experiment.
      joint_model: its body contracted with the J24 regressor.
      mean_state: of its mean body, as `hypotheses.decode` reads it.
      workdir: of the experiment.
      sizes: examples of each training set, in the order of the store.
      prior: of the pose.
    """

    config: Any
    joint_model: smpl.JointModel
    mean_state: Float[np.ndarray, "157"]
    workdir: pathlib.Path
    sizes: Mapping[str, int]
    prior: pose_mixture.PoseMixture

    @property
    def about(self) -> Mapping[str, Any]:
        return {"sets": [[name, count] for name, count in self.sizes.items()]}

    @property
    def settings(self) -> smplify.Settings:
        """Of the fits."""
        own = self.config.spin
        return smplify.Settings(own.steps, own.torso, own.solver)

    def template(self) -> Store:
        N = sum(self.sizes.values())
        return Store(np.zeros((N, 24, 3), np.float32), np.zeros((N, 10), np.float32), np.zeros(N, np.float32))

    def check(self) -> None:
        """Reads the fits to start from.

        Raises:
          ValueError: files of fits are missing, damaged, or of other sets or rows.
        """
        for name, fits in self._given().items():
            if fits is not None:
                source = sources.open_source(self.config, name, "train")
                fit_order.check(name, source, fits, self.joint_model, self.config.model.crop_size)

    def first(self) -> Store:
        """The store before the first step: SMPL of the data, fits of files, or else SMPLify from the mean pose.

        Files are those of the folder `first_fits` of the work directory, or of `data.fits`.

        Raises:
          ValueError: files of fits are missing, damaged, or of other sets.
        """
        given, parts = self._given(), []
        with tqdm(
            total=sum(self.sizes.values()),
            desc="first fits",
            unit="fit",
            mininterval=1,
            disable=not multihost.is_first(),
        ) as bar:
            for rows, fits in self._rows(given):
                parts.append(self._first(rows, fits))
                bar.update(len(parts[-1].loss_px2))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays).astype(np.float32), *parts)

    def __call__(
        self, memory: Store, hyps: Hypotheses, batch: Batch, joint_model: smpl.JointModel
    ) -> tuple[Store, Batch, dict[str, Array]]:
        target, origin = batch.target, batch.origin
        if origin is None:
            raise ValueError("The fits of a batch are found by its origin, and it has none.")
        keypoints = smplify.crop_keypoints(target.kp2d, target.kp2d_valid)
        unknown = target.smpl_valid == 0
        rotmats = augmented(rotations.axis_angle_to_matrix(memory.pose[origin.place]), origin)
        betas = memory.betas[origin.place]
        loss = smplify.stored_loss_px2(rotmats, betas, keypoints, joint_model)
        metrics = {}
        if self.config.spin.fit:
            new = smplify.fit(_start(hyps, batch), keypoints, joint_model, self.prior, self.settings)
            better = unknown & (new.loss_px2 < loss)
            new_rotmats = rotations.axis_angle_to_matrix(new.body.pose)
            rotmats = jnp.where(better[:, None, None, None], new_rotmats, rotmats)
            betas = jnp.where(better[:, None], new.body.betas, betas)
            loss = jnp.where(better, new.loss_px2, loss)
            memory = _stored(memory, rotmats, betas, loss, origin, winners(origin.place, loss, better))
            metrics["fits_replaced"] = _share(better, unknown)
        valid = unknown & (loss < self.config.spin.threshold)
        plausible = jnp.all(jnp.abs(betas) <= LARGEST_BETA, axis=1, keepdims=True)
        labels = dataclasses.replace(
            target,
            rotmats=jnp.where(valid[:, None, None, None], rotmats, target.rotmats),
            betas=jnp.where(valid[:, None], jnp.where(plausible, betas, 0.0), target.betas),
            smpl_valid=jnp.where(valid, 1.0, target.smpl_valid),
        )
        finite = unknown & jnp.isfinite(loss)
        metrics["fits_valid"] = _share(valid, unknown)
        metrics["fits_px2"] = jnp.sum(jnp.where(finite, loss, 0.0)) / jnp.maximum(jnp.sum(finite), 1)
        return memory, dataclasses.replace(batch, target=labels), metrics

    def finish(self, memory: Store) -> None:
        """Writes the fits of every set into the folder `fits` of the work directory, with a flag for those that are valid."""
        store = jax.device_get(memory)
        for name, fits in split(store, self.sizes, self.config.spin.threshold).items():
            fit_files.write(self.workdir / fit_files.FOLDER, name, fits)

    def _given(self) -> dict[str, fit_files.Fits | None]:
        """The fits of each set to start from; None where there are none."""
        given: dict[str, fit_files.Fits | None] = {}
        for name, count in self.sizes.items():
            if path := fit_files.find(self.workdir / FIRST_FOLDER, name):
                given[name] = fit_files.read(path, count)
            elif self.config.data.fits:
                given[name] = fit_files.read_set(pathlib.Path(self.config.data.fits), name, count)
            else:
                given[name] = None
        stems = [fit_files.stem(name) for name in self.sizes]
        for path in sorted((self.workdir / FIRST_FOLDER).glob(f"*{fit_files.ENDING}.np?")):
            if path.stem not in stems:
                raise fit_files.FitsError(
                    f"{path} is of no training set; the files of these sets are called "
                    f"{', '.join(f'{stem}.npy' for stem in stems)}. Rename or remove it."
                )
        return given

    def _rows(
        self, given: Mapping[str, fit_files.Fits | None]
    ) -> Iterator[tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray] | None]]:
        """The examples of all sets as they are stored, in batches, each with the fits that are given (pose, betas)."""
        size = self.config.model.crop_size
        for source, fits in zip(training_data.open_each(self.config), given.values(), strict=True):
            batches = pipeline.evaluation_batches(
                source, _BATCH, lambda record: augment.evaluation_example(record, size, with_image=False)
            )
            for first, rows in zip(range(0, len(source), _BATCH), batches, strict=True):
                last = min(first + _BATCH, len(source))
                some = None if fits is None else (fits.pose[first:last], fits.betas[first:last])
                yield {name: array[: last - first] for name, array in rows.items()}, some

    def _first(self, rows: Mapping[str, np.ndarray], given: tuple[np.ndarray, np.ndarray] | None) -> Store:
        """The store of some examples."""
        known = rows["smpl_valid"] > 0
        keypoints = smplify.crop_keypoints(jnp.asarray(rows["kp2d"]), jnp.asarray(rows["kp2d_valid"]))
        if given is None:
            six, mean_betas, _ = hypotheses.split_state(jnp.asarray(self.mean_state))
            mean_pose = rotations.matrix_to_axis_angle(rotations.rot6d_to_matrix(six.reshape(24, 6)))
            pose, betas = (np.tile(x, (len(known), *np.ones(np.ndim(x), int))) for x in (mean_pose, mean_betas))
            # Of examples whose keypoints do not count at all the mean body stays; it never becomes a label.
            fitted = ~known & np.asarray(smplify.counts(keypoints.confidence)).any(axis=1)
            if fitted.any():
                kp2d, valid = rows["kp2d"][fitted], rows["kp2d_valid"][fitted]
                found = smplify.fit_from_mean_pose(
                    kp2d, valid, self.mean_state, self.joint_model, self.prior, self.settings
                )
                pose[fitted], betas[fitted] = found.body.pose, found.body.betas
        else:
            pose, betas = given
        rotmats = rotations.axis_angle_to_matrix(jnp.asarray(pose, jnp.float32))
        loss = np.asarray(
            smplify.stored_loss_px2(rotmats, jnp.asarray(betas, jnp.float32), keypoints, self.joint_model)
        )
        of_data = np.asarray(rotations.matrix_to_axis_angle(jnp.asarray(rows["rotmats"])))
        return Store(
            np.where(known[:, None, None], of_data, pose),
            np.where(known[:, None], rows["betas"], betas),
            np.where(known, 0.0, loss),
        )


def split(store: Store, sizes: Mapping[str, int], threshold: float) -> dict[str, fit_files.Fits]:
    """The fits of each set, of a store on the host; valid are those below the threshold, and those of the data."""
    ends = np.cumsum(list(sizes.values()))
    parts = {}
    for name, end, count in zip(sizes, ends, sizes.values(), strict=True):
        own = slice(end - count, end)
        loss = np.asarray(store.loss_px2[own])
        valid = (loss < threshold) | (loss == 0)
        parts[name] = fit_files.Fits(np.asarray(store.pose[own]), np.asarray(store.betas[own]), valid)
    return parts


def make(config: Any, bodies: setup.Bodies, workdir: pathlib.Path) -> Loop:
    """The loop of an experiment.

    Raises:
      FileNotFoundError, ValueError: the mixture of `spin.mixture` is missing or damaged.
    """
    files, sizes = bodies.files, training_data.set_sizes(config)
    mean_state = np.concatenate([files.mean_rot6d, files.mean_betas, files.mean_cam])
    return Loop(config, bodies.j24, mean_state, workdir, sizes, pose_mixture.load(config.spin.mixture))


def _start(hyps: Hypotheses, batch: Batch) -> smplify.Body:
    """The hypothesis of each example that is the nearest to its 2D keypoints, as the start of a fit."""
    projected = projected_joints(hyps)
    error = squares.reprojection_error(projected, batch.target.kp2d, batch.target.kp2d_valid)
    nearest = hypotheses.pick(hyps, jnp.argmin(error, axis=1)[:, None])
    return smplify.start_from(nearest.rotmats[:, 0], nearest.betas[:, 0], nearest.cam[:, 0])


def _stored(
    memory: Store,
    rotmats: Float[Array, "B 24 3 3"],
    betas: Float[Array, "B 10"],
    loss: Float[Array, "B"],
    origin: Origin,
    chosen: Bool[Array, "B"],
) -> Store:
    """The store with the chosen fits of a batch."""
    place = jnp.where(chosen, origin.place, len(memory.betas))  # Out of bounds is dropped.
    pose = rotations.matrix_to_axis_angle(as_stored(rotmats, origin))
    new = Store(pose, betas, loss)
    return jax.tree.map(lambda old, values: old.at[place].set(values, mode="drop"), memory, new)


def _turn(angle: Float[Array, "B"], R: Float[Array, "B 3 3"]) -> Float[Array, "B 3 3"]:
    """R after a rotation about z."""
    zero = jnp.zeros_like(angle)
    about_z = rotations.axis_angle_to_matrix(jnp.stack([zero, zero, angle], axis=-1))
    return exact.einsum("nab,nbc->nac", about_z, R)


def _mirrored(rotmats: Float[Array, "B 24 3 3"]) -> Float[Array, "B 24 3 3"]:
    """The mirror images of bodies, left for right (`augment.flip_example`)."""
    return rotmats[:, joints.SMPL_FLIP] * jnp.asarray(_MIRROR)[None, None]


def _share(some: Bool[Array, "B"], of: Bool[Array, "B"]) -> Float[Array, ""]:
    return jnp.sum(some) / jnp.maximum(jnp.sum(of), 1)
