"""Every rule by which terms are rewritten, and every interval, proved by a solver for all words of 32 bits.

Random expressions are made a step at a time. After each step the solver is asked for values of the variables, within
their intervals, at which what was made differs from the operation without rules on the arguments; and for each term
that arose whether it can leave its interval while its arguments keep to theirs. Every way out of every rule must have
been taken by steps so proved.
"""

from __future__ import annotations

import ast
import inspect
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
import z3

from ncpc.theorem import terms as rules
from ncpc.theorem import values
from ncpc.theorem.bits import bitwise
from ncpc.theorem.term import FULL, BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.wide import gathered
from tests.theorem.bit_vectors import PRODUCTS, Vectors
from tests.theorem.term_steps import ALONE, KINDS, Made, World

PLUMBING = ("make", "_new", "const", "var", "table", "evaluate", "__repr__", "fixed", "narrow")
"""What rewrites nothing."""


def cone(roots: tuple[BitTerm, ...]) -> list[BitTerm]:
    """All terms below, arguments first."""
    seen, todo = set(), list(roots)
    while todo:
        term = todo.pop()
        if term not in seen:
            seen.add(term)
            todo += term.args
    return sorted(seen, key=lambda t: t.id)


def cases(made: Made) -> Iterator[dict[BitTerm, int]]:
    """Values of an argument to look at one by one: of a factor that is -1 or 0."""
    whole = made.op in PRODUCTS and not any(a.fixed for a in made.args)
    few = [a for a in made.args if whole and (a.lo, a.hi) == (-1, 0)]
    if few and few[0].op == "lin" and few[0].par == (-1, 0):  # a condition negated, which rules look through
        yield from ({few[0].args[0]: value, few[0]: -value} for value in (1, 0))
    else:
        yield from ({few[0]: value} for value in (-1, 0)) if few else [{}]


def same(terms: BitTerms, made: Made, fixed: dict[BitTerm, int]) -> bool:
    """Whether the solver shows that the rules do not change what the operation gives."""
    vectors = Vectors(terms)
    for term, value in fixed.items():
        if term.op != "var":  # what it is made of has that value, too
            vectors.facts.append(vectors.equal(vectors.of(term), vectors.number(value)))
        vectors.known[term.id] = vectors.number(value)
    vectors.opaque = True
    plain = [vectors.of(a) for a in made.args]
    vectors.opaque = False
    without, with_rules = vectors.meaning(made.op, made.par, plain), vectors.of(made.term)
    if made.op in PRODUCTS:
        vectors.bound(made.args, *plain)
    if without == with_rules:
        return True
    spans = [t for t in cone((*made.args, made.term)) if (t.lo, t.hi) != FULL]
    return vectors.holds(vectors.equal(without, with_rules), [vectors.within(vectors.of(t), t.lo, t.hi) for t in spans])


def bits_within(terms: BitTerms, term: BitTerm) -> bool:
    """Whether a term keeps to its interval where its arguments keep to theirs."""
    vectors = Vectors(terms)
    for a in term.args:
        if not a.fixed:
            vectors.known[a.id] = vectors.free()
    known = [vectors.within(vectors.of(a), a.lo, a.hi) for a in term.args]
    return vectors.holds(vectors.within(vectors.of(term), term.lo, term.hi), known)


Line = tuple[str, int]
"""A file and a line of it."""


def rule_files() -> dict[str, str]:
    """The source of ``terms`` and of what it calls of ``ncpc.theorem``, by file; but not of what words are worth."""
    called = {inspect.getmodule(value) for value in vars(rules).values() if inspect.isfunction(value)}
    modules = [m for m in {rules, *called} - {values} if m is not None and m.__name__.startswith("ncpc.theorem.")]
    return {str(m.__file__): inspect.getsource(m) for m in sorted(modules, key=lambda m: m.__name__)}


@contextmanager
def counted(lines: Counter[Line]) -> Iterator[None]:
    """Count the lines of the rules that are run."""
    files = set(rule_files())

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            lines[frame.f_code.co_filename, frame.f_lineno] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def ways_out() -> dict[Line, str]:
    """The return statements of the rules."""
    found: dict[Line, str] = {}
    for file, source in rule_files().items():
        lines = source.splitlines()
        for part in ast.walk(ast.parse(source)):
            if isinstance(part, ast.FunctionDef) and part.name not in PLUMBING:
                returns = [r.lineno for r in ast.walk(part) if isinstance(r, ast.Return)]
                found |= {(file, line): lines[line - 1].strip() for line in returns}
    return found


