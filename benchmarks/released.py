r"""A full inference pass of the released network, crop in, 10 bodies out, against two PyTorch programs of our own.

    python -m benchmarks.released [--modes 25 100] [--batch 1 8 64] [--precision float32 bfloat16] [--seconds=20] [--one_core]

The network is `head=released`: ResNet-50, crops of 224 pixels, M hypotheses, a flow of 20 couplings 512 wide, and the
quantizer's reading "released"; a body is its rotations, shape, camera and 24 joints. "as released" has the structure of
the authors' code, "live path" is what of it matters, written well (`torch_programs`). All have the same random weights.
"ours, onnx" is ours with the trunk in ONNX Runtime (`models.onnx_trunk`; on the CPU in float32, with the extra `onnx`).
Each program is a process of its own; they take turns, medians count. Memory is the peak of a pass above what the process
held before the weights came; on a GPU it is the most that the process ever held there, preparation included. "ready" is
the first pass, with weights, tracing and compiling. The stages of ours are compiled and timed on their own, as in
`benchmarks.inference`. A program that needs more than --memory GiB, or more than is free, or that fails, is left out with
a line that says so. With --one_core all share one core and CPU time counts, which other work on the machine disturbs
less; how well they share several cores is not in it. A JSON line follows each comparison.
"""

import argparse
import ctypes
import dataclasses
import gc
import itertools
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures, needs, random_data, turns

ONNX = "ours, onnx"
PROGRAMS = ("ours", ONNX, "as released", "live path")
REPRESENTATIVES = 10
_NEVER_CALLED = ("fc5", "fc6")
Tensors = dict[str, np.ndarray]


def random_tensors(num_hypotheses: int, dead: bool) -> tuple[Tensors, Tensors]:
    """Tensors of the network and of the flow by their names in the authors' checkpoints; each name has its own seed.

    Args:
      num_hypotheses: M.
      dead: also those that feed nothing.
    """
    from multibodies_jax.convert import layouts

    network, flow = layouts.network(num_hypotheses), layouts.flow(20, 512)
    chosen = [t for t in (network.tensors if dead else network.slots) if not t.name.startswith(_NEVER_CALLED)]
    names = [t for t in chosen if not t.name.endswith("num_batches_tracked")]
    return {t.name: _draw(t.name, t.shape) for t in names}, {t.name: _draw(t.name, t.shape) for t in flow.slots}


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name == "mask":
        return (random_data.generator(name).random(shape) < 0.5).astype(np.float32)
    if name == "init_cam":
        return random_data.tensor(name, shape, 0.02) + np.array([0.9, 0, 0], np.float32)
    if name.startswith("init"):
        return random_data.tensor(name, shape, 0.2)
    # Rotations and shapes of ordinary size, and a flow near the identity.
    near = len(shape) > 1 and (name.startswith("dec") or ".6." in name)
    return random_data.tensor(name, shape, 0.05 / np.sqrt(np.prod(shape[1:])) if near else None)


