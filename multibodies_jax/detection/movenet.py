"""People and their COCO-17 keypoints with MoveNet: MultiPose finds boxes, Thunder the joints of each person.

Both networks are CenterNets (Zhou et al., 2019) on a MobileNetV2 with a feature pyramid; the outputs have a cell for
every 4 x 4 pixels. The networks come from published files (`weights.py`); what their outputs mean is written here and
equals the published graphs run by TensorFlow.js 4.22 to 1e-4 pixels.

A person is looked at two or three times: in the box of MultiPose, in the box of the joints found there and, where that
box sticks out of the frame, once more with the image's border repeated outside instead of black. Black makes the network
pull joints that are outside onto the frame's edge with high confidence; with the repeated border it puts them outside.
The confidences are averaged over the looks, and a joint that one of the last two looks puts outside, or within `_MARGIN`
of the edge, has the confidence 0.

Measured on 52 truncated copies of nine photographs, whose whole copies tell what is where:

| looks | joints outside the frame that count as seen | joints inside that count as hidden |
|---|---|---|
| two, outside is black, no margin | 20.4 % | 5.6 % |
| as here | 8.0 % | 7.4 % |

`detections.MIN_CONFIDENCE` lies between the least confidence of a joint that is visible in the embedded photographs (0.30)
and the largest of one that is hidden (0.24); ears under hair count as visible there.
"""

import concurrent.futures
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from multibodies_jax import io, traced
from multibodies_jax.data import crops
from multibodies_jax.detection import detections, graph_files, layers, weights
from multibodies_jax.geometry import boxes, joints

SIZE = 256  # Side of the networks' input, pixels. Both accept more, but find large people less surely then.
MIN_SCORE = 0.3  # Of a box. A person of half the frame's side scored 0.93, of a tenth 0.53; a pole in the snow 0.25.
MIN_SIDE = 32.0  # Pixels of the longer side of a person's box.
MIN_VISIBLE = 4  # Joints, of a person who can be used.

CELL = 4
"""Pixels of the input in a cell of the outputs, along a side."""
_MOST_PEOPLE = 6  # As in the published MultiPose.
_BOX_PADDING, _JOINTS_PADDING = 1.25, 1.4  # Side of a look over the longer side of the box, and of the joints' box.
_FOUND = 0.2  # Confidence of a joint that the next look is centred around.
_MARGIN = 0.02  # Of the side of the joints' box.
_SAME_PERSON = 0.1  # Mean distance of the joints of two detections of one person, over the side of their boxes.

_IMAGE = "StatefulPartitionedCall/sub_1"
_HEADS = {
    "thunder": {"heatmap": "kpt_heatmap_0/conv2d_5", "centre": "center_0/conv2d_4"}
    | {"joints": "kpt_regress_0/conv2d_6", "offset": "kpt_offset_0/conv2d_7"},
    "multipose": {"centre": "center_0/conv2d_4", "joints": "kpt_regress_0/conv2d_8"}
    | {"size": "box_scale_0/conv2d_5", "offset": "box_offset_0/conv2d_6"},
}
_TORSO = np.array([joints.COCO17.index(f"{side}_{name}") for side in ("left", "right") for name in ("shoulder", "hip")])
_Box = tuple[float, float, float, float]  # x, y, width, height.
_SCALE = 257 / 32768  # 1 / 127.5 in half precision, as the files have it.


def load(folder: pathlib.Path | None = None) -> "MoveNet":
    """The detector; its networks are read and compiled once in a process.

    Args:
      folder: of the files; None is the one that `multibodies fetch detector` fills.

    Raises:
      weights.DetectorMissing: a file is missing or damaged; the message says the command that gets it.
    """
    return _load((folder or weights.folder()).absolute())


@functools.cache
def _load(folder: pathlib.Path) -> "MoveNet":
    detector = MoveNet(read_network(folder, "multipose"), read_network(folder, "thunder"))
    detector.compile()
    return detector


