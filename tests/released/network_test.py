"""The authors' mode-wise network against PyTorch, in evaluation and training; where it starts from; what is frozen."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import build, resnet
from multibodies_jax.released import network
from tests.helpers import batches
from tests.helpers.random_network import IMAGE, MEAN, RNG, evaluate, fill

M = 3
make = functools.partial(build.build, mean_state=MEAN, trunk="resnet50", crop_size=64, head="released", hidden=16)


def random_tree(model, seed=0):
    return fill(jax.eval_shape(model.init, jax.random.key(0), IMAGE), seed)


@pytest.fixture(scope="module")
def single():
    """A single-hypothesis HMR on a ResNet-50: (model, variables)."""
    model = make(num_hypotheses=1)
    return model, random_tree(model)


@pytest.fixture(scope="module")
def several():
    """The released network with three hypotheses that differ: (model, variables)."""
    model = make(num_hypotheses=M)
    return model, random_tree(model, 1)


class Torch:
    """The authors' encoder of the released code."""

    def __init__(self, torch, variables, training=False):
        self.torch, self.f, self.training = torch, torch.nn.functional, training
        self.params, self.stats = variables["params"], variables["batch_stats"]

    def tensor(self, x):
        return self.torch.tensor(np.array(x))

    def conv(self, tree, x, stride=1):
        kernel = self.tensor(tree["kernel"]).permute(3, 2, 0, 1)
        return self.f.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2)

    def norm(self, p, s, x):
        values = (self.tensor(v) for v in (s["mean"], s["var"], p["scale"], p["bias"]))
        return self.f.batch_norm(x, *values, training=self.training)

    def block(self, part, name, x, stride):
        """A bottleneck, its shortcut repeated as often as the output is larger; also what its last norm gets."""
        p, s = self.params[part][name], self.stats[part][name]
        y = self.torch.relu(self.norm(p["bn1"], s["bn1"], self.conv(p["conv1"], x)))
        y = self.torch.relu(self.norm(p["bn2"], s["bn2"], self.conv(p["conv2"], y, stride)))
        z = self.conv(p["conv3"], y)
        if "downsample_0" in p:
            x = self.norm(p["downsample_1"], s["downsample_1"], self.conv(p["downsample_0"], x, stride))
        return self.torch.relu(self.norm(p["bn3"], s["bn3"], z) + x.repeat(1, z.shape[1] // x.shape[1], 1, 1)), z

    def trunk(self, image):
        mean, std = np.array(resnet.IMAGENET_MEAN), np.array(resnet.IMAGENET_STD)
        x = self.torch.tensor((image / 255 - mean) / std, dtype=self.torch.float32).permute(0, 3, 1, 2)
        p, s = self.params["trunk"], self.stats["trunk"]
        x = self.f.max_pool2d(self.torch.relu(self.norm(p["bn1"], s["bn1"], self.conv(p["conv1"], x, 2))), 3, 2, 1)
        for stage, blocks in ((1, 3), (2, 4), (3, 6)):
            for index in range(blocks):
                x, _ = self.block("trunk", f"layer{stage}_{index}", x, 2 if stage > 1 and index == 0 else 1)
        return x

    def modes(self, x):
        for index in range(3):
            x, z = self.block("modes", f"layer5_{index}", x, 1 if index else 2)
        return x.mean((2, 3)).reshape(len(x), -1, 2048), z


def torch_states(torch, params, features):
    """Three iterations of SPIN's regressor, the same for every hypothesis."""

    def dense(name, x):
        layer = params["head"][name]
        return x @ torch.tensor(np.array(layer["kernel"])) + torch.tensor(np.array(layer["bias"]))

    state = torch.tensor(MEAN).expand(*features.shape[:2], 157)
    for _ in range(3):
        state = state + dense("dec", dense("fc2", dense("fc1", torch.cat([features, state], dim=-1))))
    return state


@pytest.mark.slow
def test_states_equal_pytorch(several):
    torch = pytest.importorskip("torch")
    model, variables = several
    got = evaluate(model, variables, IMAGE)
    with torch.no_grad():
        net = Torch(torch, variables)
        features, _ = net.modes(net.trunk(np.array(IMAGE.image)))
        expected = torch_states(torch, variables["params"], features).numpy()
    assert got.shape == (4, M, 157)
    assert np.abs(expected - expected[:, :1]).max() > 0.1  # The hypotheses differ.
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_batch_statistics_equal_pytorch_in_training(several):
    torch = pytest.importorskip("torch")
    variables = {kind: tree["modes"] for kind, tree in several[1].items()}
    x = RNG.uniform(size=(4, 4, 4, 1024)).astype(np.float32)
    modes = network.Modes(M, 0.0, False, jnp.float32)
    got, changed = jax.jit(lambda v, x: modes.apply(v, x, True, mutable=["batch_stats"]))(variables, x)
    with torch.no_grad():
        features, z = Torch(torch, several[1], training=True).modes(torch.tensor(x).permute(0, 3, 1, 2))
    np.testing.assert_allclose(got, features.numpy(), atol=1e-4 * float(features.max()))
    before, after = (v["batch_stats"]["layer5_2"]["bn3"] for v in (variables, changed))
    for name, value in (("mean", z.mean((0, 2, 3))), ("var", z.var((0, 2, 3), unbiased=True))):
        expected = 0.9 * before[name] + 0.1 * value.numpy()
        np.testing.assert_allclose(after[name], expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)


@pytest.mark.slow
def test_expanded_without_noise_every_hypothesis_equals_the_source(single):
    source, variables = single
    expanded = build.expand(variables, M, 0.0, jax.random.key(0), head="released")
    model = make(num_hypotheses=M)
    template = jax.eval_shape(model.init, jax.random.key(0), IMAGE)
    assert jax.tree.map(jnp.shape, expanded) == jax.tree.map(jnp.shape, template)
    expected = np.asarray(evaluate(source, variables, IMAGE))
    got = evaluate(model, expanded, IMAGE)
    np.testing.assert_allclose(got, np.repeat(expected, M, axis=1), atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_noise_has_the_size_it_says_and_leaves_statistics_alone(single):
    variables = single[1]
    expanded = build.expand(variables, M, 0.2, jax.random.key(0), head="released")
    last, source = expanded["params"]["modes"]["layer5_2"], variables["params"]["trunk"]["layer4_2"]
    for layer, leaf in (("conv3", "kernel"), ("bn3", "scale"), ("bn3", "bias")):
        added = last[layer][leaf] - jnp.tile(source[layer][leaf], M)
        assert float(added.std()) == pytest.approx(0.2 * float(source[layer][leaf].std()), rel=0.05)
        blocks = np.asarray(added).reshape(-1, M, 2048)
        assert np.abs(blocks[:, 0] - blocks[:, 1]).max() > 0
    stats, before = expanded["batch_stats"]["modes"]["layer5_2"], variables["batch_stats"]["trunk"]["layer4_2"]
    np.testing.assert_array_equal(stats["bn3"]["var"], jnp.tile(before["bn3"]["var"], M))
    np.testing.assert_array_equal(stats["bn2"]["mean"], before["bn2"]["mean"])
    assert "layer4_2" in variables["params"]["trunk"]  # The source is as it was.


class Map(nn.Module):
    """A trunk that gives a map which it gets as `feature`, and is frozen."""

    def __call__(self, inputs, train):
        assert not train
        return inputs.feature


@pytest.mark.slow
def test_dropout_differs_among_hypotheses_and_loaded_statistics_stay(single):
    variables = build.expand(single[1], M, 0.0, jax.random.key(0), head="released")
    variables = {kind: {k: v for k, v in tree.items() if k != "trunk"} for kind, tree in variables.items()}
    model, rngs = make(num_hypotheses=M, frozen="loaded").clone(trunk=Map()), {"dropout": jax.random.key(0)}
    inputs = batches.inputs(feature=jnp.tile(jnp.asarray(RNG.uniform(size=(1, 2, 2, 1024)), jnp.float32), (2, 1, 1, 1)))
    train = jax.jit(lambda v, b: model.apply(v, b, True, rngs=rngs, mutable=["batch_stats"]))
    state, changed = train(variables, inputs)
    assert np.abs(state[:, 0] - state[:, 1]).max() > 1e-2 and np.abs(state[0, 0] - state[1, 0]).max() > 1e-2
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), changed["batch_stats"], variables["batch_stats"])
    leaves = jax.tree_util.tree_leaves_with_path(moved)
    names = {jax.tree_util.keystr(path, simple=True, separator="/") for path, changed in leaves if changed}
    assert names == {"modes/layer5_2/bn3/mean", "modes/layer5_2/bn3/var"}


@pytest.mark.slow
def test_what_learns(several, single):
    def names(params, head, freeze):
        leaves = jax.tree_util.tree_leaves_with_path(build.trained(params, freeze, head=head))
        return {jax.tree_util.keystr(path, simple=True, separator="/") for path, learns in leaves if learns}

    params = several[1]["params"]
    last = "modes/layer5_2"
    assert names(params, "released", "loaded") == {f"{last}/conv3/kernel", f"{last}/bn3/scale", f"{last}/bn3/bias"}
    assert names(single[1]["params"], "paper", "loaded") == {"head/dec/kernel", "head/dec/bias"}
    every = names(params, "released", "")
    assert {name.split("/")[0] for name in every} == {"trunk", "modes", "head"}
    assert names(params, "released", "trunk") == {name for name in every if not name.startswith("trunk/")}


@pytest.mark.slow
def test_hundreds_of_hypotheses_never_exist_at_once():
    """No array of the program grows with the batch, the map and M at once, forwards or backwards."""
    model = make(num_hypotheses=300)
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGE)

    def loss(params, stats):
        rngs = {"dropout": jax.random.key(0)}
        variables = {"params": params, "batch_stats": stats}
        return jnp.sum(model.apply(variables, IMAGE, True, rngs=rngs, mutable=["batch_stats"])[0])

    text = str(jax.make_jaxpr(jax.grad(loss))(shapes["params"], shapes["batch_stats"]))
    assert "[300,4,2048]" in text
    for whole in ("[300,4,4,2048]", "[300,4,2,2,2048]", "[4,4,614400]", "[4,2,2,614400]"):
        assert whole not in text


