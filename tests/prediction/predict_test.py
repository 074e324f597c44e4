"""Prediction with a stand-in for the network: what is written is right, and nothing wrong passes or gets lost."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from multibodies_jax import detection
from multibodies_jax.body import body_files, smpl
from multibodies_jax.data import crops, images, spin_crops
from multibodies_jax.export import page
from multibodies_jax.geometry import boxes, cameras, joints
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.models import flow
from multibodies_jax.prediction import people, predict, prediction_file, predictor, requantize, video
from multibodies_jax.tracking import frames
from multibodies_jax.training import multihost, prior, setup
from tests.helpers import tiny

M = 6
KEYPOINTS = np.array([[30 + 9 * (i % 5), 20 + 4 * i, 2] for i in range(17)], float)


@pytest.fixture(scope="module")
def body():
    """A small cloud of skinned triangles with SMPL's skeleton, and a network that answers with random bodies."""
    rng = np.random.default_rng(0)
    count = 60
    weights = np.eye(24)[np.arange(count) % 24]
    regressor = weights.T / weights.sum(0)[:, None]
    model = smpl.build(
        v_template=rng.normal(0, 0.4, (count, 3)),
        shapedirs=rng.normal(0, 0.01, (count, 3, 10)),
        posedirs=np.zeros((count, 3, 207)),
        weights=weights,
        J_regressor=regressor,
        faces=rng.permutation(count).reshape(-1, 3),
        parents=joints.SMPL_PARENTS,
    )
    files = dataclasses.replace(
        body_files.load(""),
        smpl=model,
        j49_regressor=np.concatenate([np.zeros((25, count)), regressor]).astype(np.float32),
        h36m_regressor=np.zeros((17, count), np.float32),
        description="test body",
        fingerprint="0" * 64,
    )
    joint_model = smpl.contract(model, regressor)
    bodies = setup.Bodies(smpl=model, j24=joint_model, h36m=joint_model, files=files)
    return bodies, jax.jit(functools.partial(_answer, joint_model))


def _answer(joint_model, example_hash):
    """Random bodies that depend on the example."""
    identity = jnp.tile(jnp.array([1.0, 0, 0, 1, 0, 0]), 24)
    mean = jnp.concatenate([identity, jnp.zeros(10), jnp.array([0.9, 0.0, 0.0])])

    key = jax.random.key(example_hash)
    state = mean[None, None] + 0.2 * jax.random.normal(key, (1, M, 157))
    found = hypotheses.decode(state.at[..., 154].set(0.9), joint_model)
    return dataclasses.replace(found, log_prior=jax.random.normal(key, (1, M)))


def _network(answer, seen=None):
    """Stands in for the network; keeps the inputs it saw."""

    def infer(inputs):
        if seen is not None:
            seen.append(inputs)
        return answer(inputs.example_hash[0])

    return infer


def _folder(tmp_path, names=("a.png", "b.jpg"), size=(120, 100)):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)).save(folder / name)
    return folder


def _people(tmp_path, names=("a.png", "b.jpg"), size=(120, 100), keypoints=KEYPOINTS):
    content = {
        "images": [{"id": i, "file_name": n, "width": size[0], "height": size[1]} for i, n in enumerate(names)],
        "annotations": [
            {"image_id": i, "bbox": [10, 10, 50, 80], "keypoints": keypoints.ravel().tolist()}
            for i in range(len(names))
        ],
    }
    path = tmp_path / "people.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _model(body, infer, crop_size=32, crop="exact", contrast_stretch=False):
    config = tiny.config(
        quantizer__temperature=1.0,
        quantizer__starts=2,
        model__crop_size=crop_size or 224,
        model__trunk="resnet_small" if crop_size else "keypoints",
        data__crop=crop,
        data__contrast_stretch=contrast_stretch,
        data__sets=("synthetic_bodies/clean",),
    )
    density = prior.Prior(None, flow.Flow(layers=1, width=4, dropout=0.0), None)
    return predictor.Predictor(config, {}, body[0], M, infer, density)


def _predict(body, folder, people_path, out, n=2, crop_size=32, seen=None, focal_px=None, detector=None, **crop):
    model = _model(body, _network(body[1], seen), crop_size, **crop)
    return predict.predict(model, folder, people_path, n, out, focal_px, refine=False, detector=detector)