def read_network(folder: pathlib.Path, name: str, maps: Mapping[str, str] | None = None) -> graph_files.Network:
    """One of the published networks, "multipose" or "thunder"; its image has the values of `normalized`.

    Args:
      folder: of the files.
      name: of the network.
      maps: further outputs by name: the layers that compute them.

    Raises:
      weights.DetectorMissing: as `load`.
    """
    model, stored = weights.read(folder, f"movenet-{name}.json"), weights.read(folder, f"movenet-{name}.bin")
    outputs = {head: f"StatefulPartitionedCall/{node}/BiasAdd" for head, node in _HEADS[name].items()}
    return graph_files.read(model, stored, _IMAGE, outputs | dict(maps or {}))


def normalized(image: UInt8[Array, "B H W 3"] | UInt8[np.ndarray, "B H W 3"]) -> Float[Array, "B H W 3"]:
    """Pixels as the networks read them, between -1 and 1."""
    return jnp.asarray(image).astype(jnp.float32) * _SCALE - 1


class MoveNet:
    """The detector of `load`; implements `detections.Detector`.

    Args:
      multipose: outputs "centre", "joints", "size" and "offset" of the boxes of people.
      thunder: outputs "heatmap", "centre", "joints" and "offset" of the joints of one person.
    """

    def __init__(self, multipose: graph_files.Network, thunder: graph_files.Network):
        self._find = _compiled(multipose, find_boxes)
        self._look = _compiled(thunder, find_joints)

    def compile(self) -> None:
        """Compiles both networks at the same time, instead of one after the other at the first image."""
        black = np.zeros((1, SIZE, SIZE, 3), np.uint8)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found, looked = pool.submit(self._find, black), pool.submit(self._look, black, np.zeros(2, np.float32))
        jax.block_until_ready((found.result(), looked.result()))

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> list[detections.Detection]:
        """Finds the people of an upright RGB image.

        Returns:
          The people from left to right, at most six. Those who are too small or of whom too little is seen are among
          them, with the reason in `unusable`.

        Raises:
          ValueError: the image is not 8-bit RGB.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"A detector needs an 8-bit RGB image (H, W, 3), got {image.dtype} {image.shape}.")
        found = [self._person(image, *person) for person in self._boxes(image)]
        return sorted(_without_duplicates(found), key=lambda person: (person.box[0] + person.box[2] / 2, person.box))

    def _boxes(self, image: np.ndarray) -> list[tuple[_Box, np.ndarray, float]]:
        """Box inside the frame, centre, both in pixels of the image, and score of each person."""
        height, width = image.shape[:2]
        side = max(width, height)
        transform = boxes.affine(np.array([side / 2, side / 2]), side / boxes.SIDE, SIZE)
        table = np.asarray(self._find(crops.warp(image, transform, SIZE)[None]))
        found = []
        for row in table[table[:, 6] >= MIN_SCORE]:
            corners = np.clip(row[:4].reshape(2, 2) * side / SIZE, 0, (width, height))
            x, y, w, h = np.concatenate([corners[0], corners[1] - corners[0]]).tolist()
            found.append(((x, y, w, h), row[4:6] * side / SIZE, float(row[6])))
        return found

    def _person(self, image: np.ndarray, box: _Box, expected: np.ndarray, score: float) -> detections.Detection:
        """Joints of the person in a box."""
        x, y, width, height = box
        if max(width, height) < MIN_SIDE:
            size = f"{width:.0f} x {height:.0f} pixels"
            nothing = np.zeros((len(joints.COCO17), 3), np.float32)
            return _detection(nothing, box, score, f"too small: {size}, and {MIN_SIDE:.0f} are needed")
        frame = np.array(image.shape[1::-1])
        center, side = np.array([x + width / 2, y + height / 2]), _BOX_PADDING * max(width, height)
        first, expected = self._joints(image, center, side, expected)
        known = first[first[:, 2] >= _FOUND, :2]
        if len(known) >= 2 and np.ptp(known, axis=0).max() >= MIN_SIDE / 2:
            low, high = known.min(0), known.max(0)
            center, side = (low + high) / 2, _JOINTS_PADDING * float((high - low).max())
        second, _ = self._joints(image, center, side, expected)
        looks = [first, second]
        if np.any(center - side / 2 < 0) or np.any(center + side / 2 > frame):
            looks.append(self._joints(image, center, side, expected, repeat_border=True)[0])
        margin = _MARGIN * side / _JOINTS_PADDING
        places = np.stack([look[:, :2] for look in looks[1:]])
        inside = np.all((places >= margin) & (places <= frame - margin), axis=(0, 2))
        confidence = np.mean([look[:, 2] for look in looks], axis=0)
        table = np.concatenate([second[:, :2], np.where(inside, confidence, 0.0)[:, None]], axis=1)
        return _detection(table, box, score)

    def _joints(
        self, image: np.ndarray, center: np.ndarray, side: float, expected: np.ndarray, repeat_border: bool = False
    ) -> tuple[Float[np.ndarray, "17 3"], np.ndarray]:
        """x, y and confidence of the joints seen in one square, and x, y of the person's centre, pixels of the image."""
        transform = boxes.affine(center, side / boxes.SIDE, SIZE)
        crop = crops.warp(image, transform, SIZE, repeat_border=repeat_border)
        expected = (transform[:, :2] @ expected + transform[:, 2]).astype(np.float32)
        table = np.array(self._look(crop[None], expected))
        table[:, :2] = (table[:, :2] - transform[:, 2]) / transform[0, 0]
        return table[:-1], table[-1, :2]


