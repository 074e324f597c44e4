"""One step of training: the authors' optimiser against PyTorch's, and what is frozen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from multibodies_jax.data import virtual_views
from multibodies_jax.geometry import joints
from multibodies_jax.models import registry
from multibodies_jax.training import config_checks, setup
from multibodies_jax.training import train_step as steps
from tests.helpers import tiny

key = jax.random.key


def test_authors_optimizer_equals_pytorch():
    """Adam with L2 in the gradient and a tenth of the rate from the third step on."""
    torch = pytest.importorskip("torch")
    config = tiny.config(optim__l2=0.3, optim__schedule="step", optim__decay_step=2, optim__warmup=0, optim__clip=0.0)
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=6).astype(np.float32), rng.normal(size=(5, 6)).astype(np.float32)
    params = {"w": jnp.asarray(start)}
    optimizer = steps.make_optimizer(config, {"w": True}, 5, 0.05)
    state = optimizer.init(params)
    w = torch.nn.Parameter(torch.tensor(start))
    adam = torch.optim.Adam([w], lr=0.05, weight_decay=0.3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, milestones=[2], gamma=0.1)
    for gradient in gradients:
        updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, params)
        params = {"w": params["w"] + updates["w"]}
        w.grad = torch.tensor(gradient)
        adam.step()
        schedule.step()
        np.testing.assert_allclose(params["w"], w.detach().numpy(), atol=1e-5)  # A step is 0.05.


def test_a_step_with_everything_loaded_frozen_moves_only_what_is_larger():
    released = {"loss__reading": "released", "loss__vertex_set": "regressed", "optim__warmup": 0}
    config = tiny.config(freeze="loaded", data__virtual_cameras=False, **released)
    poses, betas = tiny.load_people(config, "train")
    bodies = setup.load_bodies(config)
    keys = jax.random.split(key(0), 4)
    batch = virtual_views.synthesize(jnp.asarray(poses[:4]), jnp.asarray(betas[:4]), keys, bodies.j24)
    model = setup.build_model(config, 6, bodies)
    params = model.init(key(1), batch)["params"]
    optimizer = steps.make_optimizer(config, steps.trained(config, 6, params), 10, 1e-3)
    state = steps.TrainState(jnp.zeros((), jnp.int32), params, {}, {}, optimizer.init(params))
    split = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
    step = steps.make_train_step(config, model, bodies, optimizer, 6, lambda batch, key: batch, split)
    after, metrics = jax.jit(step)(state, batch, key(2))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, params)
    assert moved == registry.trained(params, "paper", "loaded") and moved["head"]["dec"]["kernel"]
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
        ({"freeze": "all"}, "choose one of '', 'trunk', 'loaded'"),
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