@pytest.mark.slow
def test_every_person_gets_a_file_and_a_picture(tmp_path, body):
    seen = []
    failures = _predict(body, _folder(tmp_path), _people(tmp_path), tmp_path / "out", seen=seen)
    assert failures == 0
    names = [f"{image}{end}" for image in "ab" for end in (".glb", ".html", "_0.npz", "_0.png")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "index.html"]
    assert 'href="b.html"' in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    record = prediction_file.load(tmp_path / "out" / "b_0.npz")
    assert record["joints24"].shape == (2, 24, 3) and record["all_rotmats"].shape == (M, 24, 3, 3)
    assert record["probabilities"].sum() == pytest.approx(1)
    assert [str(record[k]) for k in ("image", "body", "trained_on")] == ["b.jpg", "test body", "synthetic people"]
    assert tuple(record["joint_names"]) == joints.J24
    np.testing.assert_array_equal(record["image_size"], [120, 100])
    picture = np.asarray(Image.open(tmp_path / "out" / "b_0.png"))
    assert picture.shape[1] > 3 * picture.shape[2] and picture.std() > 10


@pytest.mark.slow
def test_the_inputs_are_what_the_pipeline_would_make(tmp_path, body):
    seen = []
    folder = _folder(tmp_path)
    _predict(body, folder, _people(tmp_path), tmp_path / "out", seen=seen)
    inputs = jax.tree.map(np.asarray, seen[0])
    keypoints = joints.to_j24(KEYPOINTS.astype(np.float32), "coco17")
    known = keypoints[:, 2] > 0
    low, high = keypoints[known, :2].min(0), keypoints[known, :2].max(0)
    center, side = (low + high) / 2, 1.1 * (high - low).max()
    np.testing.assert_allclose(inputs.evidence[0, known], (keypoints[known, :2] - center) / (side / 2), atol=1e-5)
    np.testing.assert_array_equal(inputs.evidence[0, ~known], 0)
    np.testing.assert_array_equal(inputs.kp2d_input[0], known)
    expected = crops.warp(images.load_image(folder / "a.png"), boxes.affine(center, side / 200, 32), 32)
    np.testing.assert_array_equal(inputs.image[0], expected)
    assert inputs.example_hash[0] != np.asarray(seen[1].example_hash)[0]


@pytest.mark.slow
def test_a_network_of_spins_crops_sees_them(tmp_path, body):
    seen, folder = [], _folder(tmp_path)
    _predict(body, folder, _people(tmp_path), tmp_path / "out", seen=seen, crop="spin", contrast_stretch=True)
    record = prediction_file.load(tmp_path / "out" / "a_0.npz")
    place = record["box_center"], float(record["box_scale"]), 32
    expected = spin_crops.warp(images.load_image(folder / "a.png"), *place, stretch=True)
    np.testing.assert_array_equal(np.asarray(seen[0].image)[0], expected)
    points = spin_crops.to_crop(record["keypoints"][:, :2], *place) * (record["keypoints"][:, 2:] > 0)
    np.testing.assert_allclose(np.asarray(seen[0].evidence)[0], points, atol=1e-6)


@pytest.mark.slow
def test_the_full_camera_shows_joints_where_the_crop_camera_does(tmp_path, body):
    _predict(body, _folder(tmp_path), _people(tmp_path), tmp_path / "out")
    record = prediction_file.load(tmp_path / "out" / "a_0.npz")
    homogeneous = record["joints24_camera"].astype(np.float64) @ record["intrinsics"].T
    full_px = homogeneous[..., :2] / homogeneous[..., 2:]
    points, cam = jnp.asarray(record["joints24"] + record["midhip"][:, None]), jnp.asarray(record["cam"])
    crop = cameras.project_crop(points, cam, prediction_file.crop_focal(record))
    crop_px = record["box_center"] + np.asarray(crop) * 100 * record["box_scale"]
    np.testing.assert_allclose(full_px, crop_px, atol=2e-2)
    known = record["keypoints"][:, 2] > 0
    error = np.linalg.norm(full_px - record["keypoints"][:, :2], axis=-1)[:, known].mean(1)
    np.testing.assert_allclose(record["error_px"], error, atol=2e-2)


