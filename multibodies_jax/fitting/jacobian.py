"""How the regressed joints of a body move with its rotations and its shape: the Jacobians that fits need."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multibodies_jax import exact
from multibodies_jax.body import smpl

_SMALL = 1e-2  # Squared angle below which series replace quotients.


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
    world, moment, by_shape = moments(joint_model, rotmats, betas)
    by_rotation = jnp.cross(jnp.moveaxis(world, -1, 0).swapaxes(1, 2)[None], moment[:, :, None, :])
    return jnp.transpose(by_rotation, (0, 3, 1, 2)), by_shape


def moments(
    joint_model: smpl.JointModel, rotmats: Float[Array, "*b J 3 3"], betas: Float[Array, "*b S"]
) -> tuple[Float[Array, "*b 3 3 J"], Float[Array, "*b X J 3"], Float[Array, "*b X 3 S"]]:
    """What `of_joints` is made of, of bodies with any leading axes.

    Returns:
      World rotations with the joints last; the sum of all that each bone carries of each regressed joint, in the world's
      axes: a turn by v in the world about the bone moves the joint by v x moment; and the derivative by the shape.
    """
    E, _, Q = joint_model.vectors.shape
    features = jnp.concatenate([jnp.ones_like(betas[..., :1]), betas, smpl.pose_features(rotmats)], axis=-1)
    local = exact.dot(features, joint_model.vectors.reshape(E, 3 * Q)).reshape(*features.shape[:-1], 1, 3, Q)
    world = smpl.world_rotations(rotmats, joint_model.parents)
    bones = np.array(joint_model.bones)
    R = exact.dot(world, jax.nn.one_hot(bones, world.shape[-1], axis=0, dtype=world.dtype))
    turned = R[..., 0, :] * local[..., 0, :] + R[..., 1, :] * local[..., 1, :] + R[..., 2, :] * local[..., 2, :]
    carried = smpl.ancestors(joint_model.parents)[bones]  # (Q, J): 1 where the joint carries the vector.
    pairs = (joint_model.sums[:, :, None] * carried[:, None, :]).reshape(Q, -1)
    moment = exact.dot(turned, pairs).reshape(*turned.shape[:-1], -1, len(joint_model.parents))
    shape_vectors = joint_model.vectors[1 : len(joint_model.root)]
    leading = (None,) * (betas.ndim - 1)
    a, b, c = (R[..., None, :, k, :] * shape_vectors[(*leading, slice(None), slice(k, k + 1))] for k in range(3))
    root = joint_model.root[1:, :, None] * joint_model.root_sums[None, None]
    by_shape = exact.dot(a + b + c, joint_model.sums) + root[leading]
    return world, jnp.moveaxis(moment, -3, -1), jnp.moveaxis(by_shape, -3, -1).swapaxes(-3, -2)


def of_turn(axis_angle: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """How a rotation turns with its axis-angle w: exp(w + d) = exp(w) exp(J d) for small d (the right Jacobian of SO(3)).

    J = I - (1 - cos a) / a^2 [w] + (a - sin a) / a^3 [w]^2 with the angle a = |w| and the matrix [w] of the cross product.
    """
    squared = jnp.sum(axis_angle**2, axis=-1)[..., None, None]
    small = squared < _SMALL
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    first = jnp.where(small, 0.5 - squared / 24, 2 * (jnp.sin(angle / 2) / angle) ** 2)
    second = jnp.where(small, 1 / 6 - squared / 120, (angle - jnp.sin(angle)) / angle**3)
    x, y, z = axis_angle[..., 0], axis_angle[..., 1], axis_angle[..., 2]
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape((*x.shape, 3, 3))
    twice = exact.einsum("...ab,...bc->...ac", cross, cross)
    return jnp.broadcast_to(jnp.eye(3), cross.shape) - first * cross + second * twice
