"""What every writer of files takes: the weighted bodies of one photograph, in the frame of its camera.

A scene is plain NumPy: x right, y down, z forward, metres, the camera at the origin. `to_y_up` turns it into the frame of
the files that other programs read: x right, y up, z towards the viewer, the same right-handed frame seen from the other
side of two axes.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from multibodies_jax import exact
from multibodies_jax.body import smpl
from multibodies_jax.export.weighting import SceneError, weights_of
from multibodies_jax.geometry import joints, rotations_np

TO_Y_UP = np.diag([1.0, -1.0, -1.0])
"""The camera frame in the axes of glTF, Blender's importer and Unity's: half a turn about x."""

BONES, PARENTS = joints.SMPL24, joints.SMPL_PARENTS
"""Names of the 24 bones, and each one's parent."""

# Red, green, blue of the bodies by their rank; distinguishable for colour-blind readers (Okabe and Ito, 2008).
COLORS = (
    (0.34, 0.71, 0.91), (0.90, 0.62, 0.00), (0.00, 0.62, 0.45), (0.80, 0.47, 0.65), (0.94, 0.89, 0.26),
    (0.00, 0.45, 0.70), (0.84, 0.37, 0.00), (0.62, 0.62, 0.62), (0.56, 0.42, 0.80), (0.65, 0.80, 0.45),
)  # fmt: skip
MOST_SPREAD = 0.3
"""Metres: vertices with this much spread over the hypotheses, and with more, get the last colour."""
SPREAD_COLORS = ((0.95, 0.95, 0.95), (1.0, 0.9, 0.55), (0.98, 0.6, 0.24), (0.86, 0.2, 0.13), (0.45, 0.0, 0.1))
_INFLUENCES = 4  # Bones that move a vertex, of glTF and of game engines.


@dataclasses.dataclass(frozen=True)
class Motion:
    """A body over time.

    Attributes:
      rotations: of each frame, as `Body.rotations`.
      translation: of each frame, as `Body.translation`.
    """

    rotations: Float[np.ndarray, "T 24 3 3"]
    translation: Float[np.ndarray, "T 3"]


@dataclasses.dataclass(frozen=True)
class Body:
    """One hypothesis in the frame of the photograph's camera.

    Attributes:
      index: which of the M hypotheses it is.
      rest_vertices: with the shape, without the pose's correctives.
      correctives: displacement of the rest vertices that SMPL adds for this pose.
      rest_joints: of the rest pose.
      rotations: of each joint relative to its parent; the root's relative to the camera.
      translation: added to the posed body, whose root turns about its own rest position.
      joints24: J24 in the camera frame.
      crop_view: takes a homogeneous point of the camera frame to the frame of the crop's camera, before which the body
        stood as the model saw it (`Person.crop_intrinsics`).
      motion: over time, in a video.
    """

    index: int
    rest_vertices: Float[np.ndarray, "V 3"]
    correctives: Float[np.ndarray, "V 3"]
    rest_joints: Float[np.ndarray, "24 3"]
    rotations: Float[np.ndarray, "24 3 3"]
    translation: Float[np.ndarray, "3"]
    joints24: Float[np.ndarray, "24 3"]
    crop_view: Float[np.ndarray, "3 4"]
    motion: Motion | None = None


@dataclasses.dataclass(frozen=True)
class Choice:
    """n representatives: indices into `Person.bodies`, the most probable first, and their probabilities."""

    bodies: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Person:
    """One person of the photograph.

    Attributes:
      number: of the person in the image.
      bodies: all that some choice needs, each once.
      choices: by n.
      chosen: the n that files show.
      crop_intrinsics: of the crop's camera in pixels of the photograph: a very long lens at the crop's centre.
      keypoints: J24: x, y in pixels of the photograph, and 1 where the joint is known.
      joint_spread: of J24: mean distance to the mean over all M, under the weights that the
        prediction's quantizer names (`weighting.weights_of`), metres; bodies are centred on the mid-hip.
      bone_spread: the same of the 24 bones' joints.
      vertex_spread: the same of the vertices; None if it was not asked for.
    """

    number: int
    bodies: tuple[Body, ...]
    choices: Mapping[int, Choice]
    chosen: int
    crop_intrinsics: Float[np.ndarray, "3 3"]
    keypoints: Float[np.ndarray, "24 3"]
    joint_spread: Float[np.ndarray, "24"]
    bone_spread: Float[np.ndarray, "24"]
    vertex_spread: Float[np.ndarray, "V"] | None

    def weighted(self) -> list[tuple[str, Body, float]]:
        """Name, body and probability of the chosen set, the most probable first."""
        choice = self.choices[self.chosen]
        pairs = zip(choice.bodies, choice.probabilities, strict=True)
        return [(f"person_{self.number}_body_{rank}", self.bodies[k], p) for rank, (k, p) in enumerate(pairs)]


