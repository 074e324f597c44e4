"""Configs that earlier versions wrote are read in today's fields."""

import json
import math

import pytest

from configs import default
from multibodies_jax.training import config_versions, provenance

# What the version before this module wrote for configs/demo.py, where its fields differ from today's.
_OLD = {
    "init": "",
    "freeze": "",
    "freeze_statistics": True,
    "body": {"dir": "", "shape_components": 10, "allow_other": False},
    "data": {
        "virtual_cameras": True,
        "sets": ["synthetic_bodies/clean"],
        "contrast_stretch": False,
        "npz_dir": "",
        "image_dir": "",
        "num_train": 1000,
        "num_people": 30000,
        "image_size": 128,
        "poses": "",
        "pose_mix": 1.0,
        "options": "",
        "threads": 2,
        "cached_passes": 0,
    },
    "model": {"width": 16, "keypoint_width": 1024, "keypoint_blocks": 3, "iterations": 3, "num_hypotheses": 100},
    "loss": {"reduce": "mean", "vertex_set": "all"},
    "mdn": {"weight": 0.0001, "draw": "means"},
    "cvae": {"weight": 0.01},
    "quantizer": {"temperature": 0.0},
    "optim": {"schedule": "cosine", "decay_step": 0, "l2": 0.0, "ema": 0.0, "clip": 5.0},
    "train": {"keep": 2},
    "eval": {"max_examples": 0, "published": "", "curve": 0, "hmr": ""},
}


def _old(**changes):
    """The old config of the demo; changes are dotted paths with "__" for "."."""
    tree = json.loads(default.of("demo").to_json_best_effort())
    for part, values in _OLD.items():
        tree[part] = {**tree[part], **values} if isinstance(values, dict) and part in tree else values
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = value
    return tree


def test_the_old_demo_is_todays_demo():
    today = json.loads(default.of("demo").to_json_best_effort())
    assert provenance.training_fields(_old()) == provenance.training_fields(today)


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ({"optim__clip": 0.0}, {"optim.clip": math.inf}),
        ({"data__poses": "cmu.npz"}, {"data.people": "cmu.npz"}),
        ({"data__virtual_cameras": False}, {"data.sets": ["synthetic_bodies/clean"]}),
        ({"data__num_train": 7, "data__options": "seed=3"}, {"data.options": "num_people=30000,num_train=7,seed=3"}),
        ({"model__keypoint_width": 64}, {"model.width": 64}),
        ({"model__trunk": "resnet_small", "model__width": 32}, {"model.width": 32, "model.trunk": "resnet_small"}),
        ({"loss__reduce": "sum"}, {"loss.reprojection_all": 100.0}),
        ({"freeze_statistics": False}, {"freeze_statistics": False}),
        ({"model__iterations": 2}, {"model.iterations": 2}),
    ],
)
def test_a_changed_field_keeps_its_meaning(old, today):
    usual, changed = config_versions.modern(_old()), config_versions.modern(_old(**old))
    assert {name: value for name, value in changed.items() if usual.get(name, ...) != value} == today
