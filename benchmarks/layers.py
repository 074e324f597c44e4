r"""Where does a trunk's time go on a processor? Its layers in XLA, as convolutions and as products, and in PyTorch.

    python -m benchmarks.layers [--batch=8] [--repeats=8]

Prints GFLOP/s of one core: CPU time, which other work on the machine disturbs less, the best of the repeats, in turns. A
product is what a 1x1 convolution is; for 3x3 it multiplies gathered patches. PyTorch runs with channels first and last.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import figures, needs

LAYERS = {
    "7x7, stride 2": (7, 2, 3, 64, 224),
    "3x3, 64 channels, 56x56": (3, 1, 64, 64, 56),
    "3x3, 256 channels, 14x14": (3, 1, 256, 256, 14),
    "3x3, 512 channels, 7x7": (3, 1, 512, 512, 7),
    "1x1, 64 to 64, 56x56": (1, 1, 64, 64, 56),
    "1x1, 256 to 64, 56x56": (1, 1, 256, 64, 56),
    "1x1, 256 to 1024, 14x14": (1, 1, 256, 1024, 14),
    "1x1, 1024 to 256, 14x14": (1, 1, 1024, 256, 14),
    "1x1, 512 to 2048, 7x7": (1, 1, 512, 2048, 7),
}
"""Kernel, stride, channels that are read and made, and the side of the map that is read."""

WINOGRAD = "XLA, Winograd's"
Run = Callable[[], Any]


def programs(batch: int, kernel: int, stride: int, read: int, made: int, side: int) -> dict[str, Run]:
    """The ways to compute one layer; each call waits for its result. Their results are compared."""
    import jax
    import jax.numpy as jnp
    import torch

    from multibodies_jax.models import winograd

    rng = np.random.default_rng(0)
    image = rng.normal(size=(batch, side, side, read)).astype(np.float32)
    weights = rng.normal(size=(kernel, kernel, read, made)).astype(np.float32) / np.float32(kernel * read**0.5)

    def convolution(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def product(x: Any, w: Any) -> Any:
        around = kernel // 2
        padded = jnp.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
        places = [padded[:, i : i + side, j : j + side] for i in range(kernel) for j in range(kernel)]
        return jnp.concatenate(places, axis=3) @ w.reshape(-1, made)

    runs: dict[str, Run] = {}
    ways = {"XLA convolution": (convolution, weights)}
    ways |= {"XLA product": (product, weights)} if stride == 1 else {}
    ways |= {WINOGRAD: (winograd.convolve, winograd.transformed(weights))} if (kernel, stride) == (3, 1) else {}
    for name, (function, its) in ways.items():
        arguments = jnp.asarray(image), jnp.asarray(its)
        compiled = jax.jit(function).lower(*arguments).compile()
        runs[name] = lambda compiled=compiled, arguments=arguments: jax.block_until_ready(compiled(*arguments))
    for name, layout in (("PyTorch NCHW", torch.contiguous_format), ("PyTorch NHWC", torch.channels_last)):
        x = torch.tensor(image.transpose(0, 3, 1, 2)).contiguous(memory_format=layout)
        w = torch.tensor(weights.transpose(3, 2, 0, 1)).contiguous(memory_format=layout)
        runs[name] = lambda x=x, w=w: torch.conv2d(x, w, stride=stride, padding=kernel // 2)
    expected = np.asarray(runs["PyTorch NCHW"]()).transpose(0, 2, 3, 1)
    for name in ways if stride == 1 else ():  # With a stride XLA pads the other side.
        np.testing.assert_allclose(runs[name](), expected, atol=1e-4)
    return runs


def rates(runs: dict[str, Run], operations: int, repeats: int) -> dict[str, float]:
    """GFLOP/s of each by its CPU time; they take turns and the best counts."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            start, calls = time.process_time(), 0
            while time.process_time() - start < 0.1:
                run()
                calls += 1
            best[name] = min(best[name], (time.process_time() - start) / calls)
    return {name: operations / seconds / 1e9 for name, seconds in best.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8, help="images at once")
    parser.add_argument("--repeats", type=int, default=8)
    args = parser.parse_args(argv)
    if min(args.batch, args.repeats) < 1:
        parser.error("--batch and --repeats must be at least 1.")
    if needs.are_missing(needs.PYTORCH):
        return 2
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # Before the libraries count the cores.
    import torch

    torch.set_grad_enabled(False)
    for name, (kernel, stride, read, made, side) in LAYERS.items():
        operations = 2 * args.batch * (side // stride) ** 2 * made * kernel**2 * read
        found = rates(programs(args.batch, kernel, stride, read, made, side), operations, args.repeats)
        print(f"{name:28s}" + "  ".join(f"{way} {rate:.0f}" for way, rate in found.items()), flush=True)
        figures.tell("layers", f"batch {args.batch}, one core", name, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
