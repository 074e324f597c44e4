"""Finds people in photographs: an image in, COCO-17 keypoints with confidences out.

    detector = detection.load()                # after `multibodies fetch detector`
    for person in detector(image):             # 8-bit RGB, upright
        person.keypoints, person.confidence, person.visible, person.box, person.unusable

Another detector is any function with the signature of `Detector`. `prediction/detected.py` turns what it finds into the
people of a prediction.
"""

from multibodies_jax.detection.detections import MIN_CONFIDENCE, Detection, Detector
from multibodies_jax.detection.movenet import load
from multibodies_jax.detection.weights import DetectorMissing

__all__ = ["MIN_CONFIDENCE", "Detection", "Detector", "DetectorMissing", "load"]
