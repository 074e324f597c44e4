"""Products outside the trunks ask for full float32: GPUs take TF32 and TPUs bfloat16 for those that ask for nothing.

On a CPU every product is exact, so no test of numbers would notice one that was forgotten.
"""

import ast
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import launches, lowered
from multibodies_jax.training import plan

ROOT = pathlib.Path(__file__).parents[2] / "multibodies_jax"
# What `model.dtype` and the device decide: the networks that read images or keypoints.
TRUNKS = {"models/resnet.py", "models/keypoint_trunk.py", "released/network.py"}
PRODUCTS = {f"jnp.{name}" for name in ("dot", "einsum", "inner", "matmul", "tensordot", "vdot")}
PRODUCTS |= {f"nn.{name}" for name in ("Conv", "ConvTranspose", "Dense", "DenseGeneral", "Einsum")}
PRODUCTS |= {f"{lax}.{name}" for lax in ("lax", "jax.lax") for name in ("dot_general", "conv_general_dilated")}


def inexact(source: str) -> Iterator[str]:
    """The products of a module that do not name a precision."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called, arguments = ast.unparse(node.func), node.args
            if called.endswith("partial") and arguments:
                called = ast.unparse(arguments[0])
            if called in PRODUCTS and all(keyword.arg != "precision" for keyword in node.keywords):
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("jnp.einsum('ij,jk->ik', a, b)", 1),
        ("jnp.einsum('ij,jk->ik', a, b, precision='highest')", 0),
        ("functools.partial(nn.Dense, 3)(name='x')", 1),
        ("np.einsum('ij,jk->ik', a, b)", 0),
    ],
)
def test_a_product_without_a_precision_is_found(source, count):
    assert len(list(inexact(source))) == count


@pytest.mark.slow
def test_every_product_outside_the_trunks_is_exact():
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name not in TRUNKS:
            found += [f"{name}, {product}" for product in inexact(path.read_text(encoding="utf-8"))]
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


def test_an_inexact_product_is_found_however_it_is_written():
    def outer(product, a):
        return jax.lax.scan(lambda x, _: (product(x), None), a, length=3)[0]

    a = jnp.ones((2, 2))
    for product in (lambda x: x @ x, lambda x: x.dot(x), lambda x: jnp.dot(x, x, precision="default")):
        assert inexact_in(jax.make_jaxpr(functools.partial(outer, product))(a).jaxpr)
    assert not inexact_in(
        jax.make_jaxpr(functools.partial(outer, lambda x: jnp.dot(x, x, precision="highest")))(a).jaxpr
    )


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
