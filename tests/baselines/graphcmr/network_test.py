"""GraphCMR as a module: what it starts from, what passes which gradient, and what it keeps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.baselines.graphcmr import network
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.models import build
from tests.helpers import random_network, small_graphcmr, sphere_body


@pytest.fixture(scope="module")
def built():
    return small_graphcmr.build()


@pytest.fixture(scope="module")
def filled(built):
    """The model with variables of ordinary size everywhere."""
    model, variables, inputs = built
    shapes = jax.eval_shape(lambda: variables)
    levels = variables["batch_stats"].pop(network.HIERARCHY)
    made = random_network.fill({"params": shapes["params"], "batch_stats": variables["batch_stats"]}, 0)
    variables["batch_stats"][network.HIERARCHY] = made["batch_stats"][network.HIERARCHY] = levels
    return model, made, inputs


@pytest.mark.slow
def test_it_begins_near_the_mean_body_and_camera(built):
    states, told = small_graphcmr.answer(*built)
    assert states.shape == (small_graphcmr.B, 1, 157) and told["extras"]["vertices"][0].shape == (3, 1, 162, 3)
    np.testing.assert_allclose(states[:, 0], np.tile(small_graphcmr.MEAN, (3, 1)), atol=0.1)
    hyps = hypotheses.decode(states, sphere_body.bodies().j24, told["extras"]["vertices"][0])
    assert hyps.joints24.shape == (3, 1, 24, 3) and hyps.vertices is not None


@pytest.mark.slow
def test_the_levels_of_the_mesh_are_those_of_the_checkpoint(filled):
    model, variables, inputs = filled
    _, told = small_graphcmr.answer(*filled)
    assert variables["batch_stats"][network.HIERARCHY].keys() == {"neighbours", "kept", "corners", "weights"}
    levels = variables["batch_stats"][network.HIERARCHY]
    other = levels | {"weights": 2 * levels["weights"]}
    stats = variables["batch_stats"] | {network.HIERARCHY: other}
    _, twice = small_graphcmr.answer(model, variables | {"batch_stats": stats}, inputs)
    np.testing.assert_allclose(twice["extras"]["vertices"][0], 2 * told["extras"]["vertices"][0], rtol=1e-6)
    _, after = small_graphcmr.answer(*filled, True)
    jax.tree.map(np.testing.assert_array_equal, after["batch_stats"][network.HIERARCHY], levels)


@pytest.mark.slow
def test_the_first_layer_is_one_of_place_and_feature_together(filled):
    model, *_ = filled
    feature = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)), jnp.float32)
    layer = network.OfFeature(6, "mean")
    template = jnp.asarray(model.template.vertices[:7])
    params = random_network.fill(jax.eval_shape(layer.init, jax.random.key(0), template, feature), 1)
    both = np.concatenate([np.tile(template, (2, 1, 1)), np.tile(np.asarray(feature)[:, None], (1, 7, 1))], axis=2)
    expected = both @ np.asarray(params["params"]["kernel"], np.float64) + np.asarray(params["params"]["bias"])
    np.testing.assert_allclose(np.asarray(layer.apply(params, template, feature)), expected, atol=1e-5)


@pytest.mark.slow
def test_the_regressor_passes_no_gradient_to_the_vertices(filled):
    model, variables, inputs = filled

    def of_state(params):
        states, _ = model.apply(variables | {"params": params}, inputs, mutable=["extras"])
        return jnp.sum(jnp.square(states[..., :154]))

    gradient = jax.jit(jax.grad(of_state))(variables["params"])
    reached = {name for name, part in gradient.items() if any(np.any(leaf) for leaf in jax.tree.leaves(part))}
    assert reached == {"regressor"}


@pytest.mark.slow
def test_every_parameter_learns_from_vertices_and_state(filled):
    model, variables, inputs = filled

    def of_all(params):
        states, told = model.apply(variables | {"params": params}, inputs, True, mutable=["extras", "batch_stats"])
        return jnp.sum(jnp.square(states)) + jnp.sum(told["extras"]["vertices"][0] ** 3)

    gradient = jax.jit(jax.grad(of_all))(variables["params"])
    flat = jax.tree_util.tree_leaves_with_path(gradient)
    assert all(np.isfinite(leaf).all() for _, leaf in flat)
    # A bias before a batch norm changes nothing.
    still = {jax.tree_util.keystr(path) for path, leaf in flat if np.abs(leaf).max() < 1e-6}
    assert all("regressor" in name and "bias" in name for name in still), still


@pytest.mark.slow
def test_results_do_not_depend_on_the_batch(filled):
    model, variables, inputs = filled
    states, told = small_graphcmr.answer(*filled)
    alone, of_one = small_graphcmr.answer(model, variables, jax.tree.map(lambda leaf: leaf[1:2], inputs))
    np.testing.assert_allclose(alone[0], states[1], atol=1e-4)
    np.testing.assert_allclose(of_one["extras"]["vertices"][0][0], told["extras"]["vertices"][0][1], atol=1e-4)


@pytest.mark.slow
def test_the_published_start_has_the_published_bounds_and_no_mean(built):
    model = dataclasses.replace(built[0], start="published")
    params = jax.jit(model.init)(jax.random.key(0), built[2])["params"]
    assert np.abs(params["gc_0"]["kernel"]).max() <= 1 / (19 * 32)
    assert not params["regressor"]["dense_3"]["bias"].any() and not params["camera_4"]["bias"].any()


def test_without_a_body_it_cannot_be_built():
    with pytest.raises(ValueError, match="pass `body`"):
        build.build(mean_state=np.zeros(157), name="graphcmr", trunk="keypoints", num_hypotheses=1)
