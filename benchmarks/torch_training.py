"""A training step of the released network in PyTorch, for `benchmarks.training` to compare with.

`Step` has the structure of the authors' code (from its description, not from its text): batch norms with the statistics
of the batch, all modes from one convolution, a Python loop over slots and iterations with dropout, rotations through
axis-angles and back, bodies on the vertices that joints are regressed from (the truth and all M hypotheses, each with
its root and without), every loss of theirs with the default weights of the code, and Adam with L2 in the gradient. The
flow learns in the same step from the truth's joints alone; no gradient of it reaches the network. The inference
programs (`torch_programs`) share its parts.

Where the description leaves a choice, the step takes the cheaper one:

  * What feeds no loss (SPIN's slot, the decoder, the bodies without their root and the flow's density of them) keeps
    nothing for a backward pass, and the decoder has no dropout.
  * The rotation loss takes the matrices before the axis-angles, and joints are not centred a second time.
  * One product regresses all 49 joints; the best hypothesis and hypothesis 0 are compared with the truth in one batch.
  * cuDNN chooses the fastest convolutions. Images and targets lie on the device, normalised, the same in every step.

Every example has SMPL parameters, as the authors' masks require, and every second one 3D joints.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import torch_programs
from multibodies_jax.body import body_files

WEIGHTS = {
    "best": 25.0,
    "pose": 1.0,
    "betas": 0.001,
    "vertices": 0.0,
    "reprojection_best": 1.0,
    "reprojection_all": 0.1,
    "camera": 1.0,
    "prior": 0.001,
}
"""Defaults of the authors' code, by our names of the terms. Whatever has the weight 0 is computed and has no gradient;
the released runs had 1 for the vertices and for all reprojections."""

_LEARNING_RATE, _L2 = 1e-5, 5e-4
_DROPOUT, _FLOW_DROPOUT = 0.5, 0.2
_TRAINED_AS_RELEASED = ("layer5.2.conv3.", "layer5.2.bn3.")
_NO_PARAMETERS = ("running_mean", "running_var", "init_pose", "init_shape", "init_cam", "mask")
_FOCAL_PX, _CROP_PX = 5000.0, 224.0
Tensors = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Program:
    """What a step trains and computes.

    Attributes:
      frozen: the network trains only its modes' last convolution and batch norm, as the authors' code by default.
      extras: also what a step of ours lacks: what feeds no loss (SPIN's layer4 and slot, the decoder of a conditional
        flow, the hypotheses without their root and the flow's density there), and the flow's own training.
    """

    frozen: bool
    extras: bool


PROGRAMS = {
    "as released": Program(frozen=True, extras=True),
    "all trained": Program(frozen=False, extras=True),
    "as little as ours": Program(frozen=False, extras=False),
}


@dataclasses.dataclass(frozen=True)
class Bodies:
    """Bodies with their cameras, N = B or (B, M).

    Attributes:
      rotmats, betas, cam: (N, 24, 3, 3), (N, 10), (N, 3).
      points: SPIN's 49 joints, metres, mid-hip centred, (N, 49, 3).
      midhip: in the body's own frame, (N, 1, 3).
      vertices: those that joints are regressed from, metres, mid-hip centred, (N, V, 3).
    """

    rotmats: torch.Tensor
    betas: torch.Tensor
    cam: torch.Tensor
    points: torch.Tensor
    midhip: torch.Tensor
    vertices: torch.Tensor

    def pick(self, index: torch.Tensor) -> "Bodies":
        """The hypotheses (B, n) of (B, M) that `index` names."""

        def gather(x: torch.Tensor) -> torch.Tensor:
            return x.gather(1, index.reshape(*index.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:]))

        return Bodies(*(gather(getattr(self, field.name)) for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Target:
    """What bodies are compared with.

    Attributes:
      truth: of the SMPL parameters, N = B; its camera is not used.
      joints3d: J24, metres, mid-hip centred, (B, 24, 3).
      joints3d_confidence: (B, 24); all 0 where an example has no 3D joints.
      keypoints: SPIN's 49 in [-1, 1] of the crop, (B, 49, 2); OpenPose's 25 have no weight.
      confidence: of the keypoints, (B, 49).
    """

    truth: Bodies
    joints3d: torch.Tensor
    joints3d_confidence: torch.Tensor
    keypoints: torch.Tensor
    confidence: torch.Tensor


def losses(hyps: Bodies, target: Target) -> tuple[Tensors, torch.Tensor]:
    """The authors' terms, except that of the flow, before weighting.

    Args:
      hyps: (B, M).
      target: of the B examples.

    Returns:
      Terms (B,) by the names of `WEIGHTS`, those that are compared with the truth summed over the best hypothesis and
      hypothesis 0; and the best hypothesis (B,): the nearest to the 3D joints, without them to the joints of the truth.
    """
    with torch.no_grad():
        fitted = (hyps.points[:, :, -24:] - target.truth.points[:, None, -24:]).square().mean((2, 3))
        annotated = target.joints3d_confidence.any(1, keepdim=True)
        best = torch.where(annotated, _joint_error(hyps.points, target), fitted).argmin(1)
    chosen = hyps.pick(torch.stack([best, torch.zeros_like(best)], dim=1))
    truth = target.truth
    terms = {
        "best": _joint_error(chosen.points, target).sum(1),
        "pose": (chosen.rotmats - truth.rotmats[:, None]).square().mean((2, 3, 4)).sum(1),
        "betas": (chosen.betas - truth.betas[:, None]).square().mean(2).sum(1),
        "vertices": (chosen.vertices - truth.vertices[:, None]).abs().mean((2, 3)).sum(1),
        "reprojection_best": _keypoint_error(chosen, target).sum(1),
        "reprojection_all": _keypoint_error(hyps, target).mean(1),
        "camera": torch.exp(-10 * hyps.cam[..., 0]).square().mean(1),
    }
    return terms, best


def _joint_error(points: torch.Tensor, target: Target) -> torch.Tensor:
    """(B, M): confidence times squared distance, the mean of 72 numbers."""
    square = (points[:, :, -24:] - target.joints3d[:, None]).square()
    return (target.joints3d_confidence[:, None, :, None] * square).mean((2, 3))


def _keypoint_error(hyps: Bodies, target: Target) -> torch.Tensor:
    """(B, M): weight times confidence times squared distance in the crop, the mean of 98 numbers."""
    scale, place = hyps.cam[..., :1], hyps.cam[..., 1:]
    depth = 2 * _FOCAL_PX / (_CROP_PX * scale + 1e-9)
    points = hyps.points + hyps.midhip + torch.cat([place, depth], dim=-1)[..., None, :]
    projected = _FOCAL_PX * points[..., :2] / points[..., 2:] / (_CROP_PX / 2)
    weight = torch.cat([torch.zeros(25), torch.ones(24)]) * target.confidence
    return (weight[:, None, :, None] * (projected - target.keypoints[:, None]).square()).mean((2, 3))


class Step:
    """A training step that changes its own parameters each time it is called.

    Attributes:
      network, flow: tensors by the names of the authors' checkpoints; those that learn require a gradient.
    """

    def __init__(
        self,
        program: Program,
        network: Mapping[str, np.ndarray],
        flow: Mapping[str, np.ndarray],
        files: body_files.BodyFiles,
        batch: int,
        size: int,
        device: str = "cpu",
        precision: str = "float32",
    ):
        """Prepares tensors and a random batch.

        Args:
          program: a value of `PROGRAMS`.
          network, flow: tensors of their checkpoint, which are copied; without `extras` the dead ones may be missing.
          files: the body.
          batch: examples.
          size: of the crop, pixels.
          device: `cpu` or `cuda`, which becomes PyTorch's default.
          precision: `float32`, with TF32 on a GPU, or `bfloat16`, by autocast, of the convolutions.
        """
        torch_programs.use(device)
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        self.program, self.device, self.precision = program, device, precision
        self.network, self.flow = (
            {name: torch.from_numpy(x).to(device, copy=True) for name, x in tensors.items()}
            for tensors in (network, flow)
        )
        self.body = torch_programs.Body(files)
        for name, tensor in self.network.items():
            own = name.startswith(_TRAINED_AS_RELEASED) or not program.frozen
            tensor.requires_grad_(own and not name.endswith(_NO_PARAMETERS))
        for name, tensor in self.flow.items():
            tensor.requires_grad_(program.extras and not name.endswith(_NO_PARAMETERS))
        trained = [x for x in (*self.network.values(), *self.flow.values()) if x.requires_grad]
        self._optimizer = torch.optim.Adam(trained, lr=_LEARNING_RATE, weight_decay=_L2)
        self._image = torch.randn(batch, 3, size, size)
        self._pose, self._betas = 0.2 * torch.randn(batch, 24, 3), torch.randn(batch, 10)
        annotated = 1.0 * (torch.arange(batch)[:, None].expand(-1, 24) % 2)
        joints3d = 0.3 * torch.randn(batch, 24, 3)
        self._joints = joints3d - torch_programs.midhip(joints3d), annotated
        self._keypoints = 0.3 * torch.randn(batch, 49, 2), 1.0 * (torch.rand(batch, 49) < 0.8)

    def __call__(self) -> Tensors:
        """Forward pass, losses, gradient, update; the terms (B,) before weighting, and the loss."""
        self._optimizer.zero_grad()
        target, upright = self.targets()
        terms, _ = losses(self.forward(), target)
        if self.program.extras:
            terms["prior"] = -self._log_prob(upright)
        loss = sum((WEIGHTS[name] * term for name, term in terms.items() if WEIGHTS[name]), torch.zeros(())).mean()
        loss.backward()
        self._optimizer.step()
        return {name: term.detach() for name, term in terms.items()} | {"loss": loss.detach()}

    @torch.no_grad()
    def targets(self) -> tuple[Target, torch.Tensor]:
        """What the batch is compared with, and the truth's joints without the root (B, 72), which the flow learns."""
        rotmats = torch_programs.axis_angle_to_matrix(self._pose)
        truth = self._bodies(rotmats, self._betas, torch.zeros(len(rotmats), 3))
        return Target(truth, *self._joints, *self._keypoints), self._upright(rotmats, self._betas)

    def forward(self) -> Bodies:
        """M bodies of every example, in training: batch statistics, which move the running ones, and dropout."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bfloat16"):
            spin, features = self._features()
        state, rotmats, angles = self._regress(features.float())
        if spin is not None:
            self._decode_dead_slot(spin.float(), features.float(), state, angles)
        local = torch_programs.axis_angle_to_matrix(angles[:, :, 1:])
        posed = torch.cat([rotmats[:, :, :1], local], dim=2).flatten(0, 1)
        betas, cam = state[..., 144:154].flatten(0, 1), state[..., 154:].flatten(0, 1)
        if self.program.extras:
            with torch.no_grad():
                self._log_prob(self._upright(posed, betas))
        hyps = self._bodies(posed, betas, cam)
        by_name = {f.name: getattr(hyps, f.name).unflatten(0, state.shape[:2]) for f in dataclasses.fields(hyps)}
        return Bodies(**by_name | {"rotmats": rotmats})

    def _features(self) -> tuple[torch.Tensor | None, torch.Tensor]:
        """SPIN's own feature (B, 1, C), None without extras, and those of the hypotheses (B, M, C)."""
        x = torch_programs.conv_norm(self.network, "conv1", "bn1", self._image, 2, 3, train=True).relu_()
        x = F.max_pool2d(x, 3, 2, 1)
        for name in ("layer1", "layer2", "layer3"):
            x = torch_programs.stage(self.network, name, x, train=True)
        spin = None
        if self.program.extras:
            with torch.no_grad():
                spin = torch_programs.stage(self.network, "layer4", x, train=True).mean((2, 3))[:, None]
        modes = torch_programs.stage(self.network, "layer5", x, train=True)
        width = len(self.network["layer5.0.conv3.weight"])
        return spin, F.avg_pool2d(modes, modes.shape[-2:]).reshape(len(x), -1, width)

    def _regress(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States (B, M, 157), rotations (B, M, 24, 3, 3) and their axis-angles, one slot after the other."""
        slots = [torch_programs.regress(self.network, feature, _DROPOUT) for feature in features.unbind(1)]
        state = torch.stack(slots, dim=1)
        rotmats = torch_programs.rot6d_to_matrix(state[..., :144].unflatten(-1, (24, 6)))
        return state, rotmats, torch_programs.matrix_to_axis_angle(rotmats)

    @torch.no_grad()
    def _decode_dead_slot(
        self, spin: torch.Tensor, features: torch.Tensor, state: torch.Tensor, angles: torch.Tensor
    ) -> None:
        """SPIN's own body, and from all slots the parameters of a conditional flow; nothing reads either."""
        own_state, _, own_angles = self._regress(spin)
        features, angles = torch.cat([spin, features], dim=1), torch.cat([own_angles, angles], dim=1)
        betas = torch.cat([own_state, state], dim=1)[..., 144:154]
        torch_programs.decode_flow(self.network, features, angles, betas)

    def _bodies(self, rotmats: torch.Tensor, betas: torch.Tensor, cam: torch.Tensor) -> Bodies:
        vertices = self.body.vertices(rotmats, betas)
        points = self.body.regressor @ vertices
        midhip = torch_programs.midhip(points)
        return Bodies(rotmats, betas, cam, points - midhip, midhip, vertices - midhip)

    def _upright(self, rotmats: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        """J24 (N, 72) of bodies whose root does not turn, metres, mid-hip centred."""
        root = torch.eye(3).expand(len(rotmats), 1, 3, 3)
        return self.body(torch.cat([root, rotmats[:, 1:]], dim=1), betas, self.body.regressor)[:, -24:].flatten(1)

    def _log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return torch_programs.log_prob(self.flow, x, masked=True, dropout=_FLOW_DROPOUT)