@pytest.mark.slow
def test_chosen_bodies_are_among_the_hypotheses(tmp_path, body):
    _predict(body, _folder(tmp_path), _people(tmp_path), tmp_path / "out", n=3)
    record = prediction_file.load(tmp_path / "out" / "a_0.npz")
    assert len(set(record["index"])) == 3
    for name in ("rotmats", "betas", "cam", "joints24", "midhip", "translation", "log_prior", "error_px"):
        np.testing.assert_array_equal(record[name], record[f"all_{name}"][record["index"]])
    assert (np.diff(record["probabilities"]) <= 0).all()


@pytest.mark.slow
def test_without_a_people_file_the_image_is_the_box(tmp_path, body):
    assert _predict(body, _folder(tmp_path), None, tmp_path / "out") == 0
    record = prediction_file.load(tmp_path / "out" / "a_0.npz")
    np.testing.assert_allclose(record["box_center"], [60, 50])
    assert record["box_scale"] == pytest.approx(0.6)
    assert np.isnan(record["error_px"]).all()


def test_bad_images_are_named_skipped_and_counted(tmp_path, body, capsys):
    folder = _folder(tmp_path)
    whole = (folder / "b.jpg").read_bytes()
    (folder / "c.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "stranger.png").write_bytes((folder / "a.png").read_bytes())
    listed = _people(tmp_path, ("a.png", "b.jpg", "c.jpg"))
    assert _predict(body, folder, listed, tmp_path / "out") == 2
    errors = capsys.readouterr().err
    assert "c.jpg: cannot be read as an image" in errors
    assert "stranger.png: not among the images of the people file (OpenPose's and MMPose's files are named" in errors
    assert "after their image: stranger_keypoints.json, stranger.json)" in errors
    assert len(list((tmp_path / "out").glob("*.npz"))) == 2


def test_a_photograph_that_the_focal_length_does_not_fit_is_skipped_and_the_others_are_predicted(
    tmp_path, body, capsys
):
    folder = _folder(tmp_path)
    with Image.open(folder / "b.jpg") as small:
        small.resize((1200, 1000)).save(folder / "b.jpg")
    assert _predict(body, folder, None, tmp_path / "out", n=1, focal_px=30000.0) == 1
    assert (
        "skipped a.png, person 0: A focal length of 30000 px is none of a photograph of 120 x 100"
        in capsys.readouterr().err
    )
    assert [path.name for path in (tmp_path / "out").glob("*.npz")] == ["b_0.npz"]


def test_files_that_are_not_read_and_results_that_are_replaced_are_named(tmp_path, body, capsys):
    folder, people_path = _folder(tmp_path, names=("a.png",)), _people(tmp_path, names=("a.png",))
    (folder / "photo.heic").write_bytes(b"x")
    (folder / "._a.png").write_bytes(b"x")
    assert _predict(body, folder, people_path, tmp_path / "out", n=1) == 0
    told = capsys.readouterr().err
    assert "photo.heic" in told and "._a.png" not in told and "replaced" not in told
    assert _predict(body, folder / "a.png", people_path, tmp_path / "out", n=1) == 0
    told = capsys.readouterr().err
    assert "has 1 predictions of these names (a_0.npz): they are replaced" in told and "photo.heic" not in told


def test_an_image_of_another_size_than_annotated_is_skipped(tmp_path, body, capsys):
    folder = _folder(tmp_path)
    assert _predict(body, folder, _people(tmp_path, size=(100, 120)), tmp_path / "out") == 2
    assert "(120, 100) pixels, the people file says (100, 120)" in capsys.readouterr().err


def test_a_model_of_keypoints_needs_some(tmp_path, body, capsys):
    folder = _folder(tmp_path, ("a.png",))
    listed = _people(tmp_path, ("a.png",), keypoints=0 * KEYPOINTS)
    seen = []
    assert _predict(body, folder, listed, tmp_path / "out", crop_size=0, seen=seen) == 0  # As COCO's far people.
    shown = capsys.readouterr()
    assert "left out a.png, person 0: without known keypoints" in shown.err and not seen
    assert "0 people written" in shown.out and "1 without known keypoints left out" in shown.out
    listed = _people(tmp_path, ("a.png",))
    assert _predict(body, folder, listed, tmp_path / "out", crop_size=0, seen=seen) == 0
    assert seen[0].image is None


def test_entries_that_cannot_be_used_are_named_and_the_others_keep_their_place_and_id(tmp_path, body, capsys):
    listed = _people(tmp_path, ("a.png",))
    content = json.loads(listed.read_text(encoding="utf-8"))
    (first,) = content["annotations"]
    others = [{"iscrowd": 1}, {"bbox": "x"}, {"id": 900_100_000_001}, {"image_id": 5}]
    content["annotations"] = [first | other for other in others]
    listed.write_text(json.dumps(content), encoding="utf-8")
    assert _predict(body, _folder(tmp_path, ("a.png",)), listed, tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "annotations[3] belongs to image_id 5" in told and "a.png: " in told and "annotations[1].bbox" in told
    record = prediction_file.load(tmp_path / "out" / "a_2.npz")
    assert record["person"] == 2 and record["annotation"] == "900100000001"
    assert [path.name for path in (tmp_path / "out").glob("*.npz")] == ["a_2.npz"]


def test_an_image_without_people_counts(tmp_path, body, capsys):
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}
    (tmp_path / "people.json").write_text(json.dumps(content), encoding="utf-8")
    assert _predict(body, _folder(tmp_path, ("a.png",)), tmp_path / "people.json", tmp_path / "out") == 1
    assert "lists nobody" in capsys.readouterr().err


def test_images_of_one_name_are_refused(tmp_path, body):
    with pytest.raises(ValueError, match=r"images/a'\]; results are named after them"):
        _predict(body, _folder(tmp_path, ("a.png", "a.jpg")), None, tmp_path / "out")


def test_more_bodies_than_hypotheses_are_refused(tmp_path, body):
    with pytest.raises(ValueError, match=f"n={M + 1}; choose 1 to {M}"):
        _predict(body, _folder(tmp_path, ("a.png",)), None, tmp_path / "out", n=M + 1)


def test_answers_that_are_not_finite_are_not_written(tmp_path, body, capsys):
    def infer(inputs):
        found = _network(body[1])(inputs)
        return dataclasses.replace(found, cam=found.cam.at[0, 1].set(jnp.nan))

    folder = _folder(tmp_path, ("a.png",))
    assert predict.predict(_model(body, infer), folder, None, 2, tmp_path / "out") == 1
    assert "not finite" in capsys.readouterr().err and not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_no_person_depends_on_the_others(tmp_path, body):
    folder, listed = _folder(tmp_path), _people(tmp_path)
    _predict(body, folder, listed, tmp_path / "all")
    _predict(body, folder / "b.jpg", listed, tmp_path / "one")
    assert not (tmp_path / "one" / "a_0.npz").exists()
    together, alone = (prediction_file.load(tmp_path / d / "b_0.npz") for d in ("all", "one"))
    for name in together:
        np.testing.assert_array_equal(together[name], alone[name])


@pytest.mark.slow
def test_requantizing_equals_predicting_with_that_n(tmp_path, body, capsys):
    folder, listed = _folder(tmp_path, ("a.png",)), _people(tmp_path, ("a.png",))
    _predict(body, folder, listed, tmp_path / "two")
    _predict(body, folder, listed, tmp_path / "three", n=3)
    out = tmp_path / "again" / "a.npz"
    assert requantize.main([str(tmp_path / "two" / "a_0.npz"), "--n=3", f"--out={out}"]) == 0
    assert "Written to" in capsys.readouterr().out
    again, three = prediction_file.load(out), prediction_file.load(tmp_path / "three" / "a_0.npz")
    assert set(again) == set(three)
    for name in three:
        np.testing.assert_array_equal(again[name], three[name])


def test_requantize_refuses_what_it_cannot_do(tmp_path, body, capsys):
    folder = _folder(tmp_path, ("a.png",))
    _predict(body, folder, None, tmp_path / "out")
    file = tmp_path / "out" / "a_0.npz"
    before = file.read_bytes()
    assert requantize.main([str(file), "--n=7", f"--out={file}"]) == 2
    assert "choose 1 to 6" in capsys.readouterr().err and file.read_bytes() == before
    assert requantize.main([str(folder / "a.png"), "--n=1", f"--out={file}"]) == 2
    assert "a.png cannot be read as an archive of arrays" in capsys.readouterr().err and file.read_bytes() == before
    with pytest.raises(SystemExit) as leave:
        requantize.main(["--help"])
    assert leave.value.code == 0 and "requantize" in capsys.readouterr().out


@pytest.fixture(scope="module")
def good(tmp_path_factory, body):
    folder = tmp_path_factory.mktemp("good")
    _predict(body, _folder(folder, ("a.png",)), None, folder / "out")
    return prediction_file.load(folder / "out" / "a_0.npz")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("all_cam", None, "all_cam is missing"),
        ("all_cam", np.zeros((M, 4), np.float32), "expected"),
        ("all_cam", np.zeros((M + 1, 3), np.float32), "expected"),
        ("all_cam", np.full((M, 3), np.nan), "not finite"),
        ("all_betas", np.full((M, 10), "x"), "expected the shape"),
        ("image", np.array(3), "expected the shape"),
        ("format", np.array(3), "format 3"),
        ("focal_px", np.array(0.0), "have to be positive"),
        ("body_fingerprint", None, "body_fingerprint is missing"),
        ("quantizer", np.array("{"), "settings are damaged"),
        ("quantizer", np.array('{"speed": 3}'), "settings are damaged"),
        ("quantizer", np.array('{"temperature": -3.0}'), "settings are damaged.*temperature is -3"),
    ],
)
def test_damaged_predictions_are_refused(tmp_path, good, name, value, message):
    record = dict(good)
    del record[name]
    if value is not None:
        record[name] = value
    prediction_file.save(tmp_path / "bad.npz", record)
    with pytest.raises(prediction_file.PredictionError, match=rf"bad\.npz.*{message}"):
        prediction_file.requantize(tmp_path / "bad.npz", 1, tmp_path / "new.npz")
    assert not (tmp_path / "new.npz").exists()


