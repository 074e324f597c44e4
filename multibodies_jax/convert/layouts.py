"""What the peers' checkpoints contain: every tensor's name and shape, in their order, and where it goes.

Names are those of a bare network: `placing.bare_names` has taken prefixes away. Sizes are the released ones; only M and the
flow's depth and width differ between files, and are read from shapes.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from multibodies_jax.hypotheses.hypotheses import STATE_SIZE

WIDTH = 64  # Channels of ResNet-50's stem; a stage's blocks put out 4, 8, 16 and 32 times as many.
HIDDEN = 1024  # Of SPIN's and GraphCMR's regressors.
CHANNELS, BLOCKS = 256, 5  # Of GraphCMR's graph.
SHAPE = (64, 32)  # Of the blocks that lead to its vertices.
_BLOCKS = (3, 4, 6, 3)
_PARTS = (("decpose", 0, 144), ("decshape", 144, 154), ("deccam", 154, STATE_SIZE))
_POSE_FEATURES, _VERTS, _FACES = 207, 6890, 13776

BATCHES_SEEN = "counts of batches: nothing reads them; kept in the manifest for converting back"
CLASSIFIER = "the classifier of ImageNet's 1000 classes: the regressor has a head of its own"
LAYER4 = "SPIN's own last stage: the authors' model computes it for a body that nothing reads"
NO_SHORTCUT = "shortcuts of blocks from which as many channels come as go in: there from the start, and never used"
DEAD_FLOW = "dead layers of a conditional flow: computed or not even called, and read by nothing"
BODY = "the body model's buffers, which are licensed: --config.body.dir gives the body"


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where one tensor of a file goes.

    Attributes:
      name: in the file.
      shape: in the file.
      target: path of the array it becomes, or becomes a part of.
      axes: transposition on the way there.
      start, stop: the columns (last axis) of the target that it fills; all of them if None.
      layer: the index on the target's leading axis, if tensors of several layers are stacked there.
    """

    name: str
    shape: tuple[int, ...]
    target: str
    axes: tuple[int, ...]
    start: int | None = None
    stop: int | None = None
    layer: int | None = None

    @property
    def index(self) -> tuple:
        """What it fills of the target."""
        return (..., slice(self.start, self.stop)) if self.layer is None else (self.layer,)

    @property
    def placed_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[axis] for axis in self.axes)


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A tensor that is knowingly left out; of one reason all are in a file, or none."""

    name: str
    shape: tuple[int, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """A kind of file: `kind` for people, its tensors in the order of the state dict."""

    kind: str
    tensors: tuple[Slot | Skipped, ...]

    @property
    def num_parameters(self) -> int:
        """Weights and biases in the file, dead ones included; statistics, masks and the mean body do not count."""
        return sum(math.prod(t.shape) for t in self.tensors if t.name.endswith((".weight", ".bias", ".W", ".b")))

    @property
    def slots(self) -> list[Slot]:
        return [tensor for tensor in self.tensors if isinstance(tensor, Slot)]

    @property
    def skipped(self) -> list[Skipped]:
        return [tensor for tensor in self.tensors if isinstance(tensor, Skipped)]


def spin() -> Layout:
    """SPIN's `model_checkpoint.pt`, under the key `model` (Kolotouros et al., 2019)."""
    return Layout("SPIN's network", (*_mean(), *_resnet(4, "trunk"), *_regressor()))


def resnet50() -> Layout:
    """torchvision's ResNet-50 for ImageNet."""
    classifier = (Skipped("fc.weight", (1000, 32 * WIDTH), CLASSIFIER), Skipped("fc.bias", (1000,), CLASSIFIER))
    return Layout("torchvision's ResNet-50", (*_resnet(4, "trunk"), *classifier))


def graph_cnn(vertices: int) -> Layout:
    """GraphCMR's network under the key `graph_cnn` (Kolotouros et al., CVPR 2019), on a coarse mesh of this many vertices."""
    classifier = (Skipped("fc.weight", (1000, 32 * WIDTH), CLASSIFIER), Skipped("fc.bias", (1000,), CLASSIFIER))
    trunk = (dataclasses.replace(t, name=f"resnet.{t.name}") for t in (*_resnet(4, "trunk"), *classifier))
    wide = 2 * CHANNELS
    graph = [*_linear("gc.0", 3 + 32 * WIDTH, wide, "gc_0"), *_block("gc.1", wide, CHANNELS, "gc_1")]
    for block in range(2, 2 + BLOCKS):
        graph += _block(f"gc.{block}", CHANNELS, CHANNELS, f"gc_{block}")
    sizes = (CHANNELS, *SHAPE)
    shape = [*_block("shape.0", *sizes[:2], "shape_0"), *_block("shape.1", *sizes[1:], "shape_1")]
    shape += [*_affine("shape.2", sizes[2], "shape_2"), *_linear("shape.4", sizes[2], 3, "shape_4")]
    camera = [*_affine("camera_fc.0", CHANNELS, "camera_0"), *_linear("camera_fc.2", CHANNELS, 1, "camera_2")]
    return Layout(
        "GraphCMR's network", (*trunk, *graph, *shape, *camera, *_dense("camera_fc.4", vertices, 3, "camera_4"))
    )


