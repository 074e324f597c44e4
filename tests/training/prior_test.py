"""The prior: one that is trained alike is taken from the work directory that a run starts from."""

import pytest

from multibodies_jax.data import sources
from multibodies_jax.training import logs, prior, setup
from tests.helpers import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work directory with a trained prior, and the bodies."""
    workdir = tmp_path_factory.mktemp("prior") / "source"
    config = tiny.config()
    bodies = setup.load_bodies(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "load_people", tiny.load_people)
        prior.train_prior(config, workdir, bodies)
    return workdir, bodies


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({}, True),
        ({"data__options": "num_train=5,num_people=30000"}, True),  # Images do not matter.
        ({"data__options": "num_train=1000,num_people=7"}, False),
        ({"seed": 1}, False),
        ({"flow__noise_mm": 4.0}, False),
    ],
)
def test_a_prior_that_is_trained_alike_is_taken_over(trained, tmp_path, monkeypatch, fields, taken):
    source, bodies = trained
    read = []

    def load_people(config, split):
        read.append(split)
        return tiny.load_people(config, split)

    monkeypatch.setattr(sources, "load_people", load_people)
    prior.train_prior(tiny.config(init=str(source), **fields), tmp_path, bodies)
    assert (not read) == taken
    if taken:
        assert logs.read(tmp_path / "prior") == logs.read(source / "prior")
