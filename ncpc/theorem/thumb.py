"""What Thumb instructions do to a processor on terms (Armv7-M Architecture Reference Manual, DDI 0403E, A7.7)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ncpc.theorem import thumb_flags as flags
from ncpc.theorem import thumb_operations as operations
from ncpc.theorem.flash import Flash
from ncpc.theorem.instruction_sets import Permits, every
from ncpc.theorem.machine import Branch, Processor
from ncpc.theorem.term import BitTerm
from ncpc.theorem.thumb_decode import decode, is_wide
from ncpc.theorem.thumb_encoding import ALWAYS, LR, PC, SP, ThumbInstruction
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.values import MASK

ACCESSES = {"str": (4, False), "strh": (2, False), "strb": (1, False), "ldr": (4, False), "ldrh": (2, False),
            "ldrb": (1, False), "ldrsh": (2, True), "ldrsb": (1, True)}
"""Bytes, and whether what is loaded is signed."""
SEVERAL = {"ldm": (True, False), "pop": (True, False), "ldmdb": (True, True), "stm": (False, False),
           "stmdb": (False, True), "push": (False, True)}
"""Whether it loads, and whether it begins below the base."""
SUMS = ("add", "cmn", "sub", "cmp", "rsb", "adc", "sbc")
LOGIC = ("and", "tst", "eor", "teq", "orr", "bic", "orn", "mov", "movs", "mvn")
SHIFTS = ("lsl", "lsr", "asr", "ror")
FIELDS = ("ubfx", "sbfx", "bfi", "bfc", "ssat", "usat", "ssat16", "usat16")
UNCONDITIONAL = ("it", "cbz", "cbnz", "movs")
"""Not allowed in an IT block; nor is a branch with its own condition."""
Guard = tuple[BitTerm, bool]
"""A term, and whether the instruction has effect where it is 1; otherwise where it is 0."""


@dataclass(frozen=True)
class ThumbCode:
    """The instructions in ``flash``. Behind a machine's core registers are those of ``thumb_flags``, BLOCK being 0.

    ``blocks``: the addresses that are known to be in an IT block.
    """

    flash: Flash
    stack_register: int = SP
    decoded: dict[int, ThumbInstruction] = field(default_factory=dict)
    blocks: set[int] = field(default_factory=set)
    permits: Permits = every

    def at(self, pc: int) -> ThumbInstruction:
        """The instruction at an address. Raises Undecided where there is none, or none that is known."""
        if pc not in self.decoded:
            first, second = self.flash.read(pc, 2), self.flash.read(pc + 2, 2)
            if pc & 1 or first is None or (is_wide(first) and second is None):
                raise Undecided(f"at {pc:#x}: no code")
            found = decode(first << 16 | (second or 0) if is_wide(first) else first, pc)
            if not self.permits(found.name, found.size):
                raise Undecided(f"at {pc:#x}: the core has no {found.name} of {found.size} bytes")
            self.decoded[pc] = found
            if found.name == "it":
                self._mark(found)
        return self.decoded[pc]

    def _mark(self, it: ThumbInstruction) -> None:
        pc, state = it.address + it.size, it.imm or 0
        while state & 15:
            self.blocks.add(pc)
            pc, state = pc + self.at(pc).size, advanced(state)

    def execute(self, machine: Processor) -> Branch | None:
        """One instruction; of a branch that data decides nothing but the end of its IT block is done.

        Raises Undecided, naming address and instruction, for what the terms cannot say.
        """
        instruction = self.at(machine.pc)
        try:
            return self._execute(machine, instruction)
        except Undecided as stop:
            raise Undecided(f"at {instruction.address:#x} ({instruction.name}): {stop}") from None

    def _execute(self, machine: Processor, i: ThumbInstruction) -> Branch | None:
        state = _block(machine)
        if bool(state & 15) != (i.address in self.blocks):
            raise Undecided("a jump into an IT block")
        if state & 15:
            _require_allowed(i, last=state & 15 == 8)
            machine.registers[flags.BLOCK] = machine.terms.const(advanced(state))
        condition = state >> 4 if state & 15 else i.condition
        guard = flags.holds(machine, condition) if condition != ALWAYS else None
        if guard is not None and guard[0].fixed:
            if bool(guard[0].par[0]) != guard[1]:
                machine.pc = i.address + i.size
                return None
            guard = None
        return _perform(machine, i) if guard is None else _guarded(machine, i, guard)

    def successors(self, pc: int) -> tuple[int, ...]:
        """Where it can go on within the function: a call comes back, a jump to a register's address does not."""
        i = self.at(pc)
        following = pc + i.size
        if i.name in ("cbz", "cbnz") or (i.name == "b" and (i.condition != ALWAYS or pc in self.blocks)):
            return following, i.target
        if i.name == "b":
            return (i.target,)
        leaves = i.name in ("bx", "tbb", "tbh") or i.t == PC or PC in i.listed
        return () if leaves and pc not in self.blocks else (following,)


