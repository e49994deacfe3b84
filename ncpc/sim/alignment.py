"""Is every memory access aligned? Told along the path that is executed, from low bits that are known to be zero.

Watching every access in the emulator makes it ten times slower. But whether an address is aligned hangs on few facts:
the arguments are aligned, offsets are constants, indices are shifted left. So the low bits known to be zero are carried
from block to block (at most two: a word): ``add r3, r0, r1, lsl #2`` has as many as the worse of r0 and four times r1.
A block does the same to the same knowledge every time, so that is worked out once for each pair, and the hook only
looks it up. A step with an access that is not known to be aligned is executed again, and that address looked at, then
and from then on.

Words that are stored and loaded through the stack pointer keep their knowledge, and so do those through a register that
was made of it (``add r1, sp, #8`` and ``stm r1!, {r0, r2}``, as compilers spill). That no such word is overwritten
through a pointer whose place is not known, into an array on the stack, is assumed here: a program that does so is
broken in a way that other checks see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ncpc.sim.decode import (
    FLOAT_LISTS,
    IMMEDIATE,
    LISTS,
    MEMORY,
    PC,
    REGISTER,
    arm_number,
    arm_numbers,
    disassembler,
    float_list,
)
from ncpc.sim.timing import ALWAYS, Instruction

WORD = 2
"""Zero bits of the address of a word; no access needs more."""
SP = {"arm": 13, "riscv32": 2}
LEFT = 2
"""Capstone's number of an Arm operand's shift to the left."""
Word = tuple[int, int | None]
"""The zero bits of a value, and, of an address on the stack, its distance from where the stack pointer started."""
State = tuple[tuple[Word, ...], frozenset[tuple[int, Word]]]
"""What is known of the registers, and of stacked words by their distance."""


def low(number: int) -> int:
    """How many of a number's low bits are zero, at most those of a word."""
    return next((bit for bit in range(WORD) if number >> bit & 1), WORD)


@dataclass(frozen=True)
class Access:
    """An access of ``size`` bytes by the instruction at ``address``, executed where its ``condition`` holds.

    It is at ``offset`` + base + (index << shift), registers by number.
    """

    address: int
    condition: int
    size: int
    offset: int
    base: int | None
    index: int | None
    shift: int


@dataclass(frozen=True)
class BlockEffect:
    """What a block leads to: the numbers of the states at the very next address and elsewhere, and its accesses that
    may be misaligned. The two states differ where a return that may be skipped moves the stack pointer.
    """

    passed: int
    jumped: int
    doubtful: tuple[Access, ...]


@dataclass
class Known:
    """What is known while a block is executed, at the instruction at ``address`` under ``condition``; ``doubtful`` are
    the accesses so far that may be misaligned; ``jumped`` is what a conditional return leads to.
    """

    words: list[Word]
    stacked: dict[int, Word]
    stack_register: int
    address: int = 0
    condition: int = ALWAYS
    doubtful: list[Access] = field(default_factory=list)
    jumped: State | None = None

    def state(self) -> State:
        return tuple(self.words), frozenset(self.stacked.items())

    def zeros(self, register: int) -> int:
        """The zero bits of a register; 0 for those that are not followed."""
        return self.words[register][0] if register < len(self.words) else 0

    def place(self, register: int, offset: int) -> int | None:
        """Where on the stack ``offset`` beyond a register is, None where that is not known."""
        held = self.words[register][1] if register < len(self.words) else None
        return None if held is None else held + offset

    def put(self, register: int, zeros: int, place: int | None = None) -> None:
        """A register that is no stack pointer gets a new value."""
        if register == self.stack_register:
            self.lose()
        elif register < len(self.words):
            self.words[register] = min(max(zeros, 0), WORD), place

    def lose(self) -> None:
        """The stack pointer becomes something unknown."""
        self.words[self.stack_register] = 0, None
        self.stacked.clear()

    def move(self, by: int) -> None:
        """The stack pointer moves; what it leaves behind is forgotten."""
        zeros, _ = self.words[self.stack_register]
        at = self.place(self.stack_register, by)
        self.words[self.stack_register] = min(zeros, low(by)), at
        if at is not None:
            self.stacked = {place: word for place, word in self.stacked.items() if place >= at}

    def access(
        self, size: int, base: int | None, offset: int = 0, index: int | None = None, shift: int = 0
    ) -> None:
        """An access of ``size`` bytes at ``offset`` + base + (index << shift)."""
        # ldr r2, [r0, r1, lsl #2] with r0 a word's address and r1 unknown: min(2, 0 + 2) = 2 zero bits, aligned.
        # ldrh r2, [r0, r1]: min(2, 0) = 0 where a half needs 1: in doubt.
        zeros = low(offset) if base is None else min(low(offset), self.zeros(base))
        if index is not None:
            zeros = min(zeros, self.zeros(index) + shift)
        if 1 << zeros < size:
            self.doubtful.append(Access(self.address, self.condition, size, offset, base, index, shift))

    def load(self, registers: Sequence[int], place: int | None, size: int) -> None:
        """Registers from memory, in order; ``place`` on the stack, where that is known."""
        for k, register in enumerate(registers):
            at = None if place is None or size < 4 else place + 4 * k
            self.put(register, *((0, None) if at is None else self.stacked.get(at, (0, None))))

    def store(self, registers: Sequence[int], place: int | None, size: int) -> None:
        """Registers into memory, in order."""
        for k, register in enumerate(registers if place is not None else ()):
            assert place is not None
            at = place + 4 * k
            self.stacked.pop(at - at % 4, None)
            if size == 4 and at % 4 == 0 and self.zeros(register):
                self.stacked[at] = self.words[register]

    def either(self, other: Known) -> None:
        """What holds here and there."""
        self.words = [_either(a, b) for a, b in zip(self.words, other.words, strict=True)]
        shared = self.stacked.keys() & other.stacked.keys() if self.words[self.stack_register][1] is not None else ()
        self.stacked = {at: _either(self.stacked[at], other.stacked[at]) for at in shared}


