"""Images of SPIN-format lists, in every layout of their folders that is known."""

import pytest

from multibodies_jax.data import image_layouts

_H36M = [f"images/S9_Directions_1.60457274_{i:06d}.jpg" for i in (1, 6, 11)]
_3DPW = ["imageFiles/downtown_a_00/image_00000.jpg", "imageFiles/downtown_a_00/image_00001.jpg"]
_LAYOUTS = [
    # Subaction 1 of Directions is "Directions 1" for S9; its camera 60457274 is the fourth.
    (_H36M, "h36m_valid_protocol2", path)
    for path in (
        "images/S9_Directions_1.60457274_{:06d}.jpg",
        "S9_Directions_1.60457274_{:06d}.jpg",
        "S9/images/S9_Directions_1.60457274/S9_Directions_1.60457274_{:06d}.jpg",
        "S9/S9_Directions_1.60457274/S9_Directions_1.60457274_{:06d}.jpg",
        "images/s_09_act_02_subact_01_ca_04/s_09_act_02_subact_01_ca_04_{:06d}.jpg",
        "s_09_act_02_subact_01_ca_04/s_09_act_02_subact_01_ca_04_{:06d}.jpg",
        "S9/Directions-1/imageSequence/60457274/img_{:06d}.jpg",
    )
] + [
    (["S1/Seq2/imageFrames/video_4/frame_000011.jpg"], "mpi_inf_3dhp_train", path)
    for path in (
        "S1/Seq2/imageFrames/video_4/frame_0000{}.jpg",
        "S1/Seq2/video_4/0000{}.jpg",
        "S1_Seq2_Cam4_0000{}.jpg",
        "S1/Seq2/imageFrames/img_4_0000{}.jpg",
        "S1/Seq2/images/S1_Seq2_V4/img_S1_Seq2_V4_0000{}.jpg",
    )
] + [(_3DPW, "3dpw_test", path) for path in ("downtown_a_00/image_{:05d}.jpg", "imageFiles/imageFiles/downtown_a_00/image_{:05d}.jpg")]  # fmt: skip


@pytest.mark.parametrize(("names", "stem", "template"), _LAYOUTS)
@pytest.mark.parametrize("side_by_side", [False, True])
def test_images_are_found_in_every_layout(tmp_path, names, stem, template, side_by_side):
    root = (
        tmp_path / image_layouts.DATASETS[["h36m", "3dpw", "mpi_"].index(stem[:4])].folders[0]
        if side_by_side
        else tmp_path
    )
    files = [root / template.format(int(name[-8:-4].lstrip("_"))) for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    layout = image_layouts.find(tmp_path, stem, names)
    assert [layout.path(name) for name in names] == files


@pytest.mark.parametrize(
    ("spin", "numbers"),
    [
        ("S1_TakingPhoto.54138969", "s_01_act_12_subact_02_ca_01"),
        ("S5_Discussion_3.55011271", "s_05_act_03_subact_02_ca_02"),
        ("S6_WalkDog_1.58860488", "s_06_act_15_subact_01_ca_03"),
        ("S8_WalkTogether_2.60457274", "s_08_act_16_subact_02_ca_04"),
        ("S9_SittingDown.60457274", "s_09_act_10_subact_01_ca_04"),
        ("S11_Phoning_3.60457274", "s_11_act_06_subact_01_ca_04"),
    ],
)
def test_takes_of_human36m_have_the_numbers_of_its_metadata(tmp_path, spin, numbers):
    # Both ways: a list of either kind finds the images of the other.
    for i, (there, listed) in enumerate([(f"{numbers}/{numbers}", spin), (spin, f"{numbers}/{numbers}")]):
        file = tmp_path / str(i) / "images" / f"{there}_000006.jpg"
        file.parent.mkdir(parents=True)
        file.touch()
        assert (
            image_layouts.find(tmp_path / str(i), "h36m_train", [f"{listed}_000006.jpg"]).path(f"{listed}_000006.jpg")
            == file
        )


@pytest.mark.parametrize(
    "name",
    [
        "images/S5_Discussion_3.55011271_000006.jpg",
        "s_05_act_03_subact_02_ca_02/s_05_act_03_subact_02_ca_02_000006.jpg",
        "S5/Discussion-2/imageSequence/55011271/img_000006.jpg",
        "S5/Discussion 3.55011271/5.jpg",
        "S5/Images/Discussion 3.55011271/frame_5.jpg",
    ],
)
def test_every_name_of_a_frame_of_human36m_says_the_same(tmp_path, name):
    (h36m,) = (dataset for dataset in image_layouts.DATASETS if dataset.stem == "h36m")
    assert image_layouts.parse(name, h36m) == {
        **{"subject": 5, "take": "Discussion_3", "camera": "55011271", "frame": 6, "stem": "Discussion 3", "index": 5},
        **{"action": 3, "action_name": "Discussion", "subaction": 2, "view": 2},
    }
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.touch()
    listed = "images/S5_Discussion_3.55011271_000006.jpg"
    assert image_layouts.find(tmp_path, "h36m_train", [listed]).path(listed) == file


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../secret.jpg", "/etc/secret.jpg", "a\\b.jpg", ""])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is no path below a folder of images"):
        image_layouts.find(tmp_path, "3dpw_test", [name])
    layout = image_layouts.Layout(tmp_path, "{sequence}/image_{frame:05d}.jpg", image_layouts.DATASETS[1])
    with pytest.raises(ValueError, match="is no path below a folder of images"):
        layout.path(name)


def test_the_first_image_that_is_there_decides_and_others_follow_its_layout(tmp_path):
    there = tmp_path / "downtown_a_00" / "image_00001.jpg"
    there.parent.mkdir()
    there.touch()
    layout = image_layouts.find(tmp_path, "3dpw_test", _3DPW)  # The first of the two is missing.
    assert layout.template == "{sequence}/image_{frame:05d}.jpg"
    assert layout.path(_3DPW[0]) == there.with_name("image_00000.jpg")
    assert layout.path("holidays.jpg") is None


def test_lists_of_unknown_datasets_are_read_by_their_own_names(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert image_layouts.find(tmp_path, "mine", ["a.jpg"]).path("b.jpg") == tmp_path / "b.jpg"
    with pytest.raises(ValueError, match=r"(?s)None of 1 images of mine\.npz .* one of.*c\.jpg\nbut .* has a\.jpg"):
        image_layouts.find(tmp_path, "mine", ["c.jpg"])
    with pytest.raises(ValueError, match="but there is no such folder"):
        image_layouts.find(tmp_path / "no", "mine", ["c.jpg"])