def test_an_optional_array_that_is_misspelt_is_not_absent(tmp_path, good):
    record = {"p1aced" if name == "placed" else name: value for name, value in good.items()}
    prediction_file.save(tmp_path / "bad.npz", record)
    with pytest.raises(
        prediction_file.PredictionError, match=r"bad\.npz has 'p1aced', and 'placed', which it resembles"
    ):
        prediction_file.load(tmp_path / "bad.npz")


def test_pickles_are_never_opened(tmp_path):
    np.savez(tmp_path / "bad.npz", all_cam=np.array([{"a": 1}], dtype=object))
    with pytest.raises(prediction_file.PredictionError, match="allow_pickle"):
        prediction_file.load(tmp_path / "bad.npz")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    prediction_file.save(path, {"x": np.arange(3)})
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="No space"):
        prediction_file.save(path, {"x": np.arange(4)})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        (("synthetic_bodies/clean", "synthetic_bodies/ambiguous"), "synthetic people"),
        (("h36m/p1", "synthetic_bodies/clean"), "h36m/p1, synthetic_bodies/clean"),
        (None, "virtual views of synthetic_poses"),
    ],
)
def test_results_name_the_training_data(body, sets, text):
    config = tiny.config(data__sets=sets)
    assert dataclasses.replace(_model(body, _network(body[1])), config=config).trained_on == text


