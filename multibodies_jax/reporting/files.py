"""Writes a report into a folder: everything is made beside it first, then moved into its place."""

import contextlib
import json
import pathlib
import shutil
import tempfile
import time
from typing import Any

from multibodies_jax import io
from multibodies_jax.reporting import plots, runs, text

_MAKING = ".making-"  # Begins the names of the folders in which reports are made.
_LEFT_S = 24 * 3600.0  # A report takes minutes: a folder that was not written for a day is what a killed process left.


def write(out: pathlib.Path, cast: runs.Cast, doc: dict[str, Any]) -> tuple[list[str], str]:
    """Writes `<what>.md`, `.csv`, `.json` and the figures; what the folder had stays until all of them are made.

    Args:
      out: the folder, made if absent; other files in it stay.
      cast: the work directories, which the figures are drawn from.
      doc: of `document.build`.

    Returns:
      (the names written, the Markdown).

    Raises:
      OSError: the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    remove_left(out)
    with tempfile.TemporaryDirectory(dir=out, prefix=_MAKING) as temporary:
        folder = pathlib.Path(temporary)
        drawn = plots.draw(cast, doc, folder)
        doc = doc | {"figures": drawn}
        shown = text.markdown(doc)
        texts = {"md": shown, "csv": text.long_csv(doc), "json": json.dumps(doc, indent=1, allow_nan=False) + "\n"}
        for suffix, content in texts.items():
            (folder / f"{doc['what']}.{suffix}").write_text(content, encoding="utf-8")
        names = [*(f"{doc['what']}.{suffix}" for suffix in texts), *drawn]
        for name in names:
            io.sync(folder / name)
            io.rename(folder / name, out / name)
    return names, shown


def remove_left(out: pathlib.Path) -> None:
    """Removes folders in which killed processes made reports; one of the last day may be that of a process at work."""
    for folder in out.glob(_MAKING + 8 * "[a-z0-9_]"):  # The names that `tempfile` gives.
        with contextlib.suppress(FileNotFoundError):  # Its process, or another report, was faster.
            if time.time() - folder.stat().st_mtime > _LEFT_S:
                shutil.rmtree(folder, ignore_errors=True)
