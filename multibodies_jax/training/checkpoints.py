"""Checkpoints that are whole or absent: orbax arrays, checksums of every file, and a manifest, in one atomic rename.

A step is the folder `DIRECTORY/<step>/` with `arrays/` (orbax, one sub-folder per item) and `manifest.json`: format,
step, metadata, the shape and type of every array, and the sha256 of every file and of itself (orbax restores a flipped
byte without a word). It is written under a temporary name and renamed when complete, so a process killed at any moment leaves the
steps before it as they were. Items are stored as nested dictionaries of the pytree's key names, so that reading them
needs no optax or flax type.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from multibodies_jax import io, untrusted
from multibodies_jax.training import config_rules, multihost

MANIFEST = "manifest.json"
ANY_BODY = "any"  # As `body_fingerprint`: weights that no body has shaped.
_FORMAT = 2
_UNSEALED_FORMAT = 1  # Its manifest has no checksum of its own.
_PARTS: dict[str, type] = {"format": int, "step": int, "metadata": dict, "items": dict, "files": dict}  # Of a manifest.
_METADATA: dict[str, config_rules.Rule] = {  # What is computed with, where a checkpoint has it.
    "num_hypotheses": config_rules.whole(1, 10_000),
    "images_seen": config_rules.whole(0, 10**15),
    "training_seconds": config_rules.Number(0, 10**12),
    "held_out_log_prob": config_rules.OrNone(config_rules.Number(-(10**9), 10**9)),
    "mean_state": config_rules.OrNone(config_rules.Several(config_rules.Number(-1000, 1000))),
}
_OBJECTS = ("config", "converted", "init")  # Parts of the metadata that are objects, where a checkpoint has them.
_STRAY = (".DS_Store", "._")  # Beginnings of names of files that macOS adds to folders.
_ARRAYS = "arrays"
_MOST_DIFFERENCES = 5


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, found, trusted or matched; the message says what to do."""


def save(
    directory: str | os.PathLike, step: int, items: Mapping[str, Any], metadata: Mapping[str, Any], keep: int = 2
) -> None:
    """Writes one step and returns when it is on disk; then removes all but the newest `keep` steps.

    Args:
      directory: folder of the steps, made if absent.
      step: greater than every step already there.
      items: named pytrees of JAX or NumPy arrays (keys of random numbers as `jax.random.key_data`).
      metadata: what JSON can hold: config, commit, body fingerprint, data position.
      keep: how many steps stay, this one included; at least 1.

    Raises:
      CheckpointError: the disk is full or refuses; the steps before are untouched.
      ValueError: `step` is not after the latest one, `keep` < 1, a leaf is no array, or metadata is not JSON.
    """
    directory = pathlib.Path(directory).absolute()
    latest = latest_step(directory)
    if keep < 1:
        raise ValueError(f"keep is {keep}; at least 1 checkpoint has to stay.")
    if latest is not None and step <= latest:
        raise ValueError(
            f"Step {step} is not after step {latest}, the latest in {directory}: "
            "save a later step, or move that folder away."
        )
    trees = {name: _to_dict(name, tree) for name, tree in items.items()}
    manifest = {
        "format": _FORMAT,
        "step": int(step),
        "metadata": _jsonable(metadata),
        "items": {k: _describe(v) for k, v in trees.items()},
    }
    temporary = directory / f"{step}{io.TEMPORARY}"
    try:
        _write(directory, temporary, trees, manifest)
        multihost.on_first(lambda: _publish(temporary, directory / str(step)), "publish")
    except Exception as error:  # Orbax and tensorstore report a full disk as several types, ValueError among them.
        shutil.rmtree(temporary, ignore_errors=True)
        good = f"step {latest} is still good" if latest is not None else "no earlier step exists"
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"Could not write step {step} to {directory}: {cause}. Free some space or choose another folder; {good}."
        ) from error
    multihost.on_first(lambda: [_remove(directory / str(old)) for old in _steps(directory)[:-keep]], "remove")


