"""What works where: every cell and head tried on every target, written to docs/cells-table.md and into the README.

    python -m benchmarks.cells_table            # lower and emit each: what a target refuses, it refuses here
    python -m benchmarks.cells_table --verify   # also build, run and verify each; exit 1 if a verdict does not hold

The README's copy stands between ``<!-- cells -->`` and ``<!-- /cells -->``, where those lines exist.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks import agreement_file
from benchmarks.cells_table_rows import ROWS
from ncpc.driver.job import Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.driver.pipeline import compile_policy
from ncpc.errors import NcpcError
from ncpc.frontend.container import Container
from ncpc.ir import schemes
from ncpc.ir.policy import Layer, Policy
from ncpc.ir.schemes import Scheme
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import CompileOptions
from ncpc.verification.errors import measure
from ncpc.verification.sequences import suite

ROOT = Path(__file__).parent.parent
TABLE, README = ROOT / "docs" / "cells-table.md", ROOT / "README.md"
TARGETS = ("host", "cortex-m4", "rv32imc-ibex", "onnx", "tflite", "nir", "nir-graded")
SCHEMES: tuple[Scheme, ...] = ("float32", "int16")
INTEGERS: tuple[Scheme, ...] = ("int16", "int8")
FRAME = 64
"""Inputs beyond which a row reads frames, of which fewer steps are run."""
BEGIN, END = "<!-- cells -->", "<!-- /cells -->"
ERROR_STEPS = 600


def policy_of(row: str) -> Policy:
    """The layers of a row alone."""
    return policy_over(ROWS[row]())


def policy_over(layers: tuple[Layer, ...]) -> Policy:
    """Inputs in [-1, 1]; a few random sequences as calibration, of frames every family."""
    policy = Policy("net", layers, np.tile([-1.0, 1.0], (layers[0].inputs, 1)))
    if policy.inputs > FRAME:
        return dataclasses.replace(policy, calibration=Sequences(suite(policy, ERROR_STEPS, False, seed=2).x))
    x = np.random.default_rng(0).uniform(-1, 1, (4, 60, policy.inputs))
    x[2:] = np.clip(np.cumsum(x[2:], axis=1) * 0.3, -1, 1)
    return dataclasses.replace(policy, calibration=Sequences(x))


def refusal(cell: str, target: str, scheme: Scheme) -> str | None:
    """None where the target takes the cell, else what it says."""
    try:
        job = job_for(policy_of(cell), Request(target, scheme), None)
        job.target.prepare(lower_for(job.container, job.options).lowered, job.options)
    except NcpcError as error:
        return str(error)
    return None


def verdict(cell: str, target: str, scheme: Scheme) -> str | None:
    """None where the whole compilation holds, else why not."""
    with tempfile.TemporaryDirectory() as folder:
        request = Request(target, scheme, steps=200, prove="off")
        outcome = compile_policy(policy_of(cell), Path(folder) / "build", request)
    return None if outcome.holds else "; ".join(map(str, outcome.report["verdict"]["reasons"]))


@dataclasses.dataclass(frozen=True)
class Tried:
    """What was found: schemes that a target takes, by cell and target, and the words of refusals."""

    takes: dict[tuple[str, str], list[Scheme]]
    refusals: dict[tuple[str, str, Scheme], str]


def schemes_of(target: str) -> tuple[Scheme, ...]:
    """The schemes to try: the table's, or what a target has instead."""
    held = registry.load(target).capabilities.schemes
    return SCHEMES if set(SCHEMES) & set(held) else held


def tried(cells: tuple[str, ...], targets: tuple[str, ...] = TARGETS) -> Tried:
    """Lower and emit each cell for each target in each scheme."""
    found = Tried({}, {})
    for cell in cells:
        for target in targets:
            words = {scheme: refusal(cell, target, scheme) for scheme in schemes_of(target)}
            found.takes[cell, target] = [scheme for scheme, said in words.items() if said is None]
            found.refusals.update({(cell, target, s): said for s, said in words.items() if said is not None})
    return found


def table(found: Tried) -> str:
    """Markdown: a row per cell or head, a column per target."""
    cells = list(dict.fromkeys(cell for cell, _ in found.takes))
    targets = list(dict.fromkeys(target for _, target in found.takes))
    lines = [f"| cell or layers | {' | '.join(targets)} |", "| --- |" + " --- |" * len(targets)]
    for cell in cells:
        row = (" ".join(found.takes[cell, target]) or "refused" for target in targets)
        lines.append(f"| {cell} | {' | '.join(row)} |")
    return "\n".join(lines)


