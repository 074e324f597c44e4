"""`python -m multibodies_jax` is the console script `multibodies`."""

import sys

from multibodies_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main())