def restore(
    directory: str | os.PathLike, templates: Mapping[str, Any] | None = None, step: int | None = None
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Reads a step, after every file it needs has been checked against its sha256.

    Args:
      directory: folder of the steps.
      templates: the items wanted and, for each, a pytree of arrays or `jax.ShapeDtypeStruct` with the expected keys,
        shapes and types; None: every item, as nested dictionaries.
      step: None for the latest complete one.

    Returns:
      (items as NumPy arrays in the structure of the templates, metadata, step).

    Raises:
      CheckpointError: nothing to restore; a damaged file (named, with the steps that are intact); or keys, shapes or
        types that differ from the template (the first are listed).
    """
    step, folder = _intact_step(pathlib.Path(directory).absolute(), step)
    manifest = _read_manifest(folder)
    if manifest["format"] == _UNSEALED_FORMAT:
        warnings.warn(
            f"{folder / MANIFEST} is of an older version, without a checksum of its own: the arrays are verified, what it "
            "says of them (config, mean state) is not. Training that goes on writes new ones.",
            stacklevel=2,
        )
    stored = manifest["items"]
    names = list(stored) if templates is None else list(templates)
    if missing := sorted(set(names) - set(stored)):
        raise CheckpointError(f"{folder} has no item {missing}; it has {sorted(stored)}.")
    if templates is not None:
        for name, template in templates.items():
            _check_template(folder, name, stored[name], _describe(_to_dict(name, template)))
    trees = _read_arrays(folder, {name: stored[name] for name in names})
    if templates is not None:
        trees = {name: _from_dict(trees[name], template) for name, template in templates.items()}
    return trees, manifest["metadata"], step


def check_parts(source: str | os.PathLike, parts: Mapping[str, Any], names: Collection[str]) -> None:
    """Refuses a checkpoint that lacks what its reader needs, as one of another kind does (the prior's, the network's).

    Args:
      source: its folder, for the message.
      parts: its items or its metadata, as `restore` gives them.
      names: that have to be among them.

    Raises:
      CheckpointError: some are not, with their names.
    """
    if missing := [name for name in names if name not in parts]:
        raise CheckpointError(
            f"{source} has a checkpoint without {', '.join(missing)} (it has {', '.join(sorted(parts)) or 'nothing'}): it is "
            "of another kind than is needed here, or damaged. Give another folder, or train again."
        )


def check_finite(source: str | os.PathLike, tree: Any) -> None:
    """Refuses weights that are NaN or infinite: a network with one answers with NaN, or with a body that looks well.

    Args:
      source: where they come from, for the message.
      tree: of arrays.

    Raises:
      CheckpointError: an array is not finite, with its name.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if bad := int(np.sum(~np.isfinite(np.asarray(leaf)))):
            raise CheckpointError(
                f"{source}: {'/'.join(_key_names(path))} has {bad} of {np.size(leaf)} numbers that are NaN or infinite. "
                "Its training diverged, or the checkpoint was changed: use an earlier step, or train again with a lower "
                "learning rate."
            )


def variables(state: Mapping[str, Any]) -> dict[str, Any]:
    """The network's variables in a restored training state: averaged parameters where they were kept, and statistics."""
    return {"params": state.get("ema") or state["params"], "batch_stats": state.get("batch_stats") or {}}


def latest_step(directory: str | os.PathLike) -> int | None:
    """The newest complete step (one with a manifest) in a folder, or None; unfinished and empty steps do not count."""
    steps = _steps(pathlib.Path(directory))
    return steps[-1] if steps else None


def check_body(metadata: Mapping[str, Any], fingerprint: str, allow_other: bool = False) -> None:
    """Refuses a checkpoint that was trained with another body or other regressors than those now loaded.

    Args:
      metadata: of the checkpoint; its `body_fingerprint` is compared; `ANY_BODY` fits all.
      fingerprint: of the body files in use (`body_files.BodyFiles.fingerprint`).
      allow_other: accept it all the same (`body.allow_other=True`).

    Raises:
      CheckpointError: the fingerprints differ, or the checkpoint has none.
    """
    got = metadata.get("body_fingerprint")
    if got in (fingerprint, ANY_BODY) or allow_other:
        return
    if got is None and "converted" in metadata:
        raise CheckpointError(
            "The checkpoint was converted without the body files that it was trained with: convert it again with "
            "--body.dir=FOLDER of them, or accept the body in use with --config.body.allow_other=True."
        )
    raise CheckpointError(
        f"The checkpoint was trained with another body: its fingerprint is {got}, "
        f"the body files in use have {fingerprint}. "
        "Give the same body files (--config.body.dir), or accept the difference with --config.body.allow_other=True."
    )


def check_match(source: str | os.PathLike, tree: Any, template: Any) -> None:
    """Refuses parameters from `source` whose keys, shapes or types differ from a model's; the first are listed.

    Raises:
      CheckpointError: they differ.
    """
    _check_template(
        pathlib.Path(source), "params", _describe(_to_dict("params", tree)), _describe(_to_dict("params", template))
    )


def fingerprint(tree: Any) -> str:
    """A checksum of a tree of arrays that does not depend on the order of its keys: 16 hex digits of a sha256.

    Path, type, shape and bytes (C order, little-endian) of every array count.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    digest = hashlib.sha256()
    named = {"/".join(_key_names(path)): np.asarray(leaf) for path, leaf in leaves}
    for path, array in sorted(named.items()):
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        digest.update(f"{path} {array.dtype.name} {array.shape} {io.sha256(data)}\n".encode())
    return digest.hexdigest()[:16]


def git_commit() -> str:
    """The commit of the running source, "+dirty" appended where tracked files differ; else "unknown". Never raises."""
    source = pathlib.Path(__file__).absolute()

    def git(*args: str) -> str:
        command = ["git", "-C", str(source.parent), *args]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=20, encoding="utf-8"
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", str(source))  # An installed copy may lie inside somebody else's repository.
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _write(directory: pathlib.Path, temporary: pathlib.Path, trees: dict[str, dict], manifest: dict) -> None:
    def prepare() -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob(f"*{io.TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()

    multihost.on_first(prepare, "prepare")
    import orbax.checkpoint as ocp

    filled = {name: ocp.args.PyTreeSave(tree) for name, tree in trees.items() if tree}  # Orbax refuses an empty tree.
    if filled:
        with contextlib.closing(ocp.Checkpointer(ocp.CompositeCheckpointHandler())) as checkpointer:
            checkpointer.save(temporary / _ARRAYS, args=ocp.args.Composite(**filled))
    multihost.on_first(lambda: _write_manifest(temporary, manifest), "manifest")


def _write_manifest(folder: pathlib.Path, manifest: dict) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        io.sync(path)
    manifest = manifest | {"files": {path.relative_to(folder).as_posix(): io.sha256_of_file(path) for path in files}}
    io.write_json(folder / MANIFEST, io.sealed(manifest))


def _publish(temporary: pathlib.Path, final: pathlib.Path) -> None:
    if final.exists():  # No manifest, or `save` had refused: the remains of something that is no checkpoint.
        shutil.rmtree(final)
    io.rename(temporary, final)


def _steps(directory: pathlib.Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(
        int(path.name) for path in directory.iterdir() if path.name.isdecimal() and (path / MANIFEST).is_file()
    )


def _without_manifest(directory: pathlib.Path) -> list[str]:
    """Folders that have the name and the files of a step, and no manifest; in the order of their numbers."""
    folders = (path for path in directory.iterdir() if path.name.isdecimal() and not (path / MANIFEST).is_file())
    return sorted((path.name for path in folders if path.is_dir() and any(path.iterdir())), key=int)


def _remove(folder: pathlib.Path) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)  # First, so that a kill half-way leaves nothing that counts as a step.
    shutil.rmtree(folder, ignore_errors=True)


def _intact_step(directory: pathlib.Path, step: int | None) -> tuple[int, pathlib.Path]:
    """The step to read (None: the latest) and its folder, every file verified."""
    steps = _steps(directory)
    if not steps or (step is not None and step not in steps):
        wanted = "a complete checkpoint" if step is None else f"step {step}"
        raise CheckpointError(
            f"{directory} has not got {wanted}; it has: {steps or 'none'}. Train first, or give another folder."
        )
    if step is None:
        step = steps[-1]
        if later := [name for name in _without_manifest(directory) if int(name) > step]:
            warnings.warn(
                f"{directory} has a folder {later[-1]} without {MANIFEST}, which is no complete checkpoint: step {step} is "
                "taken. If that folder was copied from elsewhere, copy it again.",
                stacklevel=3,
            )
    folder = directory / str(step)
    if damage := _damage(folder):
        intact = [other for other in steps if other != step and not _damage(directory / str(other))]
        advice = f"Steps that are intact: {intact}; move {folder} away to go on from there." if intact else ""
        raise CheckpointError(f"{damage}. {advice or 'No other step is intact.'}")
    return step, folder


def _read_manifest(folder: pathlib.Path) -> dict:
    """The manifest of a step, which is what was written.

    Raises:
      CheckpointError: it is damaged or of another format.
    """
    path = folder / MANIFEST
    manifest = untrusted.read_json(path, raises=CheckpointError)
    parts = set(manifest) - {io.SEAL}
    known = manifest.get("format") in (_FORMAT, _UNSEALED_FORMAT)
    sealed = manifest.get("format") == _FORMAT
    if not known or (io.SEAL in manifest) != sealed or parts != set(_PARTS):
        raise CheckpointError(
            f"{path} is damaged: a manifest of format {_UNSEALED_FORMAT} or {_FORMAT} was expected, and format "
            f"{manifest.get('format')!r} with {', '.join(sorted(manifest))} is there"
        )
    if wrong := [name for name, kind in _PARTS.items() if not isinstance(manifest[name], kind)]:
        raise CheckpointError(f"{path} is damaged: {', '.join(wrong)} of it are no numbers or objects as expected")
    if io.seal_is_broken(manifest):
        raise CheckpointError(f"{path} is damaged: its own sha256 differs, so something in it was changed")
    for name, rule in _METADATA.items():
        if name in manifest["metadata"] and not rule.accepts(value := manifest["metadata"][name]):
            raise CheckpointError(
                f"{path} is damaged: {name} of its metadata is {config_rules.short(value)}; accepted is {rule.words}"
            )
    for name in _OBJECTS:
        if not isinstance(value := manifest["metadata"].get(name), (dict, type(None))):
            raise CheckpointError(
                f"{path} is damaged: {name} of its metadata is {config_rules.short(value)}; accepted is an object"
            )
    return manifest


def _damage(folder: pathlib.Path) -> str:
    """What is wrong with a step's manifest or files, as a sentence; empty if nothing."""
    try:
        manifest = _read_manifest(folder)
    except (OSError, CheckpointError) as error:
        return str(error).removesuffix(".")
    files = manifest["files"]
    for name, expected in files.items():
        try:
            path = untrusted.inside(folder, name)
        except untrusted.FileError as error:
            return f"{folder / MANIFEST} is damaged: {error}".removesuffix(".")
        if not path.is_file():
            return f"{path} is missing: the checkpoint is damaged"
        if (got := io.sha256_of_file(path)) != expected:
            return f"{path} is damaged: its sha256 is {got[:12]}..., {str(expected)[:12]}... was written"
    there = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(_STRAY))
    if unlisted := sorted({path.relative_to(folder).as_posix() for path in there} - {MANIFEST, *files}):
        return f"{folder / MANIFEST} is damaged: it does not list {', '.join(unlisted[:3])}, which nothing would verify"
    return ""


