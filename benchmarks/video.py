r"""How fast are every fifth frame of a video read, against the plain loop that seeks each of them? How much memory takes a build?

    python -m benchmarks.video [--frames=600] [--step=5] [--repeats=3]

Both ways use OpenCV with one decoding thread, on a video made here: 1000 x 1000 pixels as Human3.6M's, MPEG-4, a
texture that moves. Prints the frames per second of one core (CPU time, the best of the repeats, the two ways in turn),
and whether both delivered the same pictures. Seeking decodes again from the last key frame, so it costs what their
distance makes it cost; here it is OpenCV's default for this codec (12), real files have up to hundreds.

Then the examples of one recording are built from such a video, poses, 2D joints and masks (windows, PNG, ArchiveRecord),
at two lengths, each in a process of its own: examples per second of one core, and by how much its peak memory grew.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import cdflib.cdfwrite
import cv2
import h5py
import numpy as np

from benchmarks import figures, turns
from benchmarks.joints import memory_bytes, peak_bytes
from tfds_builders import features, shards
from tfds_builders.h36m import archive, h36m_dataset_builder, recorded
from tfds_builders.sources import video

SIDE = 1000
_BOX = slice(250, 750)


def write_video(path: pathlib.Path, frames: int) -> None:
    """A texture that moves."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (SIDE // 8, SIDE // 4, 3)).astype(np.uint8)
    texture = cv2.resize(small, (2 * SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 50, (SIDE, SIDE))
    for i in range(frames):
        shift = 3 * i % SIDE
        writer.write(np.ascontiguousarray(texture[:, shift : shift + SIDE]))
    writer.release()


def write_recording(folder: pathlib.Path, frames: int) -> archive.Recording:
    """One recording in Human3.6M's formats: a video, random poses, and masks that are all the same."""
    rng = np.random.default_rng(0)
    write_video(folder / "video.mp4", frames)
    for name, size, scale in (("poses", 96, 1000), ("keypoints", 64, SIDE)):
        file = cdflib.cdfwrite.CDF(folder / f"{name}.cdf")
        spec = {"Variable": "Pose", "Data_Type": 21, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": [frames, size]}
        file.write_var(spec, var_data=rng.uniform(0, scale, (1, frames, size)).astype(np.float32))
        file.close()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[_BOX, _BOX] = 1
    with h5py.File(folder / "boxes.mat", "w") as file:
        masks = file.create_dataset("Masks", (frames, 1), dtype=h5py.special_dtype(ref=h5py.Reference))
        for i in range(frames):
            masks[i, 0] = file.create_dataset(f"#refs#/{i}", data=mask, compression="gzip").ref
    paths = (folder / "poses.cdf", folder / "video.mp4", folder / "boxes.mat", folder / "keypoints.cdf")
    return archive.Recording("S9", "Walking", archive.FRONT_CAMERA, *paths)


def seeking(path: pathlib.Path, wanted: range) -> Iterator[tuple[int, np.ndarray]]:
    """The plain loop."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    for index in wanted:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        good, image = capture.read()
        if good:
            yield index, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    capture.release()


def rate(way: Callable, path: pathlib.Path, wanted: range) -> tuple[float, list[int]]:
    """Frames per CPU second, and a sum of the pixels of every frame."""
    start = time.process_time()
    sums = [int(image.sum(dtype=np.int64)) for _, image in way(path, wanted)]
    return len(sums) / (time.process_time() - start), sums


def compare(path: pathlib.Path, frames: int, step: int, repeats: int) -> str:
    """The rates of both ways and their ratio."""
    best, sums = {"in order": 0.0, "seeking": 0.0}, {}
    for _ in range(repeats):
        for name, way in (("in order", video.frames), ("seeking", seeking)):
            measured, sums[name] = rate(way, path, range(0, frames, step))
            best[name] = max(best[name], measured)
    same = "the same pictures" if sums["in order"] == sums["seeking"] else "DIFFERENT pictures"
    where, ratio = f"every {step}th of {frames} frames", best["in order"] / best["seeking"]
    for name, shown in (*best.items(), ("ratio", ratio)):
        figures.tell("video", where, name, {"frames per CPU second": shown})
    rates = ", ".join(f"{name} {value:.1f} frames/s" for name, value in best.items())
    return f"{where}: {rates}\n   ratio: {ratio:.1f}x, {same}"


def build(frames: int) -> dict[str, float]:
    """Builds one recording in this process: examples per CPU second, and the growth of the peak memory in MiB."""
    cv2.setNumThreads(1)  # As in worker processes.
    with tempfile.TemporaryDirectory() as folder:
        recording = write_recording(pathlib.Path(folder), frames)
        task = recorded.Task(recording, "test", "h36m_p2", 0, None, h36m_dataset_builder.Options())
        job = shards.Job(recorded.make, (task,), features.features(), pathlib.Path(folder) / "shard")
        before, start = memory_bytes("VmRSS"), time.process_time()
        made = []
        peak = peak_bytes(lambda: made.append(shards.write(job)))
        seconds = time.process_time() - start
    return {"rate": made[0].examples / seconds, "mib": (peak - before) / 2**20}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.video", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--step", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--build", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.build:
        print(json.dumps(build(flags.frames)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "video.mp4"
        write_video(path, flags.frames)
        print(compare(path, flags.frames, flags.step, flags.repeats))
    for frames in (flags.frames // 3, flags.frames):
        result = turns.once(f"the build of {frames} frames", "benchmarks.video", ["--build", f"--frames={frames}"])
        if result is None:
            print(f"build of {frames} frames: {turns.FAILED}")
            return 1
        print(f"build of {frames} frames: {result['rate']:.1f} examples/s, peak memory + {result['mib']:.0f} MiB")
        measured = {"examples per CPU second": result["rate"], "growth of peak memory, MiB": result["mib"]}
        figures.tell("recording", f"{frames} frames", "build", measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
