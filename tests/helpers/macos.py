"""What macOS adds to folders and zip archives that it copies."""

import pathlib

_FORK = b"\x00\x05\x16\x07"  # An AppleDouble file begins like this.


def add(root: pathlib.Path) -> None:
    """Adds `._NAME` and `.DS_Store` beside every file, and a folder `__MACOSX` with the same tree of such files."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(_FORK)
        path.with_name(".DS_Store").write_bytes(b"\x00")
        mirrored = root / "__MACOSX" / path.relative_to(root)
        mirrored.parent.mkdir(parents=True, exist_ok=True)
        mirrored.with_name(f"._{path.name}").write_bytes(_FORK)
