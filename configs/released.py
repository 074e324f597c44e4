r"""The authors' released models, converted, scored as their README does: h36m, 3dpw, ah36m or a3dpw.

    multibodies convert multibodies model_epoch_XXXXXXXX.pth OUT --flow=model_epoch_00000412.pth --body.dir=BODY
    python run.py --mode=evaluate --config=configs/released.py:3dpw --workdir=OUT --config.body.dir=BODY \
        --config.data.npz_dir=LISTS --config.data.image_dir=IMAGES

h36m and 3dpw belong to the plain model, ah36m and a3dpw to the ambiguous one. It prints ours, the README's and the
difference. Not run on the licensed files, which are not ours to have. Expected, not measured: no difference beyond
rounding at n = 1 and n = M, where nothing is drawn, and more in between, where the original draws first rows unseeded.
"""

from typing import Any

from configs import default

# The lists of each evaluation, and the authors' crops where they are ambiguous; protocol; weights of the quantizer.
_EVALUATIONS = {
    "h36m": ("spin/h36m_valid_protocol2", "h36m_p2", "uniform"),  # The README's row is the one without the prior.
    "3dpw": ("spin/3dpw_test_all", "3dpw", "prior"),
    "ah36m": ("spin/h36m_valid_protocol2+h36m-p2_amb3", "h36m_p2", "prior"),
    "a3dpw": ("spin/3dpw_test_all+3dpw_amb3", "3dpw", "prior"),
}


def get_config(name: str = "3dpw") -> Any:
    if name not in _EVALUATIONS:
        raise ValueError(f"configs/released.py:{name}: choose one of {', '.join(_EVALUATIONS)}.")
    c = default.add_authors_fields(default.get_config())
    images, protocol, weights = _EVALUATIONS[name]
    c.model.head = "released"
    c.model.num_hypotheses = None  # 25 or 100: the checkpoint knows.

    c.data.crop = "spin"
    c.data.contrast_stretch = True

    c.quantizer.reading = "released"
    c.quantizer.weights = weights
    c.quantizer.temperature = 1.0

    c.eval.sets = (images,)
    c.eval.protocol = protocol
    c.eval.published = name
    c.eval.methods = default.METHODS
    c.eval.vertex_stride = 1  # The vertex errors are means of all 6890.
    c.eval.batch = 10  # So that 100 whole meshes of each image fit.
    return c
