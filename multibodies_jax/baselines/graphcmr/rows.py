"""The row of an evaluation for what GraphCMR predicts without SMPL: its vertices ("non-parametric"), and joints of them."""

import jax

from multibodies_jax.evaluation import methods, outputs, set_errors
from multibodies_jax.geometry import centring
from multibodies_jax.training import setup

NAME = "GraphCMR, mesh"


def mesh(evaluation: methods.Evaluation) -> methods.Method | None:
    """The predicted vertices; the main row has the body of the SMPL parameters. None of a network without vertices."""
    if evaluation.config.model.name != "graphcmr":
        return None
    files, stride = evaluation.networks.main.bodies.files, evaluation.config.eval.vertex_stride

    @jax.jit
    def points(vertices: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        joints24 = centring.centre(setup.regressed(files.j24_regressor, vertices))
        return setup.regressed(files.h36m_regressor, vertices), joints24, vertices[..., ::stride, :]

    def sets(out: outputs.Outputs, n: int) -> set_errors.Measured:
        del n  # There is one.
        assert out.hyps.vertices is not None
        found = set_errors.measure_points(*points(out.hyps.vertices), out.truth, out.settings.protocol)
        return out.checked("the errors of the mesh", found)

    return methods.Row(NAME, (1,), sets)
