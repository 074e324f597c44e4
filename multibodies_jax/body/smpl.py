"""SMPL as pure functions of an immutable model: load, shape, pose, skin; joints without a mesh (Loper et al., 2015).

Frames: a rest-pose body has its root joint near the origin; posing turns it about that root joint. Metres and radians.
"""

import dataclasses
import functools
from pathlib import Path
from typing import no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from multibodies_jax import exact
from multibodies_jax.body import smpl_files


@no_type_check  # Tree operations fill it with shapes, shardings or NumPy arrays as well.
@flax.struct.dataclass
class SmplModel:
    """A skinned body: what `load` reads, with the rest joints already regressed (so that `subset` keeps them).

    Attributes:
      v_template: rest vertices of the mean body, metres.
      shapedirs: displacement of each vertex per unit of each shape coefficient.
      posedirs: displacement of each vertex per unit of each pose feature (`pose_features`).
      weights: skinning weights; each row sums to 1.
      J_template: rest joints of the mean body.
      J_shapedirs: displacement of each rest joint per unit of each shape coefficient.
      J_regressor: rest joints from the rest vertices of the *whole* mesh (U of them, also after `subset`).
      faces: triangles as vertex indices.
      parents: each joint's parent, -1 for the root; a parent comes before its children.
    """

    v_template: Float[Array, "V 3"]
    shapedirs: Float[Array, "V 3 S"]
    posedirs: Float[Array, "V 3 P"]
    weights: Float[Array, "V J"]
    J_template: Float[Array, "J 3"]
    J_shapedirs: Float[Array, "J 3 S"]
    J_regressor: Float[Array, "J U"]
    faces: Int[Array, "F 3"]
    parents: tuple[int, ...] = flax.struct.field(pytree_node=False)


@no_type_check  # As above.
@flax.struct.dataclass
class JointModel:
    """What `joints` needs of a body and a regressor: Q vectors, each turned by one bone, and their sums.

    Attributes:
      vectors: for each feature (1, betas, pose features) what it adds to each vector, in the frame of its bone.
      sums: how much of each turned vector goes into each regressed joint.
      root: for each feature (1, betas) what it adds to the root joint's position.
      root_sums: how much of the root's position goes into each regressed joint.
      bones: the bone of each vector.
      parents: as in `SmplModel`.
    """

    vectors: Float[Array, "E 3 Q"]
    sums: Float[Array, "Q X"]
    root: Float[Array, "S1 3"]
    root_sums: Float[Array, "X"]
    bones: tuple[int, ...] = flax.struct.field(pytree_node=False)
    parents: tuple[int, ...] = flax.struct.field(pytree_node=False)


def load(path: str | Path, shape_components: int = 10) -> SmplModel:
    """Reads a body model in SMPL's format.

    Args:
      path: an official `.pkl` (v1.0 or v1.1; read without running what it may contain) or an `.npz` with the same keys.
      shape_components: shape coefficients to keep, at most what the file has.

    Raises:
      FileNotFoundError, ValueError: what was found, what was expected and what to do (see `smpl_files.read`).
    """
    return build(**smpl_files.read(Path(path), shape_components))


def build(
    v_template: np.ndarray,
    shapedirs: np.ndarray,
    posedirs: np.ndarray,
    weights: np.ndarray,
    J_regressor: np.ndarray,
    faces: np.ndarray,
    parents: tuple[int, ...],
) -> SmplModel:
    """A model from its arrays (shapes as in `SmplModel`); the rest joints are regressed here, in float64."""
    regressor = np.asarray(J_regressor, np.float64)
    as_float = functools.partial(jnp.asarray, dtype=jnp.float32)
    return SmplModel(
        v_template=as_float(v_template),
        shapedirs=as_float(shapedirs),
        posedirs=as_float(posedirs),
        weights=as_float(weights),
        J_template=as_float(regressor @ np.asarray(v_template)),
        J_shapedirs=as_float(np.einsum("ju,uas->jas", regressor, np.asarray(shapedirs), optimize=True)),
        J_regressor=as_float(J_regressor),
        faces=jnp.asarray(faces, jnp.int32),
        parents=tuple(int(parent) for parent in parents),
    )


