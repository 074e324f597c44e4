"""PyTorch's training step: its losses are those of `released.losses`, and it trains what the authors' code trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import released
from configs import default
from multibodies_jax.body import body_files
from multibodies_jax.convert import layouts
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.losses import total
from multibodies_jax.released import losses
from multibodies_jax.training import setup
from tests.helpers import batches

M, B, SIZE = 3, 4, 64
MODES = {f"layer5.2.{name}" for name in ("conv3.weight", "bn3.weight", "bn3.bias")}
DEAD = ("layer4.", "fc3.", "fc4.", "decflow_")
STATISTICS = ("running_mean", "running_var")
NO_PARAMETERS = (*STATISTICS, "init_pose", "init_shape", "init_cam", "mask")


@pytest.fixture
def make_step(monkeypatch):
    """A step of a thin network and a flow of two couplings, by the name of its program."""
    torch = pytest.importorskip("torch")
    from benchmarks import torch_training

    torch.set_num_threads(1)
    monkeypatch.setattr(layouts, "WIDTH", 4)
    monkeypatch.setattr(layouts, "HIDDEN", 16)
    rng = np.random.default_rng(0)
    numbers = {slot.name: rng.standard_normal(slot.shape, np.float32) for slot in layouts.flow(2, 8).slots}
    flow = {name: (x > 0).astype(np.float32) if name == "mask" else np.float32(0.3) * x for name, x in numbers.items()}

    def make(name):
        program = torch_training.PROGRAMS[name]
        network, _ = released.random_tensors(M, dead=program.extras)
        return torch_training.Step(program, network, flow, body_files.load(), B, SIZE)

    return make


def arrays(tensors):
    return {name: x.detach().numpy().copy() for name, x in tensors.items()}


def ours(hyps, target):
    """Terms and best hypothesis of `released.losses` with the embedded body, of numbers of PyTorch."""
    config = default.add_authors_fields(default.get_config())
    config.loss.vertex_set = "regressed"
    bodies = setup.load_bodies(config)
    meshed = setup.loss_bodies(config, bodies)
    flat = hyps.rotmats.detach().reshape(-1, 24, 3, 3).numpy(), hyps.betas.detach().reshape(-1, 10).numpy()
    truth = target.truth
    rows = {
        "kp2d": target.keypoints[:, -24:].numpy(),
        "kp2d_valid": target.confidence[:, -24:].numpy(),
        "kp2d_input": target.confidence[:, -24:].numpy(),
        "joints3d": target.joints3d.numpy(),
        "joints3d_valid": target.joints3d_confidence.numpy(),
        "rotmats": truth.rotmats.numpy(),
        "betas": truth.betas.numpy(),
        "smpl_valid": np.ones(B, np.float32),
    }

    @jax.jit
    def run(rotmats, betas, cam, batch):
        points, midhip = setup.centred_joints(bodies, rotmats, betas)
        every = {"rotmats": rotmats, "betas": betas, "joints24": points, "midhip": midhip[:, 0]}
        every = {name: x.reshape(B, M, *x.shape[1:]) for name, x in every.items()}
        return losses.total_loss(
            hypotheses.Hypotheses(**every, cam=cam, log_prior=jnp.zeros((B, M))),
            batch,
            dict.fromkeys(total.TERMS, 1.0),
            joints=lambda *body: setup.centred_joints(bodies, *body)[0],
            vertices=lambda *body: setup.centred_mesh(meshed, *body),
        )[1:]

    terms, best = run(*flat, hyps.cam.detach().numpy(), batches.batch(**jax.tree.map(jnp.asarray, rows)))
    return {name: np.asarray(x) for name, x in terms.items()}, np.asarray(best)


@pytest.mark.slow
def test_terms_and_best_hypothesis_are_those_of_the_released_losses(make_step):
    from benchmarks import torch_training

    step = make_step("as little as ours")
    hyps, (target, _) = step.forward(), step.targets()
    annotated = target.joints3d_confidence.numpy().any(1)
    assert annotated.any() and not annotated.all()
    terms, best = torch_training.losses(hyps, target)
    expected, expected_best = ours(hyps, target)
    assert best.tolist() == expected_best.tolist() and expected_best.any()  # Not hypothesis 0 of all.
    assert terms.keys() == set(total.TERMS)
    for name, value in terms.items():
        reference = expected[name] + expected.get(f"mode0_{name}", 0)
        np.testing.assert_allclose(value.detach().numpy(), reference, rtol=1e-4, atol=1e-9, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["as released", "all trained", "as little as ours"])
def test_a_step_changes_what_it_trains_and_statistics_alone(make_step, name):
    from benchmarks import torch_training

    step = make_step(name)
    before = arrays(step.network), arrays(step.flow)
    terms = step()
    after = arrays(step.network), arrays(step.flow)
    changed = [{k for k in old if not np.array_equal(old[k], new[k])} for old, new in zip(before, after, strict=True)]
    all_parameters = {k for k in before[0] if not k.startswith(DEAD) and not k.endswith(NO_PARAMETERS)}
    trained = MODES if name == "as released" else all_parameters
    assert changed[0] == trained | {k for k in before[0] if k.endswith(STATISTICS)}
    with_flow = name != "as little as ours"
    assert changed[1] == ({k for k in before[1] if k != "mask"} if with_flow else set())
    gradients = {k for part in (step.network, step.flow) for k, x in part.items() if x.grad is not None}
    assert gradients == trained | changed[1]
    assert ("layer4.0.conv1.weight" in before[0]) == ("prior" in terms) == with_flow
    weighted = [torch_training.WEIGHTS[k] * x.numpy().mean() for k, x in terms.items() if k != "loss"]
    np.testing.assert_allclose(terms["loss"].numpy(), sum(weighted), rtol=1e-5)
    assert np.isfinite(terms["loss"].numpy())


@pytest.mark.slow
def test_dropout_makes_the_bodies_of_two_passes_differ(make_step):
    step = make_step("as little as ours")
    one, other = (step.forward().betas.detach().numpy() for _ in range(2))
    assert np.abs(one - other).min(axis=(0, 1)).max() > 0


def reference_log_prob(flow, x):
    """Log-density (N,) of the RealNVP at x (N, 72), in float64 and without dropout."""

    def network(name, x):
        for place in (0, 3, 6):
            x = x @ flow[f"{name}.{place}.weight"].T + flow[f"{name}.{place}.bias"]
            x = np.where(x > 0, x, 0.01 * x) if place < 6 else x
        return x

    log_det = 0.0
    for layer in (1, 0):
        kept = flow["mask"][layer]
        scale = (1 - kept) * np.tanh(network(f"s.{layer}", kept * x))
        x = kept * x + (1 - kept) * (x - network(f"t.{layer}", kept * x)) * np.exp(-scale)
        log_det = log_det - scale.sum(1)
    return log_det - 0.5 * (x**2).sum(1) - 36 * np.log(2 * np.pi)


@pytest.mark.slow
def test_the_flow_learns_the_joints_of_the_truth_without_its_root(make_step, monkeypatch):
    step = make_step("all trained")
    monkeypatch.setattr("torch.nn.functional.dropout", lambda x, *_: x)
    target, upright = step.targets()
    points, root = target.truth.points[:, -24:].numpy(), target.truth.rotmats[:, 0].numpy()
    np.testing.assert_allclose(upright.reshape(B, 24, 3).numpy(), points @ root, atol=1e-6)
    flow = {name: np.float64(x) for name, x in arrays(step.flow).items()}
    expected = -reference_log_prob(flow, np.float64(upright.numpy()))
    np.testing.assert_allclose(step()["prior"].numpy(), expected, rtol=1e-4)
