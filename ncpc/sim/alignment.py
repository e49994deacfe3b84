"""Is every memory access aligned? Told along the path that is executed, from low bits that are known to be zero.

Watching every access in the emulator makes it ten times slower. But whether an address is aligned hangs on few facts:
the arguments are aligned, offsets are constants, indices are shifted left. So the low bits known to be zero are carried
from block to block (at most two: a word): ``add r3, r0, r1, lsl #2`` has as many as the worse of r0 and four times r1.
A block does the same to the same knowledge every time, so that is worked out once for each pair, and the hook only
looks it up. A step with an access that is not known to be aligned is executed again on a device that watches them all.

Words that are stored and loaded through the stack pointer keep their knowledge. That such a word is not overwritten
through another pointer is assumed here: a program that does so is broken in a way that other checks see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ncpc.sim.decode import IMMEDIATE, LISTS, PC, arm_number, disassembler
from ncpc.sim.timing import ALWAYS

WORD = 2
"""Zero bits of the address of a word; no access needs more."""
REGISTER, MEMORY = 1, 3
"""Capstone's types of operands, the same for every architecture."""
SP = {"arm": 13, "riscv32": 2}
LEFT = 2
"""Capstone's number of an Arm operand's shift to the left."""
State = tuple[tuple[int, ...], int | None, frozenset[tuple[int, int]]]
"""Zero bits by register, the stack pointer's distance from where it started (None: lost), those of stacked words."""


def low(number: int) -> int:
    """How many of a number's low bits are zero, at most those of a word."""
    return next((bit for bit in range(WORD) if number >> bit & 1), WORD)


@dataclass(frozen=True)
class Outcome:
    """What a block leads to: the numbers of the states at the very next address and elsewhere, and whether all of its
    accesses are aligned. The two states differ where a return that may be skipped moves the stack pointer.
    """

    passed: int
    jumped: int
    aligned: bool


@dataclass
class Known:
    """What is known while a block is executed; ``aligned`` so far; ``jumped`` is what a conditional return leads to."""

    zeros: list[int]
    sp: int | None
    stacked: dict[int, int]
    stack_register: int
    aligned: bool = True
    jumped: State | None = None

    def state(self) -> State:
        return tuple(self.zeros), self.sp, frozenset(self.stacked.items())

    def put(self, register: int, zeros: int) -> None:
        """A register that is no stack pointer gets a new value."""
        if register == self.stack_register:
            self.lose()
        elif register < len(self.zeros):
            self.zeros[register] = min(max(zeros, 0), WORD)

    def lose(self) -> None:
        """The stack pointer becomes something unknown."""
        self.sp, self.zeros[self.stack_register] = None, 0
        self.stacked.clear()

    def move(self, by: int) -> None:
        """The stack pointer moves; what it leaves behind is forgotten."""
        self.zeros[self.stack_register] = min(self.zeros[self.stack_register], low(by))
        if self.sp is not None:
            self.sp += by
            for at in [at for at in self.stacked if at < self.sp]:
                del self.stacked[at]

    def access(self, size: int, zeros: int) -> None:
        """An access of ``size`` bytes at an address with ``zeros`` zero bits."""
        self.aligned &= 1 << min(zeros, WORD) >= min(size, 4)

    def load(self, registers: Sequence[int], place: int | None, size: int) -> None:
        """Registers from memory, in order; ``place`` on the stack, where that is known."""
        for k, register in enumerate(registers):
            at = None if place is None or size < 4 else place + 4 * k
            self.put(register, 0 if at is None else self.stacked.get(at, 0))

    def store(self, registers: Sequence[int], place: int | None, size: int) -> None:
        """Registers into memory, in order."""
        for k, register in enumerate(registers if place is not None else ()):
            assert place is not None
            at = place + 4 * k
            self.stacked.pop(at - at % 4, None)
            if size == 4 and at % 4 == 0 and register < len(self.zeros) and self.zeros[register]:
                self.stacked[at] = self.zeros[register]

    def either(self, other: Known) -> None:
        """What holds here and there."""
        self.zeros = [min(a, b) for a, b in zip(self.zeros, other.zeros, strict=True)]
        if self.sp != other.sp:
            self.lose()
        shared = self.stacked.keys() & other.stacked.keys()
        self.stacked = {at: min(self.stacked[at], other.stacked[at]) for at in shared}