def test_boxes_of_people_are_those_of_the_files(tmp_path):
    entry = people.read_people(_people(tmp_path))["a.png"]
    assert entry.size == (120, 100) and entry.people[0].bbox == (10, 10, 50, 80)


def test_the_photographs_camera_is_stored_for_all_hypotheses(tmp_path, body, capsys):
    folder, listed = _folder(tmp_path, ("a.png",)), _people(tmp_path, ("a.png",))
    _predict(body, folder, listed, tmp_path / "out", focal_px=400.0)
    assert "a.png: focal length 400 px (111 mm on 35 mm film), as given" in capsys.readouterr().out
    record = prediction_file.load(tmp_path / "out" / "a_0.npz")
    assert record["focal_px"] == 400 and record["focal_source"] == "given"
    np.testing.assert_array_equal(record["principal_point"], [60, 50])
    np.testing.assert_array_equal(record["photo_translation"], record["all_photo_translation"][record["index"]])


def test_the_assumed_focal_length_is_explained_once(tmp_path, body, capsys):
    _predict(body, _folder(tmp_path), _people(tmp_path), tmp_path / "out")
    out = capsys.readouterr().out
    assert out.count("assumed: the file says nothing usable") == 1
    assert "b.jpg: focal length 181 px (50 mm on 35 mm film), assumed as above." in out


