"""What works where: every cell tried on every target, written to docs/cells-table.md and into the README.

    python -m benchmarks.cells_table            # lower and emit each: what a target refuses, it refuses here
    python -m benchmarks.cells_table --verify   # also build, run and verify each; exit 1 if a verdict does not hold

The README's copy stands between ``<!-- cells -->`` and ``<!-- /cells -->``, where those lines exist.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ncpc.errors import NcpcError
from ncpc.ir.cells import Cfc, CtGru, CtRnn, Gru, LeakyIntegrator, Lif, Lstm, MixedMemory, NeuralOde, Rnn, WiredCfc
from ncpc.ir.policy import F64, Dense, Layer, Ltc, Policy, Synapses
from ncpc.ir.sequences import Sequences
from ncpc.job import Request, job_for
from ncpc.lowering import lower_for
from ncpc.pipeline import compile_policy
from ncpc.targets.base import Scheme

ROOT = Path(__file__).parent.parent
TABLE, README = ROOT / "docs" / "cells-table.md", ROOT / "README.md"
TARGETS = ("host", "cortex-m4", "rv32imc-ibex", "onnx", "tflite", "nir", "nir-graded")
SCHEMES: tuple[Scheme, ...] = ("float32", "int16")
BEGIN, END = "<!-- cells -->", "<!-- /cells -->"
INPUTS, UNITS = 2, 4

def weights(*shape: int) -> F64:
    """Small enough for networks that forget."""
    return np.random.default_rng(sum(shape)).normal(0.0, 0.4, shape)


def dense(outputs: int, inputs: int) -> Dense:
    return Dense(weights(outputs, inputs), weights(outputs))


def cfc(mode: str = "default", inputs: int = INPUTS, backbone: bool = True, name: str = "inter") -> Cfc:
    width = 5 if backbone else inputs + UNITS
    head, pure = dense(UNITS, width), mode == "pure"
    return Cfc(
        (dense(5, inputs + UNITS),) if backbone else (), head, None if pure else dense(UNITS, width),
        None if pure else head, None if pure else head, weights(UNITS) if pure else None,
        weights(UNITS) if pure else None, mode, "lecun_tanh", "tanh", (name,) * UNITS,
        tuple(f"{name}_{i}" for i in range(UNITS)),
    )


def synapses(pre: int, post: int) -> Synapses:
    targets, sources = np.nonzero(np.ones((post, pre)))
    n = len(sources)
    return Synapses(sources, targets, np.full(n, 0.5), np.full(n, 4.0), np.full(n, 0.3), np.resize([1.0, -1.0], n))


def ltc(solver: str = "fused", unfolds: int = 6) -> Ltc:
    ones, zeros = np.ones, np.zeros
    return Ltc(
        synapses(INPUTS, UNITS), synapses(UNITS, UNITS), np.full(UNITS, 0.6), np.full(UNITS, 0.5), zeros(UNITS),
        ones(INPUTS), zeros(INPUTS), ones(1), zeros(1), ("motor",) + ("inter",) * (UNITS - 1),
        tuple(f"n{i}" for i in range(UNITS)), unfolds, 1e-8, solver,
    )


def lstm() -> Lstm:
    return Lstm(weights(4 * UNITS, INPUTS), weights(4 * UNITS, UNITS), weights(4 * UNITS))


def square() -> tuple[F64, F64, F64]:
    return weights(UNITS, INPUTS), weights(UNITS, UNITS), weights(UNITS)


CELLS: dict[str, Callable[[], Layer]] = {
    "LTC": ltc,
    "LTC, Euler": lambda: ltc("euler", 12),
    "LTC, Runge-Kutta": lambda: ltc("rk4", 8),
    "CfC": cfc,
    "CfC, pure": lambda: cfc("pure"),
    "CfC, no gate": lambda: cfc("no_gate"),
    "wired CfC": lambda: WiredCfc((cfc(backbone=False), cfc(inputs=UNITS, backbone=False, name="motor"))),
    "mixed memory, LTC": lambda: MixedMemory(lstm(), ltc(), "state"),
    "mixed memory, CfC": lambda: MixedMemory(lstm(), cfc(), "state"),
    "LSTM": lstm,
    "GRU": lambda: Gru(weights(3 * UNITS, INPUTS), weights(3 * UNITS, UNITS), weights(3 * UNITS), weights(3 * UNITS)),
    "RNN": lambda: Rnn(*square(), "tanh"),
    "CT-RNN": lambda: CtRnn(*square(), np.ones(UNITS)),
    "neural ODE": lambda: NeuralOde(weights(UNITS, INPUTS), weights(UNITS, UNITS) - 1.5 * np.eye(UNITS), weights(UNITS),
                                    clip=1.0),
    "CT-GRU": lambda: CtGru(dense(UNITS * 3, INPUTS + UNITS), dense(UNITS * 3, INPUTS + UNITS),
                            dense(UNITS, INPUTS + UNITS), np.log([1.0, 3.0, 10.0]), np.exp([-1.0, -0.3, -0.1])),
    "leaky integrator": lambda: LeakyIntegrator(*square(), np.full(UNITS, 2.0), np.ones(UNITS), "tanh"),
    "LIF": lambda: Lif(*square(), np.full(UNITS, 2.0), np.full(UNITS, 3.0), np.zeros(UNITS), np.ones(UNITS),
                       np.zeros(UNITS)),
}


def policy_of(cell: str) -> Policy:
    """The cell alone, inputs in [-1, 1], a few random sequences as calibration."""
    x = np.random.default_rng(0).uniform(-1, 1, (4, 60, INPUTS))
    x[2:] = np.clip(np.cumsum(x[2:], axis=1) * 0.3, -1, 1)
    return Policy("net", (CELLS[cell](),), np.tile([-1.0, 1.0], (INPUTS, 1)), calibration=Sequences(x))


def refusal(cell: str, target: str, scheme: Scheme) -> str | None:
    """None where the target takes the cell, else what it says."""
    try:
        job = job_for(policy_of(cell), Request(target, scheme), None)
        job.target.emit(lower_for(job.container, job.options).lowered, job.options)
    except NcpcError as error:
        return str(error)
    return None


def verdict(cell: str, target: str, scheme: Scheme) -> str | None:
    """None where the whole compilation holds, else why not."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = compile_policy(policy_of(cell), Path(folder) / "build", Request(target, scheme, steps=200))
    return None if outcome.holds else "; ".join(map(str, outcome.report["verdict"]["reasons"]))