@functools.partial(jax.jit, inline=True)
def shape(model: SmplModel, betas: Float[Array, "*b S"]) -> tuple[Float[Array, "*b V 3"], Float[Array, "*b J 3"]]:
    """Rest-pose vertices and joint centres of bodies with these shape coefficients."""
    rest_verts = _add(model.v_template, exact.einsum("vas,...s->...va", model.shapedirs, betas))
    return rest_verts, _rest_joints(model, betas)


def pose_features(rotmats: Float[Array, "*b J 3 3"]) -> Float[Array, "*b P"]:
    """What the pose blend shapes are linear in: R - I of all joints but the root, row after row, joint after joint."""
    difference = _add(-jnp.eye(3, dtype=rotmats.dtype), rotmats[..., 1:, :, :])
    return difference.reshape((*difference.shape[:-3], -1))


@functools.partial(jax.jit, inline=True, static_argnames="parents")
def forward_kinematics(
    rotmats: Float[Array, "*b J 3 3"], rest_joints: Float[Array, "*b J 3"], parents: tuple[int, ...]
) -> Float[Array, "*b J 4 4"]:
    """Poses the skeleton.

    Args:
      rotmats: rotation of each joint relative to its parent; the root's relative to the world.
      rest_joints: joint centres in the rest pose.
      parents: as in `SmplModel`.

    Returns:
      T_world_joint: takes a point relative to a joint centre of the rest pose to its posed place.
    """
    world = world_rotations(rotmats, parents)
    # A joint is the root plus all bones down to it, each turned by its parent.
    bones = rest_joints[..., 1:, :] - jnp.take(rest_joints, jnp.array(parents[1:], jnp.int32), axis=-2)
    turned = exact.einsum("...abj,...jb->...ja", jnp.take(world, jnp.array(parents[1:], jnp.int32), axis=-1), bones)
    p_world = exact.einsum(
        "ij,...ja->...ia", ancestors(parents), jnp.concatenate([rest_joints[..., :1, :], turned], axis=-2)
    )
    top = jnp.concatenate([jnp.moveaxis(world, -1, -3), p_world[..., None]], axis=-1)
    bottom = jnp.broadcast_to(jnp.array([[0, 0, 0, 1]], top.dtype), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, bottom], axis=-2)


@functools.partial(jax.jit, inline=True)
def skin(
    rest_verts: Float[Array, "*b V 3"],
    rest_joints: Float[Array, "*b J 3"],
    T_world_joint: Float[Array, "*b J 4 4"],
    weights: Float[Array, "V J"],
) -> Float[Array, "*b V 3"]:
    """Moves rest-pose vertices with a posed skeleton (linear blend skinning; Loper et al., 2015, Sec. 3).

    Args:
      rest_verts: shape and pose offsets already added.
      rest_joints: joint centres of the same rest-pose body.
      T_world_joint: from `forward_kinematics`.
      weights: non-negative; each row sums to 1.
    """
    R, t = T_world_joint[..., :3, :3], T_world_joint[..., :3, 3]
    t = t - exact.einsum("...jab,...jb->...ja", R, rest_joints)
    # Blend the transforms, not the points: (V, J, 3) never exists.
    R = exact.einsum("vj,...jab->...vab", weights, R)
    t = exact.einsum("vj,...ja->...va", weights, t)
    return exact.einsum("...vab,...vb->...va", R, rest_verts) + t


