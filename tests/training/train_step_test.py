"""One step of training: what is frozen, and what it reports."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from multibodies_jax.data import virtual_views
from multibodies_jax.geometry import joints
from multibodies_jax.models import build
from multibodies_jax.training import config_checks, optimizer, setup, train_step
from tests.helpers import tiny

key = jax.random.key


def test_a_step_with_everything_loaded_frozen_moves_only_what_is_larger():
    released = {"loss__reading": "released", "loss__vertex_set": "regressed", "optim__warmup": 0}
    config = tiny.config(freeze="loaded", data__sets=("synthetic_bodies/clean",), **released)
    poses, betas = tiny.load_people(config, "train")
    bodies = setup.load_bodies(config)
    keys = jax.random.split(key(0), 4)
    batch = virtual_views.synthesize(jnp.asarray(poses[:4]), jnp.asarray(betas[:4]), keys, bodies.j24)
    model = setup.build_model(config, 6, bodies)
    params = model.init(key(1), batch)["params"]
    adam = optimizer.make_optimizer(config, train_step.trained(config, 6, params), 10, 1e-3)
    state = train_step.TrainState(jnp.zeros((), jnp.int32), params, {}, {}, adam.init(params))
    split = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
    step = train_step.make_train_step(config, model, bodies, adam, 6, lambda batch, key: batch, split)
    after, metrics = jax.jit(step)(state, batch, key(2))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, params)
    assert moved == build.trained(params, "loaded") and moved["head"]["dec"]["kernel"]
    assert sum(x.size for x in jax.tree.leaves(after.opt_state)) < 2.2 * params["head"]["dec"]["kernel"].size
    assert np.isfinite(metrics["loss"]) and metrics["gradient_norm"] > 0


@pytest.mark.parametrize(
    ("fields", "num_hypotheses", "frozen"),
    [
        ({"freeze": "loaded"}, 6, "loaded"),
        ({"freeze": "loaded"}, 1, ""),
        ({"freeze": "trunk"}, 1, "trunk"),
        ({"freeze": "loaded", "freeze_statistics": False}, 6, ""),
    ],
)
def test_statistics_are_frozen_with_the_layers_unless_they_shall_drift(fields, num_hypotheses, frozen):
    config = tiny.config(**fields)
    model = setup.build_model(config, num_hypotheses, setup.load_bodies(config))
    assert model.frozen == frozen
    seen = []

    class Trunk(nn.Module):
        def __call__(self, batch, train):
            seen.append(train)
            return jnp.zeros((1, 4))

    jax.eval_shape(lambda: model.clone(trunk=Trunk()).init({"params": key(0), "dropout": key(1)}, {}, True))
    assert seen == [not frozen]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optim__schedule": "step"}, "config.optim.decay_step"),
        ({"model__head": "released"}, "config.model.trunk='resnet50'"),
        ({"freeze": "all"}, "choose one of None, 'trunk', 'loaded'"),
        ({"loss__vertex_set": "mini"}, "choose one of 'all', 'regressed'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        config_checks.validate(tiny.config(**fields))


def test_regressed_vertices_are_all_that_the_joints_need():
    files = setup.load_bodies(tiny.config()).files
    largest = np.concatenate([np.asarray(files.smpl.J_regressor), files.j49_regressor]).max(axis=0)
    landmarks = set(joints.LANDMARK_VERTICES.values())
    expected = [vertex for vertex, weight in enumerate(largest) if weight > 1e-9 or vertex in landmarks]
    assert list(files.regressed_vertices) == expected and 100 < len(expected) < 3000


def test_a_batch_says_what_is_annotated():
    valid = np.zeros((4, 24), np.float32)
    batch = {
        "kp2d_valid": valid + np.float32([[1], [1], [0.5], [0]]),
        "joints3d_valid": valid + (np.arange(24) == 3) * np.float32([[1], [0], [0], [0]]),
        "smpl_valid": np.float32([1, 1, 0, 0]),
    }
    shares = {name: float(share) for name, share in train_step.annotated_shares(batch).items()}
    assert shares == {"annotated_kp2d": 0.75, "annotated_joints3d": 0.25, "annotated_smpl": 0.5}
