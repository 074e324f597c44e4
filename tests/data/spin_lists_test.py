"""Lists in SPIN's format, written here as the official files are, and images in every folder layout."""

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from multibodies_jax.data import augment, pipeline, sources, spin_crops, spin_lists
from multibodies_jax.evaluation import batches
from multibodies_jax.training import config_checks, training_data
from tests.helpers import list_files, tiny
from tfds_builders import features


@pytest.fixture
def folders(tmp_path):
    lists, images = tmp_path / "npz", tmp_path / "images_of_all"
    lists.mkdir()
    images.mkdir()
    return lists, images


def _open(folders, name, split="test"):
    return spin_lists.open_set(name, split, *map(str, folders))


def test_records_have_what_the_list_says(folders):
    arrays = list_files.arrays(list_files.THREEDPW)
    arrays["parts_openpose_s24"] = arrays.pop("part")
    arrays["parts_openpose_s24"][1, 5] = (np.nan, 3.0, 0.0)  # Not detected.
    arrays["S"][2, 17:, 3] = 0
    list_files.save(folders[0] / "3dpw_test_all.npz", **arrays, openpose=np.zeros(3))
    list_files.write_images(folders[1] / "3DPW", list_files.THREEDPW)
    source = _open(folders, "spin/3dpw_test_all")
    assert len(source) == 4
    records = list(source)
    for i, record in enumerate(records):
        # Everything that a stored set has, and nothing that the dictionary of features does not know.
        assert set(record) == set(features.empty_example())
        features.example(**{**record, "image": features.encode_image(record["image"]), **_as_text(record)})
        assert record["example_id"] == b"3dpw_test_all/%06d" % i
        with Image.open(folders[1] / "3DPW" / list_files.THREEDPW[i]) as image:
            np.testing.assert_array_equal(record["image"], np.asarray(image))
        assert record["image_size"].tolist() == [96, 88] and record["window"].tolist() == [0, 0, 96, 88]
        assert record["box_scale"] == arrays["scale"][i] and record["box_scale"].dtype == np.float64
        np.testing.assert_array_equal(record["box_center"], arrays["center"][i])
        np.testing.assert_array_equal(record["box_center_full"], arrays["center"][i])
        known = arrays["parts_openpose_s24"][i, :, 2] > 0
        np.testing.assert_array_equal(record["kp2d"][known], arrays["parts_openpose_s24"][i, known, :2])
        np.testing.assert_array_equal(record["kp2d_valid"], known)
        np.testing.assert_array_equal(record["joints3d_valid"], arrays["S"][i, :, 3])
        kept = arrays["S"][i, :, 3:] > 0
        np.testing.assert_allclose(record["joints3d"], arrays["S"][i, :, :3] * kept, atol=1e-6)
        np.testing.assert_allclose(record["pose"].reshape(72), arrays["pose"][i], atol=1e-6)
        np.testing.assert_allclose(record["betas"], arrays["shape"][i], atol=1e-6)
        assert (record["gender"], record["smpl_valid"], record["intrinsics_valid"]) == (i % 2, 1, 0)
        assert (record["protocol_hint"], _as_text(record)["dataset"]) == (b"3dpw", "threedpw")


def _as_text(record):
    texts = {key: record[key].decode() for key in ("example_id", "protocol_hint")}
    names = {"dataset": features.DATASETS[record["dataset"]], "occlusion": "none"}
    return texts | names | {key: np.float32(record[key]) for key in ("box_center", "box_scale", "kp2d")}