@dataclasses.dataclass(frozen=True)
class Scene:
    """All people of a photograph, the skinned body they share, and the camera.

    Attributes:
      people: in the order of their numbers.
      faces: triangles, counter-clockwise from outside.
      skinning: weights of the bones; each row sums to 1.
      focal_px: of the photograph.
      principal_point: pixels.
      image_size: width, height.
      image: file name of the photograph.
      focal_source: `exif`, `given` or `assumed`.
      about: the body model and what the model was trained on, for people.
      frames_per_second: of `Body.motion`.
    """

    people: tuple[Person, ...]
    faces: Integer[np.ndarray, "F 3"]
    skinning: Float[np.ndarray, "V 24"]
    focal_px: float
    principal_point: Float[np.ndarray, "2"]
    image_size: tuple[int, int]
    image: str
    focal_source: str
    about: str
    frames_per_second: float | int = 30

    def weighted(self) -> list[tuple[str, Person, Body, float]]:
        """Name, person, body and probability of all that is chosen, person after person."""
        return [(name, person, body, p) for person in self.people for name, body, p in person.weighted()]

    def vertices(self, body: Body, correctives: bool = True) -> Float[np.ndarray, "V 3"]:
        """Posed vertices in the camera frame, float64.

        Args:
          body: of this scene.
          correctives: with the displacements that SMPL adds for the pose; False skins the shape alone.
        """
        rest = body.rest_vertices + body.correctives if correctives else body.rest_vertices
        return skin(rest, body.rest_joints, body.rotations, self.skinning) + body.translation

    def bone_influences(self) -> tuple[Integer[np.ndarray, "V 4"], Float[np.ndarray, "V 4"]]:
        """The four bones that move each vertex most, as glTF and game engines have them, and their weights.

        SMPL and the embedded body have no more than four. Of others the rest is left out, and the weights are scaled to
        the sum 1. Unused places are bone 0 with weight 0.
        """
        bones = np.argsort(-self.skinning, axis=1, kind="stable")[:, :_INFLUENCES]
        share = np.take_along_axis(self.skinning, bones, axis=1).astype(np.float64)
        share /= share.sum(axis=1, keepdims=True)
        return np.where(share > 0, bones, 0), share.astype(np.float32)


def skin(
    rest_vertices: Float[np.ndarray, "V 3"],
    rest_joints: Float[np.ndarray, "24 3"],
    rotations: Float[np.ndarray, "24 3 3"],
    skinning: Float[np.ndarray, "V 24"],
) -> Float[np.ndarray, "V 3"]:
    """Linear blend skinning in float64 NumPy, without starting JAX (`smpl.skin` is the same in float32)."""
    R, p = rotations_np.forward_kinematics(rotations.astype(np.float64), rest_joints.astype(np.float64))
    t = p - np.einsum("jab,jb->ja", R, rest_joints)
    # Not `@`: BLAS shares so small a product among threads, which wait for each other where the cores are busy.
    blended = np.einsum("vj,jab->vab", skinning.astype(np.float64), R)
    return np.einsum("vab,vb->va", blended, rest_vertices) + skinning @ t


