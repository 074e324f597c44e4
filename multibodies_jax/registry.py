"""What plugs into the method: named objectives, networks, trunks, heads, quantizers, evaluation methods and protocols.

The core of the method (`geometry`, `body`, `hypotheses`, `losses`, `models`, `data`, `training`, `evaluation`) knows
no other story. `baselines/`, `released/` and `detection/` register what they add under a name, and a config chooses by that
name, once, at set-up. A new folder below `baselines/` is found without a change of any other file.
"""

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

_EXTENSIONS = ("multibodies_jax.baselines", "multibodies_jax.released", "multibodies_jax.detection")

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named entries of one kind, in the order of their registration; the extensions are loaded when a name is not known
    yet, or the names are listed.

    Attributes:
      field: the config field whose values are the names, for messages.
    """

    def __init__(self, field: str):
        self.field = field
        self._entries: dict[str, T] = {}

    def register(self, name: str, entry: T) -> T:
        """Adds an entry and returns it.

        Raises:
          ValueError: the name is taken by another entry.
        """
        if self._entries.setdefault(name, entry) is not entry:
            raise ValueError(f"Two entries are called {self.field}={name!r}: choose another name.")
        return entry

    def __getitem__(self, name: str) -> T:
        """The entry of a name.

        Raises:
          ValueError: there is no such entry; the message lists the choices.
        """
        if name not in self._entries:
            load_extensions()
        if name not in self._entries:
            raise ValueError(f"Unknown {self.field} {name!r}; choose one of {', '.join(self._entries)}.")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        load_extensions()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        load_extensions()
        return iter(self._entries)

    def __len__(self) -> int:
        load_extensions()
        return len(self._entries)


@functools.cache
def load_extensions() -> None:
    """Imports every module directly below the extensions, which register themselves; once."""
    for name in _EXTENSIONS:
        package = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__, f"{name}."):
            importlib.import_module(module.name)
