"""Examples that are made on the device against those of `augment`, which OpenCV makes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import synthetic
from multibodies_jax.data import augment, resident, sources
from multibodies_jax.geometry import boxes
from multibodies_jax.training import setup, training_data

SIZE = 48
SETTINGS = resident.Settings(SIZE)


class _Drawn(np.random.Generator):
    """Stands in for a random generator: a number for each purpose, in the order in which `augment` asks."""

    def __init__(self, scale=0.0, shift=(0.0, 0.0), angle=0.0, flip=False, gain=(1.0, 1.0, 1.0)):
        super().__init__(np.random.PCG64(0))
        self.scale, self.shift, self.angle, self.flip, self.gain = scale, np.array(shift), angle, flip, np.array(gain)
        self._normal, self._random = [scale, self.shift, angle], [0.0, 0.0, float(not flip)]

    def normal(self, mean=0.0, std=1.0, size=None):
        return mean + std * self._normal.pop(0)

    def random(self, n=None):
        return self._random.pop(0)  # Strategy "none"; turned; mirrored or not.

    def uniform(self, low, high, size):
        return self.gain


def _record(seed=0, side=64, extent=38.0):
    rng = np.random.default_rng(seed)
    smooth = rng.integers(0, 256, (side // 8, side // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    kp2d = (rng.uniform(-0.5, 0.5, (24, 2)) * extent + [side / 2 + 7, side / 2 + 3]).astype(np.float32)
    valid = np.ones(24, np.float32)
    valid[20] = 0
    center, scale = boxes.visible_box(kp2d, valid)
    box = {"box_center": center, "box_scale": scale, "box_center_full": center, "box_scale_full": scale}
    return box | {
        "example_id": f"test/{seed}".encode(),
        "image": smooth.astype(np.uint8),
        "window": np.array([7, 3, side, side], np.int32),
        "kp2d": kp2d,
        "kp2d_valid": valid,
        "kp2d_input": valid,
        "joints3d": rng.normal(size=(24, 3)).astype(np.float32),
        "joints3d_valid": valid,
        "pose": rng.normal(size=(24, 3)).astype(np.float32),
        "betas": rng.normal(size=10).astype(np.float32),
        "smpl_valid": np.float32(1),
    }


def _view(row, drawn, strength=augment.MILD):
    center, scale = row.box_full[:2], row.box_full[2] * (1 + strength.scale * drawn.scale)
    return resident.View(
        visible=row.kp2d_valid,
        center=center + boxes.SIDE / 2 * row.box_full[2] * strength.shift * drawn.shift,
        scale=scale,
        angle=jnp.float32(np.deg2rad(strength.angle_deg) * drawn.angle),
        flip=jnp.bool_(drawn.flip),
        gain=jnp.float32(drawn.gain),
    )


see = jax.jit(resident.see, static_argnames="crop_size")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extent", "drawn"),
    [
        (38.0, {}),
        (38.0, {"scale": -1.0, "shift": (1.5, -0.7), "angle": 2.0, "flip": True, "gain": (0.8, 1.2, 1.25)}),
        (20.0, {"scale": 0.3, "shift": (0.0, 2.0), "angle": -1.0, "flip": True}),
        (56.0, {"scale": 1.0, "angle": 1.3}),  # Larger than the crop, and over the window's edge.
    ],
)
def test_an_example_is_that_of_augment(extent, drawn):
    record = _record(extent=extent)
    row = resident.take(resident.load([[record]], [1.0], SETTINGS), 0)
    expected = augment.training_example(record, _Drawn(**drawn), SIZE)
    found = see(row, _view(row, _Drawn(**drawn)), crop_size=SIZE)
    image = np.abs(found.inputs.image.astype(int) - expected["image"].astype(int))
    assert image.max() <= 3 and image.mean() < 0.3  # OpenCV interpolates in 32nds of a pixel.
    for part, names in ((found.inputs, ("kp2d_input", "example_hash")), (found.target, ("betas", "kp2d_valid"))):
        for name in names:
            np.testing.assert_array_equal(getattr(part, name), expected[name])
    for name in ("kp2d", "joints3d", "joints3d_valid", "rotmats", "smpl_valid"):
        np.testing.assert_allclose(getattr(found.target, name), expected[name], atol=2e-5, err_msg=name)


@pytest.mark.slow
def test_draws_have_the_distributions_of_augment():
    record = _record()
    row = resident.take(resident.load([[record]], [1.0], SETTINGS), 0)
    draw = jax.jit(jax.vmap(lambda key: resident.draw_view(row, key, SETTINGS)))
    views = draw(jax.random.split(jax.random.key(0), 4000))
    strategies, counts = np.unique(np.sum(views.visible, axis=1), return_counts=True)
    assert strategies.tolist() == [9, 15, 17, 23] and abs(counts[-1] / 4000 - 0.1) < 0.02
    assert abs(np.mean(views.flip) - 0.5) < 0.03 and abs(np.mean(views.angle != 0) - 0.4) < 0.03
    assert np.degrees(np.abs(views.angle)).max() <= 20.001
    assert 0.7 <= np.min(views.gain) < 0.72 and 1.28 < np.max(views.gain) <= 1.3
    whole = np.sum(views.visible, axis=1) == 23
    factor = np.asarray(views.scale)[whole] / record["box_scale"]
    assert 0.899 <= factor.min() < 0.91 and 1.09 < factor.max() <= 1.101


@pytest.mark.slow
def test_sets_are_drawn_by_their_weights():
    stored = resident.load([[_record(0)], [_record(1), _record(2, side=48)]], [1.0, 3.0], SETTINGS)
    still = dataclasses.replace(SETTINGS, augment=False, occlusion="none")
    draw = jax.jit(lambda stored, key: resident.draw(stored, key, 400, still))
    drawn = draw(stored, jax.random.key(3))
    hashes = [augment.example_hash(f"test/{i}") for i in range(3)]
    shares = [float(np.mean(np.asarray(drawn.inputs.example_hash) == one)) for one in hashes]
    np.testing.assert_allclose(shares, [0.25, 0.375, 0.375], atol=0.07)
    first = np.flatnonzero(np.asarray(drawn.inputs.example_hash) == hashes[2])[:2]
    np.testing.assert_array_equal(drawn.inputs.image[first[0]], drawn.inputs.image[first[1]])


def test_images_that_do_not_fit_beside_the_largest_are_refused(monkeypatch):
    record = _record()
    small = record | {"image": record["image"][:2, :2], "example_id": b"test/small"}
    monkeypatch.setattr(resident, "MOST_BYTES", 9 * record["image"].nbytes)
    with pytest.raises(ValueError, match="resident=False"):
        resident.load([[small] + 9 * [record]], [1.0], SETTINGS)


@pytest.mark.parametrize(
    ("record", "most", "message"),
    [
        (_record(side=200, extent=190.0), 2**30, "half|shrinks images at most to 0.5.*resident=False"),
        (_record(), 1000, "take about .* GiB.*resident=False"),
        (_record() | {"kp2d": np.full((24, 2), np.nan, np.float32)}, 2**30, "test/0: kp2d is not finite"),
    ],
)
def test_images_that_do_not_fit_and_records_that_cannot_be_used_are_refused(record, most, message, monkeypatch):
    monkeypatch.setattr(resident, "MOST_BYTES", most)
    with pytest.raises(ValueError, match=message):
        resident.load([[record]], [1.0], SETTINGS)


def test_what_stays_on_the_device_is_counted(monkeypatch):
    """`multibodies_jax.training.plan` subtracts it from the memory of a device that is full."""
    config = synthetic.get_config("gpu")
    config.model.crop_size, config.train.accumulate = SIZE, 1
    monkeypatch.setattr(sources, "open_source", lambda *_: [_record(seed) for seed in range(3)])
    monkeypatch.setattr(sources, "source_name", lambda config, name: name)
    data = training_data.open_data(config, setup.load_bodies(config), 2, 0)
    assert data.resident.image.shape[0] == 3
    assert training_data.held_bytes() == sum(leaf.nbytes for leaf in jax.tree.leaves(data.resident))
