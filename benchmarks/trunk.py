"""How well the detector's network, which can be a trunk, finds the joints of rendered people, and how long it takes.

    python -m benchmarks.trunk [--sizes=256,192,128] [--images=64] [--data=DIR] [--options=image_size=256]

Mean and median distance of the visible shoulders, elbows, wrists, hips, knees and ankles of synthetic_bodies/clean from
where the network finds them, in pixels of 224, by the side of the crop that it reads.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

import tfds_builders
from multibodies_jax.data import augment, pipeline
from multibodies_jax.detection import layers, movenet, trunk
from multibodies_jax.geometry import joints

_LIMBS = [place for place, name in enumerate(joints.COCO17) if name.split("_")[-1] not in ("nose", "eye", "ear")]
_BATCH = 16


def errors(source: pipeline.Source, size: int, images: int) -> tuple[np.ndarray, float]:
    """Distances of visible joints, pixels of 224, and seconds for each image of the fastest batch."""
    network = trunk.read_published()

    @jax.jit
    def find(weights: dict, batch: jax.Array) -> jax.Array:
        def one(outputs: dict) -> jax.Array:
            return movenet.find_joints({name: maps[None] for name, maps in outputs.items()}, jnp.full(2, size / 2))

        return jax.vmap(one)(layers.run(network, weights, movenet.normalized(batch)))

    weights = jax.device_put(dict(network.weights))
    where = [joints.J24.index(joints.COCO17[place]) for place in _LIMBS]
    found, seconds = [], []
    make = functools.partial(augment.evaluation_example, crop_size=size)
    for rows in pipeline.evaluation_batches(source, _BATCH, make, threads=0, max_examples=images):
        begin = time.perf_counter()
        places = np.asarray(find(weights, rows["image"]))[:, _LIMBS, :2]
        seconds.append(time.perf_counter() - begin)
        distance = np.linalg.norm(places - (rows["kp2d"][:, where] + 1) * size / 2, axis=-1)
        found.append(distance[(rows["kp2d_input"][:, where] > 0) & (rows["valid"][:, None] > 0)])
    return np.concatenate(found) * 224 / size, min(seconds) / _BATCH


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trunk", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="256,192,128", help="sides of the crop, multiples of 32 (%(default)s)")
    parser.add_argument("--images", type=int, default=64, help="of the validation split (%(default)s)")
    parser.add_argument("--data", default="data", help="where data sets are built and read (%(default)s)")
    parser.add_argument("--options", default="", help="of the set: image_size=256,num_train=100 (its defaults)")
    args = parser.parse_args()
    sizes = [int(text) if text.isdecimal() else 0 for text in args.sizes.split(",")]
    if any(size < 32 or size % 32 for size in sizes) or args.images < 1:
        parser.error(
            f"--sizes={args.sizes}: multiples of 32 with commas between them; --images={args.images}: 1 or more"
        )
    try:
        trunk.read_published()
        options = tfds_builders.parse_options(args.options)
    except ValueError as error:
        parser.error(str(error))
    source = tfds_builders.source("synthetic_bodies/clean", "validation", args.data, **options)
    for size in sizes:
        distances, seconds = errors(source, size, args.images)
        print(
            f"crops of {size} pixels: mean {distances.mean():.1f}, median {np.median(distances):.1f} pixels of 224, "
            f"{1e3 * seconds:.0f} ms per image",
            flush=True,
        )


if __name__ == "__main__":
    main()