def test_files_of_format_1_are_read_with_the_assumed_camera(tmp_path, body):
    _predict(body, _folder(tmp_path, ("a.png",)), _people(tmp_path, ("a.png",)), tmp_path / "out")
    record = prediction_file.load(tmp_path / "out" / "a_0.npz")
    added = (
        "focal_px",
        "focal_source",
        "principal_point",
        "photo_rotation",
        "photo_translation",
        "all_photo_translation",
    )
    old = {name: value for name, value in record.items() if name not in (*added, "body_fingerprint")}
    prediction_file.save(tmp_path / "old.npz", old | {"format": np.array(1)})
    again = prediction_file.load(tmp_path / "old.npz")
    assert again["body_fingerprint"] == "" and again["format"] == 2
    for name in added:
        np.testing.assert_array_equal(again[name], record[name])


def _detections(*reasons):
    """One person for each reason not to use it ("" uses it)."""
    return [
        detection.Detection(
            KEYPOINTS[:, :2].astype(np.float32), np.full(17, 0.9, np.float32), (10.0, 10.0, 50.0, 80.0), 0.9, reason
        )
        for reason in reasons
    ]


def test_a_model_of_keypoints_asks_the_detector(tmp_path, body, capsys):
    folder, seen = _folder(tmp_path, ("a.png",)), []
    finds = lambda image: _detections("", "too small: 9 x 9 pixels, and 32 are needed")  # noqa: E731
    assert _predict(body, folder, None, tmp_path / "out", crop_size=0, seen=seen, detector=finds) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npz")) == ["a_0.npz"] and len(seen) == 1
    assert "a.png: The person in the box" in capsys.readouterr().err
    listed = prediction_file.load(tmp_path / "out" / "a_0.npz")["keypoints"]
    np.testing.assert_allclose(listed, joints.to_j24(KEYPOINTS.clip(max=[1e9, 1e9, 1]).astype(np.float32), "coco17"))


def test_an_image_in_which_nobody_is_found_is_named(tmp_path, body, capsys):
    folder = _folder(tmp_path)
    for reasons, message in (
        ((), "found no person in this image of 120 x 100"),
        (("too small",), "not used: too small"),
    ):
        finds = lambda image, reasons=reasons: _detections(*reasons)  # noqa: E731
        assert _predict(body, folder, None, tmp_path / "out", crop_size=0, detector=finds) == 2
        told = capsys.readouterr().err
        assert message in told and "Give keypoints with --people=FILE" in told and "a.png" in told and "b.jpg" in told
    assert not list((tmp_path / "out").iterdir())


def test_several_paths_are_predicted_once_each(tmp_path, body):
    folder = _folder(tmp_path)
    given = [folder / "a.png", folder, folder / "a.png"]
    assert _predict(body, given, _people(tmp_path), tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("*.npz"))) == 2


def test_videos_are_predicted_as_videos(tmp_path, body, monkeypatch):
    called = []
    monkeypatch.setattr(video, "predict_video", lambda *arguments: called.append(arguments[1:]) or 3)
    folder, listed = _folder(tmp_path, ("a.png",)), _people(tmp_path, ("a.png",))
    (tmp_path / "clip.MP4").touch()
    assert _predict(body, [tmp_path / "clip.MP4", folder], listed, tmp_path / "out", n=1, focal_px=300.0) == 3
    ((*arguments, read),) = called
    assert arguments == [tmp_path / "clip.MP4", tmp_path / "out", 1, 300.0, False, None, listed]
    assert list(read) == ["a.png"]
    assert (tmp_path / "out" / "a_0.npz").exists()


