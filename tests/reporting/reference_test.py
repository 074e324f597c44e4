"""The reference pages agree with the code that they describe."""

import pathlib

from configs import default
from multibodies_jax.prediction import prediction_file
from multibodies_jax.reporting import reference
from tfds_builders import features

ROOT = pathlib.Path(__file__).parents[2]


def test_comments_beside_and_above_a_field_are_found():
    source = (
        "def get_config():\n"
        "    c.a = 1  # Beside.\n"
        "    # Above,\n"
        "    # on two lines.\n"
        "    c.group.b = 2\n"
        "    c.group.c = 3\n"
        "    c.group.d = (\n"
        "        4  # Inside.\n"
        "    )\n"
        "    other = 5  # Not a field.\n"
    )
    assert reference.config_comments(source) == {
        "a": "Beside.",
        "group.b": "Above, on two lines.",
        "group.c": "",
        "group.d": "Inside.",
    }


def test_the_config_page_has_every_field_with_its_default():
    page = reference.pages(ROOT)[reference.FOLDER / "config.md"]
    config = default.get_config()
    leaves = [(group, name) for group in config for name in (config[group] if hasattr(config[group], "items") else "")]
    assert len(leaves) > 50
    for group, name in leaves:
        assert f"| `{group}.{name}` | `{config[group][name]!r}` |" in page
    assert "| `seed` | `0` |" in page and "`configs/demo.py`" in page


def test_every_feature_and_every_array_has_a_meaning():
    assert set(features.MEANINGS) == set(features.features())
    assert set(prediction_file.MEANINGS) == set(prediction_file.SHAPES)
    table = reference.parts()["features"]
    assert "| `kp2d` | (24, 2) float32 |" in table and "| `occlusion` | class label |" in table
    assert "| `example_id` | text |" in table and "| `window` | (4,) int32 |" in table
    page = reference.pages(ROOT)[reference.FOLDER / "prediction.md"]
    assert "| `rotmats` | (n, 24, 3, 3) |" in page and "| `all_rotmats` | (M, 24, 3, 3) |" in page
