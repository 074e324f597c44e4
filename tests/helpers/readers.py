"""The table of all readers of files that others write: how to make a good one, how it is read, how it may fail.

Tests damage the files in known ways, and a harness at random: whatever a file holds, a reader gives its result or raises
one of its errors.
"""

import dataclasses
import json
import pathlib
import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

import tfds_builders
from configs import default
from multibodies_jax import io
from multibodies_jax.baselines.graphcmr import hierarchy
from multibodies_jax.body import pickles, smpl_files
from multibodies_jax.convert import mesh_downsampling, torch_reader, torch_writer
from multibodies_jax.data import fit_files, images, pose_readers, spin_lists
from multibodies_jax.detection import graph_files
from multibodies_jax.export import camera
from multibodies_jax.fitting import pose_mixture
from multibodies_jax.prediction import people, prediction_file, predictor
from multibodies_jax.reporting import runs
from multibodies_jax.tracking import frames
from multibodies_jax.training import checkpoints, logs, packed
from tests.helpers import (
    h36m_fixture,
    list_files,
    made_videos,
    peer_files,
    pose2sim_fixture,
    random_body,
    report_fixture,
    small_sets,
    sphere_body,
    threedpw_fixture,
    tiny_graph,
    training_archives,
)
from tfds_builders import building, workers
from tfds_builders.h36m import masks, metadata
from tfds_builders.sources import cdf, coco, mat, mpii, pictures, pose2sim, spin, threedpw, video


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes:
      name: of the reader.
      file: name of its file, whose ending may matter.
      kind: "npz", "npy", "json" or "other": the damages that apply.
      make: writes a good file to the path.
      read: reads the path.
      errors: that it may raise; each has to have a message.
      checked: the file has checksums: damage that is accepted must not change the result.
      alone: the file is all that it reads; else `make` puts others beside it.
    """

    name: str
    file: str
    kind: str
    make: Callable[[pathlib.Path], Any]
    read: Callable[[pathlib.Path], Any]
    errors: tuple[type[Exception], ...] = (ValueError,)
    checked: bool = False
    alone: bool = True


def _body(path: pathlib.Path) -> None:
    arrays = random_body.arrays(vertices=30)
    parents = np.array([2**32 - 1, *arrays.pop("parents")[1:]])
    np.savez(path, f=arrays.pop("faces"), kintree_table=np.stack([parents, np.arange(24)]), **arrays)


def _body_pickle(path: pathlib.Path) -> None:
    arrays = random_body.arrays(vertices=30)
    regressor = scipy.sparse.csc_matrix(arrays.pop("J_regressor"))
    path.write_bytes(
        pickle.dumps({"J_regressor": regressor, "f": arrays.pop("faces"), "weights": arrays["weights"]}, 2)
    )


def _amass(path: pathlib.Path) -> None:
    poses = np.random.default_rng(0).normal(size=(20, 156)) * 0.1
    np.savez_compressed(path, poses=poses, mocap_framerate=np.array(20.0), betas=np.zeros(16), gender=np.array("male"))


def _poses(path: pathlib.Path) -> None:
    np.save(path, np.random.default_rng(0).normal(size=(5, 72)) * 0.1)


def _prediction(path: pathlib.Path) -> None:
    sizes = {"M": 3, "S": 10, "n": 2}
    known = {
        "format": 2,
        "box_scale": 1.0,
        "focal_px": 50.0,
        "quantizer": "{}",
        "temperatures": "{}",
        "sharpness": "{}",
        "image_size": [40, 30],
    }
    record = {}
    for name, shape in prediction_file.SHAPES.items():
        lengths = tuple(length if isinstance(length, int) else sizes[length] for length in shape)
        plain = np.full(lengths, known.get(name, 1.0))
        texts = name in (
            "joint_names",
            "image",
            "body",
            "body_fingerprint",
            "trained_on",
            "commit",
            "focal_source",
            "annotation",
        )
        record[name] = np.full(plain.shape, "text") if texts else plain
    prediction_file.save(path, record)


def _people(path: pathlib.Path) -> None:
    annotation = {"image_id": 1, "category_id": 1, "id": 7, "bbox": [10, 10, 50, 90], "keypoints": [20, 30, 2] * 17}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 120}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "person"}],
    }
    path.write_text(json.dumps(content), encoding="utf-8")


def _archive(write: Callable[[pathlib.Path], Any], pattern: str) -> Callable[[pathlib.Path], None]:
    """Makes a file by writing a whole archive and taking one file of it."""

    def make(path: pathlib.Path) -> None:
        folder = path.parent / f"archive of {path.name}"
        folder.mkdir()
        write(folder)
        path.write_bytes(next(folder.rglob(pattern)).read_bytes())

    return make


def _graph(path: pathlib.Path) -> None:
    model, weights = tiny_graph.files(*tiny_graph.content())
    path.write_bytes(model)
    path.with_suffix(".bin").write_bytes(weights)


def _read_graph(path: pathlib.Path) -> Any:
    return graph_files.read(path.read_bytes(), path.with_suffix(".bin").read_bytes(), "image", {"out": "out"})


def _torch(path: pathlib.Path) -> None:
    torch_writer.save(path, {"model": {"a": np.ones((3, 4), np.float32), "b": np.arange(5)}})


def _read_torch(path: pathlib.Path) -> Any:
    with torch_reader.open_file(path) as file:
        # A damaged pickle without checksums may have another key.
        return {name: file.read(tensor) for name, tensor in (file.root.get("model") or {}).items()}


def _checkpoint(name: str) -> tuple[Callable[[pathlib.Path], None], Callable[[pathlib.Path], Any]]:
    """Makes a checkpoint beside a path, which gets its file of this name; and puts the path's content there and restores."""

    def place(path: pathlib.Path) -> pathlib.Path:
        return next(iter(sorted((path.parent / "run" / "1").rglob(name))), path.parent / "run" / "1" / name)

    def make(path: pathlib.Path) -> None:
        metadata = {"num_hypotheses": 5, "images_seen": 100, "mean_state": [0.5] * 157, "body_fingerprint": "ab" * 32}
        checkpoints.save(path.parent / "run", 1, {"state": {"params": {"a": np.arange(500.0)}}}, metadata)
        path.write_bytes(place(path).read_bytes())

    def read(path: pathlib.Path) -> Any:
        place(path).write_bytes(path.read_bytes())
        return checkpoints.restore(path.parent / "run")

    return make, read