@dataclasses.dataclass(frozen=True)
class Tried:
    """What was found: schemes that a target takes, by cell and target, and the words of refusals."""

    takes: dict[tuple[str, str], list[Scheme]]
    refusals: dict[tuple[str, str, Scheme], str]


def tried(cells: tuple[str, ...], targets: tuple[str, ...] = TARGETS) -> Tried:
    """Lower and emit each cell for each target in each scheme."""
    found = Tried({}, {})
    for cell in cells:
        for target in targets:
            words = {scheme: refusal(cell, target, scheme) for scheme in SCHEMES}
            found.takes[cell, target] = [scheme for scheme, said in words.items() if said is None]
            found.refusals.update({(cell, target, s): said for s, said in words.items() if said is not None})
    return found


def table(found: Tried) -> str:
    """Markdown: a row per cell, a column per target."""
    cells = list(dict.fromkeys(cell for cell, _ in found.takes))
    targets = list(dict.fromkeys(target for _, target in found.takes))
    lines = [f"| cell | {' | '.join(targets)} |", "| --- |" + " --- |" * len(targets)]
    for cell in cells:
        row = (" ".join(found.takes[cell, target]) or "refused" for target in targets)
        lines.append(f"| {cell} | {' | '.join(row)} |")
    return "\n".join(lines)


def page(found: Tried) -> str:
    """The document: the table, and what a target says to what it refuses."""
    said: dict[str, list[str]] = {}
    for (cell, target, scheme), words in found.refusals.items():
        if found.takes[cell, target] or scheme == SCHEMES[-1]:
            said.setdefault(f"{target}, {scheme}: {words.removeprefix(f'target {target}: ')}", []).append(cell)
    return "\n".join([
        "# Which cell runs on which target", "",
        "Generated by `python -m benchmarks.cells_table`, which tries every cell on every target. `c` takes what host",
        "takes, int8 goes where int16 goes.", "", table(found), "",
        "What is refused is refused at compile time, in these words:", "",
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
    found, failed = tried(tuple(CELLS)), 0
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
