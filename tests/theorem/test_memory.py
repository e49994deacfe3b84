"""Loads from tables at addresses that vary: what is surely aligned is read, all else is refused."""

from __future__ import annotations

import numpy as np
import pytest

from ncpc.theorem.flash import Flash
from ncpc.theorem.memory import Ram, zeros_below
from ncpc.theorem.term import FULL, BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided

TABLE = np.arange(256, dtype=np.uint8)
SAMPLE = np.array([0, 5, 12, 31])


def variable(terms: BitTerms) -> BitTerm:
    return terms.var("i", 0, 31, SAMPLE)


def any_word(terms: BitTerms) -> BitTerm:
    return terms.var("w", *FULL, SAMPLE)


ADDRESSES = {
    "four times an index": (lambda t: t.lin([(variable(t), 4)], 0x100), 4),
    "twice an index": (lambda t: t.lin([(variable(t), 2)], 0x100), 2),
    "an index": (lambda t: t.lin([(variable(t), 1)], 0x100), 1),
    "four times an index and two": (lambda t: t.lin([(variable(t), 4)], 0x102), 2),
    "a masked index": (lambda t: t.lin([(t.and_(variable(t), t.const(-4)), 1)], 0x100), 4),
    "a masked index, alone": (lambda t: t.and_(t.var("i", 0x100, 0x1FF, 0x100 + SAMPLE), t.const(-2)), 2),
    "upper bits of a word": (lambda t: t.srl(t.var("w", 0x01000000, 0x01FFFFFF, 0x01000000 + 77777 * SAMPLE), 16), 1),
    "what a table says": (lambda t: t.make("load", (variable(t),), (4, 0), (0x100, 0x1F0)), 1),
    "a rounded product": (lambda t: t.make("mulshr", (variable(t), variable(t)), (64, 4), (0x100, 0x1F0)), 1),
}
"""And by how much each surely is aligned."""


@pytest.mark.parametrize(("make", "aligned"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_is_aligned_as_far_as_its_parts_say(make: object, aligned: int) -> None:
    assert callable(make)
    terms = BitTerms(len(SAMPLE), Flash(((0x100, TABLE), (0, TABLE))))
    address = make(terms)
    assert 1 << zeros_below(address) == aligned
    assert not (address.sample & (aligned - 1)).any()


@pytest.mark.parametrize("name", [name for name, (_, aligned) in ADDRESSES.items() if aligned < 4])
def test_a_load_that_may_be_misaligned_is_refused(name: str) -> None:
    terms = BitTerms(len(SAMPLE), Flash(((0x100, TABLE), (0, TABLE))))
    with pytest.raises(Undecided, match=r"a load of 4 bytes at .*, whose alignment is not known"):
        Ram(terms, {}).load(ADDRESSES[name][0](terms), 4, False)


def test_a_table_is_read() -> None:
    terms = BitTerms(len(SAMPLE), Flash(((0x100, TABLE),)))
    address = terms.lin([(variable(terms), 2)], 0x100)
    assert Ram(terms, {}).load(address, 2, False).sample.tolist() == TABLE.view("<u2")[SAMPLE].tolist()
