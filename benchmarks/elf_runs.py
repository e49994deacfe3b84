"""A linked RV32IMC step run on many inputs beside its Program: outputs, states, status, kept registers, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.cores.core import Core
from ncpc.cores.elf import read_elf
from ncpc.driver.job import Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.ir.program import Program
from ncpc.proofs.prove import Proof, prove
from ncpc.semantics.run import Executor
from ncpc.sim.emulator import unicorn_module
from ncpc.targets.c.c_target import CArtifact
from ncpc.targets.c.device import calls
from ncpc.targets.c.interface import Interface, to_bytes
from ncpc.theorem.call import ABIS, SAMPLES, given
from ncpc.theorem.equality import Budget
from ncpc.theorem.flash import Flash
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.theorem import Theorem, prove_step

ROOM, STACK = 0x1000, 0x8000
"""Bytes for the instance, the inputs and the outputs each, from the start of RAM; where the stack begins there."""
MOST = 100_000
"""Instructions of a step; the steps here take a fifth of that."""
POISON = 0xA5
Raw = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Build:
    """A policy for a core: the C's artifact, the Program and its range proof, the ELF."""

    artifact: CArtifact
    program: Program
    proof: Proof
    elf: bytes

    @property
    def core(self) -> Core:
        assert self.artifact.chip is not None
        return self.artifact.chip

    def prove(self, elf: bytes, budget: Budget) -> Theorem:
        return prove_step(elf, self.core, calls(self.artifact.face), self.program, self.proof, budget)


def built(folder: Path, policy: Path, request: Request) -> Build:
    """Compiled for a core and linked in ``folder``, not verified."""
    job = job_for(policy, request)
    lowered = lower_for(job.container, job.options).lowered
    artifact = job.target.prepare(lowered, job.build_options)
    assert isinstance(artifact, CArtifact)
    for name, data in artifact.files.items():
        (folder / name).write_bytes(data)
    artifact.build(folder)
    return Build(artifact, lowered.program, prove(lowered.program), (folder / artifact.named("elf")).read_bytes())


@dataclass(frozen=True, eq=False)
class Batch:
    """Calls of a step, (n, bytes) of instance and inputs each, and what the Program makes of them."""

    instance: NDArray[np.uint8]
    x: NDArray[np.uint8]
    after: NDArray[np.uint8]
    y: NDArray[np.uint8]
    status: NDArray[np.int64]


def batch(build: Build, raw: Raw) -> Batch:
    """Of raw inputs and states, (n, elements) by value."""
    face, program = build.artifact.face, build.program
    executor, x = Executor(program), raw[program.x.value.name]
    executor.reset(len(x))
    executor.load({s.inp.name: raw[s.inp.name].reshape(len(x), *s.inp.shape) for s in program.states})
    y, after, status = executor.step(x, None)
    before = [raw[s.inp.name] for s in program.states]
    return Batch(_instances(face, before), to_bytes(x, face.x), _instances(face, list(after)),
                 to_bytes(np.asarray(y), face.y), np.asarray(status))


def _instances(face: Interface, states: list[NDArray[Any]]) -> NDArray[np.uint8]:
    """Poison where no state is."""
    made = np.full((len(states[0]), face.struct_bytes()), POISON, np.uint8)
    for field, (offset, size), numbers in zip(face.states, face.offsets(), states, strict=True):
        made[:, offset : offset + size] = to_bytes(np.asarray(numbers).reshape(len(numbers), -1), field.ctype)
    return made


def drawn(build: Build, seed: int) -> Batch:
    """SAMPLES calls as the proof draws them; seed 1 draws the proof's own."""
    return batch(build, given(BitTerms(SAMPLES, Flash(())), build.program, seed).raw)


class Board:
    """The ELF in flash, and RAM full of poison before every call."""

    def __init__(self, build: Build, elf: bytes) -> None:
        uc, self.core, self.face = unicorn_module(), build.core, build.artifact.face
        self.engine = uc.Uc(uc.UC_ARCH_RISCV, uc.UC_MODE_RISCV32)
        image = read_elf(elf)
        self.step = image.address(calls(self.face).step)
        self.engine.mem_map(self.core.flash.origin, self.core.flash.size, uc.UC_PROT_READ | uc.UC_PROT_EXEC)
        self.engine.mem_map(self.core.ram.origin, self.core.ram.size, uc.UC_PROT_READ | uc.UC_PROT_WRITE)
        for segment in image.segments:
            self.engine.mem_write(segment.load_address, segment.data)
        self.instance, self.x, self.y = (self.core.ram.origin + k * ROOM for k in range(3))
        self.stack, self.end = self.core.ram.origin + STACK, self.core.flash.end - 4
        self.kept, self.abi = ABIS["riscv32"].kept, ABIS["riscv32"]

    def wrong(self, calls_: Batch, k: int, seed: int = 0) -> str:
        """What call number k leaves that the Program does not; "" where everything is right.

        Registers that carry nothing are filled by ``seed``: a step that reads one does what that says.
        """
        x = unicorn_module().riscv_const.UC_RISCV_REG_X0
        rng = np.random.default_rng((seed, k))
        registers = [int(n) for n in rng.integers(0, 1 << 32, 32)]
        registers[1], registers[2], registers[10:13] = self.end, self.stack, [self.instance, self.x, self.y]
        ram = np.full(STACK + ROOM, POISON, np.uint8)
        ram[: calls_.instance.shape[1]] = calls_.instance[k]
        ram[ROOM : ROOM + calls_.x.shape[1]] = calls_.x[k]
        self.engine.mem_write(self.core.ram.origin, ram.tobytes())
        for number, value in enumerate(registers[1:], 1):
            self.engine.reg_write(x + number, value)
        try:
            self.engine.emu_start(self.step, self.end, count=MOST)
        except unicorn_module().UcError as error:
            return f"stops: {error}"
        if self.engine.reg_read(unicorn_module().riscv_const.UC_RISCV_REG_PC) != self.end:
            return "does not end"
        left = np.frombuffer(self.engine.mem_read(self.core.ram.origin, len(ram)), np.uint8)
        ram[: calls_.after.shape[1]], ram[2 * ROOM : 2 * ROOM + calls_.y.shape[1]] = calls_.after[k], calls_.y[k]
        return self._differs(calls_, k, left, ram, registers, x)

    def _differs(self, calls_: Batch, k: int, left: NDArray[np.uint8], ram: NDArray[np.uint8], registers: list[int],
                 x: int) -> str:
        """The first part that is not as it must be; the stack's room, from 3 * ROOM, may be anything below STACK."""
        for name, first, end in (("state", 0, ROOM), ("inputs", ROOM, 2 * ROOM), ("outputs", 2 * ROOM, 3 * ROOM),
                                 ("memory above the stack", STACK, len(ram))):
            if not np.array_equal(left[first:end], ram[first:end]):
                return name
        if self.engine.reg_read(x + 10) & 0xFFFFFFFF != int(calls_.status[k]) & 0xFFFFFFFF:
            return "status word"
        for number in (self.abi.stack, *self.kept):
            if self.engine.reg_read(x + number) & 0xFFFFFFFF != registers[number]:
                return f"register {number}"
        return ""

    def first_wrong(self, calls_: Batch) -> tuple[int, str] | None:
        """The first call of a batch that leaves something else, and what."""
        return next(((k, what) for k in range(len(calls_.x)) if (what := self.wrong(calls_, k))), None)