def _either(a: Word, b: Word) -> Word:
    return min(a[0], b[0]), a[1] if a[1] == b[1] else None


@dataclass(eq=False)
class Alignment:
    """The states met so far, by number, and what each block leads to from each."""

    code: bytes
    start: int
    arch: str
    governed: Mapping[int, Instruction]
    """Instructions under an IT of the block before, by address."""
    states: list[State] = field(default_factory=list)
    numbers: dict[State, int] = field(default_factory=dict)
    known: dict[tuple[int, int, int], BlockEffect] = field(default_factory=dict)
    decoded: dict[tuple[int, int], list[Any]] = field(default_factory=dict)

    def entry(self, zeros: dict[int, int]) -> int:
        """The state at the entry of a function: zero bits by register, and an aligned stack."""
        words: list[Word] = [(zeros.get(r, 0), None) for r in range(16 if self.arch == "arm" else 32)]
        words[SP[self.arch]] = WORD, 0
        return self._number((tuple(words), frozenset()))

    def through(self, address: int, size: int, state: int) -> BlockEffect:
        """What a block leads to from a state."""
        key = (address, size, state)
        if key not in self.known:
            words, stacked = self.states[state]
            now = Known(list(words), dict(stacked), SP[self.arch])
            for i in self._instructions(address, size):
                now.address = i.address
                if self.arch == "arm":
                    _arm(now, i, self)
                else:
                    _riscv(now, i)
            passed, jumped = self._number(now.state()), self._number(now.jumped or now.state())
            self.known[key] = BlockEffect(passed, jumped, tuple(now.doubtful))
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
    held = within.governed.get(i.address)
    known.condition = held.condition if held is not None else i.cc - 1 if 0 <= i.cc - 1 < ALWAYS else ALWAYS
    if name != "it" and known.condition != ALWAYS:
        skipped = Known(list(known.words), dict(known.stacked), known.stack_register)
    if name in LISTS or name in FLOAT_LISTS:
        _arm_list(known, i, name)
    elif any(o.type == MEMORY for o in i.operands):
        _arm_memory(known, i, name, within)
    else:
        _arm_data(known, i, name)
    if skipped is not None and (name.startswith("b") or PC in [arm_number(r) for r in i.regs_access()[1]]):
        known.jumped = known.state()
        known.words, known.stacked = skipped.words, skipped.stacked
    elif skipped is not None:
        known.either(skipped)


def _arm_list(known: Known, i: Any, name: str) -> None:
    registers: Sequence[int] = [arm_number(o.reg) for o in i.operands]
    if name in FLOAT_LISTS:
        base, registers = float_list(i, name)
    else:
        base, *registers = registers if name not in ("push", "pop") else (known.stack_register, *registers)
    moves = name.endswith(("push", "pop")) or i.writeback
    known.access(4, base)
    size = 4 * len(registers)
    step = -size if name.endswith(("push", "mdb")) else size
    first = known.place(base, min(step, 0))
    if name.startswith(("push", "stm", "vpush", "vstm")):
        known.store(registers, first, 4)
    else:
        known.load([r for r in registers if r != PC], first, 4)
    if moves and base == known.stack_register:
        known.move(step)
    elif moves:
        known.put(base, known.zeros(base))


