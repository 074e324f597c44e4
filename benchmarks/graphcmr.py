r"""GraphCMR's forward pass, crop in, vertices and SMPL's parameters out, against two PyTorch programs of our own.

    python -m benchmarks.graphcmr [--batch 8] [--seconds=30]

The published sizes: ResNet-50, crops of 224 pixels, the embedded body with 6,890 vertices, 1,723 of them in the coarse mesh.
All programs have the same random weights; "dense" and "sparse" are described in `benchmarks.graphcmr_torch`. Each program
is a process of its own; they take turns, medians count. One that fails is left out with a line that says so.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import figures, needs, random_data, turns
from multibodies_jax.batch import Inputs

PROGRAMS = ("ours", "dense", "sparse")


def random_tensors(vertices: int) -> dict[str, dict[str, np.ndarray]]:
    """Tensors of GraphCMR's two networks by their names in its checkpoints, of ordinary size; unused ones are left out."""
    return {
        key: {slot.name: random_data.tensor(slot.name, slot.shape) for slot in kind.slots}
        for key, kind in _networks(vertices).items()
    }


def _networks(vertices: int) -> dict[str, Any]:
    """The layouts of both networks by their keys in the checkpoints."""
    from multibodies_jax.convert import layouts

    return {"graph_cnn": layouts.graph_cnn(vertices), "smpl_param_regressor": layouts.smpl_regressor(vertices)}


def features(batch: int) -> np.ndarray:
    """What a trunk could make of crops."""
    from multibodies_jax.convert import layouts

    return np.random.default_rng(1).normal(size=(batch, 32 * layouts.WIDTH)).astype(np.float32)


def prepare_ours(body: Any, batch: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Calls with the names of `graphcmr_torch.prepare`: the whole pass of crops, and that of features."""
    import jax
    import jax.numpy as jnp

    from multibodies_jax.baselines.graphcmr import hierarchy, network
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
    inputs = random_data.inputs(batch)

    @jax.jit
    def apply(variables: Any, inputs: Inputs) -> dict[str, Any]:
        states, told = model.apply(variables, inputs, mutable=["extras"])
        pose, betas, cam = hypotheses.split_state(states[:, 0])
        vertices = told["extras"][hypotheses.VERTICES][0][:, 0]
        return {"vertices": vertices, "cam": cam, "six": pose.reshape(-1, 24, 3, 2), "betas": betas}

    given = {
        "whole": inputs.replace(image=jnp.asarray(random_data.crops(batch))),
        "graph": inputs.replace(feature=jnp.asarray(features(batch))),
    }
    return {name: functools.partial(apply, variables, its) for name, its in given.items()}


def our_variables(levels: Any) -> dict[str, Any]:
    """The random tensors as variables of our module."""
    from multibodies_jax.baselines.graphcmr import network
    from multibodies_jax.convert import placing

    vertices = len(levels.kept)
    tensors, flat = random_tensors(vertices), {}
    for key, kind in _networks(vertices).items():
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
    """Prepares a program; then at every turn a pass and one without the trunk, and the seconds of both."""
    from multibodies_jax.body import body_files

    body = body_files.load().smpl
    calls: dict[str, Callable[[], Any]]
    if program == "ours":
        calls = prepare_ours(body, batch)
    else:
        run, image, feature = prepare_torch(program, body), random_data.crops(batch), features(batch)
        calls = {"whole": lambda: run(image), "graph": lambda: run(feature)}
    for call in calls.values():
        turns.timed(call)  # Compiles.
    turns.serve({}, lambda: {name: turns.timed(call) for name, call in calls.items()})


def compare(batch: int, seconds: float) -> dict[str, dict[str, float]]:
    """Median seconds of every program that could run, in turns for about `seconds` and at least three times each."""
    processes = {
        program: turns.Process(program, "benchmarks.graphcmr", [f"--worker={program}", f"--batch={batch}"])
        for program in PROGRAMS
    }
    found = turns.answers(processes, seconds)
    return {
        program: {name: float(np.median([one[name] for one in passes])) for name in passes[0]}
        for program, passes in found.items()
    }


def table(batch: int, results: Mapping[str, Mapping[str, float]]) -> str:
    """Milliseconds per image of each program, and how many times faster ours is."""
    lines = [f"batch {batch}"]
    for program in PROGRAMS:
        if program not in results:
            lines.append(f"  {program:8s} {turns.FAILED}")
            continue
        found = results[program]
        line = f"  {program:8s}{1e3 * found['whole'] / batch:9.1f} ms per image, without the trunk {1e3 * found['graph'] / batch:.1f}"
        if "ours" in results and program != "ours":
            whole, graph = (found[part] / results["ours"][part] for part in ("whole", "graph"))
            line += f": ours is {whole:.2f} and {graph:.2f} x as fast"
        lines.append(line)
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.graphcmr", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[8], help="crops at once")
    parser.add_argument("--seconds", type=float, default=30, help="for the rounds of each batch; at least 3 rounds")
    parser.add_argument("--worker", choices=PROGRAMS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if min(args.batch) < 1:
        parser.error("--batch must be at least 1.")
    if needs.are_missing(needs.PYTORCH):
        return 2
    if args.worker:
        work(args.worker, args.batch[0])
        return 0
    ran = False
    for batch in args.batch:
        found = compare(batch, args.seconds)
        print(table(batch, found), flush=True)
        for program, its in found.items():
            measured = {f"{part}, ms per image": 1e3 * seconds / batch for part, seconds in its.items()}
            if "ours" in found:
                measured |= {f"{part}, times as long as ours": its[part] / found["ours"][part] for part in its}
            figures.tell("graphcmr", f"batch {batch}", program, measured)
        ran |= bool(found)
    return int(not ran)


if __name__ == "__main__":
    sys.exit(main())
