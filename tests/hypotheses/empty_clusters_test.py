"""The two ways to fill empty clusters agree, and leave none."""

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.hypotheses import empty_clusters


def test_empty_clusters_are_filled_at_once_as_they_are_in_turn():
    """Of 12 points in some of 6 clusters, many of equal cost; the last cluster is not wanted."""
    rng = np.random.default_rng(0)
    assignment = rng.integers(0, 5, (200, 12)) * rng.integers(0, 2, (200, 1))  # Half of them: one cluster has all.
    cost = np.float32(np.where(rng.random((200, 12)) < 0.2, -1e30, rng.integers(0, 5, (200, 12))))
    wanted = jnp.arange(6) < 5
    in_turn, at_once = (
        jax.jit(jax.vmap(fill, (0, 0, None)))(jnp.array(assignment), jnp.array(cost), wanted)
        for fill in (empty_clusters.fill_in_turn, empty_clusters.fill_at_once)
    )
    assert (np.asarray(in_turn) != assignment).any() and (np.asarray(in_turn) < 5).all()
    assert all(set(row) == set(range(5)) for row in np.asarray(in_turn))
    np.testing.assert_array_equal(at_once, in_turn)
