r"""Real frames with 3D truth: the weights that ship with the package on `pose2sim_demo`, one man and one motion.

    pip download --no-deps pose2sim==0.10.49 -d wheels && multibodies fetch detector
    multibodies data pose2sim_demo/clean --manual_dir=wheels --data_dir=data
    multibodies data pose2sim_demo/ambiguous --manual_dir=wheels --data_dir=data
    python run.py --mode=evaluate --config=configs/eval_pose2sim.py --workdir=runs/pose2sim

`eval_pose2sim.py:demo --workdir=runs/demo` scores another training by its config. Everything is chosen on the validation
splits of the embedded sets, nothing on these frames. Fits have the lens of the cameras, as `predict` has that of a photograph.
"""

from typing import Any

from configs import default


def get_config(base: str = "pretrained") -> Any:
    c = default.add_evaluation_of_others(default.of(base))
    c.data.options = "num_train=1000,num_people=2000"

    c.fitting.lens = "image"

    c.eval.packed = None
    if base == "pretrained":
        c.eval.packed = "embedded"
        c.fitting.prior, c.fitting.anchor = 0.02, 1.0  # Those of the file, with which `predict` fits.
    c.eval.sets = ("pose2sim_demo/clean", "pose2sim_demo/ambiguous")
    c.eval.chosen_on = ("synthetic_bodies/clean", "synthetic_bodies/ambiguous")
    c.eval.protocol = "limbs"
    c.eval.methods = (
        *("main", *default.WEIGHTED, "random", *default.CONTROLS),
        *("refined", "hmr_refined", "hmr_noise_refined", *default.FITTED_WEIGHTED),
    )
    c.eval.max_examples = None
    return c