def smpl_regressor(vertices: int) -> Layout:
    """GraphCMR's network under the key `smpl_param_regressor`, on a coarse mesh of this many vertices."""
    tensors: list[Slot | Skipped] = []
    for layer, size, places in ((0, 6 * vertices, (0,)), (1, HIDDEN, (0, 3)), (2, HIDDEN, (0, 3))):
        for place in places:
            name, path = f"layers.{layer}.fc_block", f"{layer}_{place}"
            tensors += _dense(f"{name}.{place}", size, HIDDEN, f"regressor/dense_{path}")
            tensors += _norm(f"{name}.{place + 1}", HIDDEN, f"regressor/norm_{path}")
    return Layout("GraphCMR's regressor", (*tensors, *_dense("layers.3", HIDDEN, 24 * 9 + 10, "regressor/dense_3")))


def network(num_hypotheses: int) -> Layout:
    """The network of 3D-Multibodies with M hypotheses (`models.released`)."""
    modes = _stage(5, 3, 16 * WIDTH, "modes", expanded=num_hypotheses)
    alive = (*_resnet(3, "trunk"), *_skip(_stage(4, 3, 16 * WIDTH, "trunk"), LAYER4))
    before, after = _split_regressor()
    dead = _dead_layers(num_hypotheses)
    kind = f"3D-Multibodies' network, M = {num_hypotheses}"
    return Layout(kind, (*_mean(), *alive, *modes, *before, *dead[:8], *after, *dead[8:]))


def flow(layers: int, width: int) -> Layout:
    """The RealNVP of 3D-Multibodies; shift networks are called t, scale networks s."""
    slots = [Slot("mask", (layers, 72), "masks/couplings", (0, 1))]
    sizes = ((width, 72), (width, width), (72, width))
    for letter, net in (("t", "shift"), ("s", "scale")):
        for layer in range(layers):
            for place, shape in enumerate(sizes):
                name, target = f"{letter}.{layer}.{3 * place}", f"params/couplings/{net}_{place}"
                slots.append(Slot(f"{name}.weight", shape, f"{target}/kernel", (1, 0), layer=layer))
                slots.append(Slot(f"{name}.bias", shape[:1], f"{target}/bias", (0,), layer=layer))
    return Layout(f"3D-Multibodies' flow of {layers} couplings", tuple(slots))


def body() -> Layout:
    """The buffers of the body model inside 3D-Multibodies' checkpoints (`body_buffers` makes them from a body)."""
    shapes = {
        "J_regressor": (24, _VERTS),
        "weights": (_VERTS, 24),
        "posedirs": (_VERTS, 3, _POSE_FEATURES),
        "v_template": (_VERTS, 3),
        "shapedirs": (_VERTS, 3, 10),
        "faces": (_FACES, 3),
        "kintree_table": (2, 24),
        "parent": (23,),
        "J_regressor_spin": (21, _VERTS),
        "J_regressor_extra": (9, _VERTS),
        "J_regressor_h36m": (17, _VERTS),
        "mask": (_VERTS,),
        "vertex_joint_selector.extra_joints_idxs": (21,),
    }
    return Layout("the body's buffers", tuple(Skipped(name, shape, BODY) for name, shape in shapes.items()))


def _mean() -> list[Slot]:
    """The mean body and camera, from which the regressor starts: parts of `mean_state`."""
    names = ("init_pose", "init_shape", "init_cam")
    parts = [(start, stop) for _, start, stop in _PARTS]
    return [
        Slot(name, (1, stop - start), "mean_state", (0, 1), start, stop)
        for name, (start, stop) in zip(names, parts, strict=True)
    ]


def _resnet(stages: int, module: str) -> Iterator[Slot | Skipped]:
    yield _conv("conv1", (WIDTH, 3, 7, 7), f"{module}/conv1")
    yield from _norm("bn1", WIDTH, f"{module}/bn1")
    channels = WIDTH
    for stage, blocks in enumerate(_BLOCKS[:stages]):
        yield from _stage(stage + 1, blocks, channels, module)
        channels = 4 * WIDTH * 2**stage


def _stage(number: int, blocks: int, channels: int, module: str, expanded: int = 1) -> Iterator[Slot | Skipped]:
    """Bottlenecks `layer<number>`; of the last one, `expanded` times as many channels come out. Stage 5 is as wide as 4."""
    width = WIDTH * 2 ** (min(number, 4) - 1)
    for block in range(blocks):
        name, path = f"layer{number}.{block}", f"{module}/layer{number}_{block}"
        out = 4 * width * (expanded if block == blocks - 1 else 1)
        convs = (
            (width, channels if block == 0 else 4 * width, 1, 1),
            (width, width, 3, 3),
            (out, width, 1, 1),
        )
        for place, shape in enumerate(convs, start=1):
            yield _conv(f"{name}.conv{place}", shape, f"{path}/conv{place}")
            yield from _norm(f"{name}.bn{place}", shape[0], f"{path}/bn{place}")
        if block == 0:
            yield _conv(f"{name}.downsample.0", (4 * width, channels, 1, 1), f"{path}/downsample_0")
            yield from _norm(f"{name}.downsample.1", 4 * width, f"{path}/downsample_1")


