"""AH36M and A3DPW: what is hidden, the crops around the rest, and the authors' crops, from sets built in miniature."""

import collections
import json
import pickle
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy import stats

import tfds_builders
from configs import eval_a3dpw, eval_ah36m
from multibodies_jax.data import occlusion
from multibodies_jax.evaluation import batches
from multibodies_jax.training import config_checks
from tests.helpers import h36m_fixture, small_sets, threedpw_fixture, training_checks
from tfds_builders import ambiguous, archives, building, features, listing, verification, workers
from tfds_builders.a3dpw import a3dpw_dataset_builder
from tfds_builders.ah36m import ah36m_dataset_builder
from tfds_builders.h36m import h36m_dataset_builder
from tfds_builders.threedpw import threedpw_dataset_builder

no_workers = pytest.fixture(training_checks.no_workers)

# What the training code of the authors removes, type by type.
RELEASED = {0: set(), 1: {0, 1, 2, 3, 4, 5}, 2: {*range(6, 14), *range(17, 24)}, 3: {6, 7, 8, 9, 10, 11}}


def make(module, rule, data_dir, manual_dir=None, **options):
    """Builds a set."""
    builder = module.Builder(
        data_dir=str(data_dir), config=module.Builder.make_config(rule, module.Builder.OPTIONS(**options))
    )
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    return builder


