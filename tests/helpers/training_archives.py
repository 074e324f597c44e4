"""Tiny archives of the training sets, written in exactly the official formats; the numbers in them are kept for tests."""

import json

import cv2
import h5py
import numpy as np
import scipy.io

from multibodies_jax.geometry import joints

SIZE = (320, 240)  # Width, height of the images.


def write_image(path, seed=0, size=SIZE):
    """Some smooth picture; its pixels as RGB after the way through the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR))
    return read_image(path)


def read_image(path) -> np.ndarray:
    """The pixels of an image file as RGB."""
    image = cv2.imread(str(path))
    assert image is not None, path
    return image[..., ::-1]


def people(rng, count, joint_count):
    """Joints (count, joint_count, 2) well inside the images."""
    return rng.uniform(60, 180, (count, joint_count, 2))


def write_lsp(root, split_at=2):
    """Both archives of LSP: `split_at` images in high resolution and as many again in the small one."""
    rng = np.random.default_rng(1)
    written = {}
    for folder in ("lsp_dataset_original", "lsp_dataset"):
        points = people(rng, 2 * split_at, 14)
        occluded = rng.integers(0, 2, (2 * split_at, 14, 1))
        for i in range(2 * split_at):
            write_image(root / folder / f"images/im{i + 1:04d}.jpg", seed=i)
        joints_ = np.concatenate([points, occluded], axis=-1)  # (N, 14, 3)
        scipy.io.savemat(root / folder / "joints.mat", {"joints": joints_.transpose(2, 1, 0)})
        written[folder] = points
    return written


def write_lspet(root):
    """Three images; of the second person one joint is not labelled, and lies far outside."""
    points = people(np.random.default_rng(2), 3, 14)
    labelled = np.ones((3, 14))
    points[1, 4], labelled[1, 4] = (-5, -5), 0
    for i in range(3):
        write_image(root / f"hr-lspet/im{i + 1:05d}.png", seed=10 + i)
    joints_ = np.concatenate([points, labelled[..., None]], axis=-1)
    scipy.io.savemat(root / "hr-lspet/joints.mat", {"joints": joints_.transpose(1, 2, 0)})
    return points


def write_mpii(root):
    """Two training images with three people, of whom one lacks a joint and one all; and a test image. All three formats."""
    rng = np.random.default_rng(3)
    points, center, scale = (
        np.round(people(rng, 3, 16)),
        np.array([[120.0, 121], [100, 90], [130, 110]]),
        [0.6, 0.5, 0.7],
    )
    missing = {(1, 9)}  # Of the second person the head top.
    for i, name in enumerate(("015601864.jpg", "015601865.jpg", "015601866.jpg")):
        write_image(root / "images" / name, seed=20 + i)

    def person(i, annotated=True):
        listed = [
            {"x": points[i, k, 0], "y": points[i, k, 1], "id": k, "is_visible": ["0", "1", np.zeros((0, 0))][k % 3]}
            for k in rng.permutation(16)
            if (i, k) not in missing
        ]
        head = {"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0}
        if not annotated:
            return head | {"annopoints": np.zeros((0, 0)), "scale": 1.0, "objpos": {"x": 10.0, "y": 10.0}}
        objpos = {"x": center[i, 0], "y": center[i, 1]}
        return head | {"annopoints": {"point": structs(listed)}, "scale": scale[i], "objpos": objpos}

    nowhere = person(2) | {"scale": np.zeros((0, 0)), "objpos": np.zeros((0, 0))}
    first = {
        "image": {"name": "015601864.jpg"},
        "annorect": structs([person(0), person(1), person(0, annotated=False), nowhere]),
    }
    second = {"image": {"name": "015601865.jpg"}, "annorect": person(2)}
    third = {"image": {"name": "015601866.jpg"}, "annorect": {"scale": 1.0, "objpos": {"x": 10.0, "y": 10.0}}}
    for entry in (first, second, third):
        entry |= {"frame_sec": np.zeros((0, 0)), "vididx": np.zeros((0, 0))}
    single = np.empty((3, 1), object)
    single[:, 0] = [np.array([[1], [2]]), 1, np.zeros((0, 0))]
    release = {
        "annolist": structs([first, second, third]),
        "img_train": np.array([[1, 1, 0]]),
        "version": "12",
        "single_person": single,
    }
    path = root / "mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat"
    path.parent.mkdir()
    scipy.io.savemat(path, {"RELEASE": release})

    names = ["015601864.jpg", "015601864.jpg", "015601865.jpg"]
    seen = np.array([[(i, k) not in missing for k in range(16)] for i in range(3)])
    entries = [
        {
            "image": names[i],
            "center": center[i].tolist(),
            "scale": scale[i],
            "joints": np.where(seen[i][:, None], points[i], -1.0).tolist(),
            "joints_vis": seen[i].astype(int).tolist(),
        }
        for i in range(3)
    ]
    (root / "annot").mkdir()
    (root / "annot/train.json").write_text(json.dumps(entries), encoding="utf-8")
    scales = np.array(scale)
    (root / "data").mkdir()
    with h5py.File(root / "data/train.h5", "w") as file:
        file["imgname"] = np.array(names, "S13")
        file["center"] = center + np.stack([np.zeros(3), 15 * scales], axis=1)
        file["scale"] = 1.25 * scales
        file["part"] = np.where(seen[..., None], points, 0.0)
    return points, center, scales


def structs(entries):
    """A MATLAB array of structs with the fields of the first entry."""
    result = np.zeros((1, len(entries)), [(key, object) for key in entries[0]])
    for i, entry in enumerate(entries):
        result[0, i] = tuple(entry[key] for key in entries[0])
    return result


def write_coco(root):
    """Two images with five annotations: whole, no face, a missing limb, a crowd, and one with a hidden joint."""
    rng = np.random.default_rng(4)
    points, flags = np.round(people(rng, 5, 17)), np.full((5, 17), 2)
    flags[1, :5], flags[2, 9], flags[3], flags[4, 12] = 0, 0, 0, 1
    points[flags == 0] = 0
    images = [(57, "COCO_train2014_000000000057.jpg"), (9, "COCO_train2014_000000000009.jpg")]  # Ids are not in order.
    for number, name in images:
        write_image(root / "train2014" / name, seed=number)
    annotations = [
        {
            "id": 900 + i,
            "image_id": images[i % 2][0],
            "category_id": 1,
            "iscrowd": int(i == 3),
            "bbox": [50.5 + i, 40.0, 100.0, 120.0 + i],
            "num_keypoints": int(np.sum(flags[i] > 0)),
            "keypoints": np.concatenate([points[i], flags[i][:, None]], axis=1).astype(int).ravel().tolist(),
            "segmentation": {"counts": [1, 2], "size": [240, 320]} if i == 3 else [[1.0, 2.0, 3.0, 4.0]],
        }
        for i in range(5)
    ]
    content = {
        "images": [{"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for i, name in images],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(joints.COCO17), "skeleton": [[16, 14]]}],
    }
    (root / "annotations").mkdir()
    (root / "annotations/person_keypoints_train2014.json").write_text(json.dumps(content), encoding="utf-8")
    return points, flags


CAMERAS = (0, 4)  # Those with images; the others have annotations only.
FRAMES, ROWS = 12, 14  # Of a video and of its annotations, which go on beyond it.
OUTSIDE = ("S1", "Seq1", 0, 3)  # A frame with a joint outside the image.


def write_mpi_inf_3dhp(root, extracted=()):
    """Two training sequences, as videos or (those of `extracted`) as frames; every frame is as bright as its number.

    Returns:
      (subject, sequence, camera) -> joints in the camera frame, millimetres (ROWS, 28, 3), pixels (ROWS, 28, 2), K.
    """
    rng = np.random.default_rng(5)
    written = {}
    for subject, sequence in (("S1", "Seq1"), ("S2", "Seq2")):
        folder = root / subject / sequence
        (folder / "imageSequence").mkdir(parents=True)
        cells2, cells3, calibration = (
            np.empty((14, 1), object),
            np.empty((14, 1), object),
            ["Skeletool Camera Calibration File V1.0"],
        )
        for camera in range(14):
            K = np.array([[300.0 + camera, 0, 160], [0, 301.0, 120], [0, 0, 1]])
            points = rng.uniform(-600, 600, (ROWS, 28, 3)) + np.array([0, 0, 3000])
            pixels = points @ K.T
            pixels = pixels[..., :2] / pixels[..., 2:]
            if (subject, sequence, camera) == OUTSIDE[:3]:
                pixels[OUTSIDE[3], 14, 0] = -1  # The right shoulder.
            cells2[camera, 0], cells3[camera, 0] = pixels.reshape(ROWS, 56), points.reshape(ROWS, 84)
            written[subject, sequence, camera] = points, pixels, K
            calibration += calibration_block(camera, K)
            if camera in CAMERAS:
                write_frames(folder, camera, as_files=(subject, sequence) in extracted)
        content = {
            "annot2": cells2,
            "annot3": cells3,
            "univ_annot3": cells3,
            "cameras": np.arange(14)[None],
            "frames": np.arange(ROWS)[:, None],
        }
        scipy.io.savemat(folder / "annot.mat", content)
        (folder / "camera.calibration").write_text("\n".join(calibration) + "\n", encoding="utf-8")
    return written


def calibration_block(camera, K):
    matrix = np.eye(4)
    matrix[:3, :3] = K
    numbers = " ".join(f"{x:.6g}" for x in matrix.ravel())
    identity = " ".join(f"{x:.6g}" for x in np.eye(4).ravel())
    return [
        f"name          {camera}", "  sensor      10 10", "  size        2048 2048", "  animated    0",
        f"  intrinsic   {numbers} ", f"  extrinsic   {identity} ", "  radial      0",
    ]  # fmt: skip


def write_frames(folder, camera, as_files, frames=FRAMES):
    images = [np.full((SIZE[1], SIZE[0], 3), 10 + 15 * i, np.uint8) for i in range(frames)]
    if as_files:
        target = folder / f"imageFrames/video_{camera}"
        target.mkdir(parents=True)
        for i, image in enumerate(images):
            cv2.imwrite(str(target / f"frame_{i + 1:06d}.jpg"), image)
        return
    video = cv2.VideoWriter(
        str(folder / f"imageSequence/video_{camera}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE
    )
    for image in images:
        video.write(image)
    video.release()


def write_mpi_inf_3dhp_test(root):
    """TS1 with three frames, of which the second is not valid, and TS5 with one. Returns (annot2, univ_annot3, annot3) by sequence."""
    rng = np.random.default_rng(6)
    written = {}
    for sequence, frames in (("TS1", 3), ("TS5", 1)):
        folder = root / "mpi_inf_3dhp_test_set" / sequence
        for i in range(frames):
            write_image(folder / f"imageSequence/img_{i + 1:06d}.jpg", seed=30 + i)
        real = rng.uniform(-600, 600, (frames, 1, 17, 3)) + np.array([0, 0, 3000])
        pixels = 300 * real[..., :2] / real[..., 2:] + np.array([160, 120])
        universal = real * 0.9
        with h5py.File(folder / "annot_data.mat", "w", userblock_size=512) as file:
            file["annot2"], file["univ_annot3"], file["annot3"] = pixels, universal, real
            file["valid_frame"] = np.array([[1.0], [0], [1]])[:frames]
            file["activity_annotation"] = np.arange(1.0, frames + 1)[:, None]
            file["bb_crop"] = np.zeros((frames, 34))
        written[sequence] = pixels[:, 0], universal[:, 0], real[:, 0]
    return written
