"""Matches the tensors of a file with a layout, name by name and shape by shape, and moves them there and back."""

import collections
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.traverse_util
import ml_dtypes
import numpy as np

from multibodies_jax.convert import layouts
from multibodies_jax.convert.torch_reader import Tensor

_CONTAINERS = ("model", "state_dict")  # Keys under which training programs save a state dict beside other things.
_WRAPPERS = re.compile(r"^((module|model)\.)+")  # Left by DataParallel and by models inside models.
_WRAPPERS_AFTER = re.compile(r"((module|model)\.)+$")
_FLOATS = (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)
_MOST = 10  # Tensors listed of each kind of mismatch.


class ConversionError(ValueError):
    """A file that does not hold what it should; the message lists what it lacks and what it has."""


def state_dict(root: Any, path: Any, advice: str = "") -> dict[str, Any]:
    """The state dict in what a file holds: itself, or under `model` or `state_dict`; names as they are.

    Args:
      root: what the file holds.
      path: of the file, for the message, to which `advice` is appended.

    Raises:
      ConversionError: there is none, or several.
    """
    if isinstance(root, Mapping) and not any(isinstance(value, Tensor) for value in root.values()):
        inside = [root[key] for key in _CONTAINERS if isinstance(root.get(key), Mapping)]
        if len(inside) == 1 and any(isinstance(value, Tensor) for value in inside[0].values()):
            root = inside[0]
    if not isinstance(root, Mapping) or not any(isinstance(value, Tensor) for value in root.values()):
        held = f"the keys {list(map(str, root))[:_MOST]}" if isinstance(root, Mapping) else f"a {type(root).__name__}"
        raise ConversionError(
            f"{path} holds {held}; a state dict (names -> tensors) was expected, at the top or under one of {_CONTAINERS}."
            + (f" {advice}" if advice else "")
        )
    return {str(name): value for name, value in root.items()}


def bare_names(names: Iterable[str], path: Any) -> dict[str, str]:
    """Bare name -> name in the file; leading `module.` and `model.` are taken off, however many.

    Raises:
      ConversionError: two tensors have the same bare name.
    """
    bare: dict[str, str] = {}
    for name in names:
        short = _WRAPPERS.sub("", name)
        if short in bare:
            raise ConversionError(f"{path} has {short} twice: as {bare[short]} and as {name}. Keep one of them.")
        bare[short] = name
    return bare


def check(layout: layouts.Layout, found: Mapping[str, Any], path: Any, advice: str) -> None:
    """Refuses tensors that are not those of a layout: a missing, an unexpected, or one of another shape.

    Args:
      found: bare name -> `Tensor` (or whatever else the file has under that name).
      path: of the file, for the message.
      advice: what would fit, appended to the message.

    Raises:
      ConversionError: with the first of each kind.
    """
    shapes = {tensor.name: tensor.shape for tensor in layout.tensors}
    present = {
        tensor.reason for tensor in layout.tensors if isinstance(tensor, layouts.Skipped) and tensor.name in found
    }
    needed = [t for t in layout.tensors if isinstance(t, layouts.Slot) or t.reason in present]
    missing = [f"{t.name} {t.shape}" for t in needed if t.name not in found]
    unexpected = [f"{name} {_describe(value)}" for name, value in found.items() if name not in shapes]
    other = [
        f"{name}: {shapes[name]} expected, {_describe(value)} in the file"
        for name, value in found.items()
        if name in shapes and (not isinstance(value, Tensor) or value.shape != shapes[name])
    ]
    kinds = (("missing from the file", missing), ("in the file, not expected", unexpected), ("of another shape", other))
    if any(names for _, names in kinds):
        lines = [f"{path} does not hold {layout.kind} ({len(needed)} tensors expected, {len(found)} in the file):"]
        for title, names in kinds:
            lines += [f"  {title}: {len(names)}"] if names else []
            lines += [f"    {name}" for name in names[:_MOST]]
            lines += [f"    and {len(names) - _MOST} more"] if len(names) > _MOST else []
        raise ConversionError("\n".join([*lines, *([advice] if advice else [])]))


