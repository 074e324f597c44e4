r"""Does a build need more memory for more examples, and is reading a built set as fast as its images are decoded?

    python -m benchmarks.building [--lengths 100 800] [--window=800] [--crop_size=224] [--seconds=5]

Builds a set from one task at two lengths, each in processes of their own, and prints the peak memory of the builder and
of its worker. Then, in one run and one thread, for JPEG and PNG windows: examples per CPU second of bare decoding and
warping of the stored images, of evaluation batches of the built set (records read, parsed, decoded, cropped), and of
training batches (augmented too); and their ratios. Images are smooth shapes with noise, as a camera's are; windows are
as large as those of Human3.6M's people.
"""

import argparse
import dataclasses
import functools
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from benchmarks import figures, turns
from multibodies_jax.data import augment, crops, pipeline
from multibodies_jax.geometry import boxes
from tfds_builders import archives, building, features, options, windows

_IMAGE = 1000  # Pixels, as Human3.6M's.
_BATCH = 16
_TURNS = 5  # Their median is printed.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(archives.ArchiveOptions):
    """How many examples of which size."""

    length: int = options.option(100, "length{}")
    window: int = options.option(800, "window{}")


@dataclasses.dataclass(frozen=True)
class Task:
    """All examples of a split: one task, so that memory could grow with it."""

    split: str
    options: Options


class Builder(archives.ArchiveBuilder, skip_registration=True):
    """Generated photographs."""

    name = "benchmark"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    OPTIONS = Options
    BUILDER_CONFIGS: ClassVar = [building.Config(name="all", base="all", options=Options())]

    def expected(self) -> dict[str, int | None]:
        return {"train": self.options.length, "test": min(self.options.length, 100)}

    def tasks(self, split: str) -> list[Task]:
        return [Task(split, self.options)]

    @staticmethod
    def make(task: Task) -> Iterator[dict[str, Any]]:
        rng = np.random.default_rng(0)
        smooth = cv2.resize(rng.integers(0, 256, (12, 12, 3)).astype(np.uint8), (_IMAGE, _IMAGE))
        photograph = np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
        scale = task.options.window / (boxes.SIDE * np.sqrt(2) * windows.MARGIN)
        for i in range(task.options.length if task.split == "train" else min(task.options.length, 100)):
            center = (_IMAGE / 2 + rng.uniform(-50, 50, 2)).astype(np.float32)
            pixels, window = windows.cut(np.roll(photograph, i, axis=1), center, scale)
            yield features.example(
                example_id=f"benchmark/{task.split}/{i:06d}",
                image=archives.stored_image(pixels, task.options, task.split),
                window=window,
                image_size=[_IMAGE, _IMAGE],
                box_center=center,
                box_scale=scale,
                kp2d=center + rng.normal(0, 50, (24, 2)),
                kp2d_valid=np.ones(24),
                joints3d=rng.normal(size=(24, 3)),
                joints3d_valid=np.ones(24),
                pose=rng.normal(size=(24, 3)),
                smpl_valid=1.0,
                dataset="h36m",
            )


def build(data_dir: str, chosen: Options) -> Builder:
    """Builds the set with one worker process."""
    builder = Builder(data_dir=data_dir, config=Builder.make_config("all", chosen))
    builder.num_processes = 1
    builder.download_and_prepare()
    return builder


def memory(data_dir: str, chosen: Options) -> dict[str, float] | None:
    """Builds in processes of their own; peak MiB of builder and worker, and examples per second; None if that failed."""
    options = ["--build", data_dir, json.dumps(dataclasses.asdict(chosen))]
    return turns.once(f"the build of {chosen.length} examples", "benchmarks.building", options)


def _build_and_measure(data_dir: str, chosen: Options) -> None:
    start = time.perf_counter()
    builder = build(data_dir, chosen)
    seconds = time.perf_counter() - start
    peak = {
        who: resource.getrusage(usage).ru_maxrss / 1024
        for who, usage in (("builder", resource.RUSAGE_SELF), ("worker", resource.RUSAGE_CHILDREN))
    }
    total = sum(split.num_examples for split in builder.info.splits.values())
    print(json.dumps(peak | {"examples": total, "per_second": total / seconds}))


