"""Writes a report into a folder: everything is made beside it first, then moved into its place."""

import json
import pathlib
import tempfile
from typing import Any

from multibodies_jax import io
from multibodies_jax.reporting import plots, runs, text


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
    with tempfile.TemporaryDirectory(dir=out, prefix=".making-") as temporary:
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
