"""The prior: one that is trained alike is taken from the work directory that a run starts from."""

import re

import pytest

from multibodies_jax.data import sources
from multibodies_jax.training import logs, prior, setup
from tests.helpers import tiny
from tests.helpers import trained as shared_run


@pytest.fixture(scope="module")
def trained():
    """A work directory with a trained prior, and the bodies."""
    return shared_run.workdir(), setup.load_bodies(tiny.config())


@pytest.mark.slow
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
def test_a_prior_that_is_trained_alike_is_taken_over(trained, tmp_path, monkeypatch, capsys, fields, taken):
    source, bodies = trained
    read = []

    def load_people(config, split):
        read.append(split)
        return tiny.load_people(config, split)

    monkeypatch.setattr(sources, "load_people", load_people)
    prior.train_prior(tiny.config(init=str(source), **fields), tmp_path, bodies)
    assert (not read) == taken
    assert len(re.findall(r"prior: first step after \d+\.\d s\.", capsys.readouterr().err)) == (not taken)
    if taken:
        assert logs.read(tmp_path / "prior") == logs.read(source / "prior")
