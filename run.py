"""Builds data, trains, evaluates and predicts: python run.py --config=configs/demo.py [--mode=all] [--workdir=runs/demo]."""

from absl import app, flags
from ml_collections import config_flags

from multibodies_jax import cli

config_flags.DEFINE_config_file(
    "config", "configs/demo.py", "Experiment; set its fields with --config.FIELD=VALUE after it."
)
flags.DEFINE_enum("mode", "all", cli.MODES, "What to do; all = build what is missing, train, evaluate, draw.")
flags.DEFINE_string("workdir", None, "Where checkpoints and results go (default: runs/NAME of configs/NAME.py).")
flags.DEFINE_bool(
    "distributed", False, "train: one process of several (Slurm, Open MPI, TPU pods, or JAX_... variables)."
)
flags.DEFINE_string("images", None, "predict: an image or a folder of images.")
flags.DEFINE_string("people", None, "predict: boxes and keypoints, COCO-style JSON (default: one person an image).")
flags.DEFINE_integer("n", 5, "predict: number of bodies per person, at most M.", lower_bound=1)
flags.DEFINE_string("out", None, "predict: folder for the results (default: WORKDIR/predictions).")

if __name__ == "__main__":
    app.run(cli.main, flags_parser=cli.parse_flags)