@dataclass(eq=False)
class Alignment:
    """The states met so far, by number, and what each block leads to from each."""

    code: bytes
    start: int
    arch: str
    governed: Mapping[int, object]
    """Instructions under an IT of the block before, by address."""
    states: list[State] = field(default_factory=list)
    numbers: dict[State, int] = field(default_factory=dict)
    known: dict[tuple[int, int, int], Outcome] = field(default_factory=dict)
    decoded: dict[tuple[int, int], list[Any]] = field(default_factory=dict)

    def entry(self, zeros: dict[int, int]) -> int:
        """The state at the entry of a function: zero bits by register, and an aligned stack."""
        stack = SP[self.arch]
        registers = [{**zeros, stack: WORD}.get(r, 0) for r in range(16 if self.arch == "arm" else 32)]
        return self._number((tuple(registers), 0, frozenset()))

    def through(self, address: int, size: int, state: int) -> Outcome:
        """What a block leads to from a state."""
        key = (address, size, state)
        if key not in self.known:
            zeros, sp, stacked = self.states[state]
            now = Known(list(zeros), sp, dict(stacked), SP[self.arch])
            for i in self._instructions(address, size):
                if self.arch == "arm":
                    _arm(now, i, self)
                else:
                    _riscv(now, i)
            passed, jumped = self._number(now.state()), self._number(now.jumped or now.state())
            self.known[key] = Outcome(passed, jumped, now.aligned)
        return self.known[key]

    def _instructions(self, address: int, size: int) -> list[Any]:
        if (address, size) not in self.decoded:
            at = address - self.start
            found = list(disassembler(self.arch).disasm(self.code[at : at + size], address))
            self.decoded[address, size] = found
        return self.decoded[address, size]

    def _number(self, state: State) -> int:
        if state not in self.numbers:
            self.numbers[state] = len(self.states)
            self.states.append(state)
        return self.numbers[state]


def _arm(known: Known, i: Any, within: Alignment) -> None:
    """One Thumb instruction; where its condition may fail, what holds either way."""
    name = i.insn_name()
    skipped = None
    if name != "it" and (0 <= i.cc - 1 < ALWAYS or i.address in within.governed):
        skipped = Known(list(known.zeros), known.sp, dict(known.stacked), known.stack_register)
    if name in LISTS:
        _arm_list(known, i, name)
    elif any(o.type == MEMORY for o in i.operands):
        _arm_memory(known, i, name, within)
    else:
        _arm_data(known, i, name)
    if skipped is not None and (name.startswith("b") or PC in [arm_number(r) for r in i.regs_access()[1]]):
        known.jumped = known.state()
        known.zeros, known.sp, known.stacked = skipped.zeros, skipped.sp, skipped.stacked
    elif skipped is not None:
        known.either(skipped)


def _arm_list(known: Known, i: Any, name: str) -> None:
    registers = [arm_number(o.reg) for o in i.operands]
    base = known.stack_register if name in ("push", "pop") else registers.pop(0)
    moves = name in ("push", "pop") or i.writeback
    known.access(4, known.zeros[base])
    size, first = 4 * len(registers), known.sp if base == known.stack_register else None
    if first is not None and name in ("push", "stmdb", "ldmdb"):
        first -= size
    if name in ("push", "stm", "stmdb"):
        if base == known.stack_register and moves:
            known.move(-size if name != "stm" else size)
        known.store(registers, first, 4)
        return
    known.load([r for r in registers if r != PC], first, 4)
    if base == known.stack_register and moves:
        known.move(size if name != "ldmdb" else -size)


def _arm_memory(known: Known, i: Any, name: str, within: Alignment) -> None:
    (mem,) = [o for o in i.operands if o.type == MEMORY]
    registers = [arm_number(o.reg) for o in i.operands if o.type == REGISTER]
    base, offset = arm_number(mem.mem.base), int(mem.mem.disp)
    size = 1 if name.endswith("b") else 2 if name.endswith("h") else 4
    if base == PC:
        address = (i.address & ~3) + 4 + offset
        known.access(1 if mem.mem.index else size, low(address))  # indexed is a table of jumps, in halves like code
        for k, register in enumerate(registers):
            at = address - within.start + 4 * k
            known.put(register, low(int.from_bytes(within.code[at : at + 4], "little")) if size == 4 else 0)
        return
    zeros = min(known.zeros[base], low(offset))
    if mem.mem.index:
        shift = mem.shift.value if mem.shift.type == LEFT else 0
        zeros = min(zeros, known.zeros[arm_number(mem.mem.index)] + shift)
    known.access(size, zeros)
    above = known.sp if base == known.stack_register and not mem.mem.index else None
    place = None if above is None else above + offset
    (known.store if name.startswith(("str", "vstr")) else known.load)([r for r in registers if r != PC], place, size)
    if i.writeback:
        step = int(i.operands[-1].imm) if i.post_index and i.operands[-1].type == IMMEDIATE else offset
        if base == known.stack_register:
            known.move(step)
        else:
            known.put(base, min(known.zeros[base], low(step)) if not i.post_index or step else 0)


