"""One meaning of each kind of term: NumPy's on samples, bit vectors' in proofs of rules, and the product's solver's."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
from bitwuzla import Bitwuzla, Kind, Options, Result, TermManager

from ncpc.theorem.solver import MAKERS, BitVectors, Question, never_differ
from ncpc.theorem.term import FULL, LEAST, MOST
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.values import MASK, VALUES
from tests.theorem.bit_vectors import Vectors
from tests.theorem.term_steps import FLASH, KINDS, World

CORNERS = (0, 1, 2, 3, 7, 31, 32, 255, 0x7FFF, 0x8000, 0xFFFF, 0x10000, MOST - 1, MOST, LEAST, LEAST + 1, -1, -2)
ARGUMENTS = {"ite": 3, "asr": 1, "srl": 1, "eq0": 1, "clz": 1, "norm": 1}
"""How many each kind has, where it is not two."""
COUNT = 60


def drawn(op: str, rng: random.Random) -> tuple[list[int], tuple[int, ...]]:
    """Arguments, as words, and parameters that this kind can have."""
    args = [rng.choice((rng.choice(CORNERS), rng.getrandbits(32), rng.getrandbits(rng.randrange(1, 32)))) & MASK
            for _ in range(ARGUMENTS.get(op, 2))]
    if op in ("div", "rem") and (args[1] == 0 or args == [1 << 31, MASK]):
        args[1] = 3
    if op in ("divu", "remu", "norm"):
        args[-1] = args[-1] or 3
    k = rng.randrange(32)
    pars = {"lin": (rng.choice((1, -1, 1 << k, LEAST)), -77, rng.choice(CORNERS)), "asr": (k,), "srl": (k,),
            "wide": (rng.choice((1, -1, 1 << k)), -77, rng.choice(CORNERS), k + 1),
            "mulshr": (rng.choice((0, 1 << k >> 1)), rng.randrange(41)), "umulshr": (1 << k >> 1, rng.randrange(41))}
    return args, pars.get(op, ())


@pytest.mark.parametrize("op", VALUES)
def test_numbers_are_what_bit_vectors_mean(op: str) -> None:
    rng, vectors = random.Random(op), Vectors(BitTerms(1, FLASH))
    equal = []
    for _ in range(COUNT):
        args, par = drawn(op, rng)
        words = [np.array([a], np.uint32) for a in args]
        number = vectors.number(int(VALUES[op](words, par)[0]))
        equal.append(vectors.equal(number, vectors.meaning(op, par, [vectors.number(a) for a in args])))
    assert vectors.holds(vectors.op(Kind.AND, *equal), [])


def test_the_solver_allows_every_value_that_terms_have() -> None:
    """Whatever it takes for free, what it shows equal is: the words that NumPy computes satisfy all that it is told."""
    rng, seen = random.Random(4), set()
    draws, weights = zip(*KINDS, strict=True)
    for _ in range(25):
        world = World(rng, BitTerms)
        for draw in rng.choices(draws, weights, k=20):
            with suppress(Undecided):
                draw(world)
        leaves = [n for n in world.terms.nodes if n.op == "var"]
        order = [n for n in world.terms.nodes if n.op not in ("var", "const")]
        seen |= {n.op for n in order}
        question = Question(order[-1], order[-1], leaves, order, {n: (n.lo, n.hi) for n in (*leaves, *order)})
        for sample in range(2):
            manager = TermManager()
            solver = Bitwuzla(manager, Options())
            vectors = BitVectors(world.terms, question, solver, manager, Kind)
            vectors.of(order[-1])
            for n in (*leaves, *order):
                solver.assert_formula(vectors.apply(Kind.EQUAL, vectors.made[n], vectors.number(int(n.sample[sample]))))
            assert solver.check_sat() == Result.SAT
    assert seen >= set(MAKERS)


def test_the_solver_tells_what_is_equal_from_what_is_not() -> None:
    terms = BitTerms(1, FLASH)
    a, b = (terms.var(name, *FULL, np.array([5])) for name in "ab")
    both, either, differ = (terms.make(op, (a, b)) for op in ("and", "or", "xor"))
    total = terms.add(both, differ)
    order = (both, either, differ, total)
    spans = dict.fromkeys((a, b, *order), FULL)
    assert never_differ(terms, Question(total, either, (a, b), order, spans), 20_000)
    assert not never_differ(terms, Question(differ, either, (a, b), order, spans), 20_000)
