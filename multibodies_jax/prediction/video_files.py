"""The bodies of a video as files: arrays, animated scenes for other programs, and an overlay video.

Tables of one person (`PERSON_K.npz`) are `MEANINGS`; GLB and BVH are described in docs/files.md.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from multibodies_jax import exact, io
from multibodies_jax.body import body_files, smpl
from multibodies_jax.export import camera, glb, scene, skeletons
from multibodies_jax.geometry import joints
from multibodies_jax.prediction import sequences
from multibodies_jax.tracking import frames, smoothing
from multibodies_jax.vis import render

MEANINGS = {
    "frames": "(T,) numbers of consecutive frames of the video, from 0",
    "seconds": "(T,) their times since the first frame of the video",
    "interpolated": "(T,) whether the person was not predicted there: the frame is bridged between its neighbours",
    "probabilities": "(T, n) of the bodies, smoothed; each row sums to 1. The bodies are ordered by the mean over time",
    "rotmats": "(T, n, 24, 3, 3) SMPL rotations, smoothed; the root in the camera frame",
    "betas": "(n, S) SMPL shape: the mean over time",
    "translation": "(T, n, 3) p_camera = p + translation takes the posed body to the video's camera; metres, smoothed",
    "joints24": "(T, n, 24, 3) J24 before the video's camera, metres",
    "hypothesis": "(T, n) which of the M hypotheses of the frame each body is; -1 where it is interpolated",
    "error_px": "(T, n) mean distance of the projected joints to the known keypoints; NaN where none is known",
    "joint_spread": "(T, 24) mean distance of each joint to its mean over the M weighted hypotheses, metres",
    "keypoints": "(T, 24, 3) J24: x, y in pixels, and 1 where the joint is known; zeros where it is interpolated",
    "joint_names": "(24,) the names of J24",
    "frames_per_second": "of the video: the mean",
    "focal_px": "focal length, pixels",
    "focal_source": "`given` or `assumed`",
    "principal_point": "(2,) pixels: the middle of the image",
    "image_size": "(2,) width, height of the upright frames, pixels",
    "video": "file name of the video",
    "person": "number of the person in the video",
    "body": "the body model",
    "body_fingerprint": "SHA-256 of the body model",
    "trained_on": "what the model was trained on",
    "commit": "the commit that made the file",
    "refined": "whether the hypotheses were fitted to the known keypoints",
    "quantizer": "settings of `quantize.select` in each frame, as JSON; `weights` in it are those of the hypotheses",
    "format": "version of this layout: 1",
}
"""Array -> its shape and what it is."""
_CHUNK = 64  # Frames whose joints are computed at once.
_SAME_TIME_S = 1e-3  # Times of frames that differ by less from a constant rate are at a constant rate.
_COLUMNS = 3  # Panels side by side.
_WIDEST_PX = 1920  # Of the overlay video.
# MPEG-4 part 2 has at most this many ticks per second, and OpenCV writes a rate of 119.987 as 119,987 ticks.
_LARGEST_TICKS = 65_535
_ALPHA = 0.8
Arrays = dict[str, np.ndarray]


def arrays(
    sequence: sequences.Sequence,
    body: body_files.BodyFiles,
    lens: camera.Lens,
    video: frames.Video,
    frames_per_second: float,
    about: Mapping[str, np.ndarray],
) -> Arrays:
    """The table of one person, as `MEANINGS` says.

    Args:
      sequence: of the person.
      body: that it is of.
      lens: of the video.
      video: where the person is.
      frames_per_second: mean rate.
      about: `body`, `body_fingerprint`, `trained_on`, `commit`, `refined` and `quantizer`, of any of its predictions.
    """
    rows = sequence.rows
    translation = rows["root"] - _rest(body, sequence.betas)[1][:, 0].astype(np.float32)
    joints24 = _joints24(body, rows["rotations"], sequence.betas) + translation[:, :, None]
    matrix = camera.intrinsics(lens.focal_px, video.size)
    keypoints = np.array(rows["keypoints"])
    found = {
        "frames": np.array(rows["frame"]),
        "seconds": np.array(rows["seconds"]),
        "interpolated": ~rows["observed"],
        "probabilities": np.array(rows["probabilities"]),
        "rotmats": np.array(rows["rotations"]),
        "betas": sequence.betas.astype(np.float32),
        "translation": translation,
        "joints24": joints24,
        "hypothesis": np.array(rows["index"]),
        "error_px": _error_px(joints24, keypoints, matrix),
        "joint_spread": np.array(rows["joint_spread"]),
        "keypoints": keypoints,
        "joint_names": np.array(joints.J24),
        "frames_per_second": np.array(frames_per_second),
        "focal_px": np.array(lens.focal_px, np.float32),
        "focal_source": np.array(lens.source),
        "principal_point": matrix[:2, 2],
        "image_size": np.array(video.size),
        "video": np.array(video.path.name),
        "person": np.array(sequence.number),
        "format": np.array(1),
    }
    names = ("body", "body_fingerprint", "trained_on", "commit", "refined", "quantizer")
    return found | {name: np.asarray(about[name]) for name in names if name in about}


def make_scene(table: Arrays, body: body_files.BodyFiles, bone_spread: Float[np.ndarray, "24"]) -> scene.Scene:
    """The moving bodies of one person, at a constant rate; time begins with the first frame that shows the person.

    A body's `index` is its rank: the hypothesis that it stands for differs from frame to frame.

    Args:
      table: from `arrays`.
      body: that it is of.
      bone_spread: mean over time, for the file.
    """
    rate = float(table["frames_per_second"])
    rest_vertices, rest_joints = _rest(body, table["betas"])
    middle = len(table["frames"]) // 2
    correctives = np.asarray(_correctives(body.smpl, jnp.asarray(table["rotmats"][middle])), np.float64)
    bodies = []
    for k in range(len(table["betas"])):
        motion = resample(table["seconds"], table["rotmats"][:, k], table["translation"][:, k], rate)
        bodies.append(
            scene.Body(
                index=k,
                rest_vertices=rest_vertices[k],
                correctives=correctives[k],
                rest_joints=rest_joints[k],
                rotations=motion.rotations[0],
                translation=motion.translation[0],
                joints24=table["joints24"][0, k].astype(np.float64),
                crop_view=np.eye(3, 4),
                motion=motion,
            )
        )
    mean = table["probabilities"].mean(axis=0)
    choice = scene.Choice(tuple(range(len(bodies))), tuple((mean / mean.sum()).tolist()))
    size = (int(table["image_size"][0]), int(table["image_size"][1]))
    matrix = camera.intrinsics(float(table["focal_px"]), size)
    person = scene.Person(
        number=int(table["person"]),
        bodies=tuple(bodies),
        choices={len(bodies): choice},
        chosen=len(bodies),
        crop_intrinsics=matrix.astype(np.float64),
        keypoints=table["keypoints"][0].astype(np.float64),
        joint_spread=table["joint_spread"].mean(axis=0).astype(np.float64),
        bone_spread=bone_spread.astype(np.float64),
        vertex_spread=None,
    )
    return scene.Scene(
        people=(person,),
        faces=np.asarray(body.smpl.faces, np.int64),
        skinning=np.asarray(body.smpl.weights),
        focal_px=float(table["focal_px"]),
        principal_point=table["principal_point"].astype(np.float64),
        image_size=size,
        image=str(table["video"]),
        focal_source=str(table["focal_source"]),
        about=f"body: {table.get('body', body.description)}; trained on: {table.get('trained_on', 'unknown')}",
        frames_per_second=rate,
    )


def resample(
    seconds: Float[np.ndarray, "T"],
    rotations: Float[np.ndarray, "T 24 3 3"],
    translation: Float[np.ndarray, "T 3"],
    rate: float,
) -> scene.Motion:
    """A motion at a constant rate, from its first time to its last.

    Args:
      seconds: of the frames, at whatever rate.
      rotations: at these times.
      translation: at these times.
      rate: frames per second of the result; frames that are at this rate already stay as they are.
    """
    count = round(float(seconds[-1] - seconds[0]) * rate) + 1
    times = seconds[0] + np.arange(count) / rate
    if count == len(seconds) and np.abs(times - seconds).max() < _SAME_TIME_S:
        return scene.Motion(rotations.astype(np.float64), translation.astype(np.float64))
    turned, placed = [], []
    for time in np.clip(times, seconds[0], seconds[-1]):
        after = min(max(int(np.searchsorted(seconds, time)), 1), len(seconds) - 1)
        share = (time - seconds[after - 1]) / (seconds[after] - seconds[after - 1])
        turned.append(smoothing.between_rotations(rotations[after - 1], rotations[after], share))
        placed.append((1 - share) * translation[after - 1] + share * translation[after])
    return scene.Motion(np.stack(turned), np.stack(placed).astype(np.float64))


def write_person(
    stem: pathlib.Path, sequence: sequences.Sequence, table: Arrays, body: body_files.BodyFiles
) -> list[pathlib.Path]:
    """Writes the table, an animated GLB, and a BVH for each body.

    Args:
      stem: folder and name of the files without their suffix.
      sequence: of the person.
      table: from `arrays`.
      body: that it is of.

    Returns:
      The files.

    Raises:
      OSError: one cannot be written.
    """
    made = make_scene(table, body, sequence.rows["bone_spread"].mean(axis=0))
    written = [stem.with_name(f"{stem.name}.npz"), stem.with_name(f"{stem.name}.glb")]
    io.write_npz(written[0], table)
    glb.write(made, written[1])
    for rank, moving in enumerate(made.people[0].bodies):
        written.append(stem.with_name(f"{stem.name}_body_{rank}.bvh"))
        skeletons.write_bvh(moving, written[-1], made.frames_per_second)
    return written


def write_overlay(
    path: str | os.PathLike,
    video: frames.Video,
    people: Sequence[tuple[Arrays, int]],
    body: body_files.BodyFiles,
    frames_per_second: float,
) -> None:
    """Decodes the video again and draws the bodies over it; one panel for each rank, with everybody's body of that rank.

    Frames of a variable rate are repeated or left out, so that the result has a constant one and the same length. The rate
    is rounded to one that MPEG-4 can have (`writable_rate`).

    Args:
      path: of the MP4 (codec MPEG-4 part 2); replaced when the new one is whole.
      video: to draw over.
      people: table of each person, and the number of its colour in `scene.COLORS`.
      body: of all of them.
      frames_per_second: of the result.

    Raises:
      VideoError: OpenCV cannot write it.
      OSError: the folder cannot be written.
    """
    frames_per_second = writable_rate(frames_per_second)
    n = max(len(table["betas"]) for table, _ in people)
    columns = min(n, _COLUMNS)
    width = min(video.size[0], _WIDEST_PX // columns) // 2 * 2
    height = max(round(video.size[1] * width / video.size[0]) // 2 * 2, 2)
    size = (columns * width, -(-n // columns) * height)
    focal_px = float(people[0][0]["focal_px"])
    zoom = np.diag([width / video.size[0], height / video.size[1], 1.0])
    intrinsics = zoom @ camera.intrinsics(focal_px, video.size)
    with io.replacing(path) as temporary:
        unfinished = temporary.with_suffix(".mp4")  # OpenCV takes the container from the suffix.
        writer = cv2.VideoWriter(str(unfinished), cv2.VideoWriter.fourcc(*"mp4v"), frames_per_second, size)
        try:
            if not writer.isOpened():
                raise frames.VideoError(
                    f"{path}: OpenCV cannot write an MP4 of {size[0]} x {size[1]} pixels with {frames_per_second:g} frames "
                    "per second here. A smaller video, a smaller --n or an ordinary rate may help."
                )
            before: tuple[float, UInt8[np.ndarray, "H W 3"]] | None = None
            written = 0
            bar = tqdm(frames.frames(video), desc="overlay", unit="frame", total=video.stated_frames or None)
            for frame in bar:
                if before is not None:
                    written = _until(writer, before[1], written, frame.seconds * frames_per_second)
                picture = _sheet(frame, people, body, intrinsics, (width, height), n)
                before = frame.seconds, picture
            if before is not None:
                _until(writer, before[1], written, before[0] * frames_per_second + 1)
            writer.release()
            os.replace(unfinished, temporary)
        finally:
            writer.release()
            unfinished.unlink(missing_ok=True)


def writable_rate(frames_per_second: float) -> float:
    """The rate rounded to as many decimals, three at most, as leave a whole number of ticks that MPEG-4 can count."""
    for decimals in (3, 2, 1):
        if round(frames_per_second, decimals) * 10**decimals <= _LARGEST_TICKS:
            return round(frames_per_second, decimals)
    return float(round(frames_per_second))


def _until(writer: cv2.VideoWriter, picture: np.ndarray, written: int, end: float) -> int:
    """Writes a picture as often as it is shown until tick `end`; the number of ticks written."""
    while written < round(end):
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        written += 1
    return written


def _sheet(frame, people, body, intrinsics, size: tuple[int, int], n: int) -> UInt8[np.ndarray, "h w 3"]:
    """The panels of one frame."""
    width, height = size
    small = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    present = []
    for table, number in people:
        at = frame.number - int(table["frames"][0])
        if 0 <= at < len(table["frames"]):
            vertices = _mesh(body.smpl, jnp.asarray(table["rotmats"][at]), jnp.asarray(table["betas"]))
            color = scene.COLORS[number % len(scene.COLORS)]
            present.append((np.asarray(vertices) + table["translation"][at, :, None], color, table, at))
    faces, columns = np.asarray(body.smpl.faces), min(n, _COLUMNS)
    sheet = np.full((-(-n // columns) * height, columns * width, 3), 255, np.uint8)
    for rank in range(n):
        shown = [(vertices[rank], color) for vertices, color, _, _ in present if rank < len(vertices)]
        panel = render.draw_bodies(
            small, [verts for verts, _ in shown], faces, intrinsics, [color for _, color in shown], alpha=_ALPHA
        )
        for line, (vertices, color, table, at) in enumerate(present):
            if rank < len(vertices):
                text = f"{int(table['person'])}: p {table['probabilities'][at, rank]:.2f}"
                text += " (bridged)" if table["interpolated"][at] else ""
                _write_text(panel, text, (8, 20 + 20 * line), color)
        row, column = divmod(rank, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = panel
    return sheet


def _write_text(picture: UInt8[np.ndarray, "h w 3"], text: str, place: tuple[int, int], color) -> None:
    for ink, thickness in (((0, 0, 0), 3), (tuple(255 * x for x in color), 1)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, thickness, cv2.LINE_AA)


def _rest(body: body_files.BodyFiles, betas) -> tuple[Float[np.ndarray, "n V 3"], Float[np.ndarray, "n 24 3"]]:
    vertices, rest_joints = _shape(body.smpl, jnp.asarray(betas, jnp.float32))
    return np.asarray(vertices, np.float64), np.asarray(rest_joints, np.float64)


def _joints24(body: body_files.BodyFiles, rotations, betas) -> Float[np.ndarray, "T n 24 3"]:
    """J24 in the frame of the posed body, a chunk of frames after the other."""
    contracted = smpl.contract(body.smpl, body.j24_regressor)
    total, shape = len(rotations), jnp.asarray(betas, jnp.float32)
    found = np.empty((*rotations.shape[:2], 24, 3), np.float32)
    for start in range(0, total, _CHUNK):
        part = np.array(rotations[start : start + _CHUNK])
        padded = np.concatenate([part, np.repeat(part[-1:], _CHUNK - len(part), axis=0)])  # One compilation.
        shapes = jnp.broadcast_to(shape, (_CHUNK, *shape.shape))
        found[start : start + _CHUNK] = _regress(contracted, jnp.asarray(padded), shapes)[: len(part)]
    return found


def _error_px(joints24, keypoints, matrix) -> Float[np.ndarray, "T n"]:
    projected = joints24 @ matrix.T
    pixels = projected[..., :2] / np.maximum(projected[..., 2:], 1e-6)
    known = np.broadcast_to(keypoints[:, None, :, 2] > 0, pixels.shape[:-1])
    distance = np.where(known, np.linalg.norm(pixels - keypoints[:, None, :, :2], axis=-1), 0)
    count = known.sum(axis=-1)
    return np.where(count > 0, distance.sum(axis=-1) / np.maximum(count, 1), np.nan).astype(np.float32)


_mesh = jax.jit(smpl.mesh)
_shape = jax.jit(smpl.shape)
_regress = jax.jit(smpl.joints)


@jax.jit
def _correctives(model: smpl.SmplModel, rotmats):
    return exact.einsum("vap,np->nva", model.posedirs, smpl.pose_features(rotmats))
