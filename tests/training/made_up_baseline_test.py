"""A baseline in a folder of its own is found, built, trained and checked without a change of any other file."""

import shutil
import textwrap

import numpy as np
import pytest
from ml_collections import ConfigDict

from multibodies_jax import baselines, registry
from multibodies_jax.data import sources
from multibodies_jax.models import build
from multibodies_jax.training import config_checks, logs, loop, provenance
from tests.helpers import tiny, trained

SOURCE = """
    import dataclasses

    import jax.numpy as jnp

    from multibodies_jax.models import build, hmr


    def _build(*, trunk, settings, frozen, own, body):
        del body
        return hmr.HMR(trunk, dataclasses.replace(settings, init_noise=own.spread), frozen)


    def _states_and_extra_terms(own, states, extras, batch, step):
        size = jnp.mean(jnp.square(states), axis=(1, 2))
        return states[:, :1], {"size": size}, {"size": own.weight * (step + 1)}


    def _check(config):
        if config.made_up.weight < 0:
            raise ValueError(f"config.made_up.weight is {config.made_up.weight}; it must be at least 0.")


    build.NETWORKS.register(
        "made_up",
        build.Network(
            label="made up",
            exchangeable=True,
            build=_build,
            config_part="made_up",
            check=_check,
            states_and_extra_terms=_states_and_extra_terms,
        ),
    )
"""


@pytest.mark.slow
def test_it_trains_two_steps(tmp_path, monkeypatch):
    (tmp_path / "baselines" / "made_up").mkdir(parents=True)
    (tmp_path / "baselines" / "made_up" / "__init__.py").write_text(textwrap.dedent(SOURCE), encoding="utf-8")
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path / "baselines")])
    registry.load_extensions.cache_clear()
    monkeypatch.setattr(sources, "load_people", tiny.load_people)
    assert build.NETWORKS["made_up"].label == "made up"

    config = tiny.config(train__steps=2, train__baseline=False).unlock()
    config.model.name = "made_up"
    config.made_up = ConfigDict({"weight": 2.0, "spread": 0.2})
    config_checks.validate(config.lock())
    shutil.copytree(trained.workdir() / "prior", tmp_path / "run" / "prior")  # The one that it would train.
    loop.train(config, tmp_path / "run")
    lines = logs.read(tmp_path / "run" / "checkpoints")
    assert len(lines) == 2 and all(np.isfinite(line["loss"]) and line["loss_size"] > 0 for line in lines)
    assert "used_hypotheses" not in lines[-1]
    with pytest.raises(ValueError, match=r"made_up.weight: 2.0 there, 3.0 now"):
        other = config.copy_and_resolve_references().unlock()
        other.made_up.weight = 3.0
        provenance.check_workdir(other, tmp_path / "run")
    config.made_up.weight = -1.0
    with pytest.raises(ValueError, match=r"made_up.weight is -1.0; it must be at least 0"):
        config_checks.validate(config)
