"""Finds what was downloaded and unpacked, in the folder that was named or in one of its folders."""

import os
import pathlib
from collections.abc import Iterable

from multibodies_jax import untrusted


def find(root: pathlib.Path, name: str) -> pathlib.Path | None:
    """The file or folder `name` (a glob pattern) in `root`, else in one of its folders; None where there is none.

    Archives are often unpacked into a folder of their own, so one level down counts too. Of several it is the first by
    name; hidden
    ones do not count.
    """
    for pattern in (name, f"*/{name}"):
        if matches := sorted(path for path in root.glob(pattern) if untrusted.visible(path, root)):
            return matches[0]
    return None


def folder(root: pathlib.Path, name: str, inside: str) -> pathlib.Path | None:
    """The unpacked archive `name` that has the file `inside`: `root` itself, `name` in it, or an extra folder deeper."""
    if root.name == name and (root / inside).exists():
        return root
    found = find(root, f"{name}/{inside}") or find(root / name, inside)
    return pathlib.Path(*found.parts[: len(found.parts) - len(pathlib.PurePath(inside).parts)]) if found else None


def absent(folder: pathlib.Path, names: Iterable[str]) -> list[str]:
    """Those of the files (relative to the folder) that are not there; reads every folder once."""
    listings: dict[str, set[str]] = {}
    result = []
    for name in names:
        inner, base = os.path.split(name)
        if inner not in listings:
            path = folder / inner
            listings[inner] = set(os.listdir(path)) if path.is_dir() else set()
        if base not in listings[inner]:
            result.append(name)
    return result
