"""Checks of a built set: counts, ranges, whether the 3D joints land on the 2D keypoints, and a picture to look at."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any, cast

import cv2
import numpy as np
import tensorflow_datasets as tfds

from multibodies_jax import occlusion
from tfds_builders import building

_MAX_PROJECTION_PX = 0.1  # float32 annotations of one camera agree far better.
_SHEET_COLUMNS, _SHEET_ROWS, _TILE = 6, 4, 256
_VISIBLE, _HIDDEN, _BOX, _FULL_BOX = (60, 220, 60), (240, 60, 60), (250, 220, 60), (120, 120, 120)  # RGB.


@dataclasses.dataclass
class Report:
    """What `verify` found: lines for people, and whether everything holds."""

    lines: list[str]
    passed: bool = True

    def check(self, holds: bool | np.bool_, line: str) -> None:
        """Adds a line, marked by whether it holds."""
        self.lines.append(f"  {'ok  ' if holds else 'FAIL'}  {line}")
        self.passed &= bool(holds)


def verify(builder: tfds.core.DatasetBuilder) -> Report:
    """Reads every example of a built set and writes `contact_sheet.png` into its folder where it has images.

    Raises:
      BuildError: the set is not whole, or made from something else than its builder would use now.
    """
    building.check(builder)
    report = Report([f"{builder.info.full_name} in {builder.data_path}"])
    ids: set[bytes] = set()
    total = 0
    for split in builder.info.splits:
        source = building.open_split(builder, split)
        statistics = _Statistics()
        for record in source:
            statistics.add(record)
            ids.add(record["example_id"])
        total += len(source)
        statistics.report(split, len(source), report)
    report.check(len(ids) == total, f"{len(ids)} different ids of {total}")
    if "image" in cast(tfds.features.FeaturesDict, builder.info.features):
        test = building.open_split(builder, "test")
        path = pathlib.Path(builder.data_path) / "contact_sheet.png"
        sheet = contact_sheet(test[i] for i in range(min(len(test), _SHEET_COLUMNS * _SHEET_ROWS)))
        cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
        report.lines.append(
            f"  look at {path}: keypoints visible green, hidden red; crop yellow, without occlusion grey"
        )
    return report


class _Statistics:
    """Sums over the examples of one split."""

    def __init__(self):
        self.count = self.not_finite = self.keypoints = self.inside = 0
        self.projection_px = 0.0
        self.projected = False
        self.occlusions: collections.Counter[int] = collections.Counter()

    def add(self, record: dict[str, Any]) -> None:
        self.count += 1
        self.not_finite += any(not np.all(np.isfinite(v)) for v in record.values() if np.asarray(v).dtype.kind == "f")
        if "kp2d" not in record:
            return
        valid = record["kp2d_valid"] > 0
        within = np.all((record["kp2d"] >= 0) & (record["kp2d"] <= record["image_size"]), axis=-1)
        self.keypoints += np.count_nonzero(valid)
        self.inside += np.count_nonzero(within & valid)
        self.occlusions[int(record["occlusion"])] += 1
        both = valid & (record["joints3d_valid"] > 0)
        if record["intrinsics_valid"] > 0 and both.any():
            projected = record["joints3d"] @ record["intrinsics"].T
            error = np.linalg.norm(projected[:, :2] / projected[:, 2:] - record["kp2d"], axis=-1)[both]
            self.projection_px = max(self.projection_px, float(error.max()))
            self.projected = True

    def report(self, split: str, expected: int, report: Report) -> None:
        report.check(self.count == expected > 0, f"{split}: {self.count} examples")
        report.check(self.not_finite == 0, f"{split}: {self.not_finite} with numbers that are not finite")
        if not self.occlusions:
            return
        share = self.inside / max(self.keypoints, 1)
        report.check(self.keypoints > 0, f"{split}: {self.keypoints} keypoints, {100 * share:.1f} % inside the image")
        if self.projected:
            line = f"{split}: joints3d land within {self.projection_px:.2g} px of kp2d"
            report.check(self.projection_px <= _MAX_PROJECTION_PX, line)
        shares = (f"{name} {self.occlusions[i] / self.count:.3f}" for i, name in enumerate(occlusion.STRATEGIES))
        report.lines.append(f"        {split}: occlusion {', '.join(shares)}")


def contact_sheet(records: Iterable[dict[str, Any]]) -> np.ndarray:
    """Draws examples with their keypoints and boxes side by side: an RGB picture."""
    tiles = [_tile(record) for record in records]
    blank = np.zeros((_TILE, _TILE, 3), np.uint8)
    tiles += [blank] * (-len(tiles) % _SHEET_COLUMNS)
    rows = [np.concatenate(tiles[i : i + _SHEET_COLUMNS], axis=1) for i in range(0, len(tiles), _SHEET_COLUMNS)]
    return np.concatenate(rows)


def _tile(record: dict[str, Any]) -> np.ndarray:
    image = record["image"]
    zoom = _TILE / max(image.shape[:2])
    height, width = (round(side * zoom) for side in image.shape[:2])
    tile = np.zeros((_TILE, _TILE, 3), np.uint8)
    tile[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    shift = record["window"][:2]

    def corner(point: np.ndarray) -> tuple[int, int]:
        x, y = np.round((point - shift) * zoom).astype(int)
        return int(x), int(y)

    for suffix, colour in (("_full", _FULL_BOX), ("", _BOX)):
        center, half = record[f"box_center{suffix}"], 100 * record[f"box_scale{suffix}"]
        cv2.rectangle(tile, corner(center - half), corner(center + half), colour)
    for point, valid, visible in zip(record["kp2d"], record["kp2d_valid"], record["kp2d_input"], strict=True):
        if valid > 0:
            cv2.circle(tile, corner(point), 3, _VISIBLE if visible > 0 else _HIDDEN, -1, cv2.LINE_AA)
    cv2.putText(
        tile, occlusion.STRATEGIES[int(record["occlusion"])], (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255,) * 3
    )
    return tile
