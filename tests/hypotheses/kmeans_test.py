"""The parts of weighted K-means from pairwise distances against float64 loops over the points themselves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.cluster

from multibodies_jax.hypotheses import kmeans, weights
from tests.helpers.random_hypotheses import poses, softmax

KMeans: Any = sklearn.cluster.KMeans  # Not annotated: the type checker takes the types of its defaults.
N = 4
LABELS = np.array([0, 1, 2, 3, 0, 0, 1, 1, 2, 2, 2, 3, 3, 0, 1, 2, 3, 3, 3, 0])


@pytest.fixture(scope="module")
def problem():
    points = poses(0, 1, len(LABELS), 6)[0]
    log_weights = np.array(np.random.default_rng(0).normal(size=len(LABELS)) * 3, np.float32)
    return points, log_weights, np.asarray(kmeans.squared_distances(jnp.array(points)))


def centroids(points, share_of_all):
    """The weighted mean of each cluster of LABELS, and its mass."""
    points, means, masses = np.array(points, np.float64), [], []
    for k in range(N):
        own = k == LABELS
        masses.append(share_of_all[own].sum())
        means.append(share_of_all[own] @ points[own] / masses[-1])
    return np.stack(means), np.array(masses)


def test_squared_distances_are_exact_far_from_the_origin(problem):
    points, _, squared = problem
    points = np.array(points, np.float64)
    expected = [[((a - b) ** 2).sum() for b in points] for a in points]
    np.testing.assert_allclose(squared, expected, rtol=1e-5, atol=1e-9)
    far = (points + 1000).astype(np.float32)
    expected = [[((a - b) ** 2).sum() for b in far.astype(np.float64)] for a in far.astype(np.float64)]
    np.testing.assert_allclose(kmeans.squared_distances(jnp.array(far)), expected, rtol=1e-5)


@pytest.mark.slow
def test_shares_masses_distances_and_energy_are_those_of_the_centroids(problem):
    points, log_weights, squared = problem
    share_of_all = softmax(log_weights)
    means, masses = centroids(points, share_of_all)
    log_w, _ = weights.floored(jnp.array(log_weights))
    own, share = kmeans.shares(log_w, jnp.array(LABELS), N)
    np.testing.assert_array_equal(own, LABELS[:, None] == np.arange(N))
    np.testing.assert_allclose(share, np.asarray(own) * share_of_all[:, None] / masses, rtol=1e-5)
    np.testing.assert_allclose(kmeans.masses(log_w, own), masses, rtol=1e-5)
    distance, within = kmeans.to_centroids(jnp.array(squared), share)
    expected = ((points.astype(np.float64)[:, None] - means) ** 2).sum(axis=2)
    np.testing.assert_allclose(distance, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(within, (np.asarray(share) * expected).sum(axis=0), rtol=1e-4)
    energy = kmeans.energy(jnp.array(squared), log_w, jnp.array(LABELS), N)
    np.testing.assert_allclose(energy, share_of_all @ expected[np.arange(len(LABELS)), LABELS], rtol=1e-4)


def test_shares_of_a_cluster_whose_weights_underflow():
    log_w = jnp.array([0.0, -1.0, -5000.0, -5001.0])
    _, share = kmeans.shares(log_w, jnp.array([0, 0, 1, 1]), 2)
    expected = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(share[:, 0], [expected, 1 - expected, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(share[:, 1], [0, 0, expected, 1 - expected], rtol=1e-4)


@pytest.mark.slow
def test_a_partition_cannot_be_improved_by_a_single_move_and_is_near_the_best_of_scikit_learn(problem):
    points, log_weights, squared = problem
    log_w, _ = weights.floored(jnp.array(log_weights))
    noise = jax.random.gumbel(jax.random.key(0), (N, 8, len(points)))
    labels = kmeans.partition(jnp.array(squared), log_w, N, noise, 30)
    assert sorted(set(np.asarray(labels))) == list(range(N))
    energy = jax.jit(lambda labels: kmeans.energy(jnp.array(squared), log_w, labels, N))
    found = float(energy(labels))
    for point in range(len(points)):
        for k in range(N):
            moved = labels.at[point].set(k)
            if set(np.asarray(moved)) == set(range(N)):
                assert float(energy(moved)) > found * (1 - 1e-4)
    fit = KMeans(N, n_init=20, random_state=0)
    fit.fit(points.astype(np.float64), sample_weight=softmax(log_weights))
    assert found < 1.02 * fit.inertia_


@pytest.mark.slow
def test_a_partition_into_n_is_the_same_with_room_for_more_clusters_and_n_may_be_traced(problem):
    _, log_weights, squared = problem
    log_w, _ = weights.floored(jnp.array(log_weights))
    noise = jax.random.gumbel(jax.random.key(0), (9, 4, len(log_w)))
    partition = jax.jit(lambda n: kmeans.partition(jnp.array(squared), log_w, n, noise, 30))
    for n in (3, 9):
        alone = kmeans.partition(jnp.array(squared), log_w, n, noise[:n], 30)
        np.testing.assert_array_equal(partition(n), alone)
        assert sorted(set(np.asarray(alone))) == list(range(n))


@pytest.mark.slow
def test_a_partition_is_the_same_where_no_loop_may_depend_on_what_it_finds(problem, monkeypatch):
    _, log_weights, squared = problem
    log_w, _ = weights.floored(jnp.array(log_weights))
    noise = jax.random.gumbel(jax.random.key(0), (6, 2, len(log_w)))

    def partition():
        return jax.jit(lambda n: kmeans.partition(jnp.array(squared), log_w, n, noise, 30))(N)

    expected = partition()
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    np.testing.assert_array_equal(partition(), expected)


@pytest.mark.slow
def test_an_empty_cluster_is_far_from_all_points(problem):
    _, log_weights, squared = problem
    log_w, _ = weights.floored(jnp.array(log_weights))
    own, share = kmeans.shares(log_w, jnp.array(LABELS), N + 1)
    distance, within = kmeans.to_centroids(jnp.array(squared), share)
    assert not own[:, N].any() and (share[:, N] == 0).all() and within[N] == 0
    assert np.isinf(distance[:, N]).all() and np.isfinite(distance[:, :N]).all()
