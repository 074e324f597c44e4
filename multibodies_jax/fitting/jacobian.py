"""How the regressed joints of a body move with its rotations and its shape: the Jacobian that fits need."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax.body import smpl

_einsum = functools.partial(jnp.einsum, precision="highest")
_dot = functools.partial(jnp.dot, precision="highest")


def of_joints(
    joint_model: smpl.JointModel, rotmats: Float[Array, "J 3 3"], betas: Float[Array, "S"]
) -> tuple[Float[Array, "X 3 J 3"], Float[Array, "X 3 S"]]:
    """How the regressed joints of one body move when a joint turns or the shape changes.

    A turn of a bone carries all vectors of the bones below it, so that the derivative is one sum of turned vectors for
    each pair of a regressed joint and a bone. The movement of the pose correctives is left out: millimetres per radian.

    Args:
      joint_model: the body contracted with a regressor.
      rotmats: rotation of each joint relative to its parent.
      betas: shape coefficients.

    Returns:
      Metres per radian of v in `rotmats[j] @ exp(v)`, and metres per unit of each shape coefficient.
    """
    E, _, Q = joint_model.vectors.shape
    features = jnp.concatenate([jnp.ones(1), betas, smpl.pose_features(rotmats)])
    local = _dot(features, joint_model.vectors.reshape(E, 3 * Q)).reshape(3, Q)
    world = jnp.moveaxis(smpl.world_rotations(rotmats, joint_model.parents), -1, 0)
    bones = np.array(joint_model.bones)
    turned = _einsum("qab,bq->aq", world[bones], local)
    carried = smpl.ancestors(joint_model.parents)[bones]  # (Q, J): 1 where the joint carries the vector.
    pairs = (carried[:, :, None] * joint_model.sums[:, None, :]).reshape(Q, -1)
    moment = _dot(turned, pairs).reshape(3, len(joint_model.parents), -1)
    by_rotation = jnp.cross(jnp.swapaxes(world, 1, 2)[None], jnp.transpose(moment, (2, 1, 0))[:, :, None, :])
    shape_vectors = joint_model.vectors[1 : len(joint_model.root)]
    by_shape = _einsum("saq,qx->xas", _einsum("qab,sbq->saq", world[bones], shape_vectors), joint_model.sums)
    by_shape = by_shape + _einsum("sa,x->xas", joint_model.root[1:], joint_model.root_sums)
    return jnp.transpose(by_rotation, (0, 3, 1, 2)), by_shape