def _key_names(path: tuple) -> list[str]:
    """The names along a pytree's key path: dictionary keys, attributes and positions."""
    return [str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", None)))) for entry in path]


def _to_dict(item: str, tree: Any) -> dict[str, Any]:
    """A pytree as nested dictionaries with arrays on the host (templates stay `ShapeDtypeStruct`)."""
    root: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        names = _key_names(path) or ["value"]
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise ValueError(f"{item}/{'/'.join(names)} is a key of random numbers: store jax.random.key_data of it.")
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            leaf = np.asarray(jax.device_get(leaf))
            if leaf.dtype.hasobject or leaf.dtype.kind in "US":
                raise ValueError(
                    f"{item}/{'/'.join(names)} is no array of numbers but {leaf.dtype}: text belongs into the metadata."
                )
        node = root
        for name in names[:-1]:
            node = node.setdefault(name, {})
        if any("/" in name for name in names) or names[-1] in node:
            raise ValueError(
                f"{item}/{'/'.join(names)}: a name with a slash, or twice the same name, cannot be stored."
            )
        node[names[-1]] = leaf
    return root


def _from_dict(tree: dict[str, Any], template: Any) -> Any:
    paths, structure = jax.tree_util.tree_flatten_with_path(template)
    leaves = []
    for path, _ in paths:
        node: Any = tree
        for name in _key_names(path) or ["value"]:
            node = node[name]
        leaves.append(node)
    return jax.tree_util.tree_unflatten(structure, leaves)


def _describe(tree: dict[str, Any]) -> dict[str, str]:
    """Key path -> "shape type" of every leaf, as stored in the manifest."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(_key_names(path)): f"{tuple(leaf.shape)} {np.dtype(leaf.dtype).name}" for path, leaf in leaves}


def _check_template(folder: pathlib.Path, item: str, stored: dict[str, str], expected: dict[str, str]) -> None:
    keys = [key for key in sorted(stored.keys() | expected.keys()) if stored.get(key) != expected.get(key)]
    if keys:
        lines = [
            f"  {item}/{key}: the checkpoint has {stored.get(key, 'nothing')}, expected {expected.get(key, 'nothing')}"
            for key in keys[:_MOST_DIFFERENCES]
        ]
        more = f"\n  and {len(keys) - _MOST_DIFFERENCES} more" if len(keys) > _MOST_DIFFERENCES else ""
        x64 = (
            "\nJAX runs in x64 mode, and networks are made of float32: leave JAX_ENABLE_X64 and jax_enable_x64 unset."
            if jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
            else ""
        )
        raise CheckpointError(f"{folder} does not fit the model of this config:\n" + "\n".join(lines) + more + x64)


def _read_arrays(folder: pathlib.Path, items: dict[str, dict[str, str]]) -> dict[str, dict]:
    """Items as nested dictionaries of NumPy arrays, whatever devices wrote them."""
    import orbax.checkpoint as ocp  # Late: the embedded weights need no checkpoint, and predict sooner.

    args: dict[str, Any] = {}
    for name, leaves in items.items():
        tree: dict[str, Any] = {}
        for key in leaves:
            *parents, last = key.split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = ocp.RestoreArgs(restore_type=np.ndarray)
        if tree:
            args[name] = ocp.args.PyTreeRestore(item=jax.tree.map(lambda _: 0, tree), restore_args=tree)
    restored: Mapping[str, Any] = {}
    if args:
        with contextlib.closing(ocp.Checkpointer(ocp.CompositeCheckpointHandler())) as checkpointer:
            restored = checkpointer.restore(folder / _ARRAYS, args=ocp.args.Composite(**args))
    return {name: restored[name] if name in args else {} for name in items}


def _jsonable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(metadata), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"The metadata of a checkpoint has to be what JSON can hold: {error}.") from error