def prepare_ours(
    num_hypotheses: int, image: np.ndarray, n: int, precision: str = "float32", onnx: bool = False
) -> tuple[Callable[[], Any], Callable[[], dict[str, Callable]]]:
    """The pass as prediction runs it, crops from the host to (chosen there, scored), and what compiles its stages.

    Args:
      num_hypotheses: M.
      image: crops, (B, S, S, 3).
      n: bodies.
      precision: of the trunk and the modes.
      onnx: the trunk runs in ONNX Runtime.
    """
    import jax
    import jax.numpy as jnp

    from configs import default
    from multibodies_jax.hypotheses import hypotheses, quantize
    from multibodies_jax.models import exact_layers, folded_flow
    from multibodies_jax.training import inference, prior, setup

    bodies = setup.load_bodies(default.get_config())
    (model, variables), density_variables = _folded(num_hypotheses, precision)
    density_net, density_variables = folded_flow.fold(density_variables)
    density = prior.Prior(jax.tree.map(jnp.asarray, density_variables), density_net, None)
    regressor, read = inference.Regressor(variables, bodies, model, num_hypotheses, 0, 0, None), lambda inputs: inputs
    if onnx:
        regressor, read = inference.with_onnx_trunk(regressor)
    regressor, size = jax.tree.map(jnp.asarray, regressor), len(image)
    inputs = random_data.inputs(size, image)
    keys, pick = jax.random.split(jax.random.key(0), size), jax.jit(hypotheses.pick)

    def choose(scored):
        return pick(scored, quantize.select(scored, n, keys, reading="released").medoid)

    def run():
        scored = inference.hypothesize(regressor, density, read(inputs.replace(image=jnp.asarray(image))))
        return jax.device_get(choose(scored)), scored

    def features(params, inputs):
        feature = inputs.feature
        if feature is None:
            feature = model.trunk.apply({"params": params["trunk"]}, inputs, False)
        return model.modes.apply({"params": params["modes"]}, feature, False)

    def stages():
        dense, params = exact_layers.Dense(157), regressor.variables["params"]
        network, score, decode = jax.jit(features), jax.jit(inference.score), jax.jit(hypotheses.decode)
        head = jax.jit(lambda layer, x: dense.apply({"params": layer}, x))
        feature = network(params, read(inputs))
        states = head(params["map_0"], feature)
        scored = score(decode(states, bodies.j24), density)
        found = {
            "trunk and modes": lambda: network(params, read(inputs)),
            "head": lambda: head(params["map_0"], feature),
            "bodies and joints": lambda: decode(states, bodies.j24),
            "log p(X)": lambda: score(scored, density),
            f"quantizer, n={n}": lambda: choose(scored),
        }
        for stage in found.values():
            jax.block_until_ready(stage())
        return {name: lambda stage=stage: jax.block_until_ready(stage()) for name, stage in found.items()}

    return run, stages


def _folded(num_hypotheses: int, precision: str) -> tuple[Any, dict]:
    """The folded network with its variables, and the flow's variables, from the random tensors."""
    from multibodies_jax.convert import layouts, placing
    from multibodies_jax.models import build

    network, flow = random_tensors(num_hypotheses, dead=False)
    flat = _placed(layouts.network(num_hypotheses), network)
    mean_state = flat.pop("mean_state")[0]
    model = build.build(mean_state=mean_state, head="released", num_hypotheses=num_hypotheses, dtype=precision)
    density = placing.nest(_placed(layouts.flow(20, 512), flow))
    density["masks"] = {"couplings": density["masks"]["couplings"] > 0}
    density["stats"] = {"mean": np.zeros(72, np.float32), "std": np.ones(72, np.float32)}
    return build.HEADS["released"].fold(model, placing.nest(flat)), density


def _placed(layout: Any, tensors: Tensors) -> Tensors:
    """Where the tensors go in ours: path -> array."""
    from multibodies_jax.convert import placing

    arrays = {path: np.zeros(shape, np.float32) for path, shape in placing.target_shapes(layout).items()}
    for slot in layout.slots:
        arrays[slot.target][slot.index] = tensors[slot.name].transpose(slot.axes)
    return arrays


def prepare_torch(
    program: str, num_hypotheses: int, image: np.ndarray, n: int, device: str, precision: str
) -> Callable[[], dict]:
    """One of the PyTorch programs, with first rows of its own."""
    from benchmarks import torch_programs
    from multibodies_jax.body import body_files

    network, flow = random_tensors(num_hypotheses, dead=program == "as released")
    run = torch_programs.prepare(program, network, flow, body_files.load(), device, precision)
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(num_hypotheses - 1)[: n - 1] for _ in image])
    return lambda: run(image, n, rows)