def product_within(term: BitTerm) -> bool:
    """The same for products, by what test_products_lie_between_those_of_the_ends says."""
    corners = [x * y for x in (term.args[0].lo, term.args[0].hi) for y in (term.args[1].lo, term.args[1].hi)]
    c, k = term.par or (0, 0)
    return term.lo <= (min(corners) + c) >> k and (max(corners) + c) >> k <= term.hi


def sum_within(term: BitTerm) -> bool:
    """The same for sums, as numbers: where those fit a word, the word is that number."""
    numbers = [z3.Int(str(a.id)) for a in term.args]
    solver = z3.Solver()
    solver.add(*(z3.And(a.lo <= n, n <= a.hi) for a, n in zip(term.args, numbers, strict=True)))
    total = sum((k * n for k, n in zip(term.par[:-1], numbers, strict=True)), z3.IntVal(term.par[-1]))
    solver.add(z3.Or(total < term.lo, total > term.hi))
    return bool(solver.check() == z3.unsat)


def wide_within(term: BitTerm) -> bool:
    """The same for words of sums in 64 bits, as numbers."""
    numbers = [z3.Int(str(a.id)) for a in term.args]
    solver = z3.Solver()
    solver.add(*(z3.And(a.lo <= n, n <= a.hi) for a, n in zip(term.args, numbers, strict=True)))
    total = sum((k * n for k, n in zip(term.par[:-2], numbers, strict=True)), z3.IntVal(term.par[-2]))
    k = term.par[-1]
    solver.add(z3.Or(total < term.lo << k, total >= (term.hi + 1) << k))
    return bool(solver.check() == z3.unsat)


WITHIN: dict[str, Callable[[BitTerm], bool]] = {"mul": product_within, "mulshr": product_within, "lin": sum_within,
                                                "wide": wide_within}


def prove(world: World, first: int) -> None:
    """Every operation that was done, and the interval of each term from ``first`` on."""
    for made in world.made:
        assert all(same(world.terms, made, fixed) for fixed in cases(made)), made
    for term in world.terms.nodes[first:]:
        if term.op not in ("const", "var") and (term.lo, term.hi) != FULL:
            assert WITHIN.get(term.op, partial(bits_within, world.terms))(term), term


APART = 6
"""Worlds of what is drawn alone."""


def explore(kind: type[BitTerms] = BitTerms, seed: int = 1, worlds: int = 80) -> tuple[Counter[Line], Counter[str]]:
    """How often which line of terms.py ran in operations that are proved, and how often which kind of term was made."""
    rng, lines, kinds = random.Random(seed), Counter[Line](), Counter[str]()
    draws, weights = zip(*KINDS, strict=True)
    for k in range(worlds + APART):
        world = World(rng, kind)
        for draw in rng.choices(draws, weights, k=20) if k < worlds else ALONE:
            here, first = Counter[Line](), len(world.terms.nodes)
            world.made = []
            with suppress(Undecided), counted(here):
                draw(world)
            prove(world, first)
            lines += here
        kinds += Counter(term.op for term in world.terms.nodes)
    return lines, kinds


def test_what_rules_make_is_what_the_operation_means_and_lies_in_its_interval() -> None:
    lines, kinds = explore()
    rare = {f"{line}: {source}": lines[line] for line, source in ways_out().items() if lines[line] < 2}
    assert not rare, "too few steps went this way to say that it is right"
    assert set(kinds) == {*values.VALUES, "const", "var", "tab", "load"}


def test_products_lie_between_those_of_the_ends() -> None:
    """For all numbers, whatever their size; and so do their floors of (a*b + c) / 2**k."""
    a, b, least, most, first, last, bound = z3.Reals("a b least most first last bound")
    inside = [least <= a, a <= most, first <= b, b <= last]
    corners = [x * y for x in (least, most) for y in (first, last)]
    for beyond in ([a * b > bound, *(c <= bound for c in corners)], [a * b < bound, *(c >= bound for c in corners)]):
        solver = z3.Solver()
        solver.add(*inside, *beyond)
        assert solver.check() == z3.unsat


