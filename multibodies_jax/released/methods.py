"""The row of the quantizer that keeps hypothesis 0, as the authors' code does, and finds the others as ours does."""

from multibodies_jax.evaluation import methods

KEPT = f"{methods.OURS}, hypothesis 0 kept"

methods.METHODS.register("hypothesis_0_kept", methods.variant(KEPT, reading="keep_first"))
