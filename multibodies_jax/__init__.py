"""3D Multi-bodies in JAX: sets of plausible 3D human bodies from one ambiguous image (NeurIPS 2020).

    import multibodies_jax as mb

    model = mb.load_pretrained()                             # or mb.load(WORKDIR), what `multibodies train` left there
    people = model.predict("photo.jpg", n=5)                 # people[0].probabilities, .joints, .mesh(k), .to_glb(...)

    hyps = model.hypotheses(keypoints=points)                # M bodies of one person, scored by the prior
    chosen = model.quantize(hyps, n=5)                       # the n that stand for them, with probabilities
    vertices = model.mesh(mb.pick(hyps, chosen.medoid))      # (1, 5, V, 3), metres

The names in `__all__` are public (docs/reference/api.md) and imported at their first use, so that `import multibodies_jax`
costs nothing. What is not among them is internal and may move.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multibodies_jax.body.body_files import load as load_body
    from multibodies_jax.body.smpl import SmplModel, contract, joints, mesh
    from multibodies_jax.evaluation.evaluate import evaluate
    from multibodies_jax.evaluation.metrics import mpjpe_mm, pa_mpjpe_mm, vertex_error_mm
    from multibodies_jax.fitting.refine import refine
    from multibodies_jax.hypotheses.hypotheses import Hypotheses, decode, pick
    from multibodies_jax.hypotheses.quantize import Quantized, select
    from multibodies_jax.prediction.predict import predict
    from multibodies_jax.prediction.prediction import Prediction
    from multibodies_jax.prediction.prediction import load as load_prediction
    from multibodies_jax.prediction.predictor import Predictor, load
    from multibodies_jax.prediction.pretrained import load_pretrained
    from multibodies_jax.training.loop import train

__version__ = "0.1.0"

__all__ = [
    "Hypotheses",
    "Prediction",
    "Predictor",
    "Quantized",
    "SmplModel",
    "contract",
    "decode",
    "evaluate",
    "joints",
    "load",
    "load_body",
    "load_prediction",
    "load_pretrained",
    "mesh",
    "mpjpe_mm",
    "pa_mpjpe_mm",
    "pick",
    "predict",
    "refine",
    "select",
    "train",
    "vertex_error_mm",
]

# Public name -> module below this package and the name in it; as the imports for type checkers above.
_PLACES = {
    "Hypotheses": "hypotheses.hypotheses:Hypotheses",
    "Prediction": "prediction.prediction:Prediction",
    "Predictor": "prediction.predictor:Predictor",
    "Quantized": "hypotheses.quantize:Quantized",
    "SmplModel": "body.smpl:SmplModel",
    "contract": "body.smpl:contract",
    "decode": "hypotheses.hypotheses:decode",
    "evaluate": "evaluation.evaluate:evaluate",
    "joints": "body.smpl:joints",
    "load": "prediction.predictor:load",
    "load_body": "body.body_files:load",
    "load_prediction": "prediction.prediction:load",
    "load_pretrained": "prediction.pretrained:load_pretrained",
    "mesh": "body.smpl:mesh",
    "mpjpe_mm": "evaluation.metrics:mpjpe_mm",
    "pa_mpjpe_mm": "evaluation.metrics:pa_mpjpe_mm",
    "pick": "hypotheses.hypotheses:pick",
    "predict": "prediction.predict:predict",
    "refine": "fitting.refine:refine",
    "select": "hypotheses.quantize:select",
    "train": "training.loop:train",
    "vertex_error_mm": "evaluation.metrics:vertex_error_mm",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its public names: {', '.join(__all__)}")
    module, _, attribute = _PLACES[name].partition(":")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
