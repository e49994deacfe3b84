"""A processor on terms: it goes one way where no data decides, and both ways, to where they meet, where data does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from ncpc.sim.timing import NONE, Cycles, either
from ncpc.theorem.memory import Ram, RamRegion, merged
from ncpc.theorem.term import BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.ways import Never, arms, joined, put_in_place, within_flash

MOST_INSTRUCTIONS = 1_000_000


@dataclass(frozen=True)
class Branch:
    """Where it goes on by ``condition``: to ``taken`` where that is not 0, else to ``fallen``."""

    condition: BitTerm
    taken: int
    fallen: int


class InstructionSet(Protocol):
    """What a processor's instructions do."""

    @property
    def stack_register(self) -> int: ...

    def execute(self, machine: Processor) -> Branch | None:
        """The instruction at ``machine.pc``, and ``machine.pc`` to the next one; a branch on data is only told.

        Raises Undecided for what it does not know.
        """
        ...

    def successors(self, pc: int) -> tuple[int, ...]:
        """Where it can go on within a function: behind a call where that returns; nowhere from a return."""
        ...


@dataclass
class Processor:
    """``registers`` are all that an instruction can change beside ``memory`` and ``pc``, flags too.

    ``least`` and ``most`` count instructions on the shortest and the longest way here; ``cycles``, by ``meter`` from an
    instruction to the next, those of the cheapest and the dearest. ``sites`` are the branches that data decides,
    ``way`` the conditions of those whose arms it is in; ``never`` tells whether one is shown to hold never.
    """

    terms: BitTerms
    code: InstructionSet
    registers: list[BitTerm]
    memory: Ram
    pc: int
    least: int = 0
    most: int = 0
    sites: set[int] = field(default_factory=set)
    joins: dict[int, int] = field(default_factory=dict)
    check: Callable[[], None] | None = None
    meter: Callable[[int, int], Cycles] | None = None
    cycles: Cycles = NONE
    never: Never | None = None
    way: tuple[BitTerm, ...] = ()

    def run(self, stop: int) -> None:
        """Up to the address ``stop``. Raises Undecided, naming the instruction, where it cannot go on."""
        while self.pc != stop:
            self._step()

    def _step(self) -> None:
        if self.most > MOST_INSTRUCTIONS:
            raise Undecided(f"more than {MOST_INSTRUCTIONS:,} instructions a step")
        if self.check is not None:
            self.check()
        self.least, self.most = self.least + 1, self.most + 1
        stack, pc = self.registers[self.code.stack_register], self.pc
        branch = self.code.execute(self)
        if self.registers[self.code.stack_register] is not stack:
            self.memory.forget_below(*self._stack())
        if branch is not None:
            self._both(branch)
        else:
            self.cycles += self._cycles(pc, self.pc)

    def _cycles(self, pc: int, following: int) -> Cycles:
        return NONE if self.meter is None else self.meter(pc, following)

    def load(self, address: BitTerm, size: int, signed: bool) -> BitTerm:
        """From memory."""
        self._require_held(address)
        if self.never is not None and not address.fixed and self.memory.place(address) is None:
            address = within_flash(self.terms, address, size, self.way, self.never)
        return self.memory.load(address, size, signed)

    def store(self, address: BitTerm, size: int, term: BitTerm) -> None:
        """To memory."""
        self._require_held(address)
        self.memory.store(address, size, term)

    def _require_held(self, address: BitTerm) -> None:
        """What lies below the stack pointer an interrupt may change."""
        place = self.memory.place(address)
        if place is not None and (region := self._stack())[0] is place[0] and place[1] < region[1]:
            raise Undecided("an access below the stack pointer")

    def _stack(self) -> tuple[RamRegion, int]:
        place = self.memory.place(self.registers[self.code.stack_register])
        if place is None:
            raise Undecided("the stack pointer is not a place of the stack")
        return place

    def _both(self, branch: Branch) -> None:
        """Either arm to where they meet, and there what each made of everything, by the condition."""
        self.sites.add(self.pc)
        join, c = self._join(), branch.condition
        yes, no = (self._arm(start, join, holds, words) for start, (holds, words) in
                   zip((branch.taken, branch.fallen), arms(self.terms, c), strict=True))
        self.registers = [joined(self.terms, c, a, b, self.never)
                          for a, b in zip(yes.registers, no.registers, strict=True)]
        self.memory = merged(c, yes.memory, no.memory)
        self.least, self.most = min(yes.least, no.least), max(yes.most, no.most)
        self.cycles, self.pc = either(yes.cycles, no.cycles), join

    def _arm(self, start: int, join: int, holds: BitTerm, words: dict[BitTerm, BitTerm]) -> Processor:
        """Gone to the join where the condition ``holds``, under which ``words`` are those that they stand for."""
        arm = replace(self, registers=list(self.registers), memory=self.memory.copy(), pc=start,
                      cycles=self.cycles + self._cycles(self.pc, start), way=(*self.way, holds))
        put_in_place(words, arm.registers, arm.memory)
        arm.run(join)
        put_in_place({new: old for old, new in words.items()}, arm.registers, arm.memory)
        return arm

    def _join(self) -> int:
        """Where the ways from a branch meet again, whichever is taken."""
        if self.pc not in self.joins:
            self.joins.update(meetings(self.code.successors, self.pc))
        if self.pc not in self.joins:
            raise Undecided(f"the ways from the branch at {self.pc:#x} do not meet again")
        return self.joins[self.pc]


def meetings(successors: Callable[[int], tuple[int, ...]], start: int) -> dict[int, int]:
    """By address: the first that every way from there passes (its immediate postdominator), where there is one."""
    graph = _graph(successors, start)
    every = frozenset(graph)
    behind = {pc: frozenset([pc]) if not graph[pc] else every for pc in graph}
    changed = True
    while changed:
        changed = False
        for pc in sorted(graph, reverse=True):
            if graph[pc]:
                new = frozenset([pc]) | frozenset.intersection(*(behind[n] for n in graph[pc]))
                changed, behind[pc] = changed or new != behind[pc], new
    return {pc: near for pc in graph for near in behind[pc] - {pc} if behind[near] == behind[pc] - {pc}}


def _graph(successors: Callable[[int], tuple[int, ...]], start: int) -> dict[int, tuple[int, ...]]:
    graph: dict[int, tuple[int, ...]] = {}
    todo = [start]
    while todo:
        pc = todo.pop()
        if pc not in graph:
            graph[pc] = successors(pc)
            todo += graph[pc]
    return graph