def to_y_up(points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Points of the camera frame in the axes of the files: x right, y up, z towards the viewer."""
    return points * np.diag(TO_Y_UP).astype(points.dtype)


def y_up_pose(
    rotations: Float[np.ndarray, "T 24 3 3"], root: Float[np.ndarray, "T 3"]
) -> tuple[Float[np.ndarray, "T 24 3 3"], Float[np.ndarray, "T 3"]]:
    """Local rotations and the places of the root joint, of the camera frame, in the axes of the files."""
    return np.concatenate([TO_Y_UP @ rotations[:, :1], rotations[:, 1:]], axis=1), to_y_up(root)


def build(
    records: Sequence[Mapping[str, np.ndarray]],
    model: smpl.SmplModel,
    choices: Sequence[Mapping[int, Choice]] | None = None,
    vertex_spread: bool = False,
) -> Scene:
    """Makes the scene of predictions of one photograph.

    Args:
      records: of its people, each as `prediction_file.load` gives it (docs/interfaces.md, section 10).
      model: the body that they were predicted with.
      choices: for each record its sets by n, with indices into the M hypotheses; the record's own is added. None shows
        that one alone.
      vertex_spread: work the spread of every vertex out, from the meshes of all M hypotheses.

    Raises:
      SceneError: no records, records of different photographs or of different focal lengths, a person twice, or
        representatives that are not among the hypotheses.
    """
    if not records:
        raise SceneError("There are no predictions to make files of.")
    first = records[0]
    for record in records[1:]:
        for name in ("image", "image_size", "focal_px"):
            if not np.array_equal(record[name], first[name]):
                raise SceneError(
                    f"The predictions differ in {name} ({record[name]} and {first[name]}); one scene shows one photograph "
                    "through one camera. Export them one by one, or give all the same --focal=PIXELS."
                )
    numbers = [int(record["person"]) for record in records]
    if len(set(numbers)) < len(numbers):
        raise SceneError(
            f"The predictions are of the people {sorted(numbers)} of {first['image']}: one is there twice."
        )
    sets = choices or [{}] * len(records)
    people = [_person(record, model, its, vertex_spread) for record, its in zip(records, sets, strict=True)]
    return Scene(
        people=tuple(sorted(people, key=lambda person: person.number)),
        faces=np.asarray(model.faces, np.int64),
        skinning=np.asarray(model.weights),
        focal_px=float(first["focal_px"]),
        principal_point=np.asarray(first["principal_point"], np.float64),
        image_size=(int(first["image_size"][0]), int(first["image_size"][1])),
        image=str(first["image"]),
        focal_source=str(first["focal_source"]),
        about=f"body: {first['body']}; trained on: {first['trained_on']}",
    )


def _person(
    record: Mapping[str, np.ndarray], model: smpl.SmplModel, choices: Mapping[int, Choice], vertex_spread: bool
) -> Person:
    num, coefficients = record["all_betas"].shape
    if coefficients != model.shapedirs.shape[2]:
        raise SceneError(f"The prediction has {coefficients} shape coefficients, the body {model.shapedirs.shape[2]}.")
    own = _own_choice(record, num)
    sets = {**choices, len(own.bodies): own}
    used = sorted({k for choice in sets.values() for k in choice.bodies})
    if used[-1] >= num or used[0] < 0:
        raise SceneError(f"Hypothesis {used[-1]} of person {record['person']} was chosen; there are {num}, from 0.")
    place = {k: at for at, k in enumerate(used)}
    joint_spread, bone_spread, of_vertices = _spreads(record, model, vertex_spread)
    return Person(
        number=int(record["person"]),
        bodies=_bodies(record, model, np.array(used)),
        choices={n: Choice(tuple(place[k] for k in c.bodies), c.probabilities) for n, c in sorted(sets.items())},
        chosen=len(own.bodies),
        crop_intrinsics=record["intrinsics"].astype(np.float64),
        keypoints=record["keypoints"].astype(np.float64),
        joint_spread=joint_spread,
        bone_spread=bone_spread,
        vertex_spread=of_vertices,
    )


def _own_choice(record: Mapping[str, np.ndarray], num: int) -> Choice:
    index, probabilities = record.get("index"), record.get("probabilities")
    if (
        index is None
        or probabilities is None
        or index.shape != probabilities.shape
        or index.ndim != 1
        or not len(index)
    ):
        raise SceneError(
            f"The prediction of person {record['person']} of {record['image']} has no representatives; "
            "`multibodies requantize` chooses some."
        )
    if index.dtype.kind not in "iu" or not np.isfinite(probabilities).all():
        raise SceneError(f"The representatives of person {record['person']} are damaged: {index}, {probabilities}.")
    return Choice(tuple(int(k) for k in index), tuple(float(p) for p in probabilities))


def _bodies(
    record: Mapping[str, np.ndarray], model: smpl.SmplModel, used: Integer[np.ndarray, "N"]
) -> tuple[Body, ...]:
    rotmats, betas = record["all_rotmats"][used], record["all_betas"][used]
    rest, rest_joints, correctives = (np.asarray(x, np.float64) for x in _shaped(model, rotmats, betas))
    turn = record["photo_rotation"].astype(np.float64)
    shift = record["all_photo_translation"][used].astype(np.float64)
    points = (record["all_joints24"] + record["all_midhip"][:, None])[used].astype(np.float64)
    crop_shift = record["all_translation"][used].astype(np.float64)
    rotations = rotmats.astype(np.float64)
    rotations[:, 0] = turn @ rotations[:, 0]
    found = []
    for k, index in enumerate(used.tolist()):
        root = rest_joints[k, 0]
        found.append(
            Body(
                index=index,
                rest_vertices=rest[k],
                correctives=correctives[k],
                rest_joints=rest_joints[k],
                rotations=rotations[k],
                translation=turn @ root + shift[k] - root,
                joints24=points[k] @ turn.T + shift[k],
                # The photograph's camera frame -> the body model's frame -> before the crop's camera.
                crop_view=np.column_stack([turn.T, crop_shift[k] - turn.T @ shift[k]]),
            )
        )
    return tuple(found)


@jax.jit
def _shaped(model: smpl.SmplModel, rotmats, betas):
    rest, rest_joints = smpl.shape(model, betas)
    offsets = exact.einsum("vap,np->nva", model.posedirs, smpl.pose_features(rotmats))
    return rest, rest_joints, offsets


def _spreads(
    record: Mapping[str, np.ndarray], model: smpl.SmplModel, vertices: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """`joint_spread`, `bone_spread` and `vertex_spread` of a person."""
    weight = weights_of(record)
    rotmats, betas = jnp.asarray(record["all_rotmats"]), jnp.asarray(record["all_betas"])
    center = record["all_midhip"][:, None].astype(np.float64)
    bones = np.asarray(_bone_places(model, rotmats, betas), np.float64) - center
    mesh = np.asarray(_mesh(model, rotmats, betas), np.float64) - center if vertices else None
    joint_spread = spread(record["all_joints24"].astype(np.float64), weight)
    return joint_spread, spread(bones, weight), None if mesh is None else spread(mesh, weight)


_mesh = jax.jit(smpl.mesh)


@jax.jit
def _bone_places(model: smpl.SmplModel, rotmats, betas):
    return smpl.forward_kinematics(rotmats, smpl.shape(model, betas)[1], model.parents)[..., :3, 3]


def spread(points: Float[np.ndarray, "M K 3"], weight: Float[np.ndarray, "M"]) -> Float[np.ndarray, "K"]:
    """Mean distance of each point to its mean over the hypotheses, under weights that sum to 1."""
    away = points - np.einsum("m,mka->ka", weight, points)
    return np.einsum("m,mk->k", weight, np.sqrt(np.einsum("mka,mka->mk", away, away)))


def spread_colors(person: Person) -> Float[np.ndarray, "V 3"]:
    """Each vertex by its spread: from white at 0 over yellow and orange to dark red at `MOST_SPREAD` and above.

    Raises:
      SceneError: the spread of the vertices was not asked for.
    """
    if person.vertex_spread is None:
        raise SceneError("This scene has no spread of the vertices: build it with vertex_spread=True.")
    place = np.clip(person.vertex_spread / MOST_SPREAD, 0, 1) * (len(SPREAD_COLORS) - 1)
    table = np.array(SPREAD_COLORS)
    return np.stack([np.interp(place, np.arange(len(table)), table[:, k]) for k in range(3)], axis=1)