def work(program: str, setting: "Setting", memory: int) -> None:
    """Prepares a program and gives its bytes and the seconds of that; then at every turn a pass, its seconds and its stages."""
    if setting.one_core:  # Before the libraries count the cores.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if setting.device == "cpu":  # A GPU's driver maps far more than it takes.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    from benchmarks import torch_programs  # noqa: F401  All processes import the same.

    image, compiled = random_data.crops(setting.batch), dict[str, Callable]  # PyTorch's programs have no stages.
    before = _bytes_before(setting.device)
    start = time.perf_counter()
    if program in ("ours", ONNX):
        its = setting.num_hypotheses, image, REPRESENTATIVES, setting.precision
        run, compiled = prepare_ours(*its, onnx=program == ONNX)
    else:
        device = "cpu" if setting.device == "cpu" else "cuda"
        run = prepare_torch(program, setting.num_hypotheses, image, REPRESENTATIVES, device, setting.precision)
    run()
    prepared = time.perf_counter() - start
    peak = _peak_bytes(run, program, setting.device, before)
    stages = compiled()

    def measured() -> dict[str, Any]:
        seconds = turns.timed(run, setting.clock)
        return {"seconds": seconds, "stages": {k: turns.timed(stage, setting.clock) for k, stage in stages.items()}}

    turns.serve({"bytes": peak, "prepared": prepared}, measured)


def _bytes_before(device: str) -> int:
    from benchmarks.joints import memory_bytes

    return memory_bytes("VmRSS") if device == "cpu" else 0


def _peak_bytes(run: Callable[[], Any], program: str, device: str, before: int) -> int:
    """The peak of a pass: of the process above what it held before, or of the device."""
    if device == "cpu":
        from benchmarks.joints import peak_bytes

        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # What was freed while preparing is no need of the pass.
        return peak_bytes(run) - before
    if program == "ours":
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    import torch

    return torch.cuda.max_memory_allocated()


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the programs are compared at; `precision` is of the trunk."""

    num_hypotheses: int
    batch: int
    device: str = "cpu"
    precision: str = "float32"
    one_core: bool = False

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that can run so."""
        onnx = self.device == "cpu" and self.precision == "float32"
        return tuple(program for program in PROGRAMS if onnx or program != ONNX)

    @property
    def clock(self) -> Callable[[], float]:
        return time.process_time if self.one_core else time.perf_counter

    def __str__(self) -> str:
        cores = ", CPU time of one core" if self.one_core else ""
        return f"M = {self.num_hypotheses}, batch {self.batch}, {self.device}, trunk {self.precision}{cores}"


def start(setting: Setting, memory: int) -> dict[str, turns.Process]:
    """A process for each program, which prepare at the same time."""
    options = [f"--memory_bytes={memory}", f"--modes={setting.num_hypotheses}", f"--batch={setting.batch}"]
    options += [f"--device={setting.device}", f"--precision={setting.precision}"]
    options += ["--one_core"] if setting.one_core else []
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # They share the device.
    return {
        program: turns.Process(program, "benchmarks.released", [f"--worker={program}", *options], shared)
        for program in setting.programs
    }


def compare(processes: dict[str, turns.Process], seconds: float) -> dict[str, dict[str, Any]]:
    """Runs the programs in turns for about `seconds`, ends all and returns medians of those that could run."""
    found = turns.answers(processes, seconds)
    return {program: processes[program].wait() | _medians(passes) for program, passes in found.items()}


def _medians(passes: list[dict]) -> dict[str, Any]:
    stages = {name: float(np.median([p["stages"][name] for p in passes])) for name in passes[0]["stages"]}
    return {"seconds": float(np.median([p["seconds"] for p in passes])), "stages": stages}


