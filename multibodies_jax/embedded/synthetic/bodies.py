"""One body posed with NumPy in a few milliseconds, for renderer processes that never start JAX.

The large matrices are sparse (most vertices move with few joints), which is fast and, unlike dense products, never
starts threads: many processes on a few cores would spend their time waiting for each other's.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from multibodies_jax.embedded.mannequin.skeleton import rest_joints
from multibodies_jax.geometry.rotations_np import axis_angle_to_matrix, forward_kinematics


@dataclass(frozen=True, eq=False)
class Body:
    """The arrays of a SMPL model that rendering needs, float32, and where its surface lies in the clothes' frame.

    Attributes:
      template: rest vertices, metres.
      shapedirs: offsets per shape coefficient.
      posedirs: (3 V, 207) offsets per element of the 23 rotation matrices less the identity.
      weights: (V, 24) skinning weights.
      joint_regressor: (24, V) vertices to the SMPL joints.
      j24_regressor: (24, V) vertices to the J24 keypoints.
      faces: triangles.
      clothes_frame: template vertices with the floor at y = 0 and the proportions of the mannequin: what clothes, hair
        and faces are painted by.
    """

    template: Float[np.ndarray, "V 3"]
    shapedirs: Float[np.ndarray, "V 3 S"]
    posedirs: csr_array
    weights: csr_array
    joint_regressor: csr_array
    j24_regressor: csr_array
    faces: Int[np.ndarray, "F 3"]
    clothes_frame: Float[np.ndarray, "V 3"]


def from_files(files) -> Body:
    """Copies the loaded body model (`body_files.BodyFiles`) to NumPy; do it once per process."""
    return from_arrays(
        files.smpl.v_template,
        files.smpl.shapedirs,
        files.smpl.posedirs,
        files.smpl.weights,
        files.smpl.J_regressor,
        files.j24_regressor,
        files.smpl.faces,
    )


def from_arrays(template, shapedirs, posedirs, weights, joint_regressor, j24_regressor, faces) -> Body:
    """Builds a `Body` from arrays in SMPL's shapes (`posedirs` is (V, 3, 207)), NumPy or not."""
    template = np.array(template, np.float32)
    regress_joints = csr_array(np.asarray(joint_regressor, np.float32))
    return Body(
        template=template,
        shapedirs=np.array(shapedirs, np.float32),
        posedirs=csr_array(np.asarray(posedirs, np.float32).reshape(template.size, -1)),
        weights=csr_array(np.asarray(weights, np.float32)),
        joint_regressor=regress_joints,
        j24_regressor=csr_array(np.asarray(j24_regressor, np.float32)),
        faces=np.array(faces, np.int64),
        clothes_frame=_clothes_frame(template, pelvis=(regress_joints @ template)[0]),
    )


_PELVIS = rest_joints()[0]  # In the frame in which the mannequin was built.
_HEIGHT_ABOVE_PELVIS = 0.740  # Of the mannequin, to the top of the head and to the soles.
_HEIGHT_BELOW_PELVIS = 0.955


def _clothes_frame(template, pelvis):
    """Moves the pelvis to the mannequin's and stretches the body above and below it to the mannequin's height.

    The embedded body comes out as it was built. Another SMPL body keeps its own widths; its collar, belt, knees and
    eyes are then at the right height to within a centimetre or two.
    """
    centered = template - pelvis
    up = _HEIGHT_ABOVE_PELVIS / max(float(centered[:, 1].max()), 1e-6)
    down = _HEIGHT_BELOW_PELVIS / max(float(-centered[:, 1].min()), 1e-6)
    centered[:, 1] *= np.where(centered[:, 1] > 0, up, down)
    return (centered + _PELVIS).astype(np.float32)


def pose_body(body: Body, pose: Float[np.ndarray, "24 3"], betas: Float[np.ndarray, "S"]) -> Float[np.ndarray, "V 3"]:
    """Poses one body by linear blend skinning (Loper et al., 2015), as `smpl.mesh` does.

    Args:
      body: the model.
      pose: axis-angle.
      betas: shape coefficients; there may be fewer than the model has.

    Returns:
      Posed vertices, metres, float32; the root turns about the rest position of the pelvis.
    """
    shaped = body.template + np.einsum("vas,s->va", body.shapedirs[:, :, : len(betas)], betas.astype(np.float32))
    joints_rest = body.joint_regressor @ shaped
    rotmats = axis_angle_to_matrix(pose)
    features = (rotmats[1:] - np.eye(3)).reshape(-1).astype(np.float32)
    posed = shaped + (body.posedirs @ features).reshape(shaped.shape)
    R_world, p_world = forward_kinematics(rotmats, joints_rest.astype(np.float64))
    offset = p_world - (R_world @ joints_rest[:, :, None])[..., 0]
    transforms = np.concatenate([R_world, offset[:, :, None]], axis=-1).reshape(24, 12).astype(np.float32)
    blended = (body.weights @ transforms).reshape(-1, 3, 4)
    return (blended[:, :, :3] * posed[:, None, :]).sum(2) + blended[:, :, 3]
