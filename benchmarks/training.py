r"""What M hypotheses add to a training step: M = 100 against M = 1, with the same trunk, batch and losses.

    python -m benchmarks.training [--trunk=resnet_small --size=64 --batch=32] [--hypotheses=100] [--steps=10]
    python -m benchmarks.training --trunk=resnet50 --size=224 --batch=64         # on a GPU: at most 1.3 is the aim
    python -m benchmarks.training --trunk=resnet50 --size=224 --batch=64 --torch # and against PyTorch: 10 times as fast

Hypotheses cost their joints; only the best one, hypothesis 0 and the truth are meshed. A step is the whole one of
`train_step.make_train_step`: forward, losses, gradient, optimiser. Steps of both take turns, medians count.

With --torch, PyTorch steps in the structure of the authors' code (`benchmarks.torch_training`) take turns with them, each
in a process of its own; --trunk=resnet50 is the authors'. "all trained" and "as little as ours", which leaves out what a
step of ours lacks (dead branches, and the flow, which ours trains beforehand), are compared with ours of M hypotheses
above. "as released", where nearly all is frozen, is compared with ours of `configs/mixture.py:released`: the authors'
network and losses, as much frozen. Memory of ours is what a step needs with its state updated in place, as XLA counts it;
of PyTorch it is the peak of a step on the device, on a CPU that of the process above what it held before the weights came.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import figures, needs, random_data, turns
from configs import default
from multibodies_jax import exact
from multibodies_jax.batch import Origin
from multibodies_jax.data import virtual_views
from multibodies_jax.models import build
from multibodies_jax.training import optimizer, setup, train_step

# PyTorch's steps by the names of `torch_training.PROGRAMS`, each with the step of ours that it is compared with.
AS_RELEASED, AS_DEFAULT = "mixture:released", "default"
TORCH = {"all trained": AS_DEFAULT, "as little as ours": AS_DEFAULT, "as released": AS_RELEASED}


class Prepared(NamedTuple):
    """A compiled step: a function that runs it again and waits for its result, seconds of compiling, and its memory."""

    run: Callable[[], Any]
    seconds: float
    bytes: int


def prepare(
    trunk: str,
    size: int,
    batch_size: int,
    num_hypotheses: int,
    base: str = "default",
    make_targets: Callable[[Any, setup.Bodies], build.Targets] | None = None,
    **fields: Any,
) -> Prepared:
    """One step of training, compiled.

    `base` is the config, as `default.of` takes it; what it freezes is frozen. With `make_targets` the batch has an
    origin, and every second example lacks SMPL parameters.
    """
    config = default.of(base)
    config.model.update({"trunk": trunk, "crop_size": size, **fields})
    config.data.sets = ("synthetic_bodies/clean",)
    bodies = setup.load_bodies(config)
    rng = np.random.default_rng(0)
    poses, betas = rng.normal(scale=0.2, size=(batch_size, 24, 3)), rng.normal(size=(batch_size, 10))
    keys = jax.random.split(jax.random.key(0), batch_size)
    batch = virtual_views.synthesize(jnp.float32(poses), jnp.float32(betas), keys, bodies.j24)
    image = jnp.asarray(random_data.crops(batch_size, size))
    batch = dataclasses.replace(batch, inputs=dataclasses.replace(batch.inputs, image=image))
    targets = None if make_targets is None else make_targets(config, bodies)
    if targets is not None:
        half = 1.0 * (jnp.arange(batch_size) % 2)
        origin = Origin(jnp.arange(batch_size), jnp.zeros(batch_size), half)
        batch = dataclasses.replace(batch, target=dataclasses.replace(batch.target, smpl_valid=half), origin=origin)
    model = setup.build_model(config, num_hypotheses, bodies)
    variables = jax.jit(lambda key: model.init({"params": key, "dropout": key}, batch.inputs))(jax.random.key(1))
    params, stats = variables["params"], variables.get("batch_stats", {})
    adam = optimizer.make_optimizer(config, train_step.trained(config, num_hypotheses, params), 100, 1e-4)
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
    analysis: Any = compiled.memory_analysis()
    return Prepared(run, seconds, analysis.argument_size_in_bytes + analysis.temp_size_in_bytes)


def torch_step(program: str, size: int, batch: int, num_hypotheses: int, precision: str) -> turns.Process:
    """A step of `benchmarks.torch_training` in a process of its own, which says the bytes of its memory.

    Args:
      program: a name of `TORCH`.
      size: of the crop, pixels.
      batch: examples.
      num_hypotheses: M.
      precision: of the trunk, a name of `exact.TRUNK_DTYPES`.
    """
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    options = [f"--worker={program}", f"--device={device}", f"--size={size}", f"--batch={batch}"]
    options += [f"--hypotheses={num_hypotheses}", f"--dtype={precision}"]
    # PyTorch alone takes the device there.
    return turns.Process(program, "benchmarks.training", options, {"JAX_PLATFORMS": "cpu"})


def work(program: str, size: int, batch: int, num_hypotheses: int, device: str, precision: str) -> None:
    """Prepares a step of PyTorch and gives the bytes of its memory; then runs it at every turn, and gives its loss."""
    import torch

    from benchmarks import joints, released, torch_training
    from multibodies_jax.body import body_files

    before = joints.memory_bytes("VmRSS")
    chosen = torch_training.PROGRAMS[program]
    tensors = released.random_tensors(num_hypotheses, dead=chosen.extras)
    step = torch_training.Step(chosen, *tensors, body_files.load(), batch, size, device, precision)
    del tensors

    def run() -> float:
        return float(step()["loss"])  # Waits for all that was queued before.

    run()  # cuDNN tries its programs, with memory of their own.
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        run()
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = joints.peak_bytes(run) - before
    turns.serve({"bytes": peak}, run)


def table(batch: int, torch: Mapping[str, tuple[float, int | None]], ours: Mapping[str, tuple[float, int]]) -> str:
    """A line for each of PyTorch's steps with the step of ours that it is compared with.

    Args:
      batch: examples of a step.
      torch: seconds and bytes of a step by the names of `TORCH`; bytes are None where it failed.
      ours: seconds and bytes of a step by its config.
    """
    lines = []
    for program, base in TORCH.items():
        seconds, size = torch[program]
        if size is None:
            lines.append(f"  {program:18s} {turns.FAILED}")
            continue
        both = [_costs(batch, seconds, size), _costs(batch, *ours[base])]
        lines.append(f"  {program:18s}{both[0]}   ours {both[1]}: {seconds / ours[base][0]:.2f} x as fast")
    return "\n".join(lines)


def against_torch(
    trunk: str, size: int, batch: int, num_hypotheses: int, steps: int, ours: Prepared, fields: Mapping[str, Any]
) -> tuple[dict[str, tuple[float, int | None]], dict[str, tuple[float, int]]]:
    """Starts PyTorch's steps, runs them in turns with ours, and gives `torch` and `ours` of `table`.

    Args:
      trunk, size, batch, num_hypotheses: of `prepare`.
      steps: timed ones of each.
      ours: with the default losses.
      fields: of the model, `dtype` among them.
    """
    theirs = {name: torch_step(name, size, batch, num_hypotheses, fields["dtype"]) for name in TORCH}
    released = prepare(trunk, size, batch, num_hypotheses, AS_RELEASED, **fields)  # While they prepare.
    for step in theirs.values():
        step.wait()
    own, as_released, *seconds = turns.medians([ours.run, released.run, *(step.ask for step in theirs.values())], steps)
    for step in theirs.values():
        step.close()
    costs = {AS_DEFAULT: (own, ours.bytes), AS_RELEASED: (as_released, released.bytes)}
    found: dict[str, tuple[float, int | None]] = {
        name: (took, None if step.failed else step.wait()["bytes"])
        for (name, step), took in zip(theirs.items(), seconds, strict=True)
    }
    return found, costs


def tell(
    where: str, batch: int, torch: Mapping[str, tuple[float, int | None]], ours: Mapping[str, tuple[float, int]]
) -> None:
    """The lines of `table` as JSON."""
    for base, (seconds, size) in ours.items():
        figures.tell("training beside PyTorch", where, f"ours, {base}", _measured(batch, seconds, size))
    for program, (seconds, size) in torch.items():
        if size is not None:
            ratio = {"ours: times as fast": seconds / ours[TORCH[program]][0]}
            figures.tell("training beside PyTorch", where, program, _measured(batch, seconds, size) | ratio)


def _measured(batch: int, seconds: float, size: int) -> dict[str, float]:
    return {"ms": 1000 * seconds, "images per second": batch / seconds, "MiB": size / 2**20}


def _costs(batch: int, seconds: float, size: int) -> str:
    return f"{1000 * seconds:9.1f} ms {batch / seconds:7.1f} images per second {size / 2**20:7.0f} MiB"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trunk", default="resnet_small", choices=build.TRUNKS)
    parser.add_argument("--size", type=int, default=64, help="of the crop, pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hypotheses", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--width", type=int, help="of the trunk; default: its usual one")
    parser.add_argument(
        "--dtype", nargs="+", choices=tuple(exact.TRUNK_DTYPES), default=["float32"], help="of the trunk"
    )
    parser.add_argument("--torch", action="store_true", help="also against PyTorch; needs --trunk=resnet50")
    parser.add_argument("--worker", choices=TORCH, help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        work(args.worker, args.size, args.batch, args.hypotheses, args.device, args.dtype[0])
        return 0
    if args.torch and args.trunk != "resnet50":
        parser.error(f"--torch needs --trunk=resnet50, the authors' network, got {args.trunk}.")
    if args.torch and needs.are_missing(needs.PYTORCH):
        return 2
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch may share the device.
    for dtype in args.dtype:
        fields = {"dtype": dtype, "width": args.width}
        many, one = (prepare(args.trunk, args.size, args.batch, m, **fields) for m in (args.hypotheses, 1))
        a, b = turns.medians([many.run, one.run], args.steps)
        where = f"{args.trunk}, {args.size} pixels, batch {args.batch}, {dtype}, {jax.devices()[0].device_kind}"
        print(f"{where}, all losses")
        print(f"M = {args.hypotheses}: {1000 * a:.1f} ms   M = 1: {1000 * b:.1f} ms   ratio {a / b:.2f}")
        print(
            f"{args.batch / a:.0f} and {args.batch / b:.0f} images per second; traced and compiled in {many.seconds:.1f} and "
            f"{one.seconds:.1f} s",
            flush=True,
        )
        for m, step, took in ((args.hypotheses, many, a), (1, one, b)):
            figures.tell(
                "training",
                where,
                f"M = {m}",
                _measured(args.batch, took, step.bytes) | {"compiled in, s": step.seconds},
            )
        figures.tell("training", where, f"M = {args.hypotheses} / M = 1", {"ms": a / b})
        if args.torch:
            found, costs = against_torch(args.trunk, args.size, args.batch, args.hypotheses, args.steps, many, fields)
            print(table(args.batch, found, costs), flush=True)
            tell(where, args.batch, found, costs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