@pytest.mark.parametrize(
    ("stem", "names", "split", "dataset", "protocol"),
    [
        ("h36m_valid_protocol1", list_files.H36M, "test", "h36m", b"h36m_p1"),
        ("h36m_valid_protocol2", list_files.H36M, "test", "h36m", b"h36m_p2"),
        ("mpi_inf_3dhp_valid", ["mpi_inf_3dhp_test_set/TS1/imageSequence/img_000001.jpg"], "test", "mpi_inf_3dhp", b"mpi_inf_3dhp"),
        ("3dpw_validation", list_files.THREEDPW, "validation", "threedpw", b"3dpw"),
        ("lsp_dataset_original_train", ["images/im0001.jpg"], "train", "lsp", b""),
        ("hr-lspet_train", ["im00001.png"], "train", "lspet", b""),
        ("mpii_train", ["images/015601864.jpg"], "train", "mpii", b""),
        ("coco_2014_train", ["train2014/COCO_train2014_000000000009.jpg"], "train", "coco2014", b""),
    ],
)  # fmt: skip
def test_each_official_list_has_its_set_split_and_protocol(folders, stem, names, split, dataset, protocol):
    list_files.save(folders[0] / f"{stem}.npz", **list_files.arrays(names, keys=("S",)))
    list_files.write_images(folders[1], names)
    record = _open(folders, f"spin/{stem}", split)[0]
    assert features.DATASETS[record["dataset"]] == dataset and record["protocol_hint"] == protocol
    # What this list lacks is not annotated.
    assert not record["kp2d_valid"].any() and not record["smpl_valid"] and record["gender"] == -1
    with pytest.raises(spin_lists.ListError, match=f"counts as '{split}', but 'nowhere' was asked for"):
        _open(folders, f"spin/{stem}", "nowhere")


def test_names_and_genders_may_be_bytes_and_smpl_may_be_partly_there(folders):
    arrays = list_files.arrays(list_files.H36M) | {"has_smpl": np.array([1, 0, 1.0])}
    arrays |= {key: arrays[key].astype(bytes) for key in ("imgname", "gender")}
    list_files.save(folders[0] / "h36m_train.npz", **arrays)
    rows = spin_lists.read(folders[0] / "h36m_train.npz")
    assert (
        rows.imgname == list_files.H36M and rows.gender.tolist() == [0, 1, 0] and rows.smpl_valid.tolist() == [1, 0, 1]
    )


def test_ambiguous_crops_replace_the_box_alone(folders):
    arrays = list_files.arrays(list_files.H36M)
    list_files.save(folders[0] / "h36m_valid_protocol2.npz", **arrays)
    crops = {"amb_center": arrays["center"] + 1.5, "amb_scale": arrays["scale"] * 0.4}
    list_files.save(folders[0] / "h36m-p2_amb3.npz", **crops, imgname=arrays["imgname"])
    list_files.write_images(folders[1], list_files.H36M)
    plain, ambiguous = (_open(folders, f"spin/h36m_valid_protocol2{s}") for s in ("", "+h36m-p2_amb3"))
    for i, (record, other) in enumerate(zip(plain, ambiguous, strict=True)):
        np.testing.assert_array_equal(other["box_center"], crops["amb_center"][i])
        assert other["box_scale"] == crops["amb_scale"][i] and other["box_scale_full"] == arrays["scale"][i]
        assert features.DATASETS[other["dataset"]] == "ah36m"
        for key in set(record) - {"box_center", "box_scale", "dataset"}:
            np.testing.assert_array_equal(record[key], other[key])


def test_crops_of_another_list_are_refused(folders):
    arrays = list_files.arrays(list_files.H36M)
    list_files.save(folders[0] / "h36m_valid_protocol2.npz", **arrays)
    rows = spin_lists.read(folders[0] / "h36m_valid_protocol2.npz")
    crops = {"amb_center": arrays["center"], "amb_scale": arrays["scale"]}
    cases = {
        "has 2 crops and h36m_valid_protocol2.npz has 3 rows": {k: v[:2] for k, v in crops.items()},
        "row 1 is of 'images/S9_Directions_1.60457274_000011.jpg'": crops | {"imgname": arrays["imgname"][[0, 2, 1]]},
        "the crop of row 2 has no area": crops | {"amb_scale": np.array([1, 1, 0.0])},
        "lacks 'amb_scale'; it has amb_center": {"amb_center": arrays["center"]},
        "has 'imgnames', and 'imgname', which": crops | {"imgnames": arrays["imgname"][[0, 2, 1]]},
    }
    for message, content in cases.items():
        list_files.save(folders[0] / "crops.npz", **content)
        with pytest.raises(spin_lists.ListError, match=message):
            spin_lists.read_crops(folders[0] / "crops.npz", rows)


