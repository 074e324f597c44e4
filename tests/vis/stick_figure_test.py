"""The drawn skeleton."""

from multibodies_jax.geometry import joints
from multibodies_jax.vis import stick_figure


def test_the_drawn_skeleton_is_symmetric_and_complete():
    edges = {frozenset(edge) for edge in stick_figure.J24_EDGES}
    assert len(edges) == len(stick_figure.J24_EDGES)
    assert {frozenset(joints.J24_FLIP[list(edge)].tolist()) for edge in edges} == edges
    assert set().union(*edges) == set(range(24))
