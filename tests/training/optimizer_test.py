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
