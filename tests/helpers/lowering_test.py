"""Programs share MLIR contexts, each thread its own."""

import threading

from tests.helpers import lowering


def test_each_thread_has_its_own_context_for_some_programs(monkeypatch):
    mlir, made = lowering.mlir, []
    monkeypatch.setattr(mlir, "make_ir_context", lambda: made.append(object()) or made[-1])
    lowering.share_contexts()
    seen = []
    work = threading.Thread(target=lambda: seen.extend(mlir.make_ir_context() for _ in range(lowering.PROGRAMS + 1)))
    work.start()
    work.join()
    assert seen == [made[0]] * lowering.PROGRAMS + [made[1]] and len(made) == 2
