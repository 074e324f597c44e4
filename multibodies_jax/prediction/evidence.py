"""What a network sees of one person, as the data pipeline would make it."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from multibodies_jax.batch import Inputs
from multibodies_jax.data import augment
from multibodies_jax.prediction import people


def evidence(
    image: UInt8[np.ndarray, "H W 3"],
    person: people.Person,
    box: tuple[Float[np.ndarray, "2"], float],
    name: str,
    crop_size: int,
    crop: str = "exact",
    contrast_stretch: bool = False,
) -> Inputs:
    """The inputs of one person (B = 1) as the pipeline would make them.

    Args:
      image: upright.
      person: its known keypoints are the evidence.
      box: centre and scale of the crop.
      name: stands for the example id.
      crop_size: side of the crop in pixels; 0 for no image.
      crop: `exact` or `spin`.
      contrast_stretch: of `spin` crops.

    Raises:
      ValueError: neither an image is asked for nor keypoints are known.
    """
    known = person.keypoints[:, 2]
    if not crop_size and not known.any():
        raise ValueError("this model sees keypoints only, and this person has none in the people file")
    view = augment.Box(np.asarray(box[0]), box[1], crop_size or 2, crop=crop, contrast_stretch=contrast_stretch)
    points = view.points(person.keypoints[:, :2]).astype(np.float32)
    return Inputs(
        evidence=jnp.asarray(np.where(known[:, None] > 0, points, np.float32(0))[None]),
        kp2d_input=jnp.asarray(known[None]),
        example_hash=jnp.asarray([augment.example_hash(name)]),
        image=jnp.asarray(view.image(image, np.zeros(2, int))[None]) if crop_size else None,
    )
