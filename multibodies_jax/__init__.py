"""3D Multi-bodies in JAX: sets of plausible 3D human bodies from one ambiguous image (NeurIPS 2020)."""

__version__ = "0.1.0"