def table(setting: Setting, results: dict[str, dict[str, Any]]) -> str:
    """Milliseconds per image and memory of each program, ratios to ours, and the shares of our stages."""
    lines, batch = [str(setting)], setting.batch
    ours, onnx = results.get("ours"), results.get(ONNX)
    for program in setting.programs:
        if program not in results:
            lines.append(f"  {program:12s} {turns.FAILED}")
            continue
        found = results[program]
        line = f"  {program:12s}{1e3 * found['seconds'] / batch:9.3f} ms per image, {found['bytes'] / 2**20:6.0f} MiB"
        line += f", ready after {found['prepared']:.0f} s"
        if ours and program != "ours":
            speed, memory = found["seconds"] / ours["seconds"], found["bytes"] / ours["bytes"]
            line += f": ours is {speed:.2f} x as fast, with 1 / {memory:.1f} of the memory"
        if onnx and program not in ("ours", ONNX):
            line += f"; {ONNX} {found['seconds'] / onnx['seconds']:.2f} x"
        lines.append(line)
    stages = ours["stages"] if ours else {}
    total = sum(stages.values())
    lines += [f"    {k:20s}{1e3 * v / batch:9.3f} ms {100 * v / total:6.2f} %" for k, v in stages.items()]
    return "\n".join(lines)


def tell(setting: Setting, results: dict[str, dict[str, Any]]) -> None:
    """The same as lines of JSON."""
    ours = results.get("ours", {})
    for program, its in results.items():
        measured = {"ms per image": 1e3 * its["seconds"] / setting.batch, "MiB": its["bytes"] / 2**20}
        measured["ready after, s"] = its["prepared"]
        for name in [name for name in ("ours", ONNX) if name in results and not program.startswith("ours")]:
            measured[f"{name}: times as fast"] = its["seconds"] / results[name]["seconds"]
        figures.tell("released", str(setting), program, measured)
    for name, seconds in ours.get("stages", {}).items():
        figures.tell("stages", str(setting), name, {"ms per image": 1e3 * seconds / setting.batch})


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo has no MemAvailable: this benchmark needs Linux.")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.released", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modes", type=int, nargs="+", default=[25, 100], help="hypotheses M, more than 10")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 64], help="crops at once")
    parser.add_argument(
        "--seconds", type=float, default=20, help="for the rounds of each M and batch; at least 3 rounds"
    )
    parser.add_argument("--memory", type=float, default=24, help="most that a program may take, GiB")
    parser.add_argument("--device", choices=("cpu", "gpu"), help="default: a GPU where JAX finds one")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("float32", "bfloat16"),
        default=["float32"],
        help="of the trunk; float32 takes TF32 on a GPU",
    )
    parser.add_argument("--one_core", action="store_true", help="CPU time of one core; not on a GPU")
    parser.add_argument("--worker", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--memory_bytes", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if min(args.modes) <= REPRESENTATIVES or min(args.batch) < 1:
        parser.error(f"--modes must be more than {REPRESENTATIVES}, --batch at least 1.")
    if needs.are_missing(needs.PYTORCH):
        return 2
    device = args.device or _device()
    if args.one_core and device == "gpu":
        parser.error("--one_core counts the processor's time: set JAX_PLATFORMS=cpu and --device=cpu.")
    settings = [Setting(m, b, device, p, args.one_core) for m in args.modes for b in args.batch for p in args.precision]
    if args.worker:
        work(args.worker, settings[0], args.memory_bytes)
        return 0
    memory, ran = min(int(args.memory * 2**30), _available_bytes()), False
    # A GPU has the memory for all, and compiling takes longer than all the passes: it is done side by side, and nothing is
    # measured before all have ended.
    for together in [settings] if device == "gpu" else [[setting] for setting in settings]:
        started = [start(setting, memory) for setting in together]
        for process in itertools.chain.from_iterable(processes.values() for processes in started):
            process.wait()
        for setting, processes in zip(together, started, strict=True):
            found = compare(processes, args.seconds)
            print(table(setting, found), flush=True)
            tell(setting, found)
            ran |= bool(found)
    return int(not ran)


def _device() -> str:
    return "cpu" if turns.ask_jax("jax.default_backend()") == "cpu" else "gpu"


if __name__ == "__main__":
    sys.exit(main())
