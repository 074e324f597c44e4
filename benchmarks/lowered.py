r"""How large the program of a training step is that XLA has to compile for a GPU, which is not needed.

    python -m benchmarks.lowered [--compile]

Counts what the steps of configs/demo.py and configs/multibodies.py (ResNet-50 at 224 pixels, M = 100, batch 64) are lowered
to: instructions, products, how many of those read arrays of 3 x 3 matrices, convolutions, bodies of loops, and the bytes of
arrays that are a part of the program. Compiling takes longer the more there are of each; products and convolutions are tuned
one by one on a GPU. In both the people of a batch are drawn and seen by virtual cameras in the step, as the demo trains; the
images of the second, which it reads, are noise. Prints a table, and a JSON line for each step.

With --compile each step is compiled as well, for an H100 that need not be there, as in `benchmarks.launches` (JAX's CUDA
plugin, without autotuning): kernels that a step starts, and the seconds of this machine for tracing and for compiling,
which uses all its cores. On a GPU autotuning comes on top.
"""

import argparse
import collections
import dataclasses
import pathlib
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import figures, launches
from configs import demo, multibodies
from multibodies_jax.batch import Batch
from multibodies_jax.training import loop, plan, setup, training_data

STEPS: Mapping[str, tuple[Any, int]] = {
    "demo, stage one": (demo, 0),
    "demo, M = 100": (demo, 1),
    "multibodies, M = 100": (multibodies, 1),
}
"""Config and place of the stage in its training."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Counts of a lowered program.

    Attributes:
      instructions: all of them, constants included.
      products: of matrices.
      small: those that read an array of 3 x 3 matrices.
      convolutions: in both directions.
      loops: bodies of them.
      constant_bytes: of arrays with different elements, all together.
      largest_bytes: of the largest of them.
    """

    instructions: int
    products: int
    small: int
    convolutions: int
    loops: int
    constant_bytes: int
    largest_bytes: int


def step(module: Any, place: int, device: Any = None) -> tuple[Any, tuple]:
    """A training step, jitted, and the shapes of its arguments.

    Args:
      module: of the config.
      place: of the stage in the training.
      device: which it is for; None is the first one here.
    """
    config = module.get_config()
    config.data.sets = None
    bodies = setup.load_bodies(config)
    stage = loop.stages(config, pathlib.Path("runs/none"))[place]
    data = training_data.virtual(
        config, bodies, stage.batch, np.zeros((1000, 24, 3), np.float32), np.zeros((1000, 10), np.float32)
    )
    example, side = data.example, config.model.crop_size

    def with_noise(people: Any, key: jax.Array) -> Batch:
        image = jax.random.bits(key, (stage.batch, side, side, 3), jnp.uint8)
        batch = data.prepare(people, key)
        return dataclasses.replace(batch, inputs=dataclasses.replace(batch.inputs, image=image))

    prepare = data.prepare
    if config.model.trunk != "keypoints":
        prepare = with_noise
        example = dataclasses.replace(example, image=jnp.zeros((2, side, side, 3), jnp.uint8))
    function, arguments = plan.traceable_step(config, bodies, stage, example, data.resident, prepare, device)
    return jax.jit(function, donate_argnums=0), arguments


def lowered(module: Any, place: int) -> str:
    """The text of a training step, lowered for a GPU; `module` and `place` as for `step`."""
    function, arguments = step(module, place)
    return function.trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What compiling a step for a GPU takes.

    Attributes:
      kernels: that a step starts; a loop that does not know how often it runs counts once.
      traced: seconds until it is lowered.
      compiled: seconds from there.
    """

    kernels: int
    traced: float
    compiled: float


def compile_step(module: Any, place: int) -> Compiled:
    """Compiles a training step for an H100 that need not be there; `module` and `place` as for `step`."""
    device = launches.device()
    function, arguments = step(module, place, device)
    where = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), arguments)
    start = time.perf_counter()
    program = function.lower(*shapes)
    traced = time.perf_counter()
    text = program.compile(launches.OPTIONS).as_text()
    return Compiled(launches.count(text, 1).kernels, traced - start, time.perf_counter() - traced)


def size(text: str) -> Size:
    """Counts what is in the text of a lowered program (StableHLO)."""
    kinds = collections.Counter(re.findall(r"= \"?((?:stablehlo|chlo|mhlo)\.[a-z_]+)", text))
    products = re.findall(r"stablehlo\.dot_general.*?: \((.*?)\) ->", text)
    # Small arrays are written as numbers, larger ones as the hexadecimal digits of their bytes.
    constants = [len(digits) // 2 for digits in re.findall(r'dense<"0x([0-9A-Fa-f]+)"', text)]
    return Size(
        instructions=sum(kinds.values()),
        products=len(products),
        small=sum("3x3x" in shapes for shapes in products),
        convolutions=kinds["stablehlo.convolution"],
        loops=kinds["stablehlo.while"],
        constant_bytes=sum(constants),
        largest_bytes=max(constants, default=0),
    )


def table(sizes: Mapping[str, Size]) -> str:
    """The sizes in Markdown, one row for each step."""
    lines = ["| step | instructions | products | of 3 x 3 | convolutions | loops | constants, kB |", "|---" * 7 + "|"]
    for name, its in sizes.items():
        counts = its.instructions, its.products, its.small, its.convolutions, its.loops
        lines.append(f"| {name} | {' | '.join(map(str, counts))} | {its.constant_bytes / 1e3:.1f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lowered", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compile", action="store_true", help="for an H100 that need not be there, too")
    args = parser.parse_args(argv)
    if args.compile and not launches.can_compile():
        return 2
    sizes = {name: size(lowered(module, place)) for name, (module, place) in STEPS.items()}
    print(table(sizes) + "\n")
    for name, its in sizes.items():
        measured = {"instructions": its.instructions, "products": its.products, "of 3 x 3 matrices": its.small}
        measured |= {"convolutions": its.convolutions, "loops": its.loops, "constants, kB": its.constant_bytes / 1e3}
        figures.tell("lowered", "batch 64", name, measured)
    if args.compile:
        compiled: dict[str, dict[str, float]] = {}
        print("\n| step | kernels | traced in, s | compiled in, s |\n" + "|---" * 4 + "|")
        for name, (module, place) in STEPS.items():
            its = compile_step(module, place)
            print(f"| {name} | {its.kernels} | {its.traced:.1f} | {its.compiled:.1f} |", flush=True)
            compiled[name] = {"kernels": its.kernels, "traced in, s": its.traced, "compiled in, s": its.compiled}
        for name, measured in compiled.items():
            figures.tell("lowered", "batch 64", name, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
