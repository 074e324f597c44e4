"""Settings shared by all tests: strict rank promotion, a fixed hypothesis profile, CPU only."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("project", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.load_profile("project")
