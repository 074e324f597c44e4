"""GraphCMR's forward pass as two PyTorch programs, for `benchmarks.graphcmr` to compare with.

Both are written from the description of the network (Kolotouros et al., CVPR 2019), read tensors by the names of the
published checkpoints and multiply the mesh with matrices: `dense` with dense ones and SVDs of all matrices at once, `sparse`
as the authors' code is described, one sparse product for each sample and one SVD for each matrix.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import torch_programs

Tensors = Mapping[str, torch.Tensor]
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_EPSILON = 1e-5


def dense_product(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A matrix (V, N) times the vertices of every sample (B, N, C)."""
    return matrix @ x


def sparse_product(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The same, with a sparse matrix and one sample after the other."""
    return torch.stack([torch.sparse.mm(matrix, one) for one in x])


def to_rotations(matrices: torch.Tensor) -> torch.Tensor:
    """det(U V^T) U V^T of all matrices at once."""
    u, _, vt = torch.linalg.svd(matrices)
    return torch.det(u @ vt)[..., None, None] * (u @ vt)


def to_rotations_one_by_one(matrices: torch.Tensor) -> torch.Tensor:
    """The same, matrix after matrix."""
    flat = [to_rotations(one) for one in matrices.reshape(-1, 3, 3)]
    return torch.stack(flat).reshape(matrices.shape)


PROGRAMS: dict[str, tuple[Product, Callable[[torch.Tensor], torch.Tensor]]] = {
    "dense": (dense_product, to_rotations),
    "sparse": (sparse_product, to_rotations_one_by_one),
}


def trunk(t: Tensors, image: torch.Tensor) -> torch.Tensor:
    """Features (B, 2048) of crops of bytes (B, S, S, 3)."""
    x = torch_programs.normalized(image)
    x = torch_programs.conv_norm(t, "conv1", "bn1", x, 2, 3).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x = torch_programs.stage(t, name, x)
    return x.mean((2, 3))


def graph(
    t: Tensors, feature: torch.Tensor, template: torch.Tensor, adjacency: torch.Tensor, product: Product
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices of the coarse mesh (B, N, 3) and cameras (B, 3)."""
    batch, size = len(feature), len(template)
    x = torch.cat([template.expand(batch, -1, -1), feature[:, None].expand(-1, size, -1)], dim=2)
    x = _linear(t, "gc.0", x)
    blocks = sorted({name.split(".")[1] for name in t if name.startswith("gc.")} - {"0"}, key=int)
    for block in blocks:
        x = _block(t, f"gc.{block}", x, adjacency, product)
    y = _block(t, "shape.1", _block(t, "shape.0", x, adjacency, product), adjacency, product)
    vertices = _linear(t, "shape.4", _norm(t, "shape.2", y).relu())
    one = _linear(t, "camera_fc.2", _norm(t, "camera_fc.0", x).relu()).relu()[..., 0]
    return vertices, F.linear(one, t["camera_fc.4.weight"], t["camera_fc.4.bias"])


def regress(
    t: Tensors, vertices: torch.Tensor, template: torch.Tensor, rotations: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """SMPL's rotations (B, 24, 3, 3) and shape (B, 10)."""
    x = torch.cat([vertices, template.expand(len(vertices), -1, -1)], dim=2).flatten(1)
    x = _hidden(t, "layers.0.fc_block", 0, x).relu()
    for layer in ("layers.1.fc_block", "layers.2.fc_block"):
        x = (x + _hidden(t, layer, 3, _hidden(t, layer, 0, x).relu())).relu()
    out = F.linear(x, t["layers.3.weight"], t["layers.3.bias"])
    return rotations(out[:, :216].reshape(-1, 24, 3, 3)), out[:, 216:]


def _hidden(t: Tensors, name: str, place: int, x: torch.Tensor) -> torch.Tensor:
    x = F.linear(x, t[f"{name}.{place}.weight"], t[f"{name}.{place}.bias"])
    mean, var, weight, bias = (
        t[f"{name}.{place + 1}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, weight, bias, eps=_EPSILON)


def _linear(t: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, t[f"{name}.W"], t[f"{name}.b"])


def _norm(t: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    channels = x.shape[2]
    y = F.group_norm(x.mT, max(1, channels // 8), t[f"{name}.weight"], t[f"{name}.bias"], _EPSILON)
    return y.mT


def _block(t: Tensors, name: str, x: torch.Tensor, adjacency: torch.Tensor, product: Product) -> torch.Tensor:
    y = _linear(t, f"{name}.lin1", _norm(t, f"{name}.pre_norm", x).relu())
    y = product(adjacency, _norm(t, f"{name}.norm1", y).relu() @ t[f"{name}.conv.weight"]) + t[f"{name}.conv.bias"]
    y = _linear(t, f"{name}.lin2", _norm(t, f"{name}.norm2", y).relu())
    return y + (x if x.shape[2] == y.shape[2] else _linear(t, f"{name}.skip_conv", x))


def prepare(
    program: str,
    graph_cnn: Mapping[str, np.ndarray],
    regressor: Mapping[str, np.ndarray],
    adjacency: np.ndarray,
    upsampling: np.ndarray,
    template: np.ndarray,
) -> Callable[[np.ndarray], dict[str, Any]]:
    """One of `PROGRAMS` with its tensors: crops (B, S, S, 3), or features (B, 2048), -> NumPy arrays by name.

    Args:
      program: its name.
      graph_cnn, regressor: tensors of the two networks, by their names.
      adjacency: (N, N), of which every row sums to 1.
      upsampling: (V, N).
      template: (N, 3).
    """
    product, rotations = PROGRAMS[program]
    network, head = ({name: torch.from_numpy(x) for name, x in part.items()} for part in (graph_cnn, regressor))
    resnet = {name.removeprefix("resnet."): x for name, x in network.items() if name.startswith("resnet.")}
    matrices = [torch.from_numpy(x.astype(np.float32)) for x in (adjacency, upsampling)]
    if program == "sparse":
        matrices = [x.to_sparse_coo().coalesce() for x in matrices]
    rest = torch.from_numpy(template)

    @torch.inference_mode()
    def run(given: np.ndarray) -> dict[str, Any]:
        read = torch.from_numpy(given)
        feature = read if given.ndim == 2 else trunk(resnet, read)
        coarse, cam = graph(network, feature, rest, matrices[0], product)
        rotmats, betas = regress(head, coarse, rest, rotations)
        found = {"vertices": product(matrices[1], coarse), "cam": cam, "rotmats": rotmats, "betas": betas}
        return {name: value.numpy() for name, value in found.items()}

    return run
