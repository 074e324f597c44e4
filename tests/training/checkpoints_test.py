"""Checkpoints: exact round trips, and nothing lost or believed after kills, damage and full disks."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from multibodies_jax import io
from multibodies_jax.training import checkpoints


class _Pair(NamedTuple):
    left: jax.Array
    right: dict


@flax.struct.dataclass
class _State:
    step: jax.Array
    pair: _Pair


def _items(seed=0):
    rng = np.random.default_rng(seed)
    params = {
        "Dense_0": {"kernel": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32), "bias": jnp.zeros(3, jnp.bfloat16)}
    }
    state = _State(step=jnp.int32(seed), pair=_Pair(jnp.arange(4, dtype=jnp.uint32), {"mask": np.array([True, False])}))
    optimiser = optax.chain(optax.clip(1.0), optax.adamw(1e-3)).init(params)
    return {
        "params": params,
        "state": state,
        "optimiser": optimiser,
        "batch_stats": {},
        "key": jax.random.key_data(jax.random.key(seed)),
    }


def _assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def _data_files(folder):
    """The files that hold the numbers, largest first."""
    files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file() and path.parent.name == "d"]
    return sorted(files, key=lambda path: -path.stat().st_size)


def test_round_trip_keeps_structure_types_and_bits(tmp_path):
    items = _items(3)
    checkpoints.save(tmp_path, 7, items, {"commit": "abc", "position": {"next_index": 12}})
    got, metadata, step = checkpoints.restore(tmp_path, items)
    _assert_same(got, items)
    assert (metadata, step) == ({"commit": "abc", "position": {"next_index": 12}}, 7)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(got))


def test_a_template_of_shapes_restores_some_items_only(tmp_path):
    items = _items()
    checkpoints.save(tmp_path, 1, items, {})
    template = jax.eval_shape(lambda: items["params"])
    got, _, _ = checkpoints.restore(tmp_path, {"params": template})
    assert list(got) == ["params"]
    _assert_same(got["params"], items["params"])


def test_without_templates_items_come_as_dictionaries(tmp_path):
    items = _items()
    checkpoints.save(tmp_path, 1, items, {})
    got, _, _ = checkpoints.restore(tmp_path)
    assert set(got) == set(items) and got["batch_stats"] == {}
    np.testing.assert_array_equal(got["state"]["pair"]["left"], np.arange(4))
    np.testing.assert_array_equal(got["params"]["Dense_0"]["kernel"], np.asarray(items["params"]["Dense_0"]["kernel"]))


def test_the_newest_steps_stay(tmp_path):
    for step in (2, 10, 9_000):
        checkpoints.save(tmp_path, step, {"a": {"x": np.full(2, step)}}, {}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "9000"]
    assert checkpoints.latest_step(tmp_path) == 9_000
    items, _, _ = checkpoints.restore(tmp_path, step=10)
    np.testing.assert_array_equal(items["a"]["x"], [10, 10])


def test_incomplete_steps_are_ignored(tmp_path):
    assert checkpoints.latest_step(tmp_path / "absent") is None
    checkpoints.save(tmp_path, 5, {"a": {"x": np.ones(2)}}, {})
    (tmp_path / "8").mkdir()
    (tmp_path / "6.tmp" / "arrays").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    assert checkpoints.latest_step(tmp_path) == 5
    assert checkpoints.restore(tmp_path)[2] == 5
    checkpoints.save(tmp_path, 8, {"a": {"x": np.ones(2)}}, {})
    assert checkpoints.latest_step(tmp_path) == 8 and not (tmp_path / "6.tmp").exists()


@pytest.mark.parametrize("step", [4, 5])
def test_a_step_is_never_overwritten_silently(tmp_path, step):
    checkpoints.save(tmp_path, 5, {"a": {"x": np.ones(2)}}, {})
    with pytest.raises(ValueError, match=f"Step {step} is not after step 5"):
        checkpoints.save(tmp_path, step, {"a": {"x": np.zeros(2)}}, {})
    np.testing.assert_array_equal(checkpoints.restore(tmp_path)[0]["a"]["x"], 1)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
def test_damage_is_named_with_the_steps_that_are_good(tmp_path, damage):
    items = {"params": {"kernel": np.arange(4096.0)}}
    for step in (1, 2):
        checkpoints.save(tmp_path, step, items, {})
    victim = tmp_path / "2" / "manifest.json" if damage == "manifest" else _data_files(tmp_path / "2")[0]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "delete":
        victim.unlink()
    elif damage == "manifest":
        victim.write_bytes(content[: len(content) // 2])
    else:
        victim.write_bytes(content if damage == "flip" else content[:-10])
    with pytest.raises(checkpoints.CheckpointError) as error:
        checkpoints.restore(tmp_path, items)
    assert victim.name in str(error.value) and "intact: [1]" in str(error.value)
    _assert_same(checkpoints.restore(tmp_path, items, step=1)[0], items)


def test_another_model_is_refused_with_the_differences(tmp_path):
    items = _items()
    checkpoints.save(tmp_path, 1, items, {})
    other = jax.tree.map(lambda leaf: leaf, items["params"])
    other["Dense_0"]["kernel"] = jnp.zeros((5, 4))
    other["Dense_0"]["bias"] = jnp.zeros(3)
    other["Dense_1"] = jnp.zeros(2)
    with pytest.raises(checkpoints.CheckpointError) as error:
        checkpoints.restore(tmp_path, {"params": other})
    message = str(error.value)
    assert "params/Dense_0/kernel: the checkpoint has (5, 3) float32, expected (5, 4) float32" in message
    assert "params/Dense_0/bias: the checkpoint has (3,) bfloat16, expected (3,) float32" in message
    assert "params/Dense_1: the checkpoint has nothing, expected (2,) float32" in message
    with pytest.raises(checkpoints.CheckpointError, match=r"no item \['flow'\]; it has"):
        checkpoints.restore(tmp_path, {"flow": other})


def test_x64_mode_is_named_as_the_cause(tmp_path):
    checkpoints.save(tmp_path, 1, {"a": {"x": np.zeros(2, np.float32)}}, {})
    with jax.enable_x64(True), pytest.raises(checkpoints.CheckpointError, match=r"expected .*float64\n.*x64 mode"):
        checkpoints.restore(tmp_path, {"a": {"x": jnp.zeros(2)}})


def test_only_some_of_many_differences_are_listed(tmp_path):
    checkpoints.save(tmp_path, 1, {"a": {f"x{i}": np.zeros(2) for i in range(9)}}, {})
    with pytest.raises(checkpoints.CheckpointError, match="and 4 more"):
        checkpoints.restore(tmp_path, {"a": {f"x{i}": np.zeros(3) for i in range(9)}})


def test_nothing_to_restore_says_so(tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match="a complete checkpoint; it has: none"):
        checkpoints.restore(tmp_path / "absent")
    checkpoints.save(tmp_path, 1, {"a": {"x": np.ones(2)}}, {})
    with pytest.raises(checkpoints.CheckpointError, match=r"step 9; it has: \[1\]"):
        checkpoints.restore(tmp_path, step=9)


@pytest.mark.parametrize(
    ("tree", "metadata", "keep", "message"),
    [
        ({"k": jax.random.key(0)}, {}, 1, "key_data"),
        ({"k": "text"}, {}, 1, "metadata"),
        ({"a/b": np.zeros(1)}, {}, 1, "slash"),
        ({"k": np.zeros(1)}, {"x": object()}, 1, "JSON"),
        ({"k": np.zeros(1)}, {}, 0, "keep is 0"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_writing(tmp_path, tree, metadata, keep, message):
    with pytest.raises(ValueError, match=message):
        checkpoints.save(tmp_path / "c", 1, {"a": tree}, metadata, keep=keep)
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
def test_sharded_arrays_are_stored_whole(tmp_path):
    program = f"""
        import jax, numpy as np
        from jax.sharding import NamedSharding, PartitionSpec
        from multibodies_jax.training import checkpoints
        mesh = jax.make_mesh((8,), ("data",))
        rows = jax.device_put(np.arange(16.0), NamedSharding(mesh, PartitionSpec("data")))
        same = jax.device_put(np.arange(3.0), NamedSharding(mesh, PartitionSpec()))
        checkpoints.save({str(tmp_path)!r}, 1, {{"a": {{"rows": rows, "same": same}}}}, {{}})
    """
    _run(program, XLA_FLAGS="--xla_force_host_platform_device_count=8").check_returncode()
    items, _, _ = checkpoints.restore(tmp_path)
    np.testing.assert_array_equal(items["a"]["rows"], np.arange(16.0))
    np.testing.assert_array_equal(items["a"]["same"], np.arange(3.0))


@pytest.mark.slow
def test_a_killed_process_leaves_a_good_step(tmp_path):
    program = f"""
        import itertools, numpy as np
        from multibodies_jax.training import checkpoints
        first = (checkpoints.latest_step({str(tmp_path)!r}) or 0) + 1
        for step in itertools.count(first):
            items = {{"a": {{str(i): np.full(200_000, step) for i in range(4)}}}}
            checkpoints.save({str(tmp_path)!r}, step, items, {{"step": step}}, keep=1)
    """
    for delay in (0.0, 0.011, 0.017, 0.023):
        before = checkpoints.latest_step(tmp_path) or 0
        process = _start(program)
        deadline = time.monotonic() + 60
        while (checkpoints.latest_step(tmp_path) or 0) < before + 2 and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(delay)  # Somewhere inside the next save.
        process.send_signal(signal.SIGKILL)
        process.wait()
        items, metadata, step = checkpoints.restore(tmp_path)
        assert step >= before + 2 and metadata == {"step": step}
        assert all((leaf == step).all() and leaf.shape == (200_000,) for leaf in items["a"].values())


@pytest.mark.slow
def test_a_full_disk_is_reported_and_loses_nothing(tmp_path):
    program = f"""
        import resource, signal, numpy as np
        from multibodies_jax.training import checkpoints
        small = {{"a": {{"x": np.arange(10)}}}}
        checkpoints.save({str(tmp_path)!r}, 1, small, {{}}, keep=1)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        noise = np.random.default_rng(0).normal(size=1_000_000)
        try:
            checkpoints.save({str(tmp_path)!r}, 2, {{"a": {{"x": noise}}}}, {{}}, keep=1)
        except checkpoints.CheckpointError as error:
            print("refused:", error)
    """
    output = _run(program).stdout
    assert "refused: Could not write step 2" in output and "step 1 is still good" in output
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    np.testing.assert_array_equal(checkpoints.restore(tmp_path)[0]["a"]["x"], np.arange(10))


def test_a_body_must_match_unless_allowed():
    checkpoints.check_body({"body_fingerprint": "aa"}, "aa")
    checkpoints.check_body({"body_fingerprint": "aa"}, "bb", allow_other=True)
    with pytest.raises(checkpoints.CheckpointError, match="fingerprint is aa, the body files in use have bb"):
        checkpoints.check_body({"body_fingerprint": "aa"}, "bb")
    with pytest.raises(checkpoints.CheckpointError, match="fingerprint is None"):
        checkpoints.check_body({}, "bb")


def test_git_commit_names_the_commit_or_nothing(tmp_path, monkeypatch):
    commit = checkpoints.git_commit()
    assert commit == "unknown" or len(commit.removesuffix("+dirty")) == 40
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkpoints.git_commit() == "unknown"


def test_git_commit_tells_changed_files(tmp_path, monkeypatch):
    source = tmp_path / "module.py"
    source.write_text("a = 1\n", encoding="utf-8")
    monkeypatch.setattr(checkpoints, "__file__", str(source))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert checkpoints.git_commit() == "unknown"  # Inside a repository, but not part of it.
    subprocess.run([*git, "add", "module.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    clean = checkpoints.git_commit()
    assert len(clean) == 40
    source.write_text("a = 2\n", encoding="utf-8")
    assert checkpoints.git_commit() == clean + "+dirty"


def test_the_manifest_covers_every_file(tmp_path):
    checkpoints.save(tmp_path, 1, _items(), {})
    manifest = json.loads((tmp_path / "1" / "manifest.json").read_text(encoding="utf-8"))
    files = {path.relative_to(tmp_path / "1").as_posix() for path in (tmp_path / "1").rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json"}


def _manifest(folder, change):
    """Changes the manifest of step 1 as an editor would; returns its text."""
    path = folder / "1" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["metadata"].update(mean_state=[1.0]), "its own sha256 differs"),
        (lambda m: m.update(files={}), "its own sha256 differs"),
        (lambda m: m.update(step=2), "its own sha256 differs"),
        (lambda m: m.update(shb256=m.pop("sha256")), "format 2 with .*shb256"),
        (lambda m: m.update(format=1), "format 1 with .*sha256"),
        (lambda m: m.update(format=3), "format 3"),
        (lambda m: m.pop("items"), "format 2 with"),
        (lambda m: m.update(items=[]), "items of it are no"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(tmp_path, change, message):
    checkpoints.save(tmp_path, 1, {"a": {"x": np.ones(2)}}, {"mean_state": [0.0]})
    assert checkpoints.restore(tmp_path)[1] == {"mean_state": [0.0]}
    _manifest(tmp_path, change)
    with pytest.raises(checkpoints.CheckpointError, match=rf"manifest.json is damaged: .*{message}"):
        checkpoints.restore(tmp_path)


def _unseal(manifest):
    """A manifest of an older version."""
    del manifest["sha256"]
    manifest["format"] = 1


def test_checkpoints_of_older_versions_are_read_with_a_note_and_every_file_has_to_be_listed(tmp_path):
    checkpoints.save(tmp_path, 1, {"a": {"x": np.ones(2)}}, {"commit": "abc"})
    _manifest(tmp_path, _unseal)
    (tmp_path / "1" / "._manifest.json").touch()  # As macOS leaves them.
    with pytest.warns(UserWarning, match="without a checksum of its own"):
        items, metadata, _ = checkpoints.restore(tmp_path)
    assert metadata == {"commit": "abc"} and items["a"]["x"].tolist() == [1, 1]
    _manifest(tmp_path, lambda m: m["metadata"].update(mean_state=[0.0, "x"]))
    with pytest.raises(checkpoints.CheckpointError, match=r"mean_state of its metadata is \[0.0, 'x'\]; accepted is"):
        checkpoints.restore(tmp_path)
    _manifest(tmp_path, lambda m: m.update(files={}, metadata={}))
    with pytest.raises(checkpoints.CheckpointError, match=r"does not list arrays/.*which nothing would verify"):
        checkpoints.restore(tmp_path)


def test_weights_that_are_not_finite_are_refused_by_name():
    checkpoints.check_finite("run", {"params": {"kernel": np.ones(3), "mask": np.array([True])}})
    for bad in (np.nan, -np.inf):
        tree = {"params": {"head": {"bias": jnp.array([0.0, bad], jnp.bfloat16)}}}
        with pytest.raises(checkpoints.CheckpointError, match="run: params/head/bias has 1 of 2 numbers that are NaN"):
            checkpoints.check_finite("run", tree)


def _environment(**extra):
    return (
        os.environ | {"PYTHONPATH": str(pathlib.Path(checkpoints.__file__).parents[2]), "JAX_PLATFORMS": "cpu"} | extra
    )


def _start(program, **extra):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], env=_environment(**extra))


def _run(program, **extra):
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(
        command, env=_environment(**extra), capture_output=True, text=True, timeout=120, encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["metadata"].update(init="run"), "init of its metadata is 'run'; accepted is an object"),
        (lambda m: m["files"].update({"/proc/kmsg": "0"}), "'/proc/kmsg' leads out of"),
        (lambda m: m["files"].update({"../other": "0"}), r"'\.\./other' leads out of"),
    ],
)
def test_what_a_manifest_of_others_says_is_checked_although_its_seal_is_right(tmp_path, change, message):
    checkpoints.save(tmp_path, 1, {"a": {"x": np.ones(2)}}, {})
    _manifest(tmp_path, lambda m: (change(m), m.update(io.sealed(m))))
    with pytest.raises(checkpoints.CheckpointError, match=rf"manifest.json is damaged: .*{message}"):
        checkpoints.restore(tmp_path)


def test_a_newest_step_without_its_manifest_is_not_passed_over_without_a_word(tmp_path):
    for step in (1, 2):
        checkpoints.save(tmp_path, step, {"a": {"x": np.ones(2)}}, {})
    (tmp_path / "2" / "manifest.json").unlink()
    with pytest.warns(
        UserWarning, match=r"folder 2 without manifest.json, which is no complete checkpoint: step 1 is taken"
    ):
        assert checkpoints.restore(tmp_path)[2] == 1
    assert checkpoints.restore(tmp_path, step=1)[2] == 1  # Asked for: nothing to say.


def test_a_checkpoint_of_another_kind_is_refused_by_what_it_lacks():
    checkpoints.check_parts("run", {"state": {}, "more": {}}, ("state",))
    with pytest.raises(
        checkpoints.CheckpointError, match=r"run has a checkpoint without state \(it has fixed, params\)"
    ):
        checkpoints.check_parts("run", {"params": {}, "fixed": {}}, ("state",))
