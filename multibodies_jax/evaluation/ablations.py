"""What was trained, and drawn from it, in words: how an ablation is called."""

from collections.abc import Mapping
from typing import Any

# How differences from the reference are said; any other field is said as FIELD=VALUE.
_WORDS: dict[str, dict[Any, str]] = {
    "loss.reprojection_all": {0: "no hypothesis re-projection"},
    "loss.mode0": {False: "hypothesis 0 not supervised"},
    "loss.reading": {"released": "released losses"},
    "flow.noise_mm": {0: "prior without noise"},
    "mdn.root": {"mixture": "global rotation in the mixture"},
    "mdn.sigma_means": {"std": "sigma as a standard deviation"},
    "mdn.draw": {"samples": "samples of the mixture"},
}
_M = "model.num_hypotheses"


def drawn(config: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The field that evaluation reads and that no training of a model binds, but that makes other hypotheses."""
    return {"mdn.draw": config.get("mdn", {}).get("draw")} if model == "smpl_mdn" else {}


def known_words(fields: Mapping[str, Any]) -> list[str]:
    """The known ablations among training fields, in words; hypothesis 0 is supervised only beside others."""
    words = []
    for field, known in _WORDS.items():
        word = in_words(field, fields.get(field))
        if word in known.values() and not (field == "loss.mode0" and fields.get(_M) == 1):
            words.append(word)
    return words


def in_words(field: str, value: Any) -> str:
    """A field and its value as they stand in the name of a row."""
    if field == _M:
        return f"M = {value}"
    return next((words for known, words in _WORDS.get(field, {}).items() if known == value), f"{field}={value}")
