"""The two photographs and their people are whole, agree with each other, and are small enough for a package."""

import numpy as np
import pytest

from multibodies_jax.data import images
from multibodies_jax.embedded import photographs
from multibodies_jax.prediction import people


@pytest.mark.parametrize(("path", "known"), [(photographs.SKIER, 17), (photographs.ASTRONAUT, 7)])
def test_a_photograph_has_its_person(path, known):
    height, width = images.load_image(path).shape[:2]
    found = people.read_people(photographs.PEOPLE)[path.name]
    (person,) = found.people
    visible = person.keypoints[:, 2] > 0
    assert found.size == (width, height) and np.count_nonzero(visible) == known
    assert np.all(person.keypoints[visible, :2] < (width, height))


def test_the_photographs_are_small_and_attributed():
    readme = (photographs.FOLDER / "README.md").read_text(encoding="utf-8")
    for path in (photographs.SKIER, photographs.ASTRONAUT, photographs.PEOPLE):
        assert path.stat().st_size < 140_000 and f"`{path.name}`" in readme
