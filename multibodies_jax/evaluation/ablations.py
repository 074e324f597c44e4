"""How an ablation is called: the training fields that differ from the reference, in words."""

from collections.abc import Mapping
from typing import Any

from multibodies_jax.models import build
from multibodies_jax.registry import Registry

WORDS: Registry[Mapping[Any, str]] = Registry("the field of an ablation")
"""Field -> value -> words, of the known ablations; any other field is written as FIELD=VALUE."""

WORDS.register("loss.reprojection_all", {0: "no hypothesis re-projection"})
WORDS.register("loss.mode0", {False: "hypothesis 0 not supervised"})
WORDS.register("data.withheld_3d", {0.5: "3D labels of half", 1.0: "2D labels only"})
WORDS.register("flow.noise_mm", {0: "prior without noise"})
_M = "model.num_hypotheses"


def drawn(config: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The fields of a model that its training does not read, but that make other hypotheses (`Network.free_fields`)."""
    if model not in build.NETWORKS:
        return {}
    network = build.NETWORKS[model]
    part = network.config_part or ""
    return {f"{part}.{field}": config.get(part, {}).get(field) for field in network.free_fields}


def known_words(fields: Mapping[str, Any]) -> list[str]:
    """The known ablations among training fields, in words; hypothesis 0 is supervised only beside others."""
    words = []
    for field, known in WORDS.items():
        word = in_words(field, fields.get(field))
        if word in known.values() and not (field == "loss.mode0" and fields.get(_M) == 1):
            words.append(word)
    return words


def in_words(field: str, value: Any) -> str:
    """A field and its value as they stand in the name of a row."""
    if field == _M:
        return f"M = {value}"
    if field in WORDS:
        return next((words for known, words in WORDS[field].items() if known == value), f"{field}={value}")
    return f"{field}={value}"