def _evaluated(path: pathlib.Path) -> None:
    report_fixture.make(path.parent)
    report_fixture.edit(path.parent, lambda result: result.update(io.sealed(result | {"schema": 3})))


def _sequence(path: pathlib.Path) -> None:
    path.write_bytes(threedpw_fixture.python2.dumps(threedpw_fixture.sequence(1, "mf")))


def _image(kind: str) -> Callable[[pathlib.Path], None]:
    def make(path: pathlib.Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        path.write_bytes(stream.getvalue())

    return make


def _pretrained(path: pathlib.Path) -> None:
    np.savez_compressed(path, about=np.array(json.dumps({"format": 1, "sha256": "0"})), a=np.ones((3, 4)))


def _read_pretrained(path: pathlib.Path) -> Any:
    """A good one of few bytes ends at its checksum, behind all that is read."""
    try:
        return packed.read(path)
    except packed.PackedError as error:
        if "its checksum differs" not in str(error):
            raise
        return None


def _log(path: pathlib.Path) -> None:
    (path.parent / logs.LOG).parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": null}\n', encoding="utf-8")


def _fits(path: pathlib.Path) -> None:
    np.savez(path, pose=np.zeros((4, 72)), shape=np.zeros((4, 10)), valid_fit=np.array([1, 0, 1, 1]))


def _mixture(path: pathlib.Path) -> None:
    covars = np.tile(np.eye(pose_mixture.POSE_SIZE), (2, 1, 1))
    arrays = {"means": np.zeros((2, pose_mixture.POSE_SIZE)), "covars": covars, "weights": np.array([0.3, 0.7])}
    path.write_bytes(pickle.dumps(arrays, protocol=2))


def _levels(path: pathlib.Path) -> None:
    body = sphere_body.body()
    peer_files.mesh_downsampling(path, hierarchy.of_body(body), np.asarray(body.faces))


def _set(pattern: str) -> dict[str, Any]:
    """Builds a small set beside a path, which gets a file of it; and puts the path's content there and reads the set."""
    options: dict[str, Any] = small_sets.OPTIONS | {"num_people": 20}

    def place(path: pathlib.Path) -> pathlib.Path:
        marker = path.with_name("place")
        return pathlib.Path(marker.read_text(encoding="utf-8"))

    def make(path: pathlib.Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workers, "pool", small_sets.in_process)
            builder = tfds_builders.build("synthetic_poses", path.parent / "sets", **options)
        file = next(pathlib.Path(builder.data_path).glob(pattern))
        path.with_name("place").write_text(str(file), encoding="utf-8")
        path.write_bytes(file.read_bytes())

    def read(path: pathlib.Path) -> Any:
        place(path).write_bytes(path.read_bytes())
        return list(tfds_builders.source("synthetic_poses", "test", path.parent / "sets", **options))

    return {"make": make, "read": read, "errors": (building.BuildError,), "alone": False}


_EVALUATED: dict[str, Any] = {"make": _evaluated, "read": lambda path: runs.load(path.parent), "alone": False}

READERS = (
    Reader("body (.npz)", "body.npz", "npz", _body, lambda path: smpl_files.read(path, 10)),
    Reader("body (.pkl)", "body.pkl", "other", _body_pickle, pickles.load),
    Reader("poses (AMASS)", "poses.npz", "npz", _amass, pose_readers.read),
    Reader("poses (.npy)", "poses.npy", "npy", _poses, pose_readers.read),
    Reader(
        "list of SPIN",
        "3dpw_test.npz",
        "npz",
        lambda path: list_files.save(path, **list_files.arrays(list_files.THREEDPW)),
        spin_lists.read,
    ),
    Reader(
        "fits of SMPL",
        "fits.npy",
        "npy",
        lambda path: np.save(path, np.zeros((3, 82))),
        lambda path: spin.read_fits(path, 3),
    ),
    Reader("fits of a training", "mpii_fits.npz", "npz", _fits, lambda path: fit_files.read(path, 4)),
    Reader("mixture of poses", "gmm_08.pkl", "other", _mixture, pose_mixture.load),
    Reader("levels of a mesh", "levels.npz", "npz", _levels, mesh_downsampling.read),
    Reader(
        "prediction",
        "photo_0.npz",
        "npz",
        _prediction,
        prediction_file.load,
    ),
    Reader("weights of the package", "pretrained.npz", "npz", _pretrained, _read_pretrained),
    Reader("people", "people.json", "json", _people, people.read_people),
    Reader(
        "config of a work directory",
        "config.json",
        "json",
        lambda path: path.write_text(default.get_config().to_json_best_effort(), encoding="utf-8"),
        lambda path: predictor.stored_config(path.parent),
    ),
    Reader(
        "manifest of a checkpoint", "manifest.json", "json", *_checkpoint("manifest.json"), checked=True, alone=False
    ),
    Reader("arrays of a checkpoint", "arrays.bin", "other", *_checkpoint("d/*"), checked=True, alone=False),
    Reader("results.json", "results.json", "json", checked=True, **_EVALUATED),
    Reader("per_example.npz", "per_example.npz", "npz", **_EVALUATED),
    Reader("log of a training", logs.LOG, "other", _log, lambda path: logs.read(path.parent)),
    Reader("graph of the detector", "graph.json", "json", _graph, _read_graph, alone=False),
    Reader("COCO", "coco.json", "json", _archive(training_archives.write_coco, "*.json"), coco.read),
    Reader("MPII (JSON)", "mpii.json", "json", _archive(training_archives.write_mpii, "train.json"), mpii.read_json),
    Reader("MPII (MATLAB)", "mpii.mat", "other", _archive(training_archives.write_mpii, "*.mat"), mpii.read_mat),
    Reader("MPII (HDF5)", "train.h5", "other", _archive(training_archives.write_mpii, "*.h5"), mpii.read_h5),
    Reader(
        "MATLAB v5",
        "joints.mat",
        "other",
        lambda path: scipy.io.savemat(path, {"joints": np.ones((3, 14, 4))}),
        lambda path: mat.read_v5(path, ["joints"]),
    ),
    Reader(
        "CDF",
        "pose.cdf",
        "other",
        lambda path: h36m_fixture.write_cdf(path, np.ones((7, 96), np.float32)),
        lambda path: cdf.read(path, "Pose"),
    ),
    Reader(
        "masks of Human3.6M",
        "masks.mat",
        "other",
        lambda path: h36m_fixture.write_masks(path, [(10, 20, 30, 40), None, (5, 6, 7, 8)]),
        lambda path: masks.read(path, [0, 1, 2, 3]),
    ),
    Reader(
        "metadata.xml of Human3.6M",
        "metadata.xml",
        "other",
        lambda path: path.write_text(h36m_fixture.metadata_xml(), encoding="utf-8"),
        lambda path: metadata.read(path).intrinsics("60457274"),
    ),
    Reader("sequence of 3DPW", "sequence.pkl", "other", _sequence, threedpw.read),
    Reader("checkpoint of PyTorch", "model.pt", "other", _torch, _read_torch),
    Reader("photograph (JPEG)", "a.jpg", "other", _image("JPEG"), images.load_image),
    Reader("photograph (PNG)", "a.png", "other", _image("PNG"), images.load_image),
    Reader("photograph (TIFF)", "a.tif", "other", _image("TIFF"), images.load_image),
    Reader("lens of a photograph", "b.jpg", "other", _image("JPEG"), camera.lens_of_photo, (ValueError, OSError)),
    Reader(
        "video",
        "clip.mp4",
        "other",
        lambda path: made_videos.write(path, made_videos.counted(6)),
        lambda path: len(list(frames.frames(frames.inspect(path)))),
    ),
    Reader(
        "video of a data set",
        "clip.mp4",
        "other",
        lambda path: made_videos.write(path, made_videos.counted(6)),
        lambda path: (video.stated_frames(path), len(list(video.frames(path, range(6))))),
    ),
    Reader(
        "calibration of Pose2Sim",
        "calibration.txt",
        "other",
        lambda path: path.write_bytes(pose2sim_fixture.calibration()),
        lambda path: pose2sim.read_cameras(path.read_bytes()),
    ),
    Reader("examples of a set", "examples", "other", checked=True, **_set("*test*")),
    Reader("dataset_info.json of a set", "dataset_info.json", "json", **_set("dataset_info.json")),
    Reader("metadata.json of a set", "metadata.json", "json", **_set("metadata.json")),
    Reader("image of a data set", "c.jpg", "other", _image("JPEG"), lambda path: pictures.Reader()(path)),
)