def test_lists_that_cannot_be_used_say_why(folders):
    good = list_files.arrays(list_files.H36M)
    path = folders[0] / "list.npz"
    far = good["S"].copy()
    far[1, :, :3] *= 1000
    hole = good["part"].copy()
    hole[2, 3, 0] = np.nan
    cases = {
        "lacks 'center'; it has S, gender": {k: v for k, v in good.items() if k != "center"},
        "'imgname' is an array of Python objects.* imgname=np.array": good
        | {"imgname": np.array(list_files.H36M, object)},
        "'imgname' should be a column of texts, got float64": good | {"imgname": np.zeros(3)},
        "has no rows": {k: v[:0] for k, v in good.items()},
        r"'center' should be numbers \(3, 2\), got float64 \(2, 2\)": good | {"center": good["center"][:2]},
        "'center' is not finite in row 0": good | {"center": np.full((3, 2), np.nan)},
        "box of row 1 has no area": good | {"scale": np.array([1.0, -1, 1])},
        "S of row 1 reaches .* Divide millimetres by 1000": good | {"S": far},
        "'part' is not finite in row 2, where its confidence is above 0": good | {"part": hole},
        r"'pose' should be numbers \(3, 72\)": good | {"pose": good["pose"][:, :69]},
        "gender is 'x' somewhere; expected 'm' or 'f'": good | {"gender": np.array(["m", "x", "f"])},
        "'gender' has 2 rows": good | {"gender": np.array(["m", "f"])},
        r"has body_keypoints_2d, extra_keypoints_2d, body_pose, which are not keys of SPIN's .*4D-Humans.* part \(N, 24": {
            **{key: values for key, values in good.items() if key not in ("part", "pose")},
            **{"body_keypoints_2d": np.zeros((3, 25, 3)), "extra_keypoints_2d": np.zeros((3, 19, 3))},
            "body_pose": np.zeros((3, 69)),
        },
        "has 'has_smpI', and 'has_smpl', which it resembles": good | {"has_smpI": np.zeros(3)},
        "has 'pbrt', and 'part', which": {"pbrt" if key == "part" else key: values for key, values in good.items()},
    }
    for message, content in cases.items():
        list_files.save(path, **content)
        with pytest.raises(spin_lists.ListError, match=message):
            spin_lists.read(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(spin_lists.ListError, match=r"cannot be read as an archive of arrays \(\.npz\)"):
        spin_lists.read(path)
    with pytest.raises(spin_lists.ListError, match=r"There is no list .*other.npz. In its folder: list"):
        spin_lists.read(folders[0] / "other.npz")
    for name in ("spin/", "spin/a+b+c", "spin/../list", "list"):
        with pytest.raises(spin_lists.ListError, match="write spin/LIST"):
            spin_lists.split_of(name)


def test_images_that_are_missing_are_named(folders):
    list_files.save(folders[0] / "3dpw_test.npz", **list_files.arrays(list_files.THREEDPW))
    (folders[1] / "holidays").mkdir()
    with pytest.raises(
        ValueError, match=r"(?s)None of 4 images .* expected as one of.*3DPW/imageFiles.*has 3DPW/, holidays/"
    ):
        (folders[1] / "3DPW").mkdir()
        _open(folders, "spin/3dpw_test")
    list_files.write_images(folders[1] / "3DPW", list_files.THREEDPW[:1])
    source = _open(folders, "spin/3dpw_test")
    assert source[2]["image"].shape == (88, 96, 3)
    with pytest.raises(spin_lists.ListError, match=r"3dpw_test.npz, row 1: the image .*image_00001.jpg' is missing"):
        source[1]
    with pytest.raises(spin_lists.ListError, match=r"config.data.image_dir = '' is no folder"):
        spin_lists.open_set("spin/3dpw_test", "test", str(folders[0]), "")


@pytest.mark.parametrize("crop", ["exact", "spin"])
def test_a_list_can_be_trained_on(folders, crop):
    list_files.save(folders[0] / "mpii_train.npz", **list_files.arrays(list_files.H36M, keys=("part",)))
    list_files.write_images(folders[1], list_files.H36M)
    source, rng = _open(folders, "spin/mpii_train", "train"), np.random.default_rng(0)
    rows = [augment.training_example(r, rng, 32, strength=augment.SPIN, crop=crop) for r in source for _ in range(4)]
    batch = pipeline.collate(rows)
    assert batch["image"].shape == (12, 32, 32, 3) and batch["image"].dtype == np.uint8 and batch["kp2d_valid"].all()
    others = [v for key, v in batch.items() if key not in ("image", "example_hash")]
    assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in others)
    # The keypoints that stay visible are what the crop is made around.
    seen = np.abs(batch["kp2d"][batch["kp2d_input"] > 0])
    assert 0.5 < seen.max() < 2 and not batch["smpl_valid"].any() and not batch["joints3d_valid"].any()


