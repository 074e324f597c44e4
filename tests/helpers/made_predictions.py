"""Predictions of made-up people, as `multibodies predict` would store them, and the random body they are of."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.body import smpl
from multibodies_jax.export import scene
from multibodies_jax.geometry import joints
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.prediction import people, prediction_file
from tests.helpers import random_body

M = 12
SIZE = (640, 480)
SETTINGS = {"reading": "paper", "weights": "prior", "temperature": 1.0, "starts": 2, "iterations": 5}


@functools.cache
def body():
    """A random body whose vertices have at most four bones, and its J24 contracted."""
    arrays = random_body.arrays()
    kept = np.where(np.argsort(np.argsort(-arrays["weights"], axis=1), axis=1) < 4, arrays["weights"], 0)
    model = smpl.build(**arrays | {"weights": kept / kept.sum(1, keepdims=True)})
    return model, smpl.contract(model, random_body.make()[1])


def record(seed=0, person=0, n=3, center=(250.0, 200.0), focal_px=None, image="photo.png", fingerprint="0" * 64):
    """One person with M random hypotheses, n of them chosen; the right arm is hidden."""
    _, joint_model = body()
    k_state, k_prior = jax.random.split(jax.random.key(seed))
    mean = jnp.concatenate([jnp.tile(jnp.array([1.0, 0, 0, 1, 0, 0]), 24), jnp.zeros(10), jnp.array([0.9, 0.0, 0.0])])
    state = mean[None] + 0.2 * jax.random.normal(k_state, (M, 157))
    found = hypotheses.decode(state.at[:, 154].set(0.9), joint_model)
    found = dataclasses.replace(found, log_prior=jax.random.normal(k_prior, (M,)))
    rng = np.random.default_rng(seed)
    keypoints = np.column_stack([rng.normal(center, 60, (24, 2)), np.ones(24)]).astype(np.float32)
    keypoints[[joints.J24.index(f"right_{name}") for name in ("shoulder", "elbow", "wrist")]] = 0
    about = {
        **{"image": image, "image_size": np.array(SIZE), "person": np.array(person), "body": "a random body"},
        **{"body_fingerprint": fingerprint, "trained_on": "nothing", "commit": "abc", "refined": np.array(False)},
    }
    box = np.array(center, np.float32), 1.4
    lens = None if focal_px is None else prediction_file.camera.lens(SIZE, focal_px)
    described = prediction_file.describe(found, people.Person(keypoints), box, about, lens)
    return prediction_file.choose(described, n, SETTINGS)


def choice(its, n):
    """The n bodies that the quantizer chooses of a record."""
    chosen = prediction_file.choose(its, n, SETTINGS)
    return scene.Choice(tuple(chosen["index"].tolist()), tuple(chosen["probabilities"].tolist()))


def made(records=None, motion=0, **options):
    """A scene; with `motion` the first body moves for that many frames."""
    records = [record()] if records is None else records
    found = scene.build(records, body()[0], **options)
    if not motion:
        return found
    first = found.people[0]
    moving = dataclasses.replace(first.bodies[0], motion=_motion(first.bodies[0], motion))
    person = dataclasses.replace(first, bodies=(moving, *first.bodies[1:]))
    return dataclasses.replace(found, people=(person, *found.people[1:]), frames_per_second=25)


def _motion(of, frames):
    turns = np.linspace(0, 5, frames)  # Radians, almost a whole turn of every joint about its z axis.
    cos, sin, zero, one = np.cos(turns), np.sin(turns), np.zeros(frames), np.ones(frames)
    turn = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=1).reshape(frames, 1, 3, 3)
    step = np.linspace(0, 1, frames)[:, None] * np.array([0.5, 0.0, 0.2])
    return scene.Motion(of.rotations[None] @ turn, of.translation[None] + step)
