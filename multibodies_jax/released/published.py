"""Published numbers of 3D Multi-bodies, to stand beside ours: (MPJPE, RE) in millimetres, by evaluation and n."""

import functools
import types
from collections.abc import Mapping
from typing import Any

from multibodies_jax.evaluation import metrics, results

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
# Table 1 of the paper (NeurIPS 2020): evaluation -> method -> n -> (MPJPE, RE); None where it prints a dash. The rows
# of single bodies are quoted there from the papers of HMR, GraphCMR and SPIN.
TABLE1: Mapping[str, Mapping[str, Mapping[int, tuple[Any, Any]]]] = types.MappingProxyType(
    {
        "h36m": {
            "HMR": {1: (None, 56.8)},
            "GraphCMR": {1: (71.9, 50.1)},
            "SPIN": {1: (62.2, 41.8)},
            "SMPL-MDN": {1: (64.4, 44.8), 5: (61.8, 43.3), 10: (61.3, 43.0), 25: (61.1, 42.7)},
            "SMPL-CVAE": {1: (70.1, 46.7), 5: (68.9, 46.4), 10: (68.6, 46.3), 25: (68.1, 46.2)},
            "Ours": {1: (61.5, 41.6), 5: (59.8, 42.0), 10: (59.2, 42.2), 25: (58.2, 42.2)},
        },
        "3dpw": {
            "HMR": {1: (None, 81.3)},
            "GraphCMR": {1: (None, 70.2)},
            "SPIN": {1: (96.9, 59.3)},
            "SMPL-MDN": {1: (105.8, 64.7), 5: (96.9, 61.2), 10: (95.9, 60.7), 25: (94.9, 60.1)},
            "SMPL-CVAE": {1: (96.3, 61.4), 5: (93.7, 60.7), 10: (92.9, 60.5), 25: (92.0, 60.3)},
            "Ours": {1: (93.8, 59.9), 5: (82.2, 57.1), 10: (79.4, 56.6), 25: (75.8, 55.6)},
        },
        "ah36m": {
            "SMPL-MDN": {1: (113.9, 74.7), 5: (98.0, 70.8), 10: (95.1, 69.9), 25: (91.5, 69.5)},
            "SMPL-CVAE": {1: (114.5, 76.5), 5: (111.5, 75.7), 10: (110.6, 75.4), 25: (109.7, 75.1)},
            "Ours": {1: (103.6, 67.8), 5: (96.4, 67.1), 10: (93.5, 66.0), 25: (90.0, 64.2)},
        },
        "a3dpw": {
            "SMPL-MDN": {1: (159.7, 82.8), 5: (154.6, 83.0), 10: (149.6, 80.7), 25: (122.1, 76.6)},
            "SMPL-CVAE": {1: (156.6, 80.2), 5: (154.5, 79.9), 10: (153.9, 79.8), 25: (153.1, 79.8)},
            "Ours": {1: (149.6, 78.5), 5: (125.6, 74.4), 10: (116.7, 73.7), 25: (107.8, 72.1)},
        },
    }
)
PAPER: Table = types.MappingProxyType({name: methods["Ours"] for name, methods in TABLE1.items()})
# Table 2 of the paper, on 3DPW: components -> n -> (MPJPE, RE). The ticks of the two rows in the middle are not to be told
# apart in the text that we have: one has the hypothesis re-projection loss only, the other the flow's weights only.
TABLE2: Table = types.MappingProxyType(
    {
        "neither": {5: (86.4, 57.9), 10: (84.0, 57.5), 25: (79.0, 56.3)},
        "one of the two (second row)": {5: (84.1, 57.0), 10: (81.9, 56.7), 25: (77.8, 55.8)},
        "one of the two (third row)": {5: (82.7, 57.5), 10: (79.9, 57.0), 25: (76.2, 55.9)},
        "both": {5: (82.2, 57.1), 10: (79.4, 56.6), 25: (75.8, 55.6)},
    }
)
NAMES = tuple(README)
METRICS = metrics.REPORTED
_FAMILIES = {"h36m": "h36m", "threedpw": "3dpw", "ah36m": "ah36m", "a3dpw": "a3dpw"}  # Of our builders.


def evaluation_of(dataset: str) -> str:
    """The evaluation that a set of ours belongs to ("threedpw/official" -> "3dpw"), one of `NAMES`; "" for any other."""
    return _FAMILIES.get(dataset.partition("/")[0], "")


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


for _name in NAMES:
    results.PUBLISHED.register(_name, functools.partial(compare, _name))
