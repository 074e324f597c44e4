"""Programs share MLIR contexts, each thread its own, and are what they were."""

import threading

import jax
import jax.numpy as jnp

from tests.helpers import lowering


def test_each_thread_has_its_own_context_for_some_programs(monkeypatch):
    mlir, made = lowering.module(), []
    monkeypatch.setattr(mlir, "make_ir_context", lambda: made.append(object()) or made[-1])
    lowering.share_contexts()
    seen = []
    work = threading.Thread(target=lambda: seen.extend(mlir.make_ir_context() for _ in range(lowering.PROGRAMS + 1)))
    work.start()
    work.join()
    assert seen == [made[0]] * lowering.PROGRAMS + [made[1]] and len(made) == 2


def test_programs_of_one_context_are_lowered_as_alone():
    texts = [jax.jit(lambda x, k=k: jnp.sin(k * x)).lower(jnp.ones(3)).as_text() for k in (2, 3, 2)]
    assert texts[0] == texts[2] != texts[1]
