"""Which values a field of a config may have: kinds of values, each with its bounds and its words for messages."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any, Protocol, runtime_checkable

_SHOWN = 60  # Characters of a refused value in a message.


@runtime_checkable
class Rule(Protocol):
    """One kind of value."""

    @property
    def words(self) -> str:
        """What is accepted, to follow "accepted is"."""
        ...

    def accepts(self, value: Any) -> bool:
        """Whether a value is of this kind; never raises, whatever the value is."""
        ...


@dataclasses.dataclass(frozen=True)
class Number:
    """A number from `least` to `most`, both included; true, false, NaN and text are none.

    Attributes:
      least: the smallest value.
      most: the largest one; it stops typing errors and what no machine can hold, not what is slow.
      whole: no fractions; infinity is no whole number.
      above: `least` itself is refused.
      below: `most` itself is refused.
    """

    least: int | float
    most: int | float
    whole: bool = False
    above: bool = False
    below: bool = False

    @property
    def words(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.least == self.most:
            return f"{self.least:,}"
        start = f"above {self.least:,}" if self.above else f"from {self.least:,}"
        end = f"below {self.most:,}" if self.below else f"to {self.most:,}"
        return f"{kind} {start} {'and' if self.above or self.below else ''} {end}".replace("  ", " ")

    def accepts(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        inside = self.least <= value <= self.most  # False for NaN.
        return inside and not (self.above and value == self.least) and not (self.below and value == self.most)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values, by equality and type."""

    choices: Collection[str | bool]

    @property
    def words(self) -> str:
        return "one of " + ", ".join(map(repr, self.choices))

    def accepts(self, value: Any) -> bool:
        return isinstance(value, (str, bool)) and any(type(value) is type(c) and value == c for c in self.choices)


@dataclasses.dataclass(frozen=True)
class Text:
    """A text of one line; an empty one only where `empty` says so."""

    meaning: str = "a text"
    empty: bool = False

    @property
    def words(self) -> str:
        return self.meaning

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and (self.empty or bool(value.strip())) and not set(value) & {"\0", "\n", "\r"}


@dataclasses.dataclass(frozen=True)
class Path(Text):
    """The path of a file or folder; `paths` lists the fields that have one."""

    meaning: str = "the path of a folder"


@dataclasses.dataclass(frozen=True)
class Several:
    """A tuple with at least one value, each of one kind."""

    of: Rule

    @property
    def words(self) -> str:
        return f"a tuple with one or more, each {self.of.words}"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, (tuple, list)) and len(value) > 0 and all(map(self.of.accepts, value))


@dataclasses.dataclass(frozen=True)
class OrNone:
    """A value of another kind, or None."""

    of: Rule

    @property
    def words(self) -> str:
        return f"None, or {self.of.words}"

    def accepts(self, value: Any) -> bool:
        return value is None or self.of.accepts(value)


FLAG = Choice((True, False))
_LARGEST = 1_000_000_000


def whole(least: int = 1, most: int = _LARGEST) -> Number:
    """A whole number in a range."""
    return Number(least, most, whole=True)


def factor() -> Number:
    """A finite number that multiplies a term of a loss."""
    return Number(0, _LARGEST)


def positive(most: int | float = _LARGEST) -> Number:
    """A number above 0; `most` may be infinity."""
    return Number(0, most, above=True)


def fraction() -> Number:
    """A number from 0 to below 1, as the rate of a dropout."""
    return Number(0, 1, below=True)


def check(config: Any, rules: Mapping[str, Rule]) -> None:
    """Refuses a field whose value is of another kind than its rule's; rules of fields that a config lacks are ignored.

    Args:
      config: of the experiment; a ConfigDict, or anything with fields by name.
      rules: "model.hidden" -> its rule.

    Raises:
      ValueError: names the first such field, its value, and what is accepted.
    """
    for path, rule in rules.items():
        try:
            value = field(config, path)
        except (KeyError, TypeError):  # Some configs have more fields than configs/default.py.
            continue
        if not rule.accepts(value):
            raise ValueError(f"config.{path} is {short(value)}; accepted is {rule.words}.")


def paths(rules: Mapping[str, Rule]) -> list[str]:
    """The fields that hold a path, which may begin with `~`."""
    return [path for path, rule in rules.items() if isinstance(rule.of if isinstance(rule, OrNone) else rule, Path)]


def field(config: Any, path: str) -> Any:
    """The value of a field, "model.trunk".

    Raises:
      KeyError: there is no such field.
    """
    for name in path.split("."):
        config = config[name]
    return config


def short(value: Any) -> str:
    """A value for a message, whatever it is and however long."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**_SHOWN:
        return f"a whole number of about {value.bit_length() * math.log10(2):.0f} digits"
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
