"""The door to datasets: which set, with which options, is opened for a config."""

import numpy as np
import pytest

import tfds_builders
from multibodies_jax.data import sources, spin_lists
from tests.helpers import tiny


class Examples(list):
    """A source that is read in one go."""

    def __getitems__(self, indices):
        return [self[i] for i in indices]


@pytest.fixture
def opened(monkeypatch):
    """What was opened: (name, split, folder, options); each set has three people."""
    calls = []

    def source(name, split, data_dir, **options):
        calls.append((name, split, data_dir, options))
        return Examples(
            {"name": name, "pose": np.full((24, 3), i, np.float32), "betas": np.full(10, -i, np.float32)}
            for i in range(3)
        )

    monkeypatch.setattr(tfds_builders, "source", source)
    return calls


def config(**fields):
    return tiny.config(data__dir="DATA", data__options="num_train=7", **fields)


def test_the_people_are_a_dataset_or_a_file_of_poses(tmp_path, opened):
    options = {"num_train": 7, "poses": "", "body_dir": ""}
    assert sources.dataset_options(config()) == options
    file = tmp_path / "poses.npz"
    file.touch()
    from_file = config(data__people=str(file), body__dir="BODY")
    assert sources.dataset_options(from_file) == options | {"poses": str(file), "body_dir": "BODY"}
    sources.load_people(from_file, "test")
    sources.load_people(config(data__people="amass/smplh"), "test")
    assert [name for name, *_ in opened] == ["synthetic_poses", "amass/smplh"]
    with pytest.raises(
        ValueError, match=r"data.people='nobody' is neither a file.*synthetic_poses/people, amass/smplh"
    ):
        sources.dataset_options(config(data__people="nobody"))


@pytest.mark.parametrize(("option", "field"), [("poses", "data.people"), ("body_dir", "body.dir")])
def test_options_that_are_fields_are_refused(option, field):
    with pytest.raises(ValueError, match=f"config.data.options has {option}: set config.{field} instead"):
        sources.dataset_options(tiny.config(data__options=f"num_train=5,{option}=somewhere"))


def test_people_are_stacked_in_the_order_of_their_set(opened):
    poses, betas = sources.load_people(config(), "validation")
    assert poses.shape == (3, 24, 3) and betas.shape == (3, 10)
    np.testing.assert_array_equal(poses[:, 5, 1], [0, 1, 2])
    np.testing.assert_array_equal(betas[:, 9], [0, -1, -2])
    assert [call[:3] for call in opened] == [("synthetic_poses", "validation", "DATA")]


def test_people_are_read_once_and_cannot_be_changed(opened, monkeypatch):
    first, _ = sources.load_people(tiny.config(data__dir="KEPT"), "train")
    monkeypatch.delattr(Examples, "__getitems__")  # Whoever reads again needs it.
    again, _ = sources.load_people(tiny.config(data__dir="KEPT"), "train")
    assert again is first and [call[1] for call in opened] == ["train", "train"]
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 1
    with pytest.raises(AttributeError, match="__getitems__"):
        sources.load_people(tiny.config(data__dir="KEPT"), "test")


def test_names_with_commas_are_one_source_in_their_order(opened):
    source = sources.open_source(config(), "lsp, mpii", "train")
    assert [source[i]["name"] for i in range(len(source))] == ["lsp"] * 3 + ["mpii"] * 3
    assert [call[0] for call in opened] == ["lsp", "mpii"] and opened[0][3]["num_train"] == 7


def test_lists_go_to_their_reader_with_the_folders_of_the_config(opened, monkeypatch):
    monkeypatch.setattr(spin_lists, "open_set", lambda *arguments: ["opened", *arguments])
    monkeypatch.setattr(spin_lists, "describe", lambda *arguments: " ".join(arguments))
    with_folders = config(data__npz_dir="LISTS", data__image_dir="IMAGES")
    assert sources.open_source(with_folders, "spin/a", "test") == ["opened", "spin/a", "test", "LISTS", "IMAGES"]
    assert sources.source_name(with_folders, "spin/a") == "spin/a LISTS"
    assert not opened


def test_training_data_are_the_people_and_the_sets_of_the_config(opened):
    sources.build_data(config())
    sources.build_data(config(data__sets=("synthetic_bodies/clean", "lsp,mpii"), data__weights=(0.5, 0.5)))
    assert [call[0] for call in opened] == ["synthetic_poses"] * 2 + ["synthetic_bodies/clean", "lsp", "mpii"]
    assert {call[1] for call in opened} == {"train"}


def test_the_name_of_a_set_has_its_version_and_the_options_that_differ(tmp_path):
    named = sources.source_name(tiny.config(data__dir=str(tmp_path)), "synthetic_bodies/clean")
    other = sources.source_name(
        tiny.config(data__dir=str(tmp_path), data__options="num_train=7"), "synthetic_bodies/clean"
    )
    assert other == named.replace("train1000", "train7") != named and named.startswith("synthetic_bodies/clean-")
    assert not any(tmp_path.iterdir())  # Nothing is built for its name.
