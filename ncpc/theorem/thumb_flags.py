"""The flags of Thumb code, as what they were set by: from that a condition is one comparison, not bits of a sum.

A processor's ``registers`` hold behind the core registers for N and Z, for C and for V a record each: its kind, a
number, and two operands. So flags that two ways set alike meet as any register does. Where they were set by different
kinds, the kind is no number any more, and a condition that reads them is undecided.
"""

from __future__ import annotations

from ncpc.theorem.machine import Processor
from ncpc.theorem.term import LEAST, MOST, BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided

NZ, C, V = 16, 19, 22
"""The first of three registers of each record."""
BLOCK = 25
"""ITSTATE, a number: 0 outside of IT blocks (Armv7-M Architecture Reference Manual, A7.3.3)."""
REGISTERS = 26

UNKNOWN, RESULT, BIT, SUM, DIFFERENCE, BIT_OF = range(6)
"""Kinds: not modelled; N and Z of the first operand; the first operand itself; of the sum; of the difference; the bit
of the first operand whose place is the second one, a number. Few carries of shifts are ever read, and what is not made
is compared with nothing.
"""


def _set(machine: Processor, record: int, kind: int, *operands: BitTerm) -> None:
    nothing = machine.terms.const(0)
    machine.registers[record : record + 3] = [machine.terms.const(kind), *operands, nothing, nothing][:3]


def set_by_difference(machine: Processor, a: BitTerm, b: BitTerm) -> None:
    """All flags, of a - b."""
    for record in (NZ, C, V):
        _set(machine, record, DIFFERENCE, a, b)


def set_by_sum(machine: Processor, a: BitTerm, b: BitTerm) -> None:
    """All flags, of a + b. Adding a number is subtracting its opposite, flags included, but for 0 and -2**31."""
    for x, y in ((a, b), (b, a)):
        if y.fixed and y.par[0] not in (0, LEAST):
            set_by_difference(machine, x, machine.terms.const(-y.par[0]))
            return
    _set(machine, NZ, RESULT, machine.terms.add(a, b))
    _set(machine, C, SUM, a, b)
    _set(machine, V, SUM, a, b)


def set_by_result(machine: Processor, result: BitTerm, carry: BitTerm | None = None) -> None:
    """N and Z, and C where a carry is told; the others stay."""
    _set(machine, NZ, RESULT, result)
    if carry is not None:
        _set(machine, C, BIT, carry)


def set_by_shift(machine: Processor, result: BitTerm, x: BitTerm, place: int) -> None:
    """N and Z, and C as a bit of what was shifted."""
    _set(machine, NZ, RESULT, result)
    _set(machine, C, BIT_OF, x, machine.terms.const(place))


def forget_carry(machine: Processor) -> None:
    """C is set to what is not modelled."""
    _set(machine, C, UNKNOWN)


def set_bits(machine: Processor, result: BitTerm, carry: BitTerm, overflow: BitTerm) -> None:
    """All flags, C and V as 0 or 1."""
    set_by_result(machine, result, carry)
    _set(machine, V, BIT, overflow)


def _record(machine: Processor, record: int) -> tuple[int, BitTerm, BitTerm]:
    kind, a, b = machine.registers[record : record + 3]
    if not kind.fixed or kind.par[0] == UNKNOWN:
        raise Undecided("flags that are not known, or were set by different instructions")
    return kind.par[0], a, b


def negative(machine: Processor) -> BitTerm:
    """N."""
    kind, a, b = _record(machine, NZ)
    terms = machine.terms
    return terms.slt(terms.sub(a, b) if kind == DIFFERENCE else a, terms.const(0))


def zero(machine: Processor) -> BitTerm:
    """Z."""
    kind, a, b = _record(machine, NZ)
    return machine.terms.eq(a, b if kind == DIFFERENCE else machine.terms.const(0))


