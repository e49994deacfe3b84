"""The theorem of one build: its linked step gives what the Program gives, for all inputs and all states in the box."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ncpc.cores.core import Core
from ncpc.cores.elf import Image, function_at, read_elf
from ncpc.ir.program import Program
from ncpc.ir.types import Fixed
from ncpc.proofs.prove import Proof
from ncpc.semantics.run import Executor
from ncpc.sim.plan import CallInterface
from ncpc.sim.timing import Cycles
from ncpc.theorem.call import ABIS, RETURN, SAMPLES, Given, StepCall, call_of, given
from ncpc.theorem.cycles import meter_of
from ncpc.theorem.equality import Budget, Equality
from ncpc.theorem.flash import flash_of
from ncpc.theorem.instruction_sets import PERMITTED
from ncpc.theorem.machine import InstructionSet, Processor
from ncpc.theorem.reference import Reference, reference
from ncpc.theorem.riscv import RiscvCode
from ncpc.theorem.term import BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.thumb import ThumbCode
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.values import signed

Answer = Literal["proved", "differs", "undecided"]

CODES: Mapping[str, Callable[..., InstructionSet]] = {"riscv32": RiscvCode, "arm": ThumbCode}
DEEPEST, MOST_TERMS = 20_000, 250_000
"""How deep terms may be nested; how many there may be, of some 8 kB each."""
ASSUMPTIONS = (
    "instance, x, y and stack lie in RAM, aligned as their types are, apart from one another",
    "nothing else changes them during a step, and flash never changes",
    "every state is in its box before a step, as the range proof shows of all steps",
    "the core does what its manual says",
)
"""What a theorem rests on beside the reading of the code and of the Program, the rules of terms and the solver."""


@dataclass(frozen=True, eq=False)
class Counterexample:
    """Raw numbers by value with which the outcome ``what`` is ``got`` on the core and ``wanted`` in the Program."""

    raw: Mapping[str, NDArray[np.int64]]
    what: str
    got: int
    wanted: int


@dataclass(frozen=True, eq=False)
class Theorem:
    """What came out: ``shown`` of ``outcomes`` proved; ``why`` says where it stopped.

    A ``counterexample`` shows a difference. ``least`` and ``most`` are instructions on the shortest and longest way,
    ``cycles`` those on the cheapest and the dearest by the core's timing table (None: it has none), ``sites`` the
    branches that data decides as function+offset,
    ``stack_bytes`` the deepest store below the stack pointer; 0 where the code was not followed to its end. ``counts``
    are answers by how they were found. ``settled``: it hangs on no time, as something undecided for want of it would.
    """

    answer: Answer
    outcomes: int = 0
    shown: int = 0
    why: str = ""
    counterexample: Counterexample | None = None
    least: int = 0
    most: int = 0
    sites: tuple[str, ...] = ()
    stack_bytes: int = 0
    terms: int = 0
    counts: Mapping[str, int] | None = None
    cycles: Cycles | None = None
    settled: bool = True


@dataclass(frozen=True)
class Effect:
    """One thing that a step leaves: what it is, what the code makes of it, what the Program says."""

    what: str
    got: BitTerm
    wanted: BitTerm


def prove_step(
    elf: bytes, core: Core, interface: CallInterface, program: Program, proof: Proof, budget: Budget
) -> Theorem:
    """Whether the step in ``elf`` is the Program; ``proof`` is its range proof, whose intervals are relied on."""
    if core.arch not in CODES:
        return Theorem("undecided", why=f"the instructions of {core.name} are not read as terms")
    try:
        with _deep():
            found = _step_proved(elf, core, interface, program, proof, budget)
    except RecursionError:
        found = Theorem("undecided", why=f"terms are nested more than {DEEPEST:,} deep")
    return replace(found, settled=found.answer != "undecided" or not budget.late)


@contextmanager
def _deep() -> Iterator[None]:
    """Room for terms that are nested deeply."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(DEEPEST, before))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _step_proved(
    elf: bytes, core: Core, interface: CallInterface, program: Program, proof: Proof, budget: Budget
) -> Theorem:
    image = read_elf(elf)
    terms = BitTerms(SAMPLES, flash_of(image))

    def check() -> None:
        budget.check()
        if len(terms.nodes) > MOST_TERMS:
            raise Undecided(f"more than {MOST_TERMS:,} terms")

    def counted(term: BitTerm) -> BitTerm:
        check()
        return term

    terms.on_new = counted
    try:
        have = given(terms, program)
        wanted = reference(terms, program, proof.intervals, have.grids)
        _require_semantics(program, have, wanted)
        call = call_of(terms, core, interface, program, have)
    except Undecided as reason:
        return Theorem("undecided", why=str(reason), terms=len(terms.nodes))
    equality = Equality(terms, budget)
    equality.watch()
    code = CODES[core.arch](terms.flash, permits=PERMITTED[core.isa])
    start = image.address(interface.step)
    meter = meter_of(core, terms.flash)
    machine = Processor(terms, code, list(call.registers), call.memory, start, check=check,
                        meter=None if meter is None else meter.between, never=equality.never)
    try:
        machine.run(RETURN)
        outcomes = list(_outcomes(core, program, call, wanted, machine))
    except Undecided as reason:
        why = f"after {machine.most:,} instructions: {reason}"
        return Theorem("undecided", why=why, terms=len(terms.nodes), counts=dict(equality.counts))
    found = _compared(equality, have, machine, outcomes)
    return replace(found, cycles=None if meter is None else machine.cycles, sites=_sites(image, machine.sites))


