"""The authors' optimiser against PyTorch's."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from multibodies_jax.training import optimizer
from tests.helpers import tiny


@pytest.mark.slow
def test_authors_optimizer_equals_pytorch():
    """Adam with L2 in the gradient and a tenth of the rate from the third step on."""
    torch = pytest.importorskip("torch")
    config = tiny.config(
        optim__l2=0.3, optim__schedule="step", optim__decay_step=2, optim__warmup=0, optim__clip=math.inf
    )
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=6).astype(np.float32), rng.normal(size=(5, 6)).astype(np.float32)
    params: Any = {"w": jnp.asarray(start)}
    ours = optimizer.make_optimizer(config, {"w": True}, 5, 0.05)
    state = ours.init(params)
    w = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.Adam([w], lr=0.05, weight_decay=0.3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(theirs, milestones=[2], gamma=0.1)
    for gradient in gradients:
        updates, state = ours.update({"w": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        w.grad = torch.tensor(gradient)
        theirs.step()
        schedule.step()
        np.testing.assert_allclose(params["w"], w.detach().numpy(), atol=1e-5)  # A step is 0.05.


def test_the_gradient_of_scores_is_clipped_by_its_own_norm():
    """Adam hides a factor that stays, but not one that changes from step to step."""
    config = tiny.config(optim__clip=1.0, optim__warmup=0)
    gradients = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    moved = {}
    for names in (("head",), ("head", "scores")):
        params: Any = {name: jnp.ones(3) for name in names}
        ours = optimizer.make_optimizer(config, dict.fromkeys(names, True), 5, 0.05)
        state = ours.init(params)
        for step, gradient in enumerate(gradients):
            of_scores = jnp.full(3, 10.0**step)
            given = {name: of_scores if name == "scores" else jnp.asarray(gradient) for name in names}
            updates, state = ours.update(given, state, params)
            params = optax.apply_updates(params, updates)
        moved[names] = params
    np.testing.assert_array_equal(moved["head", "scores"]["head"], moved["head",]["head"])
    assert (moved["head", "scores"]["scores"] != 1).all()
