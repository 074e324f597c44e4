"""A plan counts what a training holds, finds the batch of each device, and knows no speed that was not measured."""

import csv
import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from configs import default
from multibodies_jax.data import sources
from multibodies_jax.training import checkpoints, loop, plan, setup, training_data
from tests.helpers import tiny, trained

FIGURES = pathlib.Path(__file__).parents[2] / "docs" / "results" / "data" / "benchmarks"


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


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A plan for four devices of a config, of which one stage was measured, without the memory of its steps."""
    monkeypatch.setattr(plan, "memory", lambda *_: plan.Memory({}, 0))
    monkeypatch.setattr(plan, "MEASURED", tmp_path / "measured.json")
    about = {
        "batch": 2,
        "images_per_second": 50.0,
        "card": "abacus",
        "versions": "jax 1",
        "commit": "abc",
        "figures": "x",
    }

    def told(config, measured=None, **fields):
        of, stage = measured or (config, loop.stages(config, tmp_path)[0])
        row = {"settings": plan.settings(of, stage)} | about | fields
        plan.MEASURED.write_text(json.dumps([row]), encoding="utf-8")
        return plan.plan(config, tmp_path, 4)

    return told


def test_the_speed_is_the_measured_one_and_else_none(planned):
    text = planned(_hmr())
    assert "6 steps of 8 examples, 48 in all" in text and "examples of a step on a device             2" in text
    assert "Images per second: 200, 0.00 hours (50 measured on one abacus, jax 1, commit abc; 4 times as many" in text
    assert "not measured with 2 on a device; 50 with 64 (one abacus" in planned(_hmr(), batch=64)
    plan.MEASURED.write_text("[]", encoding="utf-8")
    assert "Images per second: not measured.\n" in plan.plan(_hmr(), pathlib.Path("w"), 4)


def _several(**fields):
    return tiny.config(**{"train__baseline": False, "train__accumulate": 1} | fields)


def _resident():
    c = _several(data__sets=("synthetic_bodies/clean",))
    c.unlock()
    c.data.resident = True
    return c.lock()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"model__name": "smpl_mdn"}, "model.name (multibodies, here smpl_mdn)"),
        ({"model__head": "released"}, "model.head (paper, here released)"),
        ({"model__num_hypotheses": 5}, "model.num_hypotheses (6, here 5)"),
        ({"model__scores": False}, "model.scores (True, here False)"),
        ({"model__hidden": 17}, "model.hidden (16, here 17)"),
        ({"model__dtype": "bfloat16"}, "model.dtype (float32, here bfloat16)"),
        ({"loss__reading": "released"}, "loss.reading (paper, here released)"),
        ({"loss__mode0": False}, "loss.mode0 (True, here False)"),
        ({"loss__vertices": 1.0}, "loss.vertices (False, here True)"),
        ({"freeze": "trunk"}, "freeze (None, here trunk)"),
        ({"optim__ema": 0.9}, "optim.ema (False, here True)"),
        ({"data__cached_passes": 2}, "data.cached_passes (False, here True)"),
        ({"data__sets": ("synthetic_bodies/clean",)}, "data.sets (False, here True)"),
        ({"data__occlusion": "none"}, "data.occlusion (paper, here none)"),
    ],
)
def test_a_speed_is_of_no_other_setting(changed, name, planned, tmp_path):
    measured = _several(), loop.stages(_several(), tmp_path)[1]
    assert "50 measured on one abacus" in planned(_several(), measured)
    text = planned(_several(**changed), measured)
    assert "measured on one abacus" not in text
    assert f"Images per second: not measured. The nearest that was differs in {name}" in text


def test_a_speed_of_images_that_are_read_is_not_that_of_resident_ones(planned, tmp_path):
    read = _several(data__sets=("synthetic_bodies/clean",))
    text = planned(_resident(), (read, loop.stages(read, tmp_path)[1]))
    assert "The nearest that was differs in data.resident (False, here True)." in text


def test_with_one_hypothesis_networks_whose_first_stage_is_hmr_have_its_speed(planned, tmp_path):
    hmr = _hmr(loss__mode0=False)
    measured = hmr, loop.stages(hmr, tmp_path)[0]
    assert "50 measured on one abacus" in planned(_several(model__name="smpl_mdn"), measured)


@pytest.mark.parametrize(
    "one", plan.measured(), ids=lambda one: f"{one.figures}, M = {one.settings['model.num_hypotheses']}"
)
def test_every_figure_is_one_of_the_benchmarks_page(one):
    with (FIGURES / f"{one.figures}.csv").open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["metric"] == "images per second"]
    (figure,) = [line for line in lines if line["method"] == f"M = {one.settings['model.num_hypotheses']}"]
    assert float(figure["mean"]) == one.images_per_second and f"batch {one.batch}" in figure["set"]
    run = json.loads((FIGURES / "runs.json").read_text(encoding="utf-8"))[one.figures]
    assert run["commits"] == one.commit and one.card in run["cost"]
    recorded = [part for part in run["cost"].split(", ") if part.startswith("jax ")] or ["versions not recorded"]
    assert recorded == [one.versions]


def test_no_two_figures_are_of_the_same_setting():
    keys = [(json.dumps(one.settings, sort_keys=True), one.batch, one.card, one.commit) for one in plan.measured()]
    assert keys and len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("config", "folder"), [("multibodies", "multibodies_h200"), ("synthetic:gpu", "training_h200")]
)
def test_figures_are_of_the_configs_that_were_run(config, folder, tmp_path):
    """Where a config has changed since, its figures are of another setting: measure it again, or drop them."""
    of = default.of(config)
    its = [plan.settings(of, stage) for stage in loop.stages(of, tmp_path)]
    figures = [one for one in plan.measured() if one.figures == folder]
    assert figures and all(one.settings in its for one in figures)


def test_the_prior_is_a_part_of_the_plan(planned, monkeypatch):
    assert "prior: 4 steps of 16 skeletons\n  Every process trains the same prior" in planned(_hmr())
    assert "prior" not in planned(_hmr(flow__steps=0))
    monkeypatch.setattr(loop, "stages", lambda *_: [_stage(learning_rate=1e-3, source=None)])
    assert "16 skeletons, unless the one of config.init was trained alike\n" in planned(_hmr(init="runs/hmr"))


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (_hmr(), "The people of config.data.people, who stay on every device with a body, come on top."),
        (_resident(), "The images of config.data.sets, which config.data.resident keeps on every device, come on top."),
        (
            _hmr(data__cached_passes=1),
            "The features of the images, which config.data.cached_passes keeps on every device, come on top.",
        ),
        (
            tiny.config(model__name="spin", data__sets=("synthetic_bodies/clean",)),
            "The labels that this network keeps of every example, and what it needs to fit them, come on top.",
        ),
    ],
)
def test_what_grows_with_the_data_is_named(config, what, planned):
    assert [line for line in planned(config).splitlines() if line.endswith(" come on top.")] == [what]


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
def test_where_memory_is_full_the_batch_that_fits_beside_the_people_is_told(monkeypatch, needed, bodies):
    monkeypatch.setattr(plan, "memory", lambda config, bodies, stage, share: needed[2 if share < 3 else 4])
    monkeypatch.setattr(sources, "load_people", tiny.load_people)
    config = _hmr(train__batch=16, train__accumulate=2)  # One device: 8 at once, of which 2 fit.
    kept = 40 * (24 * 3 + 10) * 4 + plan.size(bodies.j24)
    limit = needed[2].total + kept
    text = plan.what_fits(config, pathlib.Path("w"), limit)
    assert text.endswith(f"fits in {limit / plan.MIB:.0f} MiB with --config.train.batch=4 and another --workdir.")
    assert plan.what_fits(config, pathlib.Path("w"), limit - 1) == ""
    assert plan.what_fits(config, pathlib.Path("w"), needed[4].total + kept) == ""
    assert plan.what_fits(config, pathlib.Path("w")) == ""  # A processor tells no limit.


@pytest.mark.slow
def test_images_that_are_on_the_device_are_subtracted(monkeypatch, needed):
    monkeypatch.setattr(plan, "memory", lambda config, bodies, stage, share: needed[2 if share < 3 else 4])
    monkeypatch.setattr(training_data, "held_bytes", lambda: 5000)
    config, limit = _resident(), needed[2].total + 5000
    assert f"fits in {limit / plan.MIB:.0f} MiB with" in plan.what_fits(config, pathlib.Path("w"), limit)
    assert plan.what_fits(config, pathlib.Path("w"), limit - 1) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        _resident(),
        _hmr(data__cached_passes=1),
        tiny.config(model__name="spin", data__sets=("synthetic_bodies/clean",)),
    ],
)
def test_where_more_is_on_the_device_than_is_counted_no_batch_is_told(config, monkeypatch, needed):
    monkeypatch.setattr(plan, "memory", lambda config, bodies, stage, share: needed[2 if share < 3 else 4])
    assert plan.what_fits(config, pathlib.Path("w"), needed[2].total) == ""


@pytest.mark.slow
def test_a_compiled_step_needs_less_than_a_traced_one_can(bodies, needed):
    compiled = plan.memory(_hmr(), bodies, _stage(learning_rate=1e-3, source=None), 2, compiled=True)
    assert compiled.parts == needed[2].parts
    assert 0 < compiled.step < needed[2].step
