"""The template mesh: implicit body -> marching cubes on its left half -> remesh to an exact count -> mirror."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from multibodies_jax.body import mesh_points
from multibodies_jax.embedded.mannequin import anatomy, remesh
from multibodies_jax.embedded.mannequin.triangles import Faces, Verts, volume
from multibodies_jax.geometry import joints

NUM_VERTS, NUM_FACES = 6890, 13776

# Triangles are smaller near these points of the left half: (centre, radius, relative edge length).
_FINE = (
    ((0.0, 1.56, 0.10), 0.10, 0.50),  # Face.
    ((0.0, 1.58, 0.0), 0.16, 0.75),  # Head.
    ((0.79, 1.378, 0.0), 0.13, 0.47),  # Hand.
    ((0.13, 0.03, 0.06), 0.17, 0.68),  # Foot.
    ((0.45, 1.385, -0.03), 0.08, 0.85),  # Elbow.
    ((0.103, 0.48, 0.0), 0.10, 0.85),  # Knee.
    ((0.17, 1.36, -0.02), 0.11, 0.88),  # Shoulder.
)

# Where the landmark vertices of the left and middle are looked for; the finger tips lie on the edge of the mitten.
_LANDMARKS = {
    "nose": (0, 1.556, 0.124),
    "left_eye": (0.031, 1.579, 0.092),
    "left_ear": (0.084, 1.577, -0.006),
    "left_thumb": (0.800, 1.369, 0.048),
    "left_index": (0.864, 1.359, -0.004),
    "left_middle": (0.874, 1.358, -0.020),
    "left_ring": (0.872, 1.358, -0.035),
    "left_pinky": (0.860, 1.360, -0.052),
    "left_big_toe": (0.126, 0.02, 0.168),
    "left_small_toe": (0.168, 0.018, 0.135),
    "left_heel": (0.112, 0.025, -0.098),
}


def edge_length(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
    """The wanted edge length in metres, up to the common factor that remeshing finds."""
    relative = np.ones(len(points))
    for center, radius, fine in _FINE:
        distance = np.linalg.norm(points - np.asarray(center), axis=1) / radius
        t = np.clip((distance - 0.6) / 0.8, 0, 1)
        relative = np.minimum(relative, fine + (1 - fine) * t * t * (3 - 2 * t))
    return 0.018 * relative


def _left_half(cell: float) -> tuple[Verts, Faces]:
    """Marching cubes on x >= 0; the rim lies at exactly x = 0, normals point outwards."""
    try:
        from skimage import measure  # Late: only the generator of the body needs scikit-image.
    except ImportError as e:
        raise ImportError(
            "Building the embedded body needs scikit-image, which is in the extra `generate`: "
            "`pip install -e '.[generate]'` in a checkout of this project."
        ) from e
    low, high = np.array([0.0, -0.03, -0.20]), np.array([0.92, 1.74, 0.24])
    xs, ys, zs = (np.arange(a, b, cell) for a, b in zip(low, high, strict=True))
    plane = np.stack(np.meshgrid(ys, zs, indexing="ij"), -1)
    values = np.empty((len(xs), len(ys), len(zs)))
    for i, x in enumerate(xs):  # Plane by plane, to keep memory small.
        values[i] = anatomy.body(np.concatenate([np.full((*plane.shape[:2], 1), x), plane], -1))
    verts, faces, _, _ = measure.marching_cubes(values, 0.0, spacing=(cell,) * 3)
    verts = verts.astype(float) + low
    verts[np.abs(verts[:, 0]) < 1e-7, 0] = 0.0
    inside_out = volume(verts, faces) < 0  # The open side is at x = 0, where it encloses nothing.
    return verts, np.ascontiguousarray(faces[:, ::-1] if inside_out else faces)


def mirror(verts: Verts, faces: Faces) -> tuple[Verts, Faces, Int[np.ndarray, "_"]]:
    """The whole mesh from its half x >= 0: left vertices, mid-line vertices, right vertices; and the mirror map."""
    middle = verts[:, 0] == 0.0
    order = np.r_[np.flatnonzero(~middle), np.flatnonzero(middle)]
    verts, faces = verts[order], np.argsort(order)[faces]
    h, m = int((~middle).sum()), int(middle.sum())
    left, center, right = np.arange(h), np.arange(h, h + m), np.arange(h + m, 2 * h + m)
    to_right = np.r_[right, center]
    all_verts = np.concatenate([verts, verts[:h] * [-1, 1, 1]])
    all_faces = np.concatenate([faces, to_right[faces][:, ::-1]])
    return all_verts, all_faces, np.r_[right, center, left]


def _find_landmarks(verts: Verts, mirror_map: np.ndarray) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, position in _LANDMARKS.items():
        distance = np.linalg.norm(verts - np.array(position), axis=1)
        wrong_side = np.abs(verts[:, 0]) > 1e-9 if name == "nose" else verts[:, 0] <= 1e-9
        distance[wrong_side] = np.inf
        distance[list(found.values())] = np.inf
        found[name] = int(distance.argmin())
    right = {joints.mirrored(name): int(mirror_map[vertex]) for name, vertex in found.items() if name != "nose"}
    return found | right


def _place_landmarks(verts: Verts, faces: Faces, mirror_map: np.ndarray) -> tuple[Verts, Faces, np.ndarray]:
    """Renumbers vertices so that the landmarks carry the indices they have in SMPL's mesh."""
    found = _find_landmarks(verts, mirror_map)
    old_of_new, new_of_old = np.arange(len(verts)), np.arange(len(verts))
    for name, new in mesh_points.LANDMARK_VERTICES.items():
        now = new_of_old[found[name]]
        old_of_new[[new, now]] = old_of_new[[now, new]]
        new_of_old[old_of_new[[new, now]]] = [new, now]
    return verts[old_of_new], new_of_old[faces], new_of_old[mirror_map[old_of_new]]


def build_surface(progress: Callable[[str], None], cell: float = 0.012) -> tuple[Verts, Faces, np.ndarray]:
    """Meshes the body.

    Args:
      progress: called with a text at each step.
      cell: edge of the marching cubes, metres.

    Returns:
      (6890, 3) vertices in metres with the floor at y = 0, (13776, 3) faces, and the (6890,) map of each vertex to its
      mirror image.

    Raises:
      ImportError: scikit-image is missing; the message names the extra that has it.
      RuntimeError: if the mesh has another size or is not closed.
    """
    verts, faces = _left_half(cell)
    progress(f"marching cubes: {len(verts)} vertices in the left half")
    verts, faces = remesh.remesh_half(verts, faces, edge_length, anatomy.project, NUM_VERTS, progress)
    verts, faces, mirror_map = mirror(verts, faces)
    if len(verts) != NUM_VERTS or len(faces) != NUM_FACES or volume(verts, faces) <= 0:
        raise RuntimeError(f"The surface has {len(verts)} vertices and {len(faces)} faces; it is not a closed body.")
    return _place_landmarks(verts, faces, mirror_map)
