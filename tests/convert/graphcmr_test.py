"""GraphCMR's checkpoints there and back: names and sizes, bit for bit, bound to a body and to the levels of its mesh."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from multibodies_jax.baselines.graphcmr import hierarchy
from multibodies_jax.body import body_files
from multibodies_jax.convert import graphcmr, layouts, placing, torch_reader, torch_writer
from multibodies_jax.models import build
from multibodies_jax.training import checkpoints, provenance
from tests.helpers import batches, peer_files, sphere_body, tiny

FACES = np.asarray(sphere_body.body().faces)
SMALL = {"WIDTH": 1, "HIDDEN": 8, "CHANNELS": 16, "BLOCKS": 2}  # The shape head keeps its size.


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Small layouts, a small body, and its levels in a file."""
    for name, value in SMALL.items():
        monkeypatch.setattr(layouts, name, value)
    monkeypatch.setattr(body_files, "load", lambda directory: sphere_body.bodies().files)
    levels = hierarchy.of_body(sphere_body.body())
    peer_files.mesh_downsampling(tmp_path / "levels.npz", levels, FACES)
    return levels


def _convert(capsys, folder, *more, kind="graphcmr", file="model.pt", out="out"):
    return peer_files.run(capsys, kind, folder / file, folder / out, *more)


def _levels(folder, name="levels.npz"):
    return "--mesh_downsampling", folder / name


def _same(got, expected):
    assert list(got) == list(expected)
    for key, part in expected.items():
        assert list(got[key]) == list(part)
        for name, array in part.items():
            assert got[key][name].tobytes() == array.tobytes(), name
            assert (got[key][name].shape, got[key][name].dtype) == (array.shape, array.dtype), name


def _read(path):
    with torch_reader.open_file(path) as file:
        return {
            key: {name: file.read(tensor) for name, tensor in file.root[key].items()}
            for key in ("graph_cnn", "smpl_param_regressor")
        }


def test_names_counts_and_sizes_are_the_published_ones():
    network, regressor = layouts.graph_cnn(1723), layouts.smpl_regressor(1723)
    shapes = {tensor.name: tensor.shape for tensor in (*network.tensors, *regressor.tensors)}
    assert (len(network.tensors), len(regressor.tensors)) == (444, 37)
    assert sum(name.startswith("resnet.") for name in shapes) == 320
    assert sum(name.startswith("gc.3.") for name in shapes) == 14
    graph = [t for t in network.tensors if not t.name.startswith("resnet.")]
    assert sum(math.prod(t.shape) for t in graph) == 2_083_640
    unused = [t for t in graph if isinstance(t, layouts.Skipped)]
    assert sum(math.prod(t.shape) for t in unused) == 328_960 and {t.reason for t in unused} == {layouts.NO_SHORTCUT}
    assert sum(math.prod(t.shape) for t in regressor.tensors if "num_batches" not in t.name and "running" not in t.name) == 15_027_426  # fmt: skip
    for name, shape in {
        "gc.0.W": (512, 2051),
        "gc.1.lin1.W": (128, 512),
        "gc.6.conv.weight": (128, 128),
        "shape.1.skip_conv.W": (32, 64),
        "shape.4.b": (3,),
        "camera_fc.2.W": (1, 256),
        "camera_fc.4.weight": (3, 1723),
        "layers.0.fc_block.0.weight": (1024, 10338),
        "layers.2.fc_block.4.running_var": (1024,),
        "layers.3.bias": (226,),
    }.items():
        assert shapes[name] == shape


@pytest.mark.slow
def test_every_variable_of_the_network_is_filled(small):
    config = default.of("graphcmr:default")
    own = config.graphcmr.copy_and_resolve_references().unlock()
    own.channels, own.blocks, own.hidden = SMALL["CHANNELS"], SMALL["BLOCKS"], SMALL["HIDDEN"]
    model = build.build(mean_state=np.zeros(157), name="graphcmr", num_hypotheses=1, own=own, body=sphere_body.body())
    inputs = batches.inputs(feature=jnp.zeros((1, 32)))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), inputs, mutable=["params", "batch_stats"]))
    shapes = {path: leaf.shape for path, leaf in placing.flatten(variables).items() if "hierarchy" not in path}
    wanted = {**placing.target_shapes(layouts.graph_cnn(41)), **placing.target_shapes(layouts.smpl_regressor(41))}
    assert shapes == {path: shape for path, shape in wanted.items() if "/trunk/" not in path}


