"""Conversion of the peers' checkpoints: nothing lost, nothing misplaced."""

import hashlib
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.body import body_files, mesh_points
from multibodies_jax.convert import body_buffers, layouts, placing, torch_reader, torch_writer
from multibodies_jax.models import build, flow, hmr
from multibodies_jax.training import checkpoints, inference, prior, provenance, setup
from tests.helpers import batches, peer_files, tiny


@pytest.fixture
def small(monkeypatch):
    """The layouts with a 64th of the width."""
    monkeypatch.setattr(layouts, "WIDTH", 1)
    monkeypatch.setattr(layouts, "HIDDEN", 8)


@pytest.fixture(scope="module")
def bodies():
    return setup.load_bodies(tiny.config())


@pytest.fixture
def embedded(bodies, monkeypatch):
    """The embedded body's files, which are then read only once."""
    monkeypatch.setattr(body_files, "load", lambda directory: bodies.files)
    return bodies.files


def _state(path) -> dict[str, np.ndarray]:
    """The state dict in a file, in its order."""
    with torch_reader.open_file(path) as file:
        return {name: file.read(tensor) for name, tensor in placing.state_dict(file.root, path).items()}


def _same(got: dict, expected: dict) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].tobytes() == array.tobytes(), name
        assert (got[name].shape, got[name].dtype) == (array.shape, array.dtype), name


# The official layouts: sha256 over "name shape" lines in the order of the state dict, number of tensors, parameters.
_OFFICIAL = {
    "spin": (layouts.spin, (), "823b3aef6026530c", 331),
    "M = 5": (layouts.network, (5,), "0cc5a90f7b4bd74f", 403),
    "M = 25": (layouts.network, (25,), "f87d80156c3c9a09", 403),
    "flow": (layouts.flow, (20, 512), "61ad767d3fcb1cfd", 241),
    "body": (layouts.body, (), "af8bb0dc4a9473fe", 13),
}


@pytest.mark.parametrize("name", _OFFICIAL)
def test_names_shapes_and_order_are_the_official_ones(name):
    make, arguments, digest, count = _OFFICIAL[name]
    lines = [f"{tensor.name} {tensor.shape}" for tensor in make(*arguments).tensors]
    assert len(lines) == count
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == digest


def test_parameter_counts_are_the_published_ones():
    assert layouts.network(5).num_parameters == 70_208_421
    assert layouts.network(25).num_parameters == 134_884_261
    assert layouts.network(100).num_parameters == 377_418_661
    assert layouts.flow(20, 512).num_parameters == 13_478_720
    assert layouts.spin().num_parameters == 23_508_032 + 3_469_469
    live = [t for t in layouts.network(100).slots if t.name.endswith((".weight", ".bias"))]
    assert round(sum(math.prod(t.shape) for t in live) / 1e6) == 131


@pytest.mark.slow
@pytest.mark.parametrize(("head", "num_hypotheses"), [("paper", 1), ("released", 3)])
def test_every_variable_of_the_network_is_filled(head, num_hypotheses):
    layout = layouts.spin() if head == "paper" else layouts.network(num_hypotheses)
    model = build.build(mean_state=np.zeros(157, np.float32), head=head, num_hypotheses=num_hypotheses)
    inputs = batches.inputs(image=jnp.zeros((1, 32, 32, 3), jnp.uint8))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), inputs))
    shapes = {path: leaf.shape for path, leaf in placing.flatten(variables).items()}
    assert shapes == {path: s for path, s in placing.target_shapes(layout).items() if path != "mean_state"}


def test_every_variable_of_the_flow_is_filled():
    model = flow.Flow(layers=3, width=16)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 72))))
    shapes = {path: leaf.shape for path, leaf in placing.flatten(variables).items() if not path.startswith("stats")}
    assert shapes == placing.target_shapes(layouts.flow(3, 16))


