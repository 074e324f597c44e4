"""What training minimises: objectives by name (`loss.reading`), made once at set-up and called in every step."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, Int

from multibodies_jax.batch import Batch
from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.losses import total
from multibodies_jax.registry import Registry


@runtime_checkable
class Objective(Protocol):
    """A training loss of M hypotheses per example."""

    def __call__(
        self, hyps: Hypotheses, batch: Batch
    ) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]], Int[Array, "B"]]:
        """The loss of each example, its terms before weighting by name, and the hypothesis that was trained as the best.

        Args:
          hyps: leading axes (B, M).
          batch: of training.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What an objective is made of; an objective reads what it needs.

    Attributes:
      weights: factor of each of `total.TERMS`.
      mode0: hypothesis 0 is trained like the best one, too.
      vertices: (rotmats (N, 24, 3, 3), betas (N, 10)) -> (N, V, 3), metres, mid-hip centred.
      joints: (rotmats (N, 24, 3, 3), betas (N, 10)) -> (N, 24, 3), the J24 joints of bodies, metres, mid-hip centred.
      midhip: (rotmats (N, 24, 3, 3), betas (N, 10)) -> (N, 3), what was subtracted.
      of_mesh: whole meshes (N, U, 3) that a network predicted -> those vertices of them that `vertices` gives (N, V, 3), and
        their J24 joints (N, 24, 3); nothing is subtracted.
    """

    weights: Mapping[str, float]
    mode0: bool = True
    vertices: Callable[[Array, Array], Array] | None = None
    joints: Callable[[Array, Array], Array] | None = None
    midhip: Callable[[Array, Array], Array] | None = None
    of_mesh: Callable[[Array], tuple[Array, Array]] | None = None


OBJECTIVES: Registry[Callable[[Settings], Objective]] = Registry("loss.reading")

OF_WHOLE_BATCHES: Registry[str] = Registry("loss.reading")
"""Objectives whose mean over the parts of a batch is not that of the batch (`train.accumulate` is 1), and why."""


def paper(settings: Settings) -> Objective:
    """Eq (8) with the norms that the paper prints (`total.total_loss`)."""
    total.check_options(settings.weights, settings.vertices)
    return functools.partial(
        total.total_loss,
        weights=settings.weights,
        mode0=settings.mode0,
        vertices=settings.vertices,
    )


OBJECTIVES.register("paper", paper)
