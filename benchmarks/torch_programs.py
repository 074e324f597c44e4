"""The released network's inference as two PyTorch programs, for `benchmarks.released` to compare with.

`as_released` has the structure of the authors' code (from its description, not from its text): convolutions with their
batch norms, all modes from one convolution, a Python loop over slots and iterations, the dead branches computed (SPIN's
layer4 for slot 0, the conditional flow's decoder), rotations through axis-angles and back, and the body built twice, with
the predicted root and without, on the vertices that joints are regressed from. `live` is what of it reaches the result,
written well: batch norms folded, channels last, no loop but over modes where it saves memory, one regressor for all, one
body without a mesh but those vertices. Both read tensors by the names of the authors' checkpoints.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from multibodies_jax.body import body_files
from multibodies_jax.geometry import joints
from multibodies_jax.models import resnet


def exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates what stays float32 where the trunk is bfloat16."""
    return torch.autocast("cuda", enabled=False)(torch.autocast("cpu", enabled=False)(function))


Tensors = Mapping[str, torch.Tensor]
Pass = dict[str, torch.Tensor]
_BLOCKS = {"layer1": (3, 1), "layer2": (4, 2), "layer3": (6, 2), "layer4": (3, 2), "layer5": (3, 2)}
_ITERATIONS, _LLOYD_STEPS = 3, 30


