"""Openers of files that others wrote: every damage is one message, before memory is spent."""

import io
import json
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from multibodies_jax import untrusted
from tests.helpers import damaged

ARRAY = np.arange(400, dtype=np.float64).reshape(20, 20)
ADVICE = "Fetch it again."


class OwnError(ValueError):
    """Of a reader."""


def good_file(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "npz":
        np.savez_compressed(stream, array=ARRAY, name=np.array("text ä"))
    elif kind == "npy":
        np.save(stream, ARRAY)
    else:
        stream.write(json.dumps({"a": [1, {"b": "ä"}]}).encode())
    return stream.getvalue()


READ = {"npz": untrusted.read_npz, "npy": untrusted.read_npy, "json": untrusted.read_json}
DAMAGES = {"npz": damaged.NPZ, "npy": damaged.NPY, "json": damaged.JSON}


@pytest.mark.parametrize("kind, damage", [(kind, damage) for kind in READ for damage in DAMAGES[kind]])
def test_every_damage_is_told_with_the_file_and_what_to_do(tmp_path, kind, damage):
    path = tmp_path / f"damaged.{kind}"
    path.write_bytes(DAMAGES[kind][damage](good_file(kind)))
    tracemalloc.start()
    try:
        with pytest.raises(OwnError) as caught:
            READ[kind](path, ADVICE, OwnError) if kind != "json" else READ[kind](path, dict, ADVICE, OwnError)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path} cannot be read as ") and str(caught.value).endswith(f". {ADVICE}")
    assert peak < 2**24


def test_good_files_are_read(tmp_path):
    for kind in READ:
        (tmp_path / f"good.{kind}").write_bytes(good_file(kind))
    arrays = untrusted.read_npz(tmp_path / "good.npz")
    np.testing.assert_array_equal(arrays["array"], ARRAY)
    assert set(arrays) == {"array", "name"} and str(arrays["name"]) == "text ä"
    with zipfile.ZipFile(tmp_path / "good.npz", "a") as archive:  # As macOS packs it again.
        archive.writestr("__MACOSX/._array.npy", b"\x00\x05\x16\x07")
        archive.writestr(".DS_Store", b"\x00")
    assert set(untrusted.read_npz(tmp_path / "good.npz")) == {"array", "name"}
    np.testing.assert_array_equal(untrusted.read_npy(tmp_path / "good.npy"), ARRAY)
    np.testing.assert_array_equal(untrusted.read_npy(tmp_path / "good.npy", mapped=True), ARRAY)
    assert untrusted.read_json(tmp_path / "good.json") == {"a": [1, {"b": "ä"}]}


