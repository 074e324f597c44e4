"""The programs of `benchmarks.released` compute the same bodies, from the same random weights."""

import time

import numpy as np
import pytest

from benchmarks import needs, random_data, released, turns

M, N = 3, 2


@pytest.mark.slow
def test_both_pytorch_programs_agree_with_ours():
    pytest.importorskip("torch")
    from benchmarks import torch_programs
    from multibodies_jax.body import body_files

    image = random_data.crops(2, 64)
    run, stages = released.prepare_ours(M, image, N)
    chosen, scored = run()
    network, flow = released.random_tensors(M, dead=True)
    joints = np.asarray(scored.joints24).reshape(2, M, 72)
    assert joints.std(axis=1).max() > 0.01 and joints.std(axis=0).max() > 0.01  # Neither hypotheses nor images agree.
    assert next(iter(stages())) == "trunk and modes" and chosen.betas.shape == (2, N, 10)
    for program in torch_programs.PROGRAMS:
        other = torch_programs.prepare(program, network, flow, body_files.load())(image, N, np.zeros((2, 1), int))
        states, size = other["states"], np.abs(other["states"]).max()
        np.testing.assert_allclose(states[..., 144:154], scored.betas, atol=1e-4 * size)
        np.testing.assert_allclose(states[..., 154:], scored.cam, atol=1e-4 * size)
        np.testing.assert_allclose(other["log_prior"], scored.log_prior, rtol=1e-3)
        np.testing.assert_allclose(
            other["joints"].reshape(2, N, 72), np.take_along_axis(joints, other["ids"][..., None], 1), atol=1e-4
        )
        # One cluster: its centroid does not depend on where K-means starts. Ours orders by probability.
        theirs, ours = (
            np.take_along_axis(x, x[:, :, :1, :1].argsort(1), 1) for x in (other["joints"], np.asarray(chosen.joints24))
        )
        np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.slow
def test_with_onnx_runtime_the_bodies_are_the_same():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    image = random_data.crops(2, 64)
    (one, _), (other, _) = (released.prepare_ours(M, image, N, onnx=onnx)[0]()[::-1] for onnx in (False, True))
    np.testing.assert_allclose(other.joints24, one.joints24, atol=1e-5)
    np.testing.assert_allclose(other.log_prior, one.log_prior, rtol=1e-4)


def test_onnx_runtime_is_left_out_where_it_cannot_run():
    settings = [
        released.Setting(25, 8, device, precision) for device in ("cpu", "gpu") for precision in ("float32", "bfloat16")
    ]
    assert [released.ONNX in setting.programs for setting in settings] == [True, False, False, False]


def test_ratios_shares_and_what_did_not_run_are_printed():
    ours = {"seconds": 0.8, "bytes": 2**30, "prepared": 3.0, "stages": {"head": 0.2, "log p(X)": 0.6}}
    found = {"ours": ours, "live path": {"seconds": 1.2, "bytes": 2**31, "prepared": 1.0, "stages": {}}}
    text = released.table(released.Setting(25, 8), found)
    assert (
        "100.000 ms per image,   1024 MiB" in text and "ready after 1 s: ours is 1.50 x as fast, with 1 / 2.0" in text
    )
    assert "as released  did not run" in text and "ours, onnx   did not run" in text and "75.000 ms  75.00 %" in text
    both = released.table(released.Setting(25, 8), found | {released.ONNX: found["live path"] | {"seconds": 0.6}})
    assert "with 1 / 2.0 of the memory; ours, onnx 2.00 x" in both and "ours is 0.75 x as fast" in both


def test_on_one_core_the_time_of_the_processor_counts(monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(turns, "Process", lambda program, module, options, environment: commands.append(options))
    one, all_cores = (released.Setting(25, 8, one_core=one_core) for one_core in (True, False))
    assert (one.clock, all_cores.clock) == (time.process_time, time.perf_counter)
    assert str(one).endswith("CPU time of one core") and "core" not in str(all_cores)
    for setting in (one, all_cores):
        released.start(setting, 2**30)
    assert ["--one_core" in command for command in commands] == [True] * 4 + [False] * 4
    monkeypatch.setattr(needs, "missing", lambda *_: "")
    with pytest.raises(SystemExit):
        released.main(["--one_core", "--device=gpu"])
    assert "set JAX_PLATFORMS=cpu" in capsys.readouterr().err
