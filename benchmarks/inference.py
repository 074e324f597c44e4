r"""What each stage of a full inference pass costs, and how much of the device's arithmetic it uses.

    python -m benchmarks.inference [--batch 1 8] [--hypotheses 100] [--head=paper] [--dtype float32] [--repeats=20]
    python -m benchmarks.inference --head=released --hypotheses 1 25 100 --batch 1 8 64 256 --dtype float32 bfloat16   # a GPU

The paper's setting: ResNet-50 on crops of 224 pixels, M = 100, a prior of 20 couplings 512 wide, all folded as prediction
runs them; weights are random. A pass is a crop on the device -> states -> bodies with joints -> log p(X) -> n
representatives -> their meshes; n is 10 and 25 where M is larger. Every stage is compiled on its own and timed until its
result is there; the stages take turns, medians count. "in one" is network, bodies and log p(X) in one program, as
prediction runs them: a pass is this, the choice and the meshes. A JSON line follows each. Its share is what its products and convolutions are of
those that a large product reaches in the same run, in the type of the trunk (float32 takes TF32 on a GPU); its memory is
that of its arguments, results and temporaries, as XLA plans it; and "compiled in" is tracing and compiling it alone.
"""

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import figures, random_data, roofline, turns
from configs import default
from multibodies_jax import exact
from multibodies_jax.batch import Inputs
from multibodies_jax.body import smpl
from multibodies_jax.hypotheses import hypotheses, quantize
from multibodies_jax.models import build, flow, folded_flow
from multibodies_jax.training import inference, prior, setup

NS = (10, 25)
IN_ONE = "in one"
READINGS = {"released": "released"}
"""The quantizer's reading by the head, where it is not the paper's."""
Stages = dict[str, Callable[[], Any]]
Fill = Callable[[Callable[[jax.Array], Any], jax.Array], Any]
"""What gives a network its variables, of the function that starts them and a key."""


@dataclasses.dataclass(frozen=True)
class Program:
    """What is known of the network with its bodies and log p(X), in one program.

    Attributes:
      operations: multiplications and additions of its products and convolutions.
      bytes: of its arguments, results and temporaries.
      seconds: of tracing and compiling it.
    """

    operations: int
    bytes: int
    seconds: float


def prepare(batch: int, *, flow_width: int = 512, apart: bool = True, **fields: Any) -> tuple[Stages, Program]:
    """The stages of `batch` crops by name, each on the results of those before it, compiled; and the program of the pass.

    Args:
      batch: crops at once.
      flow_width: of the prior's networks.
      apart: not only the program of the pass.
      **fields: of the model, where they differ from the paper's.
    """
    regressor, density = _random(flow_width, **fields)
    side = fields.get("crop_size", 224)
    inputs = random_data.inputs(batch, random_data.crops(batch, side))
    start = time.perf_counter()
    compiled = inference.hypothesize.lower(regressor, density, inputs).compile()
    seconds, needs = time.perf_counter() - start, compiled.memory_analysis()
    program = Program(
        operations=roofline.operations(_hypothesize, regressor, density, inputs),
        bytes=needs.argument_size_in_bytes + needs.output_size_in_bytes + needs.temp_size_in_bytes,
        seconds=seconds,
    )
    whole: Stages = {IN_ONE: lambda: compiled(regressor, density, inputs)}
    if not apart:
        jax.block_until_ready(whole[IN_ONE]())
        return whole, program
    network = jax.jit(lambda regressor, inputs: regressor.model.apply(regressor.variables, inputs, train=False))
    decode, score, pick = jax.jit(hypotheses.decode), jax.jit(inference.score), jax.jit(hypotheses.pick)
    meshes = jax.jit(lambda body, chosen: smpl.mesh(body, chosen.rotmats, chosen.betas))
    states, body = network(regressor, inputs), regressor.bodies
    scored = score(decode(states, body.j24), density)
    stages: Stages = whole | {
        "network": lambda: network(regressor, inputs),
        "bodies and joints": lambda: decode(states, body.j24),
        "log p(X)": lambda: score(scored, density),
    }
    keys = jax.random.split(jax.random.key(2), batch)
    for n in NS:
        if n >= regressor.num_hypotheses:
            continue
        reading = READINGS.get(fields.get("head", "paper"), "paper")
        select = functools.partial(quantize.select, scored, n, keys, reading=reading)
        medoids = select().medoid
        stages[f"quantizer, n={n}"] = select
        stages[f"meshes, n={n}"] = lambda medoids=medoids: meshes(body.files.smpl, pick(scored, medoids))
    for stage in stages.values():
        jax.block_until_ready(stage())
    return stages, program


def _hypothesize(regressor: inference.Regressor, density: prior.Prior, inputs: Inputs) -> hypotheses.Hypotheses:
    return inference.score(regressor(inputs), density)


@functools.lru_cache(maxsize=1)
def _random(flow_width: int, **fields: Any) -> tuple[inference.Regressor, prior.Prior]:
    """The folded network and prior with random weights, on the device."""
    return jax.tree.map(jnp.asarray, (folded_network(_drawn, **fields), folded_prior(_drawn, flow_width)))


