"""Trains and evaluates every method on equal terms, for several seeds, and prints the paper's two tables: `make tables`.

The third table is of labels: HMR, SPIN and GraphCMR where 3D labels are withheld.

    multibodies tables --workdir=runs/tables --seeds=0,1,2

Each run is a call of `multibodies` with a work directory of its own, WORKDIR/seedS/NAME or WORKDIR/labels/seedS/NAME, and can be repeated alone:
the command is printed. What is finished is left as it is, so that the same command continues after any interruption.
"""

import argparse
import ast
import dataclasses
import json
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections.config_flags import config_path

from configs import default
from multibodies_jax import programs

STOPPED = 75  # Exit status when the time is over (sysexits: try again).
_SECONDS_TO_SAVE = 120
_BUDGET = ("train.steps", "train.batch", "optim.learning_rate")  # Of all methods; may be set for all.

OURS = (
    *(*default.METHODS, *default.WEIGHTED, *default.CONTROLS),
    *("refined", "hmr_refined", "hmr_noise_refined", *default.FITTED_WEIGHTED),
)
"""Rows of the evaluation of ours: as predicted, refined, and the controls on the same terms."""

BASELINE = (*default.METHODS, "refined")
"""Rows of the evaluation of SMPL-MDN and SMPL-CVAE."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One call of `multibodies`.

    Attributes:
      name: of its work directory, below the seed's.
      config: file of configs/ with its argument.
      fields: what is set beside, by path.
      evaluated: False for the trunk, which is only trained.
    """

    name: str
    config: str
    fields: dict[str, Any]
    evaluated: bool = True


def trunk(base: str, seed: int, init: str) -> Iterator[Run]:
    """The run of one seed that all others start from; none where `init` is given."""
    if not init:
        yield Run("trunk", f"{base}:trunk" if base == "tables" else f"hmr:{base}", {"seed": seed}, evaluated=False)


def methods(base: str, workdir: pathlib.Path, seed: int, init: str) -> Iterator[Run]:
    """The runs of one seed that the two tables need, in order: trunk, methods and Table 2's ablation.

    Args:
      base: config that all build upon.
      workdir: of all runs.
      seed: of this one.
      init: work directory of a trained M = 1 model; "" trains a trunk.
    """
    folder = workdir / f"seed{seed}"
    yield from trunk(base, seed, init)
    common = _common(workdir, seed, init)
    c = default.of(base)  # As many images, in as many steps, for all.
    budget = {"train.steps": c.train.steps, "train.batch": c.train.batch}
    yield Run("hmr", f"hmr:{base}", common | budget | {"optim.learning_rate": c.optim.learning_rate})
    own = {"eval.methods": OURS, "eval.hmr": str(folder / "hmr"), "eval.curve": 25}
    yield Run("ours", base, common | own)
    for baseline in ("smpl_mdn", "smpl_cvae"):
        yield Run(baseline, f"{baseline}:{base}", common | {"eval.methods": BASELINE})
    yield Run("no_reprojection", base, common | {"loss.reprojection_all": 0.0})


def labels(base: str, workdir: pathlib.Path, seed: int, init: str) -> Iterator[Run]:
    """The runs of one seed that say what 3D labels are worth, and fits in their place; none where no image set is trained on.

    All have the losses of SPIN, except GraphCMR. They start from the trunk where the base does not train it, else from nothing:
    a network that learned from all labels already knows what is withheld.
    """
    c = default.of(base)
    if c.data.sets is None:
        return
    start = _common(workdir, seed, init) if init or c.freeze == "trunk" else {"seed": seed, "train.baseline": False}
    budget = {f"train.{name}": c.train[name] for name in ("steps", "batch")}
    common = start | budget | {"optim.learning_rate": c.optim.learning_rate}
    for name, (config, fields) in _LABELS.items():
        yield Run(name, f"{config}:{base}", common | fields)


def open_choices(base: str, workdir: pathlib.Path, seed: int, init: str) -> Iterator[Run]:
    """The runs of one seed that try what the paper leaves open."""
    common = _common(workdir, seed, init)
    for name, fields in _OPEN.items():
        yield Run(name, base, common | fields)
    yield Run("smpl_mdn_root", f"smpl_mdn:{base}", common | {"mdn.root": "mixture"})


def _common(workdir: pathlib.Path, seed: int, init: str) -> dict[str, Any]:
    """HMR is a run of its own, not a part of every other."""
    return {"seed": seed, "init": init or str(workdir / f"seed{seed}" / "trunk"), "train.baseline": False}


