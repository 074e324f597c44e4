r"""What the optimisations of the network save: the head by its pre-activation, folding, and Winograd's convolutions.

    python -m benchmarks.heads [--hypotheses=100] [--batch=64] [--repeats=15] [--crops=1]

Prints the time of the textbook head (`hmr.IterativeHead`) over that of `hmr_preactivated.PreactivatedHead`, for the
states and for the states with all gradients, at the demo's hidden width (256) and the paper's (1024); then the time of
evaluation without folding (`folding.fold`) over that with it: of both heads, and of a ResNet-50 with its head; and the time
of the folded ResNet-50 with plain 3x3 convolutions over that with Winograd's (`models.winograd`). Weights are random; the
two of a ratio take turns and medians count. XLA's count of operations does not depend on the machine's load.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import figures, random_data, turns
from multibodies_jax.batch import Inputs
from multibodies_jax.models import build, folding, hmr, hmr_preactivated, winograd
from multibodies_jax.models.keypoint_trunk import KeypointTrunk

MEAN = tuple(np.linspace(-1.0, 1.0, 157).tolist())
Run = Callable[[], Any]


def heads(
    num_hypotheses: int, batch: int, hidden: int, features: int
) -> dict[str, tuple[tuple[Run, Run], list[float]]]:
    """Compiled calls (textbook head, pre-activated head) of evaluation and of a training step's two passes.

    Returns:
      For each of the two the calls, and XLA's count of the operations of both, billions.
    """
    feature = jnp.asarray(np.random.default_rng(0).normal(size=(batch, features)), jnp.float32)
    calls: dict[str, list[Run]] = {"states": [], "states and gradients": []}
    billions: dict[str, list[float]] = {name: [] for name in calls}
    for kind in (hmr.IterativeHead, hmr_preactivated.PreactivatedHead):
        head = kind(hmr.HeadSettings(MEAN, num_hypotheses, hidden=hidden))
        variables = jax.jit(head.init)(jax.random.key(0), feature)

        def squares(variables: Any, feature: Any, head: Any = head) -> Any:
            return jnp.sum(jnp.square(head.apply(variables, feature, True, rngs={"dropout": jax.random.key(1)})))

        gradients = jax.value_and_grad(squares, argnums=(0, 1))
        for name, function in (("states", head.apply), ("states and gradients", gradients)):
            lowered = jax.jit(function).lower(variables, feature)
            cost: Any = lowered.cost_analysis()
            billions[name].append(cost["flops"] / 1e9)
            calls[name].append(functools.partial(lowered.compile(), variables, feature))
    return {name: ((first, second), billions[name]) for name, (first, second) in calls.items()}


def folded(model: Any, inputs: Inputs) -> tuple[Run, Run, Run]:
    """Calls of a network in evaluation: as it is, folded with plain convolutions, and as prediction runs it."""
    variables = jax.jit(lambda key: model.init({"params": key, "dropout": key}, inputs, train=False))(jax.random.key(0))
    module, its = folding.fold(model, variables)
    runs = []
    for network, own in ((model, variables), (module, winograd.plain(its)), (module, its)):
        runs.append(functools.partial(jax.jit(network.apply), jax.tree.map(jnp.asarray, own), inputs))
    return runs[0], runs[1], runs[2]


def show(question: str, name: str, pair: tuple[Run, Run], repeats: int, billions: list[float] | None = None) -> None:
    """Measures both calls and prints a line: milliseconds of both, their ratio, and the operations of both."""
    turns.medians(pair, 1)  # Compiles what is not compiled yet.
    slow, fast = (1e3 * seconds for seconds in turns.medians(pair, repeats))
    text = f"{name:58s}{slow:9.2f} ms {fast:9.2f} ms   x {slow / fast:.2f}"
    measured = {"before, ms": slow, "after, ms": fast, "times as fast": slow / fast}
    if billions is not None:
        text += f"   operations {billions[0]:.2f}e9 {billions[1]:.2f}e9"
        measured |= {"operations before, 1e9": billions[0], "after, 1e9": billions[1]}
    print(text, flush=True)
    figures.tell(question, "", name, measured)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.heads", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hypotheses", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--crops", type=int, default=1, help="images at once in evaluation")
    args = parser.parse_args(argv)
    M = args.hypotheses
    print(f"M = {M}, {jax.devices()[0].device_kind}: before, after, ratio")
    for hidden, features in ((256, 256), (1024, 2048)):
        for batch in (args.batch, args.crops):
            for name, (pair, billions) in heads(M, batch, hidden, features).items():
                show("head", f"hidden {hidden}, batch {batch}, {name}", pair, args.repeats, billions)
    keypoints = random_data.inputs(args.crops)
    small = hmr.HMR(
        KeypointTrunk(width=256, blocks=2),
        hmr.HeadSettings(MEAN, M, hidden=256),
        head_class=hmr_preactivated.PreactivatedHead,
    )
    show("folding", f"head, keypoints, hidden 256, batch {args.crops}", folded(small, keypoints)[:2], args.repeats)
    image = random_data.inputs(args.crops, random_data.crops(args.crops))
    for m in (1, M):
        paper = build.build(mean_state=np.array(MEAN), num_hypotheses=m)
        as_it_is, plain, fast = folded(paper, image)
        where = f"ResNet-50, M = {m}, batch {args.crops}"
        show("folding", f"head and norms, {where}", (as_it_is, plain), args.repeats)
        show("folding", f"3x3 convolutions, {where}", (plain, fast), args.repeats)


if __name__ == "__main__":
    main()
