"""Whether two terms are always equal: by all values where few are possible, otherwise by the solver.

A term of the code that agrees with one of the Program on all samples is compared with it at once, and replaced by it
where they are proved equal. So every comparison is small: whatever was identified before is a free number in it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ncpc.theorem.solver import Question, Spans, never_differ
from ncpc.theorem.term import LEAST, MOST, BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.values import MASK, Words, signed, words

MOST_CASES = 1 << 17
LARGEST_QUESTION = 200
CANDIDATES, ROUNDS, PATIENCE = 3, 8, 40
"""Of how many terms of the Program one is tried, how often a comparison is opened further, how many may fail."""
DRAWN = 512
"""On how many drawn values of what they stand on two terms must agree before the solver is asked."""
FEW_VALUES = 4
"""A term with fewer values on all samples is compared with such alone as are made of what it stands on."""

Key = tuple[object, ...]


@dataclass
class Budget:
    """Seconds for all, milliseconds for one question to the solver, and for one whose terms differ for some values of
    what they stand on, which may be values that do not occur together; ``late``: for one of them it was not enough.
    """

    seconds: float
    question_ms: int = 1500
    doubtful_ms: int = 200
    start: float = field(default_factory=time.monotonic)
    late: bool = False

    def check(self) -> None:
        """Raises Undecided where the time is used up."""
        if time.monotonic() - self.start > self.seconds:
            self.late = True
            raise Undecided(f"the {self.seconds:g} s for the proof are used up; give more")


@dataclass
class Equality:
    """What was found equal. ``answers`` by all that was assumed; ``apart`` are pairs that agree on samples alone."""

    terms: BitTerms
    budget: Budget
    by_sample: dict[bytes, list[BitTerm]] = field(default_factory=dict)
    answers: dict[Key, bool | None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    apart: list[tuple[BitTerm, BitTerm]] = field(default_factory=list)

    def watch(self) -> None:
        """From now on every new term is replaced by one of those there are with a name, if it equals it."""
        for term in self.terms.nodes:
            if term.name:
                self.by_sample.setdefault(term.sample.tobytes(), []).append(term)
        self.terms.on_new = self._identified

    def _identified(self, term: BitTerm) -> BitTerm:
        if term.op == "all" and len(term.args) == 2 and not term.sample.any() and self.never(term):
            return self.terms.const(0)
        candidates = self.by_sample.get(term.sample.tobytes())
        if term.name or candidates is None or len(self.apart) > PATIENCE:
            return term
        near, few = leaves_of(term, {term}), _distinct(term) < FEW_VALUES

        def far(candidate: BitTerm) -> bool:
            return not near.issuperset(a for a in candidate.args if not a.fixed)

        tried = [c for c in sorted(candidates, key=far) if not (few and far(c))][:CANDIDATES]
        for candidate in tried:
            if self.equal(term, candidate):
                return candidate
        if tried and not few:
            self.apart.append((term, tried[0]))
        return term

    def equal(self, a: BitTerm, b: BitTerm) -> bool:
        """Whether they are proved equal. First in terms of what has a name; what only one stands on is opened, the
        newest first, until it is decided or has become too large.
        """
        if a is b:
            return True
        self.budget.check()
        opened, limit_ms = {a, b}, self.budget.question_ms
        for _ in range(ROUNDS):
            left, right, order = leaves_of(a, opened), leaves_of(b, opened), opened_of((a, b), opened)
            if len(order) > LARGEST_QUESTION:
                return False
            leaves = sorted(left | right, key=_age)
            more = made_of_others(leaves)
            if not more:
                answer = self._decided(a, b, leaves, order, limit_ms)
                if answer is not False:  # what takes too long takes longer where more is opened
                    return answer is True
                limit_ms = self.budget.doubtful_ms if self._differ_somewhere(a, b, leaves, order) else limit_ms
                alone = [n for n in left ^ right if n.op != "var"]
                more = {max(alone, key=_age)} if alone else {n for n in leaves if n.op != "var" and not n.cut}
            if not more:
                return False
            opened |= more
        return False

    def never(self, condition: BitTerm) -> bool:
        """Whether a condition is shown to be 0 always."""
        return self.equal(condition, self.terms.const(0))

    def _decided(
        self, a: BitTerm, b: BitTerm, leaves: Sequence[BitTerm], order: Sequence[BitTerm], limit_ms: int
    ) -> bool | None:
        """Under wide intervals first, since that answer serves for more pairs. None where the time was too short."""
        exact = {n: (n.lo, n.hi) for n in (*leaves, *order)}
        if cases(leaves) <= MOST_CASES:
            key = key_of("all values", a, b, leaves, order, {n: exact[n] for n in leaves})
            return self._answer(key, partial(self._on_all_values, a, b, leaves, order))
        if self._differ_somewhere(a, b, leaves, order):
            return False
        wide = {n: rounded(*span) for n, span in exact.items()}
        questions = [Question(a, b, leaves, order, spans) for spans in ((wide,) if wide == exact else (wide, exact))]
        answer: bool | None = False
        for q in questions:
            key = (*key_of("solver", a, b, leaves, order, q.spans), limit_ms)
            answer = self._answer(key, partial(self._asked, q, limit_ms))
            if answer:
                break
        return answer

    def _answer(self, key: Key, ask: Callable[[], bool | None]) -> bool | None:
        if key not in self.answers:
            self.answers[key] = ask()
            self.counts[f"{key[0]}: {'equal' if self.answers[key] else 'not shown'}"] += 1
        return self.answers[key]

    def _asked(self, question: Question, limit_ms: int) -> bool | None:
        self.budget.check()
        shown = never_differ(self.terms, question, limit_ms)
        self.budget.late |= shown is None
        return shown

    def _differ_somewhere(self, a: BitTerm, b: BitTerm, leaves: Sequence[BitTerm], order: Sequence[BitTerm]) -> bool:
        """Whether they do for some drawn values of the leaves: then nothing is to be asked of the solver."""
        rng, kinds = np.random.default_rng(len(order)), np.arange(DRAWN) % 4
        found = {}
        for n in leaves:
            near = np.clip(rng.integers(-3, 4, DRAWN), n.lo, n.hi)
            numbers = np.choose(kinds, [rng.integers(n.lo, n.hi + 1, DRAWN), near, rng.choice((n.lo, n.hi), DRAWN),
                                        signed(rng.choice(n.sample, DRAWN))])
            found[n] = words(numbers)
        agree = self._agree(a, b, found, order, DRAWN)
        return agree is not None and not agree

    def _on_all_values(self, a: BitTerm, b: BitTerm, leaves: Sequence[BitTerm], order: Sequence[BitTerm]) -> bool:
        """Every combination of what the leaves can be."""
        ranges = [np.arange(n.lo, n.hi + 1, dtype=np.int64) for n in leaves]
        grids = np.meshgrid(*ranges, indexing="ij") if ranges else [np.zeros(1, np.int64)]
        found = {n: words(grid.reshape(-1)) for n, grid in zip(leaves, grids, strict=False)}
        return bool(self._agree(a, b, found, order, grids[0].size))

    def _agree(
        self, a: BitTerm, b: BitTerm, found: dict[BitTerm, Words], order: Sequence[BitTerm], size: int
    ) -> bool | None:
        """Whether both are the same on values of the leaves; None where those cannot all occur together."""
        def value(n: BitTerm) -> Words:
            return np.full(size, n.par[0] & MASK, np.uint32) if n.fixed else found[n]

        try:
            for n in order:
                found[n] = self.terms.evaluate(n.op, n.par, [value(x) for x in n.args])
        except Undecided:  # a load that leaves its table
            return None
        return bool((value(a) == value(b)).all())


def _age(term: BitTerm) -> int:
    return term.id


def _distinct(term: BitTerm) -> int:
    return len(np.unique(term.sample))


def leaves_of(root: BitTerm, opened: set[BitTerm]) -> set[BitTerm]:
    """What a term stands on: inputs and what has a name, unless it is opened."""
    found, seen, todo = set[BitTerm](), set[BitTerm](), [root]
    while todo:
        n = todo.pop()
        if n in seen or n.fixed:
            continue
        seen.add(n)
        if n.op == "var" or (n.name and n not in opened):
            found.add(n)
        else:
            todo += n.args
    return found


def made_of_others(leaves: Sequence[BitTerm]) -> set[BitTerm]:
    """The leaves that are made of other ones alone: to take all of them as free would forget how they hang together."""
    every = set(leaves)
    return {n for n in leaves if n.op != "var" and every.issuperset(leaves_of(n, {n}))}


def opened_of(roots: Iterable[BitTerm], opened: set[BitTerm]) -> list[BitTerm]:
    """The terms above their leaves, arguments first."""
    found, todo = set[BitTerm](), list(roots)
    while todo:
        n = todo.pop()
        if n not in found and not n.fixed and n.op != "var" and (not n.name or n in opened):
            found.add(n)
            todo += n.args
    return sorted(found, key=_age)


def cases(leaves: Sequence[BitTerm]) -> int:
    """In how many ways leaves can have values."""
    count = 1
    for n in leaves:
        count *= n.hi - n.lo + 1
    return count


def rounded(lo: int, hi: int) -> tuple[int, int]:
    """A wider interval, of few that there are, so that questions repeat: ends are 0, 1, or next to a power of two."""
    lo = min(lo, 1) if lo >= 0 else max(LEAST, -(1 << (-lo - 1).bit_length()))
    return lo, (0 if hi == 0 else hi if hi < 0 else min(MOST, (1 << hi.bit_length()) - 1))


def key_of(how: str, a: BitTerm, b: BitTerm, leaves: Sequence[BitTerm], order: Sequence[BitTerm], spans: Spans) -> Key:
    """All that an answer rests on: the shape of both, every number in it, every interval that was assumed."""
    number = {n: i for i, n in enumerate((*leaves, *order))}

    def place(n: BitTerm) -> tuple[object, ...]:
        return ("=", n.par[0]) if n.fixed else (number[n],)

    shape = tuple((n.op, n.par, tuple(map(place, n.args)), spans.get(n)) for n in order)
    return how, tuple(spans[n] for n in leaves), shape, place(a), place(b)
