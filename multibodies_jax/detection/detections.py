"""What a detector of people is, and what it finds."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

MIN_CONFIDENCE = 0.27  # Of a joint that counts as seen; `movenet.py` says how it was chosen.


@dataclasses.dataclass(frozen=True, eq=False)
class Detection:
    """One person in one image; pixels are those of the upright image, (0, 0) the outer corner of the top-left one.

    Attributes:
      keypoints: x, y of the joints of `joints.COCO17`, pixels; a joint that is not seen may be anywhere.
      confidence: of each joint, between 0 and 1; 0 where the joint is outside the frame.
      box: x, y, width, height around what is visible, pixels, inside the frame.
      score: how sure the detector is that this is a person, between 0 and 1.
      unusable: why bodies cannot be predicted for this person; "" where they can.
    """

    keypoints: Float[np.ndarray, "17 2"]
    confidence: Float[np.ndarray, "17"]
    box: tuple[float, float, float, float]
    score: float
    unusable: str = ""

    @property
    def visible(self) -> Bool[np.ndarray, "17"]:
        """The joints that are seen: their confidence is at least `MIN_CONFIDENCE`."""
        return self.confidence >= MIN_CONFIDENCE


@runtime_checkable
class Detector(Protocol):
    """Finds the people of an image."""

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Detection]:
        """Returns the people of an upright RGB image, from left to right; none is an empty list."""
        ...