@pytest.mark.slow
def test_there_and_back_is_the_same_bit_for_bit(small, tmp_path, capsys):
    state = peer_files.graphcmr(tmp_path / "model.pt", 41)
    state["graph_cnn"]["gc.0.b"][:2] = -0.0, np.finfo(np.float32).smallest_subnormal
    torch_writer.save(tmp_path / "model.pt", {**state, "epoch": 3})
    status, text = _convert(capsys, tmp_path, *_levels(tmp_path), "--body.dir", "")
    assert status == 0, text
    for words in ("gc.1.skip_conv.W", layouts.NO_SHORTCUT, layouts.CLASSIFIER, "162 and 41 vertices", "a sphere"):
        assert words in text
    status, text = _convert(capsys, tmp_path, *_levels(tmp_path), "--reverse", file="out", out="back.pt")
    assert status == 0 and "zeros" not in text and "negative determinant" not in text, text
    _same(_read(tmp_path / "back.pt"), state)


@pytest.mark.slow
def test_the_work_directory_is_bound_to_the_body_and_to_what_the_weights_decide(small, tmp_path, capsys):
    state = peer_files.graphcmr(tmp_path / "model.pt", 41)
    _convert(capsys, tmp_path, *_levels(tmp_path), "--body.dir", "")
    items, metadata, _ = checkpoints.restore(tmp_path / "out" / "checkpoints")
    tree = items["state"]
    np.testing.assert_array_equal(tree["params"]["gc_2"]["conv"]["kernel"], state["graph_cnn"]["gc.2.conv.weight"])
    np.testing.assert_array_equal(tree["params"]["gc_2"]["lin2"]["kernel"], state["graph_cnn"]["gc.2.lin2.W"].T)
    np.testing.assert_array_equal(tree["batch_stats"]["hierarchy"]["kept"], small.kept)
    assert metadata["body_fingerprint"] == "sphere" and metadata["converted"]["hierarchy"]
    with pytest.raises(checkpoints.CheckpointError, match="trained with another body"):
        checkpoints.check_body(metadata, "of another body")
    fields = {"model__name": "graphcmr", "model__trunk": "resnet50", "data__sets": ("synthetic_bodies/clean",)}
    with pytest.raises(ValueError, match=r"graphcmr\.rotation: 'published' there, 'nearest' now"):
        provenance.check_workdir(tiny.config(**fields, graphcmr__blocks=2), tmp_path / "out")
    provenance.check_workdir(
        tiny.config(**fields, graphcmr__blocks=2, graphcmr__rotation="published"), tmp_path / "out"
    )


@pytest.mark.slow
def test_a_trained_network_is_written_with_zeros_for_what_nothing_reads(small, tmp_path, capsys):
    peer_files.graphcmr(tmp_path / "model.pt", 41)
    _convert(capsys, tmp_path, *_levels(tmp_path), "--body.dir", "")
    items, metadata, _ = checkpoints.restore(tmp_path / "out" / "checkpoints")
    del items["unused"], metadata["converted"]
    metadata["config"]["graphcmr"]["rotation"] = "nearest"
    checkpoints.save(tmp_path / "run" / "checkpoints", 70, items, metadata)
    status, text = _convert(capsys, tmp_path, *_levels(tmp_path), "--reverse", file="run", out="back.pt")
    assert status == 0 and "filled with zeros" in text and "negative determinant" in text
    state = _read(tmp_path / "back.pt")
    assert (
        not state["graph_cnn"]["resnet.fc.weight"].any() and state["graph_cnn"]["resnet.bn1.num_batches_tracked"] == 70
    )


def test_levels_of_other_weights_are_refused_on_the_way_back(small, tmp_path, capsys):
    peer_files.graphcmr(tmp_path / "model.pt", 41)
    _convert(capsys, tmp_path, *_levels(tmp_path), "--body.dir", "")
    weights = small.weights.copy()
    weights[small.weights.max(axis=1) < 1] = [0.5, 0.25, 0.25]
    peer_files.mesh_downsampling(tmp_path / "other.npz", dataclasses.replace(small, weights=weights), FACES)
    arguments = (*_levels(tmp_path, "other.npz"), "--reverse")
    status, text = _convert(capsys, tmp_path, *arguments, file="out", out="back.pt")
    assert status == 2 and "other levels of a mesh" in text and "mean nothing" in text
    assert not (tmp_path / "back.pt").exists()