def test_a_video_that_cannot_be_decoded_is_named_and_the_other_inputs_are_predicted(tmp_path, body, capsys):
    folder, listed, clip = _folder(tmp_path, ("a.png",)), _people(tmp_path, ("a.png",)), tmp_path / "clip.mp4"
    clip.write_bytes(b"no video")
    assert _predict(body, [clip, folder], listed, tmp_path / "out", n=1) == 1
    assert "skipped" in (told := capsys.readouterr().err) and str(clip) in told
    assert (tmp_path / "out" / "a_0.npz").exists()
    with pytest.raises(frames.VideoError, match="clip"):
        _predict(body, clip, None, tmp_path / "out", n=1)
    assert _predict(body, [clip, shutil.copy(clip, tmp_path / "other.mp4")], listed, tmp_path / "out", n=1) == 2
    assert "2 skipped (named above)" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"absent\.mp4: not there"):
        _predict(body, [folder, tmp_path / "absent.mp4"], listed, tmp_path / "out", n=1)


@pytest.mark.parametrize("focal", [-5.0, float("nan"), float("inf"), 0.0])
def test_a_focal_length_of_no_photograph_is_refused_before_any_is_read(tmp_path, body, focal):
    with pytest.raises(ValueError, match=f"--focal={focal}; give the focal length"):
        _predict(body, _folder(tmp_path, ("a.png",)), None, tmp_path / "out", focal_px=focal)
    assert not (tmp_path / "out").exists()


def test_pages_of_several_processes_are_listed_in_the_order_of_the_photographs(tmp_path, body, monkeypatch):
    """The second of two processes, which predicts a.png: c.png and b.png are the first one's."""
    entries = {name: page.Entry(f"{name}.html", name, "", np.zeros((2, 2, 3), np.uint8)) for name in "bc"}
    seen = []

    def gathered(arrays):
        first = [
            part
            for number, entry in zip((2, 0), (entries["b"], entries["c"]), strict=True)
            for part in (np.array(number), np.array([entry.link, entry.title, entry.text]), entry.picture)
        ]
        return [first if len(arrays) > 1 else [np.array([0, 0, 2])], list(arrays)]

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(multihost, "gathered", gathered)
    monkeypatch.setattr(multihost, "is_first", lambda: True)  # So that the page is written.
    monkeypatch.setattr(multihost, "on_first", lambda action, name: seen.append(name))
    folder, out = _folder(tmp_path, ("a.png", "b.png", "c.png")), tmp_path / "out"
    assert _predict(body, [folder / f"{name}.png" for name in "cab"], None, out, n=1) == 0
    index = (out / "index.html").read_text(encoding="utf-8")
    assert index.index("c.html") < index.index("a.html") < index.index("b.html")
    assert seen == ["predict"] and [path.name for path in out.glob("*.npz")] == ["a_0.npz"]


@pytest.mark.slow
def test_files_of_one_name_have_their_results_in_folders_like_theirs(tmp_path, body, capsys, monkeypatch):
    folder, out = _folder(tmp_path, ("a.png",)), tmp_path / "out"
    other = tmp_path / "more" / "b.png"
    other.parent.mkdir()
    shutil.copy(folder / "a.png", other.with_name("a.png"))
    shutil.copy(folder / "a.png", other)
    assert _predict(body, [folder, other.parent], None, out, n=1) == 0
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.npz"))
    assert written == ["images/a_0.npz", "more/a_0.npz", "more/b_0.npz"]
    first, second = (prediction_file.load(out / name / "a_0.npz") for name in ("images", "more"))
    np.testing.assert_array_equal(first["index"], second["index"])  # As without the other folder.
    index = (out / "index.html").read_text(encoding="utf-8")
    assert index.index('href="images/a.html"') < index.index('href="more/a.html"') < index.index('href="more/b.html"')
    assert "Several files are named ['a']: results lie in folders of" in capsys.readouterr().err
    called = []
    (tmp_path / "a.mp4").touch()
    monkeypatch.setattr(video, "predict_video", lambda *arguments: called.append(arguments[1:3]) or 0)
    assert _predict(body, [tmp_path / "a.mp4", folder / "a.png"], None, out, n=1) == 0
    assert called == [(tmp_path / "a.mp4", out)] and "replaced" in capsys.readouterr().err


