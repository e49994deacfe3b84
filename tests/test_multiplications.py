"""How often the emitted C multiplies: counted in the processor, where every multiplication is an instruction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.gated import Gru, Lstm, Rnn
from ncpc.ir.policy import DtRange, Layer, Policy
from ncpc.ir.sequences import Sequences
from ncpc.sim import timing_tables
from ncpc.sim.timing import BlockCost, Cycles, Instruction
from ncpc.targets.base import CompileOptions
from ncpc.targets.c.device import plan_for
from ncpc.targets.c.interface import interface_of
from ncpc.targets.registry import load
from tests.conftest import RequireTool

IBEX = "rv32imc-ibex"
INPUTS, UNITS, STEPS = 8, 16, 20
GATE = UNITS * (INPUTS + UNITS)
"""Products of one gate: its matrices on inputs and state."""


class Multiplications:
    """A timing table in which a multiplication takes a cycle and nothing else any."""

    def cost(self, block: Sequence[Instruction], following: Instruction | None) -> BlockCost:
        body = tuple(Cycles(1, 1) if i.name.startswith("mul") else Cycles(0, 0) for i in block)
        return BlockCost(body, body[-1])


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(0, 0.3, shape)


def blocks(gates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return weights(gates * UNITS, INPUTS), weights(gates * UNITS, UNITS), weights(gates * UNITS)


CELLS: dict[str, tuple[Callable[[], Layer], int]] = {
    "lstm": (lambda: Lstm(*blocks(4)), 4 * GATE + 3 * UNITS),
    "gru": (lambda: Gru(*blocks(3), weights(3 * UNITS)), 3 * GATE + 3 * UNITS),
    "rnn": (lambda: Rnn(*blocks(1), "tanh"), GATE),
}
"""Name -> the cell, and the multiplications that its equations ask for, those inside sigmoid and tanh left out."""


def executed(layer: Layer, folder: Path) -> np.ndarray:
    """Multiplications of every step on Ibex, which has no instruction that makes two."""
    from tests.sim_programs import run

    noise = Sequences(np.random.default_rng(1).uniform(-1, 1, (1, STEPS, INPUTS)))
    policy = Policy("net", (layer,), np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(), calibration=noise)
    options, target = CompileOptions(), load(IBEX)
    lowered = lower_for(Container(policy, None), options).lowered
    artifact = target.prepare(lowered, options)
    for file, content in artifact.files.items():
        (folder / file).write_bytes(content)
    artifact.build(folder)
    plan = plan_for(interface_of(lowered.program), noise)
    result = run(IBEX, (folder / "net.elf").read_bytes(), plan.x, plan.interface)
    assert not result.faults
    return np.asarray(result.upper)


@pytest.mark.parametrize("cell", CELLS)
def test_a_gated_cell_multiplies_little_more_than_its_equations(
    cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_tool: RequireTool
) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    monkeypatch.setitem(timing_tables.TABLES, "ibex_small", Multiplications())
    make, asked = CELLS[cell]
    found = executed(make(), tmp_path)
    assert asked <= found.min()
    assert found.max() <= 1.2 * asked