class Body:
    """SMPL on the vertices that any of the points is regressed from, with 24 joints of the posed vertices."""

    def __init__(self, files: body_files.BodyFiles):
        ids, smpl = files.regressed_vertices, files.smpl
        v_template, shapedirs, posedirs, weights = (
            torch.tensor(np.asarray(x)[ids]) for x in (smpl.v_template, smpl.shapedirs, smpl.posedirs, smpl.weights)
        )
        self.v_template, self.shapedirs, self.weights = v_template, shapedirs, weights
        self.posedirs = posedirs.reshape(-1, posedirs.shape[-1]).T.contiguous()
        self.rest, self.rest_shape = (torch.tensor(np.asarray(x)) for x in (smpl.J_template, smpl.J_shapedirs))
        self.regressor = torch.tensor(np.asarray(files.j49_regressor)[:, ids])
        self.j24 = self.regressor[-24:].contiguous()
        self.parents = smpl.parents

    @exact
    def __call__(self, rotmats: torch.Tensor, betas: torch.Tensor, regressor: torch.Tensor) -> torch.Tensor:
        """Joints (N, X, 3) of bodies with rotations (N, 24, 3, 3), mid-hip centred; the last 24 of X are J24."""
        points = regressor @ self.vertices(rotmats, betas)
        return points - midhip(points)

    @exact
    def vertices(self, rotmats: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        """Posed vertices (N, V, 3), metres, in the body's own frame."""
        n = len(rotmats)
        verts = self.v_template + torch.einsum("vas,ns->nva", self.shapedirs, betas)
        rest = self.rest + torch.einsum("jas,ns->nja", self.rest_shape, betas)
        verts = verts + ((rotmats[:, 1:] - torch.eye(3)).reshape(n, -1) @ self.posedirs).reshape(n, -1, 3)
        A = self._transforms(rotmats, rest)
        T = (self.weights @ A.reshape(n, 24, 12)).reshape(n, -1, 3, 4)
        return (T[..., :3] @ verts[..., None])[..., 0] + T[..., 3]

    def _transforms(self, rotmats: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """Rest pose to posed body, (N, 24, 3, 4)."""
        local = F.pad(rotmats, (0, 1, 0, 1))
        parents = list(self.parents[1:])
        local[..., :3, 3] = torch.cat([rest[:, :1], rest[:, 1:] - rest[:, parents]], dim=1)
        local[..., 3, 3] = 1
        chain = [local[:, 0]]
        for joint, parent in enumerate(parents, start=1):
            chain.append(chain[parent] @ local[:, joint])
        world = torch.stack(chain, dim=1)[..., :3, :]
        moved = world[..., 3:] - world[..., :3] @ rest[..., None]
        return torch.cat([world[..., :3], moved], dim=-1)


def midhip(points: torch.Tensor) -> torch.Tensor:
    """(N, 1, 3) of points (N, X, 3) of which the last 24 are J24."""
    hips = points[:, [points.shape[1] - 24 + joint for joint in joints.MIDHIP_J24]]
    return hips.mean(dim=1, keepdim=True)


def as_released(
    network: Tensors, flow: Tensors, body: Body, image: torch.Tensor, n: int, first_rows: torch.Tensor
) -> Pass:
    """The authors' structure: crops (B, S, S, 3) of bytes to n bodies each.

    Args:
      network, flow: tensors of their checkpoint.
      body: with SPIN's 49 points.
      image: crops.
      n: representatives.
      first_rows: (B, n - 1), the hypotheses but the first, from 0, at which K-means starts.
    """
    x = normalized(image)
    x = conv_norm(network, "conv1", "bn1", x, 2, 3).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for name in ("layer1", "layer2", "layer3"):
        x = stage(network, name, x)
    spin = stage(network, "layer4", x).mean((2, 3))
    modes = stage(network, "layer5", x)
    modes = F.avg_pool2d(modes, modes.shape[-2:]).reshape(len(x), -1, 2048)
    features = [feature.float() for feature in (spin, *modes.unbind(1))]
    state = torch.stack([regress(network, feature) for feature in features], dim=1)
    rotmats = rot6d_to_matrix(state[..., :144].reshape(*state.shape[:2], 24, 6))
    angles = matrix_to_axis_angle(rotmats)
    decode_flow(network, torch.stack(features, dim=1), angles, state[..., 144:154])
    state, angles, rotmats = state[:, 1:], angles[:, 1:], rotmats[:, 1:]
    betas, root = state[..., 144:154].reshape(-1, 10), rotmats[:, :, :1].reshape(-1, 1, 3, 3)
    local = axis_angle_to_matrix(angles[:, :, 1:]).reshape(-1, 23, 3, 3)
    turned = body(torch.cat([root, local], dim=1), betas, body.regressor)[:, -24:]
    upright = torch.cat([torch.eye(3).expand_as(root), local], dim=1)
    prior = log_prob(flow, body(upright, betas, body.regressor)[:, -24:].reshape(-1, 72), masked=True)
    return _result(state, turned, prior, n, first_rows)


def live(network: Tensors, flow: Tensors, body: Body, image: torch.Tensor, n: int, first_rows: torch.Tensor) -> Pass:
    """What of it is alive: arguments as for `as_released`, but `network` from `folded`."""
    x = normalized(image).contiguous(memory_format=torch.channels_last)
    x = F.max_pool2d(F.conv2d(x, network["conv1.weight"], network["bn1.bias"], 2, 3).relu_(), 3, 2, 1)
    for stage in ("layer1", "layer2", "layer3"):
        for block in range(_BLOCKS[stage][0]):
            x = _folded_block(network, f"{stage}.{block}", x, _stride(stage, block))
    for block in range(2):
        x = _folded_block(network, f"layer5.{block}", x, _stride("layer5", block))
    features = _folded_modes(network, x).float()
    state = _regress_all(network, features)
    rotmats = rot6d_to_matrix(state[..., :144].reshape(-1, 24, 6))
    turned = body(rotmats, state[..., 144:154].reshape(-1, 10), body.j24)
    upright = turned @ rotmats[:, 0]  # The regressor's rows sum to 1: no second body.
    return _result(state, turned, log_prob(flow, upright.reshape(-1, 72)), n, first_rows)


def folded(network: Tensors) -> dict[str, torch.Tensor]:
    """The live tensors of a network with batch norms in the convolutions, and the modes' last kernel by mode."""
    tensors = {k: v for k, v in network.items() if k.startswith(("fc1", "fc2", "dec", "init"))}
    for name in [k for k in network if k.endswith("running_var") and not k.startswith("layer4")]:
        norm = name.removesuffix(".running_var")
        conv = norm.replace("downsample.1", "downsample.0").replace("bn", "conv")
        factor = network[f"{norm}.weight"] / (network[name] + resnet.EPSILON).sqrt()
        kernel = network[f"{conv}.weight"] * factor[:, None, None, None]
        tensors[f"{conv}.weight"] = kernel.contiguous(memory_format=torch.channels_last)
        tensors[f"{norm}.bias"] = network[f"{norm}.bias"] - network[f"{norm}.running_mean"] * factor
    last = tensors["layer5.2.conv3.weight"].reshape(-1, 2048, 512)
    tensors["layer5.2.conv3.weight"] = last.transpose(1, 2).contiguous()
    tensors["layer5.2.bn3.bias"] = tensors["layer5.2.bn3.bias"].reshape(-1, 2048)
    return tensors


def normalized(image: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(resnet.IMAGENET_MEAN), torch.tensor(resnet.IMAGENET_STD)
    return ((image.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def _stride(stage: str, block: int) -> int:
    return _BLOCKS[stage][1] if block == 0 else 1


def conv_norm(
    t: Tensors, conv: str, norm: str, x: torch.Tensor, stride: int = 1, pad: int = 0, train: bool = False
) -> torch.Tensor:
    """A convolution and its batch norm, in training with the statistics of the batch, which move the running ones."""
    mean, var, weight, bias = (t[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    x = F.conv2d(x, t[f"{conv}.weight"], None, stride, pad)
    return F.batch_norm(x, mean, var, weight, bias, training=train, eps=resnet.EPSILON)


def stage(t: Tensors, stage: str, x: torch.Tensor, train: bool = False) -> torch.Tensor:
    """Bottlenecks; where more channels come out than the shortcut has, it is repeated for each mode."""
    for block in range(_BLOCKS[stage][0]):
        name, stride = f"{stage}.{block}", _stride(stage, block)
        y = conv_norm(t, f"{name}.conv1", f"{name}.bn1", x, train=train).relu_()
        y = conv_norm(t, f"{name}.conv2", f"{name}.bn2", y, stride, 1, train).relu_()
        y = conv_norm(t, f"{name}.conv3", f"{name}.bn3", y, train=train)
        if block == 0:
            x = conv_norm(t, f"{name}.downsample.0", f"{name}.downsample.1", x, stride, train=train)
        x = (y + x.repeat(1, y.shape[1] // x.shape[1], 1, 1)).relu_() if stage == "layer5" else (y + x).relu_()
    return x


def _folded_block(t: Tensors, name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
    y = F.conv2d(x, t[f"{name}.conv1.weight"], t[f"{name}.bn1.bias"]).relu_()
    y = F.conv2d(y, t[f"{name}.conv2.weight"], t[f"{name}.bn2.bias"], stride, 1).relu_()
    y = F.conv2d(y, t[f"{name}.conv3.weight"], t[f"{name}.bn3.bias"])
    if f"{name}.downsample.0.weight" in t:
        x = F.conv2d(x, t[f"{name}.downsample.0.weight"], t[f"{name}.downsample.1.bias"], stride)
    return y.add_(x).relu_()


def _folded_modes(t: Tensors, x: torch.Tensor) -> torch.Tensor:
    """Features (B, M, 2048), the map of one mode at a time: twice as fast as one convolution, and no large memory."""
    y = F.conv2d(x, t["layer5.2.conv1.weight"], t["layer5.2.bn1.bias"]).relu_()
    y = F.conv2d(y, t["layer5.2.conv2.weight"], t["layer5.2.bn2.bias"], 1, 1).relu_()
    y = y.permute(0, 2, 3, 1).reshape(-1, 512)
    shortcut = x.permute(0, 2, 3, 1).reshape(len(x), -1, 2048)
    kernel, bias = t["layer5.2.conv3.weight"], t["layer5.2.bn3.bias"]
    features = torch.empty(len(x), len(kernel), 2048)
    for mode in range(len(kernel)):
        z = torch.addmm(bias[mode], y, kernel[mode]).view_as(shortcut)
        features[:, mode] = z.add_(shortcut).relu_().mean(1)
    return features


def _start(t: Tensors, batch: int) -> list[torch.Tensor]:
    return [t[f"init_{name}"].expand(batch, -1) for name in ("pose", "shape", "cam")]


def _decode(t: Tensors, hidden: torch.Tensor) -> list[torch.Tensor]:
    return [F.linear(hidden, t[f"{n}.weight"], t[f"{n}.bias"]) for n in ("decpose", "decshape", "deccam")]


@exact
def regress(t: Tensors, feature: torch.Tensor, dropout: float = 0.0) -> torch.Tensor:
    """State (B, 157) of one slot, after three iterations, from its feature (B, C)."""
    state = _start(t, len(feature))
    for _ in range(_ITERATIONS):
        hidden = F.linear(torch.cat([feature, *state], dim=1), t["fc1.weight"], t["fc1.bias"])
        hidden = F.linear(F.dropout(hidden, dropout, dropout > 0), t["fc2.weight"], t["fc2.bias"])
        hidden = F.dropout(hidden, dropout, dropout > 0)
        state = [old + change for old, change in zip(state, _decode(t, hidden), strict=True)]
    return torch.cat(state, dim=1)


@exact
def _regress_all(t: Tensors, features: torch.Tensor) -> torch.Tensor:
    """States (B, M, 157); what the feature adds to the first layer is the same in every iteration."""
    flat = features.reshape(-1, 2048)
    of_feature = F.linear(flat, t["fc1.weight"][:, :2048], t["fc1.bias"])
    of_state = t["fc1.weight"][:, 2048:]
    decoder = [torch.cat([t[f"{n}.{leaf}"] for n in ("decpose", "decshape", "deccam")]) for leaf in ("weight", "bias")]
    state = torch.cat(_start(t, len(flat)), dim=1)
    for _ in range(_ITERATIONS):
        hidden = F.linear(of_feature + F.linear(state, of_state), t["fc2.weight"], t["fc2.bias"])
        state = state + F.linear(hidden, *decoder)
    return state.reshape(*features.shape[:2], -1)


@exact
def decode_flow(t: Tensors, features: torch.Tensor, angles: torch.Tensor, betas: torch.Tensor) -> list[torch.Tensor]:
    """The conditional flow's decoder, whose outputs nothing reads: every slot's feature, pose and shape at once."""
    all_of_them = torch.cat([features, angles.flatten(2), betas], dim=2).flatten(1)
    parts = [torch.zeros(len(features), 1380) for _ in range(2)]
    for _ in range(_ITERATIONS):
        hidden = F.linear(torch.cat([all_of_them, *parts], dim=1), t["fc3.weight"], t["fc3.bias"])
        hidden = F.linear(hidden, t["fc4.weight"], t["fc4.bias"])
        names = ("decflow_mu", "decflow_logsigma")
        parts = [p + F.linear(hidden, t[f"{n}.weight"], t[f"{n}.bias"]) for p, n in zip(parts, names, strict=True)]
    return parts


def rot6d_to_matrix(x: torch.Tensor) -> torch.Tensor:
    """Rotations (..., 3, 3) from six numbers (..., 6), columns interleaved."""
    x = x.reshape(*x.shape[:-1], 3, 2)
    first = F.normalize(x[..., 0], dim=-1)
    second = F.normalize(x[..., 1] - (first * x[..., 1]).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def matrix_to_axis_angle(R: torch.Tensor) -> torch.Tensor:
    """Axis-angles (..., 3) of rotations (..., 3, 3), through the quaternion: of four forms the one with the largest root."""
    d = R.diagonal(dim1=-2, dim2=-1)
    signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    square = 1 + d @ signs.T  # 4 w^2, 4 x^2, 4 y^2, 4 z^2
    a, b = R - R.mT, R + R.mT
    wx, wy, wz, xy, xz, yz = a[..., 2, 1], a[..., 0, 2], a[..., 1, 0], b[..., 0, 1], b[..., 0, 2], b[..., 1, 2]
    w, x, y, z = square.unbind(-1)
    forms = [(w, wx, wy, wz), (wx, x, xy, xz), (wy, xy, y, yz), (wz, xz, yz, z)]
    forms = torch.stack([torch.stack(form, dim=-1) for form in forms], dim=-2)
    q = F.normalize(forms.take_along_dim(square.argmax(-1)[..., None, None], dim=-2)[..., 0, :], dim=-1)
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    return q[..., 1:] * torch.where(sine > 0, 2 * torch.atan2(sine, q[..., :1]) / sine.clamp(min=1e-30), 2.0)


def axis_angle_to_matrix(v: torch.Tensor) -> torch.Tensor:
    """Rotations (..., 3, 3) of axis-angles (..., 3), through the quaternion, as theirs."""
    angle = (v + 1e-8).norm(dim=-1, keepdim=True)
    w, xyz = (angle / 2).cos(), (angle / 2).sin() * v / angle
    w, x, y, z = F.normalize(torch.cat([w, xyz], dim=-1), dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (w * y + x * z)),
        (2 * (w * z + x * y), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


@exact
def log_prob(t: Tensors, x: torch.Tensor, masked: bool = False, dropout: float = 0.0) -> torch.Tensor:
    """Log-density (N,) of the RealNVP at x (N, 72); `masked`: the networks' outputs are masked one by one, as theirs."""
    masks, log_det = t["mask"], torch.zeros(len(x))
    for layer in reversed(range(len(masks))):
        kept, other = masks[layer], 1 - masks[layer]
        scale, shift = (_mlp(t, f"{net}.{layer}", kept * x, dropout) for net in ("s", "t"))
        scale = torch.tanh(scale)
        if masked:
            scale, shift = scale * other, shift * other
            x, log_det = kept * x + other * (x - shift) * torch.exp(-scale), log_det - scale.sum(1)
        else:
            x, log_det = torch.where(kept > 0, x, (x - shift) * torch.exp(-scale)), log_det - scale @ other
    return log_det - 0.5 * (x * x).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)


def _mlp(t: Tensors, name: str, x: torch.Tensor, dropout: float) -> torch.Tensor:
    for place in (0, 3):
        x = F.linear(x, t[f"{name}.{place}.weight"], t[f"{name}.{place}.bias"])
        x = F.leaky_relu(F.dropout(x, dropout, dropout > 0), 0.01)
    return F.linear(x, t[f"{name}.6.weight"], t[f"{name}.6.bias"])


@exact
def _result(
    state: torch.Tensor, points: torch.Tensor, log_prior: torch.Tensor, n: int, first_rows: torch.Tensor
) -> Pass:
    """Hypothesis 0 and n - 1 medoids of the others: their joints and states, and what they were chosen from."""
    batch, modes = state.shape[:2]
    points, log_prior = points.reshape(batch, modes, 72), log_prior.reshape(batch, modes)
    medoids = _medoids(points[:, 1:], log_prior[:, 1:], first_rows)
    ids = torch.cat([torch.zeros(batch, 1, dtype=torch.int64), medoids + 1], dim=1)
    chosen = {"joints": points.gather(1, ids[..., None].expand(-1, -1, 72)).reshape(batch, n, 24, 3)}
    chosen["state"] = state.gather(1, ids[..., None].expand(-1, -1, state.shape[-1]))
    return chosen | {"ids": ids, "log_prior": log_prior, "states": state}


def _medoids(points: torch.Tensor, log_weights: torch.Tensor, first_rows: torch.Tensor) -> torch.Tensor:
    """Weighted Lloyd steps of all images at once, until none changes, and the point nearest to each centroid."""
    clusters = torch.arange(first_rows.shape[1])
    log_weights = log_weights - log_weights.max(1, keepdim=True).values
    centroids = points.gather(1, first_rows[..., None].expand(-1, -1, points.shape[-1]))
    before = None
    for _ in range(_LLOYD_STEPS):
        nearest = torch.cdist(points, centroids).argmin(2)
        if before is not None and torch.equal(nearest, before):
            break
        own = nearest[..., None] == clusters
        level = torch.where(own, log_weights[..., None], -torch.inf)
        share = torch.nan_to_num(level.softmax(1))  # Of an empty cluster: nothing, and it stays.
        centroids = torch.where(own.any(1)[..., None], share.mT @ points, centroids)
        before = nearest
    return torch.cdist(points, centroids).argmin(1)


PROGRAMS: dict[str, Callable[..., Pass]] = {"as released": as_released, "live path": live}


def use(device: str) -> None:
    """Makes `cpu` or `cuda` PyTorch's default device, with TF32 for products of float32."""
    torch.set_default_device(device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def prepare(
    name: str,
    network: Mapping[str, np.ndarray],
    flow: Mapping[str, np.ndarray],
    files: body_files.BodyFiles,
    device: str = "cpu",
    precision: str = "float32",
) -> Callable[[np.ndarray, int, np.ndarray], dict[str, Any]]:
    """One of `PROGRAMS` with its tensors: (crops, n, first rows) -> NumPy arrays by name.

    Args:
      name: of the program.
      network, flow: tensors of their checkpoint.
      files: the body.
      device: `cpu` or `cuda`, which becomes PyTorch's default.
      precision: `float32`, with TF32 on a GPU, or `bfloat16`, by autocast; the flow and K-means stay float32.
    """
    use(device)
    tensors = {key: torch.from_numpy(value).to(device) for key, value in network.items()}
    tensors = folded(tensors) if name == "live path" else tensors
    density, body = {key: torch.from_numpy(value).to(device) for key, value in flow.items()}, Body(files)

    @torch.inference_mode()
    def run(image: np.ndarray, n: int, first_rows: np.ndarray) -> dict[str, Any]:
        rows = torch.from_numpy(np.asarray(first_rows, np.int64)).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            found = PROGRAMS[name](tensors, density, body, torch.from_numpy(image).to(device), n, rows)
        return {key: value.cpu().numpy() for key, value in found.items()}

    return run
