"""Builds data, trains, evaluates and predicts: python run.py --config=configs/demo.py [--mode=all] [--workdir=runs/demo]."""

import sys

from multibodies_jax import cli

if __name__ == "__main__":
    sys.exit(cli.run(sys.argv[1:]))
