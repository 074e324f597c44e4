"""Settings shared by all tests: CPU only, one compilation cache, little optimisation, strict rank promotion, a fixed
hypothesis profile, and a temporary folder below the checkout."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Several tests train the same tiny networks, some in processes of their own: compiled once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".cache" / "xla"))
# Most of the time of the tests is compilation of programs that run once on tiny data.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

import hypothesis
import jax

from tests.helpers import scratch

_SCRATCH = None  # Of the whole run; the workers of pytest-xdist are children and write into it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _SCRATCH = scratch.Scratch(pathlib.Path(__file__).parents[1] / ".cache" / "tests")

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("project", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.load_profile("project")

# The longest files first, so that the workers finish together.
_LONGEST = (
    *("training.loop", "evaluation.evaluate", "training.multihost", "baselines.training", "embedded.mannequin"),
    "released.evaluation",
)


def pytest_collection_modifyitems(items):
    order = {f"tests.{name}_test": place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.module.__name__, len(order)))


def pytest_unconfigure(config):
    if _SCRATCH is not None:
        _SCRATCH.remove()