def carry(machine: Processor) -> BitTerm:
    """C; of a difference, that nothing was borrowed."""
    kind, a, b = _record(machine, C)
    terms = machine.terms
    if kind == DIFFERENCE:
        return terms.xor(terms.sltu(a, b), terms.const(1))
    if kind == BIT_OF:
        return _bit_of(terms, a, b)
    return terms.sltu(terms.add(a, b), a) if kind == SUM else a


def _bit_of(terms: BitTerms, a: BitTerm, place: BitTerm) -> BitTerm:
    if not place.fixed:
        raise Undecided("a carry of shifts by different numbers")
    return terms.and_(terms.srl(a, place.par[0]), terms.const(1))


def overflow(machine: Processor) -> BitTerm:
    """V: the sign of a sum is that of neither operand; of a difference, not what comparing says."""
    kind, a, b = _record(machine, V)
    terms = machine.terms
    if kind == DIFFERENCE:
        return terms.xor(terms.slt(a, b), terms.slt(terms.sub(a, b), terms.const(0)))
    return overflow_of_sum(machine, a, b, terms.add(a, b)) if kind == SUM else a


def overflow_of_sum(machine: Processor, a: BitTerm, b: BitTerm, total: BitTerm) -> BitTerm:
    """1 where the signed a + b is not ``total``."""
    terms = machine.terms
    return terms.srl(terms.and_(terms.xor(a, total), terms.xor(b, total)), 31)


def high_difference(machine: Processor, a: BitTerm, b: BitTerm) -> BitTerm | None:
    """a - b less what the difference before borrowed, where a and b are the signs of what was subtracted: then it is
    the high word of the difference of two words as 64 bits. None where they are not.
    """
    kind, x, y = _record(machine, C)
    terms = machine.terms
    if kind != DIFFERENCE or terms.asr(x, 31) is not a or terms.asr(y, 31) is not b:
        return None
    if x.lo - y.hi >= LEAST and x.hi - y.lo <= MOST:
        return terms.asr(terms.sub(x, y), 31)
    return terms.lin([(terms.slt(x, y), -1)])


def holds(machine: Processor, condition: int) -> tuple[BitTerm, bool]:
    """A term of 0 or 1, and whether the condition (A7.3.1, not AL) holds where it is 1; otherwise where it is 0."""
    test = (_zero, _carry, _negative, _overflow, _higher, _not_less, _greater)[condition >> 1]
    term, sense = test(machine)
    return term, sense != bool(condition & 1)


def _zero(machine: Processor) -> tuple[BitTerm, bool]:
    return zero(machine), True


def _carry(machine: Processor) -> tuple[BitTerm, bool]:
    kind, a, b = _record(machine, C)
    return (machine.terms.sltu(a, b), False) if kind == DIFFERENCE else (carry(machine), True)


def _negative(machine: Processor) -> tuple[BitTerm, bool]:
    return negative(machine), True


def _overflow(machine: Processor) -> tuple[BitTerm, bool]:
    return overflow(machine), True


def _compared(machine: Processor, other: int) -> tuple[BitTerm, BitTerm] | None:
    """The operands, where N, Z and another flag are of the same difference."""
    kind, a, b = _record(machine, NZ)
    return (a, b) if kind == DIFFERENCE and (kind, a, b) == _record(machine, other) else None


def _higher(machine: Processor) -> tuple[BitTerm, bool]:
    terms = machine.terms
    if (pair := _compared(machine, C)) is not None:
        return terms.sltu(pair[1], pair[0]), True
    return terms.and_(carry(machine), terms.xor(zero(machine), terms.const(1))), True


def _not_less(machine: Processor) -> tuple[BitTerm, bool]:
    terms = machine.terms
    if (pair := _compared(machine, V)) is not None:
        return terms.slt(*pair), False
    return terms.xor(negative(machine), overflow(machine)), False


def _greater(machine: Processor) -> tuple[BitTerm, bool]:
    terms = machine.terms
    if (pair := _compared(machine, V)) is not None:
        return terms.slt(pair[1], pair[0]), True
    return terms.or_(zero(machine), terms.xor(negative(machine), overflow(machine))), False