def _arm_data(known: Known, i: Any, name: str) -> None:
    written = [arm_number(r) for r in i.regs_access()[1]]
    ops = list(i.operands)
    if known.stack_register in written:
        if name in ("add", "sub") and ops[-1].type == IMMEDIATE and arm_number(ops[-2].reg) == known.stack_register:
            known.move(int(ops[-1].imm) * (1 if name == "add" else -1))
        else:
            known.lose()
    zeros = _arm_result(known, name, ops) if ops else 0
    target = arm_number(ops[0].reg) if ops and ops[0].type == REGISTER else PC
    for register in written:
        if register not in (PC, known.stack_register):
            known.put(register, zeros if register == target else 0)


def _arm_result(known: Known, name: str, ops: Sequence[Any]) -> int:
    """Zero bits of what a data instruction gives; 0 for those that are not known here."""
    def zeros(o: Any) -> int:
        if o.type != REGISTER:
            return low(int(o.imm))
        number = arm_number(o.reg)
        held = WORD if number == PC else known.zeros[number] if number < len(known.zeros) else 0
        return held if o.shift.type == 0 else held + o.shift.value if o.shift.type == LEFT else 0

    sources = ops[1:] if len(ops) > 2 or name in ("mov", "movs", "adr", "uxth", "uxtb", "sxth", "sxtb") else ops
    if name == "lsl":
        by = int(ops[-1].imm) if ops[-1].type == IMMEDIATE else 0
        return zeros(ops[-2]) + by
    if name == "movt":
        return zeros(ops[0])
    if name in ("mul", "mla"):
        product = zeros(sources[0]) + zeros(sources[1])
        return min(product, zeros(sources[2])) if name == "mla" else product
    if name == "and":
        return max(map(zeros, sources))
    same = ("add", "addw", "sub", "subw", "rsb", "orr", "eor", "mov", "movs", "adr", "uxth", "uxtb", "sxth", "sxtb")
    return min(map(zeros, sources)) if name in same else 0


RETURN = 1
"""RISC-V's register of the return address, where an instruction names none."""
LOADS = {"lw": 4, "lwsp": 4, "lh": 2, "lhu": 2, "lb": 1, "lbu": 1}
STORES = {"sw": 4, "swsp": 4, "sh": 2, "sb": 1}


def _riscv(known: Known, i: Any) -> None:
    """One RV32IMC instruction; register 0 holds zero."""
    from capstone import riscv

    name, ops = i.insn_name().removeprefix("c."), list(i.operands)
    registers = [o.reg - riscv.RISCV_REG_X0 for o in ops if o.type == REGISTER]
    numbers = [int(o.imm) for o in ops if o.type == IMMEDIATE]
    known.zeros[0] = WORD
    if name in LOADS or name in STORES:
        memory = [o.mem for o in ops if o.type == MEMORY]
        base = memory[0].base - riscv.RISCV_REG_X0 if memory else registers[1]
        offset = int(memory[0].disp) if memory else (numbers or [0])[0]
        size = LOADS.get(name) or STORES[name]
        known.access(size, min(known.zeros[base], low(offset)))
        place = known.sp + offset if base == known.stack_register and known.sp is not None else None
        (known.load if name in LOADS else known.store)(registers[:1], place, size)
    elif name in ("addi", "addi16sp") and registers[-1:] == [known.stack_register] == registers[:1]:
        known.move(numbers[-1])
    elif registers and not name.startswith(("b", "j", "s.", "fence", "ecall")):
        known.put(registers[0], _riscv_result(known, name, registers, numbers, i.address))
    elif name in ("jal", "jalr"):
        for register in (RETURN, *registers):
            known.put(register, 0)
    known.zeros[0] = WORD


def _riscv_result(known: Known, name: str, registers: Sequence[int], numbers: Sequence[int], address: int) -> int:
    held = [known.zeros[r] for r in (registers[1:] if len(registers) > 2 - bool(numbers) else registers)]
    if name in ("li", "lui"):
        return WORD if name == "lui" else low(numbers[0])
    if name == "auipc":
        return low(address)
    if name == "mv":
        return known.zeros[registers[1]]
    if name == "slli":
        return held[0] + numbers[-1]
    if name == "mul":
        return sum(held)
    if name in ("and", "andi"):
        return max([*held, *map(low, numbers)])
    same = ("add", "addi", "addi4spn", "sub", "or", "ori", "xor", "xori")
    return min([*held, *map(low, numbers)]) if name in same else 0
