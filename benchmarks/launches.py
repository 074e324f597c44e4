r"""What a GPU starts for one photograph: kernels, and how often it waits for the host; counted without a GPU.

    python -m benchmarks.launches [--hypotheses=100] [--steps=5]

XLA compiles each program for an H100 (`jax.experimental.topologies`), which needs JAX's CUDA plugin and no device:
pip install -e .[cuda12]. What it starts is then counted in the compiled text: fusions, calls of libraries and copies, those
of a loop as often as it runs. A loop that does not know how often it runs makes the GPU wait for the host before each round:
these are the rounds of the quantizer's best start, or of Lloyd's, and --steps of them are counted. Batch 1, crops of 224
pixels, a flow of 20 couplings 512 wide; the network with its bodies and log p(X) is one program, as in prediction, and so
is a choice of n bodies here, which prediction makes in three. Autotuning and Triton's products are off: on a GPU it may
choose other kernels for a product, and their number may differ by a few. Prints a table, and a JSON line for each program.
"""

import argparse
import dataclasses
import functools
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import figures, needs, random_data
from benchmarks import inference as random_passes
from configs import default
from multibodies_jax.hypotheses import hypotheses, quantize
from multibodies_jax.models import folded_flow, winograd
from multibodies_jax.training import inference, setup

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
runtime_version: { major: 12 minor: 8 patch: 0 }
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""The device that is compiled for, as XLA describes it (stream_executor.GpuTargetConfigProto)."""

OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}
"""Of XLA: autotuning would run kernels, and Triton's have no settings without it, so that compiling fails."""

# Instructions that start nothing on the device.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"}
_FREE |= {"partition-id", "replica-id", "copy-done", "async-done"}
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([\w\-]+)\(")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")


@dataclasses.dataclass(frozen=True)
class Launches:
    """What running a compiled program makes the device do."""

    kernels: int
    waits: int

    def __add__(self, other: "Launches") -> "Launches":
        return Launches(self.kernels + other.kernels, self.waits + other.waits)

    def __sub__(self, other: "Launches") -> "Launches":
        return Launches(self.kernels - other.kernels, self.waits - other.waits)

    def __mul__(self, times: int) -> "Launches":
        return Launches(self.kernels * times, self.waits * times)


def count(text: str, steps: int) -> Launches:
    """Counts what a program starts.

    Args:
      text: of the compiled program (`jax.stages.Compiled.as_text`).
      steps: rounds of each loop that does not know how often it runs; the host reads its condition once more than that.
    """
    programs, entry = _programs(text)

    def of(name: str) -> Launches:
        return sum(map(of_line, programs[name]), Launches(0, 0))

    def of_line(line: str) -> Launches:
        found = _INSTRUCTION.match(line)
        if not found or found[1] in _FREE:
            return Launches(0, 0)
        if found[1] == "while":
            rounds = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
            if rounds:
                return of(_called(line, "body")) * int(rounds[1])
            asked = of(_called(line, "condition")) + Launches(0, 1)
            return of(_called(line, "body")) * steps + asked * (steps + 1)
        if found[1] == "conditional":  # The host reads which branch it is; the longest counts.
            branches = re.search(r"branch_computations=\{([^}]*)\}", line)
            names = branches[1].split(", ") if branches else re.findall(r"(?:true|false)_computation=([^,\s]+)", line)
            longest = max((of(name.lstrip("%")) for name in names), key=lambda branch: branch.kernels)
            return longest + Launches(0, 1)
        if found[1] == "call":
            return of(_called(line, "to_apply"))
        return Launches(1, 0)

    return of(entry)


