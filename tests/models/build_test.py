import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import build, keypoint_trunk
from tests.helpers import batches

MEAN = np.linspace(-1, 1, 157)
RNG = np.random.default_rng(0)


def test_evidence_hides_the_hidden():
    kp2d = RNG.uniform(-1, 1, (2, 24, 2)).astype(np.float32)
    visible = RNG.integers(0, 2, (2, 24)).astype(np.float32)
    got = keypoint_trunk.keypoint_evidence(jnp.asarray(kp2d), jnp.asarray(visible))
    for b in range(2):
        expected = [kp2d[b, k, xy] * visible[b, k] for k in range(24) for xy in range(2)] + list(visible[b])
        np.testing.assert_array_equal(got[b], np.array(expected, np.float32))
    kp2d[visible == 0] = np.nan
    np.testing.assert_array_equal(keypoint_trunk.keypoint_evidence(jnp.asarray(kp2d), jnp.asarray(visible)), got)


@pytest.mark.slow
def test_keypoint_trunk_sees_the_evidence_and_only_that():
    trunk = keypoint_trunk.KeypointTrunk(width=16, blocks=2)
    inputs = batches.inputs(
        kp2d=jnp.asarray(RNG.uniform(-1, 1, (3, 24, 2)), jnp.float32),
        kp2d_input=jnp.ones((3, 24)).at[:, 3].set(0.0),
    )
    variables = trunk.init(jax.random.key(0), inputs)
    feature = jnp.asarray(trunk.apply(variables, inputs))
    assert feature.shape == (3, 16)
    hidden_moved = inputs.replace(evidence=inputs.evidence.at[:, 3].add(1.0))
    np.testing.assert_array_equal(trunk.apply(variables, hidden_moved), feature)
    seen_moved = inputs.replace(evidence=inputs.evidence.at[:, 4].add(1.0))
    assert np.abs(jnp.asarray(trunk.apply(variables, seen_moved)) - feature).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("trunk", [name for name, trunk in build.TRUNKS.items() if trunk.published is None])
@pytest.mark.parametrize(("name", "M"), [("multibodies", 3), ("hmr", 1)])
def test_every_model_and_trunk_returns_states(name, M, trunk):
    model = build.build(mean_state=MEAN, name=name, trunk=trunk, num_hypotheses=3, hidden=8, crop_size=64, width=4)
    inputs = batches.inputs(image=jnp.zeros((2, 64, 64, 3), jnp.uint8))
    state, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), inputs)
    assert state.shape == (2, M, 157) and state.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("trunk", ["resnet50", "resnet_small"])
def test_bfloat16_reaches_the_trunk_and_not_the_state(trunk):
    model = build.build(mean_state=MEAN, trunk=trunk, num_hypotheses=2, crop_size=64, dtype="bfloat16")
    assert model.trunk.dtype == jnp.bfloat16
    state, _ = jax.eval_shape(
        model.init_with_output, jax.random.key(0), batches.inputs(image=jnp.zeros((1, 64, 64, 3), jnp.uint8))
    )
    assert state.dtype == jnp.float32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "multibody"}, "Unknown model.name 'multibody'; choose one of multibodies, hmr"),
        ({"trunk": "resnet"}, "Unknown model.trunk 'resnet'; choose one of resnet50, resnet_small, keypoints"),
        ({"head": "printed"}, "Unknown model.head 'printed'; choose one of paper, released"),
        ({"dtype": "float16"}, "Unknown model.dtype 'float16'; choose one of float32, bfloat16"),
        ({"crop_size": 100}, "multiple of 32 pixels, got 100"),
    ],
)
def test_unknown_names_list_the_choices(fields, message):
    with pytest.raises(ValueError, match=message):
        build.build(mean_state=MEAN, **fields)


def test_most_models_are_hmr_with_one_hypothesis():
    own = {name for name, network in build.NETWORKS.items() if network.is_own(1)}
    assert own == {"hmr", "spin", "graphcmr"}
    assert all(network.is_own(2) for network in build.NETWORKS.values())
