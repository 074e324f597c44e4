"""Compiled functions whose traced programs are kept on disk: the next process compiles them without tracing them anew.

    @functools.partial(traced.jit, static_argnames="room")
    def fit(points, room): ...

    traced.keep_in(folder)        # Until then, and for arguments that are traced themselves, `traced.jit` is `jax.jit`.

Tracing is Python, and took a third of the time of `multibodies predict photo.jpg`; what XLA makes of a program is in the
compilation cache beside it. A kept program belongs to the sources of this package, the versions of JAX, the platform, the
precision that JAX is asked for, the types of the arguments and whatever is static.
"""

import functools
import hashlib
import inspect
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import jax
import jax.export
from jax import core

from multibodies_jax import devices, io

_folder: pathlib.Path | None = None
_KEPT_VERSIONS = 3  # Of the sources; each has a few megabytes.
_CHECKSUM_BYTES = 32
_ASKED = ("jax_default_matmul_precision", "jax_enable_x64")  # Of JAX, for whatever is traced.


def keep_in(folder: str | os.PathLike | None) -> None:
    """Keeps the programs of all functions that `jit` made in a folder, and takes them from there; None ends that."""
    global _folder
    _folder = None if folder is None else pathlib.Path(folder)


def register(node: type) -> type:
    """Lets a flax dataclass without static fields be a result of kept programs; usable as a decorator."""
    jax.export.register_pytree_node_serialization(
        node,
        serialized_name=f"{node.__module__}.{node.__qualname__}",
        serialize_auxdata=lambda _: b"",
        deserialize_auxdata=lambda _: (),
    )
    return node


def jit(
    function: Callable[..., Any], static_argnames: str | Sequence[str] = (), per_example: str | Sequence[str] = ()
) -> Callable[..., Any]:
    """As `jax.jit`, with the program of each kind of arguments kept on disk once `keep_in` was called.

    Args:
      function: of pytrees; its results are arrays in built-in containers or in classes of `register`. What it closes over
        has to be the same in every process with the same sources.
      static_argnames: of arguments that the program is made for; their `repr` tells them apart.
      per_example: the arguments whose arrays have the examples as leading axis, as have all results: where these are split
        over devices (`devices.split`), each runs the one program of its own examples.
    """
    static = {static_argnames} if isinstance(static_argnames, str) else set(static_argnames)
    examples = (per_example,) if isinstance(per_example, str) else tuple(per_example)
    compiled = devices.jit(function, examples, tuple(static))
    signature = inspect.signature(function)
    programs: dict[Any, Callable[..., Any]] = {}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _folder is None:
            return compiled(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        fixed = {name: given.pop(name) for name in sorted(static & set(given))}
        leaves, structure = jax.tree.flatten(given)
        if any(isinstance(leaf, core.Tracer) for leaf in leaves):
            return compiled(*args, **kwargs)
        leaves = [leaf if isinstance(leaf, jax.Array) else jax.numpy.asarray(leaf) for leaf in leaves]
        given = jax.tree.unflatten(structure, leaves)
        parts = devices.shares(*(given.get(name) for name in examples))
        own = {
            name: jax.tree.map(functools.partial(_kind, parts if name in examples else 1), given[name])
            for name in given
        }
        kinds = jax.tree.leaves(own)
        asked = tuple(getattr(jax.config, name) for name in _ASKED)
        key = structure, tuple((kind.shape, str(kind.dtype)) for kind in kinds), repr(fixed), asked
        if (key, parts) not in programs:

            def flat(*leaves: Any) -> Any:
                return function(**jax.tree.unflatten(structure, leaves), **fixed)

            name = f"{function.__module__}.{function.__qualname__}"
            program = _program(_folder, name, _without_addresses(repr(key)), flat, kinds)

            def run(given: dict[str, Any]) -> Any:
                return program.call(*jax.tree.leaves(given))

            each = functools.partial(devices.on_each, run, per_example=examples)
            programs[key, parts] = jax.jit(run if parts == 1 else each)
        return programs[key, parts](given)

    call.lower = compiled.lower  # pyright: ignore[reportAttributeAccessIssue]
    return call


def _kind(parts: int, leaf: jax.Array) -> jax.ShapeDtypeStruct:
    """Shape and type of an array, or of each of the equal parts into which its rows are split."""
    shape = leaf.shape if parts == 1 else (leaf.shape[0] // parts, *leaf.shape[1:])
    return jax.ShapeDtypeStruct(shape, leaf.dtype)


def _program(
    folder: pathlib.Path, name: str, key: str, flat: Callable[..., Any], kinds: Sequence[jax.ShapeDtypeStruct]
) -> jax.export.Exported:
    """The kept program of a function, or else the program that is traced now, and kept if the folder can be written."""
    platform = jax.default_backend()
    digest = io.sha256(f"{name} {key} {platform}".encode())[:24]
    path = folder / _version() / f"{name.rpartition('.')[2].strip('_')}-{digest}.bin"
    if (kept := _read(path)) is not None:
        return kept
    exported = jax.export.export(jax.jit(flat))(*kinds)
    program = bytes(exported.serialize())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        io.write_bytes(path, hashlib.sha256(program).digest() + program)
        for old in sorted(folder.iterdir(), key=lambda version: version.stat().st_mtime)[:-_KEPT_VERSIONS]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:
        pass  # A folder that cannot be written costs time, and no result.
    return exported


def _read(path: pathlib.Path) -> jax.export.Exported | None:
    """A kept program; None where there is none, or a damaged one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    checksum, program = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    return jax.export.deserialize(bytearray(program)) if hashlib.sha256(program).digest() == checksum else None


@functools.cache
def _version() -> str:
    """Names what all programs depend on: the sources of this package, and the versions of JAX."""
    digest = hashlib.sha256(f"{jax.__version__} {metadata.version('jaxlib')}".encode())
    for path in sorted(pathlib.Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _without_addresses(text: str) -> str:
    """A `repr` as every process writes it: functions are known by their names, and the sources are in the version."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)
