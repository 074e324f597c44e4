"""Work directories of one table: found, read, checked against each other, and grouped by what was trained."""

import dataclasses
import functools
import glob
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from multibodies_jax import io, untrusted
from multibodies_jax.evaluation import ablations, intervals, metrics, protocols, results
from multibodies_jax.hypotheses import sharpening
from multibodies_jax.models import build
from multibodies_jax.training import checkpoints, provenance, tuned

SCHEMAS = (2, 3)  # Of results.json; files of version 2 may lack a checksum.
ROLES = ("hmr", "smpl_mdn", "smpl_cvae", "multibodies")
SINGLE = ("spin", "graphcmr")
"""Other networks of one body, with rows of their own; every further one counts as HMR."""

_FILES = {"config.json": "train", "results.json": "evaluate", "per_example.npz": "evaluate"}
_KEYS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("model", "label", "split", "body", "body_fingerprint", "commit"), str),
    **dict.fromkeys(("config", "protocol", "steps", "images_seen", "datasets", "metrics", "diagnostics", "init"), dict),
    **dict.fromkeys(("seed", "num_hypotheses"), int),
}
_OPTIONAL = ("calibration", "curves", "single", "same_people")
_SEEDED = ("seed", "init")  # Fields that make another seed of the same training.
KINDS = ("single", "diagnostic", "curve", *results.CALIBRATIONS)
"""Second part of the keys of arrays in per_example.npz that are no row of a table."""

_RANGES = {
    **dict.fromkeys(("probability", "frequency", "ece", "ece_uniform", "ece_fitted", "top_ece"), (0.0, 1.0)),
    **dict.fromkeys(("top_ece_uniform", "top_ece_fitted"), (0.0, 1.0)),
    **dict.fromkeys(("temperature", "temperature_fitted"), (0.0, tuned.MOST_TEMPERATURE)),
    "sharpness": (0.0, sharpening.MOST_SHARPNESS),
    **dict.fromkeys(("count", "examples", "ci95"), (0.0, np.inf)),
}
_LOOSE = ("diagnostic", "curve")  # Kinds of arrays that may have NaN, or a column for each n.
# Training fields that all methods of a fair comparison have in common; `loss.mode0` is of several hypotheses only.
_SHARED = ("data.", "loss.", "optim.", "flow.", "body.", "train.steps", "train.batch", "train.accumulate", "freeze")
_SHARED += tuple(
    f"model.{name}"
    for name in ("trunk", "head", "init_noise", "activation", "hidden", "dropout", "iterations", "crop_size")
)


