"""What the benchmarks compute beside time: shares, sections, the withheld keypoints, the placed mean body."""

import functools
import importlib
import json
import pathlib
import platform
import re
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import __main__ as all_of_them
from benchmarks import figures, fitting, inference, needs, photographs, quantizer, roofline, training, turns
from multibodies_jax import compile_time, doctor
from multibodies_jax.geometry import joints
from multibodies_jax.prediction import people
from multibodies_jax.reporting import pages

FOLDER = pathlib.Path(all_of_them.__file__).parent
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_stages_of_a_tiny_model_run_and_their_shares_sum_to_one():
    its = {"trunk": "resnet_small", "crop_size": 32, "hidden": 16, "num_hypotheses": 26}
    stages, _ = inference.prepare(2, flow_width=8, **its)
    assert stages["quantizer, n=25"]().medoid.shape == (2, 25)
    assert stages["meshes, n=10"]().shape == (2, 10, 6890, 3)
    apart, together = stages["log p(X)"](), stages[inference.IN_ONE]()
    np.testing.assert_allclose(together.log_prior, apart.log_prior, rtol=1e-4)
    seconds = inference.measure(stages, 1)
    passes = inference.passes(seconds)
    assert [list(stages) for stages in passes.values()] == [
        [inference.IN_ONE, "network", "bodies and joints", "log p(X)", f"quantizer, n={n}", f"meshes, n={n}"]
        for n in (10, 25)
    ]
    ms = inference.of_images(2, seconds)
    for n in (10, 25):
        apart = ["network", "bodies and joints", "log p(X)", f"quantizer, n={n}", f"meshes, n={n}"]
        assert ms[f"stages apart, n={n}"] == pytest.approx(sum(ms[name] for name in apart))


def test_times_are_per_image_and_per_pass_and_operations_a_share_of_the_peak():
    seconds = {"in one": 0.8, "network": 0.7, "quantizer, n=10": 0.1, "meshes, n=10": 0.2}
    program = inference.Program(operations=2 * 10**11, bytes=3 * 2**20, seconds=7.4)
    lines = inference.table("M = 20", 4, seconds, program, 1e12).splitlines()
    assert lines[0] == "M = 20, batch 4: in one 200.000 ms per image, 25.0 % of 1.00 Tflop/s, 3 MiB, compiled in 7 s"
    assert [line.split()[-2] for line in lines[1:]] == ["275.000", "250.000", "175.000", "25.000", "50.000"]
    assert lines[1].startswith("  pass, n=10  ") and lines[4].startswith("  quantizer, n=10 ")
    assert inference.of_images(1, {"in one": 0.5, "network": 0.4}) == {
        "pass": 500.0,
        "stages apart": 400.0,
        "network": 400.0,
    }
    assert inference.of_images(1, {"in one": 0.5}) == {}


def test_operations_are_those_of_products_and_convolutions_as_often_as_they_run():
    image, kernel, matrix = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5)), jnp.zeros((4, 6))

    def layer(image, kernel):
        return jax.lax.conv_general_dilated(image, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def repeated(x, matrix):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ matrix) @ matrix.T, None), x, length=7)[0]

    assert roofline.operations(layer, image, kernel) == 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert roofline.operations(jax.jit(repeated), jnp.zeros((2, 4)), matrix) == 7 * 2 * 2 * (2 * 6 * 4)
    assert roofline.operations(jnp.sin, matrix) == 0


def test_the_peak_is_that_of_a_large_product(monkeypatch):
    monkeypatch.setitem(roofline.SIDES, "cpu", 64)
    assert 1e6 < roofline.peak("float32") < 1e14