def rate(step: Callable[[], int], seconds: float) -> float:
    """Examples per second of CPU time of calling `step`, which returns how many it made, for a while."""
    step()
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        count += step()
    return count / (time.process_time() - start)


def reading(builder: Builder, split: str, crop_size: int, seconds: float) -> dict[str, np.ndarray]:
    """Examples per CPU second in each turn, in one thread, of bare decoding and warping, of evaluation and of training batches."""
    source = building.open_split(builder, split)
    encoded = building.open_split(builder, split, {"image": tfds.decode.SkipDecoding()})
    stored = [encoded[i] for i in range(min(len(source), 100))]

    def bare() -> int:
        for record in stored:
            image = cv2.imdecode(np.frombuffer(record["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
            assert image is not None
            transform = boxes.affine(record["box_center"], record["box_scale"], crop_size)
            crops.warp(image, transform, crop_size, record["window"][:2])
        return len(stored)

    def evaluation() -> int:
        make = functools.partial(augment.evaluation_example, crop_size=crop_size)
        return sum(
            len(b["kp2d"]) for b in pipeline.evaluation_batches(source, _BATCH, make, threads=0, max_examples=96)
        )

    make = functools.partial(augment.training_example, crop_size=crop_size, strength=augment.SPIN)
    batches = pipeline.train_batches([source], (1.0,), _BATCH, 0, make, threads=0)
    steps = {
        "decode + warp": bare,
        "evaluation batches": evaluation,
        "training batches": lambda: len(next(batches)["kp2d"]),
    }
    # In turns: whatever else the machine does slows all of them.
    rounds = [{name: rate(step, seconds / _TURNS) for name, step in steps.items()} for _ in range(_TURNS)]
    return {name: np.array([one[name] for one in rounds]) for name in steps}


def main() -> int:
    if sys.argv[1:2] == ["--build"]:
        _build_and_measure(sys.argv[2], Options(**json.loads(sys.argv[3])))
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.building", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs=2, default=(100, 800), help="of the train split")
    parser.add_argument("--window", type=int, default=800, help="side of the stored windows, pixels")
    parser.add_argument("--crop_size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement of reading")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as data_dir:
        chosen = [Options(length=length, window=args.window, jpeg_quality=95) for length in args.lengths]
        peaks = []
        for one in chosen:
            peak = memory(data_dir, one)
            if peak is None:
                print(f"{one.length:6d} examples: {turns.FAILED}")
                return 1
            peaks.append(peak)
        for peak in peaks:
            print(
                f"{peak['examples']:6.0f} examples: peak {peak['builder']:5.0f} MiB in the builder, "
                f"{peak['worker']:5.0f} MiB in its worker; {peak['per_second']:5.1f} examples/s with the start of both"
            )
            measured = {f"MiB in the {who}": peak[who] for who in ("builder", "worker")}
            measured["examples per second"] = peak["per_second"]
            figures.tell("build", f"{peak['examples']} examples", "build", measured)
        print(f"longer / shorter build                {peaks[1]['worker'] / peaks[0]['worker']:9.2f} x the memory")
        for split, kind in (("train", "JPEG"), ("test", "PNG")):
            rates = reading(build(data_dir, chosen[0]), split, args.crop_size, args.seconds)
            for name, values in rates.items():
                share = np.median(values / rates["decode + warp"])
                print(f"{kind:5s}{name:32s}{np.median(values):9.0f} examples per CPU second {share:6.2f} x")
                measured = {"examples per CPU second": np.median(values).item(), "share of bare decoding": share.item()}
                figures.tell(
                    "reading", f"{kind}, windows of {args.window}, crops of {args.crop_size} pixels", name, measured
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