@pytest.mark.slow
def test_the_regressor_computes_what_the_file_says(small, tmp_path, capsys):
    state = peer_files.spin(tmp_path / "spin.pt")
    assert peer_files.run(capsys, "spin", tmp_path / "spin.pt", tmp_path / "out")[0] == 0
    items, metadata, _ = checkpoints.restore(tmp_path / "out" / "checkpoints")
    feature = np.random.default_rng(1).normal(size=(2, 32)).astype(np.float32)
    head = hmr.IterativeHead(hmr.HeadSettings(tuple(metadata["mean_state"]), num_hypotheses=1, hidden=8))
    params = jax.tree.map(jnp.asarray, items["state"]["params"]["head"])
    got = head.apply({"params": params}, jnp.asarray(feature))

    w = {name: np.float64(x) for name, x in state.items()}
    pose, shape, cam = (np.repeat(w[f"init_{name}"], 2, axis=0) for name in ("pose", "shape", "cam"))
    for _ in range(3):  # As SPIN, in float64.
        x = np.concatenate([feature, pose, shape, cam], axis=1) @ w["fc1.weight"].T + w["fc1.bias"]
        x = x @ w["fc2.weight"].T + w["fc2.bias"]
        pose = pose + x @ w["decpose.weight"].T + w["decpose.bias"]
        shape = shape + x @ w["decshape.weight"].T + w["decshape.bias"]
        cam = cam + x @ w["deccam.weight"].T + w["deccam.bias"]
    expected = np.concatenate([pose, shape, cam], axis=1)
    np.testing.assert_allclose(np.asarray(got)[:, 0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_kernels_of_convolutions_and_statistics_are_where_they_belong(small, tmp_path, capsys):
    state = peer_files.spin(tmp_path / "spin.pt")
    peer_files.run(capsys, "spin", tmp_path / "spin.pt", tmp_path / "out")
    variables = checkpoints.restore(tmp_path / "out" / "checkpoints")[0]["state"]
    kernel, weight = variables["params"]["trunk"]["layer3_0"]["conv2"]["kernel"], state["layer3.0.conv2.weight"]
    assert kernel.shape == (3, 3, 4, 4)
    for place in np.ndindex(3, 3, 4, 4):
        assert kernel[place] == weight[place[3], place[2], place[0], place[1]]
    norm = variables["params"]["trunk"]["layer2_0"]["downsample_1"]
    stats = variables["batch_stats"]["trunk"]["layer2_0"]["downsample_1"]
    for ours, theirs in (
        (norm["scale"], "weight"),
        (norm["bias"], "bias"),
        (stats["mean"], "running_mean"),
        (stats["var"], "running_var"),
    ):
        np.testing.assert_array_equal(ours, state[f"layer2.0.downsample.1.{theirs}"])


@pytest.mark.slow
def test_the_flow_computes_what_the_file_says(small, bodies, embedded, tmp_path, capsys):
    """The density of the authors' formula on the file's tensors, in float64, and that of the restored prior."""
    state = peer_files.multibodies(2)
    torch_writer.save(tmp_path / "model.pth", state)
    status, text = peer_files.run(capsys, "multibodies", tmp_path / "model.pth", tmp_path / "out", "--body.dir", "")
    assert status == 0, text
    config = tiny.config(model__num_hypotheses=2, flow__layers=3, flow__width=16)
    density = prior.load_prior(config, tmp_path / "out", bodies)
    x = np.random.default_rng(2).normal(scale=0.5, size=(4, 72)).astype(np.float32)
    w = {name.removeprefix("module.model_realnvp."): np.array(value, np.float64) for name, value in state.items()}

    def net(letter: str, layer: int, u: np.ndarray) -> np.ndarray:
        for place in (0, 3, 6):
            u = u @ w[f"{letter}.{layer}.{place}.weight"].T + w[f"{letter}.{layer}.{place}.bias"]
            u = np.where(u > 0, u, 0.01 * u) if place < 6 else u
        return np.tanh(u) if letter == "s" else u

    z, log_det = np.float64(x), np.zeros(4)
    for layer in reversed(range(3)):
        b = w["mask"][layer]
        s, t = (net(letter, layer, b * z) * (1 - b) for letter in "st")
        z, log_det = b * z + (1 - b) * (z - t) * np.exp(-s), log_det - s.sum(axis=1)
    expected = log_det - 0.5 * (z**2).sum(axis=1) - 36 * np.log(2 * np.pi)
    np.testing.assert_allclose(density.log_prob(jnp.asarray(x)), expected, rtol=1e-4)
    assert density.held_out_log_prob is None


@pytest.mark.parametrize("prefix", ["", "module.model.module."])
def test_spin_there_and_back_is_the_same_bit_for_bit(small, tmp_path, capsys, prefix):
    state = peer_files.spin(tmp_path / "spin.pt")
    state["fc2.bias"][:2] = -0.0, np.finfo(np.float32).smallest_subnormal
    torch_writer.save(tmp_path / "spin.pt", {"model": {prefix + name: x for name, x in state.items()}})
    status, text = peer_files.run(capsys, "spin", tmp_path / "spin.pt", tmp_path / "out")
    assert status == 0 and "layer4.2.bn3.running_var" in text and "M = " not in text
    assert peer_files.run(capsys, "spin", tmp_path / "out", tmp_path / "back.pt", "--reverse")[0] == 0
    _same(_state(tmp_path / "back.pt"), state)


@pytest.mark.slow
def test_multibodies_there_and_back_keeps_every_live_tensor(small, embedded, tmp_path, capsys):
    state = peer_files.multibodies(3)
    torch_writer.save(tmp_path / "model.pth", state)
    status, text = peer_files.run(capsys, "multibodies", tmp_path / "model.pth", tmp_path / "out")
    assert status == 0 and f"has {layouts.network(3).num_parameters:,}" in text
    assert "M = 3" in text and "module.model.model.fc3.weight" in text and "--body.dir" in text
    status, text = peer_files.run(
        capsys, "multibodies", tmp_path / "out", tmp_path / "back.pth", "--reverse", "--body.dir", ""
    )
    assert status == 0 and "decflow_mu.weight" in text and "layer4.0.conv1.weight" in text
    back = _state(tmp_path / "back.pth")
    dead = ("fc3", "fc4", "fc5", "fc6", "decflow", "layer4")
    live = {k: x for k, x in state.items() if not k.removeprefix("module.model.model.").startswith(dead)}
    _same({k: x for k, x in back.items() if "smpl_mini" not in k}, live)
    buffers = {k.removeprefix("module.smpl_mini."): x for k, x in back.items() if "smpl_mini" in k}
    assert {k: x.shape for k, x in buffers.items()} == {t.name: t.shape for t in layouts.body().tensors}
    # The file without the dead layers is taken again, and makes the same checkpoint, now with its body.
    assert peer_files.run(capsys, "multibodies", tmp_path / "back.pth", tmp_path / "again", "--body.dir", "")[0] == 0
    for folder in ("checkpoints", "prior"):
        one, two = (checkpoints.restore(tmp_path / name / folder)[1] for name in ("out", "again"))
        assert one["converted"]["fingerprint"] == two["converted"]["fingerprint"]
        assert one["body_fingerprint"] is None and two["body_fingerprint"] == embedded.fingerprint


def test_the_flow_of_another_file_takes_its_place(small, tmp_path, capsys):
    torch_writer.save(tmp_path / "model.pth", peer_files.multibodies(2))
    other = peer_files.multibodies(2, flow=(4, 8))
    torch_writer.save(tmp_path / "flow.pth", other)
    arguments = ("multibodies", tmp_path / "model.pth", tmp_path / "out", "--flow", tmp_path / "flow.pth")
    status, text = peer_files.run(capsys, *arguments)
    assert status == 0 and "403 other tensors" in text and "37 tensors of the flow" in text
    items, _, _ = checkpoints.restore(tmp_path / "out" / "prior")
    expected = other["module.model_realnvp.s.2.3.weight"].T
    np.testing.assert_array_equal(items["params"]["couplings"]["scale_1"]["kernel"][2], expected)


@pytest.mark.slow
def test_resnet50_gets_a_new_head_and_any_body(small, tmp_path, capsys):
    state = peer_files.tensors(layouts.resnet50())
    old = {k: x for k, x in state.items() if not k.endswith("num_batches_tracked")}  # As files before torch 0.4.1.
    torch_writer.save(tmp_path / "resnet50.pth", old)
    status, text = peer_files.run(capsys, "resnet50", tmp_path / "resnet50.pth", tmp_path / "out")
    assert status == 0 and "fc.weight" in text and "new" in text
    items, metadata, _ = checkpoints.restore(tmp_path / "out" / "checkpoints")
    params = items["state"]["params"]
    np.testing.assert_array_equal(params["trunk"]["bn1"]["scale"], state["bn1.weight"])
    assert params["head"]["fc1"]["kernel"].shape == (32 + 157, 8) and np.std(params["head"]["dec"]["kernel"]) > 0
    assert "mean_state" not in metadata
    checkpoints.check_body(metadata, "of whatever body")


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_precisions_become_float32(small, dtype):
    layout = layouts.flow(2, 4)
    state = {name: x.astype(dtype) for name, x in peer_files.tensors(layout).items()}
    stored = {}
    for name, x in state.items():
        strides = [int(math.prod(x.shape[axis + 1 :])) for axis in range(x.ndim)]
        stored[name] = torch_reader.Tensor(torch_reader.Storage(name, x.dtype, x.size), 0, x.shape, strides)
    placed = placing.place(layout, stored, lambda tensor: state[tensor.storage.key], "file")
    back = placing.take(layout, placed)
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array.astype(np.float32), strict=True)


def _save_trained(folder, arrays, **model):
    """A checkpoint as training writes it, with averaged weights."""
    tree = placing.nest(arrays)
    mean_state = tree.pop("mean_state")[0].tolist()
    ema = jax.tree.map(lambda x: 2 * x, tree["params"])
    state = {"step": np.int32(70), **tree, "ema": ema, "opt_state": {"count": np.int32(70)}}
    config = {"model": {"trunk": "resnet50", "iterations": 3, "activation": "none", **model}}
    metadata = {"config": config, "num_hypotheses": 1, "mean_state": mean_state}
    checkpoints.save(folder, 70, {"state": state}, metadata)


def test_a_trained_model_goes_to_spins_layout(small, tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = {k: rng.normal(size=s).astype(np.float32) for k, s in placing.target_shapes(layouts.spin()).items()}
    _save_trained(tmp_path / "run" / "checkpoints", arrays)
    assert peer_files.run(capsys, "spin", tmp_path / "run", tmp_path / "spin.pt", "--reverse")[0] == 0
    state = _state(tmp_path / "spin.pt")
    np.testing.assert_array_equal(state["decshape.bias"], 2 * arrays["params/head/dec/bias"][144:154])  # Averaged.
    np.testing.assert_array_equal(state["init_shape"], arrays["mean_state"][:, 144:154])
    assert state["layer3.4.bn1.num_batches_tracked"] == 70
    small_head = {path: x for path, x in arrays.items() if "head" in path or path == "mean_state"}
    _save_trained(tmp_path / "keys", small_head, trunk="keypoints", activation="relu")
    status, text = peer_files.run(capsys, "spin", tmp_path / "keys", tmp_path / "other.pt", "--reverse")
    assert status == 2 and "layer1_0/bn1/mean: nothing there, (1,) expected" in text
    assert "config.model.activation: 'relu' there, 'none' expected" in text
    assert not (tmp_path / "other.pt").exists()


@pytest.mark.slow
def test_buffers_of_the_body(bodies):
    files = bodies.files
    made = body_buffers.buffers(files)
    stack = np.concatenate([made["J_regressor"], made["J_regressor_spin"], made["J_regressor_extra"]])
    np.testing.assert_array_equal(stack[mesh_points.J49_FROM_54], files.j49_regressor)
    np.testing.assert_array_equal(made["mask"], [float(any(x > 1e-9 for x in column)) for column in stack.T.tolist()])
    assert made["kintree_table"][0, 0] == 4294967295 and list(made["parent"][:3]) == [0, 0, 0]
    landmarks = made["vertex_joint_selector.extra_joints_idxs"]
    assert landmarks[0] == 332 and made["J_regressor_spin"][0, 332] == 1 and made["J_regressor_spin"].sum() == 21
    types = {x.dtype.name for x in made.values()}
    assert types == {"float32", "int64"}


def test_another_body_than_the_files_is_refused(small, embedded, tmp_path, capsys):
    state = peer_files.multibodies(2, body=True)
    torch_writer.save(tmp_path / "model.pth", state)
    status, text = peer_files.run(capsys, "multibodies", tmp_path / "model.pth", tmp_path / "out", "--body.dir", "")
    assert status == 2 and "another body" in text and "J_regressor differs" in text


@pytest.mark.parametrize("name", [tensor.name for tensor in layouts.body().tensors])
def test_every_buffer_of_the_body_is_compared(bodies, name):
    ours = body_buffers.buffers(bodies.files)
    other = np.array(ours[name])
    other[(-1,) * other.ndim] += 1
    found = {
        key: torch_reader.Tensor(torch_reader.Storage(key, x.dtype, x.size), 0, x.shape, [1] * x.ndim)
        for key, x in ours.items()
    }
    body_buffers.check_same_body(found, lambda tensor: ours[tensor.storage.key], bodies.files, "file")
    theirs = ours | {name: other}
    with pytest.raises(placing.ConversionError, match=rf"made with another body than .*: {name} differs by up to 1\."):
        body_buffers.check_same_body(found, lambda tensor: theirs[tensor.storage.key], bodies.files, "file")


def test_fingerprint_depends_on_all_but_the_order():
    a = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.zeros(2, np.int64)}
    same = {"y": a["y"].copy(), "x": np.asfortranarray(a["x"])}
    assert checkpoints.fingerprint(a) == checkpoints.fingerprint(same)
    others = [
        a | {"x": a["x"].T},
        a | {"x": a["x"].reshape(3, 2)},
        a | {"x": a["x"] + np.float32(1e-6)},
        a | {"y": a["y"].astype(np.float64)},
        {"x": a["x"], "z": a["y"]},
        {"x": a["x"]},
    ]
    assert len({checkpoints.fingerprint(other) for other in [a, *others]}) == 7


def test_a_converted_folder_binds_what_its_weights_decide(small, bodies, tmp_path, capsys):
    peer_files.spin(tmp_path / "spin.pt")
    peer_files.run(capsys, "spin", tmp_path / "spin.pt", tmp_path / "out")
    fields = {"model__trunk": "resnet50", "model__hidden": 8, "model__activation": "none", "model__num_hypotheses": 1}
    config = tiny.config(**fields, train__steps=77, model__width=5)
    provenance.check_workdir(config, tmp_path / "out")
    with pytest.raises(ValueError, match=r"config\.init"):
        provenance.check_workdir(config, tmp_path / "out", create=True)
    with pytest.raises(ValueError, match=r"model\.num_hypotheses: 1 there, 6 now"):
        provenance.check_workdir(tiny.config(**{**fields, "model__num_hypotheses": 6}), tmp_path / "out")
    x = jnp.ones((2, 72))
    np.testing.assert_array_equal(prior.load_prior(config, tmp_path / "out", bodies).log_prob(x), [0, 0])
    with pytest.raises(checkpoints.CheckpointError):
        prior.load_prior(tiny.config(), tmp_path / "out", bodies)


@pytest.mark.slow
def test_a_checkpoint_brings_its_mean_body(bodies, tmp_path):
    """On a network of keypoints, which is small: what restores it does not know where it came from."""
    config = tiny.config(model__num_hypotheses=1)
    mean_state = [0.125 * k for k in range(157)]
    model = setup.build_model(config, 1, bodies, mean_state)
    inputs = batches.inputs(kp2d_input=jnp.ones((1, 24)))
    variables = jax.jit(lambda: model.init(jax.random.key(0), inputs))()
    about = {"num_hypotheses": 1, "images_seen": 0, "mean_state": mean_state, "converted": {}, "body_fingerprint": None}
    checkpoints.save(tmp_path / "checkpoints", 0, {"state": {"params": variables["params"]}}, about)
    with pytest.raises(checkpoints.CheckpointError, match=r"--body\.dir"):
        inference.restore(config, tmp_path / "checkpoints", bodies)
    config = tiny.config(model__num_hypotheses=1, body__allow_other=True)
    restored = inference.restore(config, tmp_path / "checkpoints", bodies)
    expected = np.asarray(model.apply(variables, inputs))
    np.testing.assert_allclose(restored.model.apply(restored.variables, inputs), expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected - np.array(mean_state, np.float32)).max() < 5  # Far from the mean body of the files.


def test_manifest_says_where_the_weights_come_from(small, embedded, tmp_path, capsys):
    peer_files.spin(tmp_path / "spin.pt")
    _, text = peer_files.run(capsys, "spin", tmp_path / "spin.pt", tmp_path / "out", "--body.dir", "")
    manifest = json.loads((tmp_path / "out" / "checkpoints" / "0" / "manifest.json").read_text(encoding="utf-8"))
    about = manifest["metadata"]["converted"]
    assert about["fingerprint"] in text and about["file"] == "spin.pt"
    assert about["sha256"] == hashlib.sha256((tmp_path / "spin.pt").read_bytes()).hexdigest()
    assert sum(about["parameters"].values()) == layouts.spin().num_parameters
    assert manifest["metadata"]["body_fingerprint"] == embedded.fingerprint