def _require_semantics(program: Program, have: Given, wanted: Reference) -> None:
    """The Program's terms against ``ncpc.semantics``, on all samples. Raises Undecided where they differ."""
    executor = Executor(program)
    executor.reset(SAMPLES)
    executor.load({state.inp.name: have.raw[state.inp.name].reshape(SAMPLES, *state.inp.shape)
                   for state in program.states})
    dt = None if program.dt is None else have.raw[program.dt.value.name][:, 0]
    y, after, flags = executor.step(have.raw[program.x.value.name], dt)
    pairs = [(wanted.y, y), (np.array([wanted.flags], object), flags[:, None]),
             *((wanted.states[s.inp.name], a) for s, a in zip(program.states, after, strict=True))]
    for grid, numbers in pairs:
        for i, term in enumerate(grid):
            if not (signed(term.sample) == numbers.reshape(SAMPLES, -1)[:, i]).all():
                raise Undecided(f"{term.name or term} as read of the Program is not what its semantics gives")


def _outcomes(core: Core, program: Program, call: StepCall, wanted: Reference, machine: Processor) -> Iterator[Effect]:
    """States, outputs, the status word, the registers that are kept, the stack pointer."""
    abi, terms, memory = ABIS[core.arch], machine.terms, machine.memory

    def read(region: str, offset: int, size: int, is_signed: bool) -> BitTerm:
        return memory.load(terms.addc(call.bases[region], offset), size, is_signed)

    places = iter(call.places.states)
    for state in program.states:
        for i, term in enumerate(wanted.states[state.inp.name]):
            yield Effect(f"{state.inp.name}[{i}]", read("s", *next(places), _is_signed(state.inp.type)), term)
    size, kind = call.places.y, program.y.value.type
    for i, term in enumerate(wanted.y):
        yield Effect(f"y[{i}]", read("y", size * i, size, _is_signed(kind)), term)
    yield Effect("status word", machine.registers[abi.arguments[0]], wanted.flags)
    for register, term in call.kept.items():
        yield Effect(f"kept register {register}", machine.registers[register], term)
    yield Effect("stack pointer", machine.registers[abi.stack], call.registers[abi.stack])


def _is_signed(kind: object) -> bool:
    return not isinstance(kind, Fixed) or kind.signed


def _compared(equality: Equality, have: Given, machine: Processor, outcomes: list[Effect]) -> Theorem:
    """Every outcome. One sample that differs is enough."""
    shown, why, counterexample = 0, "", None
    try:
        for one in outcomes:
            if one.got is one.wanted or equality.equal(one.got, one.wanted):
                shown += 1
            else:
                counterexample = counterexample or _counterexample(have, one)
                why = why or _unshown(equality, one)
    except Undecided as reason:
        why = why or str(reason)
    if counterexample is not None:
        why = f"{counterexample.what} is {counterexample.got} on the core and {counterexample.wanted} in the Program"
    answer: Answer = "differs" if counterexample else "proved" if shown == len(outcomes) else "undecided"
    stack = -machine.memory.lowest.get("stack", 0)
    return Theorem(answer, len(outcomes), shown, why, counterexample, machine.least, machine.most,
                   stack_bytes=stack, terms=len(machine.terms.nodes), counts=dict(equality.counts))


def _sites(image: Image, addresses: Iterable[int]) -> tuple[str, ...]:
    """Places in the code, by the functions they lie in."""
    return tuple(_place(image, address) for address in sorted(addresses))


def _place(image: Image, address: int) -> str:
    number = function_at(image.functions, address)
    if number < 0:
        return f"{address:#x}"
    function = image.functions[number]
    return f"{function.name}+{address - function.address:#x}"


def _counterexample(have: Given, outcome: Effect) -> Counterexample | None:
    bad = np.flatnonzero(outcome.got.sample != outcome.wanted.sample)
    if not bad.size:
        return None
    got, wanted = (int(signed(term.sample)[bad[0]]) for term in (outcome.got, outcome.wanted))
    return Counterexample({name: numbers[bad[0]] for name, numbers in have.raw.items()}, outcome.what, got, wanted)


def _unshown(equality: Equality, outcome: Effect) -> str:
    """The first term of the Program that no term of the code was shown to be, though they agree on all samples."""
    first = f"; first at {equality.apart[0][1].name}" if equality.apart else ""
    return f"{outcome.what} agrees on all {SAMPLES} samples and is not shown to be equal{first}"
