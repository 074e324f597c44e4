"""Evaluation protocols by name: what is compared with what, stored with every result.

A protocol with a fault can have a strict sibling without it, which is evaluated in the same pass.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from multibodies_jax.geometry import joints
from multibodies_jax.registry import Registry

MESH = "SMPL mesh of the annotation"
GENDERED = "SMPL mesh of the annotation, male or female body"
GIVEN = "given J24 joints"
NEUTRAL = "J24 of the annotation on the neutral body"
Selection = Literal["minimum per metric", "by joint error"]
Frame = Literal["the camera of the image", "a camera that looks at the crop's centre"]
MINIMUM: Selection = "minimum per metric"
BY_JOINT_ERROR: Selection = "by joint error"
H36M17, J24 = "h36m17", "j24"
"""Regressors from vertices to joints."""
CAMERA: Frame = "the camera of the image"
CROP: Frame = "a camera that looks at the crop's centre"
STRICT = "_strict"  # Suffix of the names of strict siblings, and of their metrics in results.
_HIPS = tuple(joints.J24[i] for i in joints.MIDHIP_J24)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way to score a set of bodies.

    Attributes:
      name: key in `PROTOCOLS`.
      selection: which of the n bodies counts: "minimum per metric", the paper's text (each metric takes its own best),
        or "by joint error", the authors' code (the body with the least mean squared J24 error, mid-hip centred; all
        metrics are read from it).
      selected_against: the J24 joints that "by joint error" compares with; empty otherwise.
      truth: where the true joints come from.
      truth_root: subtracted from them for MPJPE: "pelvis" (row 0 of the regressor, or J24's) or "mid-hip".
      joints: compared by MPJPE and RE.
      metrics: "mpjpe"; "pa_mpjpe" (RE, after `alignment`); "vertex" (mean vertex error, rooted at the pelvis);
        "pa_vertex" (the same after `alignment`, which the authors' code names s_error); "pck150", "auc" (3DPCK at
        150 mm and its mean over 0, 5, ..., 150 mm, percent, over the 14 joints, rooted as MPJPE); "other_views_px"
        (`evaluation.other_views`, of sets with several cameras). Those of vertices need
        a true mesh: sets with given joints alone (Human3.6M, MPI-INF-3DHP) have none, so they are absent there.
      examples: the images that it is for.
      hint: the `protocol_hint` of sets that it scores; empty for any.
      strict: name of the strict sibling; empty for a strict protocol.
      prediction: where the predicted joints come from.
      regressor: from vertices to joints, of predictions and true meshes.
      root: subtracted from the prediction for MPJPE.
      alignment: of RE.
      frame: in which MPJPE compares. A network knows of a crop and not where in the image it is; the two frames differ by
        the turn towards the crop's centre, which is 0 for a person in the middle of the image.
      block: examples are frames of synchronised videos, whose ids end in CAMERA/FRAME: results are also reported for each
        camera, with intervals from blocks of as many consecutive frames. 0: examples are independent.
    """

    name: str
    selection: Selection
    selected_against: str = ""
    truth: str = MESH
    truth_root: Literal["pelvis", "mid-hip"] = "pelvis"
    joints: tuple[str, ...] = joints.J14
    metrics: tuple[str, ...] = ("mpjpe", "pa_mpjpe", "vertex")
    examples: str = "any with SMPL parameters"
    hint: str = ""
    strict: str = ""
    prediction: str = "SMPL mesh of the representative (a medoid)"
    regressor: str = H36M17
    root: str = "row 0 of the regressor (pelvis)"
    alignment: str = "similarity Procrustes (rotation, translation, scale)"
    frame: Frame = CAMERA
    block: int = 0

    def __post_init__(self) -> None:
        """Refuses errors of vertices where the truth is joints: there is no true mesh to compare with."""
        if self.truth == GIVEN and (meshes := [metric for metric in self.metrics if "vertex" in metric]):
            raise ValueError(f"Protocol {self.name!r} compares {GIVEN}, which have no vertices: leave out {meshes}.")
        if self.frame == CROP and self.truth != GIVEN:
            raise ValueError(f"Protocol {self.name!r} compares in the frame of {CROP}: its truth has to be {GIVEN}.")

    @property
    def described(self) -> dict[str, Any]:
        """Its fields, for results.json; without those that most protocols have no use for."""
        usual = {"frame": CAMERA, "block": 0}
        return {name: value for name, value in dataclasses.asdict(self).items() if usual.get(name, ()) != value}


PROTOCOLS: Registry[Protocol] = Registry("eval.protocol")
PROTOCOLS.register("strict", Protocol("strict", MINIMUM))
PROTOCOLS.register(
    "limbs",
    Protocol(
        "limbs",
        MINIMUM,
        truth=GIVEN,
        truth_root="mid-hip",
        joints=joints.J24[:12],
        metrics=("mpjpe", "pa_mpjpe", "other_views_px"),
        examples="any with the limb joints and the camera of the image",
        prediction="J24 of the representative (a medoid)",
        regressor=J24,
        root="mid-hip",
        frame=CROP,
        block=20,
    ),
)
"""The 12 joints of the limbs, which detectors find: of real frames with triangulated joints (`pose2sim_demo`)."""


def both(protocol: Protocol) -> dict[str, Protocol]:
    """What one pass evaluates, by the suffix of its metrics: the protocol, and its strict sibling if it has one."""
    return {"": protocol} | ({STRICT: PROTOCOLS[protocol.strict]} if protocol.strict else {})


def check_example(protocol: Protocol, row: Mapping[str, Any], hint: str) -> None:
    """Refuses a row of an evaluation batch that lacks the truth of a protocol, or belongs to another one.

    Args:
      protocol: the one asked for.
      row: see docs/interfaces.md, section 2.
      hint: `protocol_hint` of the record; empty if it has none.

    Raises:
      ValueError: naming the example, what is missing, and the protocol that usually scores its set.
    """
    lacks = _lacks(protocol, row)
    if protocol.hint and hint and hint != protocol.hint:
        lacks = f"belongs to a set of {hint!r}"
    if lacks:
        usual = f" Its set is usually scored by {hint!r}." if hint and hint != protocol.name else ""
        raise ValueError(
            f"{row['example_id']} {lacks}, and protocol {protocol.name!r} scores {protocol.examples}, against "
            f"{protocol.truth}.{usual} Set config.eval.protocol to one that fits config.eval.sets: {', '.join(PROTOCOLS)}."
        )


def _lacks(protocol: Protocol, row: Mapping[str, Any]) -> str:
    if protocol.frame == CROP and not row["intrinsics_valid"] > 0:
        return "lacks the camera of its image"
    if protocol.truth == GIVEN:
        valid = dict(zip(joints.J24, np.asarray(row["joints3d_valid"]), strict=True))
        roots = {one.truth_root for one in both(protocol).values()}
        level = (*_HIPS, *(("pelvis",) if "pelvis" in roots else ()))
        missing = [name for name in dict.fromkeys((*level, *protocol.joints)) if not valid[name] > 0]
        return f"lacks the 3D joints {', '.join(missing)}" if missing else ""
    if not row["smpl_valid"]:
        return "lacks SMPL parameters"
    if protocol.truth == GENDERED and int(row["gender"]) not in (0, 1):
        # The authors' code takes the male body then, without a message.
        return f"lacks its gender ({int(row['gender'])}; 0 is male, 1 female)"
    return ""
