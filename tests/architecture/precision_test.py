"""Products outside the trunks ask for full float32: GPUs take TF32 and TPUs bfloat16 for those that ask for nothing.

On a CPU every product is exact, so no test of numbers would notice one that was forgotten. `multibodies_jax/exact.py` alone
names the precision: a test of the source finds what does not come from it, and traced programs are searched for the rest
(`a @ b` of arrays, say).
"""

import ast
import functools
import importlib
import pathlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from benchmarks import launches, lowered
from multibodies_jax import evaluation, exact
from multibodies_jax.models import exact_layers
from multibodies_jax.training import plan
from tests.helpers import small_programs

ROOT = pathlib.Path(__file__).parents[2] / "multibodies_jax"
HOMES = {"exact.py", "models/exact_layers.py"}
# What `model.dtype` and the device decide: the networks that read images or keypoints.
TRUNKS = {"models/resnet.py", "models/winograd.py", "models/keypoint_trunk.py", "released/network.py"}
PRODUCTS = {
    **dict.fromkeys(
        ("jnp", "jax.numpy"), ("dot", "einsum", "inner", "matmul", "matvec", "tensordot", "vdot", "vecdot")
    ),
    **dict.fromkeys(("lax", "jax.lax"), ("conv", "conv_general_dilated", "dot", "dot_general")),
    **dict.fromkeys(("nn", "flax.linen"), ("Conv", "ConvTranspose", "Dense", "DenseGeneral", "Einsum")),
}
PRECISIONS = ("Precision", "default_matmul_precision")
VIEWER = "add_point_cloud"  # Viser's; its `precision` is that of the points that a browser receives.


def named(source: str) -> Iterator[str]:
    """The products of JAX and Flax, and the precisions, that a module names itself."""
    products = {f"{library}.{name}" for library, names in PRODUCTS.items() for name in names}
    for node in ast.walk(ast.parse(source)):
        found = []
        if isinstance(node, ast.Attribute) and (ast.unparse(node) in products or node.attr in PRECISIONS):
            found = [ast.unparse(node)]
        elif isinstance(node, ast.ImportFrom):
            forbidden = (*PRODUCTS.get(node.module or "", ()), *PRECISIONS)
            found = [f"from {node.module} import {alias.name}" for alias in node.names if alias.name in forbidden]
        elif isinstance(node, ast.Call) and not ast.unparse(node.func).endswith(VIEWER):
            found = [ast.unparse(keyword) for keyword in node.keywords if keyword.arg == "precision"]
        yield from (f"line {getattr(node, 'lineno', 0)}: {one}" for one in found)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("jnp.einsum('ij,jk->ik', a, b)", 1),
        ("jnp.einsum('ij,jk->ik', a, b, precision='highest')", 2),
        ("product = jax.numpy.matmul", 1),
        ("functools.partial(nn.Dense, 3)(name='x')", 1),
        ("jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME')", 1),
        ("from jax.numpy import dot, zeros", 1),
        ("from jax.lax import Precision", 1),
        ("_HIGHEST = jax.lax.Precision.HIGHEST", 1),
        ("with jax.default_matmul_precision('highest'): pass", 1),
        ("layer(x, precision=exact.PRECISION)", 1),
        ("exact.einsum('ij,jk->ik', a, b)", 0),
        ("exact_layers.Dense(3, name='x')", 0),
        ("np.einsum('ij,jk->ik', a, b)", 0),
        ("from multibodies_jax.exact import dot", 0),
        ("self.scene.add_point_cloud('/points', points, precision='float32')", 0),
    ],
)
def test_a_product_or_a_precision_that_a_module_names_is_found(source, count):
    assert len(list(named(source))) == count


