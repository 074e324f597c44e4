"""The program: runs the campaigns for some minutes, prints their counts; exit status 1 if there was a fault."""

import argparse
import os
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from tests.helpers import scratch
from tests.torture import counts, files, kills
from tfds_builders.sources import cdf

CAMPAIGNS = {"files": files.run, "kills": kills.run}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="to run, shared by the campaigns (default: 10)")
    parser.add_argument("--campaign", choices=sorted(CAMPAIGNS), help="only this one (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of all damage and of the moments of kills (default: 0)")
    values = parser.parse_args()
    chosen = [values.campaign] if values.campaign else list(CAMPAIGNS)
    cdf.SECONDS = 10.0  # Damaged ones whose reading never ends are frequent.
    began, found = time.monotonic(), []
    folder = scratch.Scratch(scratch.FOLDER)  # Of the temporary files; after a kill the next run removes it.
    for name in chosen:
        found += CAMPAIGNS[name](60 * values.minutes / len(chosen), values.seed)
    folder.remove()
    print(counts.table(found))
    for campaign in found:
        for case in campaign.cases:
            print(case)
    bad = sum(campaign.bad for campaign in found)
    tries = sum(campaign.tries for campaign in found)
    print(f"{tries:,} tries, {bad} faults, seed {values.seed}, {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