@pytest.mark.parametrize("code, kept", [("", 1), ("import sys; sys.exit(3)", 0)])
def test_what_a_benchmark_prints_is_shown_and_kept_unless_it_fails(code, kept, tmp_path, monkeypatch, capsys):
    module = tmp_path / "benchmarks" / "made.py"
    module.parent.mkdir()
    told = '{"question": "made", "setting": "", "program": "ours", "n": null, "measured": {"ms": 1.25}}'
    module.write_text(f'"""Is it fast?\n\nYes."""\nprint(\'{told}\')\n{code}', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(all_of_them, "ROOT", tmp_path)
    monkeypatch.setattr(all_of_them, "COMMANDS", {"it": "made --quickly"})
    assert all_of_them.run("it", "2 CPUs", write=True) == (3 if code else 0)
    shown = capsys.readouterr().out
    assert told in shown and ("failed with status 3" in shown) == bool(code)
    folder = tmp_path / figures.FOLDER
    assert len(list(folder.glob("it.csv"))) == kept
    if kept:
        about = json.loads((folder / "runs.json").read_text(encoding="utf-8"))["it"]
        assert about["what"] == "Is it fast?" and about["command"] == "python -m benchmarks.made --quickly"
        assert about["cost"].startswith("2 CPUs; ")


def test_every_benchmark_that_is_run_asks_a_question():
    for command in all_of_them.COMMANDS.values():
        assert all_of_them.question(f"benchmarks.{command.split()[0]}")


@pytest.mark.parametrize(
    "value, shown",
    [(1955.2, "1955"), (16.42, "16.4"), (0.3456, "0.346"), (3e-7, "3e-07"), (12, "12"), (0.0, "0.0"), (99.97, "100.0")],
)
def test_figures_have_three_digits_that_count(value, shown):
    assert figures.digits(value) == shown


def test_figures_are_read_from_what_was_printed_and_written_beside_those_of_other_runs(tmp_path, capsys, monkeypatch):
    figures.tell("joints", "3 images", "ours", {"ms": 1.234, "MiB": None})
    figures.tell("quantizer", "", "ours", {"ms": 2}, n=5)
    printed = "stage 1: first step after 4.7 s\nother\n" + capsys.readouterr().out
    spent = compile_time.Spent(0.0)
    spent.add(2.5, 3.0)
    spent.end(10.0)
    spent.programs = 9
    lines = list(figures.read(printed, "cold_demo"))
    compiling = list(figures.read(f"{spent}\n", "cold_demo"))
    assert [line["mean"] for line in compiling] == ["2.50", "10.0", "9", "0"] and compiling[0]["method"] == "cold_demo"
    assert [(line["table"], line["set"], line["method"], line["mean"]) for line in lines] == [
        ("first step", "cold_demo", "stage 1", "4.70"),
        ("joints", "3 images", "ours", "1.23"),
        ("quantizer", "", "ours", "2"),
    ]
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(printed, encoding="utf-8")
        assert figures.main([f"{name}.txt", f"--run={name}", "--machine=a card", "--commit=abc"]) == 0
    assert list(json.loads((figures.FOLDER / "runs.json").read_text(encoding="utf-8"))) == ["one", "two"]
    rows = pages.read(tmp_path / pages.RESULTS / "data", "benchmarks/two")
    assert [row["n"] for row in rows] == ["", "", "5"] and rows[1]["metric"] == "ms"
    (tmp_path / "none.txt").write_text("nothing", encoding="utf-8")
    assert figures.main(["none.txt", "--run=three"]) == 2 and "no figures" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b\x08\x00",
        b'{"question": "joints", "sett',
        b'{"question": 3}',
        b'{"question": "a", "measured": 3}',
        None,
    ],
)
def test_a_damaged_file_of_figures_is_named_and_nothing_is_written(content, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "one.txt").write_bytes(content)
    assert figures.main(["one.txt", "--run=gpu", "--machine=a card"]) == 2
    assert "error: one.txt is damaged, or not what a benchmark printed" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_what_is_no_number_and_a_run_that_is_no_name_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures.tell("joints", "3 images", "ours", {"ms": float("nan")})
    (tmp_path / "one.txt").write_text(capsys.readouterr().out, encoding="utf-8")
    assert figures.main(["one.txt", "--run=gpu", "--machine=a card"]) == 2
    assert "ms of ours is nan" in capsys.readouterr().err
    for run in ("", "../x", "a b"):
        with pytest.raises(SystemExit):
            figures.main(["one.txt", f"--run={run}", "--machine=a card"])
        assert "--run is the name of a file" in capsys.readouterr().err