def test_another_mesh_is_refused_and_nothing_is_written(small, tmp_path, capsys):
    peer_files.graphcmr(tmp_path / "model.pt", 41)
    vertices, faces = sphere_body.bumpy(1)
    peer_files.mesh_downsampling(tmp_path / "levels.npz", hierarchy.of_mesh(vertices, faces), faces)
    status, text = _convert(capsys, tmp_path, *_levels(tmp_path), "--body.dir", "")
    assert status == 2 and "belongs to another mesh" in text and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["graph_cnn"].pop("gc.1.lin1.W"), ["missing from the file: 1", "gc.1.lin1.W (8, 32)"]),
        (lambda s: s["smpl_param_regressor"].pop("layers.3.bias"), ["missing from the file: 1", "layers.3.bias (226,)"]),
        (lambda s: s["graph_cnn"].update(more=np.zeros(2, np.float32)), ["not expected: 1", "more (2,)"]),
        (lambda s: s["graph_cnn"]["gc.0.b"].fill(np.nan), ["gc.0.b (32,) has 32 numbers that are NaN"]),
        (lambda s: s.pop("smpl_param_regressor"), ["a state dict (names -> tensors) was expected", "graph_cnn and smpl_param_regressor"]),
    ],
)  # fmt: skip
def test_a_file_that_is_not_graphcmrs_is_refused_and_nothing_is_written(small, tmp_path, capsys, change, words):
    state = peer_files.graphcmr(tmp_path / "model.pt", 41)
    change(state)
    torch_writer.save(tmp_path / "model.pt", state)
    status, text = _convert(capsys, tmp_path, *_levels(tmp_path), "--body.dir", "")
    assert status == 2 and all(word in text for word in words), text
    assert not (tmp_path / "out").exists()


def test_a_file_of_spin_is_named_and_so_is_one_of_graphcmr(small, tmp_path, capsys):
    peer_files.spin(tmp_path / "model.pt")
    status, text = _convert(capsys, tmp_path, *_levels(tmp_path), "--body.dir", "")
    assert status == 2 and "does not hold graph_cnn and smpl_param_regressor" in text
    assert "What would fit: `multibodies convert spin`; 331 of its 331 tensors are of that kind." in text
    peer_files.graphcmr(tmp_path / "model.pt", 41)
    status, text = _convert(capsys, tmp_path, kind="spin")
    assert status == 2 and "GraphCMR's networks" in text and "`multibodies convert graphcmr`" in text


def test_arguments_and_places_that_do_not_fit(small, tmp_path, capsys):
    peer_files.graphcmr(tmp_path / "model.pt", 41)
    peer_files.spin(tmp_path / "spin.pt")
    peer_files.run(capsys, "spin", tmp_path / "spin.pt", tmp_path / "spin")
    there = {path.name for path in tmp_path.iterdir()}
    for words, arguments in {
        "--mesh_downsampling=FILE belongs to GraphCMR": ("graphcmr", "model.pt", "out", "--body.dir", ""),
        "`convert graphcmr` needs it": ("spin", "spin.pt", "out", *_levels(tmp_path)),
        "needs --body.dir": ("graphcmr", "model.pt", "out", *_levels(tmp_path)),
        "--body.dir has no use here": ("graphcmr", "spin", "new.pt", "--reverse", "--body.dir", "", *_levels(tmp_path)),
        "There is something at": ("graphcmr", "model.pt", "spin", "--body.dir", "", *_levels(tmp_path)),
        "There is something": ("graphcmr", "spin", "model.pt", "--reverse", *_levels(tmp_path)),
        "does not hold GraphCMR: it has no levels": ("graphcmr", "spin", "new.pt", "--reverse", *_levels(tmp_path)),
        "is not there": ("graphcmr", "model.pt", "out", "--body.dir", "", "--mesh_downsampling", tmp_path / "none"),
    }.items():
        kind, file, out, *rest = arguments
        status, text = _convert(capsys, tmp_path, *rest, kind=kind, file=file, out=out)
        assert status == 2 and words in text, text
    assert {path.name for path in tmp_path.iterdir()} == there


def test_a_network_of_another_size_is_refused_on_the_way_back(small, tmp_path, capsys, monkeypatch):
    peer_files.graphcmr(tmp_path / "model.pt", 41)
    _convert(capsys, tmp_path, *_levels(tmp_path), "--body.dir", "")
    monkeypatch.setattr(layouts, "CHANNELS", 32)
    with pytest.raises(placing.ConversionError, match=r"gc_0/bias: \(32,\) there, \(64,\) expected(?s:.*)channels=32"):
        graphcmr.convert_back(tmp_path / "out", tmp_path / "new.pt", tmp_path / "levels.npz")