@functools.partial(jax.jit, inline=True)
def mesh(model: SmplModel, rotmats: Float[Array, "*b J 3 3"], betas: Float[Array, "*b S"]) -> Float[Array, "*b V 3"]:
    """Posed vertices of bodies with these joint rotations and shape coefficients."""
    rest_verts, rest_joints = shape(model, betas)
    rest_verts = rest_verts + exact.einsum("vap,...p->...va", model.posedirs, pose_features(rotmats))
    T_world_joint = forward_kinematics(rotmats, rest_joints, model.parents)
    return skin(rest_verts, rest_joints, T_world_joint, model.weights)


def subset(model: SmplModel, vertex_ids: np.ndarray) -> SmplModel:
    """The same body with only these vertices, in this order, and the faces between them; the joints stay exact."""
    ids = np.asarray(vertex_ids)
    renumbered = np.full(model.v_template.shape[0], -1)
    renumbered[ids] = np.arange(len(ids))
    faces = renumbered[np.asarray(model.faces)]
    return dataclasses.replace(
        model,
        v_template=model.v_template[ids],
        shapedirs=model.shapedirs[ids],
        posedirs=model.posedirs[ids],
        weights=model.weights[ids],
        faces=jnp.asarray(faces[(faces >= 0).all(axis=1)], jnp.int32),
    )


def contract(model: SmplModel, regressor: Float[np.ndarray | Array, "X V"]) -> JointModel:
    """Folds a linear vertex regressor into the body once, so that `joints` needs no vertex. Exact.

    A posed vertex is sum_k w_k (R_k (v - J_k) + p_k), with v and J linear in the features e = (1, betas, pose
    features). Hence a regressed joint is sum_k R_k a_k(e) + b_k p_k with b_k = sum_v r_v w_vk and a_k(e) = sum_v r_v
    w_vk (v(e) - J_k(e)); few bones touch a joint, so few (joint, bone) pairs have an a_k. And the bones' positions p_k
    are sums of one vector per bone, from its parent's joint to its own, turned by the parent.

    Args:
      model: not traced: what is zero, and left out, is found from its values.
      regressor: posed joints are `regressor @ posed vertices`.
    """
    rest_basis = np.concatenate([np.asarray(model.J_template)[..., None], model.J_shapedirs], axis=2).astype(np.float64)
    pair_vectors, pair_joint, pair_bone, bone_sums = _contract_vertices(model, np.asarray(regressor), rest_basis)
    parents = np.array(model.parents)
    chain_vectors = np.zeros((len(parents) - 1, *pair_vectors.shape[1:]))
    chain_vectors[..., : rest_basis.shape[2]] = rest_basis[1:] - rest_basis[parents[1:]]
    chain_sums = (bone_sums @ ancestors(model.parents))[:, 1:].T
    needed = np.any(chain_sums != 0, axis=1)
    vectors = np.concatenate([pair_vectors, chain_vectors[needed]])
    sums = np.concatenate([np.eye(len(bone_sums))[pair_joint], chain_sums[needed]])
    as_float = functools.partial(jnp.asarray, dtype=jnp.float32)
    return JointModel(
        vectors=as_float(vectors.transpose(2, 1, 0)),
        sums=as_float(sums),
        root=as_float(rest_basis[0].T),
        root_sums=as_float(bone_sums.sum(axis=1)),
        bones=(*pair_bone.tolist(), *parents[1:][needed].tolist()),
        parents=model.parents,
    )


