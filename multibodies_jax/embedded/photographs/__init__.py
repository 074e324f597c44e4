"""Two photographs to try the method on, with their people; README.md beside them states sources and licences.

The skier shows all 17 COCO keypoints; of the astronaut only the upper body is in the frame.
"""

import pathlib

FOLDER = pathlib.Path(__file__).parent
SKIER = FOLDER / "skier.jpg"
ASTRONAUT = FOLDER / "astronaut.jpg"
PEOPLE = FOLDER / "people.json"  # Boxes and COCO-17 keypoints of both; `prediction/people.py` reads it.
