"""Published numbers of 3D Multi-bodies, to stand beside ours: (MPJPE, RE) in millimetres, by evaluation and n."""

import types
from collections.abc import Mapping
from typing import Any

Table = Mapping[str, Mapping[int, tuple[float, float]]]

# "Expected Results" in the README of the authors' repository (benjiebob/3D-Multibodies, commit a9c4933). The row of
# h36m carries no `_WEIGHT`: it is that of K-means with equal weights; the others are weighted by the prior.
README: Table = types.MappingProxyType(
    {
        "h36m": {1: (61.517, 41.626), 5: (59.772, 41.988), 10: (59.161, 42.102), 25: (58.236, 42.181)},
        "3dpw": {1: (93.794, 59.873), 5: (81.722, 56.714), 10: (78.764, 56.293), 25: (75.280, 55.285)},
        "ah36m": {1: (103.612, 67.831), 5: (95.306, 65.457), 10: (92.421, 64.573), 25: (88.748, 63.186)},
        "a3dpw": {1: (149.671, 78.303), 5: (125.612, 74.259), 10: (116.774, 73.585), 25: (107.465, 71.995)},
    }
)
# Table 1 of the paper (NeurIPS 2020), rows "Ours".
PAPER: Table = types.MappingProxyType(
    {
        "h36m": {1: (61.5, 41.6), 5: (59.8, 42.0), 10: (59.2, 42.2), 25: (58.2, 42.2)},
        "3dpw": {1: (93.8, 59.9), 5: (82.2, 57.1), 10: (79.4, 56.6), 25: (75.8, 55.6)},
        "ah36m": {1: (103.6, 67.8), 5: (96.4, 67.1), 10: (93.5, 66.0), 25: (90.0, 64.2)},
        "a3dpw": {1: (149.6, 78.5), 5: (125.6, 74.4), 10: (116.7, 73.7), 25: (107.8, 72.1)},
    }
)
NAMES = tuple(README)
METRICS = ("mpjpe", "pa_mpjpe")


def compare(name: str, sets: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Our numbers beside the published ones.

    Args:
      name: one of `NAMES`.
      sets: of one method: n -> metric -> summary with `mean`, as in results.json.

    Returns:
      For each n that both have, and each of `METRICS`: `n`, `metric`, `ours`, `readme`, `paper` and `difference`,
      ours minus the README's.

    Raises:
      ValueError: if nothing was published under that name.
    """
    if name not in README:
        raise ValueError(f"Nothing was published as {name!r}; the known evaluations are {', '.join(NAMES)}.")
    rows = []
    for n in README[name]:
        for i, metric in enumerate(METRICS if str(n) in sets else ()):
            ours, readme = sets[str(n)][metric]["mean"], README[name][n][i]
            values = {"ours": ours, "readme": readme, "difference": ours - readme, "paper": PAPER[name][n][i]}
            rows.append({"n": n, "metric": metric} | values)
    return rows
