"""Products outside the trunks ask for full float32: GPUs take TF32 and TPUs bfloat16 for those that ask for nothing.

On a CPU every product is exact, so no test of numbers would notice one that was forgotten.
"""

import ast
import pathlib
from collections.abc import Iterator

import pytest

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
