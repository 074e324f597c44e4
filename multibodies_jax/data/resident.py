"""Image sets that stay on the device, and training examples made of them there: what `augment` does, in JAX.

A GPU waits for a processor that decodes and warps; small images fit into its memory whole.
"""

import concurrent.futures
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32
from tqdm import tqdm

from multibodies_jax import exact
from multibodies_jax.batch import Batch, Inputs, Target
from multibodies_jax.data import augment, occlusion
from multibodies_jax.data.augment import Strength
from multibodies_jax.geometry import boxes, joints, rotations, rotations_np

MOST_BYTES = 16 * 2**30  # Of the images.
_LEAST_ZOOM = 0.5  # Of images to crops: with two samples along each side, smaller ones would flicker.
_THREADS = 8


@no_type_check  # One example has no axis N.
class Stored(flax.struct.PyTreeNode):
    """All examples of the sets, as docs/interfaces.md has them; `N` along the first axis.

    Attributes:
      image: windows, black below and to the right of those smaller than the largest.
      origin: of the window in the original image, pixels.
      box, box_full: x, y of the centre and the scale of the stored box and of the one without occlusion.
      kp2d: original pixels.
      joints3d: mid-hip centred.
      first, count, weight: of each set: its first example, how many it has, and its share of every batch.
    """

    image: UInt8[Array, "N H W 3"]
    origin: Float[Array, "N 2"]
    box: Float[Array, "N 3"]
    box_full: Float[Array, "N 3"]
    kp2d: Float[Array, "N 24 2"]
    kp2d_valid: Float[Array, "N 24"]
    kp2d_input: Float[Array, "N 24"]
    joints3d: Float[Array, "N 24 3"]
    joints3d_valid: Float[Array, "N 24"]
    rotmats: Float[Array, "N 24 3 3"]
    betas: Float[Array, "N 10"]
    smpl_valid: Float[Array, "N"]
    example_hash: UInt32[Array, "N"]
    first: Int[Array, "S"]
    count: Int[Array, "S"]
    weight: Float[Array, "S"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How examples are made of what is stored; arguments of `augment.training_example`."""

    crop_size: int
    occlusion: str = "paper"
    strength: Strength = augment.MILD
    augment: bool = True


@no_type_check  # Of one example, or of a batch.
class View(flax.struct.PyTreeNode):
    """What is drawn for one example: box in original pixels, radians, mirror image, factor of each colour channel."""

    visible: Float[Array, "24"]
    center: Float[Array, "2"]
    scale: Float[Array, ""]
    angle: Float[Array, ""]
    flip: Array
    gain: Float[Array, "3"]


def load(sources: Sequence[Sequence[augment.Record]], weights: Sequence[float], settings: Settings) -> Stored:
    """Reads all examples of all sources.

    Args:
      sources: random-access records with the features of section 1 of docs/interfaces.md.
      weights: share of each source in every batch.
      settings: of the examples that will be drawn.

    Raises:
      ValueError: a record that cannot be used, images too many for `MOST_BYTES`, or too large for the crops; what to set
        instead is said.
    """
    rows: list[dict[str, Any]] = []
    for source in sources:
        first = np.asarray(source[0]["image"])
        _check_bytes(first.nbytes * sum(map(len, sources)))  # Before all are read.
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
            read = threads.map(lambda index, source=source: _row(source[index]), range(len(source)))
            rows += tqdm(read, desc="images to the device", total=len(source), unit=" images", mininterval=1)
    shape = np.max([row["image"].shape for row in rows], axis=0)
    _check_bytes(len(rows) * math.prod(map(int, shape)))  # All are as large as the largest.
    images: UInt8[np.ndarray, "N H W 3"] = np.zeros((len(rows), *shape), np.uint8)
    for index, row in enumerate(rows):
        own = row.pop("image")
        images[index, : len(own), : own.shape[1]] = own
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    _check_zoom(stacked, settings)
    counts = np.array([len(source) for source in sources])
    share = np.asarray(weights, np.float32) / np.sum(weights)
    arrays = stacked | {"image": images, "first": np.cumsum(counts) - counts, "count": counts, "weight": share}
    return Stored(**{name: jnp.asarray(values) for name, values in arrays.items()})


def _check_bytes(total: int) -> None:
    if total > MOST_BYTES:
        raise ValueError(
            f"config.data.resident keeps all images on the device: these take about {total / 2**30:.0f} GiB, and "
            f"accepted are {MOST_BYTES / 2**30:.0f}. Set config.data.resident=False, which reads them as they are needed."
        )


def _row(record: augment.Record) -> dict[str, Any]:
    augment.check(record, needs_keypoints=True)
    joints3d, joints3d_valid = augment.centred(record)
    return {
        "image": np.asarray(record["image"]),
        "origin": np.asarray(record["window"][:2], np.float32),
        "box": np.append(record["box_center"], record["box_scale"]).astype(np.float32),
        "box_full": np.append(record["box_center_full"], record["box_scale_full"]).astype(np.float32),
        "kp2d": np.asarray(record["kp2d"], np.float32),
        "kp2d_valid": np.asarray(record["kp2d_valid"], np.float32),
        "kp2d_input": np.asarray(record["kp2d_input"], np.float32),
        "joints3d": joints3d,
        "joints3d_valid": joints3d_valid,
        "rotmats": rotations_np.axis_angle_to_matrix(np.asarray(record["pose"], np.float64)).astype(np.float32),
        "betas": np.asarray(record["betas"], np.float32),
        "smpl_valid": np.float32(record["smpl_valid"]),
        "example_hash": augment.example_hash(augment.example_id(record)),
    }


def _check_zoom(rows: dict[str, np.ndarray], settings: Settings) -> None:
    larger = 1 + settings.strength.scale * settings.augment
    side = boxes.SIDE * larger * max(rows["box"][:, 2].max(), rows["box_full"][:, 2].max())
    if settings.crop_size / side < _LEAST_ZOOM:
        raise ValueError(
            f"config.data.resident shrinks images at most to {_LEAST_ZOOM:g} of their size, and a box of {side:.0f} pixels "
            f"becomes a crop of {settings.crop_size}. Set config.data.resident=False, or a larger config.model.crop_size."
        )


def draw(stored: Stored, key: Key[Array, ""], count: int, settings: Settings) -> Batch:
    """Draws examples, with replacement; each depends on its own key alone."""
    k_set, k_index, k_view = jax.random.split(key, 3)
    number = jax.random.choice(k_set, len(stored.weight), (count,), p=stored.weight)
    index = stored.first[number] + jax.random.randint(k_index, (count,), 0, stored.count[number])

    def example(index: Array, key: Key[Array, ""]) -> Batch:
        row = take(stored, index)
        return see(row, draw_view(row, key, settings), settings.crop_size)

    return jax.vmap(example)(index, jax.random.split(k_view, count))


def take(stored: Stored, index: Int[Array, ""] | int) -> Any:
    """One example: `Stored` without its first axis."""
    sets = {"first", "count", "weight"}
    fields = [field.name for field in dataclasses.fields(Stored)]
    return stored.replace(**{name: getattr(stored, name)[index] for name in fields if name not in sets})


def draw_view(row: Any, key: Key[Array, ""], settings: Settings) -> View:
    """How an example is seen, with the distributions of `augment.training_example`."""
    k_strategy, k_box, k_angle, k_flip, k_gain = jax.random.split(key, 5)
    visible, box = row.kp2d_input, row.box
    if settings.occlusion == "paper":
        strategy = jax.random.choice(k_strategy, len(occlusion.STRATEGIES), p=jnp.array(occlusion.PROBABILITIES))
        visible, strategy = map(jnp.asarray, occlusion.hide(strategy, row.kp2d_valid))
        center, scale = boxes.visible_box(row.kp2d, visible)
        tight = jnp.concatenate([jnp.asarray(center), jnp.asarray(scale)[None]])
        box = jnp.where(strategy == 0, row.box_full, tight)
    center, scale = box[:2], box[2]
    angle, flip, gain = jnp.zeros(()), jnp.zeros((), bool), jnp.ones(3)
    if settings.augment:
        its, normal = settings.strength, jax.random.normal(k_box, (4,))
        half_side = boxes.half_side(scale)
        scale = scale * jnp.clip(1 + its.scale * normal[0], 1 - its.scale, 1 + its.scale)
        center = center + half_side * its.shift * jnp.clip(normal[1:3], -2.0, 2.0)
        turned = jnp.deg2rad(its.angle_deg) * jnp.clip(normal[3], -2.0, 2.0)
        angle = jnp.where(jax.random.bernoulli(k_angle, its.rotate), turned, 0.0)
        flip = jax.random.bernoulli(k_flip, its.flip)
        gain = jax.random.uniform(k_gain, (3,), minval=1 - its.gain, maxval=1 + its.gain)
    return View(visible, center, scale, angle, flip, gain)


def see(row: Any, view: View, crop_size: int) -> Batch:
    """The example, without a batch axis, as it is drawn: image, keypoints, joints and body move together."""
    turn = rotations.axis_angle_to_matrix(jnp.zeros(3).at[2].set(view.angle))
    rotmats = row.rotmats.at[0].set(exact.matmul(turn, row.rotmats[0]))
    half_side = boxes.half_side(view.scale)
    kp2d = exact.matmul(row.kp2d - view.center[None], turn[:2, :2].T) / half_side
    kp2d = jnp.where(row.kp2d_valid[:, None] > 0, kp2d, 0.0)
    joints3d = exact.matmul(row.joints3d, turn.T)
    points = {"kp2d": kp2d, "kp2d_valid": row.kp2d_valid, "kp2d_input": (view.visible > 0).astype(jnp.float32)}
    points |= {"joints3d": joints3d, "joints3d_valid": row.joints3d_valid}
    mirror = jnp.array([-1.0, 1.0, 1.0])
    mirrored = {name: values[joints.J24_FLIP] for name, values in points.items()}
    mirrored |= {"kp2d": mirrored["kp2d"] * mirror[None, :2], "joints3d": mirrored["joints3d"] * mirror[None]}
    points = {name: jnp.where(view.flip, mirrored[name], points[name]) for name in points}
    turned_about = rotmats[joints.SMPL_FLIP] * (mirror[:, None] * mirror[None])[None]
    image = _warp(row.image, row.origin, view, crop_size)
    image = jnp.clip(jnp.floor(image * view.gain[None, None] + 0.5), 0, 255).astype(jnp.uint8)
    return Batch(
        Inputs(points["kp2d"], points["kp2d_input"], row.example_hash, image),
        Target(
            joints3d=points["joints3d"],
            joints3d_valid=points["joints3d_valid"],
            kp2d=points["kp2d"],
            kp2d_valid=points["kp2d_valid"],
            rotmats=jnp.where(view.flip, turned_about, rotmats),
            betas=row.betas,
            smpl_valid=row.smpl_valid,
        ),
        valid=jnp.ones(()),
    )


def _warp(
    image: UInt8[Array, "H W 3"], origin: Float[Array, "2"], view: View, size: int
) -> Float[Array, "{size} {size} 3"]:
    """`crops.warp` of a box at least half as large in the crop: whole numbers, black outside the window."""
    zoom = size / (boxes.SIDE * view.scale)
    # Where the image shrinks, two samples along each side of a pixel; else all four are its middle.
    apart = jnp.where(zoom < 1 - 1e-6, 0.25, 0.0)
    middle = jnp.arange(size) + 0.5
    x, y = (jnp.stack([middle - apart, middle + apart], axis=1).reshape(-1) - size / 2 for _ in range(2))
    x = jnp.where(view.flip, -x, x)
    cos, sin = jnp.cos(view.angle) / zoom, jnp.sin(view.angle) / zoom
    at_x = cos * x[None] + sin * y[:, None] + (view.center[0] - origin[0] - 0.5)
    at_y = -sin * x[None] + cos * y[:, None] + (view.center[1] - origin[1] - 0.5)
    low_x, low_y = jnp.floor(at_x), jnp.floor(at_y)
    height, width = image.shape[:2]
    flat = image.reshape(-1, 3)
    value = jnp.zeros((*at_x.shape, 3))
    for dx in (0, 1):
        for dy in (0, 1):
            column, line = low_x + dx, low_y + dy
            share = (1 - jnp.abs(at_x - column)) * (1 - jnp.abs(at_y - line))
            inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
            place = jnp.clip(line, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
            pixel = flat[place.astype(jnp.int32)].astype(jnp.float32)
            value += jnp.where(inside, share, 0.0)[..., None] * pixel
    return jnp.round(jnp.mean(jnp.round(value).reshape(size, 2, size, 2, 3), axis=(1, 3)))