@pytest.mark.slow
def test_products_and_precisions_outside_the_trunks_come_from_one_module():
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name not in TRUNKS | HOMES:
            found += [f"{name}, {one}" for one in named(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def inexact_in(program: Any) -> set[str]:
    """Modules of this package, the trunks left out, with a product in a traced program that asks for no full float32."""
    found = set()
    for line in program.eqns:
        if line.primitive.name in ("dot_general", "conv_general_dilated"):
            asked = line.params["precision"]
            if {jax.lax.Precision.HIGHEST} != set(asked if isinstance(asked, tuple) else (asked,)):
                own = [frame.file_name for frame in line.source_info.traceback.frames if str(ROOT) in frame.file_name]
                if not any(name.endswith(tuple(TRUNKS)) for name in own):
                    found.add(own[0] if own else str(line))
        for inside in plan.programs_inside(line.params):
            found |= inexact_in(inside)
    return found


def names_in(program: Any) -> set[str]:
    """Names of the compiled functions that a traced program calls."""
    found = {str(line.params["name"]) for line in program.eqns if "name" in line.params}
    return found.union(*(names_in(inside) for line in program.eqns for inside in plan.programs_inside(line.params)))


def test_an_inexact_product_is_found_however_it_is_written():
    def outer(product, a):
        return jax.lax.scan(lambda x, _: (product(x), None), a, length=3)[0]

    a = jnp.ones((2, 2))
    for product in (lambda x: x @ x, lambda x: x.dot(x), lambda x: jnp.dot(x, x, precision="default")):
        assert inexact_in(jax.make_jaxpr(functools.partial(outer, product))(a).jaxpr)
    assert not inexact_in(jax.make_jaxpr(functools.partial(outer, lambda x: exact.dot(x, x)))(a).jaxpr)


def products_in(program: Any) -> int:
    """The number of products in a traced program."""
    inside = (products_in(one) for line in program.eqns for one in plan.programs_inside(line.params))
    return sum(line.primitive.name in ("dot_general", "conv_general_dilated") for line in program.eqns) + sum(inside)


@pytest.mark.parametrize(
    "product",
    [
        lambda a: exact.einsum("ij,jk->ik", a, a),
        lambda a: exact.dot(a, a),
        lambda a: exact.matmul(a, a),
        lambda a: exact.convolution(a[None, None], a[None, None], (1, 1), "SAME"),
        lambda a: exact_layers.Dense(2).apply({"params": {"kernel": a, "bias": a[0]}}, a),
    ],
)
def test_products_and_layers_of_the_one_module_are_exact(product):
    program = jax.make_jaxpr(product)(jnp.ones((2, 2))).jaxpr
    assert products_in(program) == 1 and not inexact_in(program)


def test_a_dense_layer_has_the_parameters_and_the_name_of_flaxs():
    class Two(nn.Module):
        layer: Any

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return self.layer(2, name="named")(self.layer(3)(x))

    ours, flaxs = (Two(layer).init(jax.random.key(0), jnp.ones((1, 4))) for layer in (exact_layers.Dense, nn.Dense))
    assert set(ours["params"]) == {"Dense_0", "named"}
    assert jax.tree.structure(ours) == jax.tree.structure(flaxs)
    assert jax.tree.all(jax.tree.map(lambda one, other: bool((one == other).all()), ours, flaxs))


@pytest.mark.slow
@pytest.mark.parametrize("name", lowered.STEPS)
def test_products_of_a_training_step_outside_its_trunk_are_exact(name):
    function, arguments = lowered.step(*lowered.STEPS[name])
    assert not inexact_in(jax.make_jaxpr(function)(*arguments).jaxpr)


@pytest.mark.slow
def test_products_of_a_pass_outside_its_trunk_are_exact():
    programs = launches.programs(26)
    for name in ("released network, M = 26", "paper's head, M = 26", "quantizer, paper, M = 26, n = 10"):
        function, arguments = programs[name]
        assert not inexact_in(jax.make_jaxpr(function)(*arguments).jaxpr), name


@pytest.mark.slow
def test_products_of_every_metric_of_an_evaluation_are_exact():
    traced = set()
    for name, (function, arguments) in small_programs.of_metrics().items():
        program = jax.make_jaxpr(function)(*arguments).jaxpr
        assert not inexact_in(program), name
        traced |= names_in(program)
    compiled = set()
    for module in pkgutil.iter_modules(evaluation.__path__, f"{evaluation.__name__}."):
        values = vars(importlib.import_module(module.name)).values()
        own = (one for one in values if getattr(one, "__module__", "") == module.name)
        compiled |= {one.__name__ for one in own if hasattr(one, "lower")}
    assert compiled - traced == {"_example_keys"}  # Random keys: no products.


@pytest.mark.slow
def test_products_of_fits_are_exact():
    for name, (function, arguments) in small_programs.of_fits().items():
        assert not inexact_in(jax.make_jaxpr(function)(*arguments).jaxpr), name
