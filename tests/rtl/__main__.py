"""Compare the simulator with the RTL of cores.

    python -m tests.rtl policies            # every compiled policy, step by step: writes policies.json beside this file

The first run builds each core's RTL with Verilator (half a minute a core) and keeps it in the user's cache.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from ncpc.errors import NcpcError
from tests.rtl import policies, records
from tests.rtl.bench import CORES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rtl", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", choices=CORES, nargs="+", default=list(CORES))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("policies", help="compare compiled policies, step by step")
    given = parser.parse_args()
    try:
        return _policies(given.core)
    except NcpcError as error:
        print(error, file=sys.stderr)
        return 1


def _policies(cores: Sequence[str]) -> int:
    """0 if no call of any policy is off, else 1."""
    total = 0
    for core in cores:
        rows = []
        for name, scheme, dt in ((n, s, d) for n in policies.NAMES for s in policies.SCHEMES for d in policies.MODES):
            row = policies.compared(core, name, scheme, dt)
            rows.append(row)
            print(f"{core}  {name} {scheme} dt {dt}: {row.steps} steps, {row.cycles:,} cycles, {len(row.off)} off",
                  *row.off[:3], sep="\n  ", flush=True)
        off = sum(len(row.off) for row in rows)
        records.store(records.POLICIES, core, {"off": off}, [asdict(row) for row in rows])
        print(f"{core}: {len(rows)} policies, {sum(row.cycles for row in rows):,} cycles, {off} off")
        total += off
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
