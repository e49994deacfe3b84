"""How far ncpc is from the source modules: every cell of every library, at least 100 random configurations each.

    python -m benchmarks.agreement                     # all; writes agreement.json beside this file
    python -m benchmarks.agreement --int16             # the integers' error on the first 50 of each, into the same file
    python -m benchmarks.agreement --only cfc leaky    # these families again, the others as they are in the file
    python -m benchmarks.agreement --jobs 2            # in two processes

Each configuration is run for 200 steps over two sequences, timespans irregular where the library has them:

- ``double``: the policy against the source module, both in double precision: what a wrong equation would show.
  The largest |difference|, not divided by anything; at most 1e-5 is required, every configuration.
- ``single``: the policy in double against the source module in binary32, its own precision: the library's rounding.
  Divided by the configuration's scale, max(1, largest |output| of the source module in double over those steps).
- ``built``: the program that float32 builds compute, in binary32, against the source module in double: our rounding, by
  the same scale. Networks that amplify small differences exceed 1e-5 there and in ``single`` alike; ``within`` counts
  those that do not.
- ``int16``: the integer program against the policy, on other sequences, as a share of the output range: the largest,
  the median, and the share of configurations at 2e-3 or less.

Not counted are networks that say nothing about an implementation: dead ones (constant outputs), those that run away
(outputs beyond 1000), and those whose source module, in double precision, carries a change of 1e-9 in its inputs beyond
1e-6 of the scale: two runs of such a module on two machines differ by more than what is measured here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.agreement_file import RESULT, Row, read
from benchmarks.agreement_sources import FAMILIES, Source, source
from ncpc.errors import NcpcError
from ncpc.frontend.container import Container
from ncpc.ir.policy import F64, DtRange, Layer, Policy
from ncpc.ir.sequences import Sequences
from ncpc.lowering import lower_for
from ncpc.passes.lower import lower
from ncpc.passes.to_float32 import to_float32
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions

CONFIGURATIONS, INTEGER_CONFIGURATIONS, STEPS = 100, 50, 200
TOLERANCE, INT16_TOLERANCE = 1e-5, 2e-3
DT = DtRange(0.2, 3.0)
DIVERGED = 1e3
MOVED, CARRIED = 1e-9, 1e-6
"""How far inputs are moved, and how far outputs may move with them, as a share of the scale."""
FEWEST_SEEDS = 300
"""Seeds that are drawn at least, so that no variant of a cell is overlooked."""


@dataclass(frozen=True)
class Measured:
    """One configuration, as floats or as integers: see the module's text. ``int16`` is None where it was refused."""

    cell: str
    seed: int
    double: float = 0.0
    single: float = 0.0
    built: float = 0.0
    files: int = 0
    int16: float | None = None