def test_other_trunks_and_sources_are_refused(several, single):
    with pytest.raises(ValueError, match=r"model.head='released' reads a map of model.trunk='resnet50', got .*small"):
        make(trunk="resnet_small")
    with pytest.raises(ValueError, match="starts from an HMR with one hypothesis on a ResNet-50"):
        build.expand(several[1], M, 0.0, jax.random.key(0), head="released")
    many = {"params": {**single[1]["params"], "head": {"dec": {"kernel": jnp.zeros((16, 314))}}}, "batch_stats": {}}
    with pytest.raises(ValueError, match=r"got a trunk of .* 314 columns"):
        build.expand(many, M, 0.0, jax.random.key(0), head="released")


@pytest.mark.parametrize("at_once", [2, 5, 9])
def test_a_gpu_makes_the_features_of_several_hypotheses_at_once(at_once):
    rng = np.random.default_rng(0)
    shapes = (
        (2, 3, network.WIDTH),
        (2, 3, network.CHANNELS),
        (5, network.CHANNELS, network.WIDTH),
        (5, network.CHANNELS),
    )
    y, shortcut, kernel, bias = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    one_by_one = network.folded_features(y, shortcut, kernel, bias)
    assert one_by_one.shape == (5, 2, network.CHANNELS) and one_by_one.std(axis=0).max() > 1
    found = jax.jit(functools.partial(network.folded_features, at_once=at_once))(y, shortcut, kernel, bias)
    np.testing.assert_allclose(found, one_by_one, rtol=1e-5, atol=1e-4)