def _arm_memory(known: Known, i: Any, name: str, within: Alignment) -> None:
    (mem,) = [o for o in i.operands if o.type == MEMORY]
    registers = arm_numbers([o.reg for o in i.operands if o.type == REGISTER])
    base, offset = arm_number(mem.mem.base), int(mem.mem.disp)
    size = 1 if name.endswith("b") else 2 if name.endswith("h") else 4
    if base == PC:
        address = (i.address & ~3) + 4 + offset
        known.access(1 if mem.mem.index else size, None, address)  # indexed is a table of jumps, in halves like code
        for k, register in enumerate(registers):
            at = address - within.start + 4 * k
            known.put(register, low(int.from_bytes(within.code[at : at + 4], "little")) if size == 4 else 0)
        return
    index = arm_number(mem.mem.index) if mem.mem.index else None
    known.access(size, base, 0 if i.post_index else offset, index, mem.shift.value if mem.shift.type == LEFT else 0)
    place = None if mem.mem.index else known.place(base, 0 if i.post_index else offset)
    (known.store if name.startswith(("str", "vstr")) else known.load)([r for r in registers if r != PC], place, size)
    if i.writeback:
        step = int(i.operands[-1].imm) if i.post_index and i.operands[-1].type == IMMEDIATE else offset
        if base == known.stack_register:
            known.move(step)
        else:
            known.put(base, min(known.zeros(base), low(step)) if not i.post_index or step else 0)


def _arm_data(known: Known, i: Any, name: str) -> None:
    written = arm_numbers(i.regs_access()[1])
    ops = list(i.operands)
    if known.stack_register in written:
        if name in ("add", "sub") and ops[-1].type == IMMEDIATE and arm_number(ops[-2].reg) == known.stack_register:
            known.move(int(ops[-1].imm) * (1 if name == "add" else -1))
        else:
            known.lose()
    zeros, place = _arm_result(known, name, ops) if ops else 0, _arm_place(known, name, ops)
    target = arm_number(ops[0].reg) if ops and ops[0].type == REGISTER else PC
    for register in written:
        if register not in (PC, known.stack_register):
            known.put(register, *((zeros, place) if register == target else (0, None)))


def _arm_place(known: Known, name: str, ops: Sequence[Any]) -> int | None:
    """Where on the stack the result of ``add r1, sp, #8`` or ``mov r1, sp`` is; of no further sum, for a pointer that
    goes along an array would be a state for each element.
    """
    held = [o for o in ops[1:] if o.type == REGISTER]
    if name not in ("add", "addw", "mov") or [arm_number(o.reg) for o in held] != [known.stack_register]:
        return None
    return known.place(known.stack_register, sum(int(o.imm) for o in ops[1:] if o.type == IMMEDIATE))


def _arm_result(known: Known, name: str, ops: Sequence[Any]) -> int:
    """Zero bits of what a data instruction gives; 0 for those that are not known here."""
    def zeros(o: Any) -> int:
        if o.type != REGISTER:
            return low(int(o.imm))
        number = arm_number(o.reg)
        held = WORD if number == PC else known.zeros(number)
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
    known.words[0] = WORD, None
    if name in LOADS or name in STORES:
        memory = [o.mem for o in ops if o.type == MEMORY]
        base = memory[0].base - riscv.RISCV_REG_X0 if memory else registers[1]
        offset = int(memory[0].disp) if memory else (numbers or [0])[0]
        size = LOADS.get(name) or STORES[name]
        known.access(size, base, offset)
        (known.load if name in LOADS else known.store)(registers[:1], known.place(base, offset), size)
    elif name in ("addi", "addi16sp") and registers[-1:] == [known.stack_register] == registers[:1]:
        known.move(numbers[-1])
    elif registers and not name.startswith(("b", "j", "s.", "fence", "ecall")):
        from_stack = name in ("addi", "addi4spn", "mv") and registers[1:] == [known.stack_register]
        place = known.place(known.stack_register, sum(numbers)) if from_stack else None
        known.put(registers[0], _riscv_result(known, name, registers, numbers, i.address), place)
    elif name in ("jal", "jalr"):
        for register in (RETURN, *registers):
            known.put(register, 0)
    known.words[0] = WORD, None


def _riscv_result(known: Known, name: str, registers: Sequence[int], numbers: Sequence[int], address: int) -> int:
    held = [known.zeros(r) for r in (registers[1:] if len(registers) > 2 - bool(numbers) else registers)]
    if name in ("li", "lui"):
        return WORD if name == "lui" else low(numbers[0])
    if name == "auipc":
        return low(address)
    if name == "mv":
        return known.zeros(registers[1])
    if name == "slli":
        return held[0] + numbers[-1]
    if name == "mul":
        return sum(held)
    if name in ("and", "andi"):
        return max([*held, *map(low, numbers)])
    same = ("add", "addi", "addi4spn", "sub", "or", "ori", "xor", "xori")
    return min([*held, *map(low, numbers)]) if name in same else 0