def advanced(state: int) -> int:
    """A7.3.3, ITAdvance."""
    return (state & 0xE0) | (state << 1 & 0x1F) if state & 7 else 0


def _block(machine: Processor) -> int:
    state = machine.registers[flags.BLOCK]
    if not state.fixed:
        raise Undecided("two ways meet, one of them within an IT block")
    return state.par[0]


def _require_allowed(i: ThumbInstruction, last: bool) -> None:
    jumps = i.name in ("b", "bl", "bx", "blx", "tbb", "tbh") or i.t == PC or PC in i.listed
    if i.name in UNCONDITIONAL or (i.name == "b" and i.condition != ALWAYS) or (jumps and not last):
        raise Undecided("an instruction that may not stand there in an IT block")


def _guarded(machine: Processor, i: ThumbInstruction, guard: Guard) -> Branch | None:
    """An instruction that data lets have effect or not: a branch, or each register as it would be or as it was."""
    condition, wanted = guard
    following = i.address + i.size
    if i.name == "b":
        return Branch(condition, *((i.target, following) if wanted else (following, i.target)))
    if i.name in ("bl", "bx", "blx", "tbb", "tbh") or i.t == PC or PC in i.listed:
        raise Undecided("a call or return that data decides")
    before = list(machine.registers)
    _perform(machine, i, guard)
    machine.registers[:] = [_chosen(machine, guard, new, old)
                            for new, old in zip(machine.registers, before, strict=True)]
    return None


def _chosen(machine: Processor, guard: Guard, new: BitTerm, old: BitTerm) -> BitTerm:
    condition, wanted = guard
    return machine.terms.ite(condition, *((new, old) if wanted else (old, new)))


# ---------------------------------------------------------------------- registers
def _put(machine: Processor, register: int | None, term: BitTerm) -> None:
    assert register is not None
    assert register != PC
    if register == SP:
        place = machine.memory.place(term)
        if place is None or place[1] % 4 or place[0].alignment < 4:
            raise Undecided(f"the stack pointer becomes {term}, which is no place for a word")
    machine.registers[register] = term


def _get(machine: Processor, register: int | None) -> BitTerm:
    """A register; PC as an aligned base of an address."""
    assert register is not None
    return machine.terms.const((machine.pc + 4) & ~3) if register == PC else machine.registers[register]


def _second(machine: Processor, i: ThumbInstruction) -> BitTerm:
    """The second operand."""
    terms = machine.terms
    if i.m is None:
        return terms.const(i.imm or 0)
    x = _get(machine, i.m)
    return (operations.shifted(terms, x, *i.shift) if i.shift[0] != "rrx"
            else terms.lin([(terms.srl(x, 1), 1), (flags.carry(machine), 1 << 31)]))


def _sets(machine: Processor, i: ThumbInstruction) -> bool:
    """Whether it sets flags; ``BLOCK`` has already gone on, so an address tells whether it was in a block."""
    if i.sets != "outside":
        return i.sets == "always"
    assert isinstance(machine.code, ThumbCode)
    return i.address not in machine.code.blocks


# ---------------------------------------------------------------------- instructions
def _perform(machine: Processor, i: ThumbInstruction, guard: Guard | None = None) -> Branch | None:
    """The instruction, and ``pc`` to where it goes on; ``guard`` concerns what it stores."""
    following = i.address + i.size
    if i.name in ("b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh"):
        return _jump(machine, i, following)
    loaded = None
    if i.name in SEVERAL:
        loaded = _several(machine, i, guard)
    elif i.t is not None:
        loaded = _access(machine, i, guard)
    elif i.name == "it":
        machine.registers[flags.BLOCK] = machine.terms.const(i.imm or 0)
    elif i.name != "nop":
        _compute(machine, i)
    machine.pc = following if loaded is None else _thumb_address(loaded)
    return None


def _thumb_address(term: BitTerm) -> int:
    """Where a jump to a register's value goes; bit 0 says that the code there is Thumb."""
    if not term.fixed or not term.par[0] & 1:
        raise Undecided(f"a jump to {term}, which is no address of Thumb code")
    return term.par[0] & MASK & ~1