@pytest.mark.parametrize(
    "array",
    [np.zeros(0), np.zeros((0, 3), np.float32), np.array(3), np.asfortranarray(ARRAY), np.array(["a", "ä€"], ">U2"),
     np.array([b"ab", b"c"]), np.ones(3, bool), np.ones(2, np.complex64), np.array([])],
)  # fmt: skip
def test_arrays_come_back_as_they_were_written(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", a=array)
    for got in (untrusted.read_npy(tmp_path / "a.npy"), untrusted.read_npz(tmp_path / "a.npz")["a"]):
        np.testing.assert_array_equal(got, array, strict=True)


def test_a_byte_order_mark_is_no_damage(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert untrusted.read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize("read", READ.values())
def test_what_is_not_there_is_not_found_and_a_folder_is_told(tmp_path, read):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")
    with pytest.raises(untrusted.FileError, match="directory"):
        read(tmp_path)


def test_an_array_that_nobody_asks_for_is_not_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", small=np.ones(3), large=np.zeros(2**22))
    tracemalloc.start()
    try:
        with untrusted.open_npz(tmp_path / "a.npz") as arrays:
            assert arrays["small"].sum() == 3 and "large" in arrays and len(arrays) == 2
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_limits_of_sizes_and_of_members(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(2000), b=np.zeros(2000))
    with pytest.raises(untrusted.FileError, match=r"'a' has 16,128 bytes, at most 16,000"):
        untrusted.read_npz(tmp_path / "a.npz", largest=16_000)
    with pytest.raises(untrusted.FileError, match=r"arrays have 32,256 bytes, at most 30,000"):
        untrusted.read_npz(tmp_path / "a.npz", largest=30_000)
    (tmp_path / "many.npz").write_bytes(damaged.zipped({f"{i}.npy": b"" for i in range(10_001)}))
    with pytest.raises(untrusted.FileError, match="10,001 members"):
        untrusted.read_npz(tmp_path / "many.npz")
    (tmp_path / "a.json").write_text(json.dumps({"a": "x" * 100}), encoding="utf-8")
    with pytest.raises(untrusted.FileError, match="at most 100 are read"):
        untrusted.read_json(tmp_path / "a.json", largest=100)


def test_a_missing_name_is_told_with_those_that_are_there(tmp_path):
    np.savez(tmp_path / "a.npz", first=1, second=2)
    with (
        untrusted.open_npz(tmp_path / "a.npz") as arrays,
        pytest.raises(untrusted.FileError, match="'first', 'second'"),
    ):
        arrays["third"]


def test_text_inside_another_file_is_parsed_under_its_name():
    assert untrusted.parse_json('{"a": 1}', "settings of x.npz") == {"a": 1}
    with pytest.raises(untrusted.FileError, match=r"^settings of x\.npz cannot be read as JSON: it holds null"):
        untrusted.parse_json("null", "settings of x.npz")


def test_no_changed_byte_of_a_directory_hides_an_array(tmp_path):
    arrays = {"poses": np.arange(2.0), "part": np.arange(3)}
    np.savez(tmp_path / "a.npz", **arrays)
    good = (tmp_path / "a.npz").read_bytes()
    for at in range(good.index(b"PK\x01\x02"), len(good)):
        (tmp_path / "a.npz").write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        try:
            read = untrusted.read_npz(tmp_path / "a.npz")
        except untrusted.FileError:
            continue
        assert read.keys() == arrays.keys(), at
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)


def test_names_in_files_lead_nowhere_else(tmp_path):
    folder, outside = tmp_path / "images", tmp_path / "images_private"
    (folder / "a").mkdir(parents=True)
    outside.mkdir()
    for path in (folder / "a/b.jpg", outside / "c.jpg"):
        path.write_bytes(b"x")
    (folder / "link.jpg").symlink_to(outside / "c.jpg")
    (folder / "a/away").symlink_to(outside)
    (folder / "linked").symlink_to(outside)  # Of a person who has the images elsewhere.
    (outside / "link.jpg").symlink_to(folder.parent / "secret.jpg")
    (folder / "here.jpg").symlink_to(folder / "a/b.jpg")
    (tmp_path / "other").symlink_to(folder)
    for name in ("a/b.jpg", "here.jpg", "./a/b.jpg", "absent.jpg", "linked/c.jpg"):
        for root in (folder, tmp_path / "other"):
            assert untrusted.inside(root, name) == root / name
    for name in (
        "link.jpg",
        "a/away/c.jpg",
        "linked/link.jpg",
        "a/../a/b.jpg",
        "../images_private/c.jpg",
        str(folder / "a/b.jpg"),
        "",
        ".",
        "a\0b",
    ):
        with pytest.raises(untrusted.FileError, match=r"leads out of .*images"):
            untrusted.inside(folder, name)


@pytest.mark.parametrize(
    "name, expected", [("a/b", True), (".a/b", False), ("a/._b", False), ("a/b.c", True), ("a/__MACOSX/b", False)]
)
def test_hidden_files_are_not_visible(tmp_path, name, expected):
    assert untrusted.visible(tmp_path / ".hidden" / name, tmp_path / ".hidden") == expected


def test_data_of_another_hdf5_file_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    layout = h5py.VirtualLayout((4,), "i8")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.arange(4)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", (4,))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["own"] = np.arange(3)
        file["link"] = h5py.ExternalLink("other.h5", "/x")
        file.create_dataset("raw", (16,), "u1", external=[(tmp_path / "secret", 0, 16)])
        file.create_virtual_dataset("virtual", layout)
        np.testing.assert_array_equal(untrusted.hdf5_dataset(file, "own"), [0, 1, 2])
        for name in ("link", "raw", "virtual"):
            with pytest.raises(untrusted.FileError, match=f"{name} of it lies in another file"):
                untrusted.hdf5_dataset(file, name)


@pytest.mark.parametrize("name", ["has_smpI", "HAS_SMPL", "hassmpl", "has_smpls", "has_smlp"])
def test_a_name_that_resembles_an_absent_one_is_told(name):
    assert untrusted.misspelt(["pose", name], ["pose", "has_smpl"]) == (
        f"has {name!r}, and 'has_smpl', which it resembles, is absent"
    )
    assert untrusted.misspelt(["has_smpl", name], ["has_smpl"]) == ""


def test_other_unknown_names_are_left_alone():
    assert untrusted.misspelt(["openpose", "partname", "maskname", "K"], ["pose", "part", "imgname", "S"]) == ""
