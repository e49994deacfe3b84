"""What a way through the code says of words: proved for all of them, and not said where it does not hold."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest

from ncpc.theorem.equality import Budget, Equality
from ncpc.theorem.flash import Flash
from ncpc.theorem.memory import Ram
from ncpc.theorem.term import FULL, LEAST, MOST, BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.ways import arms, joined, limited, numbers_of, put_in_place, within_flash
from tests.conftest import RequireTool
from tests.theorem.bit_vectors import Vectors
from tests.theorem.riscv_programs import one, row
from tests.theorem.test_riscv import ORIGIN, Emulated, code, compared, emulated, machine  # noqa: F401 (a fixture)

BASE, SAMPLES = 0x100, 64
TABLE = Flash(((BASE, np.arange(256, dtype=np.uint8)),))
NUMBERS = (0, 1, -1, 5, 104_857, LEAST, LEAST + 1, MOST, MOST - 1)


@pytest.fixture(autouse=True)
def _solver(require_tool: RequireTool) -> None:
    require_tool("bitwuzla")


def world(flash: Flash = TABLE) -> tuple[BitTerms, BitTerm, Callable[[BitTerm], bool]]:
    """Terms, any word among them, and what asks the solver."""
    terms, rng = BitTerms(SAMPLES, flash), np.random.default_rng(3)
    x = terms.var("x", *FULL, np.where(rng.random(SAMPLES) < 0.5, rng.integers(LEAST, MOST, SAMPLES),
                                       rng.integers(-9, 400, SAMPLES)))
    return terms, x, Equality(terms, Budget(60)).never


@pytest.mark.parametrize(("op", "number", "first"), list(itertools.product(("slt", "sltu"), NUMBERS, (True, False))))
def test_a_limited_word_is_the_word_wherever_its_condition_says(op: str, number: int, first: bool) -> None:
    """And it says so of itself, so that two limits make a range."""
    terms, x, _ = world()
    pair = (x, terms.const(number)) if first else (terms.const(number), x)
    condition = terms.slt(*pair) if op == "slt" else terms.sltu(*pair)
    assert condition.fixed or limited(terms, condition, True) or condition.op == "eq0" or condition.op == "lin"
    for holds, (way, others) in zip((True, False), arms(terms, condition), strict=True):
        for word, other in others.items():
            vectors = Vectors(terms)
            here = vectors.different(vectors.of(way), vectors.number(0))
            assert (way.sample != 0).tolist() == ((condition.sample != 0) == holds).tolist()
            assert vectors.holds(vectors.equal(vectors.of(word), vectors.of(other)), [here])
            still = (terms.slt if op == "slt" else terms.sltu)(*(other if a is x else a for a in pair))
            if not vectors.holds(vectors.equal(vectors.of(way), vectors.number(0)), []):  # it can be gone
                assert vectors.holds(vectors.equal(vectors.of(still), vectors.number(int(holds))), [])


def test_words_of_which_something_is_known_stay_as_they_are() -> None:
    terms, x, _ = world()
    near = terms.var("n", -5, 70, np.arange(SAMPLES))
    for condition in (terms.slt(near, terms.const(3)), terms.slt(x, near), terms.eq(x, near),
                      terms.slt(terms.mul(x, x), terms.const(3))):
        assert limited(terms, condition, True) == {} == limited(terms, condition, False)


def test_other_words_are_put_wherever_one_stands_whole() -> None:
    terms, x, _ = world()
    other, more = terms.var("o", *FULL, np.zeros(SAMPLES)), terms.addc(x, 1)
    memory = Ram(terms, {}, {("s", 0): (4, x), ("s", 4): (4, more)})
    registers = [x, more]
    put_in_place({x: other}, registers, memory)
    assert registers == [other, more]
    assert memory.cells == {("s", 0): (4, other), ("s", 4): (4, more)}


def test_an_address_is_within_flash_on_a_way_that_says_so() -> None:
    terms, x, never = world()
    address, below = terms.addc(x, BASE), terms.sltu(x, terms.const(256))
    inside = within_flash(terms, address, 1, (below,), never)
    assert (inside.lo, inside.hi) == (BASE, BASE + 255)
    vectors = Vectors(terms)
    here = vectors.different(vectors.of(below), vectors.number(0))
    assert vectors.holds(vectors.equal(vectors.of(inside), vectors.of(address)), [here])


@pytest.mark.parametrize("end", [257, 1000])
def test_an_address_that_may_leave_flash_stays_what_it_is(end: int) -> None:
    """However rarely: no sample is 256."""
    terms, x, never = world()
    x.sample[x.sample == 256] = 255
    address = terms.addc(x, BASE)
    ways = ((), (terms.sltu(x, terms.const(end)),), (terms.slt(x, terms.const(256)),))
    assert [within_flash(terms, address, 1, way, never) for way in ways] == [address] * 3


def test_a_value_that_is_a_number_on_the_other_way_is_that_value() -> None:
    """What the end of a range becomes is worked out at compile time; with one more it is not the value."""
    terms, x, never = world()
    least = terms.const(77)
    limit = terms.smax(x, least)
    value = terms.addc(terms.mulshr(limit, terms.addc(limit, 5), 0, 3), 9)
    value.name, condition = "value", terms.slt(least, x)
    number = 9 + (77 * 82 >> 3)
    assert numbers_of(terms, value, terms.slt(x, terms.const(78)), never)[value] == number
    assert joined(terms, condition, value, terms.const(number), never) is value
    assert joined(terms, terms.negated(condition), terms.const(number), value, never) is value
    assert joined(terms, condition, value, terms.const(number + 1), never).op == "ite"
    assert joined(terms, terms.slt(terms.const(76), x), value, terms.const(number), never) is value
    wraps = terms.slt(least, terms.addc(x, 1))  # not so for the largest x
    assert joined(terms, wraps, value, terms.const(number), never).op == "ite"
    assert joined(terms, terms.slt(terms.const(78), x), value, terms.const(number), never).op == "ite"
    assert joined(terms, condition, value, terms.const(number), None).op == "ite"


def test_a_word_is_limited_by_branches_as_an_emulator_does_it(emulated: Emulated) -> None:  # noqa: F811
    """x6 becomes x6 limited to 5..1000, at whose ends other registers get numbers, behind a store that is kept."""
    steps = [one(row("addi"), rd=5, rs1=0, imm=5), one(row("addi"), rd=7, rs1=0, imm=1000),
             one(row("addi"), rd=10, rs1=6, imm=0), one(row("sw"), rs1=2, rs2=6, imm=0),
             one(row("bltu"), rs1=5, rs2=6, imm=12), one(row("addi"), rd=10, rs1=0, imm=5),
             one(row("jal"), rd=0, imm=12), one(row("bgeu"), rs1=7, rs2=6, imm=8),
             one(row("addi"), rd=10, rs1=0, imm=1000), one(row("lw"), rd=11, rs1=2, imm=0)]
    for seed in range(4):
        device = compared(code(*steps), random.Random(seed), 32, emulated)
        assert device.sites == {ORIGIN + 16, ORIGIN + 28}


def test_a_table_is_read_behind_branches_that_bound_its_index() -> None:
    """As a library counts zeros: by the highest byte that is not 0; with one more than the bound it is refused."""
    for bound, is_refused in ((256, False), (257, True)):
        steps = [one(row("sltiu"), rd=5, rs1=6, imm=bound), one(row("addi"), rd=7, rs1=0, imm=0),
                 one(row("beq"), rs1=5, rs2=0, imm=16), one(row("auipc"), rd=9, imm=0),
                 one(row("add"), rd=9, rs1=9, rs2=6), one(row("lbu"), rd=7, rs1=9, imm=20)]
        table = [(entry, 1) for entry in range(256)]
        device = machine(code(*steps, one(row("jal"), rd=0, imm=264), (0, 4), *table), random.Random(1), 32)
        device.never = Equality(device.terms, Budget(60)).never
        x = device.registers[6].sample
        if is_refused:
            with pytest.raises(Undecided, match=r"\(lbu\): a load"):
                device.run(ORIGIN + 24)
        else:
            device.run(ORIGIN + 24)
            assert device.registers[7].sample.tolist() == [int(n) if n < 256 else 0 for n in x]