# What the paper leaves open, one field each; the quantizer's choices are rows of every evaluation.
_OPEN = {
    "m25": {"model.num_hypotheses": 25},
    "m50": {"model.num_hypotheses": 50},
    "released_losses": {"loss.reading": "released"},
    "no_mode0": {"loss.mode0": False},
    "prior_noise_0": {"flow.noise_mm": 0.0},
}
_HMR = {"model.name": "hmr"}
_SECOND_ORDER = {"spin.solver": "second_order", "spin.steps": 3}  # A fifth of the time; fits as good near the body.
_LABELS: dict[str, tuple[str, dict[str, Any]]] = {
    "hmr_all": ("spin", _HMR | {"data.withheld_3d": 0.0}),
    "hmr_half": ("spin", _HMR | {"data.withheld_3d": 0.5}),
    "spin": ("spin", _SECOND_ORDER | {"data.withheld_3d": 0.5}),
    "spin_first_fits": ("spin", _SECOND_ORDER | {"data.withheld_3d": 0.5, "spin.fit": False}),
    "hmr_2d": ("spin", _HMR | {"data.withheld_3d": 1.0}),
    "spin_2d": ("spin", _SECOND_ORDER | {"data.withheld_3d": 1.0}),
    "graphcmr": ("graphcmr", {"data.occlusion": "none"}),  # As SPIN.
}


_PARTS = {"methods": methods, "labels": labels, "open": open_choices}
_NAMES = (
    *("trunk", "hmr", "ours", "smpl_mdn", "smpl_cvae", "no_reprojection"),
    *_LABELS,
    *(*_OPEN, "smpl_mdn_root"),
)