def folded_network(fill: Fill, **fields: Any) -> inference.Regressor:
    """The folded network.

    Args:
      fill: gives its variables before they are folded.
      **fields: of the model, where they differ from the paper's.
    """
    bodies = setup.load_bodies(default.get_config())
    files = bodies.files
    mean_state = np.concatenate([files.mean_rot6d, files.mean_betas, files.mean_cam])
    model, side = build.build(mean_state=mean_state, **fields), fields.get("crop_size", 224)
    crop = random_data.inputs(1, random_data.crops(1, side))
    variables = fill(lambda key: model.init({"params": key, "dropout": key}, crop, train=False), jax.random.key(0))
    folded, variables = build.HEADS[fields.get("head", "paper")].fold(model, variables)
    return inference.Regressor(variables, bodies, folded, fields.get("num_hypotheses", 100), 0, 0, None)


def folded_prior(fill: Fill, width: int = 512, unrolled: int | None = None) -> prior.Prior:
    """The folded prior; `fill` as that of `folded_network`, `unrolled` as that of `folded_flow.fold`."""
    net = flow.Flow(width=width)
    variables = fill(lambda key: net.init(key, jnp.zeros((2, 72)), method="log_prob"), jax.random.key(1))
    folded, variables = folded_flow.fold(variables, unrolled)
    return prior.Prior(variables, folded, None)


def _drawn(start: Callable, key: jax.Array) -> Any:
    return jax.jit(start)(key)


def measure(stages: Stages, repeats: int) -> dict[str, float]:
    """Median seconds of each stage; they take turns."""
    return dict(zip(stages, turns.medians(list(stages.values()), repeats), strict=True))


def passes(seconds: Mapping[str, float]) -> dict[int, dict[str, float]]:
    """The stages of the pass with each n that was chosen: those of all passes and its own; without a choice, n is 0."""
    ns = [n for n in NS if f"quantizer, n={n}" in seconds] or [0]
    return {n: {k: v for k, v in seconds.items() if "n=" not in k or k.endswith(f"n={n}")} for n in ns}


def of_images(batch: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds per image of each pass and of each stage on its own, by their names.

    Args:
      batch: crops at once.
      seconds: of each stage.
    """
    found = {}
    for n, stages in passes(seconds).items():
        apart = {name: value for name, value in stages.items() if name != IN_ONE}
        if apart:
            after = sum(value for name, value in apart.items() if "n=" in name)
            end = f", n={n}" * bool(n)
            found |= {f"pass{end}": seconds[IN_ONE] + after, f"stages apart{end}": sum(apart.values())} | apart
    return {name: 1e3 * value / batch for name, value in found.items()}


def of_pass(batch: int, seconds: float, program: Program, peak: float) -> dict[str, float]:
    """What is known of the program of the pass, by what it is.

    Args:
      batch: crops at once.
      seconds: of a call.
      program: the program.
      peak: operations per second of a large product.
    """
    return {
        "ms per image": 1e3 * seconds / batch,
        "% of the peak": 100 * program.operations / seconds / peak,
        "peak, Tflop/s": peak / 1e12,
        "MiB": program.bytes / 2**20,
        "compiled in, s": program.seconds,
    }


def table(about: str, batch: int, seconds: Mapping[str, float], program: Program, peak: float) -> str:
    """Milliseconds per image of the pass and of its stages; arguments as those of `of_pass` and `of_images`."""
    its = of_pass(batch, seconds[IN_ONE], program, peak)
    lines = [
        f"{about}, batch {batch}: in one {its['ms per image']:.3f} ms per image, {its['% of the peak']:.1f} % of "
        f"{its['peak, Tflop/s']:.2f} Tflop/s, {its['MiB']:.0f} MiB, compiled in {its['compiled in, s']:.0f} s"
    ]
    return "\n".join(lines + [f"  {name:24s}{ms:10.3f} ms" for name, ms in of_images(batch, seconds).items()])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inference", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="crops at once")
    parser.add_argument("--hypotheses", type=int, nargs="+", default=[100], help="M")
    parser.add_argument("--trunk", choices=tuple(build.TRUNKS), default="resnet50")
    parser.add_argument("--size", type=int, default=224, help="of the crops, pixels")
    parser.add_argument("--head", choices=tuple(build.HEADS), default="paper")
    parser.add_argument(
        "--dtype", nargs="+", choices=tuple(exact.TRUNK_DTYPES), default=["float32"], help="of the trunk"
    )
    parser.add_argument("--in_one", action="store_true", help="no stages apart: less to compile")
    parser.add_argument("--repeats", type=int, default=20, help="timed rounds of all stages")
    args = parser.parse_args(argv)
    if min(*args.batch, *args.hypotheses, args.repeats) < 1:
        parser.error("--batch, --hypotheses and --repeats must be at least 1.")
    for dtype in args.dtype:
        peak = roofline.peak(dtype)
        for m in args.hypotheses:
            for batch in args.batch:
                stages, program = prepare(
                    batch,
                    apart=not args.in_one,
                    trunk=args.trunk,
                    crop_size=args.size,
                    head=args.head,
                    num_hypotheses=m,
                    dtype=dtype,
                )
                about = f"{args.trunk}, {args.head}, M = {m}, {dtype}"
                seconds = measure(stages, args.repeats)
                print(table(about, batch, seconds, program, peak), flush=True)
                where = f"{about}, batch {batch}"
                figures.tell("pass", where, IN_ONE, of_pass(batch, seconds[IN_ONE], program, peak))
                for name, ms in of_images(batch, seconds).items():
                    figures.tell("pass", where, name, {"ms per image": ms})


if __name__ == "__main__":
    main()
