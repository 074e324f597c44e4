"""Examples over the devices of this process: the same program on each of them, on examples of its own.

    batch = devices.split(batch)                       # N times as many examples on N devices
    networks = devices.copied(networks)                # whole on each
    hyps = hypothesize(networks, batch)                # stays split

Every device gets as many examples, and runs the program that one device alone would run: its work and its memory do not
depend on N, and neither do the bits of an example's result. Functions of `jit` run on each device by itself, so that no
collective can be in them; others follow their arguments, and XLA splits them. With one device nothing here has an effect.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax import core
from jax.sharding import Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")

EXAMPLES = "examples"
"""Name of the mesh's one axis."""


@functools.cache
def mesh() -> Mesh:
    """The devices of this process in a row; those of other processes have examples of their own."""
    return Mesh(np.array(jax.local_devices()), (EXAMPLES,))


@functools.cache
def everywhere() -> Mesh:
    """The devices of all processes in a row, over which training splits each batch."""
    return Mesh(np.array(jax.devices()), (EXAMPLES,))


def count() -> int:
    """How many devices share the examples of this process."""
    return mesh().size


def described() -> dict[str, Any]:
    """What computes here, for results: the kind of device, how many of them, of how many processes, and the version of JAX."""
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "jax": jax.__version__,
    }


def split(tree: T) -> T:
    """Puts equally many rows of every array on each device; as they are where the rows cannot be shared equally.

    Args:
      tree: of arrays with the same leading axis.
    """
    rows = {len(leaf) for leaf in jax.tree.leaves(tree)}
    if count() == 1 or any(number % count() for number in rows):
        return tree
    return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec(EXAMPLES)))


def copied(tree: T) -> T:
    """Puts every array of a tree whole on each device."""
    return tree if count() == 1 else jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))


def shares(*trees: Any) -> int:
    """Over how many devices the rows of some array in these trees are split; 1 where they are on one, or are traced."""
    return max((_parts(leaf) for leaf in jax.tree.leaves(trees)), default=1)


def jit(
    function: Callable[..., Any], per_example: str | Sequence[str], static_argnames: str | Sequence[str] = ()
) -> Callable[..., Any]:
    """As `jax.jit`; where arguments are split over devices, each of these runs the function on its own examples alone.

    Args:
      function: of trees of arrays; all its results have the examples as leading axis.
      per_example: the arguments whose arrays have the examples as leading axis; the others are whole on every device.
      static_argnames: as `jax.jit`.

    Returns:
      The function; its `lower` gives the program for some arguments, as that of `jax.jit`.
    """
    examples, static = _names(per_example), _names(static_argnames)
    compiled = jax.jit(function, static_argnames=static)
    signature = inspect.signature(function)

    @functools.partial(jax.jit, static_argnames="fixed")
    def each(given: dict[str, Any], fixed: tuple[tuple[str, Any], ...]) -> Any:
        return on_each(lambda given: function(**given, **dict(fixed)), given, examples)

    def program(*args: Any, **kwargs: Any) -> Any:
        given = dict(signature.bind(*args, **kwargs).arguments)
        if shares(*(given.get(name) for name in examples)) == 1:
            return functools.partial(compiled, *args, **kwargs)
        fixed = tuple((name, given.pop(name)) for name in static if name in given)
        return functools.partial(each, given, fixed)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return program(*args, **kwargs)()

    def lower(*args: Any, **kwargs: Any) -> Any:
        its = program(*args, **kwargs)
        return its.func.lower(*its.args, **its.keywords)

    call.lower = lower  # pyright: ignore[reportAttributeAccessIssue]
    return call


def on_each(function: Callable[[dict[str, Any]], Any], given: dict[str, Any], per_example: Sequence[str]) -> Any:
    """Runs a function on every device, on its own rows of the named arguments; part of a jitted function."""
    specs = {name: PartitionSpec(EXAMPLES) if name in per_example else PartitionSpec() for name in given}
    run = jax.shard_map(function, mesh=mesh(), in_specs=(specs,), out_specs=PartitionSpec(EXAMPLES), check_vma=False)
    return run(given)


def _parts(leaf: Any) -> int:
    if not isinstance(leaf, jax.Array) or isinstance(leaf, core.Tracer) or not leaf.ndim or not len(leaf):
        return 1
    return len(leaf) // leaf.sharding.shard_shape(leaf.shape)[0]


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