def test_people_of_an_earlier_prediction_do_not_stay(tmp_path, body, capsys):
    folder, out = _folder(tmp_path, ("c.jpg", "c_1.jpg", "c.png")), tmp_path / "out"
    two = lambda image: _detections("", "")  # noqa: E731
    one = lambda image: _detections("")  # noqa: E731
    for name in ("c.jpg", "c_1.jpg"):
        assert _predict(body, folder / name, None, out, n=1, crop_size=0, detector=two) == 0
    shutil.copy(out / "c_1.npz", out / "kept.npz")
    prediction_file.save(out / "c_7.npz", prediction_file.load(out / "c_1.npz") | {"image": np.array("c.png")})
    capsys.readouterr()
    assert _predict(body, folder / "c.jpg", None, out, n=1, crop_size=0, detector=one) == 0
    told = capsys.readouterr().err
    assert "has 3 predictions of these names (c_0.npz, c_1.npz, c_7.npz)" in told
    assert f"Removed from {out}, as the new prediction has none of these: c_1.npz, c_1.png" in told
    left = sorted(path.stem for path in out.glob("*.npz"))
    assert left == ["c_0", "c_1_0", "c_1_1", "c_7", "kept"]  # Those of c_1.jpg and of c.png are not of c.jpg.
    assert sorted(path.stem for path in out.glob("*.png")) == ["c_0", "c_1_0", "c_1_1"]


def test_a_photograph_is_never_replaced_by_a_result(tmp_path, body):
    folder, seen = _folder(tmp_path, ("a.jpg", "a_0.png")), []
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"a_0\.png is one of the files to predict, and a result of .*a\.jpg may have"):
        _predict(body, folder, None, folder, seen=seen)
    with pytest.raises(ValueError, match=r"a_0\.png belongs to no prediction, and a result of .*a\.jpg may have"):
        _predict(body, folder / "a.jpg", None, folder, seen=seen)
    assert before == {path: path.read_bytes() for path in folder.iterdir()} and not seen
    for _ in range(2):  # The pictures of the first time are replaced.
        assert _predict(body, folder, None, tmp_path / "out", n=1) == 0


def test_a_person_far_outside_the_image_is_skipped(tmp_path, body, capsys):
    moved = KEYPOINTS + np.array([[500.0, 0, 0]])
    content = json.loads(_people(tmp_path, ("a.png",), keypoints=moved).read_text(encoding="utf-8"))
    del content["images"][0]["width"], content["images"][0]["height"]  # Read without a size, so that `predict` checks.
    (tmp_path / "people.json").write_text(json.dumps(content), encoding="utf-8")
    folder = _folder(tmp_path, ("a.png",))
    assert _predict(body, folder, tmp_path / "people.json", tmp_path / "out") == 1
    assert "a.png, person 0: the person has known keypoints outside the image of 120 x 100" in capsys.readouterr().err


def test_photographs_are_reported_in_order_and_all_are_on_the_index_page(tmp_path, body, capsys):
    """Files are written while the next photograph is predicted."""
    folder, out = _folder(tmp_path, ("a.png", "b.png", "c.png")), tmp_path / "out"
    assert _predict(body, folder, None, out, n=1) == 0
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    rows = [word.rstrip(":") for word in said if word[:2] in ("a_", "a.", "b_", "b.", "c_", "c.")]
    assert rows == ["a_0", "a.png", "b_0", "b.png", "c_0", "c.png"]
    index = (out / "index.html").read_text(encoding="utf-8")
    assert index.index("a.html") < index.index("b.html") < index.index("c.html")


def test_what_cannot_be_written_stops_the_program(tmp_path, body):
    folder, out = _folder(tmp_path, ("a.png", "b.png")), tmp_path / "out"
    (out / "a.glb").mkdir(parents=True)
    (out / "a.glb" / "something").touch()
    with pytest.raises(OSError, match=r"a\.glb"):
        _predict(body, folder, None, out, n=1)
    assert not (out / "index.html").exists()


def test_bodies_behind_the_camera_are_written_and_named(tmp_path, body, capsys):
    folder = _folder(tmp_path, ("a.png",))

    def behind(example_hash):
        found = body[1](example_hash)
        return dataclasses.replace(found, cam=-found.cam)

    model = _model(body, _network(behind))
    assert predict.predict(model, folder, _people(tmp_path, ("a.png",)), 2, tmp_path / "out", refine=False) == 0
    assert "a_0 is implausible: Of the 2 bodies, 0, 1 have a camera whose scale" in capsys.readouterr().err
    record = prediction_file.load(tmp_path / "out" / "a_0.npz")
    assert str(record["warnings"]).startswith("Of the 2 bodies, 0, 1")