@functools.partial(jax.jit, inline=True)
def joints(
    joint_model: JointModel, rotmats: Float[Array, "*b J 3 3"], betas: Float[Array, "*b S"]
) -> Float[Array, "*b X 3"]:
    """Regressed joints of posed bodies: equal to the regressor times `mesh`, without building the mesh."""
    E, _, Q = joint_model.vectors.shape
    features = jnp.concatenate([jnp.ones_like(betas[..., :1]), betas, pose_features(rotmats)], axis=-1)
    # The vectors lie along the last axis, and gathers are products with zeros and ones: a few large products in place of
    # one of 3 x 3 for each vector.
    local = exact.dot(features, joint_model.vectors.reshape(E, 3 * Q)).reshape((*features.shape[:-1], 1, 3, Q))
    bone_of_vector = jax.nn.one_hot(
        jnp.array(joint_model.bones, jnp.int32), len(joint_model.parents), axis=0, dtype=local.dtype
    )
    R = exact.dot(world_rotations(rotmats, joint_model.parents), bone_of_vector)
    turned = R[..., 0, :] * local[..., 0, :] + R[..., 1, :] * local[..., 1, :] + R[..., 2, :] * local[..., 2, :]
    root = exact.dot(features[..., : len(joint_model.root)], joint_model.root)
    summed = exact.dot(turned, joint_model.sums) + exact.einsum("...a,x->...ax", root, joint_model.root_sums)
    return jnp.swapaxes(summed, -1, -2)


def _contract_vertices(
    model: SmplModel, regressor: np.ndarray, rest_basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """a_k of `contract` for the (joint, bone) pairs that touch, as (pair, 3, feature), those pairs, and all b_k."""
    used = np.flatnonzero(np.any(regressor != 0, axis=0))
    v_template, shapedirs, posedirs, weights = (
        np.asarray(array)[used].astype(np.float64)
        for array in (model.v_template, model.shapedirs, model.posedirs, model.weights)
    )
    # (joint, bone, vertex): share of the vertex in the regressed joint, as far as the bone carries it.
    share = regressor.astype(np.float64)[:, None, used] * weights.T[None]
    pair_joint, pair_bone = np.nonzero(np.any(share != 0, axis=2))
    bone_sums = share.sum(axis=2)
    vertex_basis = np.concatenate([v_template[..., None], shapedirs, posedirs], axis=2)
    vectors = np.tensordot(share[pair_joint, pair_bone], vertex_basis, axes=1)
    vectors[..., : rest_basis.shape[2]] -= bone_sums[pair_joint, pair_bone][:, None, None] * rest_basis[pair_bone]
    return vectors, pair_joint, pair_bone, bone_sums


def ancestors(parents: tuple[int, ...]) -> np.ndarray:
    """1 where the column's joint is the row's joint or above it."""
    above = np.eye(len(parents))
    for joint, parent in enumerate(parents[1:], start=1):
        above[joint] += above[parent]
    return above


def _rest_joints(model: SmplModel, betas: Float[Array, "*b S"]) -> Float[Array, "*b J 3"]:
    return _add(model.J_template, exact.einsum("jas,...s->...ja", model.J_shapedirs, betas))


@functools.partial(jax.jit, inline=True, static_argnames="parents")
def world_rotations(rotmats: Float[Array, "*b J 3 3"], parents: tuple[int, ...]) -> Float[Array, "*b 3 3 J"]:
    """World rotation of each joint, the joints along the last axis.

    All joints that are as far from the root are turned at once, as sums of products, which fuse: each matrix product
    would be a kernel to compile, to tune and to start.
    """
    local = [R[..., 0, :, :] for R in jnp.split(rotmats, len(parents), axis=-3)]
    world = {0: local[0]}
    while len(world) < len(parents):
        level = [joint for joint, parent in enumerate(parents) if parent in world and joint not in world]
        above = jnp.stack([world[parents[joint]] for joint in level], axis=-1)
        own = jnp.stack([local[joint] for joint in level], axis=-1)
        a, b, c = (above[..., :, k : k + 1, :] * own[..., k : k + 1, :, :] for k in range(3))
        turned = a + b + c
        world |= {joint: turned[..., place] for place, joint in enumerate(level)}
    return jnp.stack([world[joint] for joint in range(len(parents))], axis=-1)


def _add(constant: Float[Array, "..."], batched: Float[Array, "..."]) -> Float[Array, "..."]:
    """Their sum, the constant without batch axes broadcast explicitly."""
    return jnp.expand_dims(constant, tuple(range(batched.ndim - constant.ndim))) + batched
