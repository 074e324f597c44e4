r"""What M hypotheses add to a training step: M = 100 against M = 1, with the same trunk, batch and losses.

    python -m benchmarks.training [--trunk=resnet_small --size=64 --batch=32] [--hypotheses=100] [--steps=10]
    python -m benchmarks.training --trunk=resnet50 --size=224 --batch=64         # on a GPU: at most 1.5 is the aim

Hypotheses cost their joints; only the best one, hypothesis 0 and the truth are meshed. A step is the whole one of
`train_step.make_train_step`: forward, losses, gradient, optimiser. Steps of both take turns, medians count.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from configs import default
from multibodies_jax.batch import Origin
from multibodies_jax.data import virtual_views
from multibodies_jax.models import build
from multibodies_jax.training import optimizer, setup, train_step


def prepare(
    trunk: str,
    size: int,
    batch_size: int,
    num_hypotheses: int,
    base: str = "default",
    make_targets: Callable[[Any, setup.Bodies], build.Targets] | None = None,
    **fields: Any,
) -> tuple[Callable[[], Any], float]:
    """One step of training, compiled, as a function that runs it again and waits for its result; seconds of compiling.

    `base` is the config, as `default.of` takes it. With `make_targets` the batch has an origin, and every second example lacks
    SMPL parameters.
    """
    config = default.of(base)
    config.model.update({"trunk": trunk, "crop_size": size, **fields})
    config.data.sets = ("synthetic_bodies/clean",)
    bodies = setup.load_bodies(config)
    rng = np.random.default_rng(0)
    poses, betas = rng.normal(scale=0.2, size=(batch_size, 24, 3)), rng.normal(size=(batch_size, 10))
    keys = jax.random.split(jax.random.key(0), batch_size)
    batch = virtual_views.synthesize(jnp.float32(poses), jnp.float32(betas), keys, bodies.j24)
    image = jnp.asarray(rng.integers(0, 256, (batch_size, size, size, 3)), jnp.uint8)
    batch = dataclasses.replace(batch, inputs=dataclasses.replace(batch.inputs, image=image))
    targets = None if make_targets is None else make_targets(config, bodies)
    if targets is not None:
        half = 1.0 * (jnp.arange(batch_size) % 2)
        origin = Origin(jnp.arange(batch_size), jnp.zeros(batch_size), half)
        batch = dataclasses.replace(batch, target=dataclasses.replace(batch.target, smpl_valid=half), origin=origin)
    model = setup.build_model(config, num_hypotheses, bodies)
    variables = jax.jit(lambda key: model.init({"params": key, "dropout": key}, batch.inputs))(jax.random.key(1))
    params, stats = variables["params"], variables.get("batch_stats", {})
    adam = optimizer.make_optimizer(config, build.trained(params, ""), 100, 1e-4)
    memory = {} if targets is None else jax.tree.map(jnp.asarray, targets.template())
    state = train_step.TrainState(jnp.zeros((), jnp.int32), params, stats, {}, adam.init(params), memory)
    split = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
    step = train_step.make_train_step(
        config, model, bodies, adam, num_hypotheses, lambda batch, key: batch, split, targets
    )
    arguments = (state, batch, jax.random.key(2), setup.loss_bodies(config, bodies))
    start = time.perf_counter()
    compiled = jax.jit(step).lower(*arguments).compile()
    seconds = time.perf_counter() - start

    def run() -> Any:
        return jax.block_until_ready(compiled(*arguments))

    run()
    return run, seconds


def measure(runs: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Median seconds of each; they take turns."""
    seconds = np.zeros((repeats, len(runs)))
    for row in seconds:
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            row[i] = time.perf_counter() - start
    return np.median(seconds, axis=0).tolist()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trunk", default="resnet_small", choices=build.TRUNKS)
    parser.add_argument("--size", type=int, default=64, help="of the crop, pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hypotheses", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--width", type=int, help="of the trunk; default: its usual one")
    parser.add_argument("--dtype", nargs="+", choices=tuple(build.DTYPES), default=["float32"], help="of the trunk")
    args = parser.parse_args(argv)
    for dtype in args.dtype:
        fields = {"dtype": dtype, "width": args.width}
        prepared = [prepare(args.trunk, args.size, args.batch, m, **fields) for m in (args.hypotheses, 1)]
        (many, many_s), (one, one_s) = prepared
        a, b = measure([many, one], args.steps)
        print(
            f"{args.trunk}, {args.size} pixels, batch {args.batch}, {dtype}, all losses, {jax.devices()[0].device_kind}"
        )
        print(f"M = {args.hypotheses}: {1000 * a:.1f} ms   M = 1: {1000 * b:.1f} ms   ratio {a / b:.2f}")
        print(
            f"{args.batch / a:.0f} and {args.batch / b:.0f} images per second; traced and compiled in {many_s:.1f} and "
            f"{one_s:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
