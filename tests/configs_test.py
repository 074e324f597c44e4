"""The configs: few fields, each with a comment or a plain name, and every file builds."""

import pathlib
import re

import pytest

import multibodies_jax
from configs import default
from multibodies_jax.training import config_checks, config_versions

_NAMES = sorted(path.stem for path in pathlib.Path(default.__file__).parent.glob("[!_]*.py"))


def test_default_has_at_most_70_fields():
    assert len(config_versions.flatten(default.get_config().to_dict())) <= 70


@pytest.mark.parametrize("name", _NAMES)
def test_every_config_is_valid_and_locked(name):
    config = default.of(name)
    config.init = "trunk" if config.freeze else None  # What a frozen trunk starts from is said on the command line.
    config_checks.check_fields(config)
    config_checks.validate(config)
    with pytest.raises(AttributeError):
        config.misspelt = 1


def test_a_baseline_has_its_own_fields_and_no_other():
    fields = set(config_versions.flatten(default.get_config().to_dict()))
    added = set(config_versions.flatten(default.of("smpl_mdn:default").to_dict())) - fields
    assert added and all(name.startswith("mdn.") for name in added)


def test_a_field_that_only_some_configs_have_holds_in_all():
    plain, authors = default.get_config(), default.of("mixture:released")
    assert default.optional_fields() == {
        "freeze_statistics": True,
        "data.crop": "exact",
        "data.contrast_stretch": False,
        "data.npz_dir": None,
        "data.image_dir": None,
        "data.cached_passes": None,
        "data.withheld_3d": 0.0,
        "data.fits": None,
        "data.resident": False,
        "model.scores": False,
        "loss.vertex_set": "all",
        "fitting.prior": None,
        "fitting.anchor": None,
        "optim.schedule": "cosine",
        "optim.decay_step": None,
        "optim.l2": 0.0,
        "eval.published": None,
        "eval.packed": None,
        "eval.box": "visible",
        "eval.chosen_on": None,
        "fitting.lens": "network",
    }
    for path, value in default.optional_fields().items():
        assert default.optional(plain, path) == value
    assert [default.optional(authors, f) for f in ("freeze_statistics", "data.crop", "optim.l2")] == [
        False,
        "spin",
        5e-4,
    ]


def test_fields_that_only_some_configs_have_are_read_by_the_one_reader_that_knows_what_holds_without_them():
    leaves = {path.rpartition(".")[2] for path in default.optional_fields()}
    pattern = re.compile(rf"\bconfig(?:\.\w+)*\.get\(\"(?:{'|'.join(leaves)})\"")
    library = pathlib.Path(multibodies_jax.__file__).parent
    found = {str(path): pattern.findall(path.read_text(encoding="utf-8")) for path in library.rglob("*.py")}
    assert {name: reads for name, reads in found.items() if reads} == {}


def test_the_authors_training_is_a_config_of_its_own():
    paper, released = (
        config_versions.flatten(default.of(f"mixture:{name}").to_dict()) for name in ("paper", "released")
    )
    differ = {field: value for field, value in released.items() if paper[field] != value}
    assert differ.pop("data.sets")[1] == "lsp/spin, lspet/spin, mpii/spin, coco2014/spin"
    assert released["data.weights"] == (0.3, 0.6, 0.1)
    assert differ == {
        "model.head": "released",
        "model.init_noise": 0.0,
        "freeze": "loaded",
        "freeze_statistics": False,
        "data.crop": "spin",
        "data.contrast_stretch": True,
        "loss.reading": "released",
        "loss.vertex_set": "regressed",
        "optim.l2": 5e-4,
        "optim.schedule": "step",
        "optim.decay_step": 97_558,
        "optim.warmup": 0,
        "optim.clip": float("inf"),
        "train.batch": 48,
    }
    assert (released["optim.learning_rate"], released["loss.vertices"], released["loss.reprojection_all"]) == (
        1e-5,
        1,
        1,
    )