def sequences(seed: int, inputs: int, timespans: bool) -> Sequences:
    """Noise and a random walk, in numbers that binary32 holds; timespans irregular but for every third seed."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (2, STEPS, inputs))
    x[0] = np.clip(np.cumsum(x[0], axis=0) * 0.2, -1, 1)
    irregular = np.exp(rng.uniform(np.log(DT.lo), np.log(DT.hi), (2, STEPS)))
    dt = irregular if timespans and seed % 3 else np.ones((2, STEPS))
    return Sequences(_single(x), _single(dt).clip(DT.lo, DT.hi))


def _single(values: F64) -> F64:
    return values.astype(np.float32).astype(np.float64)


def policy_of(layers: tuple[Layer, ...], inputs: int, dt: DtRange, calibration: Sequences | None = None) -> Policy:
    return Policy("net", layers, np.tile([-1.0, 1.0], (inputs, 1)), dt, calibration=calibration)


def counts(expected: F64) -> bool:
    """Whether a configuration counts: neither dead nor diverging."""
    return bool(np.isfinite(expected).all() and np.ptp(expected) > 0 and np.abs(expected).max() <= DIVERGED)


def amplifies(found: Source, data: Sequences, expected: F64, scale: float) -> bool:
    """Whether the source module itself carries a tiny change of its inputs far."""
    moved = dataclasses.replace(data, x=data.x + MOVED * np.sign(np.random.default_rng(0).normal(size=data.x.shape)))
    after = found.outputs(moved, True)
    return not np.isfinite(after).all() or _largest(after, expected) > CARRIED * scale


def measure(found: Source, seed: int) -> Measured | None:
    """The differences of one configuration as floats; None where it does not count."""
    data = sequences(seed, found.inputs, found.timespans)
    expected = found.outputs(data, True)
    if not counts(expected):
        return None
    scale = max(1.0, float(np.abs(expected).max()))
    if amplifies(found, data, expected, scale):
        return None
    exact = lower(policy_of(found.double, found.inputs, DT))
    read = lower(policy_of(found.single, found.inputs, DT))
    return Measured(
        found.cell, seed,
        double=_largest(run(exact, data).y, expected),
        single=_largest(run(read, data).y, found.outputs(data, False)) / scale,
        built=_largest(run(to_float32(read), data).y, expected) / scale,
        files=found.files,
    )


def _largest(a: F64, b: F64) -> float:
    return float(np.abs(a - b).max())


def measure_int16(found: Source, seed: int) -> Measured | None:
    """The largest difference between the integer program and the policy, by the output range; timespan 1."""
    calibration = Sequences(sequences(seed + 1, found.inputs, False).x)
    policy = policy_of(found.single, found.inputs, DtRange(), calibration)
    data = dataclasses.replace(sequences(seed + 2, found.inputs, False), dt=np.ones((2, STEPS)))
    want = found.outputs(data, True)
    if not counts(want) or amplifies(found, data, want, max(1.0, float(np.abs(want).max()))):
        return None
    try:
        lowered = lower_for(Container(policy, None), CompileOptions(quant="int16")).lowered
    except NcpcError:
        return Measured(found.cell, seed)
    want = run(lowered.real, data).y
    return Measured(found.cell, seed, int16=_largest(run(lowered.program, data).y, want) / float(np.ptp(want)))


def drawn(family: str, enough: int) -> Generator[tuple[int, Source], bool, None]:
    """Seeds and configurations of a family; whoever takes one sends back whether it counts."""
    full: dict[str, int] = {}
    seed = 0
    while seed < FEWEST_SEEDS or min(full.values()) < enough:
        found = source(family, seed)
        if full.setdefault(found.cell, 0) < enough:
            counted = yield seed, found
            full[found.cell] += bool(counted)
        seed += 1


def family_rows(family: str, integers: bool) -> list[Row]:
    """A row per cell of the family, as floats or as integers."""
    by_cell: dict[str, list[Measured]] = {}
    draws = drawn(family, INTEGER_CONFIGURATIONS if integers else CONFIGURATIONS)
    seed, found = next(draws)
    try:
        while True:
            measured = (measure_int16 if integers else measure)(found, seed)
            by_cell.setdefault(found.cell, []).extend([] if measured is None else [measured])
            seed, found = draws.send(measured is not None)
    except StopIteration:
        record = integer_row if integers else float_row
        return [{"cell": cell, "family": family, **record(by_cell[cell])} for cell in sorted(by_cell)]


def float_row(found: list[Measured]) -> Row:
    """The figures of one cell as floats, with the seed of each worst configuration."""
    made: Row = {"configurations": len(found), "steps": STEPS}
    for kind in ("double", "single", "built"):
        worst, seed = max((getattr(m, kind), m.seed) for m in found)
        made[kind] = {"max": _digits(worst), "seed": seed, "within": sum(getattr(m, kind) <= TOLERANCE for m in found)}
    return made | ({"files_equal": min(m.files for m in found)} if found[0].files else {})


def integer_row(found: list[Measured]) -> Row:
    """The figures of one cell as integers."""
    errors = sorted((m.int16, m.seed) for m in found if m.int16 is not None)
    values = np.array([error for error, _ in errors])
    return {"int16": {
        "configurations": len(found), "refused": len(found) - len(errors), "max": _digits(errors[-1][0]),
        "seed": errors[-1][1], "median": _digits(float(np.median(values))),
        "within": int((values <= INT16_TOLERANCE).sum()),
    }}


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def write(rows: list[Row]) -> None:
    """One row per line, in the order of the families."""
    ordered = sorted(rows, key=lambda r: (FAMILIES.index(r["family"]), r["cell"]))
    lines = ",\n".join("  " + json.dumps(r) for r in ordered)
    head = {"command": "python -m benchmarks.agreement; python -m benchmarks.agreement --int16",
            "tolerance": TOLERANCE, "int16_tolerance": INT16_TOLERANCE}
    RESULT.write_text(f'{json.dumps(head)[:-1]}, "rows": [\n{lines}\n]}}\n')


def merged(old: list[Row], family: str, new: list[Row]) -> list[Row]:
    """The old rows with those of a family brought up to date; what was not measured again stays."""
    before = {r["cell"]: r for r in old if r["family"] == family}
    return [r for r in old if r["family"] != family] + [before.get(r["cell"], {}) | r for r in new]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--int16", action="store_true", help="the integers' error, not the floats'")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args(arguments)
    with ProcessPoolExecutor(options.jobs) as pool:
        for family, rows in zip(options.only, pool.map(family_rows, options.only, repeat(options.int16)), strict=True):
            write(merged(read(), family, rows))
            sys.stdout.write("".join(f"{json.dumps(r)}\n" for r in rows))
            sys.stdout.flush()
    return 0 if all(r["double"]["max"] <= TOLERANCE for r in read() if "double" in r) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
