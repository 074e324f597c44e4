"""A closed body of few vertices: SMPL's format on an icosphere, with everything that an experiment needs of a body."""

import functools

import jax.numpy as jnp
import numpy as np

from multibodies_jax.body import body_files, smpl
from multibodies_jax.training import setup
from tests.helpers import random_body


def icosphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices on the unit sphere and faces: 12, 42, 162, 642 vertices."""
    golden = (1 + np.sqrt(5)) / 2
    corners = np.array([[0, a, b * golden] for a in (-1, 1) for b in (-1, 1)])
    vertices = np.concatenate([np.roll(corners, k, axis=1) for k in range(3)])
    distance = np.linalg.norm(vertices[:, None] - vertices[None], axis=2)
    near = (distance < 2.1) & (distance > 0)
    faces = [
        (a, b, c) for a in range(12) for b in range(a + 1, 12) for c in range(b + 1, 12) if near[a, b] and near[b, c] and near[a, c]
    ]  # fmt: skip
    outward = [np.linalg.det(vertices[list(face)]) > 0 for face in faces]
    triangles = np.array([face if out else face[::-1] for face, out in zip(faces, outward, strict=True)])
    for _ in range(subdivisions):
        vertices, triangles = _subdivided(vertices, triangles)
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True), triangles


def _subdivided(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.sort(np.concatenate([faces[:, [k, (k + 1) % 3]] for k in range(3)]), axis=1)
    edges, which = np.unique(pairs, axis=0, return_inverse=True)
    a, b, c = (len(vertices) + which).reshape(3, -1)
    parts = [(faces[:, 0], a, c), (faces[:, 1], b, a), (faces[:, 2], c, b), (a, b, c)]
    middle = vertices[edges].mean(axis=1)
    return np.concatenate([vertices, middle]), np.concatenate([np.stack(part, axis=1) for part in parts])


def bumpy(subdivisions: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An icosphere with other radii everywhere, so that no two costs and no two distances are equal."""
    vertices, faces = icosphere(subdivisions)
    return vertices * np.random.default_rng(seed).uniform(0.9, 1.1, (len(vertices), 1)), faces


@functools.cache
def body() -> smpl.SmplModel:
    """162 vertices."""
    vertices, faces = bumpy()
    return smpl.build(**random_body.arrays(0, len(vertices)) | {"v_template": 0.5 * vertices, "faces": faces})


@functools.cache
def bodies() -> setup.Bodies:
    """That body with regressors of sparse rows that sum to 1."""
    model, rng = body(), np.random.default_rng(1)

    def regressor(rows: int) -> np.ndarray:
        made = np.zeros((rows, model.v_template.shape[0]), np.float32)
        for row in made:
            row[rng.choice(len(row), 3, replace=False)] = rng.dirichlet(np.ones(3))
        return made

    files = body_files.BodyFiles(
        smpl=model,
        j49_regressor=regressor(49),
        h36m_regressor=regressor(17),
        mean_rot6d=np.tile(np.array([1, 0, 0, 1, 0, 0], np.float32), 24),
        mean_betas=np.zeros(10, np.float32),
        mean_cam=np.array([0.9, 0, 0], np.float32),
        directory=None,
        description="a sphere",
        fingerprint="sphere",
    )
    j24, h36m = smpl.contract(model, files.j24_regressor), smpl.contract(model, files.h36m_regressor)
    return setup.Bodies(smpl=model, j24=j24, h36m=h36m, files=files)


def images(size: int, seed: int = 0) -> dict:
    """Keypoints for the keypoint trunk, as `batches.inputs` takes them."""
    kp2d = np.random.default_rng(seed).uniform(-1, 1, (size, 24, 2))
    return {"kp2d": jnp.asarray(kp2d, jnp.float32), "kp2d_input": jnp.ones((size, 24))}