def _conv(name: str, shape: tuple[int, ...], path: str) -> Slot:
    return Slot(f"{name}.weight", shape, f"params/{path}/kernel", (2, 3, 1, 0))


def _norm(name: str, channels: int, path: str) -> Iterator[Slot | Skipped]:
    yield Slot(f"{name}.weight", (channels,), f"params/{path}/scale", (0,))
    yield Slot(f"{name}.bias", (channels,), f"params/{path}/bias", (0,))
    yield Slot(f"{name}.running_mean", (channels,), f"batch_stats/{path}/mean", (0,))
    yield Slot(f"{name}.running_var", (channels,), f"batch_stats/{path}/var", (0,))
    yield Skipped(f"{name}.num_batches_tracked", (), BATCHES_SEEN)


def _linear(name: str, size: int, out: int, path: str) -> list[Slot]:
    """A layer on channels, which GraphCMR calls W and b."""
    return [
        Slot(f"{name}.W", (out, size), f"params/{path}/kernel", (1, 0)),
        Slot(f"{name}.b", (out,), f"params/{path}/bias", (0,)),
    ]


def _dense(name: str, size: int, out: int, path: str) -> list[Slot]:
    return [
        Slot(f"{name}.weight", (out, size), f"params/{path}/kernel", (1, 0)),
        Slot(f"{name}.bias", (out,), f"params/{path}/bias", (0,)),
    ]


def _affine(name: str, channels: int, path: str) -> list[Slot]:
    """A group norm, which has no statistics."""
    return [
        Slot(f"{name}.weight", (channels,), f"params/{path}/scale", (0,)),
        Slot(f"{name}.bias", (channels,), f"params/{path}/bias", (0,)),
    ]


def _block(name: str, size: int, out: int, path: str) -> list[Slot | Skipped]:
    """A residual block of the graph."""
    inner = out // 2
    shortcut: list[Any] = _linear(f"{name}.skip_conv", size, out, f"{path}/skip_conv")
    if size == out:
        shortcut = [Skipped(slot.name, slot.shape, NO_SHORTCUT) for slot in shortcut]
    return [
        *_linear(f"{name}.lin1", size, inner, f"{path}/lin1"),
        Slot(f"{name}.conv.weight", (inner, inner), f"params/{path}/conv/kernel", (0, 1)),
        Slot(f"{name}.conv.bias", (inner,), f"params/{path}/conv/bias", (0,)),
        *_linear(f"{name}.lin2", inner, out, f"{path}/lin2"),
        *shortcut,
        *_affine(f"{name}.pre_norm", size, f"{path}/pre_norm"),
        *_affine(f"{name}.norm1", inner, f"{path}/norm1"),
        *_affine(f"{name}.norm2", inner, f"{path}/norm2"),
    ]


def _regressor() -> list[Slot]:
    before, after = _split_regressor()
    return before + after


def _split_regressor() -> tuple[list[Slot], list[Slot]]:
    """The shared layers, and the decoders, which are columns of one; dead layers lie between them in the order."""
    before, after = [], []
    for layer, size in (("fc1", 32 * WIDTH + STATE_SIZE), ("fc2", HIDDEN)):
        before.append(Slot(f"{layer}.weight", (HIDDEN, size), f"params/head/{layer}/kernel", (1, 0)))
        before.append(Slot(f"{layer}.bias", (HIDDEN,), f"params/head/{layer}/bias", (0,)))
    for name, start, stop in _PARTS:
        size = stop - start
        after.append(Slot(f"{name}.weight", (size, HIDDEN), "params/head/dec/kernel", (1, 0), start, stop))
        after.append(Slot(f"{name}.bias", (size,), "params/head/dec/bias", (0,), start, stop))
    return before, after


def _dead_layers(num_hypotheses: int) -> list[Skipped]:
    features = 32 * WIDTH
    sizes = {
        "fc3": (HIDDEN, (features + 82) * (num_hypotheses + 1) + 2760),
        "fc4": (HIDDEN, HIDDEN),
        "fc5": (HIDDEN, features + 64),
        "fc6": (features, HIDDEN),
        "decflow_mu": (1380, HIDDEN),
        "decflow_logsigma": (1380, HIDDEN),
    }
    dead = []
    for name, shape in sizes.items():
        dead += [
            Skipped(f"{name}.weight", shape, DEAD_FLOW),
            Skipped(f"{name}.bias", shape[:1], DEAD_FLOW),
        ]
    return dead


def _skip(tensors: Iterator[Slot | Skipped], reason: str) -> Iterator[Skipped]:
    return (Skipped(tensor.name, tensor.shape, reason) for tensor in tensors)
