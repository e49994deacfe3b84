"""A call of the step as terms: what stands in registers and memory before it, by the ABI of each kind of core."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.cores.core import Core
from ncpc.ir.program import Program, Value
from ncpc.ir.types import Fixed
from ncpc.sim.plan import CallInterface
from ncpc.theorem.memory import Ram, RamRegion
from ncpc.theorem.reference import Grid
from ncpc.theorem.term import FULL, MOST, BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.thumb_encoding import LR, SP
from ncpc.theorem.thumb_flags import BLOCK, REGISTERS
from ncpc.theorem.undecided import Undecided

Numbers = NDArray[np.int64]

RETURN = 0x7FFFFFF0
STACK_ROOM, BASE_ALIGNMENT = 1 << 16, 16
SAMPLES = 512


@dataclass(frozen=True)
class Abi:
    """Registers by number: of ``count``, arguments and result, return address, stack pointer, those a callee keeps.

    RISC-V: the psABI's integer calling convention; Arm: the procedure call standard (AAPCS32). ``link_bit`` is what a
    return address has set beside the address, ``zero`` a register that is always 0.
    """

    count: int
    arguments: tuple[int, ...]
    link: int
    stack: int
    kept: tuple[int, ...]
    stack_alignment: int
    link_bit: int = 0
    zero: int | None = None


ABIS: Mapping[str, Abi] = {
    "riscv32": Abi(32, (10, 11, 12, 13), 1, 2, (3, 4, 8, 9, *range(18, 28)), 16, zero=0),
    "arm": Abi(REGISTERS, (0, 1, 2, 3), LR, SP, tuple(range(4, 12)), 8, 1, BLOCK),
}


@dataclass(frozen=True)
class Places:
    """Where numbers lie: (offset, bytes) of each element of the states, in order, and bytes of an input and output."""

    states: tuple[tuple[int, int], ...]
    x: int
    y: int


@dataclass(frozen=True, eq=False)
class Given:
    """What a step is called with: raw numbers (samples, n) by value, and the terms that stand for any."""

    raw: Mapping[str, Numbers]
    grids: Mapping[str, Grid]


@dataclass(frozen=True, eq=False)
class StepCall:
    """Registers and memory before a call, and what must be in the kept registers after it."""

    registers: list[BitTerm]
    memory: Ram
    kept: Mapping[int, BitTerm]
    places: Places
    bases: Mapping[str, BitTerm]


def given(terms: BitTerms, program: Program, seed: int = 1) -> Given:
    """Any inputs, any dt, any states in their box; samples among them: corners, usual and arbitrary ones."""
    rng = np.random.default_rng(seed)
    raw: dict[str, Numbers] = {}
    grids: dict[str, Grid] = {}
    for value, ends, usual in _free_values(program):
        raw[value.name] = _samples(rng, ends, usual)
        grids[value.name] = _free(terms, value, ends, raw[value.name])
    return Given(raw, grids)


def _free_values(program: Program) -> Iterator[tuple[Value, Numbers, Numbers]]:
    """Inputs, dt and states, with the ends that they can reach and the ends of what is usual, each (n, 2)."""
    for port in filter(None, (program.x, program.dt)):
        kind, fracs = port.value.type, port.fracs
        assert isinstance(kind, Fixed)
        assert fracs is not None
        declared = np.clip(port.range * np.exp2(np.array(fracs))[:, None], kind.lo, kind.hi).astype(np.int64)
        yield port.value, np.tile(np.array([[kind.lo, kind.hi]], np.int64), (len(declared), 1)), declared
    for state in program.states:
        box = np.asarray(state.box, np.int64).reshape(-1, 2)
        yield state.inp, box, box


def _samples(rng: np.random.Generator, ends: Numbers, usual: Numbers) -> Numbers:
    """(SAMPLES, n): of three in turn arbitrary ones, usual ones and such in the middle half of what is usual; the first
    at the ends, some with each number at an end.
    """
    (lo, hi), (low, high) = ends.T, usual.T
    found = rng.integers(lo, hi + 1, (SAMPLES, len(ends)))
    found[::3] = rng.integers(low, high + 1, found[::3].shape)
    found[1::3] = (rng.integers(low, high + 1, found[1::3].shape) + (low + high) // 2) // 2
    found[:2] = lo, hi
    found[2:34] = np.where(rng.integers(0, 2, (32, len(ends))) > 0, lo, hi)
    return found


def _free(terms: BitTerms, value: Value, ends: Numbers, raw: Numbers) -> Grid:
    """A word of 32 unsigned bits is any word."""
    grid = np.empty(len(ends), object)
    for i, (lo, hi) in enumerate(ends):
        span = (int(lo), int(hi)) if hi <= MOST else FULL
        grid[i] = terms.var(f"{value.name}[{i}]", *span, raw[:, i])
    return grid.reshape(value.shape)


def places_of(interface: CallInterface, program: Program) -> Places:
    """Where the elements lie. Raises Undecided where the interface tells no such places."""
    states = []
    for (offset, size), state in zip(interface.state, program.states, strict=True):
        count = int(np.prod(state.inp.shape, dtype=int))
        states += [(offset + i * size // count, size // count) for i in range(count)]
    x, y = (int(np.prod(port.value.shape, dtype=int)) for port in (program.x, program.y))
    return Places(tuple(states), interface.x_bytes // x, interface.y_bytes // y)


def call_of(terms: BitTerms, core: Core, interface: CallInterface, program: Program, have: Given) -> StepCall:
    """The instance, the inputs, the outputs, the stack anywhere in RAM, aligned and apart; kept registers anything."""
    if interface.float_dt or interface.struct_symbol is not None:
        raise Undecided("a step that takes a float or a static instance")
    abi, places, rng = ABIS[core.arch], places_of(interface, program), np.random.default_rng(2)
    room = {"s": interface.struct_bytes, "x": interface.x_bytes, "y": interface.y_bytes,
            "stack": min(STACK_ROOM, core.ram.size // 2)}
    bases = {name: _base(terms, core, name, size, rng) for name, size in room.items()}
    alignments = {"s": interface.struct_alignment, "x": places.x, "y": places.y, "stack": abi.stack_alignment}
    regions = {bases[name]: RamRegion(name, bases[name], *((-size, 0) if name == "stack" else (0, size)), name != "x",
                                   alignments[name]) for name, size in room.items()}
    memory = Ram(terms, regions)
    for i, term in enumerate(have.grids[program.x.value.name].reshape(-1)):
        memory.put("x", places.x * i, places.x, term)
    states = [t for state in program.states for t in have.grids[state.inp.name].reshape(-1)]
    for (offset, size), term in zip(places.states, states, strict=True):
        memory.put("s", offset, size, term)
    registers = [_anything(terms, f"register {i}", rng) for i in range(abi.count)]
    kept = {r: registers[r] for r in abi.kept}
    dt = [have.grids[program.dt.value.name].reshape(-1)[0]] if program.dt is not None else []
    passed = [bases["s"], bases["x"], *dt, bases["y"]]
    for register, term in zip(abi.arguments, passed, strict=False):
        registers[register] = term
    registers[abi.link], registers[abi.stack] = terms.const(RETURN | abi.link_bit), bases["stack"]
    if abi.zero is not None:
        registers[abi.zero] = terms.const(0)
    return StepCall(registers, memory, kept, places, bases)


def _base(terms: BitTerms, core: Core, name: str, size: int, rng: np.random.Generator) -> BitTerm:
    """An address from which there is room for so many bytes (below it, for the stack)."""
    first, last = (core.ram.origin + size, core.ram.end) if name == "stack" else (core.ram.origin, core.ram.end - size)
    if last < first:
        raise Undecided(f"the RAM of {core.name} has no room for {size} bytes")
    return terms.var(name, first, last, rng.integers(first, last + 1, terms.samples) & -BASE_ALIGNMENT)


def _anything(terms: BitTerms, name: str, rng: np.random.Generator) -> BitTerm:
    return terms.var(name, *FULL, rng.integers(FULL[0], FULL[1] + 1, terms.samples))
