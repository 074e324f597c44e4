"""A temporary folder of a run of the tests below the checkout, so that a run that is killed leaves nothing in the system's."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

FOLDER = pathlib.Path(__file__).parents[2] / ".cache" / "tests"
"""That of all runs in this checkout."""

_LOCK = ".lock"


class Scratch:
    """The folder of one run; several runs in one checkout have one each.

    Creating it removes the folders of runs that have ended, killed or not, and makes it the temporary folder of this
    process and of its children.

    Attributes:
      path: of the folder.
    """

    def __init__(self, root: pathlib.Path):
        root.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(root):  # No other run takes a new folder without its lock for one of a killed run.
            for old in root.iterdir():
                if not _in_use(old):
                    shutil.rmtree(old, ignore_errors=True)
            self.path = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=root))
            self._lock = open(self.path / _LOCK, "w", encoding="utf-8")  # noqa: SIM115  # Held until the process ends, however it ends.
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.path)

    def remove(self) -> None:
        """Removes the folder; what is still open in it does not matter."""
        self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def _one_at_a_time(root: pathlib.Path) -> Iterator[None]:
    """Waits until no other run clears the folders below a root and makes its own."""
    with open(root.with_name(f"{root.name}.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _in_use(folder: pathlib.Path) -> bool:
    """Whether the process that made a folder still runs; that of one without a lock was killed before it had it."""
    try:
        with open(folder / _LOCK, encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
