"""Kernels and waits are counted in the text of a compiled program as a device would run it."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import inference, launches
from multibodies_jax.models import winograd

# As XLA writes programs for GPUs; what lines do not need is left out.
TEXT = """HloModule jit_f, is_scheduled=true

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %a = f32[8]{0} add(%p, %p)
  ROOT %m = f32[8]{0} multiply(%a, %a)
}

%known_body (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%t), index=1
  %f = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused
  %g = (f32[8]{0}, s8[4]{0}) custom-call(%f), custom_call_target="__cublas$gemm"
  ROOT %r = (s32[], f32[8]{0}) tuple(%x, %f)
}

%known_condition (t: (s32[], f32[8])) -> pred[] {
  ROOT %c = pred[] fusion(%t), kind=kLoop, calls=%fused
}

%open_body (t: (s32[], /*index=1*/f32[8])) -> (s32[], f32[8]) {
  %inner = (s32[], f32[8]{0}) while(%t), condition=%known_condition, body=%known_body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %k = f32[8]{0} copy(%inner)
}

%open_condition (t: (s32[], f32[8])) -> pred[] {
  ROOT %c = pred[] fusion(%t), kind=kLoop, calls=%fused
}

%long (p: f32[8]) -> f32[8] {
  %s = f32[8]{0} fusion(%p), kind=kLoop, calls=%fused
  ROOT %t = f32[8]{0} fusion(%s), kind=kLoop, calls=%fused
}

%short (p: f32[8]) -> f32[8] {
  ROOT %p = f32[8]{0} parameter(0)
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %c = f32[] constant(1)
  %b = f32[2,4]{1,0} bitcast(%p)
  %w = (s32[], f32[8]{0}) while(%p), condition=%open_condition, body=%open_body
  %l = f32[8]{0} call(%w), to_apply=%long
  ROOT %d = f32[8]{0} conditional(%c, %l, %l), branch_computations={%short, %long}
}
"""


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_loops_count_as_often_as_they_run(steps):
    """A round has three inner ones of 2 kernels, a copy, and the condition, which is read once more at the end."""
    in_a_round, condition, call, branch = 3 * 2 + 1, 1, 2, 2
    kernels = steps * in_a_round + (steps + 1) * condition + call + branch
    assert launches.count(TEXT, steps) == launches.Launches(kernels, waits=steps + 1 + 1)


def test_a_pass_is_its_network_and_its_quantizer(monkeypatch):
    monkeypatch.setattr(launches, "compiler", lambda: lambda function, arguments: TEXT)
    monkeypatch.setattr(launches, "programs", lambda m: dict.fromkeys(_names(m), (None, ())))
    rows = {row.name: row for row in launches.rows(30, 2)}
    whole = rows["whole pass, paper's head, M = 30"]
    one = rows["paper's head, M = 30"]
    assert whole.launches == one.launches * 2 and whole.step == one.step * 2 == launches.Launches(16, 2)
    last = launches.table(list(rows.values()), 2).splitlines()[-1]
    assert last == f"| {whole.name} | {whole.launches.kernels} | 16 | {whole.launches.waits} | 2 |"


@pytest.mark.slow
def test_networks_are_folded_as_on_a_gpu():
    programs = launches.programs(26)
    for network in launches.passes(26):
        regressor = programs[network][1][0]
        assert "3, 3, 512, 512" in str(jax.tree.map(jnp.shape, regressor.variables))
        assert not any(map(winograd.is_transformed, jax.tree.leaves(regressor.variables)))


def _names(m):
    for network, quantizer in launches.passes(m).items():
        yield from (network, quantizer)


def test_the_loop_of_the_flow_is_that_of_a_gpu(monkeypatch):
    folded = inference.folded_prior
    on_cpu: Any = folded(launches.zeros, 8).flow
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    on_gpu: Any = folded(launches.zeros, 8).flow
    asked = []
    monkeypatch.setattr(inference, "folded_prior", lambda fill, unrolled: asked.append(unrolled) or folded(fill, 8))
    network = inference.folded_network(launches.zeros, trunk="keypoints", hidden=4, num_hypotheses=26)
    monkeypatch.setattr(inference, "folded_network", lambda *_, **__: network)
    launches.programs(26)
    assert asked == [on_gpu.unrolled] and on_gpu.unrolled > on_cpu.unrolled
