"""Builds data, trains, evaluates and predicts: python run.py --config=configs/demo.py [--mode=all] [--workdir=runs/demo]."""

from absl import app, flags
from ml_collections import config_flags

from multibodies_jax import drive

_CONFIG = config_flags.DEFINE_config_file("config", "configs/demo.py", "Experiment; set its fields with --config.FIELD=VALUE.")
_MODE = flags.DEFINE_enum("mode", "all", drive.MODES, "What to do; all = build what is missing, train, evaluate, draw.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and results go (default: runs/NAME of configs/NAME.py).")
_IMAGES = flags.DEFINE_string("images", None, "predict: an image or a folder of images.")
_PEOPLE = flags.DEFINE_string("people", None, "predict: boxes and keypoints, COCO-style JSON (default: one person an image).")
_N = flags.DEFINE_integer("n", 5, "predict: number of bodies per person, at most M.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "predict: folder for the results (default: WORKDIR/predictions).")


def main(argv):
    config_path = flags.FLAGS["config"].config_filename
    return drive.main(argv, _MODE.value, _CONFIG.value, config_path, _WORKDIR.value, _IMAGES.value, _PEOPLE.value, _N.value, _OUT.value)


if __name__ == "__main__":
    app.run(main)