def test_signed_products_and_those_of_words_differ_by_either_word_shifted() -> None:
    """u*v of words modulo 2**64 is the product of the signed numbers and, where one is negative, 2**32 of the other."""
    u, v = z3.Ints("u v")
    for i in (0, 1):  # whether u stands for u - 2**32
        for j in (0, 1):
            signed = (u - (i << 32)) * (v - (j << 32)) + (i << 32) * v + (j << 32) * u
            assert z3.simplify(signed - u * v, som=True).as_long() % (1 << 64) == 0


PLANTED = {
    "a sum keeps an interval that it leaves": ("lo >= LEAST and hi <= MOST else FULL", "lo >= LEAST else FULL"),
    "a mask that takes a bit away is dropped": ("trailing_zeros(~term.args[1].par[0]) >= 32 - zeros",
                                                "trailing_zeros(~term.args[1].par[0]) >= 31 - zeros"),
    "a sign extension is dropped where a bit of it counts": ("zeros >= term.par[0]", "zeros >= term.par[0] - 1"),
    "words are multiplied as signed numbers": ("if not signed and a.lo >= 0 and b.lo >= 0:",
                                               "if not signed and a.lo >= 0:"),
    "the second word's sign is forgotten": ("(self.and_(self.asr(b, 31), a), 1)])", "])"),
    "two shifts are one by too much": ("min(31, a.par[0] + k)", "(a.par[0] + k) & 31"),
    "shifting back keeps what had left the word": ("a.hi < 1 << (31 - k)", "a.hi < 1 << (32 - k)"),
    "bits shifted out come back": ("self.const((1 << (32 - k)) - 1)", "self.const((1 << (33 - k)) - 1)"),
    "a sign bit is shifted in": ("if a.lo >= 0:\n            return self.asr(a, k)",
                                 "if a.hi >= 0:\n            return self.asr(a, k)"),
    "a mask is dropped for a number below 0": ("m & (m + 1) == 0 and a.lo >= 0 and a.hi <= m", "a.hi <= m"),
    "a field is one bit off": ("terms.const(m >> t)), t)", "terms.const(m >> t)), t - 1)"),
    "not is minus": ("self.lin([(x, -1)], -1)", "self.lin([(x, -1)])"),
    "or has too small an interval": ("max(a.hi.bit_length(), b.hi.bit_length())",
                                     "min(a.hi.bit_length(), b.hi.bit_length())"),
    "less or equal": ("if a.hi < b.lo or a.lo >= b.hi:", "if a.hi < b.lo or a.lo > b.hi - 2:"),
    "a difference that wraps decides": ("(d.par[0] - (1 << 32), d.par[0], d.par[0] + (1 << 32))", "(d.par[0],)"),
    "signs are not told apart": ("if a.lo >= 0 and b.lo >= 0:\n            return self.slt(a, b)",
                                 "if a.lo >= 0 or b.lo >= 0:\n            return self.slt(a, b)"),
    "0 is less than everything": ("return self.xor(self.eq(b, a), self.const(1))", "return self.const(1)"),
    "far apart is equal": ("if a.hi < b.lo or b.hi < a.lo else", "if a.hi <= b.lo or b.hi < a.lo else"),
    "the smaller is the larger": ("self.smin(a, b) if a is c.args[0]", "self.smin(a, b) if a is c.args[1]"),
    "minimum with a bound of the other": ("(min(a.lo, b.lo), min(a.hi, b.hi)))", "(max(a.lo, b.lo), min(a.hi, b.hi)))"),
    "a zero more": ("32 - a.lo.bit_length()) if", "31 - a.lo.bit_length()) if"),
    "of some all": ("self.negated(self.both(self.negated(a), self.negated(b)))", "self.both(a, b)"),
    "bits that meet are added": ("zeros_below(x) >= y.hi.bit_length():", "zeros_below(x) >= y.hi.bit_length() - 1:"),
    "a shift that loses bits is taken back": ("shl_keeps(part, trailing_zeros(a.par[0])):", "part.lo >= 0:"),
    "a mask of a sign is taken for its opposite": ("if found[1]:", "if not found[1]:"),
    "the mask is of another number": ("if found is None or terms.asr(whole, 31) is not found[0]:", "if found is None:"),
    "a borrow is taken for a carry": ("(1, -1, -1)", "(1, -1, 1)"),
    "a word shifted right counts twice": ("([(part, 1)], [(high", "([(part, 2)], [(high"),
    "what is masked counts twice": ("([(a, 1)], [(above", "([(a, 2)], [(above"),
    "multiples of 2**32 are lost": ("terms.lin([(part, 1), *more], rest.c >> k)", "terms.addc(part, rest.c >> k)"),
    "a sum that wraps is taken for exact": ("if not fits(lo, hi):\n        part", "if False:\n        part"),
    "a word of a sum is shifted too far": ("min(k - least, 31)", "min(k - least + 1, 31)"),
    "what is lost below is rounded up": ("total.c >> zeros), k - zeros)", "-(-total.c >> zeros)), k - zeros)"),
    "what is added to a product wraps": ("if fits(lo, hi) and fits(lo + c, hi + c):", "if fits(lo, hi):"),
    "a product is counted twice": ("len(every) == 1 and", "len(every) >= 1 and"),
    "a sum that wraps is divided": ("if t and shl_keeps(part := self._floored(a, t), t):",
                                    "if t and (part := self._floored(a, t)):"),
    "a number is not shifted with its sum": ("], a.par[-1] << k", "], a.par[-1]"),
    "the wider limit holds": ('terms.smin(end, y)) if op == "smin"', 'terms.smax(end, y)) if op == "smin"'),
    "a limit is beyond itself": ('terms.const(ends["smin"]), x)', 'terms.const(ends["smin"] - 1), x)'),
    "what reaches higher bits is dropped": ("or most >= 1 << k:", "or most > 1 << k:"),
    "what is negative is dropped": ("if least < 0 or", "if"),
    "a shift is taken for the sign": ("shl_keeps(a, 31 - k) else k  #", "shl_keeps(a, 30 - k) else k  #"),
    "a half is loaded where more of it counts": ("4 if zeros < 16", "4 if zeros < 15"),
    "what is shifted in does count": ("if zeros < k:", "if zeros < k // 2:"),
    "a difference that wraps chooses": ("max(a.hi, b.hi) <= LEAST", "max(a.hi, b.hi) <= 2 * LEAST"),
    "the sign that is not set chooses the other": ("set\n        a, b = b, a", "set\n        pass"),
    "a difference of one more chooses": ("terms.asr(terms.addc(d, -1), 31)", "terms.asr(terms.addc(d, 1), 31)"),
    "all bits or none are minus what they are": ("terms.lin([(a, -m)])", "terms.lin([(a, m)])"),
    "a bit is set twice": (" or bit in found", ""),
    "16 - 16*c is c in bit 4": ("n if q > 0 else terms.negated(n)", "n"),
    "a bit is set where the condition does not hold": ("terms.or_(condition, y) if x.par[0]",
                                                       "terms.or_(condition, y) if not x.par[0]"),
    "what was added to a word is forgotten": ("c + sum(part.c * q for part, q in parts)", "c"),
    "a table without its last entry": ("part = table[index.lo : index.hi + 1]", "part = table[index.lo : index.hi]"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("right", "wrong"), PLANTED.values(), ids=PLANTED)
def test_a_rule_that_is_wrong_is_found(right: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``bits`` and ``terms`` are read again on top of the module that has the fault, or with the fault itself."""
    file = next(file for file, source in rule_files().items() if right in source)
    name = f"ncpc.theorem.{Path(file).stem}"
    below = [part for part in (name, gathered.__module__, bitwise.__module__) if part != rules.__name__]
    for part in dict.fromkeys((*below, rules.__name__)):
        source = inspect.getsource(sys.modules[part])
        module = ModuleType(part)
        module.__file__ = sys.modules[part].__file__
        exec(compile(source.replace(right, wrong, 1), str(module.__file__), "exec"), vars(module))
        monkeypatch.setitem(sys.modules, part, module)
    with pytest.raises((AssertionError, IndexError)):
        explore(module.BitTerms)
