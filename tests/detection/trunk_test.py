"""The trunk that reads MoveNet's maps: against loops, with a made-up network, and how training starts from it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.detection import graph_files, movenet, trunk, weights
from multibodies_jax.models import build
from multibodies_jax.training import config_checks, initialization, loop
from tests.helpers import batches, tiny

CELLS = 8
SIZE = 4 * CELLS
MEAN = np.linspace(-1, 1, 157)


def _bilinear(values, row, column):
    row, column = np.clip(row, 0, values.shape[0] - 1), np.clip(column, 0, values.shape[1] - 1)
    total = 0.0
    for r in range(values.shape[0]):
        for c in range(values.shape[1]):
            total = total + max(0, 1 - abs(r - row)) * max(0, 1 - abs(c - column)) * values[r, c].astype(np.float64)
    return total


def _standardized(values):
    return (values - values.mean()) / np.sqrt(values.var() + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_maps_are_read_as_by_a_loop_over_joints(seed):
    random = np.random.default_rng(seed)
    channels = {"heatmap": 17, "centre": 1, "joints": 34, "offset": 34, "fine": 5}
    outputs = {name: random.normal(0, 2, (1, CELLS, CELLS, count)) for name, count in channels.items()}
    outputs["coarse"] = random.normal(0, 2, (1, 2, 2, 7))
    outputs["joints"] *= 5  # Some far outside.
    outputs = {name: jnp.asarray(values, jnp.float32) for name, values in outputs.items()}
    found = np.asarray(movenet.find_joints(outputs, jnp.full(2, SIZE / 2)), np.float64)[:17]
    cells = [(row, column) for row in range(CELLS) for column in range(CELLS)]
    centre = 1 / (1 + np.exp(-np.asarray(outputs["centre"], np.float64)[0, :, :, 0]))
    person = max(cells, key=lambda cell: centre[cell] / (np.hypot(cell[0] - CELLS / 2, cell[1] - CELLS / 2) + 1.8))
    expected = []
    for joint, (x, y, confidence) in enumerate(found):
        down, right = np.asarray(outputs["joints"])[0][person][2 * joint : 2 * joint + 2]
        rough = 4 * np.array([person[1] + right, person[0] + down])
        expected += [
            *np.clip(2 * np.array([x, y]) / SIZE - 1, -2, 2),
            *np.clip(2 * rough / SIZE - 1, -2, 2),
            confidence,
        ]
        for name in ("fine", "coarse"):
            values = np.asarray(outputs[name])[0]
            scale = (len(values) - 1) / (CELLS - 1)
            expected += [*_standardized(_bilinear(values, y / 4 * scale, x / 4 * scale))]
    expected += [*_standardized(np.asarray(outputs["coarse"], np.float64)[0].mean((0, 1)))]
    alone = {name: values[0] for name, values in outputs.items()}
    np.testing.assert_allclose(trunk.read_maps(alone, SIZE), expected, rtol=1e-4, atol=1e-4)
    outside = np.abs(np.array(expected[: 17 * 17]).reshape(17, 17)[:, :4]).max()
    assert outside == 2.0  # A joint that far away was among them.


def _made_up():
    """A network with Thunder's outputs, one layer each, of an image."""
    random = np.random.default_rng(0)
    steps, arrays = {}, {}
    channels = {"heatmap": 17, "centre": 1, "joints": 34, "offset": 34, "fine": 5, "coarse": 7}
    for name, count in channels.items():
        side = 16 if name == "coarse" else 4
        arrays[f"net/{name}"] = random.normal(0, 1 / side, (side, side, 3, count)).astype(np.float32)
        arrays[f"net/{name}/bias"] = random.normal(size=count).astype(np.float32)
        steps[name] = graph_files.Layer("convolution", ("",), f"net/{name}", f"net/{name}/bias", side, "VALID")
    return graph_files.Network(steps, {name: name for name in channels}, arrays)


@pytest.fixture
def made_up(monkeypatch):
    network = _made_up()
    monkeypatch.setattr(trunk, "read_published", lambda: network)
    return network


def _inputs(seed=0, count=3):
    image = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return batches.inputs(image=jnp.asarray(image))


def _config(**fields):
    sets = {"data__sets": ("synthetic_bodies/clean",), "data__weights": (1.0,)}
    return tiny.config(**({"model__trunk": "movenet", "model__crop_size": 32, "freeze": "trunk"} | sets | fields))


def test_a_published_trunk_has_to_be_frozen():
    config_checks.validate(_config())
    with pytest.raises(
        ValueError, match=r"config.model.trunk='movenet' has published weights.*freeze='trunk', got .*None"
    ):
        config_checks.validate(_config(freeze=None))


def test_its_features_are_kept_without_a_trained_trunk():
    config_checks.validate(_config(data__cached_passes=1))
    with pytest.raises(
        ValueError, match=r"config.data.cached_passes .*\(or a config.model.trunk with published weights\)"
    ):
        config_checks.validate(_config(data__cached_passes=1, model__trunk="resnet_small"))


def test_crops_are_of_whole_cells(made_up):
    with pytest.raises(ValueError, match=r"model.crop_size of movenet must be a multiple of 32 pixels, got 40"):
        build.build_trunk(name="movenet", crop_size=40, width=None, dtype="float32")


def test_missing_files_are_said_before_the_prior_is_trained(tmp_path, monkeypatch):
    trunk.read_published.cache_clear()
    monkeypatch.setattr(trunk.weights, "folder", lambda: tmp_path / "empty")
    monkeypatch.setattr(loop.sources, "open_first", lambda *_: None)
    monkeypatch.setattr(loop.prior, "train_prior", lambda *_: pytest.fail("the prior was trained first"))
    with pytest.raises(weights.DetectorMissing, match="multibodies fetch detector"):
        loop.train(_config(), tmp_path / "run")


@pytest.mark.slow
def test_a_training_starts_from_the_published_weights_and_leaves_them(made_up):
    model = build.build(mean_state=MEAN, trunk="movenet", num_hypotheses=1, hidden=8, crop_size=32)
    config, inputs = _config(), _inputs()
    variables = initialization.variables(config, model, 1, None, inputs, jax.random.key(0))
    own = variables["params"]["trunk"]
    assert sorted(own) == sorted(name.replace("/", ".") for name in made_up.weights)
    for name, values in made_up.weights.items():
        np.testing.assert_array_equal(own[name.replace("/", ".")], values)
    gradient = jax.grad(lambda params: jnp.sum(jnp.asarray(model.apply({"params": params}, inputs)) ** 2))(
        variables["params"]
    )
    assert all(not np.any(values) for values in jax.tree.leaves(gradient["trunk"]))
    assert all(np.any(values) for values in jax.tree.leaves(gradient["head"]["dec"]))


@pytest.mark.slow
def test_a_feature_does_not_depend_on_the_batch(made_up):
    module = build.build_trunk(name="movenet", crop_size=32, width=None, dtype="float32")
    variables = {"params": trunk.published()}
    inputs = _inputs(count=5)
    assert inputs.image is not None
    together = jnp.asarray(module.apply(variables, inputs))
    assert together.shape == (5, 17 * (5 + 5 + 7) + 7) and np.isfinite(together).all()
    for index in range(5):
        alone = dataclasses.replace(inputs, image=inputs.image[index : index + 1])
        np.testing.assert_allclose(jnp.asarray(module.apply(variables, alone))[0], together[index], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-2
