"""How far ncpc is from the source modules: every cell of every library, at least 100 random configurations each.

    python -m benchmarks.agreement                     # all; writes agreement.json beside this file
    python -m benchmarks.agreement --int16             # the integers' error on the first 20 of each, into the same file
    python -m benchmarks.agreement --only cfc leaky    # these families again, the others as they are in the file
    python -m benchmarks.agreement --jobs 2            # in two processes

Each configuration is run for 200 steps over two sequences, timespans irregular where the library has them:

- ``double``: the policy against the source module, both in double precision: what a wrong equation would show. At
  most 1e-5 is required, every configuration.
- ``single``: the policy in double against the source module in binary32, its own precision: the library's rounding.
- ``built``: the program that float32 builds compute, in binary32, against the source module in double: our rounding.
  Networks that amplify small differences exceed 1e-5 there and in ``single`` alike; ``within`` counts the others.
- ``cut``: ``double`` of the configurations that do not count, see below, over the steps that can be compared.
- ``int16``: the integer program against the policy, on other sequences, as a share of the output range: the largest,
  the median, and the share of configurations at 2e-3 or less. Of each one ``beyond`` that: its seed, its error, and, as
  shares of the output range too, one ``unit`` of the output's format and how far outputs move in exact arithmetic when
  every constant, and every state after each step, is moved by half a 16-bit unit of its array (``moved``, the most
  of eight tries): no format of 16 bits can do much better.
  ``flagged`` where a status bit told of it: the inputs led beyond what calibration, other sequences, had shown.

Each is the largest |difference|, divided (but for int16) by the configuration's scale: max(1, largest |output| of the
source module in double over those steps), as ``ncpc.save`` does.

A step can be compared while outputs stay within 1000 and while the source module itself, in double precision, carries a
change of 1e-9 in its inputs to no more than 1e-6 of the scale: beyond, two runs of the module on two machines differ by
more than what is measured here. A configuration counts if all 200 steps can be compared and its outputs are no
constants. The others are compared until then, by the same tolerance, and come on top of the hundred; as integers they
are left out, as are those that run away on what they are calibrated with.
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
from benchmarks.agreement_sources import FAMILIES, Outputs, Source, source
from ncpc.driver.lowering import lower_for
from ncpc.errors import NcpcError
from ncpc.frontend.container import Container
from ncpc.ir.policy import F64, DtRange, Layer, Policy
from ncpc.ir.program import Array, Op, Program
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Index
from ncpc.passes.lower import lower
from ncpc.passes.to_float32 import to_float32
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions

CONFIGURATIONS, INTEGER_CONFIGURATIONS, STEPS = 100, 20, 200
TOLERANCE, INT16_TOLERANCE = 1e-5, 2e-3
DT = DtRange(0.2, 3.0)
DIVERGED = 1e3
MOVED, CARRIED = 1e-9, 1e-6
"""How far inputs are moved, and how far outputs may move with them, as a share of the scale."""
TRIES = 8
"""How often constants and states are moved, each time in other directions."""
FEWEST_SEEDS = 300
"""Seeds that are drawn at least, so that no variant of a cell is overlooked."""


@dataclass(frozen=True)
class Measured:
    """One configuration, as floats or as integers: see the module's text. ``int16`` is None where it was refused.

    ``steps`` can be compared; below 200 the configuration does not count, and only ``double`` is measured. ``unit``,
    ``moved`` and ``flagged`` are known where ``int16`` is beyond its tolerance.
    """

    cell: str
    seed: int
    steps: int = STEPS
    double: float = 0.0
    single: float = 0.0
    built: float = 0.0
    files: int = 0
    int16: float | None = None
    unit: float = 0.0
    moved: float = 0.0
    flagged: bool = False


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


def comparable(outputs: Outputs, data: Sequences, expected: F64) -> int:
    """How many steps from the start can be compared of a module that gives ``expected`` from ``data``.

    0 where the outputs are constants.
    """
    moved = dataclasses.replace(data, x=data.x + MOVED * np.sign(np.random.default_rng(0).normal(size=data.x.shape)))
    with np.errstate(invalid="ignore"):
        carried = np.abs(outputs(moved, True) - expected).max(axis=(0, 2))
    largest = np.maximum.accumulate(np.abs(expected).max(axis=(0, 2)))
    fine = (largest <= DIVERGED) & (carried <= CARRIED * np.maximum(1.0, largest))
    steps = len(fine) if fine.all() else int(np.argmin(fine))
    return steps if steps and np.ptp(expected[:, :steps]) > 0 else 0


def scale_of(expected: F64) -> float:
    """What differences are divided by."""
    return max(1.0, float(np.abs(expected).max()))


def first(data: Sequences, steps: int) -> Sequences:
    """The first steps of every sequence."""
    return Sequences(data.x[:, :steps], None if data.dt is None else data.dt[:, :steps])


def measure(found: Source, seed: int) -> Measured | None:
    """The differences of one configuration as floats; None where nothing can be compared."""
    data = sequences(seed, found.inputs, found.timespans)
    expected = found.outputs(data, True)
    steps = comparable(found.outputs, data, expected)
    if not steps:
        return None
    expected = expected[:, :steps]
    exact = lower(policy_of(found.double, found.inputs, DT))
    double = _largest(run(exact, first(data, steps)).y, expected) / scale_of(expected)
    if steps < STEPS:
        return Measured(found.cell, seed, steps, double)
    read = lower(policy_of(found.single, found.inputs, DT))
    return Measured(
        found.cell, seed, steps, double,
        single=_largest(run(read, data).y, found.outputs(data, False)) / scale_of(expected),
        built=_largest(run(to_float32(read), data).y, expected) / scale_of(expected),
        files=found.files(),
    )


def _largest(a: F64, b: F64) -> float:
    return float(np.abs(a - b).max())


def measure_int16(found: Source, seed: int) -> Measured | None:
    """The largest difference between the integer program and the policy, by the output range; timespan 1."""
    calibration = sequences(seed + 1, found.inputs, False)
    policy = policy_of(found.single, found.inputs, DtRange(), calibration)
    data = dataclasses.replace(sequences(seed + 2, found.inputs, False), dt=np.ones((2, STEPS)))
    for shown in (calibration, data):
        if comparable(found.outputs, shown, found.outputs(shown, True)) < STEPS:
            return None
    try:
        lowered = lower_for(Container(policy, None), CompileOptions(quant="int16")).lowered
    except NcpcError:
        return Measured(found.cell, seed)
    exact, got = run(lowered.real, data), run(lowered.program, data)
    want, span = exact.y, float(np.ptp(exact.y))
    error = _largest(got.y, want) / span
    if error <= INT16_TOLERANCE:
        return Measured(found.cell, seed, int16=error)
    unit = 2.0 ** -min(lowered.program.y.fracs)
    moved = max(_largest(run(disturbed(lowered.real, exact.state, k), data).y, want) for k in range(TRIES))
    return Measured(found.cell, seed, int16=error, unit=unit / span, moved=moved / span, flagged=bool(got.flags.any()))


def disturbed(program: Program, state: F64, seed: int) -> Program:
    """Every constant, and every state after a step, half a 16-bit unit up or down; ``state`` (B, T, n) is usual."""
    rng = np.random.default_rng(seed)

    def half_units(data: Array, largest: float) -> F64:
        return 2.0**-16 * largest * np.sign(rng.normal(size=data.shape))

    constants = {name: (value, data if isinstance(value.type, Index) else
                        data + half_units(data, float(np.abs(data).max(initial=0.0))))
                 for name, (value, data) in program.constants.items()}
    body, states, at = list(program.body), [], 0
    for held in program.states:
        seen = state[..., at : at + held.init.size]
        at += held.init.size
        by, out = (dataclasses.replace(held.inp, name=f"{held.inp.name}_{word}") for word in ("by", "moved"))
        constants[by.name] = by, half_units(held.init, float(np.abs(seen).max()))
        body.append(Op("add", out, (held.out, by.name), {}, program.body[-1].origin))
        states.append(dataclasses.replace(held, out=out.name))
    return dataclasses.replace(program, constants=constants, body=tuple(body), states=tuple(states))


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
            seed, found = draws.send(measured is not None and measured.steps == STEPS)
    except StopIteration:
        record = integer_row if integers else float_row
        return [{"cell": cell, "family": family, **record(by_cell[cell])} for cell in sorted(by_cell)]


def float_row(found: list[Measured]) -> Row:
    """The figures of one cell as floats."""
    whole = [m for m in found if m.steps == STEPS]
    cut = [m for m in found if m.steps < STEPS]
    made: Row = {"configurations": len(whole), "steps": STEPS}
    made |= {kind: _worst(whole, kind) for kind in ("double", "single", "built")}
    made["cut"] = {"configurations": len(cut)}
    if cut:
        made["cut"] |= {"steps": int(np.median([m.steps for m in cut])), **_worst(cut, "double")}
    return made | ({"files_equal": min(m.files for m in whole)} if whole[0].files else {})


def _worst(found: list[Measured], kind: str) -> Row:
    """The largest difference, the seed of its configuration, and how many are within the tolerance."""
    worst, seed = max((getattr(m, kind), m.seed) for m in found)
    return {"max": _digits(worst), "seed": seed, "within": sum(getattr(m, kind) <= TOLERANCE for m in found)}


def integer_row(found: list[Measured]) -> Row:
    """The figures of one cell as integers."""
    errors = sorted((m.int16, m.seed) for m in found if m.int16 is not None)
    values = np.array([error for error, _ in errors])
    return {"int16": {
        "configurations": len(found), "refused": len(found) - len(errors), "max": _digits(errors[-1][0]),
        "seed": errors[-1][1], "median": _digits(float(np.median(values))),
        "within": int((values <= INT16_TOLERANCE).sum()), "beyond": [_beyond(m) for m in found if _is_beyond(m)],
    }}


def _is_beyond(m: Measured) -> bool:
    return m.int16 is not None and m.int16 > INT16_TOLERANCE


def _beyond(m: Measured) -> Row:
    return {"seed": m.seed, "error": _digits(m.int16 or 0.0), "unit": _digits(m.unit), "moved": _digits(m.moved),
            "flagged": m.flagged}


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
    found = [r[kind] for r in read() for kind in ("double", "cut") if kind in r]
    return 0 if all(figures.get("max", 0.0) <= TOLERANCE for figures in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
