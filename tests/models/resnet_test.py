import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.models import resnet
from tests.helpers import batches

RNG = np.random.default_rng(0)
SMALL = resnet.ResNetSmall(width=4)
small_init, small_apply = jax.jit(SMALL.init), jax.jit(SMALL.apply)  # One shape in all tests: compiled once.


def torch_resnet50():
    """ResNet-50 v1 with torchvision's names, from torch.nn alone."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Bottleneck(nn.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
            self.downsample = None
            if stride != 1 or inputs != 4 * width:
                conv = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
                self.downsample = nn.Sequential(conv, nn.BatchNorm2d(4 * width))

        def forward(self, x):
            y = torch.relu(self.bn1(self.conv1(x)))
            y = torch.relu(self.bn2(self.conv2(y)))
            y = self.bn3(self.conv3(y))
            return torch.relu(y + (x if self.downsample is None else self.downsample(x)))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
            inputs = 64
            for stage, blocks in enumerate((3, 4, 6, 3)):
                layers = []
                for block in range(blocks):
                    layers.append(Bottleneck(inputs, 64 * 2**stage, 2 if stage and not block else 1))
                    inputs = 256 * 2**stage
                setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))

        def forward(self, x):
            x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))

    torch.manual_seed(0)
    net = ResNet()
    for module in net.modules():  # Statistics and affine parameters away from 0 and 1, or mix-ups would not show.
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2),
            ):
                nn.init.uniform_(tensor, low, high)
    return torch, net


def flax_name(name):
    """The place of a torchvision tensor in our variables, by the rule that the module documents."""
    *path, leaf = name.split(".")
    path = ".".join(path)
    for stage in range(1, 5):
        path = path.replace(f"layer{stage}.", f"layer{stage}_")
    path = path.replace("downsample.", "downsample_").split(".")
    norm = path[-1].startswith("bn") or path[-1] == "downsample_1"
    if leaf in ("running_mean", "running_var"):
        return ("batch_stats", *path, leaf.removeprefix("running_"))
    leaf = {"weight": "scale" if norm else "kernel", "bias": "bias"}[leaf]
    return ("params", *path, leaf)


def copy_weights(variables, net):
    variables = jax.tree.map(np.array, variables)
    names = [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]
    for name in names:
        *path, leaf = flax_name(name)
        node = variables
        for part in path:
            node = node[part]
        value = net.state_dict()[name].numpy().copy()  # Else PyTorch's training step changes ours, too.
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        assert node[leaf].shape == value.shape, name
        node[leaf] = value
    assert len(names) == len(jax.tree.leaves(variables))
    return variables


@pytest.mark.slow
def test_resnet50_equals_pytorch_in_both_modes():
    torch, net = torch_resnet50()
    image = RNG.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    model = resnet.ResNet50()
    shapes = jax.eval_shape(model.init, jax.random.key(0), batches.inputs(image=jnp.asarray(image)))
    variables = copy_weights(jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes), net)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalized = torch.tensor(((image / 255 - mean) / std).transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        expected = net.eval()(normalized).numpy()
        net.train()(normalized)
    got = jax.jit(model.apply)(variables, batches.inputs(image=jnp.asarray(image)))
    assert got.shape == (2, 2048)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
    update = jax.jit(lambda v, b: model.apply(v, b, True, mutable=["batch_stats"])[1])
    stats = update(variables, batches.inputs(image=jnp.asarray(image)))["batch_stats"]
    theirs = net.state_dict()
    for name in ("bn1", "layer2.0.bn2", "layer4.2.bn3"):  # Of 2048, 128 and 8 values per channel.
        own = stats
        for part in flax_name(f"{name}.running_var")[1:-1]:
            own = own[part]
        np.testing.assert_allclose(own["mean"], theirs[f"{name}.running_mean"].numpy(), atol=1e-4, err_msg=name)
        np.testing.assert_allclose(own["var"], theirs[f"{name}.running_var"].numpy(), rtol=1e-3, err_msg=name)


def test_running_variance_is_the_unbiased_one_and_one_value_has_none():
    norm = resnet.make_norm(False, True, 0.9, jnp.float32)("bn")
    start = {
        "params": {"scale": jnp.ones(1), "bias": jnp.zeros(1)},
        "batch_stats": {"mean": jnp.zeros(1), "var": jnp.ones(1)},
    }
    for values, expected in (([0.0, 1.0], 0.95), ([3.0], 0.9)):
        _, changed = norm.apply(start, jnp.array(values)[:, None], mutable=["batch_stats"])
        np.testing.assert_allclose(np.asarray(changed["batch_stats"]["var"]), expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("trunk", [resnet.ResNet50, resnet.ResNetSmall])
def test_bfloat16_is_for_products_only(trunk):
    image = batches.inputs(image=jnp.zeros((1, 64, 64, 3), jnp.uint8))
    model = trunk(dtype=jnp.bfloat16)
    feature, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert {x.dtype for x in jax.tree.leaves((feature, variables))} == {jnp.dtype("float32")}
    jaxpr = jax.make_jaxpr(model.apply)(variables, image).jaxpr
    products = [e for e in jaxpr.eqns if e.primitive.name in ("conv_general_dilated", "dot_general")]
    assert len(products) == {resnet.ResNet50: 53, resnet.ResNetSmall: 13}[trunk]
    assert {v.aval.dtype for e in products for v in (*e.invars, *e.outvars)} == {jnp.dtype("bfloat16")}


@pytest.mark.slow
def test_small_resnet_keeps_where_things_are():
    """A feature that is an average could not tell a spot from the same spot elsewhere."""
    image = np.zeros((2, 64, 64, 3), np.uint8)
    image[0, 16:24, 16:24] = image[1, 48:56, 48:56] = 255
    variables = small_init(jax.random.key(0), batches.inputs(image=jnp.asarray(image)))
    assert variables["params"]["dense"]["kernel"].shape == (4 * 4 * 32, 512)
    feature = np.asarray(small_apply(variables, batches.inputs(image=jnp.asarray(image))))
    assert feature.shape == (2, 512)
    assert np.abs(feature[0] - feature[1]).max() > 0.1 * np.abs(feature).max()


@pytest.mark.slow
def test_small_resnet_momentum():
    image = jnp.asarray(RNG.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    inputs = batches.inputs(image=image)
    variables = small_init(jax.random.key(0), inputs)
    x = resnet.normalize_image(image)
    mean = jax.lax.conv_general_dilated(
        x, variables["params"]["conv1"]["kernel"], (2, 2), ((2, 2), (2, 2)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).mean(axis=(0, 1, 2))
    updated = jax.jit(lambda v: SMALL.apply(v, inputs, True, mutable=["batch_stats"])[1])(variables)
    np.testing.assert_allclose(updated["batch_stats"]["bn1"]["mean"], 0.05 * mean, atol=1e-6)


def test_images_that_are_not_bytes_are_refused():
    with pytest.raises(TypeError, match=r"uint8 image .* float32: .* Of floats from 0 to 1 .*255"):
        SMALL.init(jax.random.key(0), batches.inputs(image=jnp.zeros((1, 8, 8, 3))))


def test_a_trunk_that_reads_images_says_so():
    with pytest.raises(ValueError, match="reads images, got inputs without any"):
        SMALL.init(jax.random.key(0), batches.inputs(kp2d=jnp.zeros((1, 24, 2))))


def test_a_3x3_convolution_is_that_of_flax_from_the_same_numbers():
    """Trainings start from the same weights as before it had a module of its own."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 3)), jnp.float32)
    flax_one = flax.linen.Conv(4, (3, 3), padding=1, use_bias=False, kernel_init=resnet.conv_init)
    ours = resnet.conv("any", 4, 3, 1, jnp.float32)
    expected, variables = (module.init(jax.random.key(0), x) for module in (flax_one, ours))
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    got, wanted = (np.asarray(module.apply(its, x)) for module, its in ((ours, variables), (flax_one, expected)))
    np.testing.assert_allclose(got, wanted, atol=1e-6)
