r"""Does the input pipeline keep up with the training step?

    python -m benchmarks.pipeline [--crop_size=64] [--batch=64] [--threads=2] [--seconds=10]

Prints, from one run: crops/s of the pipeline, of bare decoding and warping in one thread, and of the training step of
the small image trunk with M hypotheses (the loss is a stand-in, so the real step is slower); and their ratios. Records
are generated: noisy PNG images as in `synthetic_bodies`, decoded on access as `tfds.data_source` does.

Threads decode and warp at the same time, but take turns at everything else, for which they hold Python's interpreter.
That part is measured in one thread with OpenCV replaced by nothing; its inverse is the most that any number of threads
can give.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import figures
from multibodies_jax.batch import Inputs, inputs_of
from multibodies_jax.data import augment, crops, pipeline
from multibodies_jax.geometry import boxes
from multibodies_jax.models import build


class PngRecords(Sequence):
    """Random records whose image is decoded when a record is read."""

    def __init__(self, count: int, image_size: int):
        rng = np.random.default_rng(0)
        self._records = [_record(rng, i, image_size) for i in range(count)]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        record = self._records[index]
        return record | {"image": cv2.imdecode(record["image"], cv2.IMREAD_COLOR_RGB)}


def _record(rng: np.random.Generator, index: int, size: int) -> dict[str, Any]:
    smooth = cv2.resize(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8), (size, size))
    image = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    kp2d = rng.uniform(0.1 * size, 0.9 * size, (24, 2)).astype(np.float32)
    ones = np.ones(24, np.float32)
    center, scale = boxes.visible_box(kp2d, ones)
    return {
        "example_id": f"benchmark/{index}",
        "image": cv2.imencode(".png", image)[1],
        "window": np.array([0, 0, size, size], np.int32),
        "box_center": center,
        "box_scale": scale,
        "box_center_full": center,
        "box_scale_full": scale,
        "kp2d": kp2d,
        "kp2d_valid": ones,
        "kp2d_input": ones,
        "joints3d": rng.normal(size=(24, 3)).astype(np.float32),
        "joints3d_valid": ones,
        "pose": rng.normal(size=(24, 3)).astype(np.float32),
        "betas": rng.normal(size=10).astype(np.float32),
        "smpl_valid": np.float32(1),
        "occlusion": np.int64(0),
    }


def _rate(step: Callable[[], Any], examples: int, seconds: float) -> tuple[float, float]:
    """Examples per second of wall time, and CPU milliseconds per example, of calling `step` for a while."""
    step()
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < seconds:
        step()
        count += examples
    return count / (time.perf_counter() - wall), 1000 * (time.process_time() - cpu) / count


def _train_step(num_hypotheses: int, example: Inputs, crop_size: int) -> Callable[[Inputs], Any]:
    """One step of Adam on the small image trunk; returns when it is done."""
    model = build.build(
        mean_state=np.zeros(157), trunk="resnet_small", crop_size=crop_size, num_hypotheses=num_hypotheses, hidden=256
    )
    key = jax.random.key(0)
    variables = jax.jit(lambda k: model.init({"params": k, "dropout": k}, example, train=False))(key)
    optimizer = optax.adam(1e-4)
    state = [variables, optimizer.init(variables["params"])]

    def loss(params: Any, variables: Any, inputs: Inputs) -> tuple[jax.Array, Any]:
        states, updated = model.apply(
            variables | {"params": params}, inputs, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return jnp.mean(states**2), updated

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(variables: Any, moments: Any, inputs: Inputs) -> tuple[Any, Any]:
        gradient, updated = jax.grad(loss, has_aux=True)(variables["params"], variables, inputs)
        change, moments = optimizer.update(gradient, moments)
        return {"params": optax.apply_updates(variables["params"], change)} | updated, moments

    def run(inputs: Inputs) -> None:
        state[:] = step(*state, inputs)
        jax.block_until_ready(state)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--crop_size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hypotheses", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="per measurement")
    args = parser.parse_args()

    source = PngRecords(500, args.image_size)
    make_example = functools.partial(augment.training_example, crop_size=args.crop_size, finished=False)
    # As many as `synthetic_bodies` has: of a few hundred Grain takes 0.1 ms to draw one.
    many = pipeline.Concatenated([source] * 40)
    batches_of = functools.partial(
        pipeline.train_batches, [many], (1.0,), args.batch, 0, make_example, finish=augment.finish
    )
    batches = batches_of(threads=args.threads)
    inputs = inputs_of(next(batches))
    transform = boxes.affine(source[0]["box_center"], source[0]["box_scale"], args.crop_size, 0.3)
    bare = functools.partial(_decode_and_warp, source, transform, args.crop_size)
    train = _train_step(args.hypotheses, inputs, args.crop_size)

    programs = {
        "decode + warp, 1 thread": (bare, len(source)),
        f"pipeline, {args.threads} threads": (lambda: next(batches), args.batch),
        "step, one batch again and again": (lambda: train(inputs), args.batch),
        "step, fed by the pipeline": (lambda: train(inputs_of(next(batches))), args.batch),
    }
    measured = {}
    for name, (program, examples) in programs.items():
        measured[name] = rate, cpu_ms = _rate(program, examples, args.seconds)
        print(f"{name:34s}{rate:9.0f} examples/s {cpu_ms:9.2f} CPU ms per example", flush=True)
    where = f"images of {args.image_size} pixels, crops of {args.crop_size}, batch {args.batch}, {args.threads} threads"
    for name, (rate, cpu_ms) in measured.items():
        figures.tell("input", where, name, {"examples per second": rate, "CPU ms per example": cpu_ms})
    held = _held_ms(batches_of(threads=0), args)
    print(
        f"interpreter held by an example     {held:9.3f} CPU ms, so threads make at most {1000 / held:.0f} examples/s"
    )
    limit = {"examples per second": 1000 / held, "CPU ms per example": held}
    figures.tell("input", where, "any number of threads, while they hold the interpreter", limit)
    (bare_rate, bare_cpu), (rate, cpu), (step_rate, step_cpu), (fed_rate, _) = measured.values()
    print(f"pipeline / training step           {rate / step_rate:9.1f} x")
    print(f"pipeline / decode + warp           {rate / bare_rate:9.2f} x ({cpu / bare_cpu:.1f} x the CPU time)")
    print(f"CPU of the pipeline / of the step  {cpu / step_cpu:9.3f}")
    print(f"step fed / step alone              {fed_rate / step_rate:9.2f} x")
    ratios = {"pipeline / step alone": rate / step_rate, "step fed / step alone": fed_rate / step_rate}
    for name, ratio in ratios.items():
        figures.tell("input", where, name, {"examples per second": ratio})


def _held_ms(batches: pipeline.Batches, args: argparse.Namespace) -> float:
    """CPU milliseconds per example of what is left of the pipeline when OpenCV's work on pixels is none."""
    image, crop = (np.zeros((size, size, 3), np.uint8) for size in (args.image_size, args.crop_size))
    stand_ins: Any = {name: lambda *args, **kwargs: crop for name in ("warpAffine", "resize", "LUT", "flip")}
    with mock.patch.multiple(cv2, imdecode=lambda *args: image, **stand_ins):
        return _rate(lambda: next(batches), args.batch, args.seconds)[1]


def _decode_and_warp(source: PngRecords, transform: np.ndarray, size: int) -> None:
    for record in source:
        crops.warp(record["image"], transform, size)


if __name__ == "__main__":
    main()
