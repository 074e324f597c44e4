"""What became of many tries: the counts of a campaign and the first cases of every fault."""

import collections
import dataclasses

FAULTS = ("bare", "silent", "hang", "crash", "executed")
"""A traceback that no reader declares; damage that was taken for good; no end in time; the interpreter died; a program ran."""

_SHOWN = 5  # Cases of each fault that are named.


@dataclasses.dataclass
class Counts:
    """Counts of one campaign.

    Attributes:
      name: of the campaign.
      tries: how often something was damaged or killed.
      faults: how often each of `FAULTS` happened.
      cases: descriptions of the first cases of each fault.
    """

    name: str
    tries: int = 0
    faults: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    cases: list[str] = dataclasses.field(default_factory=list)

    def add(self, fault: str | None = None, case: str = "") -> None:
        """Counts one try, and its fault if it had one.

        Args:
          fault: one of `FAULTS`; None for a try that ended as it should.
          case: what reproduces it.
        """
        self.tries += 1
        if fault is None:
            return
        if fault not in FAULTS:
            raise ValueError(f"A fault is one of {', '.join(FAULTS)}, got {fault!r}.")
        self.faults[fault] += 1
        if self.faults[fault] <= _SHOWN:
            self.cases.append(f"{self.name}, {fault}: {case}")

    @property
    def bad(self) -> int:
        """How many tries had a fault."""
        return sum(self.faults.values())


def table(campaigns: list[Counts]) -> str:
    """Markdown: a row of counts for each campaign."""
    lines = ["| campaign | tries | " + " | ".join(FAULTS) + " |", "|---" * (len(FAULTS) + 2) + "|"]
    for counts in campaigns:
        lines.append(
            f"| {counts.name} | {counts.tries:,} | " + " | ".join(str(counts.faults[f]) for f in FAULTS) + " |"
        )
    return "\n".join(lines)
