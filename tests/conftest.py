"""Settings shared by all tests: strict rank promotion, a fixed hypothesis profile, CPU only, one compilation cache, little optimisation."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Several tests train the same tiny networks, some in processes of their own: compiled once, in a folder git ignores.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".cache" / "xla"))
# Most of the time of the tests is compilation of programs that run once on tiny data.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

import hypothesis
import jax

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
