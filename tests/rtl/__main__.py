"""Compare the simulator with the RTL of cores.

    python -m tests.rtl policies            # every compiled policy, step by step: writes policies.json beside this file
    python -m tests.rtl fuzz --seed N       # 1,000 random programs: writes fuzz.json, and keeps each that differs

The first run builds each core's RTL with Verilator (half a minute a core) and keeps it in the user's cache.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from random import randrange

from ncpc.errors import NcpcError
from tests.rtl import fuzz, policies, records
from tests.rtl.bench import CORES
from tests.rtl.programs import lines_of

MOST_KEPT = 5
"""Programs of a run that are made short; the rest are mostly the same ones."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rtl", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", choices=CORES, nargs="+", default=list(CORES))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("policies", help="compare compiled policies, step by step")
    drawing = commands.add_parser("fuzz", help="compare random programs")
    drawing.add_argument("--seed", type=int, help="another one each time, if none is given")
    drawing.add_argument("--programs", type=int, default=1000)
    given = parser.parse_args()
    try:
        if given.command == "policies":
            return _policies(given.core)
        return _fuzz(given.core, randrange(1 << 32) if given.seed is None else given.seed, given.programs)
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


def _fuzz(cores: Sequence[str], seed: int, count: int) -> int:
    """0 if no program is off, else 1: the first ones are made short and kept."""
    total = 0
    for core in cores:
        result = fuzz.fuzz(core, seed, count)
        records.store(records.FUZZ, core, result.facts)
        for found in result.off[:MOST_KEPT]:
            least = fuzz.shrunk(core, found)
            print(f"{core}: kept as {fuzz.keep(core, seed, least)}: {'; '.join(least.off)}",
                  *lines_of(least.program.pieces, "p0"), sep="\n  ")
        print(f"{core}: {result.programs} programs of seed {seed}, {result.cycles:,} cycles, {len(result.off)} off")
        total += len(result.off)
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
