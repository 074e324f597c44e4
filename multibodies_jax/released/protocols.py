"""The protocols of the authors' released code, each beside a strict sibling without its faults.

The code scores each dataset in a way of its own, with choices that later work calls faults; they are kept as they are.
"""

import dataclasses

from multibodies_jax.evaluation import protocols
from multibodies_jax.geometry import joints


def _h36m(name: str, cameras: str) -> protocols.Protocol:
    return protocols.Protocol(
        name=name,
        selection=protocols.BY_JOINT_ERROR,
        selected_against=protocols.GIVEN,
        truth=protocols.GIVEN,
        truth_root="mid-hip",  # As the dataset centres them; the prediction is rooted at the pelvis.
        metrics=("mpjpe", "pa_mpjpe"),
        examples=f"Human3.6M, S9 and S11, every 5th frame, {cameras}",
        hint=name,
    )


_RELEASED = (
    _h36m("h36m_p1", "all cameras"),
    _h36m("h36m_p2", "camera 60457274"),
    protocols.Protocol(
        name="3dpw",
        selection=protocols.BY_JOINT_ERROR,
        selected_against=protocols.NEUTRAL,  # Another body than the one that the metrics use.
        truth=protocols.GENDERED,
        metrics=("mpjpe", "pa_mpjpe", "vertex", "pa_vertex"),
        examples="3DPW, test",
        hint="3dpw",
    ),
    dataclasses.replace(
        _h36m("mpi_inf_3dhp", ""),
        joints=joints.J17,
        metrics=("mpjpe", "pa_mpjpe", "pck150", "auc"),
        examples="MPI-INF-3DHP, test",
    ),
)


def _with_sibling(released: protocols.Protocol) -> tuple[protocols.Protocol, protocols.Protocol]:
    """A released protocol and the same without its faults: one root, the least of each metric."""
    sibling = dataclasses.replace(
        released,
        name=released.name + protocols.STRICT,
        selection=protocols.MINIMUM,
        selected_against="",
        truth_root="pelvis",
    )
    return dataclasses.replace(released, strict=sibling.name), sibling


_GENERAL = protocols.Protocol("released", protocols.BY_JOINT_ERROR, selected_against=protocols.NEUTRAL, strict="strict")
for _protocol in (_GENERAL, *(one for released in _RELEASED for one in _with_sibling(released))):
    protocols.PROTOCOLS.register(_protocol.name, _protocol)
