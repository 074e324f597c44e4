r"""The 2D error of a model's hypotheses on two real photographs, and how far they spread where nothing is seen.

    python -m benchmarks.photographs [--workdir=RUN] [--norefine] [--out=DIR]

RUN is the work directory of a trained and evaluated model; without it the embedded weights predict. The photographs are
those that ship with the package: a skier (all 17 COCO keypoints) and an astronaut (the upper body). The skier is
predicted twice, the second time with the keypoints of her knees and ankles withheld; the crop is then of what is left.
Predictions and pictures go to --out.
"""

import argparse
import copy
import json
import pathlib
import shutil
import sys
import tempfile
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from multibodies_jax.embedded import photographs
from multibodies_jax.evaluation import diagnostics
from multibodies_jax.geometry import boxes, image_cameras, joints
from multibodies_jax.hypotheses import hypotheses
from multibodies_jax.prediction import people, predict, prediction_file, predictor, pretrained
from multibodies_jax.training import setup

N = 5
SKIER, WITHOUT_LEGS, ASTRONAUT = "skier.jpg", "skier_without_legs.jpg", "astronaut.jpg"
LEGS = ("left_knee", "right_knee", "left_ankle", "right_ankle")
ARM = ("right_shoulder", "right_elbow", "right_wrist")
_CENTRE = [joints.J24.index(name) for name in ("left_shoulder", "right_shoulder")]


def add_withheld(content: dict[str, Any]) -> dict[str, Any]:
    """A COCO-style file's content with one image more: the skier's, whose leg keypoints are not annotated.

    Raises:
      ValueError: the file has no skier with COCO's 17 keypoints.
    """
    content = copy.deepcopy(content)
    ids = [image["id"] for image in content["images"] if image["file_name"] == SKIER]
    found = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    if len(found) != 1 or len(found[0].get("keypoints", ())) != 3 * 17:
        raise ValueError(f"Expected one person with 17 keypoints in {SKIER}, got {len(found)} people.")
    new = max(image["id"] for image in content["images"]) + 1
    image = next(image for image in content["images"] if image["id"] == ids[0])
    content["images"].append(image | {"id": new, "file_name": WITHOUT_LEGS})
    keypoints = np.reshape(found[0]["keypoints"], (17, 3))
    keypoints[[joints.COCO17.index(name) for name in LEGS]] = 0
    content["annotations"].append(found[0] | {"image_id": new, "keypoints": keypoints.ravel().tolist()})
    return content


def predict_photos(
    model: predictor.Predictor, photos: pathlib.Path, out: pathlib.Path, refine: bool = True
) -> dict[str, prediction_file.Record]:
    """Predicts the three cases; returns the saved predictions by image name.

    Args:
      model: of keypoints or of pixels.
      photos: folder of the photographs and their `people.json`.
      out: folder of the predictions.
      refine: fit the hypotheses to the keypoints.

    Raises:
      ValueError, OSError: no such photographs or people, or one of them could not be predicted.
    """
    people.read_people(photos / "people.json")  # Its errors say what is wrong with the file.
    content = add_withheld(json.loads((photos / "people.json").read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        for source, name in ((SKIER, SKIER), (SKIER, WITHOUT_LEGS), (ASTRONAUT, ASTRONAUT)):
            shutil.copy(photos / source, pathlib.Path(folder, name))
        people_file = pathlib.Path(folder, "people.json")
        people_file.write_text(json.dumps(content), encoding="utf-8")
        if failures := predict.predict(model, folder, people_file, N, out, refine=refine):
            raise ValueError(f"{failures} of the photographs could not be predicted (named above).")
    names = (SKIER, WITHOUT_LEGS, ASTRONAUT)
    return {name: prediction_file.load(out / f"{pathlib.Path(name).stem}_0.npz") for name in names}


def mean_joints(bodies: setup.Bodies) -> Float[np.ndarray, "24 3"]:
    """J24 of the mean body, which faces the camera."""
    state = np.concatenate([bodies.files.mean_rot6d, bodies.files.mean_betas, bodies.files.mean_cam])
    return np.asarray(hypotheses.decode(jnp.asarray(state, jnp.float32), bodies.j24).joints24)


def place(
    points: Float[np.ndarray, "K 3"], keypoints_px: Float[np.ndarray, "K 2"], seen: Bool[np.ndarray, "K"]
) -> Float[np.ndarray, "K 2"]:
    """Pixels of a body under the weak-perspective camera (scale, translation) with the least squared error.

    Args:
      points: camera frame, metres.
      keypoints_px: any finite values where not seen.
      seen: at least two different keypoints, which alone decide.
    """
    points_mean, keypoints_mean = points[seen, :2].mean(axis=0), keypoints_px[seen].mean(axis=0)
    centred, wanted = points[:, :2] - points_mean, keypoints_px - keypoints_mean
    scale = np.sum(centred[seen] * wanted[seen]) / np.sum(centred[seen] ** 2)
    return keypoints_mean + scale * centred


def error_px(
    pixels: Float[np.ndarray, "*b K 2"], keypoints_px: Float[np.ndarray, "K 2"], which: Bool[np.ndarray, "K"]
) -> Float[np.ndarray, "*b"]:
    """Mean distance over the keypoints in `which`."""
    return np.linalg.norm(pixels - keypoints_px, axis=-1)[..., which].mean(axis=-1)


def errors(
    record: prediction_file.Record, keypoints: Float[np.ndarray, "24 3"], mean_body: Float[np.ndarray, "24 3"]
) -> dict[str, dict[str, float]]:
    """2D errors by what predicted, of the keypoints that the model saw and of those withheld from it (if any).

    Args:
      record: the prediction; its own keypoints are those that the model saw.
      keypoints: all that are annotated: x, y, known.
      mean_body: J24 of the mean pose.
    """
    seen = record["keypoints"][:, 2] > 0
    groups = {"seen": seen, "withheld": (keypoints[:, 2] > 0) & ~seen}
    points = record["all_joints24"] + (record["all_midhip"] + record["all_translation"])[:, None]
    intrinsics = np.broadcast_to(record["intrinsics"], (len(points), 3, 3))
    pixels = np.asarray(image_cameras.project(jnp.asarray(points), jnp.asarray(intrinsics)))
    placed = place(mean_body, keypoints[:, :2], seen)
    found = {}
    for group, which in groups.items():
        if which.any():
            every = error_px(pixels, keypoints[:, :2], which)
            chosen = every[record["index"]]
            found[group] = {
                "mean of all M": float(every.mean()),
                "best of all M": float(every.min()),
                f"mean of the {N} representatives": float(record["probabilities"] @ chosen),
                f"best of the {N} representatives": float(chosen.min()),
                "mean pose": float(error_px(placed, keypoints[:, :2], which)),
            }
    return found


def spreads_mm(record: prediction_file.Record) -> dict[str, tuple[float, float]]:
    """Mean spread of the legs' and the arm's joints over all M, around the mid-hip and around the mid-shoulders."""
    points = record["all_joints24"]
    around = (points, points - points[:, _CENTRE].mean(axis=1, keepdims=True))
    uniform = jnp.full((1, len(points)), 1 / len(points))
    per_joint = [np.asarray(diagnostics.joint_spread_mm(jnp.asarray(p)[None], uniform))[0] for p in around]
    groups = {"legs, unseen (knees, ankles)": LEGS, "right arm, seen (shoulder, elbow, wrist)": ARM}
    at = {group: [joints.J24.index(name) for name in names] for group, names in groups.items()}
    return {group: (float(per_joint[0][i].mean()), float(per_joint[1][i].mean())) for group, i in at.items()}


def report(records: dict[str, prediction_file.Record], mean_body: Float[np.ndarray, "24 3"]) -> str:
    """The Markdown of all three cases."""
    keypoints = records[SKIER]["keypoints"]
    full = errors(records[SKIER], keypoints, mean_body)["seen"]
    part = errors(records[WITHOUT_LEGS], keypoints, mean_body)
    lines = [
        f"Model trained on {records[SKIER]['trained_on']}; M = {len(records[SKIER]['all_log_prior'])}; "
        f"body: {records[SKIER]['body']}; commit {records[SKIER]['commit']}.",
        "",
        f"Skier, mean 2D error in pixels of the photograph (crop of {boxes.SIDE * records[SKIER]['box_scale']:.0f} pixels; of "
        f"{boxes.SIDE * records[WITHOUT_LEGS]['box_scale']:.0f} without knees and ankles):",
        "",
        "| | all 17 keypoints given | 13 given: on these | 13 given: on the 4 withheld (knees, ankles) |",
        "|---|---|---|---|",
    ]
    lines += [f"| {who} | {full[who]:.1f} | {part['seen'][who]:.1f} | {part['withheld'][who]:.1f} |" for who in full]
    lines += [
        "",
        "Representatives' means are weighted by their probabilities; every best is that of its own column. The mean pose "
        "has the scale and translation of least squared error on the keypoints given.",
        "",
        "Astronaut, mean distance of a joint from its mean over all M, mm:",
        "",
        "| joints | around the mid-hip | around the mid-shoulders |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {hip:.0f} | {shoulders:.0f} |" for name, (hip, shoulders) in spreads_mm(records[ASTRONAUT]).items()
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.photographs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", type=pathlib.Path, help="a trained, evaluated model (default: embedded weights)")
    parser.add_argument("--photos", type=pathlib.Path, default=photographs.FOLDER, help="folder with the photographs")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("photographs"), help="default: photographs")
    parser.add_argument("--norefine", action="store_true", help="take the hypotheses as the network predicts them")
    args = parser.parse_args(argv)
    setup.enable_compilation_cache()
    try:
        model = predictor.load(args.workdir) if args.workdir else pretrained.load_pretrained()
        records = predict_photos(model, args.photos, args.out, not args.norefine)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print()
    print(report(records, mean_joints(model.bodies)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
