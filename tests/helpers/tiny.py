"""A config small enough to train in a test, and people to train on without building a dataset."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from configs import default

_AUTHORS_FIELDS = {
    *(
        "freeze_statistics",
        "data__crop",
        "data__contrast_stretch",
        "data__npz_dir",
        "data__image_dir",
        "loss__vertex_set",
    ),
    *("optim__schedule", "optim__decay_step", "optim__l2", "eval__published"),
}


def config(**overrides) -> Any:
    """The demo with tiny networks; overrides are dotted paths with "__" for ".": `tiny.config(train__steps=3)`.

    Annotated as `Any`, because the type checker does not know the fields of the ConfigDict.
    """
    name = overrides.get("model__name", "")
    c = default.of(f"{name}:demo" if name in ("smpl_mdn", "smpl_cvae", "spin", "graphcmr") else "demo")
    if not {"data__withheld_3d", "data__fits"}.isdisjoint(overrides):
        c = default.add_label_fields(c)
    if not _AUTHORS_FIELDS.isdisjoint(overrides):
        c = default.add_authors_fields(c)
    if not {"fitting__prior", "fitting__anchor"}.isdisjoint(overrides):
        c = default.add_fitting_factors(c)
    if not {"eval__packed", "eval__chosen_on", "eval__box", "fitting__lens"}.isdisjoint(overrides):
        c = default.add_evaluation_of_others(c)
    c.unlock()
    if "data__cached_passes" in overrides:
        c.data.cached_passes = 1
    c.model.width = 32
    c.model.hidden = 16
    if name == "graphcmr":
        c.graphcmr.channels, c.graphcmr.blocks, c.graphcmr.hidden, c.eval.ns = 16, 1, 8, (1,)
    else:
        c.model.num_hypotheses, c.eval.ns = 6, (1, 2, 5)
    c.flow.layers, c.flow.width, c.flow.batch, c.flow.steps = 2, 16, 16, 4
    c.stage1.steps, c.stage1.batch = 4, 8
    c.train.steps, c.train.batch, c.train.log_every, c.train.checkpoint_every = 6, 8, 1, 2
    c.quantizer.starts, c.quantizer.iterations = 1, 5
    for path, value in overrides.items():
        *parents, last = path.split("__")
        node = c
        for parent in parents:
            node = node[parent]
        assert last in node, path
        node[last] = value
    return c.lock()


def load_people(config: ConfigDict, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Stands in for `sources.load_people`: 40 random people."""
    rng = np.random.default_rng(len(split))
    poses = rng.normal(scale=0.2, size=(40, 24, 3)).astype(np.float32)
    poses[:, 0] = 0
    return poses, rng.normal(size=(40, 10)).astype(np.float32)
