"""What the instructions of RV32IM do to a processor on terms (RISC-V unprivileged manual, chapters 2 and 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ncpc.theorem.flash import Flash
from ncpc.theorem.instruction_sets import Permits, every
from ncpc.theorem.machine import Branch, Processor
from ncpc.theorem.riscv_decode import Riscv, decode
from ncpc.theorem.term import BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.values import MASK

LOADS = {"lb": (1, True), "lh": (2, True), "lw": (4, True), "lbu": (1, False), "lhu": (2, False)}
"""Bytes, and whether the word is signed."""
STORES = {"sb": 1, "sh": 2, "sw": 4}
COMPARISONS: dict[str, tuple[Callable[[BitTerms, BitTerm, BitTerm], BitTerm], bool]] = {
    "beq": (BitTerms.eq, True), "bne": (BitTerms.eq, False), "blt": (BitTerms.slt, True), "bge": (BitTerms.slt, False),
    "bltu": (BitTerms.sltu, True), "bgeu": (BitTerms.sltu, False),
}
"""What is compared how, and whether the branch is taken where that holds."""
IMMEDIATES = {"addi": "add", "slti": "slt", "sltiu": "sltu", "xori": "xor", "ori": "or", "andi": "and",
              "slli": "sll", "srli": "srl", "srai": "sra"}
"""By the instruction with an immediate the one with a register; ``sltiu`` compares with the extended number's word."""


def _mulhsu(terms: BitTerms, a: BitTerm, b: BitTerm) -> BitTerm:
    """The high word of signed a times b as a word, which is 2**32 more than the signed b where that is negative."""
    return terms.add(terms.mulshr(a, b, 0, 32), terms.and_(terms.asr(b, 31), a))


OPERATIONS: dict[str, Callable[[BitTerms, BitTerm, BitTerm], BitTerm]] = {
    "add": BitTerms.add,
    "sub": BitTerms.sub,
    "sll": lambda terms, a, b: terms.shift("sllv", a, b),
    "slt": BitTerms.slt,
    "sltu": BitTerms.sltu,
    "xor": BitTerms.xor,
    "srl": lambda terms, a, b: terms.shift("srlv", a, b),
    "sra": lambda terms, a, b: terms.shift("srav", a, b),
    "or": BitTerms.or_,
    "and": BitTerms.and_,
    "mul": BitTerms.mul,
    "mulh": lambda terms, a, b: terms.mulshr(a, b, 0, 32),
    "mulhsu": _mulhsu,
    "mulhu": lambda terms, a, b: terms.mulshr(a, b, 0, 32, signed=False),
    "div": lambda terms, a, b: terms.divided("div", a, b),
    "divu": lambda terms, a, b: terms.divided("divu", a, b),
    "rem": lambda terms, a, b: terms.divided("rem", a, b),
    "remu": lambda terms, a, b: terms.divided("remu", a, b),
}


@dataclass(frozen=True)
class RiscvCode:
    """The instructions in ``flash``. Register 0 of a machine that runs them is the number 0."""

    flash: Flash
    stack_register: int = 2
    decoded: dict[int, Riscv] = field(default_factory=dict)
    permits: Permits = every

    def at(self, pc: int) -> Riscv:
        """The instruction at an address. Raises Undecided where there is none, or none that is known."""
        if pc not in self.decoded:
            first, second = self.flash.read(pc, 2), self.flash.read(pc + 2, 2)
            if pc & 1 or first is None or (first & 3 == 3 and second is None):
                raise Undecided(f"at {pc:#x}: no code")
            found = decode(first | (second or 0) << 16, pc)
            if not self.permits(found.name, found.size):
                raise Undecided(f"at {pc:#x}: the core has no {found.name} of {found.size} bytes")
            self.decoded[pc] = found
        return self.decoded[pc]

    def execute(self, machine: Processor) -> Branch | None:
        """One instruction; a branch that data decides is returned, and nothing changed.

        Raises Undecided, naming address and instruction, for what the terms cannot say.
        """
        pc = machine.pc
        instruction = self.at(pc)
        try:
            return _execute(machine, instruction)
        except Undecided as stop:
            raise Undecided(f"at {pc:#x} ({instruction.name}): {stop}") from None

    def successors(self, pc: int) -> tuple[int, ...]:
        """Where it can go on within the function: a call comes back, a jump to a register's address does not."""
        instruction = self.at(pc)
        following, target = pc + instruction.size, pc + instruction.imm
        if instruction.name in COMPARISONS:
            return following, target
        if instruction.name == "jal" and instruction.rd == 0:
            return (target,)
        return () if instruction.name == "jalr" and instruction.rd == 0 else (following,)


def _execute(machine: Processor, instruction: Riscv) -> Branch | None:
    terms, name, imm = machine.terms, instruction.name, instruction.imm
    a, b = machine.registers[instruction.rs1], machine.registers[instruction.rs2]
    following, target = machine.pc + instruction.size, machine.pc + imm
    if name in COMPARISONS:
        return _branch(machine, name, (a, b), (target, following))
    if name in STORES:
        machine.store(terms.addc(a, imm), STORES[name], b)
    elif name == "jalr":
        _put(machine, instruction.rd, terms.const(following))
        following = _jumped(terms.addc(a, imm))
    elif name == "jal":
        _put(machine, instruction.rd, terms.const(following))
        following = target
    else:
        _put(machine, instruction.rd, _result(machine, instruction, a, b))
    machine.pc = following
    return None


def _put(machine: Processor, register: int, term: BitTerm) -> None:
    if register:
        machine.registers[register] = term


def _result(machine: Processor, instruction: Riscv, a: BitTerm, b: BitTerm) -> BitTerm:
    terms, name, imm = machine.terms, instruction.name, instruction.imm
    if name in LOADS:
        return machine.load(terms.addc(a, imm), *LOADS[name])
    if name in ("lui", "auipc"):
        return terms.const(imm if name == "lui" else machine.pc + imm)
    if name in IMMEDIATES:
        return OPERATIONS[IMMEDIATES[name]](terms, a, terms.const(imm))
    return OPERATIONS[name](terms, a, b)


def _branch(machine: Processor, name: str, operands: tuple[BitTerm, BitTerm], ways: tuple[int, int]) -> Branch | None:
    """``ways``: the target of the branch and the instruction behind it."""
    compare, wanted = COMPARISONS[name]
    condition = compare(machine.terms, *operands)
    yes, no = ways if wanted else ways[::-1]
    if not condition.fixed:
        return Branch(condition, yes, no)
    machine.pc = yes if condition.par[0] else no
    return None


def _jumped(address: BitTerm) -> int:
    if not address.fixed:
        raise Undecided(f"a jump to {address}, which is no number")
    return address.par[0] & MASK & ~1