def _jump(machine: Processor, i: ThumbInstruction, following: int) -> Branch | None:
    terms, target = machine.terms, i.target
    if i.name in ("cbz", "cbnz"):
        zero = terms.eq(_get(machine, i.n), terms.const(0))
        yes, no = (target, following) if i.name == "cbz" else (following, target)
        if not zero.fixed:
            return Branch(zero, yes, no)
        target = yes if zero.par[0] else no
    if i.name in ("bx", "blx"):
        target = _thumb_address(_get(machine, i.m))
    if i.name in ("tbb", "tbh"):
        target = _from_table(machine, i)
    if i.name in ("bl", "blx"):
        machine.registers[LR] = terms.const(following | 1)
    machine.pc = target
    return None


def _from_table(machine: Processor, i: ThumbInstruction) -> int:
    terms, size = machine.terms, 1 if i.name == "tbb" else 2
    base = terms.const(i.address + 4) if i.n == PC else _get(machine, i.n)
    entry = machine.load(terms.lin([(base, 1), (_get(machine, i.m), size)]), size, False)
    if not entry.fixed:
        raise Undecided("a table of jumps at an index that varies")
    return i.address + 4 + 2 * entry.par[0]


def _access(machine: Processor, i: ThumbInstruction, guard: Guard | None) -> BitTerm | None:
    """A load or store of one or two words or less; what is loaded to PC is returned."""
    terms, base = machine.terms, _get(machine, i.n)
    offset = terms.const(i.imm or 0) if i.m is None else operations.shifted(terms, _get(machine, i.m), *i.shift)
    total = terms.add(base, offset)
    at = total if i.index else base
    size, signed = ACCESSES.get(i.name, (4, False))
    targets = [i.t] if i.a is None else [i.t, i.a]
    stores = i.name.startswith("st")
    loaded = [] if stores else [machine.load(terms.addc(at, 4 * k), size, signed) for k in range(len(targets))]
    if i.wback and i.index:  # as a push: there is room before it is used
        _put(machine, i.n, total)
    for k, register in enumerate(targets if stores else ()):
        _store(machine, terms.addc(at, 4 * k), size, _get(machine, register), guard)
    if i.wback and not i.index:
        _put(machine, i.n, total)
    return _put_loaded(machine, targets, loaded)


def _put_loaded(machine: Processor, registers: list[int | None], loaded: list[BitTerm]) -> BitTerm | None:
    """What is loaded to PC, if anything is."""
    jump = None
    for register, term in zip(registers, loaded, strict=False):
        if register == PC:
            jump = term
        else:
            _put(machine, register, term)
    return jump


def _store(machine: Processor, address: BitTerm, size: int, term: BitTerm, guard: Guard | None) -> None:
    if guard is not None:
        term = _chosen(machine, guard, term, machine.load(address, size, False))
    machine.store(address, size, term)


def _several(machine: Processor, i: ThumbInstruction, guard: Guard | None) -> BitTerm | None:
    """Registers in ascending order at ascending addresses; what is loaded to PC is returned."""
    terms, base = machine.terms, _get(machine, i.n)
    loads, below = SEVERAL[i.name]
    change = (-4 if below else 4) * len(i.listed)
    addresses = [terms.addc(base, 4 * k + (change if below else 0)) for k in range(len(i.listed))]
    loaded = [machine.load(address, 4, False) for address in addresses] if loads else []
    stored = [] if loads else [_get(machine, register) for register in i.listed]
    if i.wback and below:  # a push: there is room before it is used
        _put(machine, i.n, terms.addc(base, change))
    for address, term in zip(addresses, stored, strict=False):
        _store(machine, address, 4, term, guard)
    if i.wback and not below:
        _put(machine, i.n, terms.addc(base, change))
    return _put_loaded(machine, list(i.listed), loaded)


def _compute(machine: Processor, i: ThumbInstruction) -> None:
    """What changes registers and flags alone."""
    if i.name in SUMS:
        _sum(machine, i)
    elif i.name in LOGIC:
        _logic(machine, i)
    elif i.name in operations.LONG:
        n, m, low, high = (_get(machine, r) for r in (i.n, i.m, i.a, i.d))
        low, high = operations.LONG[i.name](machine.terms, n, m, (low, high))
        _put(machine, i.a, low)
        _put(machine, i.d, high)
    else:
        result = _result(machine, i)
        _put(machine, i.d, result)
        if i.name in (*SHIFTS, "mul") and _sets(machine, i):
            flags.set_by_result(machine, result)
            if i.name != "mul":
                flags.forget_carry(machine)


