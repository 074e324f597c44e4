"""GLB: what another program reads back is the bodies, their probabilities, their motion and the camera."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from multibodies_jax.export import glb, scene
from multibodies_jax.geometry import joints
from tests.helpers import glb_reader, made_predictions

FLIP = [1.0, -1.0, -1.0]


@pytest.mark.slow
def test_the_skinned_vertices_are_the_bodies(tmp_path):
    both = [made_predictions.record(), made_predictions.record(seed=1, person=1, center=(420.0, 220.0))]
    made = made_predictions.made(both)
    glb.write(made, tmp_path / "set.glb")
    file = glb_reader.Glb((tmp_path / "set.glb").read_bytes())
    for name, person, body, probability in made.weighted():
        np.testing.assert_allclose(file.vertices(f"{name}_mesh"), made.vertices(body) * FLIP, atol=1e-5)
        for node in (name, f"{name}_mesh"):
            extras = file.named(node)["extras"]
            assert extras["probability"] == pytest.approx(probability) and extras["hypothesis"] == body.index
            assert extras["person"] == person.number
            assert extras["joint_spread_m"] == dict(zip(joints.SMPL24, person.bone_spread.tolist(), strict=True))
    for skin in file.json["skins"]:
        assert tuple(file.json["nodes"][k]["name"] for k in skin["joints"]) == joints.SMPL24
    primitives = [mesh["primitives"][0] for mesh in file.json["meshes"]]
    np.testing.assert_array_equal(file.array(primitives[3]["indices"]).reshape(-1, 3), made.faces)
    assert all("COLOR_0" not in primitive["attributes"] for primitive in primitives)


def test_every_frame_of_a_motion_is_the_body(tmp_path):
    made = made_predictions.made(motion=7)
    name, body = next((name, body) for name, _, body, _ in made.weighted() if body.motion is not None)
    file = glb_reader.Glb(glb.encode(made))
    assert body.motion is not None
    rest = body.rest_vertices + body.correctives
    for frame in range(7):
        its = scene.skin(rest, body.rest_joints, body.motion.rotations[frame], made.skinning)
        found = file.vertices(f"{name}_mesh", name, frame)
        np.testing.assert_allclose(found, (its + body.motion.translation[frame]) * FLIP, atol=1e-5)
    (animation,) = file.json["animations"]
    time = file.array(animation["samplers"][0]["input"])
    np.testing.assert_allclose(time, np.arange(7) / 25, atol=1e-6)
    for sampler in animation["samplers"][1:]:
        turns = file.array(sampler["output"])
        assert (np.sum(turns[1:] * turns[:-1], axis=1) > 0).all()  # Players turn the short way.


def test_the_camera_shows_joints_where_the_photograph_does():
    made = made_predictions.made()
    file = glb_reader.Glb(glb.encode(made))
    lens = file.json["cameras"][file.named("photograph")["camera"]]["perspective"]
    (_, _, body, _), (width, height) = made.weighted()[0], made.image_size
    x, y, z = (body.joints24 * FLIP).T
    # The projection of the specification, section 3.10.3.2.
    ndc = (
        np.stack([x / (lens["aspectRatio"] * np.tan(lens["yfov"] / 2)), y / np.tan(lens["yfov"] / 2)], 1) / -z[:, None]
    )
    pixels = (ndc * [1, -1] + 1) / 2 * [width, height]
    expected = made.focal_px * body.joints24[:, :2] / body.joints24[:, 2:] + made.principal_point
    np.testing.assert_allclose(pixels, expected, atol=1e-6)
    extras = file.named("photograph")["extras"]
    assert extras["focal_source"] == "assumed" and extras["image"] == "photo.png"


def test_spread_as_colours():
    made = made_predictions.made(vertex_spread=True)
    file = glb_reader.Glb(glb.encode(made, spread_colors=True))
    found = file.array(file.json["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"])
    srgb = np.where(found <= 0.0031308, found * 12.92, 1.055 * np.maximum(found, 1e-9) ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(srgb, scene.spread_colors(made.people[0]), atol=1e-5)
    with pytest.raises(scene.SceneError, match="vertex_spread=True"):
        glb.encode(made_predictions.made(), spread_colors=True)


def test_nothing_is_left_where_the_file_cannot_be_written(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        glb.write(made_predictions.made(), tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def _validator() -> str | None:
    """The folder of npm's `gltf-validator`, if this machine has it."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    root = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, encoding="utf-8").stdout.strip()
    found = subprocess.run(["node", "-e", f"require('{root}/gltf-validator')"], capture_output=True)
    return f"{root}/gltf-validator" if found.returncode == 0 else None


@pytest.mark.slow
def test_the_official_validator_finds_nothing(tmp_path):
    validator = _validator()
    if validator is None:
        pytest.skip("needs node and `npm install --global gltf-validator`")
    glb.write(made_predictions.made(motion=5, vertex_spread=True), tmp_path / "set.glb", spread_colors=True)
    script = (
        f"require('{validator}').validateBytes(new Uint8Array(require('fs').readFileSync('{tmp_path}/set.glb')))"
        ".then(report => console.log(JSON.stringify(report.issues)))"
    )
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True, encoding="utf-8")
    issues = json.loads(done.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues
