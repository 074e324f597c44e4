"""The paper's figures and the curves of a run, as PNG files: functions of arrays and a path.

Bodies are vertices in camera axes (x right, y down, z forward) around any origin; evidence is what the network saw:
keypoints in [-1, 1] of the crop, and the crop itself where there is one.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, Rectangle

from multibodies_jax import io
from multibodies_jax.geometry import boxes, joints
from multibodies_jax.vis import render, stick_figure

PANEL_PX = 280
BLUE, GREEN, PINK, GREY = (0.42, 0.62, 0.95), (0.48, 0.78, 0.50), (0.95, 0.74, 0.72), (0.78, 0.78, 0.80)

_VIEWS = {"front": 0.0, "side": np.pi / 2}
_LEFT, _RIGHT, _MIDDLE = "#2b6cb0", "#d1495b", "#555555"
_HIDDEN, _FULL_BOX, _CROP_BOX = "#e07a00", "#888888", "#0b8f4d"
LINES = ("#1f5fbf", "#d1495b", "#2e9e5b", "#8d6bb8", "#d98a1f", "#6b6b6b", "#20a3a3", "#b04a9a")

# Stick figures: the head is a circle with a nose instead of its many keypoints.
_NOSE, _EARS = joints.J24.index("nose"), (joints.J24.index("left_ear"), joints.J24.index("right_ear"))
_HEAD = {joints.J24.index(name) for name in joints.J24 if name.endswith(("eye", "ear"))}
_HEAD |= {_NOSE, joints.J24.index("jaw"), joints.J24.index("head"), joints.J24.index("head_top")}
_HEAD_RADIUS, _ANKLE_HEIGHT = 0.11, 0.08  # Metres.


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the network saw of a person.

    Attributes:
      keypoints: J24 in [-1, 1] of the crop.
      visible: > 0 where a keypoint was seen.
      crop: the pixels, or None for a network that sees keypoints only.
    """

    keypoints: Float[np.ndarray, "24 2"]
    visible: Float[np.ndarray, "24"]
    crop: UInt8[np.ndarray, "S S 3"] | None = None


@dataclasses.dataclass(frozen=True)
class Example:
    """One row of `figure6`: evidence, n bodies (the one at `best` is closest to the truth), and the truth if known."""

    evidence: Evidence
    bodies: Float[np.ndarray, "n V 3"]
    probabilities: Float[np.ndarray, "n"]
    best: int
    truth: Float[np.ndarray, "V 3"] | None


def figure6(path: str | os.PathLike, examples: Sequence[Example], faces: Integer[np.ndarray, "F 3"]) -> None:
    """Figure 6: input, n hypotheses from the front and the side, the closest to the truth in blue, truth in green."""
    if not examples:
        raise ValueError("figure6 draws examples, got none.")
    columns = [len(example.bodies) for example in examples]
    if len(set(columns)) > 1:
        raise ValueError(f"All examples of a figure have the same number of bodies, got {columns}.")
    figure, axes = _grid(2 * len(examples), columns[0] + 2)
    for row, example in enumerate(examples):
        pair = axes[2 * row : 2 * row + 2]
        _draw_evidence(pair[0, 0], example.evidence)
        for i, (body, p) in enumerate(zip(example.bodies, example.probabilities, strict=True)):
            _draw_body(pair[:, i + 1], body, faces, BLUE if i == example.best else PINK)
            pair[0, i + 1].set_title(f"p = {p:.2f}", fontsize=9)
        if example.truth is not None:
            _draw_body(pair[:, -1], example.truth, faces, GREEN)
    axes[0, 0].set_title("input", fontsize=9)
    axes[0, -1].set_title("truth", fontsize=9)
    _save(figure, path)


def by_method(
    path: str | os.PathLike, images: Sequence[Mapping[str, Example]], faces: Integer[np.ndarray, "F 3"]
) -> None:
    """Hypotheses of several methods for the same images: a row a method, each body from the front and from the side.

    Args:
      path: the PNG to write.
      images: of each image, method -> its example; evidence and truth are drawn from the first.
      faces: of all bodies.
    """
    if not images or not all(images):
        raise ValueError("by_method draws the examples of at least one method for at least one image, got none.")
    most = max(len(example.bodies) for image in images for example in image.values())
    figure, axes = _grid(sum(map(len, images)), 2 * most + 3)
    row = 0
    for image in images:
        for i, (method, example) in enumerate(image.items()):
            if i == 0:
                _draw_evidence(axes[row, 0], example.evidence)
                if example.truth is not None:
                    _draw_body(axes[row, -2:], example.truth, faces, GREEN)
            axes[row, 0].set_title(method, fontsize=9)
            for k, (body, p) in enumerate(zip(example.bodies, example.probabilities, strict=True)):
                pair = axes[row, 2 * k + 1 : 2 * k + 3]
                _draw_body(pair, body, faces, BLUE if k == example.best else PINK)
                pair[0].set_title(f"p = {p:.2f}", fontsize=9)
            row += 1
    axes[0, -2].set_title("truth", fontsize=9)
    _save(figure, path)


def figure2(
    path: str | os.PathLike,
    evidence: Evidence,
    single: Float[np.ndarray, "V 3"],
    bodies: Float[np.ndarray, "n V 3"],
    truth: Float[np.ndarray, "V 3"] | None,
    faces: Integer[np.ndarray, "F 3"],
) -> None:
    """Figure 2: a single hypothesis regresses to the mean where the set does not; the truth, if it is known."""
    figure, axes = _grid(2, len(bodies) + 3)
    _draw_evidence(axes[0, 0], evidence)
    _draw_body(axes[:, 1], single, faces, GREY)
    for i, body in enumerate(bodies):
        _draw_body(axes[:, i + 2], body, faces, PINK)
    if truth is not None:
        _draw_body(axes[:, -1], truth, faces, GREEN)
    titles = ["input", "M = 1", *(f"hypothesis {i + 1}" for i in range(len(bodies))), "truth"]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    _save(figure, path)


