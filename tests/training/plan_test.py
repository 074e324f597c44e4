"""A plan counts what a training holds, finds the batch of each device, and knows no speed that was not measured."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from multibodies_jax.training import checkpoints, loop, plan, setup
from tests.helpers import tiny, trained


@pytest.fixture(scope="module")
def bodies():
    return setup.load_bodies(tiny.config())


def _hmr(**fields):
    return tiny.config(**{"model__name": "hmr", "model__num_hypotheses": 1, "eval__ns": (1,)} | fields)


def _stage(**fields):
    return loop.Stage(**{"title": "HMR", "folder": "hmr", "num_hypotheses": 1, "steps": 4, "batch": 8} | fields)


def _kept(needed, *names):
    return [needed.parts[name] for name in names]


@pytest.fixture(scope="module")
def needed(bodies):
    stage = _stage(learning_rate=1e-3, source=None)
    return {share: plan.memory(_hmr(), bodies, stage, share) for share in (2, 4)}


@pytest.mark.slow
def test_what_stays_is_what_a_checkpoint_has(needed):
    state = checkpoints.restore(trained.workdir() / "hmr")[0]["state"]
    stored = [plan.size(state[name]) for name in ("params", "opt_state")]
    assert _kept(needed[2], "parameters", "optimiser") == stored


@pytest.mark.slow
def test_only_the_batch_and_the_step_grow_with_the_examples_of_a_device(needed):
    small, large = needed[2], needed[4]
    assert large.parts["batch"] == 2 * small.parts["batch"] > 0
    assert small.step < large.step < 2 * small.step  # Gradients and updates do not grow.
    assert small.step > small.parts["parameters"]
    assert {**small.parts, "batch": 0} == {**large.parts, "batch": 0}
    assert small.total == sum(small.parts.values()) + small.step


@pytest.mark.slow
@pytest.mark.parametrize("inner", [lambda f: f, jax.jit])
def test_arrays_count_from_where_they_are_made_to_where_they_are_read_last(inner):
    def function(x):
        a = inner(jnp.sin)(x)  # 400 bytes, as all.
        b = inner(jnp.cos)(a)
        c = inner(lambda b: jnp.tan(jnp.exp(b)))(b)  # Here a is not read any more: b, exp(b) and c are alive.
        return c + b

    assert plan.most_alive(jax.make_jaxpr(function)(jnp.zeros(100)).jaxpr) == 1200


def _stacks(x):
    """A scan that stacks 64 arrays of 1 MiB around a step that makes 96 MiB."""

    def step(carry, _):
        large = jnp.cumsum(jnp.sort(x + carry[0]))
        return carry + large[:4], jnp.sort(large[: 2**18])

    return jnp.sum(jax.lax.scan(step, jnp.zeros(4), None, length=64)[1])


def _repeats(x):
    """A loop of 48 MiB that starts from an array which is read again after it."""
    first = jnp.sort(x)
    return jnp.dot(jax.lax.fori_loop(0, 5, lambda _, carried: jnp.sort(jnp.cumsum(carried)), first), first)


@pytest.mark.parametrize(("program", "most"), [(_stacks, 64 + 96), (_repeats, 4 * 48)])
def test_the_results_of_a_loop_exist_beside_what_its_steps_make(program, most):
    x = jnp.zeros(48 * 2**18)
    counted = plan.most_alive(jax.make_jaxpr(program)(x).jaxpr)
    assert counted == pytest.approx(most * plan.MIB, rel=1e-4)
    analysis: Any = jax.jit(program).lower(x).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < 1.001 * counted


@pytest.mark.slow
def test_the_speed_is_the_measured_one_and_else_none(needed, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "memory", lambda *arguments: needed[2])
    config = _hmr()
    model = {name: config.model[name] for name in ("trunk", "crop_size", "width", "hidden", "dtype")}
    about = {"images_per_second": 50.0, "card": "abacus", "versions": "jax 1", "commit": "abc"}
    monkeypatch.setattr(plan, "MEASURED", tmp_path / "measured.json")

    def told(**fields):
        row = model | {"num_hypotheses": 1, "batch": 2} | about | fields
        (tmp_path / "measured.json").write_text(json.dumps([row]), encoding="utf-8")
        return plan.plan(config, tmp_path, 4)

    text = told()
    assert "6 steps of 8 examples, 48 in all" in text and "examples of a step on a device             2" in text
    assert "Images per second: 200, 0.00 hours (50 measured on one abacus, jax 1, commit abc; 4 times as many" in text
    assert "not measured with 2 on a device; 50 with 64 (one abacus" in told(batch=64)
    assert "not measured for this network (trunk keypoints" in told(hidden=17)


@pytest.mark.slow
def test_every_figure_says_what_it_is_of():
    figures = plan.measured()
    assert figures and all(one.images_per_second > 0 and one.card and one.versions and one.commit for one in figures)
    keys = [dataclasses.replace(one, images_per_second=0.0) for one in figures]
    assert len(set(keys)) == len(keys)


def test_a_plan_without_a_number_of_hypotheses_is_refused(tmp_path):
    config = tiny.config()
    config.model.num_hypotheses = None
    with pytest.raises(ValueError, match="num_hypotheses=None takes M from a checkpoint; a plan needs a number"):
        plan.plan(config, tmp_path, 1)


def test_a_batch_that_cannot_be_shared_is_refused_with_what_can():
    stage = _stage(batch=12, learning_rate=1e-3, source=None)
    assert loop.per_device(_hmr(), stage, 4) == 3
    with pytest.raises(
        ValueError,
        match=r"HMR: a batch of 12 .* over 5 devices: set config.train.batch to a multiple of 5 \(10 or 15\), or take a number of devices among 1, 2, 3, 4, 6, 12\.",
    ):
        loop.per_device(_hmr(), stage, 5)
    with pytest.raises(
        ValueError,
        match=r"in 2 parts .* set config.stage1.batch to a multiple of 16 \(16\), or take a number .* 1, 2, 3, 6\.",
    ):
        loop.per_device(_hmr(train__accumulate=2), dataclasses.replace(stage, folder="stage1"), 8)


@pytest.mark.parametrize("reading", ["spin", "graphcmr"])
def test_a_batch_whose_terms_are_means_over_labels_is_not_cut_into_parts(reading):
    stage = _stage(batch=12, learning_rate=1e-3, source=None)
    assert loop.per_device(_hmr(loss__reading=reading), stage, 2) == 6
    with pytest.raises(ValueError, match=rf"accumulate=2 would change the losses of config.loss.reading='{reading}'"):
        loop.per_device(_hmr(loss__reading=reading, train__accumulate=2), stage, 2)


@pytest.mark.slow
def test_where_memory_is_full_the_batch_that_fits_is_told(monkeypatch, needed):
    monkeypatch.setattr(plan, "memory", lambda config, bodies, stage, share: needed[2 if share < 3 else 4])
    config = _hmr(train__batch=16, train__accumulate=2)  # One device: 8 at once, of which 2 fit.
    limit = needed[2].total
    text = plan.what_fits(config, pathlib.Path("w"), limit)
    assert text.endswith(f"fits in {limit / plan.MIB:.0f} MiB with --config.train.batch=4 and another --workdir.")
    assert plan.what_fits(config, pathlib.Path("w"), needed[4].total) == ""
    assert plan.what_fits(config, pathlib.Path("w")) == ""  # A processor tells no limit.


@pytest.mark.slow
def test_a_compiled_step_needs_less_than_a_traced_one_can(bodies, needed):
    compiled = plan.memory(_hmr(), bodies, _stage(learning_rate=1e-3, source=None), 2, compiled=True)
    assert compiled.parts == needed[2].parts
    assert 0 < compiled.step < needed[2].step