def records(builder, split="test"):
    source = building.open_split(builder, split)
    return [source[i] for i in range(len(source))]


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    """`threedpw` of six people in the test split, built, and its archive."""
    root, data_dir = tmp_path_factory.mktemp("archive"), tmp_path_factory.mktemp("data")
    threedpw_fixture.archive(root)
    threedpw_fixture.write(root, "test", "c_00", threedpw_fixture.sequence(3, "m", frames=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "pool", small_sets.in_process)
        base = make(threedpw_dataset_builder, "official", data_dir, root)
    return data_dir, base, root


def person(name="threedpw/test/x/00000/0", seed=0, missing=()) -> dict[str, Any]:
    """A record as a source gives it, with keypoints anywhere in the image."""
    rng = np.random.default_rng([seed, len(name)])
    valid = np.ones(24, np.float32)
    valid[list(missing)] = 0
    kp2d = rng.uniform(30, 90, (24, 2)).astype(np.float32)
    example = features.example(
        example_id=name, image=np.zeros((120, 120, 3), np.uint8), window=[0, 0, 120, 120], image_size=[120, 120],
        dataset="threedpw", box_center=np.array([60.0, 60.0]), box_scale=0.4, kp2d=kp2d, kp2d_valid=valid,
    )  # fmt: skip
    return example | {"example_id": name.encode(), "protocol_hint": b"3dpw"}


def seen(record, rule, seed=0):
    """What becomes of a record: the example, and the reasons of notes."""
    task = ambiguous.Task(a3dpw_dataset_builder.Builder, "", "", None, "test", 0, 1, rule, seed, None, 0)
    every = list(ambiguous.ambiguous_example(record, task))
    notes = [one.reason for one in every if isinstance(one, archives.Skip)]
    return next((one for one in every if isinstance(one, dict)), {}), notes


@pytest.mark.slow
def test_paper_hides_a_strategy_and_pads_the_crop_around_the_rest(wild, no_workers):
    data_dir, base, _ = wild
    for seed in range(3):
        made = records(make(a3dpw_dataset_builder, "paper", data_dir, seed=seed))
        for record, plain in zip(made, records(base), strict=True):
            drawn = occlusion.strategy_for(plain["example_id"].decode(), seed)
            hidden = set(occlusion.HIDDEN_JOINTS[drawn])
            left = [i for i in range(24) if plain["kp2d_valid"][i] > 0 and i not in hidden]
            assert record["occlusion"] == drawn and record["occlusion_seed"] == seed
            np.testing.assert_array_equal(np.flatnonzero(record["kp2d_input"]), left)
            low, high = plain["kp2d"][left].min(0), plain["kp2d"][left].max(0)
            np.testing.assert_allclose(record["box_center"], (low + high) / 2, rtol=1e-6)
            np.testing.assert_allclose(record["box_scale"], max(1.1 * (high - low).max(), 16) / 200, rtol=1e-6)
            assert record["box_scale_full"] == plain["box_scale"] and record["protocol_hint"] == b"3dpw"
            assert features.DATASETS[record["dataset"]] == "a3dpw"
            for same in ("example_id", "image", "window", "kp2d", "kp2d_valid", "pose", "joints3d", "gender"):
                np.testing.assert_array_equal(record[same], plain[same])


@pytest.mark.parametrize("strategy", range(4))
def test_released_train_removes_the_authors_index_sets_and_cuts_tightly(strategy):
    rng = np.random.default_rng(strategy)
    for _ in range(20):
        kp2d, valid = rng.uniform(0, 500, (24, 2)), (rng.random(24) < 0.8).astype(np.float32)
        visible, box, used = ambiguous.released_view(strategy, kp2d.astype(np.float32), valid)
        left = [i for i in range(24) if valid[i] and i not in RELEASED[strategy]]
        if strategy == 0:
            np.testing.assert_array_equal(visible, valid)
            assert box is None and used == 0
            continue
        np.testing.assert_array_equal(np.flatnonzero(visible), left)
        xs, ys = [kp2d[i][0] for i in left], [kp2d[i][1] for i in left]
        x0, y0, x1, y1 = min(xs), min(ys), max(xs) + 1, max(ys) + 1
        assert box is not None
        np.testing.assert_allclose(box[0], [(x0 + x1) / 2, (y0 + y1) / 2], rtol=1e-6)
        np.testing.assert_allclose(box[1], max(x1 - x0, y1 - y0) / 200, rtol=1e-5)
        assert used == strategy


def test_released_train_keeps_the_plain_crop_where_the_authors_code_crashes():
    names = (f"threedpw/test/x/{i:05d}/0" for i in range(100))
    name = next(n for n in names if occlusion.strategy_for(n, 0) == 0)
    example, notes = seen(person(name), ambiguous.RELEASED_TRAIN)
    assert example["box_scale"] == np.float32(0.4) and example["occlusion"] == "none" and not notes
    arms = next(n for n in names if occlusion.strategy_for(n, 0) == 3)
    for rule, missing in ((ambiguous.RELEASED_TRAIN, {*range(24)} - RELEASED[3]), (ambiguous.PAPER, range(12))):
        example, notes = seen(person(arms, missing=missing), rule)
        if rule == ambiguous.RELEASED_TRAIN:
            assert example["box_scale"] == np.float32(0.4) and example["kp2d_input"].sum() == 6
            assert example["occlusion"] == "none"
            assert notes == ["the strategy would hide everything: kept, nothing hidden"]


@pytest.mark.parametrize("rule", [ambiguous.PAPER, ambiguous.RELEASED_TRAIN])
def test_strategies_have_the_four_probabilities(rule):
    names = [f"threedpw/test/x/{i:05d}/0" for i in range(500)]
    base = person()
    drawn = [seen(base | {"example_id": n.encode()}, rule)[0] for n in names]
    counts = [sum(one["occlusion"] == strategy for one in drawn) for strategy in occlusion.STRATEGIES]
    assert stats.chisquare(counts, 500 * np.array([0.1, 0.3, 0.3, 0.3])).pvalue > 1e-3
    hidden = {
        s: RELEASED[i] if rule == ambiguous.RELEASED_TRAIN else set(occlusion.HIDDEN_JOINTS[i])
        for i, s in enumerate(occlusion.STRATEGIES)
    }
    assert all(set(np.flatnonzero(one["kp2d_input"] == 0)) == hidden[one["occlusion"]] for one in drawn)
    again = seen(base | {"example_id": names[7].encode()}, rule)[0]
    np.testing.assert_array_equal(again["box_center"], drawn[7]["box_center"])
    others = [seen(base | {"example_id": n.encode()}, rule, seed=1)[0]["occlusion"] for n in names[:100]]
    assert others != [one["occlusion"] for one in drawn[:100]]


def test_what_cannot_be_made_ambiguous_is_counted():
    assert seen(person(missing=range(24)), ambiguous.PAPER) == ({}, ["no keypoint that could be hidden"])
    far = person()
    far["kp2d"] = far["kp2d"] + 500
    assert seen(far, ambiguous.PAPER) == ({}, ["a box outside the image"])
    cut = person() | {"window": np.array([50, 50, 20, 20])}
    example, notes = seen(cut, ambiguous.PAPER)
    assert example and notes == ["the crop reaches beyond the stored window: kept, black there"]


def test_readings_have_names_of_their_own(tmp_path):
    names = [
        a3dpw_dataset_builder.Builder.make_config(rule, a3dpw_dataset_builder.Options(seed=seed)).name
        for rule in ("paper", "released_train")
        for seed in (0, 1)
    ]
    assert names == ["paper-seed0", "paper-seed1", "released_train-seed0", "released_train-seed1"]
    assert (
        a3dpw_dataset_builder.Builder.make_config("paper", a3dpw_dataset_builder.Options(jpeg_quality=90)).name
        == "paper-seed0-jpeg90"
    )
    with pytest.raises(ValueError, match="released_crops draws nothing: leave seed=1 out"):
        a3dpw_dataset_builder.Builder.make_config("released_crops", a3dpw_dataset_builder.Options(seed=1))
    with pytest.raises(ValueError, match=r"made_from is a config of threedpw: official.*; got 'p3'"):
        a3dpw_dataset_builder.Builder.make_config("paper", a3dpw_dataset_builder.Options(made_from="p3"))


@pytest.mark.slow
def test_any_process_and_any_order_of_the_work_gives_the_same(wild, no_workers, monkeypatch):
    data_dir, _, _ = wild
    builder = make(a3dpw_dataset_builder, "released_train", data_dir)
    whole = records(builder)
    assert list(builder.info.splits) == ["validation", "test"]  # The miniature has no train split.
    stored = json.loads((builder.data_path / "metadata.json").read_text(encoding="utf-8"))
    assert stored["seed"] == 0 and stored["source_set"] == "threedpw/official/1.0.0"
    monkeypatch.setattr(ambiguous, "BLOCK", 2)
    tasks = pickle.loads(pickle.dumps(builder.tasks("test")))  # As a worker gets them.
    assert len(tasks) == 3
    blocks = [
        [one for one in a3dpw_dataset_builder.Builder.make(task) if isinstance(one, dict)] for task in reversed(tasks)
    ]
    for one, other in zip([one for block in reversed(blocks) for one in block], whole, strict=True):
        for key in ("kp2d_input", "box_center", "box_scale", "occlusion_seed"):
            np.testing.assert_array_equal(one[key], other[key])


def test_verify_compares_shares_with_probabilities(wild, no_workers):
    report = verification.verify(make(a3dpw_dataset_builder, "paper", wild[0]))
    assert report.passed and "drawn with 0.1, 0.3, 0.3, 0.3" in "\n".join(report.lines)
    for counts, passes in (((95, 310, 305, 290), True), ((300, 95, 310, 295), False), ((250, 250, 250, 250), False)):
        statistics, report = verification.Statistics(), verification.Report([])
        statistics.count, statistics.occlusions = 1000, collections.Counter(dict(enumerate(counts)))
        statistics.report_occlusion(
            "test",
            report,
            a3dpw_dataset_builder.Builder.occlusion_shares(make(a3dpw_dataset_builder, "paper", wild[0])),
        )
        assert report.passed == passes


def authors_files(folder, base, order, boxes):
    """`3dpw_test_all.npz` and `3dpw_amb3.npz` with the people of a set in some order."""
    rows = [records(base)[i] for i in order]
    ids = [row["example_id"].decode().split("/") for row in rows]
    folder.mkdir(exist_ok=True)
    np.savez(
        folder / "3dpw_test_all.npz",
        imgname=np.array([f"imageFiles/{sequence}/image_{frame}.jpg" for _, _, sequence, frame, _ in ids]),
        center=np.stack([row["box_center"] for row in rows]).astype(np.float64),
        scale=np.stack([row["box_scale"] for row in rows]).astype(np.float64),
        pose=np.stack([row["pose"].ravel() for row in rows]).astype(np.float64),
        shape=np.stack([row["betas"] for row in rows]).astype(np.float64),
        gender=np.array(["mf"[row["gender"]] for row in rows]),
    )
    np.savez(folder / "3dpw_amb3.npz", amb_center=boxes[:, :2], amb_scale=boxes[:, 2])
    return folder / "3dpw_amb3.npz"


def test_the_authors_crops_are_joined_by_row_image_and_pose(wild, tmp_path, no_workers):
    data_dir, base, _ = wild
    order = [4, 2, 1, 5, 0]  # Two of them share an image; one person is not listed.
    boxes = np.array([[60 + i, 50 + i, 0.1 + 0.01 * i] for i in range(5)])
    path = authors_files(tmp_path / "crops", base, order, boxes)
    builder = make(a3dpw_dataset_builder, "released_crops", data_dir, crops=str(path))
    assert builder.info.config_name.startswith("released_crops-3dpw_amb3_")
    made = {record["example_id"]: record for record in records(builder)}
    plain = records(base)
    assert list(made) == [plain[i]["example_id"] for i in sorted(order)]
    for row, i in enumerate(order):
        record = made[plain[i]["example_id"]]
        np.testing.assert_allclose([*record["box_center"], record["box_scale"]], boxes[row], rtol=1e-6)
        np.testing.assert_array_equal(record["kp2d_input"], plain[i]["kp2d_valid"])  # Nothing is hidden.
        assert record["occlusion"] == 0 and record["occlusion_seed"] == -1
        assert record["box_scale_full"] == plain[i]["box_scale"]
    named = tfds_builders.source(f"a3dpw/{builder.info.config_name}", "test", data_dir)  # Without the authors' files.
    assert [record["example_id"] for record in named] == list(made)
    report = "\n".join(archives.report(builder))
    assert "test: 5 examples, but the complete archive gives 35515" in report
    assert "1 skipped: not in 3dpw_test_all.npz (threedpw/test/c_00/00000/0)" in report


def test_without_the_authors_file_no_crops_are_called_theirs(wild, tmp_path, no_workers):
    data_dir, base, _ = wild
    with pytest.raises(archives.BuildError, match=r"needs --crops=FILE.*How they were drawn is not known.*a3dpw/paper"):
        make(a3dpw_dataset_builder, "released_crops", data_dir)
    path = authors_files(tmp_path / "crops", base, [0, 1], np.ones((2, 3)))
    (path.parent / "3dpw_test_all.npz").rename(path.parent / "other.npz")
    with pytest.raises(archives.BuildError, match=r"rows of 3dpw_test_all.npz, which is neither beside it nor"):
        make(a3dpw_dataset_builder, "released_crops", data_dir, crops=str(path))
    (path.parent / "other.npz").rename(path.parent / "3dpw_test_all.npz")
    np.savez(path, amb_center=np.ones((3, 2)), amb_scale=np.ones(3))
    with pytest.raises(archives.BuildError, match=r"has 3 crops and 3dpw_test_all\.npz has 2 rows"):
        make(a3dpw_dataset_builder, "released_crops", data_dir, crops=str(path))
    listed = dict(np.load(path.parent / "3dpw_test_all.npz"))
    listed["pose"][1] += 0.5
    np.savez(path.parent / "3dpw_test_all.npz", **listed)
    np.savez(path, amb_center=np.full((2, 2), 50.0), amb_scale=np.ones(2))
    with pytest.raises(archives.BuildError, match=r"in row 1, but with another person or pose"):
        make(a3dpw_dataset_builder, "released_crops", data_dir, crops=str(path))


def test_paths_instead_of_pixels_are_taken_over(wild, no_workers):
    data_dir, _, root = wild
    linked = records(make(a3dpw_dataset_builder, "paper", data_dir, root, store="path"))
    stored = records(make(a3dpw_dataset_builder, "paper", data_dir))
    for one, other in zip(linked, stored, strict=True):
        for key in other:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.slow
def test_the_configs_evaluate_on_them(wild, no_workers):
    config = eval_a3dpw.get_config("paper").unlock()
    config.data.dir, config.model.crop_size = str(wild[0]), 32
    config_checks.validate(config)
    clean, hidden = (
        [found for found in batches.examples(config, name, "test") if found.batch.valid.any()]
        for name in config.eval.sets
    )
    assert sum(found.batch.valid.sum() for found in clean) == 6
    assert [b.example_id.tolist() for b in clean] == [b.example_id.tolist() for b in hidden]
    assert hidden[0].batch.inputs.kp2d_input.sum() < clean[0].batch.inputs.kp2d_input.sum()
    image = clean[0].batch.inputs.image
    assert image is not None and image.shape[1:] == (32, 32, 3)
    wrong = eval_ah36m.get_config("paper").unlock()
    wrong.data.dir = config.data.dir
    assert wrong.eval.sets == ("h36m/official", "ah36m/paper")
    with pytest.raises(ValueError, match="usually scored by '3dpw'"):
        list(batches.examples(wrong, "threedpw/official", "test"))


def test_list_says_whether_the_other_set_could_be_built(wild, tmp_path):
    found = [line for line in listing.describe("a3dpw", str(tmp_path), str(wild[2])) if "found:" in line]
    assert found[0].startswith("    found: validation 1 tasks, test 2 tasks in")
    (tmp_path / "other").mkdir()
    found = [line for line in listing.describe("a3dpw", str(tmp_path), str(tmp_path / "other")) if "found:" in line]
    pattern = "sequenceFiles/{train,validation,test}/*.pkl"
    assert found[0] == f"    found: not usable: threedpw: there is no {pattern} in {tmp_path / 'other'}."


def test_options_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"seed must be within \[0, 2\^31\)"):
        a3dpw_dataset_builder.Options(seed=-1)
    with pytest.raises(ValueError, match="no file of crops"):
        ah36m_dataset_builder.Options(crops=str(tmp_path / "no.npz"))
    with pytest.raises(ValueError, match="frame_step must be at least 1"):
        ah36m_dataset_builder.Options(frame_step=0)