def _sum(machine: Processor, i: ThumbInstruction) -> None:
    terms, a, b = machine.terms, _get(machine, i.n), _second(machine, i)
    sets = _sets(machine, i)
    if i.name == "sbc" and not sets and (high := flags.high_difference(machine, a, b)) is not None:
        result = high
    elif i.name in ("adc", "sbc"):
        result = _with_carry(machine, a, b if i.name == "adc" else terms.lin([(b, -1)], -1), sets)
    elif i.name in ("add", "cmn"):
        result = terms.add(a, b)
        if sets:
            flags.set_by_sum(machine, a, b)
    else:
        a, b = (b, a) if i.name == "rsb" else (a, b)
        result = terms.sub(a, b)
        if sets:
            flags.set_by_difference(machine, a, b)
    if i.d is not None:
        _put(machine, i.d, result)


def _with_carry(machine: Processor, a: BitTerm, b: BitTerm, sets: bool) -> BitTerm:
    """a + b + C; of the two sums at most one carries."""
    terms, carry = machine.terms, flags.carry(machine)
    part = terms.add(a, b)
    total = terms.add(part, carry)
    if sets:
        out = terms.add(terms.sltu(part, a), terms.sltu(total, carry))
        flags.set_bits(machine, total, out, flags.overflow_of_sum(machine, a, b, total))
    return total


def _logic(machine: Processor, i: ThumbInstruction) -> None:
    terms, b = machine.terms, _second(machine, i)
    if i.name in ("bic", "orn", "mvn"):
        b = terms.lin([(b, -1)], -1)
    result = b
    if i.name not in ("mov", "movs", "mvn"):
        kind = {"and": terms.and_, "tst": terms.and_, "bic": terms.and_, "eor": terms.xor, "teq": terms.xor}
        result = kind.get(i.name, terms.or_)(_get(machine, i.n), b)
    if _sets(machine, i) and i.m is not None and i.shift[1]:
        flags.set_by_shift(machine, result, _get(machine, i.m), operations.carried_place(*i.shift))
    elif _sets(machine, i):
        flags.set_by_result(machine, result, None if i.carry is None else terms.const(i.carry))
    if i.d is not None:
        _put(machine, i.d, result)


def _result(machine: Processor, i: ThumbInstruction) -> BitTerm:
    """Of what neither reads nor sets flags, but for what a product or a shift leaves in N and Z."""
    terms, name = machine.terms, i.name
    if name in ("movw", "adr"):
        return terms.const(i.imm or 0) if name == "movw" else terms.addc(_get(machine, PC), i.imm or 0)
    if name == "movt":
        return terms.lin([(operations.field(terms, _get(machine, i.d), 0, 16), 1)], (i.imm or 0) << 16)
    if name in FIELDS:
        return _field_or_limited(machine, i)
    m = _get(machine, i.m)
    if name in ("pkhbt", "pkhtb"):
        low, top = _get(machine, i.n), operations.shifted(terms, m, *i.shift)
        return operations.joined(terms, low, terms.asr(top, 16)) if name == "pkhbt" else \
            operations.joined(terms, top, terms.asr(low, 16))
    if name in operations.BITS or "xta" in name:
        return _extended(machine, i, operations.shifted(terms, m, *i.shift))
    n = _get(machine, i.n)
    if name in SHIFTS:
        return operations.shifted_by(terms, name, n, m)
    if name in operations.FULL_SUMS:
        return operations.FULL_SUMS[name](terms, m, n)
    if name in operations.WITH_ADDEND:
        return operations.WITH_ADDEND[name](terms, n, m, _get(machine, i.a))
    return operations.ALONE[name](terms, n, m)


def _extended(machine: Processor, i: ThumbInstruction, x: BitTerm) -> BitTerm:
    """A function of the bits of one word; an extension may be added to a word, or by halves to its halves."""
    terms = machine.terms
    if i.n is None:
        return operations.BITS[i.name](terms, x)
    part, n = operations.BITS[i.name.replace("xta", "xt")](terms, x), _get(machine, i.n)
    if not i.name.endswith("16"):
        return terms.add(n, part)
    return operations.joined(terms, terms.add(n, part),
                             terms.add(operations.half(terms, n, 1), operations.half(terms, part, 1)))


def _field_or_limited(machine: Processor, i: ThumbInstruction) -> BitTerm:
    terms, name, span = machine.terms, i.name, (i.lsb, i.width)
    if name == "bfc":
        return operations.cleared(terms, _get(machine, i.d), *span)
    n = _get(machine, i.n)
    if name == "bfi":
        return operations.inserted(terms, _get(machine, i.d), n, *span)
    if name in ("ubfx", "sbfx"):
        return (operations.field if name == "ubfx" else operations.signed_field)(terms, n, *span)
    limit = operations.limited_halves if name.endswith("16") else operations.limited
    return limit(terms, operations.shifted(terms, n, *i.shift), i.width, name.startswith("s"))
