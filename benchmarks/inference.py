r"""What each stage of a full inference pass costs, the quantizer above all: its share should stay below 5 %.

    python -m benchmarks.inference [--batch 1 8] [--repeats=20]

The paper's setting: ResNet-50 on crops of 224 pixels, M = 100, a prior of 20 couplings 512 wide; weights are random. A
pass is a crop on the device -> states -> bodies with joints -> log p(X) -> n representatives -> their meshes. Every
stage is compiled on its own and timed until its result is there; the stages take turns, medians count, and a pass is
their sum.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax.batch import Inputs
from multibodies_jax.body import body_files, smpl
from multibodies_jax.hypotheses import hypotheses, quantize
from multibodies_jax.models import build, flow, folded_flow
from multibodies_jax.training import inference, prior

NS = (10, 25)
Stages = dict[str, Callable[[], Any]]


def prepare(batch: int, *, flow_width: int = 512, **fields: Any) -> Stages:
    """The stages of `batch` crops by name, each on the results of those before it; all are compiled.

    Args:
      batch: crops at once.
      flow_width: of the prior's networks.
      **fields: of the model, where they differ from the paper's.
    """
    files = body_files.load()
    joint_model = smpl.contract(files.smpl, files.j24_regressor)
    mean_state = np.concatenate([files.mean_rot6d, files.mean_betas, files.mean_cam])
    model = build.build(mean_state=mean_state, **fields)
    side = fields.get("crop_size", 224)
    crops = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.uint8)
    example = Inputs(jnp.zeros((batch, 24, 2)), jnp.ones((batch, 24)), jnp.zeros(batch, jnp.uint32), jnp.asarray(crops))
    variables = jax.jit(lambda key: model.init({"params": key, "dropout": key}, example, train=False))(
        jax.random.key(0)
    )
    network = jax.jit(lambda variables, example: model.apply(variables, example, train=False))
    decode = jax.jit(hypotheses.decode)
    states = jax.block_until_ready(network(variables, example))
    bodies = decode(states, joint_model)

    density_net = flow.Flow(width=flow_width)
    start = jax.jit(lambda key: density_net.init(key, jnp.zeros((2, 72)), method="log_prob"))(jax.random.key(1))
    folded, folded_variables = folded_flow.fold(start)
    density = prior.Prior(jax.tree.map(jnp.asarray, folded_variables), folded, 0.0)
    score = jax.jit(inference.score)
    scored = score(bodies, density)
    stages: Stages = {
        "network": lambda: network(variables, example),
        "bodies and joints": lambda: decode(states, joint_model),
        "log p(X)": lambda: score(bodies, density),
    }
    keys = jax.random.split(jax.random.key(2), batch)
    meshes = jax.jit(lambda body, chosen: smpl.mesh(body, chosen.rotmats, chosen.betas))
    pick = jax.jit(hypotheses.pick)
    for n in NS:
        medoids = quantize.select(scored, n, keys).medoid
        stages[f"quantizer, n={n}"] = lambda n=n: quantize.select(scored, n, keys)
        stages[f"meshes, n={n}"] = lambda medoids=medoids: meshes(files.smpl, pick(scored, medoids))
    for stage in stages.values():
        jax.block_until_ready(stage())
    return stages


def measure(stages: Stages, repeats: int) -> dict[str, float]:
    """Median seconds of each stage; they take turns, so that a slow moment of the machine meets them all."""
    seconds: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(repeats):
        for name, stage in stages.items():
            start = time.perf_counter()
            jax.block_until_ready(stage())
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in seconds.items()}


def passes(seconds: Mapping[str, float]) -> dict[int, dict[str, float]]:
    """The stages of the pass with each n: those of all passes and its own."""
    return {n: {k: v for k, v in seconds.items() if "n=" not in k or k.endswith(f"n={n}")} for n in NS}


def table(batch: int, seconds: Mapping[str, float]) -> str:
    """Milliseconds per image and share of each stage, one block per n."""
    lines = []
    for n, stages in passes(seconds).items():
        total = sum(stages.values())
        lines.append(f"batch {batch}, n={n}: {1e3 * total / batch:.2f} ms per image")
        for name, value in stages.items():
            lines.append(f"  {name:20s}{1e3 * value / batch:10.3f} ms {100 * value / total:6.2f} %")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="crops at once")
    parser.add_argument("--repeats", type=int, default=20, help="timed rounds of all stages")
    args = parser.parse_args()
    if min(*args.batch, args.repeats, 1) < 1:
        parser.error("--batch and --repeats must be at least 1.")
    for batch in args.batch:
        print(table(batch, measure(prepare(batch), args.repeats)), flush=True)


if __name__ == "__main__":
    main()
