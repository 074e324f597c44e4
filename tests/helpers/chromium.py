"""Opens pages in a real browser without a window: what its DOM becomes, and what one sees."""

import pathlib
import shutil
import subprocess

import numpy as np
from PIL import Image

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars"),
    *("--virtual-time-budget=5000", "--disable-gpu-sandbox", "--no-first-run"),
)


def _run(page: pathlib.Path, state: str, profile: pathlib.Path, *more: str) -> str:
    assert PROGRAM is not None
    command = [PROGRAM, *_FLAGS, f"--user-data-dir={profile}", *more, f"{page.resolve().as_uri()}#{state}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, encoding="utf-8").stdout


def dom(page: pathlib.Path, state: str, profile: pathlib.Path) -> str:
    """The HTML of a page after its script ran, opened from the disk with `#state`."""
    return _run(page, state, profile, "--dump-dom")


def picture(page: pathlib.Path, state: str, profile: pathlib.Path, size: tuple[int, int] = (1400, 800)) -> np.ndarray:
    """What one sees of a page, (height, width, 3)."""
    file = profile.with_suffix(".png")
    _run(page, state, profile, f"--screenshot={file}", "--window-size={},{}".format(*size))
    return np.asarray(Image.open(file).convert("RGB"))
