"""What sets can be built with, and the name that says so: sets with other options never share a folder."""

import dataclasses
import fnmatch
import functools
import pathlib
import re
from typing import Any

from multibodies_jax import io, untrusted
from multibodies_jax.body import body_files

_MOST_EXAMPLES = 1_000_000_000


def option(default: Any, label: str, help: str = "", file: bool = False, read: tuple[str, ...] = ()) -> Any:
    """A field of an options class.

    Args:
      default: its default value, which also decides the type on the command line.
      label: how another value shows in the config name, for instance "px{}".
      help: for the command line; without it the option is for programs only.
      file: the value is the path of a file or folder; names and metadata say its name and content, not where it is.
      read: patterns of the names of the files that sets read in such a folder; their content counts. Without patterns the
        folder may hold many gigabytes, and the names and sizes of all of its files count.
    """
    return dataclasses.field(default=default, metadata={"label": label, "help": help, "file": file, "read": read})


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeopleOptions:
    """Options of every set of generated people; `ValueError` where they make no sense."""

    num_validation: int = option(2_000, "validation{}")
    num_test: int = option(2_000, "test{}")
    poses: str = option(
        "",
        "{}",
        "file or folder of real poses (AMASS .npz, or an array of SMPL axis-angles) to draw people from",
        file=True,
    )
    pose_mix: float = option(1.0, "mix{:g}", "share of people drawn from --poses; the rest is parametric")
    seed: int = option(0, "seed{}", "another seed makes other people")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("num_") and value < 1:
                raise ValueError(f"{field.name} must be at least 1 (a set without examples is of no use), got {value}.")
            if field.name.startswith("num_") and value > _MOST_EXAMPLES:
                raise ValueError(f"{field.name} must be at most {_MOST_EXAMPLES:,}, got {value}.")
        if not 0 < self.pose_mix <= 1:
            raise ValueError(f"pose_mix is a share in (0, 1], got {self.pose_mix}.")
        if self.pose_mix != 1 and not self.poses:
            raise ValueError(f"pose_mix = {self.pose_mix} mixes a file of poses in: give poses=FILE too.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be within [0, 2^32), got {self.seed}.")
        if self.poses and not pathlib.Path(self.poses).exists():
            raise ValueError(f"There is no file or folder of poses {self.poses!r}.")


def config_name(base: str, options: Any) -> str:
    """The name of a builder config: the base and every option that is not at its default.

    Files are named by their content too: `clean-cmu_poses_1f2e3d4c-train2000` is only ever that file.
    """
    parts = [base]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        if field.metadata["file"]:
            value = f"{re.sub(r'[^A-Za-z0-9_]+', '_', pathlib.Path(value).stem)}_{_sha256(value, field.metadata['read'])[:8]}"
        elif field.name == "body_dir":
            value = body_fingerprint(value)[:8]
        parts.append(field.metadata["label"].format(value))
    return "-".join(parts)


def provenance(options: Any) -> dict[str, Any]:
    """Everything a set was made from, without the paths of one machine; stored with the set."""
    record = dataclasses.asdict(options)
    for field in dataclasses.fields(options):
        if field.metadata["file"]:
            path = getattr(options, field.name)
            digest = _sha256(path, field.metadata["read"]) if path else ""
            record |= {field.name: pathlib.Path(path).name, f"{field.name}_sha256": digest}
    if "body_dir" in record:
        record["body_fingerprint"] = body_fingerprint(record.pop("body_dir"))
    return record


@functools.cache
def body_fingerprint(directory: str) -> str:
    """The sha256 of the body and its regressors; "" is the embedded body."""
    return body_files.load(directory).fingerprint


def _sha256(path: str, read: tuple[str, ...]) -> str:
    """Of the content of a file; of a folder as `option` says."""
    root = pathlib.Path(path)
    if root.is_file():
        return _content(root)
    files = untrusted.files_below(root)
    if read:
        files = [file for file in files if any(fnmatch.fnmatchcase(file.name, pattern) for pattern in read)]
    listing = [f"{file.relative_to(root)} {_content(file) if read else file.stat().st_size}" for file in files]
    return io.sha256("\n".join(listing).encode())


def _content(path: pathlib.Path) -> str:
    status = path.stat()
    return _content_when(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1000)  # A set is named several times while it is built.
def _content_when(path: pathlib.Path, size: int, changed: int) -> str:
    del size, changed  # A file that was written anew is read anew.
    return io.sha256_of_file(path)
