"""Examples of Human3.6M from SPIN's lists (.npz) and extracted images, under the ids that the official archive gives."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from multibodies_jax.data import image_layouts
from tfds_builders.archives import Skip
from tfds_builders.h36m import archive, recorded
from tfds_builders.sources import rows, spin

LISTS = {
    "spin": {"train": "h36m_train.npz", "validation": "h36m_train.npz", "test": "h36m_valid_protocol2.npz"},
    "spin_p1": {"test": "h36m_valid_protocol1.npz"},
}
VALIDATION = {"subject": 8, "camera": archive.FRONT_CAMERA}  # Of the training list.


def make(task: spin.Task) -> Iterator[dict[str, Any] | Skip]:
    """The examples of some rows; runs in a worker process."""
    people = spin.load(task.path, task.fits)
    hint = "h36m_p1" if "protocol1" in task.path.name else "h36m_p2"
    some = []
    for i in range(task.first, task.first + task.count):
        said = image_layouts.parse(people.imgname[i], task.layout.dataset)
        if not {"subject", "take", "camera", "frame"} <= set(said):
            some.append(Skip("an image whose name is not Human3.6M's", f"row {i}, {people.imgname[i]}"))
        elif task.split != "validation" or all(said[key] == value for key, value in VALIDATION.items()):
            some.append(_row(people, i, said, task, hint))
    yield from rows.make(rows.Task(task.archive, ".", "h36m", task.split, tuple(some), task.options))


def _row(people: Any, i: int, said: dict[str, Any], task: spin.Task, hint: str) -> rows.Row:
    """Not `rows.row`: the lists to test on have no 2D joints."""
    file = task.layout.path(people.imgname[i])
    assert file is not None  # `spin.plan` saw to that.
    more: dict[str, Any] = {
        "joints3d": people.joints3d[i, :, :3],
        "joints3d_valid": (people.joints3d[i, :, 3] > 0).astype(np.float32),
        "gender": people.gender[i],
        "protocol_hint": hint,
    }
    if people.smpl_valid[i] > 0:
        more |= {"pose": people.pose[i], "betas": people.betas[i], "smpl_valid": 1.0}
    return rows.Row(
        recorded.example_id(f"S{said['subject']}", said["take"], said["camera"], said["frame"] - 1),
        file.relative_to(task.archive).as_posix(),
        people.kp2d[i, :, :2],
        (people.kp2d[i, :, 2] > 0).astype(np.float32),
        people.center[i],
        float(people.scale[i]),
        more=more,
    )