@cache
def error(row: str, scheme: Scheme) -> float:
    """The largest error of the integer program on generated sequences, by the output range, as a verdict counts it."""
    policy = policy_of(row)
    lowered = lower_for(Container(policy, None), CompileOptions(quant=scheme)).lowered
    data = suite(policy, ERROR_STEPS if policy.inputs <= FRAME else ERROR_STEPS // 4, False)
    return measure(run(lowered.real, data), run(lowered.program, data), lowered.program, data).fraction


def error_table(rows: tuple[str, ...]) -> str:
    """Markdown: what integers err by, for each row's network."""
    lines = ["| cell or layers | int16 | int8 | holds |", "| --- | --- | --- | --- |"]
    for row in rows:
        found = {scheme: error(row, scheme) for scheme in INTEGERS}
        holds = " ".join(scheme for scheme in INTEGERS if found[scheme] <= schemes.SCHEMES[scheme].tolerance)
        lines.append(f"| {row} | {found['int16']:.1e} | {found['int8']:.1e} | {holds or 'neither'} |")
    return "\n".join(lines)


def random_table() -> str:
    """Markdown: int16 over the random configurations of benchmarks/agreement.json, and those beyond the tolerance."""
    lines = ["| source | configurations | within 2e-3 | median | largest | beyond: error (unit, moved) |",
             "| --- | --- | --- | --- | --- | --- |"]
    for found in agreement_file.read():
        r = found["int16"]
        beyond = ", ".join(map(_beyond, r["beyond"]))
        row = [found["cell"], r["configurations"], r["within"], f"{r['median']:.1e}", f"{r['max']:.1e}", beyond]
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def _beyond(found: agreement_file.Row) -> str:
    flagged = ", flagged" if found["flagged"] else ""
    return f"{found['error']:.1e} ({found['unit']:.0e}, {found['moved']:.0e}{flagged})"


def page(found: Tried) -> str:
    """The document: the table, what integers err by, and what a target says to what it refuses."""
    said: dict[str, list[str]] = {}
    for (cell, target, scheme), words in found.refusals.items():
        if found.takes[cell, target] or scheme == schemes_of(target)[-1]:
            said.setdefault(f"{target}, {scheme}: {words.removeprefix(f'target {target}: ')}", []).append(cell)
    return "\n".join([
        "# Which cell runs on which target", "",
        "Generated by `python -m benchmarks.cells_table`, which tries every cell on every target. `c` takes what host",
        "takes; int8 goes where int16 goes. The LTC, LSTM, GRU and SimpleRNN of Keras become the same records as those",
        "of torch; its CfC computes another function.", "",
        table(found), "",
        "## What integers err by", "",
        "The largest error of the networks above on generated sequences, by the output range, in C; the tolerances are",
        "2e-3 for int16 and 5e-2 for int8. TFLite's int8 keeps states in 8 bits, too few for most of these cells",
        "([tflite.md](targets/tflite.md)).", "",
        error_table(tuple(dict.fromkeys(cell for cell, _ in found.takes))), "",
        "The same for int16 over random configurations (`python -m benchmarks.agreement --int16`), untrained networks",
        "with parameters moved from their initial values. Beside the error of each one beyond 2e-3 stand, as shares of",
        "the output range too, one *unit* of its 16-bit output, which is much where outputs hardly move, and how far",
        "outputs are *moved* in exact arithmetic when all weights and states move by half a 16-bit unit, which is much",
        "where a network amplifies; *flagged* where a status bit said that a value was limited to what calibration had",
        "shown. The linear heads of Keras's CfC bound no state, so formats leave room, up to three bits, and networks",
        "amplify. A neural ODE forgets nothing: its error grows with the steps. A spike of an LIF neuron is all of its",
        "range.",
        "",
        random_table(), "",
        "## What is refused", "",
        "It is refused at compile time, in these words, which name the nearest alternative:", "",
        *(f"- {words} ({'; '.join(cells)})" for words, cells in said.items()), "",
    ])


def write(found: Tried) -> None:
    """The document, and the README's block."""
    TABLE.write_text(page(found))
    text = README.read_text()
    if BEGIN in text and END in text:
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        README.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}")


def main(arguments: list[str]) -> int:
    """Write the table; with --verify also compile and verify what it says works."""
    found, failed = tried(tuple(ROWS)), 0
    write(found)
    sys.stdout.write(table(found) + "\n")
    if "--verify" in arguments:
        for (cell, target), schemes in found.takes.items():
            for scheme in schemes:
                said = verdict(cell, target, scheme)
                failed += said is not None
                sys.stdout.write(f"{cell}, {target}, {scheme}: {said or 'holds'}\n")
                sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