def test_h36m_becomes_ambiguous_too(tmp_path, no_workers):
    h36m_fixture.write(tmp_path / "archive")
    paper = make(ah36m_dataset_builder, "paper", tmp_path / "data", tmp_path / "archive")
    base = h36m_dataset_builder.Builder(
        data_dir=str(tmp_path / "data"),
        config=h36m_dataset_builder.Builder.make_config("official", h36m_dataset_builder.Options()),
    )
    plain, made = records(base), records(paper)
    assert [one["example_id"] for one in made] == [one["example_id"] for one in plain] and len(made) == 6
    for one, other in zip(made, plain, strict=True):
        assert one["occlusion"] == occlusion.strategy_for(one["example_id"].decode(), 0)
        np.testing.assert_array_equal(one["image"], other["image"])
    crops = tmp_path / "h36m-p2_amb3.npz"
    np.savez(crops, amb_center=np.full((6, 2), 40.0), amb_scale=np.arange(1, 7) / 10)
    names = [one["example_id"].decode().split("/") for one in plain]
    listed = [f"images/{s}_{stem}.{camera}_{int(frame) + 1:06d}.jpg" for _, s, stem, camera, frame in names]
    S = np.concatenate(
        [
            np.stack([p["joints3d"] - p["joints3d"][14] for p in plain]),
            np.stack([p["joints3d_valid"] for p in plain])[..., None],
        ],
        -1,
    )
    np.savez(
        tmp_path / "h36m_valid_protocol2.npz", imgname=np.array(listed), center=np.ones((6, 2)), scale=np.ones(6), S=S
    )
    released = records(make(ah36m_dataset_builder, "released_crops", tmp_path / "data", crops=str(crops)))
    np.testing.assert_allclose([one["box_scale"] for one in released], np.arange(1, 7) / 10, rtol=1e-6)
    S[2, :6, :3] += 0.05
    np.savez(
        tmp_path / "h36m_valid_protocol2.npz", imgname=np.array(listed), center=np.ones((6, 2)), scale=np.ones(6), S=S
    )
    files = ambiguous.released_crops.Files.at(tmp_path / "h36m_valid_protocol2.npz", crops)
    with pytest.raises(ValueError, match="in row 2, but with another person or pose"):
        ambiguous.released_crops.box_of(files, ah36m_dataset_builder.Builder, plain[2])
