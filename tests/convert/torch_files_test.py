"""Files of torch.save, read and written without torch: against torch where it is installed, and against bytes by hand."""

import collections
import io
import pickle
import struct
import zipfile
from typing import Literal

import numpy as np
import pytest

from multibodies_jax.body import pickles
from multibodies_jax.convert import torch_reader, torch_writer
from tests.helpers import python2

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def _long(value: int) -> bytes:
    return pickle.dumps(value, 2)


def _storage(key: str, size: int, kind: str = "FloatStorage", view: bytes = b"") -> bytes:
    names = python2.encode("storage") + python2.named("torch", kind)
    return b"(" + names + python2.encode(key) + python2.encode("cpu") + python2.encode(size) + view + b"tQ"


def _tensor(storage: bytes, offset: int, shape: tuple, strides: tuple, builder: str = "_rebuild_tensor_v2") -> bytes:
    layout = python2.encode(offset) + python2.encode(shape) + python2.encode(strides)
    rest = python2.encode(False) + python2.named("collections", "OrderedDict") + b")R" if "v2" in builder else b""
    return python2.named("torch._utils", builder) + b"(" + storage + layout + rest + b"tR"


def _dictionary(items: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(python2.encode(name) + value for name, value in items.items()) + b"u"


def _stream(root: bytes, storages: dict[str, np.ndarray], order: Literal["<", ">"] = "<") -> bytes:
    """A file in the format before zip archives."""
    system = {"protocol_version": _PROTOCOL, "little_endian": order == "<"}
    head = _long(_MAGIC) + _long(_PROTOCOL) + python2.dumps(system) + b"\x80\x02" + root + b"."
    parts = [
        struct.pack(f"{order}q", len(x)) + x.astype(x.dtype.newbyteorder(order)).tobytes() for x in storages.values()
    ]
    return head + python2.dumps(list(storages)) + b"".join(parts)


def _archive(root: bytes, storages: dict[str, np.ndarray]) -> bytes:
    """A file in the zip format."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("any/data.pkl", b"\x80\x02" + root + b".")
        for key, data in storages.items():
            file.writestr(f"any/data/{key}", data.tobytes())
    return stream.getvalue()


_FORMATS = pytest.mark.parametrize("write", [_stream, _archive])


def _read(path) -> dict[str, np.ndarray]:
    with torch_reader.open_file(path) as file:
        return {name: file.read(tensor) for name, tensor in file.root.items()}


@_FORMATS
def test_tensors_that_share_and_stride_over_storages(tmp_path, write):
    numbers = np.arange(24, dtype=np.float32)
    whole, doubles = _storage("7", 24), _storage("x", 3, "DoubleStorage")
    tensors = {
        "plain": _tensor(whole, 0, (4, 6), (6, 1)),
        "transposed": _tensor(whole, 0, (6, 4), (1, 6), "_rebuild_tensor"),
        "part": _tensor(whole, 8, (3, 4), (6, 1)),
        "repeated": _tensor(whole, 5, (2, 3), (0, 1)),
        "number": _tensor(whole, 23, (), ()),
        "nothing": _tensor(whole, 0, (0, 3), (3, 1)),
        "doubles": _tensor(doubles, 0, (3,), (1,)),
        "parameter": python2.named("torch._utils", "_rebuild_parameter")
        + b"("
        + _tensor(whole, 0, (2,), (1,))
        + python2.encode(True)
        + b"}tR",
    }
    path = tmp_path / "file.pt"
    path.write_bytes(write(_dictionary(tensors), {"7": numbers, "x": np.array([1.5, np.pi, -0.0])}))
    got, table = _read(path), numbers.reshape(4, 6)
    np.testing.assert_array_equal(got["plain"], table)
    np.testing.assert_array_equal(got["transposed"], table.T)
    np.testing.assert_array_equal(got["part"], table[1:, 2:])
    np.testing.assert_array_equal(got["repeated"], [[5, 6, 7], [5, 6, 7]])
    np.testing.assert_array_equal(got["parameter"], [0, 1])
    assert got["number"] == 23 and got["number"].shape == ()
    assert got["nothing"].shape == (0, 3)
    assert got["doubles"].tobytes() == np.array([1.5, np.pi, -0.0]).tobytes()
    assert all(x.flags.c_contiguous and x.flags.writeable for x in got.values())


def test_views_and_big_endian_numbers_of_the_old_format(tmp_path):
    view = python2.encode(("v", 4, 6))  # Six numbers from the fifth.
    path = tmp_path / "file.pt"
    root = _dictionary({"a": _tensor(_storage("1", 12, view=view), 1, (2, 2), (2, 1))})
    path.write_bytes(_stream(root, {"1": np.arange(12, dtype=np.float32)}, ">"))
    np.testing.assert_array_equal(_read(path)["a"], [[5, 6], [7, 8]])


@_FORMATS
@pytest.mark.parametrize("global_name", ["posix.system", "torch.nn.modules.linear.Linear", "builtins.eval"])
def test_code_is_refused_by_name_and_not_run(tmp_path, write, global_name):
    module, name = global_name.rsplit(".", 1)
    path, ran = tmp_path / "file.pt", tmp_path / "ran"
    path.write_bytes(write(_dictionary({"a": python2.call(module, name, f"touch {ran}")}), {}))
    with pytest.raises(pickles.RefusedError, match=f"{path}.*{global_name}.*state dict"), torch_reader.open_file(path):
        pass
    assert not ran.exists()


@_FORMATS
@pytest.mark.parametrize(
    "tensor",
    [
        _tensor(_storage("1", 4), 0, (5,), (1,)),
        _tensor(_storage("1", 4), 2, (2, 2), (1, 1)),
        _tensor(_storage("1", 4), 0, (2,), (-1,)),
        _tensor(_storage("1", 4), -1, (2,), (1,)),
        _tensor(_storage("1", 4), 0, (2, 2), (1,)),
        _tensor(_storage("1", 4, view=python2.encode(("v", 2, 3))), 0, (1,), (1,)),
        _tensor(_storage("1", -4), 0, (1,), (1,)),
        _tensor(python2.encode("no storage"), 0, (1,), (1,)),
        _tensor(_storage("1", 4), 0, (1,), (1,)).removesuffix(b"tR") + python2.encode({"neg": True}) + b"tR",
    ],
    ids=["size", "strides", "backwards", "before", "ranks", "view", "negative", "none", "negated"],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, write, tensor):
    path = tmp_path / "file.pt"
    path.write_bytes(write(_dictionary({"a": tensor}), {"1": np.zeros(4, np.float32)}))
    with pytest.raises(ValueError, match=str(path)), torch_reader.open_file(path):
        pass


def test_a_storage_shorter_than_told_is_refused(tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(
        _archive(_dictionary({"a": _tensor(_storage("1", 4), 0, (4,), (1,))}), {"1": np.zeros(3, np.float32)})
    )
    with pytest.raises(ValueError, match="12 bytes in the file; 16"):
        _read(path)


def test_a_storage_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(_archive(_dictionary({"a": _tensor(_storage("9", 4), 0, (4,), (1,))}), {}))
    with pytest.raises(ValueError, match=f"{path} is damaged at storage 9"):
        _read(path)


@_FORMATS
def test_a_file_cut_anywhere_is_refused(tmp_path, write):
    path = tmp_path / "file.pt"
    whole = write(_dictionary({"a": _tensor(_storage("1", 40), 0, (40,), (1,))}), {"1": np.ones(40, np.float32)})
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"{path}.*cut short or damaged"), torch_reader.open_file(path):
            pass


def test_a_flipped_byte_in_a_zip_is_found(tmp_path):
    path = tmp_path / "file.pt"
    torch_writer.save(path, {"a": np.ones(40, np.float32)})
    data = bytearray(path.read_bytes())
    data[data.index(np.ones(4, np.float32).tobytes()) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path} is damaged at storage 0.*CRC"):
        _read(path)


@pytest.mark.parametrize("content", [b"<html>404</html>", pickle.dumps({"a": 1})], ids=["page", "pickle"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)), torch_reader.open_file(path):
        pass


def _content() -> dict:
    rng = np.random.default_rng(0)
    return {
        "model": {
            "matrix": rng.normal(size=(3, 4)).astype(np.float32),
            "transposed": np.asfortranarray(rng.normal(size=(2, 3, 4)).astype(np.float32)),
            "count": np.array(5),
            "empty": np.zeros((0, 2), np.float32),
        },
        "epoch": -3,
    }


def test_what_is_written_is_read_back_and_always_the_same(tmp_path):
    content = _content()
    for name in ("one.pt", "two.pt"):
        torch_writer.save(tmp_path / name, content)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()
    with torch_reader.open_file(tmp_path / "one.pt") as file:
        assert file.root["epoch"] == -3
        for name, array in content["model"].items():
            got = file.read(file.root["model"][name])
            assert got.dtype == array.dtype and got.tobytes() == array.tobytes(), name


def test_types_that_cannot_be_written(tmp_path):
    for value in (np.zeros(2, np.complex64), 1.5, None):
        with pytest.raises(TypeError, match="Cannot write"):
            torch_writer.save(tmp_path / "file.pt", {"a": value})


def test_torch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch")
    content = _content()
    torch_writer.save(tmp_path / "file.pt", content)
    got = torch.load(tmp_path / "file.pt", weights_only=True)
    assert got["epoch"] == -3 and isinstance(got["model"], collections.OrderedDict)
    assert list(got["model"]) == list(content["model"])
    for name, array in content["model"].items():
        np.testing.assert_array_equal(got["model"][name].numpy(), array, strict=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_writes_is_read(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    base, layer = torch.arange(24.0).reshape(4, 6), torch.nn.Linear(3, 2)
    tensors = {
        "transposed": base.t(),
        "part": base[1:, 2:],
        "double": base.double() / 3,
        "half": base.half(),
        "brain": base.bfloat16(),
        "count": torch.tensor(7),
        "mask": base > 3,
        "parameter": layer.weight,
        **layer.state_dict(),
    }
    training = {"model": collections.OrderedDict(tensors), "epoch": 3, "optimizer": {"lr": 0.1, "size": base.shape}}
    torch.save(training, tmp_path / "file.pt", _use_new_zipfile_serialization=zipped)
    with torch_reader.open_file(tmp_path / "file.pt") as file:
        assert file.root["epoch"] == 3 and file.root["optimizer"] == {"lr": 0.1, "size": (4, 6)}
        for name, tensor in tensors.items():
            got = file.read(file.root["model"][name])
            assert str(tensor.dtype) == f"torch.{got.dtype.name}"
            np.testing.assert_array_equal(got.astype(np.float64), tensor.detach().double().numpy(), strict=True)


def _repacked(content: bytes, **members: bytes) -> bytes:
    """A zip file with other members of the same names, deflated."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in {*old.namelist(), *(f"any/{member}" for member in members)}:
            short = name.removeprefix("any/")
            new.writestr(name, members.get(short.replace(".", "_"), members.get(short)) or old.read(name))
    return stream.getvalue()


@pytest.mark.parametrize(
    "members, message",
    [
        ({"byteorder": bytes(2**20)}, r"1,048,576 bytes in any/byteorder; at most 8"),
        ({"data_pkl": bytes(2**26 + 1)}, r"67,108,865 bytes in any/data\.pkl; at most 67,108,864"),
        ({"data_pkl": b"Nr\xff\xff\xff\x07."}, "it numbers a part 134,217,727"),
    ],
)
def test_small_files_take_little_memory(tmp_path, members, message):
    tensor = _tensor(_storage("0", 4), 0, (4,), (1,))
    good = _archive(_dictionary({"x": tensor}), {"0": np.zeros(4, np.float32)})
    (tmp_path / "a.pt").write_bytes(_repacked(good, **members))
    with pytest.raises(ValueError, match=message), torch_reader.open_file(tmp_path / "a.pt"):
        pass


@_FORMATS
def test_a_tensor_has_no_more_elements_than_its_storage(tmp_path, write):
    tensor = _tensor(_storage("0", 4), 0, (10**6, 4), (0, 1))
    (tmp_path / "a.pt").write_bytes(write(_dictionary({"x": tensor}), {"0": np.zeros(4, np.float32)}))
    with (
        pytest.raises(ValueError, match=r"repeats a storage of 4 numbers; save it with \.contiguous"),
        torch_reader.open_file(tmp_path / "a.pt"),
    ):
        pass