@programs.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the plan; returns an exit status: 0 all done, 75 out of time, 130 interrupted, else that of what failed."""
    args, overrides = _parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Both stop the run that is under way first.
    if "labels" in args.only and default.of(args.base).data.sets is None:
        print(f"No table of labels: --base={args.base} trains on no image set, from which labels could be withheld.")
    end = time.monotonic() + 60 * args.minutes if args.minutes else float("inf")
    for folder, run in _everything(args):
        run = dataclasses.replace(run, evaluated=False) if args.train_only else run
        command = _command(run, folder, overrides)
        if _finished(run, folder, overrides):
            print(f"finished: {folder}", flush=True)
            continue
        print(f"\n$ {shlex.join(command)}", flush=True)
        status = call([sys.executable, "-m", "multibodies_jax", *command[1:]], end - time.monotonic())
        if status == STOPPED:
            print(f"\nOut of time ({args.minutes:g} minutes): the same command continues.", flush=True)
        if status:
            return status
    if args.train_only:
        print("\nAll is trained: the same command without --train-only evaluates it.", flush=True)
        return 0
    for part in dict.fromkeys(part if part == "labels" else "methods" for part in args.only):
        pattern, out = ("labels/seed*", args.out / "labels") if part == "labels" else ("seed*", args.out)
        found = ",".join(str(p.parent) for p in sorted(args.workdir.glob(f"{pattern}/*/results.json")))
        if found:
            command = [sys.executable, "-m", "multibodies_jax", "report", "all", f"--workdirs={found}", f"--out={out}"]
            if status := call(command, float("inf")):
                return status
    return 0


def _everything(args: argparse.Namespace) -> Iterator[tuple[pathlib.Path, Run]]:
    """The runs that `--runs` leaves, with their work directories."""
    return ((folder, run) for folder, run in _planned(args) if not args.runs or run.name in args.runs)


def _planned(args: argparse.Namespace) -> Iterator[tuple[pathlib.Path, Run]]:
    """Every run with its work directory, part after part, each for all of its seeds."""
    for part in args.only:
        for seed in args.seeds[: args.ablation_seeds] if part == "open" else args.seeds:
            init, folder = args.init.replace("{seed}", str(seed)), args.workdir / f"seed{seed}"
            if part == "labels":
                folder = args.workdir / "labels" / f"seed{seed}"
                if "methods" not in args.only and default.of(args.base).freeze == "trunk":
                    for run in trunk(args.base, seed, init):
                        yield args.workdir / f"seed{seed}" / run.name, run
            for run in _PARTS[part](args.base, args.workdir, seed, init):
                yield folder / run.name, run


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    parser = argparse.ArgumentParser(
        prog="multibodies tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 all is done, 75 out of time (the same command continues), 130 interrupted, 2 wrong input.",
        allow_abbrev=False,
    )
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/tables"), help="of all runs")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("report"), help="of the tables and figures")
    parser.add_argument("--seeds", type=_numbers, default=(0, 1, 2), help="with commas between them (0,1,2)")
    parser.add_argument(
        "--ablation-seeds",
        type=int,
        default=1,
        help="number of seeds, from the first, for which the open choices run (1)",
    )
    parser.add_argument(
        "--runs",
        type=lambda text: tuple(text.split(",")),
        default=(),
        help=f"only these, with commas between them (all): {', '.join(_NAMES)}",
    )
    parser.add_argument(
        "--train-only", action="store_true", help="evaluate nothing: the same command without it does, elsewhere too"
    )
    parser.add_argument(
        "--minutes", type=float, default=0, help="stop after this many minutes, saved; 0 = go on to the end"
    )
    parser.add_argument(
        "--base", default="tables", help="config that all methods build upon, NAME or NAME:ARGUMENT (tables)"
    )
    parser.add_argument(
        "--only",
        type=_parts,
        default=tuple(_PARTS),
        help="parts of the plan, with commas between them: methods (the paper's tables), labels (the third table) and open "
        "(choices that the paper leaves open)",
    )
    parser.add_argument(
        "--init",
        default="",
        help="work directory of a trained M = 1 model ({seed} in it is replaced) instead of a trunk",
    )
    args, rest = parser.parse_known_args(programs.start(argv))
    from multibodies_jax.evaluation import checks
    from multibodies_jax.training import config_checks, initialization  # Late: --help answers at once.

    overrides = {}
    for text in rest:
        match = re.fullmatch(r"--config\.([\w.]+)=(.*)", text, flags=re.DOTALL)
        if not match:
            parser.error(f"unknown argument {text!r}; fields of every run's config are set with --config.FIELD=VALUE")
        overrides[match[1]] = match[2]
    if not 0 <= args.minutes < float("inf") or args.ablation_seeds < 0:
        parser.error(f"--minutes={args.minutes:g} and --ablation-seeds={args.ablation_seeds} have to be 0 or more")
    if unknown := [name for name in args.runs if name not in _NAMES]:
        parser.error(f"--runs names {', '.join(map(repr, unknown))}; choose of {', '.join(_NAMES)}")
    if set("*?[,") & set(str(args.workdir)) or args.workdir.is_file():
        parser.error(
            f"--workdir={args.workdir} has to be a folder, made if absent, with no comma and no * ? [ in its name"
        )
    try:
        runs = [run for _, run in _everything(args)]
        if not runs:
            raise ValueError(
                f"there is nothing to run: none of --runs={','.join(args.runs) or 'all'} is in --only={','.join(args.only)}; "
                "labels need a base that trains on image sets (config.data.sets), open needs --ablation-seeds of 1 or more"
            )
        taken = sorted({field for run in runs for field in run.fields if field not in _BUDGET} & set(overrides))
        if taken or "model.name" in overrides:
            raise ValueError(
                f"config.{(taken or ['model.name'])[0]} is what the runs differ in or share, and is set for them (fewer "
                "images to evaluate: --config.eval.max_examples)"
            )
        if (name := default.of(args.base).model.name) != "multibodies":
            raise ValueError(
                f"the base is ours, the baselines are made from it; this one is of config.model.name={name!r}"
            )
        for run in runs:
            config = config_of(run, overrides)
            config_checks.validate(config)
            checks.validate(config)
            if args.init:
                initialization.source_folder(config)
    except (ValueError, SyntaxError, TypeError, KeyError, AttributeError, FileNotFoundError) as error:
        parser.error(f"--base={args.base} {' '.join(rest)}: {error}")
    return args, overrides


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers with commas between them") from None
    if len(set(numbers)) != len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} has a number twice")
    return numbers


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(text.split(","))
    if unknown := sorted(set(parts) - set(_PARTS)):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no part of the plan; choose from {', '.join(_PARTS)}")
    return tuple(part for part in _PARTS if part in parts)


def _command(run: Run, folder: pathlib.Path, overrides: dict[str, str]) -> list[str]:
    """The call of the console script, as a person would type it."""
    name, _, argument = run.config.partition(":")
    config = f"configs/{name}.py" + (f":{argument}" if argument else "")
    fields = [f"--config.{path}={value}" for path, value in (run.fields | overrides).items()]
    mode = "all" if run.evaluated else "train"
    return ["multibodies", mode, f"--config={config}", f"--workdir={folder}", *fields]


def _finished(run: Run, folder: pathlib.Path, overrides: dict[str, str]) -> bool:
    """Whether the run stands there complete, made by the config that it would have now."""
    from multibodies_jax import untrusted  # Imports NumPy, which `--help` does not wait for.

    config = config_of(run, overrides)
    wanted = json.loads(config.to_json_best_effort())
    try:
        if run.evaluated:
            return untrusted.read_json(folder / "results.json")["config"] == wanted
        stored = untrusted.read_json(folder / "config.json")
        return stored == wanted and (folder / "checkpoints" / str(config.train.steps)).is_dir()
    except (OSError, ValueError, KeyError):
        return False


def config_of(run: Run, overrides: dict[str, str]) -> Any:
    """The config that `multibodies` will make of the command."""
    config = default.of(run.config)
    for path, value in (run.fields | overrides).items():
        try:
            kind: Any = config_path.get_type(path, config)
        except (KeyError, AttributeError, TypeError):
            raise ValueError(f"there is no field config.{path}; all are in configs/default.py.") from None
        text = isinstance(value, str) and kind is not str
        config_path.set_value(path, config, kind(ast.literal_eval(value) if text else value))
    return config


def call(command: list[str], seconds: float) -> int:
    """Runs a command for at most so long; out of time it may save first."""
    if seconds <= 0:
        return STOPPED
    process = subprocess.Popen(command)
    try:
        return process.wait(None if seconds == float("inf") else seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as reason:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_SECONDS_TO_SAVE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return 130 if isinstance(reason, KeyboardInterrupt) else STOPPED


if __name__ == "__main__":
    sys.exit(main())