def common_names(layout: layouts.Layout, found: Mapping[str, Any]) -> int:
    """How many tensors of a file have a name and the shape of the layout."""
    shapes = {tensor.name: tensor.shape for tensor in layout.tensors}
    return sum(name in shapes and getattr(value, "shape", None) == shapes[name] for name, value in found.items())


def extra_prefix(layout: layouts.Layout, names: Iterable[str]) -> tuple[str, int]:
    """The prefix without which most of the file's names would be the layout's, and how many; ("", 0) if none."""
    # The longest expected name that ends a name is the one meant: layer1.0.conv1.weight, not conv1.weight.
    wanted = {tensor.name for tensor in layout.tensors}
    prefixes: collections.Counter[str] = collections.Counter()
    for name in names:
        parts = name.split(".")
        ends = (place for place in range(len(parts)) if ".".join(parts[place:]) in wanted)
        if place := next(ends, 0):
            prefixes[".".join(parts[:place]) + "."] += 1
    if not prefixes:
        return "", 0
    prefix, count = prefixes.most_common(1)[0]
    return _WRAPPERS_AFTER.sub("", prefix), count


def place(
    layout: layouts.Layout, found: Mapping[str, Tensor], read: Callable[[Tensor], np.ndarray], path: Any
) -> dict[str, np.ndarray]:
    """Path of each target -> its array, float32, filled from the checked tensors of a file.

    Raises:
      ConversionError: a tensor has no type of floats, a NaN or infinity, or a variance is negative.
    """
    targets = {target: np.zeros(shape, np.float32) for target, shape in target_shapes(layout).items()}
    problems = []
    for slot in layout.slots:
        if found[slot.name].dtype not in _FLOATS:
            problems.append(f"{slot.name} has numbers of type {found[slot.name].dtype}, floats were expected")
            continue
        with np.errstate(over="ignore"):  # Too large for float32: reported as infinity.
            numbers = read(found[slot.name]).astype(np.float32)
        if bad := int(np.sum(~np.isfinite(numbers))):
            problems.append(f"{slot.name} {slot.shape} has {bad} numbers that are NaN or infinite")
        elif slot.target.endswith("/var") and numbers.min() < 0:
            problems.append(f"{slot.name} {slot.shape} has negative variances, down to {numbers.min():g}")
        targets[slot.target][slot.index] = numbers.transpose(slot.axes)
    if problems:
        more = [f"and {len(problems) - _MOST} more"] if len(problems) > _MOST else []
        lines = "\n  ".join([*problems[:_MOST], *more])
        raise ConversionError(
            f"{path} cannot be used:\n  {lines}\nTake the checkpoint of an earlier epoch, or download it again."
        )
    return targets


def take(layout: layouts.Layout, targets: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name -> tensor as in a file, from the arrays that `place` gives; the same bits."""
    return {
        slot.name: np.ascontiguousarray(targets[slot.target][slot.index].transpose(np.argsort(slot.axes)), np.float32)
        for slot in layout.slots
    }


def target_shapes(layout: layouts.Layout) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every array that the tensors of a layout fill."""
    shapes: dict[str, tuple[int, ...]] = {}
    for slot in layout.slots:
        *leading, last = slot.placed_shape
        if slot.layer is not None:
            before = shapes.get(slot.target, (0,))[0]
            shapes[slot.target] = (max(before, slot.layer + 1), *slot.placed_shape)
        else:
            shapes[slot.target] = (*leading, slot.stop or last)  # Parts come in the order of their columns.
    return shapes


def differences(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Lines about arrays that are missing, not expected or of another shape: the first of them, and how many more."""
    wrong = [
        path
        for path in sorted(wanted.keys() | arrays.keys())
        if wanted.get(path) != getattr(arrays.get(path), "shape", None)
    ]
    lines = [
        f"  {path}: {getattr(arrays.get(path), 'shape', 'nothing')} there, {wanted.get(path, 'nothing')} expected"
        for path in wrong[:_MOST]
    ]
    return lines + ([f"  and {len(wrong) - _MOST} more arrays"] if len(wrong) > _MOST else [])


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Paths with slashes as nested dictionaries."""
    return flax.traverse_util.unflatten_dict(dict(flat), sep="/")


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `nest`."""
    return flax.traverse_util.flatten_dict(dict(tree), sep="/")


def _describe(value: Any) -> str:
    return str(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
