import numpy as np
import pytest

from multibodies_jax.geometry import joints

FLIPS = {
    "smpl24": (joints.SMPL24, joints.SMPL_FLIP),
    "j24": (joints.J24, joints.J24_FLIP),
    "j14": (joints.J14, joints.flip_map(joints.J14)),
    "h36m17": (joints.H36M17, joints.flip_map(joints.H36M17)),
    "coco17": (joints.COCO17, joints.flip_map(joints.COCO17)),
    "openpose25": (joints.OPENPOSE25, joints.flip_map(joints.OPENPOSE25)),
    "openpose18": (joints.OPENPOSE18, joints.flip_map(joints.OPENPOSE18)),
    "halpe26": (joints.HALPE26, joints.flip_map(joints.HALPE26)),
}
MAPS_TO_J24 = {
    "j14": joints.index_map(joints.J14, joints.J24),
    "h36m17": joints.J24_FROM_H36M17,
    "coco17": joints.J24_FROM_COCO17,
    "openpose25": joints.J24_FROM_OPENPOSE25,
    "openpose18": joints.index_map(joints.OPENPOSE18, joints.J24),
    "halpe26": joints.index_map(joints.HALPE26, joints.J24),
}


@pytest.mark.parametrize("name", FLIPS)
def test_flips_are_involutions_that_swap_left_and_right(name):
    names, flip = FLIPS[name]
    np.testing.assert_array_equal(flip[flip], np.arange(len(names)))
    for joint, other in zip(names, flip, strict=True):
        swapped = joint.replace("left_", "LEFT_").replace("right_", "left_").replace("LEFT_", "right_")
        assert names[other] == swapped


def test_flips_have_the_published_values():
    smpl = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
    j24 = [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13, 14, 15, 16, 17, 18, 19, 21, 20, 23, 22]
    openpose = [0, 1, 5, 6, 7, 2, 3, 4, 8, 12, 13, 14, 9, 10, 11, 16, 15, 18, 17, 22, 23, 24, 19, 20, 21]
    np.testing.assert_array_equal(joints.SMPL_FLIP, smpl)
    np.testing.assert_array_equal(joints.J24_FLIP, j24)
    np.testing.assert_array_equal(joints.flip_map(joints.OPENPOSE25), openpose)


def test_maps_have_the_published_values():
    """Values of the released code (SPIN and 3D Multi-bodies) and of the datasets' own documentation."""
    np.testing.assert_array_equal(
        joints.index_map(joints.H36M17, joints.J14), [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]
    )
    np.testing.assert_array_equal(joints.index_map(joints.J24, joints.J14), [*range(12), 12, 18])
    coco = [16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9, -1, -1, -1, -1, -1, -1, -1, 0, 1, 2, 3, 4]
    np.testing.assert_array_equal(joints.J24_FROM_COCO17, coco)
    openpose = [11, 10, 9, 12, 13, 14, 4, 3, 2, 5, 6, 7, 1, -1, 8, -1, -1, -1, -1, 0, 16, 15, 18, 17]
    np.testing.assert_array_equal(joints.J24_FROM_OPENPOSE25, openpose)
    openpose18 = [10, 9, 8, 11, 12, 13, 4, 3, 2, 5, 6, 7, 1, -1, -1, -1, -1, -1, -1, 0, 15, 14, 17, 16]
    np.testing.assert_array_equal(MAPS_TO_J24["openpose18"], openpose18)
    halpe = [16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9, 18, 17, 19, -1, -1, -1, -1, 0, 1, 2, 3, 4]
    np.testing.assert_array_equal(MAPS_TO_J24["halpe26"], halpe)
    h36m = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, -1, 0, -1, 7, 9, 10, -1, -1, -1, -1, -1]
    np.testing.assert_array_equal(joints.J24_FROM_H36M17, h36m)
    assert joints.MIDHIP_J24 == (2, 3)


@pytest.mark.parametrize("name", MAPS_TO_J24)
def test_maps_agree_with_the_names(name):
    names = joints.SETS[name]
    for joint, source in zip(joints.J24, MAPS_TO_J24[name], strict=True):
        if source >= 0:
            assert joints.MEANT_THE_SAME.get(names[source], names[source]) == joint
        else:
            assert joint not in names


def test_sets_have_distinct_names_and_their_sizes():
    sizes = {name: int("".join(filter(str.isdigit, name.removeprefix("h36m")))) for name in FLIPS}
    for name, (names, _) in FLIPS.items():
        assert len(set(names)) == len(names) == sizes[name]


def test_parents_come_before_their_children_and_mirror():
    assert joints.SMPL_PARENTS[0] == -1
    for joint, parent in enumerate(joints.SMPL_PARENTS[1:], start=1):
        assert 0 <= parent < joint
        assert joints.SMPL_PARENTS[joints.SMPL_FLIP[joint]] == joints.SMPL_FLIP[parent]


def test_index_maps_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        joints.J24_FLIP[0] = 3


@pytest.mark.parametrize("name", joints.SETS)
def test_to_j24_moves_every_known_joint(name):
    names = joints.SETS[name]
    rng = np.random.default_rng(0)
    people = rng.uniform(1, 2, (2, len(names), 3)).astype(np.float32)
    got = joints.to_j24(people, name)
    for j, joint in enumerate(joints.J24):
        source = next((i for i, n in enumerate(names) if joints.MEANT_THE_SAME.get(n, n) == joint), None)
        expected = np.zeros((2, 3)) if source is None else people[:, source]
        np.testing.assert_array_equal(got[:, j], expected)
    assert got.dtype == np.float32


def test_to_j24_empties_joints_that_were_not_found():
    person = np.ones((17, 3), np.float32)
    person[0] = np.nan, 5, 0
    got = joints.to_j24(person, "coco17")
    np.testing.assert_array_equal(got[joints.J24.index("nose")], [0, 0, 0])
    np.testing.assert_array_equal(got[0], [1, 1, 1])


def test_to_j24_says_what_is_wrong():
    person = np.ones((17, 3), np.float32)
    with pytest.raises(
        ValueError, match=r"Unknown joint set 'coco'; the known ones are j24, j14, h36m17, coco17, openp"
    ):
        joints.to_j24(person, "coco")
    with pytest.raises(ValueError, match=r"'openpose25' have the shape \(..., 25, 3\).*got \(17, 3\)"):
        joints.to_j24(person, "openpose25")
    for column in range(3):
        broken = person.copy()
        broken[9, column] = np.nan
        with pytest.raises(ValueError, match="'left_wrist' is not finite"):
            joints.to_j24(broken, "coco17")