class RefusedError(ValueError):
    """Work directories that cannot stand in one table; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One evaluated work directory: its folder, config.json, results.json and per_example.npz."""

    path: pathlib.Path
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @property
    def label(self) -> str:
        """Of the main row."""
        return self.result["label"]

    @property
    def seed(self) -> int:
        return self.result["seed"]

    @property
    def num_hypotheses(self) -> int:
        return self.result["num_hypotheses"]

    @property
    def role(self) -> str:
        """One of `ROLES` or `SINGLE`."""
        model = self.result["model"]
        return "hmr" if self.num_hypotheses == 1 and model not in SINGLE else model

    @property
    def block(self) -> int:
        """Frames of videos that are drawn together (`protocols.Protocol.block`); 0 where images are independent."""
        return self.result["protocol"].get("block", 0)

    def timeline(self, dataset: str) -> intervals.Timeline | None:
        """When the images of a set were seen, where they are frames of videos; else None.

        Raises:
          ValueError: the ids of the set name no frames.
        """
        ids = self.arrays[f"{dataset}|example_id"].tolist()
        return intervals.Timeline.of_ids(ids, self.block) if self.block else None

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """What was trained, and drawn from it, except the seed: equal in all runs of a group."""
        flat = {k: v for k, v in provenance.training_fields(dict(self.config)).items() if k not in _SEEDED}
        return flat | ablations.drawn(self.result["config"], self.role)


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in their seed only.

    Attributes:
      label: what it is called in every table.
      runs: one a seed, in the order of the seeds.
      differs: training field -> value, where it differs from the reference of its role; empty for the reference.
    """

    label: str
    runs: tuple[Run, ...]
    differs: Mapping[str, Any]

    @property
    def role(self) -> str:
        return self.runs[0].role

    @property
    def main(self) -> str:
        """The method of its main row in per_example.npz."""
        return self.runs[0].label

    @property
    def num_hypotheses(self) -> int:
        return self.runs[0].num_hypotheses

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    @functools.cached_property
    def names(self) -> list[str]:
        """The arrays that all its runs have."""
        return [key for key in self.runs[0].arrays if all(key in run.arrays for run in self.runs)]

    def stack(self, key: str, seeds: Iterable[int] | None = None) -> Float[np.ndarray, "S N"]:
        """An array of per_example.npz of every seed (or of some), one row a seed."""
        chosen = self.seeds if seeds is None else tuple(seeds)
        return np.stack([run.arrays[key] for run in self.runs if run.seed in chosen]).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class Cast:
    """All groups, in the order of `ROLES` and `SINGLE`, the reference of each role before its ablations."""

    groups: tuple[Group, ...]

    def reference(self, role: str) -> Group | None:
        """The group of a role that has the fewest ablations and, of those, the most seeds."""
        return next((group for group in self.groups if group.role == role), None)

    def ablations(self, role: str) -> list[Group]:
        """The other groups of a role."""
        return [group for group in self.groups if group.role == role][1:]

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    @property
    def sets(self) -> list[str]:
        return list(self.runs[0].result["datasets"])


def unlike(cast: Cast) -> list[str]:
    """Shared settings in which the reference of a method differs from the first one; one line per method."""
    first, *others = [group for role in (*reversed(ROLES), *SINGLE) if (group := cast.reference(role))]
    lines = []
    for group in others:
        a, b = first.runs[0].fields, group.runs[0].fields
        fields = [field for field in _differing(a, b) if field.startswith(_SHARED) and field != "loss.mode0"]
        told = [f"{field} = {b[field]!r}, {first.label} with {a[field]!r}" for field in fields]
        if told:
            lines.append(f"{group.label} was trained with {'; '.join(told)}.")
    return lines


def find(patterns: str) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Work directories of a comma-separated list of folders and globs, each once.

    Returns:
      (the folders, those that a glob matched but that were not evaluated). A name without wildcards is always taken.

    Raises:
      RefusedError: one of them names no folder, or none that was evaluated.
    """
    found: dict[pathlib.Path, pathlib.Path] = {}
    left: dict[pathlib.Path, pathlib.Path] = {}
    for pattern in filter(None, map(str.strip, patterns.split(","))):
        paths = [path for path in map(pathlib.Path, sorted(glob.glob(pattern))) if path.is_dir()]
        taken = [path for path in paths if not glob.has_magic(pattern) or (path / "results.json").exists()]
        if not taken:
            kind = "evaluated work directory" if paths else "folder"
            raise RefusedError(f"--workdirs: {pattern!r} names no {kind}; give those of `multibodies evaluate`.")
        found |= {path.resolve(): path for path in taken}
        left |= {path.resolve(): path for path in paths}
    if not found:
        raise RefusedError("--workdirs names no folder: give one or several, with commas between them.")
    return list(found.values()), [path for key, path in left.items() if key not in found]


def cast(paths: Sequence[pathlib.Path]) -> Cast:
    """Reads work directories, checks that they can stand beside each other, and groups them.

    Raises:
      RefusedError: a file is missing or damaged, results are of another checkpoint or schema, or two directories differ
        in protocol, split, images, body, quantizer, images seen in training, or (of one seed) in their trunk.
    """
    loaded = [load(path) for path in paths]
    for run in loaded[1:]:
        _check_comparable(loaded[0], run)
    _check_trunks(loaded)
    return Cast(tuple(_group(loaded)))


