"""Random programs in the simulator and on a core's RTL; a program that differs is made as short as it still does."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.cores import load_core
from ncpc.cores.toolchain import build_elf
from ncpc.sim.accounting import _code_range
from ncpc.sim.emulator import PAINT, Device, open_device
from ncpc.sim.plan import CallInterface
from ncpc.theorem.riscv_decode import LAYOUTS
from tests.rtl.bench import Tell, bench
from tests.rtl.calls import Measured, PlacedCall, differences, run_rtl, run_simulator
from tests.rtl.programs import BRANCHES, CORNERS, DATA_BYTES, SAVED, Piece, ProgramWriter, RandomProgram, assembly

BATCH, RUNS = 50, 3
"""Programs of one ELF, and calls of each, on other registers and data."""
INSTANCE, REGISTER_BYTES = SAVED + 128, 128
FACE = CallInterface("p0", "p0", "p0", INSTANCE, REGISTER_BYTES, 4)
KEPT = Path(__file__).with_name("kept")
NOWHERE = 10
"""In one batch of so many, conditional branches go to the very next address, where cycles have two bounds."""


@dataclass(frozen=True)
class OffProgram:
    """A program that differs, the memory that it was called with, and how."""

    program: RandomProgram
    memory: bytes
    off: tuple[str, ...]


@dataclass(frozen=True)
class FuzzResult:
    """``calls`` of ``programs``, of which ``exact`` had equal bounds; ``executed`` counts instructions and ways by name
    on the RTL; ``off`` are those that differ.
    """

    seed: int
    programs: int
    calls: int
    exact: int
    cycles: int
    instructions: int
    executed: Counter[str]
    off: tuple[OffProgram, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """What the record says."""
        return {**asdict(replace(self, executed=Counter(), off=())), "off": len(self.off),
                "executed": dict(sorted(self.executed.items()))}


def fuzz(core: str, seed: int, count: int, tell: Tell = print) -> FuzzResult:
    """Compare ``count`` programs on ``core``. Raises MissingTool, NcpcError where one does not return on the RTL."""
    found = FuzzResult(seed, 0, 0, 0, 0, 0, Counter(), ())
    for k, at in enumerate(range(0, count, BATCH)):
        found = _sum(found, batch(core, random.Random(f"{core} {seed} {k}"), min(BATCH, count - at),
                                  0.3 if k % NOWHERE == NOWHERE - 1 else 0.0, tell))
        tell(f"{core}, seed {seed}: {found.programs} of {count} programs, {len(found.off)} off")
    return found


def _sum(a: FuzzResult, b: FuzzResult) -> FuzzResult:
    names = ("programs", "calls", "exact", "cycles", "instructions", "executed", "off")
    return replace(a, **{name: getattr(a, name) + getattr(b, name) for name in names})


def batch(core: str, rng: random.Random, count: int, nowhere: float, tell: Tell) -> FuzzResult:
    """The programs of one ELF."""
    programs, memories = drawn(core, rng, count, nowhere)
    device, calls = placed(core, programs, memories)
    rtl = run_rtl(bench(core, tell), device, calls, listed=True)
    simulated = list(run_simulator(device, calls))
    off = {k // RUNS: OffProgram(programs[k // RUNS], memories[k], tuple(text))
           for k, pair in enumerate(zip(simulated, rtl, strict=True)) if (text := differences(*pair))}
    return FuzzResult(0, count, len(calls), sum(m.exact for m in simulated), sum(m.lower for m in rtl),
                      sum(m.instructions for m in rtl), executed(device, rtl), tuple(off.values()))


def drawn(core: str, rng: random.Random, count: int, nowhere: float) -> tuple[list[RandomProgram], list[bytes]]:
    """Programs that share what they call and read, and the memory of each of their calls."""
    writer = ProgramWriter(rng, load_core(core), nowhere)
    programs = [writer.program() for _ in range(count)]
    shared = [replace(p, leaves=programs[0].leaves, constants=programs[0].constants) for p in programs]
    return shared, [_memory(rng) for _ in range(RUNS * count)]


def _memory(rng: random.Random) -> bytes:
    """Of the instance and the registers."""
    words = [rng.choice(CORNERS) if rng.random() < 0.5 else rng.getrandbits(32) for _ in range(32)]
    return rng.randbytes(DATA_BYTES) + bytes([PAINT]) * (INSTANCE - DATA_BYTES) + np.array(words, "<u4").tobytes()


def placed(core: str, programs: Sequence[RandomProgram], memories: Sequence[bytes]) -> tuple[Device, list[PlacedCall]]:
    """The programs' ELF on a simulated core, and their calls: as many of each in turn as the memories allow."""
    device = opened(core, linked(core, assembly(programs, load_core(core)), len(programs)))
    return device, calls_of(device, memories, len(memories) // len(programs))


def calls_of(device: Device, memories: Sequence[bytes], each: int) -> list[PlacedCall]:
    """``each`` calls of every program, in turn."""
    return [_call(device, f"p{k // each}", memory) for k, memory in enumerate(memories)]


def opened(core: str, elf: bytes) -> Device:
    """The programs on a simulated core."""
    return open_device(elf, load_core(core), FACE)


def linked(core: str, text: str, count: int) -> bytes:
    """The ELF of ``count`` programs as assembly."""
    roots = [*(f"p{k}" for k in range(count)), "constants"]
    return build_elf({"p.S": text.encode()}, load_core(core), None, roots).elf


def _call(device: Device, name: str, memory: bytes) -> PlacedCall:
    assert device.x == device.instance + INSTANCE
    return PlacedCall(name, (device.instance, device.x), device.instance, memory, device.instance, INSTANCE)


def executed(device: Device, measured: Sequence[Measured]) -> Counter[str]:
    """How often each row of the instruction set was executed, and each way of jumping taken."""
    start, code = _code_range(device.image)
    found: Counter[str] = Counter()
    names: dict[int, tuple[str, int]] = {}
    for m in measured:
        assert m.entered is not None
        pcs = m.entered["pc"].tolist()
        for pc in set(pcs) - names.keys():
            names[pc] = row(int.from_bytes(code[pc - start : pc - start + 4], "little"))
        for pc, then in zip(pcs, [*pcs[1:], None], strict=True):
            name, size = names[pc]
            found[name] += 1
            found.update(_ways(name.removeprefix("c.").split(" ")[0], pc, size, then, names))
    return found


def _ways(name: str, pc: int, size: int, then: int | None, names: dict[int, tuple[str, int]]) -> Iterator[str]:
    if then is None or name not in (*BRANCHES, "jal", "jalr"):
        return
    if name in BRANCHES:
        yield "branch: not taken" if then == pc + size else "branch: taken"
    elif then == pc + size:
        yield "jump: to the next address"
    if then != pc + size and names[then][1] == 4 and then % 4 == 2:
        yield "jump: to a split instruction"


def row(word: int) -> tuple[str, int]:
    """The row of the table of instructions that ``word`` is of, and its size in bytes."""
    size = 4 if word & 3 == 3 else 2
    word &= (1 << 8 * size) - 1
    for layout in LAYOUTS[size]:
        if layout.read(word) is not None:
            return row_name(layout.name, size, layout.fixed), size
    return {0x0F: "fence", 0x73: "csr"}[word & 0x7F] + (".i" if word & 0x707F == 0x100F else ""), size


def row_name(name: str, size: int, fixed: Sequence[tuple[str, int]]) -> str:
    """``c.lw rs1=2``: a row's name, and the registers that it fixes."""
    registers = "".join(f" {field}={n}" for field, n in fixed if n and field != "imm")
    return f"{'c.' if size == 2 else ''}{name}{registers}"


def rows(compressed: bool) -> set[str]:
    """Every row of RV32IM, or of RV32IMC."""
    return {row_name(layout.name, size, layout.fixed) for size in ((2, 4) if compressed else (4,))
            for layout in LAYOUTS[size]}


def shrunk(core: str, found: OffProgram, tell: Tell = print) -> OffProgram:
    """The shortest program to be had that still differs, by leaving out pieces."""
    while (shorter := _shorter(core, found, tell)) is not None:
        found = shorter
    return found


def _shorter(core: str, found: OffProgram, tell: Tell) -> OffProgram | None:
    """The first of the programs with less in them that differs too; the most is left out first."""
    programs = [replace(found.program, pieces=pieces) for pieces in without(found.program.pieces)]
    if not programs:
        return None
    device, calls = placed(core, programs, [found.memory] * len(programs))
    pairs = zip(programs, run_simulator(device, calls), run_rtl(bench(core, tell), device, calls), strict=True)
    return next((OffProgram(p, found.memory, tuple(text)) for p, a, b in pairs if (text := differences(a, b))), None)


def without(pieces: tuple[Piece, ...]) -> Iterator[tuple[Piece, ...]]:
    """The pieces with less of them: half, a quarter, ... left out, one given way to what is in it, or less in one."""
    size = len(pieces) // 2 or len(pieces)
    while size:
        yield from (pieces[:at] + pieces[at + size :] for at in range(0, len(pieces), size))
        size //= 2
    for k, piece in enumerate(pieces):
        if piece.inner:
            yield (*pieces[:k], *piece.inner, *pieces[k + 1 :])
        for inner in without(piece.inner):
            yield (*pieces[:k], replace(piece, inner=inner), *pieces[k + 1 :])


def keep(core: str, seed: int, found: OffProgram, folder: Path = KEPT) -> Path:
    """Write a program that differs where the tests try it from then on."""
    folder.mkdir(exist_ok=True)
    text = assembly([found.program], load_core(core))
    path = folder / f"{core}-{seed}-{len(list(folder.glob('*.json')))}.json"
    path.write_text(json.dumps({"core": core, "seed": seed, "off": found.off, "memory": found.memory.hex(),
                                "assembly": text.splitlines()}, indent=1) + "\n")
    return path


def tried(path: Path, tell: Tell = print) -> list[str]:
    """How a program that was kept differs now."""
    given = json.loads(path.read_text())
    device = opened(given["core"], linked(given["core"], "\n".join(given["assembly"]) + "\n", 1))
    calls = [_call(device, "p0", bytes.fromhex(given["memory"]))]
    rtl = run_rtl(bench(given["core"], tell), device, calls)
    return differences(next(run_simulator(device, calls)), rtl[0])
