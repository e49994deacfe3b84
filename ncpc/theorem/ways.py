"""What a way through the code says of words: the condition under which it is gone holds all along it.

Nothing that is made on a way counts unless its condition holds. So a word there may be another one that is the same
under the condition, and that says by itself what the condition says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ncpc.theorem.memory import Ram
from ncpc.theorem.term import FULL, BitTerm, signed_word
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.values import words

Never = Callable[[BitTerm], bool]
"""Whether a condition is shown to hold never."""


def compared(condition: BitTerm) -> tuple[BitTerm, int, int] | None:
    """The word of which nothing is known that the condition compares with a number, the end of what it is where that
    holds, and the end of what it is where it does not; None for a condition that compares no such thing.
    """
    if condition.op not in ("slt", "sltu"):
        return None
    a, b = condition.args
    if b.fixed and is_anything(a):
        return a, b.par[0] - 1, b.par[0]
    return (b, a.par[0] + 1, a.par[0]) if a.fixed and is_anything(b) else None


def is_anything(x: BitTerm) -> bool:
    """Whether it is what the step is called with, any word, or such a word limited by one number."""
    inner = [a for a in x.args[1:] if not a.fixed] if x.op == "ite" else [x]
    return (x.lo, x.hi) == FULL and len(inner) == 1 and inner[0].op == "var"


def limited(terms: BitTerms, condition: BitTerm, holds: bool) -> dict[BitTerm, BitTerm]:
    """What a word is on the way where the condition holds, or on the other: limited to what it is there."""
    found = compared(condition)
    if found is None:
        return {}
    x, least, most = found
    word = terms.ite(condition, x, terms.const(least)) if holds else terms.ite(condition, terms.const(most), x)
    return {} if word.fixed else {x: word}


def put_in_place(others: dict[BitTerm, BitTerm], registers: list[BitTerm], memory: Ram) -> None:
    """Other words for some wherever they stand whole."""
    if others:
        registers[:] = [others.get(term, term) for term in registers]
        memory.cells.update({at: (size, others[term]) for at, (size, term) in memory.cells.items() if term in others})


def within_flash(terms: BitTerms, address: BitTerm, size: int, way: Sequence[BitTerm], never: Never) -> BitTerm:
    """The same address on this way, but one whose interval lies in flash; the address itself where that is not shown.

    ``way``: the conditions of all branches on it. What is added to a number has as few bytes as on the samples, if that
    can be shown.
    """
    if address.op != "lin" or terms.flash.piece(address.lo, address.hi + size) is not None:
        return address
    base = address.par[-1]
    index = terms.addc(address, -base)
    rows = [condition.sample != 0 for condition in way]
    here = [int(n) for k, n in enumerate(index.sample) if all(row[k] for row in rows)]
    mask = terms.const((1 << 8 * -(-max(here, default=0).bit_length() // 8)) - 1)
    kept = terms.and_(index, mask)
    inside = terms.addc(kept, base)
    if terms.flash.piece(inside.lo, inside.hi + size) is None:
        return address
    return inside if never(terms.both(*way, terms.negated(terms.eq(kept, index)))) else address


def arms(terms: BitTerms, condition: BitTerm) -> Iterator[tuple[BitTerm, dict[BitTerm, BitTerm]]]:
    """Of the way where a condition holds and of the other: that as a condition, and what words are there."""
    yes = terms.xor(terms.eq(condition, terms.const(0)), terms.const(1))
    yield yes, limited(terms, condition, True)
    yield terms.negated(yes), limited(terms, condition, False)


def joined(terms: BitTerms, condition: BitTerm, a: BitTerm, b: BitTerm, never: Never | None) -> BitTerm:
    """a where the condition is not 0, else b. Where one is a number that the other, a value of the Program, is too on
    the way of the number, that value: a compiler works out what is left of a step at the end of a range.
    """
    zero = terms.eq(condition, terms.const(0))
    for value, number, there in ((a, b, zero), (b, a, terms.negated(zero))):
        if never is not None and value.name and number.fixed and _agree(value, number, there) and \
                numbers_of(terms, value, there, never).get(value) == number.par[0]:
            return value
    return terms.ite(condition, a, b)


def _agree(a: BitTerm, b: BitTerm, there: BitTerm) -> bool:
    """On all samples where a condition holds, and there are some."""
    rows = there.sample != 0
    return bool(rows.any() and (a.sample[rows] == b.sample[rows]).all())


def numbers_of(terms: BitTerms, top: BitTerm, there: BitTerm, never: Never) -> dict[BitTerm, int]:
    """What is one number wherever a condition holds, of the terms that ``top`` is made of: as all that it is made of
    is, or as is shown.
    """
    found: dict[BitTerm, int] = {}
    rows = there.sample != 0
    for term in below(top):
        if term.fixed:
            found[term] = term.par[0]
        elif term.args and found.keys() >= set(term.args):
            args = [words(np.array([found[x]], np.int64)) for x in term.args]
            found[term] = signed_word(int(terms.evaluate(term.op, term.par, args)[0]))
        else:
            number = terms.const(int(term.sample[rows][0]))
            if (term.sample[rows] == number.sample[0]).all() and \
                    never(terms.both(there, terms.negated(terms.eq(term, number)))):
                found[term] = number.par[0]
    return found


def below(top: BitTerm) -> list[BitTerm]:
    """All that a term is made of and itself, arguments first."""
    seen, todo = set[BitTerm](), [top]
    while todo:
        term = todo.pop()
        if term not in seen:
            seen.add(term)
            todo += term.args
    return sorted(seen, key=lambda term: term.id)
