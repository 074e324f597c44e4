r"""GraphCMR's forward pass, crop in, vertices and SMPL's parameters out, against two PyTorch programs of our own.

    python -m benchmarks.graphcmr [--batch 8] [--seconds=30]

The published sizes: ResNet-50, crops of 224 pixels, the embedded body with 6,890 vertices, 1,723 of them in the coarse mesh.
All programs have the same random weights; "dense" and "sparse" are described in `benchmarks.graphcmr_torch`. Each program
is a process of its own; they take turns, medians count.
"""

import argparse
import functools
import importlib.util
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import figures

PROGRAMS = ("ours", "dense", "sparse")


def random_tensors(vertices: int) -> dict[str, dict[str, np.ndarray]]:
    """Tensors of GraphCMR's two networks by their names in its checkpoints, of ordinary size; unused ones are left out."""
    from multibodies_jax.convert import layouts

    kinds = {"graph_cnn": layouts.graph_cnn(vertices), "smpl_param_regressor": layouts.smpl_regressor(vertices)}
    return {key: {slot.name: _draw(slot.name, slot.shape) for slot in kind.slots} for key, kind in kinds.items()}


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    numbers = rng.standard_normal(shape, np.float32)
    if len(shape) < 2:
        return np.float32(0.2) * numbers
    return numbers / np.float32(np.sqrt(np.prod(shape[1:])))


def crops(batch: int, side: int = 224) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.uint8)


def features(batch: int) -> np.ndarray:
    """What a trunk could make of crops."""
    from multibodies_jax.convert import layouts

    return np.random.default_rng(1).normal(size=(batch, 32 * layouts.WIDTH)).astype(np.float32)


