"""Clusters of K-means that are left without a point get one; in a loop on a processor, without one on a GPU.

A GPU waits for the host in every round of a loop. Without this one, and with seeds that are drawn in a known number of
rounds, five steps of the quantizer wait 6 times in place of 27 (docs/benchmarks.md, `python -m benchmarks launches`). On a
processor the loop mostly has no round, and saves the comparisons of every two points.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def fill(
    assignment: Int[Array, "M"],
    distance: Float[Array, "M"],
    log_w: Float[Array, "M"],
    n: int | Int[Array, ""],
    num: int,
) -> Int[Array, "M"]:
    """Gives each empty cluster of the first n the point that costs most where it is, from a cluster that keeps another."""
    cost = jnp.maximum(log_w + jnp.log(distance), -1e30)  # Duplicates cost nothing, but are there to be taken.
    wanted = jnp.arange(num) < n
    return jax.lax.platform_dependent(assignment, cost, wanted, cpu=fill_in_turn, default=fill_at_once)


def fill_in_turn(assignment: Int[Array, "M"], cost: Float[Array, "M"], wanted: Bool[Array, "N"]) -> Int[Array, "M"]:
    """Gives each wanted cluster that is empty, in turn, the point of the highest cost whose cluster keeps another one."""
    cluster = jnp.arange(len(wanted))

    def sizes(assignment):
        return jnp.sum(assignment[:, None] == cluster[None], axis=0)

    def empty(assignment):
        return (sizes(assignment) == 0) & wanted

    def fill(assignment):
        point = jnp.argmax(jnp.where(sizes(assignment)[assignment] > 1, cost, -jnp.inf))
        return assignment.at[point].set(jnp.argmax(empty(assignment)).astype(assignment.dtype))

    return jax.lax.while_loop(lambda assignment: jnp.any(empty(assignment)), fill, assignment)


def fill_at_once(assignment: Int[Array, "M"], cost: Float[Array, "M"], wanted: Bool[Array, "N"]) -> Int[Array, "M"]:
    """The same without a loop, for which a GPU would wait in every step, mostly to learn that no cluster is empty.

    In the order of falling cost a cluster keeps the last of its points; of all the others the k-th goes to the k-th empty
    cluster.
    """
    point, cluster = jnp.arange(len(cost)), jnp.arange(len(wanted))
    empty = wanted & ~jnp.any(assignment[None] == cluster[:, None], axis=1)
    place = jnp.sum(empty[None] & (cluster[None] < cluster[:, None]), axis=1)
    earlier = (cost[None] > cost[:, None]) | ((cost[None] == cost[:, None]) & (point[None] < point[:, None]))
    later = (assignment[None] == assignment[:, None]) & ~earlier & (point[None] != point[:, None])
    free = jnp.any(later, axis=1)
    rank = jnp.sum(earlier & free[None], axis=1)
    taken = free[:, None] & empty[None] & (rank[:, None] == place[None])
    return jnp.where(jnp.any(taken, axis=1), jnp.argmax(taken, axis=1).astype(assignment.dtype), assignment)