def test_an_experiment_trains_on_spins_crops(folders):
    list_files.save(folders[0] / "mpii_train.npz", **list_files.arrays(list_files.H36M, keys=("part",)))
    list_files.write_images(folders[1], list_files.H36M)
    dirs = {"data__npz_dir": str(folders[0]), "data__image_dir": str(folders[1])}
    still = {"data__augment": "none", "data__occlusion": "none", "data__sets": ("synthetic_bodies/clean",)}
    sets = {"data__sets": ("spin/mpii_train",), "data__weights": (1.0,)}
    crop = {
        "data__crop": "spin",
        "data__contrast_stretch": True,
        "model__trunk": "resnet_small",
        "model__crop_size": 32,
    }
    config = tiny.config(**dirs | still | sets | crop)
    found = {row.tobytes() for row in next(training_data.stored_data(config, 3, 0).batches)["image"]}
    records = _open(folders, "spin/mpii_train", "train")
    expected = [spin_crops.warp(r["image"], r["box_center"], r["box_scale"], 32, stretch=True) for r in records]
    assert found == {image.tobytes() for image in expected}


def test_an_experiment_evaluates_on_spins_crop_of_a_list(folders):
    arrays = list_files.arrays(list_files.H36M, keys=("S", "pose", "shape"))
    list_files.save(folders[0] / "h36m_valid_protocol2.npz", **arrays)
    list_files.write_images(folders[1], list_files.H36M)
    dirs = {"data__npz_dir": str(folders[0]), "data__image_dir": str(folders[1]), "data__crop": "spin"}
    config = tiny.config(model__trunk="resnet_small", model__crop_size=32, data__contrast_stretch=True, **dirs)
    name = "spin/h36m_valid_protocol2"
    source = sources.open_source(config, name, "test")
    row = batches.evaluation_row(config, source[1])
    # SPIN, step by step: the box cut at whole pixels, stretched, resized by Pillow.
    side, (x, y) = 200 * arrays["scale"][1], arrays["center"][1]
    T = np.array([[32 / side, 0, 32 * (-x / side + 0.5)], [0, 32 / side, 32 * (-y / side + 0.5)], [0, 0, 1]])
    left, top, right, bottom = (int(v) for at in (0, 32) for v in (np.linalg.inv(T) @ [at, at, 1])[:2])
    pixels = source[1]["image"][max(top, 0) : bottom, max(left, 0) : right].astype(float)
    assert 0 <= left < right <= 96 and 0 <= top < bottom <= 88
    low, high = pixels.min(), pixels.max()
    stretched = ((pixels - low) * (255 / (high - low)) + 0.5).astype(np.uint8)
    expected = Image.fromarray(stretched).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(row["image"], np.asarray(expected))
    S = arrays["S"][1, :, :3]
    np.testing.assert_allclose(row["joints3d"], S - S[2:4].mean(0), atol=1e-6)
    root = Rotation.from_rotvec(arrays["pose"][1, :3]).as_matrix()
    np.testing.assert_allclose(row["rotmats"][0], root, atol=1e-6)
    assert sources.source_name(config, name).startswith("spin/h36m_valid_protocol2 (sha256 ")
    with pytest.raises(ValueError, match="contrast_stretch is a part of SPIN's crops"):
        config_checks.validate(tiny.config(data__contrast_stretch=True))
    with pytest.raises(ValueError, match="keypoints' sees none"):
        config_checks.validate(tiny.config(data__crop="spin", model__trunk="keypoints"))