def prepare_ours(body: Any, batch: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Compiled calls with the names of `graphcmr_torch.prepare`: the whole pass of crops, and that of features."""
    import jax
    import jax.numpy as jnp

    from multibodies_jax.baselines.graphcmr import hierarchy, network
    from multibodies_jax.batch import Inputs
    from multibodies_jax.convert import layouts
    from multibodies_jax.hypotheses import hypotheses
    from multibodies_jax.models import folding, hmr, resnet

    levels = hierarchy.of_body(body)
    model = network.GraphCMR(
        trunk=resnet.ResNet50(),
        settings=hmr.HeadSettings((1.0,) * hypotheses.STATE_SIZE, 1),
        frozen="",
        levels=levels,
        template=hierarchy.template_of(np.asarray(body.v_template)),
        channels=layouts.CHANNELS,
        blocks=layouts.BLOCKS,
        hidden=layouts.HIDDEN,
        rotation="published",
    )
    model, variables = folding.fold(model, our_variables(levels))
    variables = jax.tree.map(jnp.asarray, variables)
    inputs = Inputs(jnp.zeros((batch, 24, 2)), jnp.ones((batch, 24)), jnp.zeros(batch, jnp.uint32))

    @jax.jit
    def apply(variables: Any, inputs: Inputs) -> dict[str, Any]:
        states, told = model.apply(variables, inputs, mutable=["extras"])
        pose, betas, cam = hypotheses.split_state(states[:, 0])
        vertices = told["extras"][hypotheses.VERTICES][0][:, 0]
        return {"vertices": vertices, "cam": cam, "six": pose.reshape(-1, 24, 3, 2), "betas": betas}

    given = {
        "whole": inputs.replace(image=jnp.asarray(crops(batch))),
        "graph": inputs.replace(feature=jnp.asarray(features(batch))),
    }
    return {name: functools.partial(_ready, apply, variables, its) for name, its in given.items()}


def _ready(call: Callable[..., Any], *arguments: Any) -> Any:
    import jax

    return jax.block_until_ready(call(*arguments))


def our_variables(levels: Any) -> dict[str, Any]:
    """The random tensors as variables of our module."""
    from multibodies_jax.baselines.graphcmr import network
    from multibodies_jax.convert import layouts, placing

    vertices = len(levels.kept)
    tensors, flat = random_tensors(vertices), {}
    kinds = {"graph_cnn": layouts.graph_cnn(vertices), "smpl_param_regressor": layouts.smpl_regressor(vertices)}
    for key, kind in kinds.items():
        flat |= {slot.target: tensors[key][slot.name].transpose(slot.axes) for slot in kind.slots}
    tree = placing.nest(flat)
    tree["batch_stats"][network.HIERARCHY] = levels.arrays()
    return tree


def prepare_torch(program: str, body: Any) -> Callable[[np.ndarray], dict[str, Any]]:
    """One of the PyTorch programs on the same mesh; see `graphcmr_torch.prepare`."""
    from benchmarks import graphcmr_torch
    from multibodies_jax.baselines.graphcmr import hierarchy

    levels = hierarchy.of_body(body)
    size = len(levels.kept)
    tensors = random_tensors(size)
    adjacency, upsampling = np.zeros((size, size)), np.zeros((len(levels.corners), size))
    adjacency[np.arange(size)[:, None], levels.neighbours] = 1
    np.add.at(upsampling, (np.arange(len(upsampling))[:, None], levels.corners), levels.weights)
    return graphcmr_torch.prepare(
        program,
        tensors["graph_cnn"],
        tensors["smpl_param_regressor"],
        adjacency / adjacency.sum(axis=1, keepdims=True),
        upsampling,
        hierarchy.template_of(np.asarray(body.v_template)).vertices[levels.kept],
    )


def work(program: str, batch: int) -> None:
    """Prepares a program; then for every line on stdin a pass, and its seconds, and those of its graph, on stdout."""
    from multibodies_jax.body import body_files

    body = body_files.load().smpl
    calls: dict[str, Callable[[], Any]]
    if program == "ours":
        calls = prepare_ours(body, batch)
    else:
        run, image, feature = prepare_torch(program, body), crops(batch), features(batch)
        calls = {"whole": lambda: run(image), "graph": lambda: run(feature)}
    for call in calls.values():
        call()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps({name: _seconds(call) for name, call in calls.items()}), flush=True)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(batch: int, seconds: float) -> dict[str, dict[str, float]]:
    """Median seconds of every program, in turns for about `seconds` and at least three times each."""
    workers = {
        program: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.graphcmr", f"--worker={program}", f"--batch={batch}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for program in PROGRAMS
    }
    passes: dict[str, list[dict[str, float]]] = {program: [] for program in PROGRAMS}
    for worker in workers.values():
        assert worker.stdout is not None and worker.stdout.readline().strip() == "ready"
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(passes[PROGRAMS[0]]) < 3:
        for program, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
            passes[program].append(json.loads(worker.stdout.readline()))
    for worker in workers.values():
        worker.communicate()
    return {
        program: {name: float(np.median([one[name] for one in found])) for name in found[0]}
        for program, found in passes.items()
    }


def table(batch: int, results: Mapping[str, Mapping[str, float]]) -> str:
    """Milliseconds per image of each program, and how many times faster ours is."""
    lines = [f"batch {batch}"]
    for program, found in results.items():
        line = f"  {program:8s}{1e3 * found['whole'] / batch:9.1f} ms per image, without the trunk {1e3 * found['graph'] / batch:.1f}"
        if program != "ours":
            whole, graph = (found[part] / results["ours"][part] for part in ("whole", "graph"))
            line += f": ours is {whole:.2f} and {graph:.2f} x as fast"
        lines.append(line)
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[8], help="crops at once")
    parser.add_argument("--seconds", type=float, default=30, help="for the rounds of each batch; at least 3 rounds")
    parser.add_argument("--worker", choices=PROGRAMS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if min(args.batch) < 1:
        parser.error("--batch must be at least 1.")
    if importlib.util.find_spec("torch") is None:
        print("This benchmark compares with PyTorch, which is missing: pip install -e .[torch]", file=sys.stderr)
        return 2
    if args.worker:
        work(args.worker, args.batch[0])
        return 0
    for batch in args.batch:
        found = compare(batch, args.seconds)
        print(table(batch, found), flush=True)
        for program, its in found.items():
            measured = {f"{part}, ms per image": 1e3 * seconds / batch for part, seconds in its.items()}
            measured |= {f"{part}, times as long as ours": its[part] / found["ours"][part] for part in its}
            figures.tell("graphcmr", f"batch {batch}", program, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