def test_files_of_a_gpu_say_what_they_were_measured_on_and_keep_equal_programs_apart(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, ms in (("cold", 2.0), ("warm", 1.0)):
        figures.tell("training", "batch 64", "M = 1", {"ms": ms})
        (tmp_path / f"{name}.txt").write_text(capsys.readouterr().out, encoding="utf-8")
    files = ["cold.txt", "warm.txt"]
    assert figures.main([*files, "--run=gpu"]) == 2 and "what they were measured on" in capsys.readouterr().err
    doctor.main([])
    (tmp_path / "installed.txt").write_text(capsys.readouterr().out, encoding="utf-8")
    assert figures.main([*files, "installed.txt", "--run=gpu", "--commit=abc"]) == 0
    cost = json.loads((figures.FOLDER / "runs.json").read_text(encoding="utf-8"))["gpu"]["cost"]
    assert re.fullmatch(
        rf"1 x cpu \(cpu\), .*; Python {platform.python_version()}, .*; jax {jax.__version__}, .*", cost
    )
    rows = pages.read(tmp_path / pages.RESULTS / "data", "benchmarks/gpu")
    assert [row["set"] for row in rows] == ["cold: batch 64", "warm: batch 64"]


def test_all_run_unless_named_and_a_failure_is_the_exit_status(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(needs, "missing", lambda *_: "")
    monkeypatch.setattr(all_of_them, "machine", lambda: "machine")
    monkeypatch.setattr(all_of_them, "run", lambda *given: ran.append(given) or 3 * (given[0] == "quantizer"))
    assert all_of_them.main([]) == 1 and ran == [(name, "machine", False) for name in all_of_them.COMMANDS]
    assert all_of_them.main(["joints", "--write"]) == 0 and ran[-1] == ("joints", "machine", True)
    with pytest.raises(SystemExit):
        all_of_them.main(["joint"])
    assert "choose among joints, quantizer" in capsys.readouterr().err


def test_what_cannot_run_here_is_left_out_unless_it_is_named(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(needs, "MODULES", needs.MODULES | {needs.CUDA: ("jax_plugins_of_nobody.xla", "of_nobody")})
    monkeypatch.setattr(all_of_them, "machine", lambda: "machine")
    monkeypatch.setattr(all_of_them, "run", lambda name, *_: ran.append(name) or 2 * (name == "launches"))
    assert all_of_them.main([]) == 0
    assert set(all_of_them.COMMANDS) - set(ran) == {"launches", "lowered"} | {
        name for name, needed in all_of_them.NEEDS.items() if needs.missing(*needed)
    }
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("== launches")]
    assert told == ["== launches is left out: it needs " + needs.CUDA + ": " + needs.COMMANDS[needs.CUDA]]
    assert all_of_them.main(["launches"]) == 1 and ran[-1] == "launches"


@pytest.mark.parametrize("name", all_of_them.NEEDS)
def test_a_benchmark_that_is_named_says_what_it_needs(name, monkeypatch, capsys):
    module, *options = all_of_them.COMMANDS[name].split()
    monkeypatch.setattr(needs, "MODULES", dict.fromkeys(needs.MODULES, ("of_nobody",)))
    assert importlib.import_module(f"benchmarks.{module}").main(options) == 2
    said = capsys.readouterr().err
    assert all(needed in said and needs.COMMANDS[needed] in said for needed in all_of_them.NEEDS[name])


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_command_of_a_benchmark_is_that_of_its_help_and_imports_nothing_to_compare_with(name, monkeypatch, capsys):
    for package in ("torch", "smplx", "sklearn", "threadpoolctl", "onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    command = f"python -m benchmarks.{name}".removesuffix(".__main__")
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and printed.startswith(f"usage: {command} ")
    assert re.search(rf"^ +{re.escape(command)}( |$)", printed, re.MULTILINE)


def test_the_time_of_the_quantizer_alone_needs_no_scikit_learn(monkeypatch, capsys):
    monkeypatch.setattr(needs, "MODULES", needs.MODULES | {needs.SCIKIT_LEARN: ("of_nobody",)})
    monkeypatch.setattr(quantizer, "time_of_ours", lambda *_: (np.ones(2), 0.5))
    assert quantizer.main(["--ours", "--batch=2"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 9 and all(line["measured"] == {"ms": 500.0} for line in told)


def test_scikit_learn_is_timed_with_its_own_threads_and_with_one(monkeypatch):
    threadpoolctl, cluster = pytest.importorskip("threadpoolctl"), pytest.importorskip("sklearn.cluster")
    found, own = [], [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

    class KMeans(cluster.KMeans):
        def fit(self, *args, **kwargs):
            found.append([pool["num_threads"] for pool in threadpoolctl.threadpool_info()])
            return super().fit(*args, **kwargs)

    monkeypatch.setattr(cluster, "KMeans", KMeans)
    points = quantizer.problems(1, num=12, size=3)
    quantizer.fit_loop(points, np.ones((1, 12)), 2, 1)
    assert found == [own, [1] * len(own)]


def _people():
    keypoints = np.arange(51).reshape(17, 3) + 1
    keypoints[:, 2] = 2
    return {
        "images": [{"id": 5, "file_name": "skier.jpg", "width": 90, "height": 80}, {"id": 2, "file_name": "b.png"}],
        "annotations": [{"id": 1, "image_id": 5, "bbox": [1, 2, 3, 4], "keypoints": keypoints.ravel().tolist()}],
    }


def test_knees_and_ankles_are_withheld_in_one_image_more(tmp_path):
    before = _people()
    (tmp_path / "people.json").write_text(json.dumps(photographs.add_withheld(before)), encoding="utf-8")
    assert before == _people()
    found = people.read_people(tmp_path / "people.json")
    whole, part = found["skier.jpg"].people[0], found["skier_without_legs.jpg"].people[0]
    gone = {joints.J24[i] for i in np.flatnonzero(whole.keypoints[:, 2] != part.keypoints[:, 2])}
    assert gone == {"left_knee", "right_knee", "left_ankle", "right_ankle"} and part.keypoints[:, 2].sum() == 13
    kept = part.keypoints[:, 2] > 0
    np.testing.assert_array_equal(whole.keypoints[kept], part.keypoints[kept])


def test_a_people_file_without_the_skier_is_refused():
    content = _people() | {"annotations": []}
    with pytest.raises(ValueError, match="got 0 people"):
        photographs.add_withheld(content)


def test_the_mean_body_is_placed_by_least_squares_on_what_is_seen():
    rng = np.random.default_rng(0)
    points, keypoints = rng.normal(size=(24, 3)), 100 * rng.normal(size=(24, 2))
    seen = rng.random(24) < 0.5
    # The same camera from a general solver: columns scale, x, y.
    design = np.zeros((24, 2, 3))
    design[..., 0], design[:, 0, 1], design[:, 1, 2] = points[:, :2], 1, 1
    solution = np.linalg.lstsq(design[seen].reshape(-1, 3), keypoints[seen].ravel(), rcond=None)[0]
    np.testing.assert_allclose(photographs.place(points, keypoints, seen), design @ solution, atol=1e-9)


def _record(rng, known):
    """Bodies 20 m in front of a camera, whose pixels are known by hand."""
    points = 0.3 * rng.normal(size=(6, 24, 3))
    translation = np.array([0.1, -0.2, 20.0])
    in_camera = points + 0.05 + translation
    pixels = 800 * in_camera[..., :2] / in_camera[..., 2:] + [320, 240]
    record = {
        "all_joints24": points,
        "all_midhip": np.full((6, 3), 0.05),
        "all_translation": np.tile(translation, (6, 1)),
        "intrinsics": np.array([[800, 0, 320], [0, 800, 240], [0, 0, 1.0]]),
        "index": np.array([4, 1]),
        "probabilities": np.array([0.75, 0.25]),
        "keypoints": np.concatenate([np.zeros((24, 2)), known[:, None]], axis=1),
    }
    return {k: np.asarray(v, np.int32 if k == "index" else np.float32) for k, v in record.items()}, pixels


def test_errors_are_of_the_pixels_of_what_was_seen_and_of_what_was_withheld():
    rng = np.random.default_rng(1)
    known, annotated = np.arange(24) % 3 == 0, np.arange(24) % 3 < 2
    record, pixels = _record(rng, known)
    keypoints = np.concatenate([300 + 20 * rng.normal(size=(24, 2)), annotated[:, None]], axis=1)
    mean_body = rng.normal(size=(24, 3))
    found = photographs.errors(record, keypoints, mean_body)
    placed = photographs.place(mean_body, keypoints[:, :2], known)
    for group, which in (("seen", known), ("withheld", annotated & ~known)):
        by_hand = [np.mean([np.hypot(*(p[k] - keypoints[k, :2])) for k in np.flatnonzero(which)]) for p in pixels]
        of_mean = np.mean([np.hypot(*(placed[k] - keypoints[k, :2])) for k in np.flatnonzero(which)])
        expected = [np.mean(by_hand), min(by_hand), 0.75 * by_hand[4] + 0.25 * by_hand[1], min(by_hand[4], by_hand[1])]
        np.testing.assert_allclose(list(found[group].values()), [*expected, of_mean], rtol=1e-4)


def test_nothing_withheld_has_no_error():
    known = np.ones(24)
    record, _ = _record(np.random.default_rng(2), known)
    keypoints = np.concatenate([np.random.default_rng(3).normal(size=(24, 2)), known[:, None]], axis=1)
    assert list(photographs.errors(record, keypoints, record["all_joints24"][0])) == ["seen"]


def test_spread_tells_what_moves_with_the_shoulders_from_what_moves_alone():
    points = np.zeros((4, 24, 3), np.float32)
    upper = [joints.J24.index(name) for name in (*photographs.ARM, "left_shoulder")]
    points[:, upper, 0] = np.array([-0.1, 0.1, -0.1, 0.1])[:, None]  # The upper body as a whole, 100 mm.
    points[:, joints.J24.index("left_ankle"), 2] = [-0.2, -0.2, 0.2, 0.2]  # One of four leg joints, 200 mm.
    legs, arm = photographs.spreads_mm({"all_joints24": points}).values()
    np.testing.assert_allclose(arm, [100, 0], atol=1e-2)
    np.testing.assert_allclose(legs, [50, (3 * 100 + np.hypot(100, 200)) / 4], atol=1e-2)


def test_a_missing_model_is_a_message(tmp_path, capsys):
    assert photographs.main([f"--workdir={tmp_path}", f"--photos={tmp_path}"]) == 2
    assert "config.json" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_step_of_a_tiny_model_runs():
    step = training.prepare("keypoints", 64, 2, 3, hidden=8, width=8)
    _, metrics = step.run()
    assert step.seconds > 0 and step.bytes > 0
    assert np.isfinite(metrics["loss"]) and metrics["loss_vertices"] > 0


@pytest.mark.slow
def test_a_training_step_with_fits_in_the_loop_runs():
    made = functools.partial(fitting.loop, number=2)
    step = training.prepare("keypoints", 64, 2, 1, base="spin:default", make_targets=made, hidden=8, width=8)
    state, metrics = step.run()
    assert metrics["fits_px2"] > 0 and metrics["annotated_smpl"] >= 0.5
    assert state.memory.pose.shape == (2, 24, 3)


def test_without_torch_the_steps_of_ours_alone_are_printed_and_with_it_a_table_follows(monkeypatch, capsys):
    made = []
    monkeypatch.setattr(training, "prepare", lambda *args, **_: made.append(args) or training.Prepared(int, 3.0, 2**20))
    monkeypatch.setattr(turns, "Process", _FakeProcess)
    monkeypatch.setattr(turns, "medians", lambda runs, repeats: [0.5 * (i + 1) for i in range(len(runs))])
    monkeypatch.setattr(needs, "missing", lambda *_: "")
    command = ["--trunk=resnet50", "--batch=8", "--hypotheses=5"]
    assert training.main(command) == 0
    plain = _unless_told(capsys)
    assert len(plain) == 3 and plain[1] == "M = 5: 500.0 ms   M = 1: 1000.0 ms   ratio 0.50"
    assert training.main([*command, "--torch"]) == 0
    lines = _unless_told(capsys)
    assert lines[:3] == plain and len(lines) == 6
    assert made[-1] == ("resnet50", 64, 8, 5, "mixture:released")
    # Seconds of the turns with PyTorch: 0.5 of M = 5, 1 of the released one, 1.5, 2 and 2.5 of PyTorch's.
    assert "all trained" in lines[3] and "1500.0 ms     5.3 images per second       2 MiB" in lines[3]
    assert "500.0 ms    16.0 images per second       1 MiB: 3.00 x as fast" in lines[3] and "4.00 x" in lines[4]
    assert "as released" in lines[5] and "1000.0 ms" in lines[5] and lines[5].endswith(": 2.50 x as fast")


def _unless_told(capsys):
    """What was printed for people."""
    return [line for line in capsys.readouterr().out.splitlines() if not line.startswith("{")]


class _FakeProcess:
    failed = False

    def __init__(self, name, *_):
        self.name = name

    def wait(self):
        return {"bytes": 2**21}

    close = ask = wait


def test_a_torch_step_that_failed_has_no_memory(monkeypatch):
    """It failed after it had prepared, and so has said its memory."""
    monkeypatch.setattr(training, "prepare", lambda *_, **__: training.Prepared(int, 3.0, 2**20))
    monkeypatch.setattr(turns, "Process", _FakeProcess)
    monkeypatch.setattr(_FakeProcess, "failed", property(lambda its: its.name == "as released"))
    found, _ = training.against_torch("", 64, 2, 3, 1, training.Prepared(int, 3.0, 2**20), {"dtype": "float32"})
    assert {name: size for name, (_, size) in found.items()} == dict.fromkeys(training.TORCH, 2**21) | {
        "as released": None
    }


def test_a_torch_step_that_failed_is_a_line():
    theirs: dict[str, tuple[float, int | None]] = dict.fromkeys(training.TORCH, (2.0, 2**20))
    theirs["as released"] = 0.0, None
    lines = training.table(4, theirs, dict.fromkeys(training.TORCH.values(), (1.0, 2**20))).splitlines()
    assert lines[0].endswith("2.00 x as fast") and lines[2].split(maxsplit=2)[2].startswith("did not run")


def test_torch_needs_pytorch_and_the_authors_trunk(monkeypatch, capsys):
    monkeypatch.setattr(needs, "missing", lambda name: f"needs {name}")
    assert training.main(["--torch", "--trunk=resnet50"]) == 2
    assert "this needs PyTorch" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        training.main(["--torch", "--trunk=resnet_small"])
    assert "--trunk=resnet50" in capsys.readouterr().err


@pytest.mark.slow
def test_a_torch_step_runs_in_a_process_of_its_own_and_may_fail_there():
    torch_training = pytest.importorskip("benchmarks.torch_training")
    assert training.TORCH.keys() == torch_training.PROGRAMS.keys()
    steps = [training.torch_step("as little as ours", 32, 2, 2, precision) for precision in ("float32", "none")]
    made = [(step.wait(), step.ask(), step.failed) for step in steps]
    for step in steps:
        step.close()
    assert made[0][0]["bytes"] > 2**20 and made[0][1] > 0 and made == [(*made[0][:2], False), (None, None, True)]