def figure4(path: str | os.PathLike, skeletons: Float[np.ndarray, "N 24 3"], columns: int = 6) -> None:
    """Figure 4: skeletons drawn from the prior, left limbs blue, right limbs red.

    Args:
      path: the PNG to write.
      skeletons: J24 with an upright root (y up, facing +z), metres.
      columns: of the grid.
    """
    rows = -(-len(skeletons) // columns)
    figure, axes = _grid(rows, min(columns, len(skeletons)), side=1.5, height=1.6)
    low, high = skeletons.min(1), skeletons.max(1)
    reach = 0.56 * float(np.linalg.norm(high - low, axis=-1).max())
    for axis, skeleton, center in zip(axes.ravel(), skeletons, (low + high) / 2, strict=False):
        _draw_skeleton(axis, skeleton - center, reach)
    _save(figure, path)


def figure5(
    path: str | os.PathLike,
    image: UInt8[np.ndarray, "H W 3"],
    keypoints_px: Float[np.ndarray, "24 2"],
    valid: Float[np.ndarray, "24"],
    visible: Float[np.ndarray, "24"],
    full_box: tuple[Float[np.ndarray, "2"], float],
    crop_box: tuple[Float[np.ndarray, "2"], float],
    crop: UInt8[np.ndarray, "S S 3"],
    title: str = "",
) -> None:
    """Figure 5: an ambiguous example and its annotation: both boxes, visible and hidden keypoints, and the crop.

    Args:
      path: the PNG to write.
      image: what there is of the original image.
      keypoints_px: J24 in pixels of `image`.
      valid: > 0 where annotated.
      visible: > 0 where not hidden either.
      full_box: centre and scale (`geometry.boxes`) in pixels of `image`, before hiding.
      crop_box: the same of the ambiguous crop.
      crop: what the network sees.
      title: the strategy, for instance.
    """
    figure = Figure(figsize=(7.2, 3.7), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    for box, color, style in ((full_box, _FULL_BOX, "--"), (crop_box, _CROP_BOX, "-")):
        corner, side = np.asarray(box[0]) - boxes.half_side(box[1]), boxes.SIDE * box[1]
        left.add_patch(Rectangle(tuple(corner), side, side, fill=False, color=color, linestyle=style, linewidth=1.8))
    seen, hidden = (valid > 0) & (visible > 0), (valid > 0) & (visible <= 0)
    _draw_edges(left, keypoints_px, valid)
    left.scatter(*keypoints_px[seen].T, s=16, c="white", edgecolors=_LEFT, linewidths=1.4, zorder=3, label="visible")
    left.scatter(*keypoints_px[hidden].T, s=22, c=_HIDDEN, marker="x", linewidths=1.5, zorder=3, label="hidden")
    left.plot([], [], color=_FULL_BOX, linestyle="--", label="full box")
    left.plot([], [], color=_CROP_BOX, label="ambiguous crop")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, fontsize=7, frameon=False)
    right.imshow(crop)
    left.set_title(f"annotation {title}".strip(), fontsize=9)
    right.set_title("what the network sees", fontsize=9)
    for axis in (left, right):
        axis.set_axis_off()
    _save(figure, path)


def error_curve(
    path: str | os.PathLike,
    methods: Mapping[str, Mapping[int, tuple[float, float]]],
    label: str = "MPJPE-n, mm",
    title: str = "",
) -> None:
    """Error of the best of n against n.

    Args:
      path: the PNG to write.
      methods: name -> {n: (mean, half width of its 95 % interval)}.
      label: of the error's axis.
      title: the set, for instance.
    """
    figure = Figure(figsize=(5.6, 3.8), dpi=150, layout="constrained")
    axis = figure.subplots()
    for i, (name, points) in enumerate(methods.items()):
        ns = sorted(points)
        mean, ci = np.array([points[n] for n in ns], float).T
        shift = 1 + 0.012 * (i - len(methods) / 2)  # So that bars of methods that agree do not cover each other.
        style = {"color": LINES[i % len(LINES)], "linewidth": 2.2 if i == 0 else 1.2, "marker": "o", "markersize": 4}
        if len(ns) == 1:
            axis.axhline(mean[0], color=style["color"], linewidth=0.8, linestyle=":")
        axis.errorbar(np.array(ns) * shift, mean, yerr=ci, capsize=2.5, label=name, **style)
    every = sorted({n for points in methods.values() for n in points})
    axis.set_xscale("log")
    axis.set_xticks(every, [str(n) for n in every])
    axis.minorticks_off()
    axis.set_xlabel("n, number of bodies")
    axis.set_ylabel(label)
    axis.set_title(title, fontsize=10)
    axis.legend(fontsize=7, frameon=False)
    open_frame(axis)
    _save(figure, path)


def loss_curves(path: str | os.PathLike, logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Every logged scalar against the step, one panel per scalar, one line per stage.

    Args:
      path: the PNG to write.
      logs: stage -> the lines of its log (`logs.read`); null leaves a gap.
    """
    names = list(dict.fromkeys(name for lines in logs.values() for line in lines for name in line if name != "step"))
    if not names:
        raise ValueError("loss_curves needs logged scalars, got none.")
    columns = min(4, len(names))
    width, height = 3.1 * columns, 2.3 * -(-len(names) // columns)  # Inches.
    figure = Figure(figsize=(width, height), dpi=130)
    for place, name in enumerate(names):  # Placed here: a layout engine takes as long as drawing does.
        left, bottom = 3.1 * (place % columns) + 0.55, height - 2.3 * (place // columns) - 2.0
        axis = figure.add_axes((left / width, bottom / height, 2.45 / width, 1.7 / height))
        for i, (stage, lines) in enumerate(logs.items()):
            points = [(line["step"], np.nan if line[name] is None else line[name]) for line in lines if name in line]
            if points:
                axis.plot(*np.array(points, float).T, color=LINES[i % len(LINES)], linewidth=1.1, label=stage)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=6, frameon=False)
        open_frame(axis)
    _save(figure, path)


def _grid(rows: int, columns: int, side: float = 1.45, height: float = 1.5) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(side * columns, height * rows + 0.2), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)  # pyright: ignore
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    return figure, axes


def _draw_body(pair: np.ndarray, verts: np.ndarray, faces: np.ndarray, color: tuple[float, float, float]) -> None:
    """From the front into the first of two axes, from the side into the other."""
    for axis, yaw in zip(pair, _VIEWS.values(), strict=True):
        axis.imshow(render.draw_panel(np.asarray(verts), np.asarray(faces), yaw, PANEL_PX, color))


def _draw_evidence(axis: Axes, evidence: Evidence) -> None:
    if evidence.crop is not None:
        axis.imshow(evidence.crop, extent=(-1, 1, 1, -1))
    else:
        axis.add_patch(Rectangle((-1, -1), 2, 2, color="#f1f1ee"))
    _draw_edges(axis, evidence.keypoints, evidence.visible)
    seen = evidence.visible > 0
    axis.scatter(*evidence.keypoints[seen].T, s=8, c="white", edgecolors=_MIDDLE, linewidths=0.8, zorder=3)
    axis.set(xlim=(-1, 1), ylim=(1, -1), aspect="equal")


def _draw_edges(axis: Axes, points: np.ndarray, known: np.ndarray) -> None:
    for a, b in stick_figure.J24_EDGES:
        if known[a] > 0 and known[b] > 0:
            axis.plot(*points[[a, b]].T, color=_side_color(a, b), linewidth=1.4, solid_capstyle="round")


def _side_color(a: int, b: int) -> str:
    sides = {joints.J24[joint].partition("_")[0] for joint in (a, b)}
    if "left" in sides and "right" not in sides:
        return _LEFT
    return _RIGHT if "right" in sides and "left" not in sides else _MIDDLE


def _draw_skeleton(axis: Axes, skeleton: np.ndarray, reach: float) -> None:
    """A stick figure seen from its right front and a little above, near limbs over far ones, with a shadow."""
    turn, tilt = np.deg2rad(28), np.deg2rad(12)
    x, y, z = skeleton.T
    across, toward = x * np.cos(turn) + z * np.sin(turn), z * np.cos(turn) - x * np.sin(turn)
    up, depth = y * np.cos(tilt) - toward * np.sin(tilt), toward * np.cos(tilt) + y * np.sin(tilt)
    floor = (y.min() - _ANKLE_HEIGHT) * np.cos(tilt)
    axis.add_patch(Ellipse((float(across.mean()), float(floor)), 0.8 * reach, 0.16 * reach, color="#ececec", zorder=0))
    near = 1 + (depth - depth.min()) / max(float(np.ptp(depth)), 1e-6)
    for a, b in stick_figure.J24_EDGES:
        if not {a, b} & _HEAD:
            order = float(near[a] + near[b])
            style = {"color": _side_color(a, b), "linewidth": 0.8 + 0.45 * order, "solid_capstyle": "round"}
            axis.plot(across[[a, b]], up[[a, b]], zorder=order, **style)
    middle = across[list(_EARS)].mean(), up[list(_EARS)].mean()
    head = {"facecolor": "white", "edgecolor": _MIDDLE, "linewidth": 1.6, "zorder": 2 * near[list(_EARS)].mean()}
    axis.add_patch(Circle(middle, _HEAD_RADIUS, **head))
    axis.plot([middle[0], across[_NOSE]], [middle[1], up[_NOSE]], color=_MIDDLE, linewidth=1.6, zorder=head["zorder"])
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")


def open_frame(axis: Axes) -> None:
    """The look of all our plots: no lines above and to the right, a faint grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, linewidth=0.6)


def _save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a PNG; one that is there stays until the new one is complete."""
    with io.replacing(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="white")