def _programs(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation by its name, and the name of the one that is run."""
    programs: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            lines = programs.setdefault(found[2], [])
            entry = found[2] if found[1] else entry
        else:
            lines.append(line)
    return programs, entry


def _called(line: str, role: str) -> str:
    found = re.search(rf"{role}=%?([\w.\-]+)", line)
    assert found  # XLA writes it.
    return found[1]


@dataclasses.dataclass(frozen=True)
class Row:
    """What was counted of one program.

    Attributes:
      name: of the program.
      launches: with the steps that were asked for.
      step: what each step more adds.
      seconds: of compiling it; 0 for a sum of others.
    """

    name: str
    launches: Launches
    step: Launches
    seconds: float = 0.0


def rows(num_hypotheses: int, steps: int) -> Iterator[Row]:
    """Counts the programs of a pass with M = 25 and `num_hypotheses`, the stages alone, and the passes as their sums."""
    compile_text, made = compiler(), {}
    for name, (function, arguments) in programs(num_hypotheses).items():
        start = time.perf_counter()
        text = compile_text(function, arguments)
        seconds = time.perf_counter() - start
        launches = count(text, steps)
        made[name] = Row(name, launches, count(text, steps + 1) - launches, seconds)
        yield made[name]
    for network, reading in passes(num_hypotheses).items():
        parts = made[network], made[reading]
        launches, step = (sum((getattr(part, of) for part in parts), Launches(0, 0)) for of in ("launches", "step"))
        yield Row(f"whole pass, {network}", launches, step)


def passes(num_hypotheses: int) -> dict[str, str]:
    """The programs of a whole pass, crop in, 10 bodies out: the network, and the quantizer after it."""
    both = {f"released network, M = {m}": f"quantizer, released, M = {m}, n = 10" for m in (25, num_hypotheses)}
    return both | {f"paper's head, M = {num_hypotheses}": f"quantizer, paper, M = {num_hypotheses}, n = 10"}


def programs(num_hypotheses: int) -> dict[str, tuple[Any, tuple]]:
    """Functions and the shapes of their arguments, by the names of the rows."""
    density, found = random_passes.folded_prior(zeros, unrolled=folded_flow.UNROLLED_ON_ACCELERATORS), {}
    inputs = random_data.inputs(1, random_data.crops(1))
    for head, m in (("released", 25), ("released", num_hypotheses), ("paper", num_hypotheses)):
        regressor = random_passes.folded_network(zeros, head=head, num_hypotheses=m)
        regressor = regressor.replace(variables=winograd.plain(regressor.variables))  # It was folded for a processor.
        name = f"released network, M = {m}" if head == "released" else f"paper's head, M = {m}"
        found[name] = inference.hypothesize, (regressor, density, inputs)
    points = jax.ShapeDtypeStruct((1, num_hypotheses, 72), jnp.float32)
    found[f"log p(X), M = {num_hypotheses}"] = jax.jit(lambda density, x: density.log_prob(x)), (density, points)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    choices = [("paper", num_hypotheses, n) for n in (5, 10, 25)]
    choices += [("released", m, 10) for m in (25, num_hypotheses)]
    for reading, m, n in choices:
        hyps = jax.eval_shape(*_hypotheses(m))
        choose = jax.jit(functools.partial(_choose, n, reading))
        found[f"quantizer, {reading}, M = {m}, n = {n}"] = choose, (hyps, keys)
    return found


def _choose(n: int, reading: str, hyps: hypotheses.Hypotheses, keys: jax.Array) -> Any:
    found = quantize.select(hyps, n, keys, reading=reading)
    return hypotheses.pick(hyps, found.medoid), found


def _hypotheses(num_hypotheses: int) -> tuple[Callable, jax.ShapeDtypeStruct]:
    bodies = setup.load_bodies(default.get_config())

    def decoded(states: jax.Array) -> hypotheses.Hypotheses:
        hyps = hypotheses.decode(states, bodies.j24)
        return dataclasses.replace(hyps, log_prior=jnp.zeros((1, num_hypotheses)))

    return decoded, jax.ShapeDtypeStruct((1, num_hypotheses, hypotheses.STATE_SIZE), jnp.float32)


def zeros(start: Callable, key: jax.Array) -> Any:
    """Variables of the right shapes: what is computed with them is not run."""
    return jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), jax.eval_shape(start, key))


def device() -> Any:
    """An H100 that is not there, to compile for."""
    return topologies.get_topology_desc("h100", "cuda", target_config=H100, topology="1x1x1").devices[0]


def compiler() -> Callable[[Any, tuple], str]:
    """Compiles a jitted function with arguments of some shapes for one H100; gives the compiled text."""
    place = NamedSharding(Mesh(np.array([device()]), ("one",)), PartitionSpec())

    def compile_text(function: Any, arguments: tuple) -> str:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), arguments)
        return function.lower(*shapes).compile(OPTIONS).as_text()

    return compile_text


def table(found: list[Row], steps: int) -> str:
    """The rows in Markdown."""
    lines = [
        f"| program | kernels, {steps} steps | of each step | waits, {steps} steps | of each step |",
        "|---" * 5 + "|",
    ]
    lines += [
        f"| {row.name} | {row.launches.kernels} | {row.step.kernels} | {row.launches.waits} | {row.step.waits} |"
        for row in found
    ]
    return "\n".join(lines)


def can_compile() -> bool:
    """Whether programs can be compiled for a GPU here; says what is missing. Keeps JAX from a GPU, if there is one."""
    if needs.are_missing(needs.CUDA):
        return False
    jax.config.update("jax_platforms", "cpu")  # Nothing runs on a GPU.
    return True


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.launches", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hypotheses", type=int, default=100, help="M of the larger networks, more than 25")
    parser.add_argument("--steps", type=int, default=5, help="rounds of the loops that do not know how often they run")
    args = parser.parse_args(argv)
    if args.hypotheses <= 25 or args.steps < 0:
        parser.error("--hypotheses must be more than 25, --steps at least 0.")
    if not can_compile():
        return 2
    found = []
    for row in rows(args.hypotheses, args.steps):
        found.append(row)
        print(f"{row.name}: {row.seconds:.0f} s", file=sys.stderr, flush=True)
    print(table(found, args.steps) + "\n")
    for row in found:
        several, one = row.launches, row.step
        measured = {f"kernels, {args.steps} steps": several.kernels, "kernels of a step": one.kernels}
        measured |= {f"waits, {args.steps} steps": several.waits, "waits of a step": one.waits}
        figures.tell("kernels", "batch 1, compiled for an H100", row.name, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