SIDES = np.array([301, 450, 287, 360, 333])  # Pixels of a mask; 450 and 360 fit both factors in a list of either.


@pytest.mark.parametrize("factor", spin_lists.BOX_FACTORS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_factor_of_boxes_is_told_by_their_sides(factor, dtype):
    scale = (SIDES * factor / 200).astype(dtype).astype(np.float64)
    assert spin_lists.box_factor("h36m_valid_protocol2", scale) == factor
    assert spin_lists.box_factor("3dpw_test", scale) is None  # Of other sets nothing is known.
    assert spin_lists.box_factor("h36m_valid_protocol2", SIDES[[1, 3]] * 0.9 / 200) is None
    assert spin_lists.box_factor("h36m_valid_protocol2", np.append(scale, 1.2345)) is None


def _save_boxes(folders, stem, factors):
    arrays = list_files.arrays(list_files.H36M, keys=("S",))
    arrays["scale"] = np.array([301, 287, 331]) * factors / 200
    list_files.save(folders[0] / f"{stem}.npz", **arrays)


def test_boxes_of_two_kinds_in_one_list_are_refused(folders):
    _save_boxes(folders, "h36m_valid_protocol2", np.array([0.9, 0.9, 1.0]))
    with pytest.raises(
        spin_lists.ListError, match=r"that of row 0 has the factor 0.9, that of row 2 has the factor 1.0"
    ):
        spin_lists.read(folders[0] / "h36m_valid_protocol2.npz")


def test_lists_with_boxes_of_two_kinds_are_named_and_not_evaluated_together(folders):
    _save_boxes(folders, "h36m_valid_protocol1", 1.0)
    _save_boxes(folders, "h36m_valid_protocol2", 0.9)
    one, two = "spin/h36m_valid_protocol1", "spin/h36m_valid_protocol2+h36m-p2_amb3"
    list_files.save(folders[0] / "h36m-p2_amb3.npz", amb_center=np.zeros((3, 2)), amb_scale=np.ones(3))
    assert spin_lists.describe(one, str(folders[0])).endswith(", boxes x 1.0)")
    assert spin_lists.describe(two, str(folders[0])).endswith(", boxes x 0.9)")
    config = tiny.config(data__npz_dir=str(folders[0]), data__image_dir=str(folders[1]))
    sources.check_boxes(config, [one, "synthetic_bodies/clean"])
    for names in ([one, two], [f"{one}, {two}"]):
        with pytest.raises(
            spin_lists.ListError, match=rf"{one} 1.0, spin/h36m_valid_protocol2\+h36m-p2_amb3 0.9 times"
        ):
            sources.check_boxes(config, names)
    with pytest.raises(spin_lists.ListError, match="different kinds"):
        sources.open_first(config, {one: ("test",), two: ("test",)})