def _detection(table: Float[np.ndarray, "17 3"], box: _Box, score: float, unusable: str = "") -> detections.Detection:
    """A detection of the rows x, y, confidence; says if too little is seen."""
    person = detections.Detection(table[:, :2].astype(np.float32), table[:, 2].astype(np.float32), box, score, unusable)
    seen = np.count_nonzero(person.visible)
    if unusable or seen >= MIN_VISIBLE:
        return person
    return dataclasses.replace(person, unusable=f"{seen} joints are seen, and {MIN_VISIBLE} are needed")


def _without_duplicates(found: Sequence[detections.Detection]) -> list[detections.Detection]:
    """Of detections of the same person, the one with the highest score."""
    kept: list[detections.Detection] = []
    for person in sorted(found, key=lambda person: (-person.score, person.box)):
        if not any(_same(person, other) for other in kept):
            kept.append(person)
    return kept


def _same(one: detections.Detection, other: detections.Detection) -> bool:
    """Whether the joints seen in both lie together or, where fewer than `MIN_VISIBLE` do, the boxes."""
    common = one.visible & other.visible
    if np.count_nonzero(common) < MIN_VISIBLE:
        return _overlap(one.box, other.box) > 0.7
    distance = np.linalg.norm(one.keypoints[common] - other.keypoints[common], axis=1).mean()
    return bool(distance < _SAME_PERSON * max(*one.box[2:], *other.box[2:]))


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes x, y, width, height; 0 for boxes without an area."""
    sides = [
        min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1)
    ]
    common = max(sides[0], 0.0) * max(sides[1], 0.0)
    union = one[2] * one[3] + other[2] * other[3] - common
    return common / union if union > 0 else 0.0


def _compiled(network: graph_files.Network, decode: Callable[..., Array]) -> Callable[..., Array]:
    """The network and the decoding of its outputs as one program, compiled for a size of images at its first call.

    The program reads an 8-bit image (1, H, W, 3) and what `decode` reads after the outputs.
    """
    arrays = jax.device_put(dict(network.weights))
    described = repr((network.layers, network.outputs, decode.__qualname__))
    graph = io.sha256(described.encode())

    @functools.partial(traced.jit, static_argnames="graph")
    def program(arrays: Mapping[str, Array], image: Array, more: tuple, graph: str) -> Array:
        del graph  # Tells kept programs apart.
        return decode(layers.run(network, arrays, normalized(image)), *more)

    return lambda image, *more: program(arrays, image, more, graph=graph)


def find_boxes(outputs: Mapping[str, Float[Array, "..."]]) -> Float[Array, "6 7"]:
    """Decodes MultiPose, the best person first.

    A person is a cell whose centre score is the largest of the 5 x 5 cells around it.

    Args:
      outputs: "centre", "joints", "size" and "offset" of the network.

    Returns:
      Left, top, right, bottom of the box, x, y of the middle of shoulders and hips (roughly), all in pixels of the
      input; and the score.
    """
    score = jax.nn.sigmoid(outputs["centre"][0, :, :, 0])
    largest = jax.lax.reduce_window(score, -jnp.inf, jax.lax.max, (5, 5), (1, 1), "SAME")
    best, index = jax.lax.top_k(jnp.where(score >= largest, score, 0.0).reshape(-1), _MOST_PEOPLE)
    row, column = jnp.divmod(index, score.shape[1])
    offset, size = outputs["offset"][0, row, column], jnp.maximum(outputs["size"][0, row, column], 0.0)
    cell = jnp.stack([row, column], axis=1).astype(jnp.float32)  # Row first in all outputs.
    low, high = cell + offset - size / 2, cell + offset + size / 2
    rough = outputs["joints"][0, row, column].reshape(_MOST_PEOPLE, -1, 2)
    torso = cell + rough[:, _TORSO].mean(axis=1)
    places = jnp.concatenate([part[:, ::-1] for part in (low, high, torso)], axis=1) * CELL
    return jnp.concatenate([places, best[:, None]], axis=1)


def find_joints(outputs: Mapping[str, Float[Array, "..."]], expected: Float[Array, "2"]) -> Float[Array, "18 3"]:
    """Decodes Thunder.

    The person is the cell with the highest centre score, divided by the distance (in cells, plus 1.8) from where a
    centre is expected; the published graph expects it in the middle. That cell says roughly where the joints are. Each
    joint is the peak of its heat map, divided by the distance from there; the offset of the peak's cell refines it.

    Args:
      outputs: "heatmap", "centre", "joints" and "offset" of the network.
      expected: x, y of the person's centre (the middle of shoulders and hips), in pixels of the input.

    Returns:
      x, y in pixels of the input, and confidence: of the joints, and last of the person's centre.
    """
    rows, columns, count = outputs["heatmap"].shape[1:]
    heat = jax.nn.sigmoid(outputs["heatmap"][0])
    row, column = jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij")
    (person_column, person_row, person), rough = _person_cell(outputs, expected)
    distance = jnp.hypot(
        row[:, :, None] - rough[:, 1].reshape(1, 1, -1),
        column[:, :, None] - rough[:, 0].reshape(1, 1, -1),
    )
    peak = jnp.argmax((heat / (distance + 1.8)).reshape(-1, count), axis=0)
    peak_row, peak_column = jnp.divmod(peak, columns)
    joint = jnp.arange(count)
    offset = outputs["offset"][0, peak_row, peak_column].reshape(count, count, 2)[joint, joint]
    found = jnp.stack([peak_column + offset[:, 1], peak_row + offset[:, 0], heat[peak_row, peak_column, joint]], axis=1)
    center = jnp.stack([person_column, person_row, person])
    return jnp.concatenate([found, center[None]]) * jnp.array([[CELL, CELL, 1.0]])


def rough_joints(outputs: Mapping[str, Float[Array, "..."]], expected: Float[Array, "2"]) -> Float[Array, "17 2"]:
    """Where the person's cell of `find_joints` puts the joints, hidden ones too; x, y in pixels of the input."""
    return _person_cell(outputs, expected)[1] * CELL


def _person_cell(
    outputs: Mapping[str, Float[Array, "..."]], expected: Float[Array, "2"]
) -> tuple[tuple[Array, Array, Array], Float[Array, "K 2"]]:
    """Column, row and score of the cell of the person's centre, and where it says that the joints are: x, y in cells."""
    centre = jax.nn.sigmoid(outputs["centre"][0, :, :, 0])
    row, column = jnp.meshgrid(*map(jnp.arange, centre.shape), indexing="ij")
    x, y = expected / CELL
    best = jnp.argmax(centre / (jnp.hypot(row - y, column - x) + 1.8))
    person_row, person_column = jnp.divmod(best, centre.shape[1])
    offsets = outputs["joints"][0, person_row, person_column].reshape(-1, 2)
    rough = jnp.stack([person_column, person_row])[None] + offsets[:, ::-1]
    return (person_column, person_row, centre[person_row, person_column]), rough
