r"""Joints of 64 images x 100 hypotheses without meshes, against smplx meshes and a regressor in PyTorch.

    python -m benchmarks.joints [--body=SMPL_NEUTRAL.npz] [--device=gpu] [--images=64]

Each way runs in a process of its own, which reports the best time of its calls (after one to warm up) and the growth
of its peak resident memory (VmHWM) over what it held before: code, body and inputs. smplx is given 64 bodies at a time;
what it would need for all 6,400 at once, as the other way takes them, is extrapolated from its needs for 64 and 256.
On a GPU both take all at once, and memory is the most that the process held there. The joints are brought to the host.
"""

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import figures, needs, turns

HYPOTHESES, CHUNK = 100, 64
WAYS = {"joints": "without meshes", "smplx": "meshes of smplx"}


def random_poses(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotation matrices (B * M, 24, 3, 3) and shapes (B * M, 10) of all hypotheses."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(0)
    count = images * HYPOTHESES
    rotmats = Rotation.from_rotvec(0.5 * rng.normal(size=(count * 24, 3))).as_matrix().reshape(count, 24, 3, 3)
    return rotmats.astype(np.float32), rng.normal(size=(count, 10)).astype(np.float32)


def load_body(path: str):
    """The model, and the regressors of J24 (or SMPL's own joints, if only a model file is given)."""
    from multibodies_jax.body import body_files, smpl

    if path:
        model = smpl.load(path)
        return model, np.asarray(model.J_regressor)
    files = body_files.load()
    return files.smpl, np.asarray(files.j24_regressor)


def without_mesh(path: str, images: int) -> Callable[..., np.ndarray]:
    import jax
    import jax.numpy as jnp

    from multibodies_jax.body import smpl

    joint_model = smpl.contract(*load_body(path))
    rotmats, betas = map(jnp.asarray, random_poses(images))
    joints = jax.jit(smpl.joints).lower(joint_model, rotmats, betas).compile()
    return lambda: np.asarray(joints(joint_model, rotmats, betas))


def with_mesh(path: str, images: int, device: str) -> Callable[..., np.ndarray]:
    import smplx
    import torch
    from smplx.utils import Struct

    model, regressor = load_body(path)
    parents = np.where(np.array(model.parents) < 0, 2**32 - 1, model.parents)
    arrays = {
        key: np.asarray(getattr(model, key))
        for key in ("v_template", "shapedirs", "posedirs", "weights", "J_regressor")
    }
    arrays |= {"f": np.asarray(model.faces), "kintree_table": np.stack([parents, np.arange(24)])}
    to = "cuda" if device == "gpu" else "cpu"
    body = smplx.SMPL("", data_struct=Struct(**arrays), create_transl=False).to(to)
    rotmats, betas = (torch.tensor(x, device=to) for x in random_poses(images))
    regressor = torch.tensor(regressor, device=to)

    @torch.inference_mode()
    def run(chunk: int = CHUNK, chunks: int | None = None) -> np.ndarray:
        joints = []
        for R, b in zip(rotmats.split(chunk)[:chunks], betas.split(chunk)[:chunks], strict=True):
            vertices = body(betas=b, global_orient=R[:, :1], body_pose=R[:, 1:], pose2rot=False).vertices
            joints.append(torch.einsum("xv,bva->bxa", regressor, vertices))
        return torch.cat(joints).cpu().numpy()

    return run


def measure(way: str, path: str, images: int, device: str, out: Path) -> None:
    """Runs one way in this process; writes its joints to `out` and prints time and memory as JSON."""
    count = images * HYPOTHESES
    run = without_mesh(path, images) if way == "joints" else with_mesh(path, images, device)
    before = memory_bytes("VmRSS")
    growth = lambda **arguments: peak_bytes(lambda: run(**arguments)) - before  # noqa: E731
    if device == "gpu":
        run = functools.partial(run, chunk=count) if way == "smplx" else run
        run()
        peak = at_once = _device_bytes(way)
    elif way == "smplx":
        few, more = growth(chunk=CHUNK, chunks=1), growth(chunk=4 * CHUNK, chunks=1)
        at_once = few + (more - few) / (3 * CHUNK) * (count - CHUNK)
        peak = growth()
    else:
        peak = at_once = growth()
    made: dict[str, np.ndarray] = {}
    repeats = 1 if way == "smplx" and device == "cpu" else 20
    seconds = turns.seconds([lambda: made.update(joints=run())], repeats)
    np.save(out, made["joints"])
    result = {"seconds": float(seconds.min()), "median_seconds": float(np.median(seconds))}
    print(json.dumps(result | {"bytes": peak, "bytes_at_once": at_once}))


def _device_bytes(way: str) -> int:
    """The most that this process held on a GPU."""
    if way == "smplx":
        import torch

        return torch.cuda.max_memory_allocated()
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def peak_bytes(call: Callable[[], object]) -> int:
    """Peak of this process's resident memory during the call."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # Forgets the earlier peak.
    call()
    return memory_bytes("VmHWM")


def memory_bytes(field: str) -> int:
    """A line of this process's /proc status."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}: this benchmark needs Linux.")


def compare(path: str, images: int, device: str, folder: Path) -> bool:
    """Measures both ways and prints their ratios; whether both could run."""
    results, joints = {}, {}
    for way in WAYS:
        out = folder / f"{way}.npy"
        options = [f"--body={path}", f"--way={way}", f"--out={out}", f"--images={images}", f"--device={device}"]
        own = {"JAX_PLATFORMS": "cpu"} if device == "cpu" else {}
        found = turns.once(way, "benchmarks.joints", options, own)
        if found is None:
            print(f"{way:>8}: {turns.FAILED}")
            continue
        results[way], joints[way] = found, np.load(out)
        best, median = 1e3 * results[way]["seconds"], 1e3 * results[way]["median_seconds"]
        peak, at_once = results[way]["bytes"] / 2**20, results[way]["bytes_at_once"] / 2**20
        print(f"{way:>8}: {best:.2f} ms (median {median:.2f}), peak {peak:.0f} MiB ({at_once:.0f} MiB all at once)")
    where = f"{images} images, {HYPOTHESES} hypotheses, {device}"
    for way, its in results.items():
        figures.tell("joints", where, WAYS[way], _measured(its))
    if len(results) < len(WAYS):
        return False
    ratio = {key: results["smplx"][key] / max(results["joints"][key], 1e-9) for key in results["smplx"]}
    chunks = f", {ratio['bytes']:.0f}x less than smplx in chunks of {CHUNK}" * (device == "cpu")
    print(f"   ratio: {ratio['seconds']:.0f}x faster, {ratio['bytes_at_once']:.0f}x less memory all at once{chunks}")
    greatest = float(np.abs(joints["smplx"] - joints["joints"]).max())
    print(f"   greatest difference: {greatest:.1e} m")
    ratios = {"ms": ratio["seconds"], "MiB": ratio["bytes"], "MiB all at once": ratio["bytes_at_once"]}
    figures.tell("joints", where, "ratio", ratios)
    figures.tell("joints", where, "difference", {"metres": greatest})
    return True


def _measured(its: dict[str, float]) -> dict[str, float]:
    return {"ms": 1e3 * its["seconds"], "MiB": its["bytes"] / 2**20, "MiB all at once": its["bytes_at_once"] / 2**20}


def _torch_has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.joints", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--body", default="", help="model file; by default the body that comes with the package")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--images", type=int, default=64, help=f"with {HYPOTHESES} hypotheses each")
    parser.add_argument("--way", choices=tuple(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.images < 3:
        parser.error("--images must be at least 3.")
    if flags.way:
        measure(flags.way, flags.body, flags.images, flags.device, flags.out)
        return 0
    if needs.are_missing(needs.PYTORCH, needs.SMPLX):
        return 2
    if flags.device == "gpu" and not _torch_has_gpu():
        print("--device=gpu needs a GPU that PyTorch finds, and there is none.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        return int(not compare(flags.body, flags.images, flags.device, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