def load(path: pathlib.Path) -> Run:
    """Reads one evaluated work directory, or the results of packed weights (`eval.packed`).

    Raises:
      RefusedError: see `cast`.
    """
    if (of_packed := _load_packed(path)) is not None:
        return of_packed
    for name, mode in _FILES.items():
        if not (path / name).is_file():
            if (path.parent / "config.json").is_file():
                raise RefusedError(f"{path} is a part of the work directory {path.parent}: name that one.")
            raise RefusedError(
                f"{path} has no {name}: run `multibodies {mode}` with this work directory first, or leave it out."
            )
    step = checkpoints.latest_step(path / "checkpoints")
    if step is None:
        raise RefusedError(f"{path} has no checkpoint, which its results would come from: train it, or leave it out.")
    run = Run(path, _read_json(path / "config.json"), _read_json(path / "results.json"), _read_arrays(path))
    _check_result(run)
    evaluated = run.result["steps"].get(run.label)
    if evaluated != step:
        raise RefusedError(
            f"The results of {path} are of step {evaluated}, its latest checkpoint is step {step}: evaluate it again."
        )
    _check_arrays(run)
    return run


def _load_packed(path: pathlib.Path) -> Run | None:
    """The results of packed weights, beside which there is neither config.json nor a checkpoint; None of any others."""
    if (path / "config.json").exists() or not all(
        (path / name).is_file() for name in ("results.json", "per_example.npz")
    ):
        return None
    result = _read_json(path / "results.json")
    if not isinstance(result.get("packed"), dict) or not isinstance(result.get("config"), dict):
        return None
    run = Run(path, result["config"], result, _read_arrays(path))
    _check_result(run)
    _check_arrays(run)
    return run


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return untrusted.read_json(path, dict, "Make it again.", RefusedError)
    except FileNotFoundError as error:
        raise RefusedError(f"{path} is not there any more: make it again.") from error


def _read_arrays(folder: pathlib.Path) -> dict[str, np.ndarray]:
    path = folder / "per_example.npz"
    try:
        return untrusted.read_npz(path, "Evaluate it again.", RefusedError)
    except FileNotFoundError as error:
        raise RefusedError(f"{path} is not there any more: evaluate it again.") from error


