"""What a conversion prints: every tensor with its new name and shape, what was left out and why, totals, a fingerprint."""

import collections
from collections.abc import Iterable, Mapping

import numpy as np

from multibodies_jax.convert import layouts
from multibodies_jax.training.checkpoints import fingerprint

_NAME, _SHAPE = 48, 20  # Columns of the table.


def parameter_counts(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Part (trunk, modes, head, flow) -> how many trained numbers it has; statistics and masks do not count."""
    counts: collections.Counter[str] = collections.Counter()
    for path, array in arrays.items():
        collection, part, *_ = *path.split("/"), ""
        if collection == "params":
            counts["flow" if part == "couplings" else part] += int(np.size(array))
    return dict(counts)


def placed_lines(layout: layouts.Layout, names: Mapping[str, str]) -> list[str]:
    """One line for each tensor that was placed: its name and shape in the file, and where it is now.

    Args:
      names: bare name -> name in the file.
    """
    lines = []
    for slot in layout.slots:
        where = slot.target
        if slot.layer is not None:
            where += f"[{slot.layer}]"
        elif slot.start is not None:
            where += f"[..., {slot.start}:{slot.stop}]"
        lines.append(
            f"  {names[slot.name]:<{_NAME}} {_text(slot.shape):<{_SHAPE}} -> {where} {_text(slot.placed_shape)}"
        )
    return lines


def skipped_lines(tensors: Iterable[layouts.Skipped], names: Mapping[str, str]) -> list[str]:
    """Those of the tensors that the file has, by the reason why they were left out."""
    reasons: dict[str, list[layouts.Skipped]] = {}
    for tensor in tensors:
        if tensor.name in names:
            reasons.setdefault(tensor.reason, []).append(tensor)
    lines = []
    for reason, skipped in reasons.items():
        lines.append(f"Left out, {len(skipped)} tensors: {reason}")
        lines += [f"  {names[tensor.name]:<{_NAME}} {_text(tensor.shape)}" for tensor in skipped]
    return lines


def totals(arrays: Mapping[str, np.ndarray], folder: str, layout: layouts.Layout) -> list[str]:
    """Parameters of each part, of how many in the peers' file, and the fingerprint."""
    counts = parameter_counts(arrays)
    parts = ", ".join(f"{part} {count:,}" for part, count in counts.items())
    return [
        f"{folder}: {sum(counts.values()):,} parameters ({parts}); {layout.kind} has {layout.num_parameters:,}",
        f"{folder}: fingerprint {fingerprint(arrays)}",
    ]


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "number"
