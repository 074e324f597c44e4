"""Plain Lloyd against scikit-learn and a float64 loop from the same rows."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.cluster

from multibodies_jax.released import lloyd
from tests.helpers.random_hypotheses import poses, softmax

KMeans: Any = sklearn.cluster.KMeans  # Not annotated: the type checker takes the types of its defaults.


def loop(points, log_weights, rows, iterations):
    """One example in float64; a cluster without points stays where it is."""
    points, weights = np.array(points, np.float64), softmax(log_weights)
    centroids = points[rows].copy()
    for _ in range(iterations):
        labels = [int(np.argmin([np.sum((x - c) ** 2) for c in centroids])) for x in points]
        for k in range(len(rows)):
            members = [i for i, label in enumerate(labels) if label == k]
            if members:
                centroids[k] = sum(weights[i] * points[i] for i in members) / sum(weights[i] for i in members)
    labels = [int(np.argmin([np.sum((x - c) ** 2) for c in centroids])) for x in points]
    return np.array(labels), centroids


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [4, 9, 24])
def test_the_clusters_of_scikit_learn_from_the_same_rows(k, weighted):
    points = poses(k, 12, 99)
    rng = np.random.default_rng(k)
    log_weights = (rng.normal(size=(12, 99)) * (3 if weighted else 0)).astype(
        np.float32
    ) - 500  # Of densities: far from 1.
    rows = np.stack([rng.permutation(99)[:k] for _ in range(12)])
    labels, centroids = lloyd.lloyd(jnp.array(points), jnp.array(log_weights), jnp.array(rows, jnp.int32))
    for b in range(12):
        start = points[b, rows[b]].astype(np.float64)
        theirs = KMeans(k, init=start, n_init=1, algorithm="lloyd", max_iter=30, tol=0)
        theirs.fit(points[b].astype(np.float64), sample_weight=99 * softmax(log_weights[b]))
        np.testing.assert_array_equal(labels[b], theirs.labels_)
        np.testing.assert_allclose(centroids[b], theirs.cluster_centers_, atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 2, 30])
def test_the_steps_of_a_loop_with_weights_that_exp_cannot_hold(iterations):
    points = poses(1, 3, 20, 6)
    log_weights = (np.random.default_rng(1).normal(size=(3, 20)) * 150).astype(np.float32)
    rows = np.array([[0, 5, 7], [1, 2, 3], [19, 4, 0]], np.int32)
    labels, centroids = lloyd.lloyd(jnp.array(points), jnp.array(log_weights), jnp.array(rows), iterations)
    for b in range(3):
        expected = loop(points[b], log_weights[b], rows[b], iterations)
        np.testing.assert_array_equal(labels[b], expected[0])
        np.testing.assert_allclose(centroids[b], expected[1], atol=1e-5)


def test_a_cluster_far_below_the_others_keeps_its_own_mean():
    """The original's floor would pull it to the origin: its weights do not reach exp(-128)."""
    points = jnp.array([[[0.0], [1.0], [50.0], [52.0]]])
    _, centroids = lloyd.lloyd(points, jnp.array([[0.0, 0.0, -300.0, -300.0]]), jnp.array([[0, 2]], jnp.int32))
    np.testing.assert_allclose(centroids[0, :, 0], [0.5, 51.0])


def test_an_empty_cluster_stays_until_it_wins_a_point_and_changes_no_data():
    points, rows = jnp.array([[[1.0], [1.0], [4.0]]]), jnp.array([[0, 1]], jnp.int32)
    _, after_one = lloyd.lloyd(points, jnp.zeros((1, 3)), rows, 1)  # Of two equal first rows one gets nothing.
    np.testing.assert_allclose(after_one[0, :, 0], [2.0, 1.0])
    labels, centroids = lloyd.lloyd(points, jnp.zeros((1, 3)), rows)
    np.testing.assert_array_equal(labels, [[1, 1, 0]])
    np.testing.assert_allclose(centroids[0, :, 0], [4.0, 1.0])


def test_one_point_may_be_the_nearest_of_two_centroids():
    points = jnp.array([[[0.0], [1.0], [5.0]]])
    np.testing.assert_array_equal(lloyd.nearest_points(points, jnp.array([[[0.3], [0.1]]])), [[0, 0]])
    np.testing.assert_array_equal(lloyd.nearest_points(points, jnp.array([[[4.0], [0.9]]])), [[2, 1]])
