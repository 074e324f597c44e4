"""Files, arguments and places that conversion refuses: status 2, a message that says why, and nothing written."""

import itertools

import numpy as np
import pytest

from multibodies_jax.convert import layouts, torch_writer
from tests.helpers import peer_files


@pytest.fixture
def small(monkeypatch):
    """The layouts with a 64th of the width."""
    monkeypatch.setattr(layouts, "WIDTH", 1)
    monkeypatch.setattr(layouts, "HIDDEN", 8)


def _without(name):
    return lambda state: {k: x for k, x in state.items() if k != name}


def _with(name, array):
    return lambda state: {**state, name: array}


def _not_finite(state):
    state["layer1.0.conv1.weight"][0] = np.nan
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("layer1.0.conv1.weight"), ["missing from the file: 1", "layer1.0.conv1.weight (1, 1, 1, 1)", "330 tensors are right"]),
        (_without("layer2.1.bn2.num_batches_tracked"), ["missing from the file: 1", "layer2.1.bn2.num_batches_tracked"]),
        (_without("init_cam"), ["missing from the file: 1", "init_cam (1, 3)"]),
        (_with("extra.weight", np.zeros((2, 3), np.float32)), ["not expected: 1", "extra.weight (2, 3)"]),
        (_with("fc1.weight", np.zeros((8, 7), np.float32)), ["another shape: 1", "(8, 189) expected, (8, 7) in the file"]),
        (_with("fc1.bias", np.zeros(8, np.int64)), ["fc1.bias has numbers of type int64"]),
        (_not_finite, ["layer1.0.conv1.weight (1, 1, 1, 1) has 1 numbers that are NaN or infinite"]),
        (_with("bn1.running_var", -np.ones(1, np.float32)), ["bn1.running_var (1,) has negative variances"]),
        (_with("module.conv1.weight", np.zeros(1, np.float32)), ["conv1.weight twice"]),
        (lambda state: {"best." + k: x for k, x in state.items()}, ["331 names", "'best.' before them", "and 321 more"]),
        (lambda state: {"a": np.zeros(2, np.float32)}, ["missing from the file: 278", "no architecture known here"]),
        (lambda state: {}, ["a state dict (names -> tensors) was expected"]),
    ],
)  # fmt: skip
def test_a_file_that_is_not_spins_is_refused_and_nothing_is_written(small, tmp_path, capsys, change, words):
    state = peer_files.tensors(layouts.spin())
    torch_writer.save(tmp_path / "spin.pt", {"model": change(state)})
    before = set(tmp_path.iterdir())
    status, text = peer_files.run(capsys, "spin", tmp_path / "spin.pt", tmp_path / "out")
    assert status == 2 and text.startswith("error: ") and str(tmp_path / "spin.pt") in text
    for word in words:
        assert word in text
    assert set(tmp_path.iterdir()) == before


def _of(kind: str) -> dict[str, np.ndarray]:
    if kind == "multibodies":
        return peer_files.multibodies(2)
    return peer_files.tensors(layouts.spin() if kind == "spin" else layouts.resnet50())


@pytest.mark.parametrize(("kind", "told"), list(itertools.permutations(("spin", "resnet50", "multibodies"), 2)))
def test_another_architecture_is_named(small, tmp_path, capsys, kind, told):
    torch_writer.save(tmp_path / "file.pth", _of(kind))
    status, text = peer_files.run(capsys, told, tmp_path / "file.pth", tmp_path / "out")
    assert status == 2 and f"What would fit: `multibodies convert {kind}`" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (_without("module.model_realnvp.s.1.3.bias"), "s.1.3.bias (16,)"),
        (_without("module.model.model.fc4.bias"), "fc4.bias (8,)"),
        (_with("module.model_realnvp.mask", np.full((3, 72), 0.5, np.float32)), "other numbers than 0 and 1"),
        (_with("module.model.model.layer5.2.conv3.weight", np.zeros((65, 16, 1, 1), np.float32)), "(65, 16, 1, 1)"),
        (_with("module.model.model.fc3.weight", np.zeros((8, 5), np.float32)), "fc3.weight"),
        (lambda state: {k: x for k, x in state.items() if "realnvp" not in k}, "--flow=FILE"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_multibodies_is_refused(small, tmp_path, capsys, change, word):
    torch_writer.save(tmp_path / "model.pth", change(peer_files.multibodies(2)))
    status, text = peer_files.run(capsys, "multibodies", tmp_path / "model.pth", tmp_path / "out")
    assert status == 2 and word in text and not (tmp_path / "out").exists()


def test_one_mode_is_refused(small, tmp_path, capsys):
    torch_writer.save(tmp_path / "model.pth", peer_files.multibodies(1))
    status, text = peer_files.run(capsys, "multibodies", tmp_path / "model.pth", tmp_path / "out")
    assert status == 2 and "single hypothesis" in text


def test_arguments_and_places_that_do_not_fit(small, tmp_path, capsys):
    peer_files.spin(tmp_path / "spin.pt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious", encoding="utf-8")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "spin.pt").read_bytes()[:-100])
    (tmp_path / "code.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    for words, arguments in {
        "There is something at": ("spin", tmp_path / "spin.pt", tmp_path / "full"),
        "is not there": ("spin", tmp_path / "none.pt", tmp_path / "out"),
        "is cut short or damaged": ("spin", tmp_path / "cut.pt", tmp_path / "out"),
        "os.system": ("spin", tmp_path / "code.pt", tmp_path / "out"),
        "--flow": ("spin", tmp_path / "spin.pt", tmp_path / "out", "--flow", tmp_path / "spin.pt"),
        "--body.dir has no use": ("resnet50", tmp_path / "spin.pt", tmp_path / "out", "--body.dir", ""),
        "No folder": ("spin", tmp_path / "spin.pt", tmp_path / "out", "--body.dir", tmp_path / "none"),
        "has not got a complete checkpoint": ("spin", tmp_path / "full", tmp_path / "new.pt", "--reverse"),
        "There is something": ("spin", tmp_path / "full", tmp_path / "spin.pt", "--reverse"),
        "not written back": ("resnet50", tmp_path / "full", tmp_path / "new.pt", "--reverse"),
    }.items():
        status, text = peer_files.run(capsys, *arguments)
        assert status == 2 and words in text, text
    assert {p.name for p in tmp_path.iterdir()} == {"spin.pt", "full", "cut.pt", "code.pt"}
    assert (tmp_path / "full" / "mine").read_text(encoding="utf-8") == "precious"