def _check_result(run: Run) -> None:
    """The keys that every table reads are there, in the right types."""
    where = run.path / "results.json"
    if (got := run.result.get("schema")) not in SCHEMAS:
        known = " and ".join(map(str, SCHEMAS))
        raise RefusedError(f"{where} has schema {got!r}, where {known} are read: evaluate it again.")
    if told := untrusted.misspelt(run.result, (io.SEAL, *tuned.NAMES, *_OPTIONAL)):
        raise RefusedError(f"{where} {told}: evaluate it again.")
    if tuned.was_changed(run.result):
        raise RefusedError(
            f"{where} was changed since the evaluation wrote it (its own sha256 differs or is absent): evaluate it again."
        )
    if out_of_range := tuned.problem(run.result) or _out_of_range(
        {name: part for name, part in run.result.items() if name != "config"}
    ):
        raise RefusedError(f"{where}: {out_of_range}. Evaluate it again.")
    wrong = [key for key, kind in _KEYS.items() if not isinstance(run.result.get(key), kind)]
    datasets = run.result.get("datasets")
    if not wrong and not (datasets and all(isinstance(dig(datasets, name, "examples"), int) for name in datasets)):
        wrong = ["datasets"]
    if not wrong and "fingerprint" not in run.result["init"]:
        wrong = ["init"]
    if wrong:
        raise RefusedError(f"{where} is damaged or incomplete ({', '.join(wrong)}): evaluate it again.")
    other = _differing(provenance.training_fields(dict(run.config)), provenance.training_fields(run.result["config"]))
    if other:
        raise RefusedError(
            f"{where} is of another training than {run.path / 'config.json'} ({', '.join(other)}): evaluate it again."
        )
    if run.role not in (*ROLES, *SINGLE):
        raise RefusedError(f"{where} is of a model {run.role!r}; tables know {', '.join((*ROLES, *SINGLE))}.")
    if not isinstance(run.config.get("model"), dict):
        raise RefusedError(
            f"{run.path / 'config.json'} has no model: this is no work directory of `multibodies train`."
        )


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The fields that both have and that differ."""
    return [field for field in sorted(ours.keys() & theirs.keys()) if ours[field] != theirs[field]]


def _check_arrays(run: Run) -> None:
    """Both files are of one evaluation: as many examples, and the same errors of every row, which errors can have."""
    where = run.path / "per_example.npz"
    for key, values in run.arrays.items():
        kind = key.split("|")[1] if "|" in key else ""
        numbers = values.dtype.kind == "f" and (kind in _LOOSE or (values.ndim == 1 and np.isfinite(values).all()))
        if kind != "example_id" and not numbers:
            raise RefusedError(f"{where} has no finite number for every image in {key!r}: evaluate it again.")
        most = 100.0 if key.rpartition("|")[2].removesuffix(protocols.STRICT) in metrics.PERCENT else np.inf
        if numbers and kind not in _LOOSE and not np.all((values >= 0) & (values <= most)):
            raise RefusedError(f"{where} has errors below 0 or above {most:g} in {key!r}: evaluate it again.")
    for name, dataset in run.result["datasets"].items():
        count = len(run.arrays.get(f"{name}|example_id", ()))
        own = [k for k in run.arrays if k.startswith(f"{name}|{run.label}|")]
        odd = [k for k, v in run.arrays.items() if k.startswith(f"{name}|") and (v.ndim < 1 or len(v) != count)]
        if count != dataset.get("examples") or not own or odd:
            raise RefusedError(
                f"{where} has {count} images of {name}, results.json {dataset.get('examples')}"
                f"{', and ' + odd[0] + ' another number' if odd else ''}: evaluate it again."
            )
        summarised = {**(dig(run.result, "metrics", name) or {}), "single": dig(run.result, "single", name)}
        if absent := sorted(_keys(name, summarised) - run.arrays.keys()):
            raise RefusedError(f"{where} lacks {absent[0]!r}, whose mean is in results.json: evaluate it again.")
        rows = [
            k for k in run.arrays if k.startswith(f"{name}|") and k.count("|") == 3 and k.split("|")[1] not in KINDS
        ]
        for key in rows:
            _, method, n, metric = key.split("|")
            told = dig(run.result["metrics"], name, method, n, metric)
            expected = intervals.summary(run.arrays[key])
            if not isinstance(told, dict) or not all(_is_near(told.get(k), value) for k, value in expected.items()):
                raise RefusedError(f"{where} and results.json are of different evaluations ({key}): evaluate it again.")


def _keys(name: str, methods: Mapping[str, Any]) -> set[str]:
    """The keys of the arrays whose means stand under method, n and metric of one set."""
    tables = [(method, n, row) for method, by_n in methods.items() if by_n for n, row in by_n.items()]
    return {f"{name}|{method}|{n}|{metric}" for method, n, row in tables for metric in row}


def _is_near(told: Any, value: float | int) -> bool:
    return isinstance(told, (int, float)) and bool(np.isclose(told, value, rtol=1e-4, atol=1e-6))


def _out_of_range(value: Any, name: str = "", where: str = "") -> str:
    """Which number of results.json is not finite or not what its name says, as a sentence; "" if none."""
    if isinstance(value, dict):
        inner = ((inside, key, f"{where}.{key}" if where else key) for key, inside in value.items())
    elif isinstance(value, list):
        inner = ((inside, name, f"{where}[{k}]") for k, inside in enumerate(value))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        least, most = _RANGES.get(name, (-np.inf, np.inf))
        wanted = f"a number from {least:g} to {most:g}" if name in _RANGES else "a finite number"
        return (
            "" if math.isfinite(value) and least <= value <= most else f"{where} is {value}, and {wanted} was expected"
        )
    else:
        return ""
    return next((told for told in (_out_of_range(*entry) for entry in inner) if told), "")


def _conditions(run: Run) -> dict[str, Any]:
    """What has to be the same in every run, by the words for it; the config field to set is part of them."""
    result = run.result
    return {
        "under protocol (--config.eval.protocol)": result["protocol"].get("name"),
        "under a protocol with the fields": result["protocol"],
        "on split (--config.eval.split)": result["split"],
        "on the sets (--config.eval.sets)": list(result["datasets"]),
        **{
            f"on images of {name} (--config.eval.max_examples, builder options) that are": dataset
            for name, dataset in result["datasets"].items()
        },
        "with a body (--config.body.dir) of fingerprint": result["body_fingerprint"],
        "with the quantizer (--config.quantizer)": result["config"].get("quantizer"),
        "with --config.eval.vertex_stride": dig(result["config"], "eval", "vertex_stride"),
        "in crops (--config.eval.box) around the body that is": dig(result["config"], "eval", "box") or "visible",
    }


def _check_comparable(first: Run, run: Run) -> None:
    theirs = _conditions(first)
    for condition, value in _conditions(run).items():
        if value != theirs[condition]:
            raise RefusedError(
                f"{run.path} was evaluated {condition} {_short(value)}, {first.path} {_short(theirs[condition])}. "
                "One table has one evaluation: evaluate one of them again as the other, or leave it out."
            )
    for name in first.result["datasets"]:
        if not np.array_equal(run.arrays[f"{name}|example_id"], first.arrays[f"{name}|example_id"]):
            raise RefusedError(f"{run.path} and {first.path} have other images of {name}: evaluate both again.")
    seen, expected = run.result["images_seen"].get(run.label), first.result["images_seen"].get(first.label)
    if seen != expected:
        raise RefusedError(
            f"{run.path} was trained on {seen} images, {first.path} on {expected}: train all for as many "
            "(config.train.steps x config.train.batch), or leave it out. `make tables` does so; docs/method.md has the "
            "flags for single runs."
        )


def _check_trunks(loaded: Sequence[Run]) -> None:
    """All methods of one seed start from the same weights."""
    by_seed: dict[int, Run] = {}
    for run in loaded:
        other = by_seed.setdefault(run.seed, run)
        mine, theirs = run.result["init"]["fingerprint"], other.result["init"]["fingerprint"]
        if mine != theirs:
            raise RefusedError(
                f"{run.path} started from the weights {mine}, {other.path} from {theirs}, both with seed {run.seed}: "
                "methods are compared from the same ones. Train both with the same --config.init, or leave one out."
            )


def _group(loaded: Sequence[Run]) -> list[Group]:
    groups: list[Group] = []
    for role in (*ROLES, *SINGLE):
        same: dict[str, list[Run]] = {}
        for run in (run for run in loaded if run.role == role):
            same.setdefault(json.dumps(run.fields, sort_keys=True), []).append(run)
        everybody = [run.fields for run in loaded]
        ranked = sorted(same.values(), key=lambda members: _rank(members, everybody))
        for members in ranked:
            _check_seeds(members)
            differs = _differences(ranked[0][0].fields, members[0].fields)
            label = ", ".join(
                [build.NETWORKS[role].label, *(ablations.in_words(*difference) for difference in differs.items())]
            )
            groups.append(Group(label, tuple(sorted(members, key=lambda run: run.seed)), differs))
    return groups


def _rank(members: Sequence[Run], everybody: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """First the fewest known ablations, the most seeds, what is most like all others, the most hypotheses, the defaults."""
    fields = members[0].fields
    unlike_others = sum(len(_differing(fields, other)) for other in everybody)
    unlike_defaults = len(_differing(fields, provenance.default_fields(fields.get("model.name", members[0].role))))
    return len(ablations.known_words(fields)), -len(members), unlike_others, -members[0].num_hypotheses, unlike_defaults


def _check_seeds(members: Sequence[Run]) -> None:
    by_seed: dict[int, Run] = {}
    for run in members:
        if (other := by_seed.setdefault(run.seed, run)) is not run:
            raise RefusedError(
                f"{other.path} and {run.path} are the same training with the same seed {run.seed}: leave one out."
            )


def _differences(reference: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: fields.get(k) for k in sorted({*reference, *fields}) if fields.get(k) != reference.get(k)}


def dig(tree: Any, *names: str) -> Any:
    """What lies under these keys of nested dictionaries; None where one is missing."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, dict | list) else repr(value)
    return text if len(text) <= 160 else text[:157] + "..."
