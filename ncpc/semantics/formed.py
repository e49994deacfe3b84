"""What the C forms (``ncpc.ir.formed``), evaluated: on numbers, and on intervals whose every node must fit its type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.cwords import INT64, Term
from ncpc.ir.formed import formed, interpolation
from ncpc.ir.program import Op, Value
from ncpc.ir.types import Fixed, Type
from ncpc.semantics import fixed

I64 = NDArray[np.int64]
Ends = tuple[I64, I64]
"""Least and largest, elementwise."""
NEAR = 1.0 - 2.0**-40
"""64-bit numbers are compared in float64: what is nearer to the end of their range than this does not count as held."""


def _clamp(a: I64, lo: I64, hi: I64) -> I64:
    return np.where(a < lo, lo, np.where(hi < a, hi, a))


def _zeros(a: I64) -> I64:
    return 32 - np.frexp(np.maximum(a, 1).astype(np.float64))[1].astype(np.int64)


_VALUES: dict[str, Callable[..., Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "&": np.bitwise_and, "~": np.negative,
    ">>": np.right_shift, "<<": np.left_shift, "as": lambda a: a, "min": np.minimum, "max": np.maximum,
    "relu": lambda a: np.maximum(a, 0), "clamp": _clamp, "zeros": _zeros,
}


def _apply(a: Term, args: Sequence[Any]) -> Any:
    """The value of a node; floats stand for 64-bit numbers when only their size is asked."""
    if a.kind == ">":
        return np.where(args[0] > args[1], a.number, 0)
    if a.kind == "look":
        return fixed.SEEDS[args[0]]
    return _VALUES[a.kind](*args)


def value(a: Term, known: Mapping[str, I64]) -> I64:
    """The number a term is; ``known`` are its operands. Exact while no node leaves its type."""
    return _Numbers(known).of(a)


def operations(a: Term) -> Iterator[Term]:
    """All nodes of a term that are no operands, operands before results."""
    for part in (a.inside,) if a.inside is not None else a.args:
        yield from operations(part)
    if a.kind != "arg":
        yield a


@dataclass
class _Numbers:
    """Evaluation that meets each shared node once."""

    known: Mapping[str, I64]
    done: dict[int, I64] = field(default_factory=dict)

    def of(self, a: Term) -> I64:
        if a.kind in ("arg", "number"):
            return self.known[a.name] if a.kind == "arg" else np.asarray(a.number, np.int64)
        if id(a) not in self.done:
            inner = (a.inside,) if a.inside is not None else a.args
            parts = [self.of(part) for part in inner]
            self.done[id(a)] = parts[0] if a.inside is not None else np.asarray(_apply(a, parts))
        return self.done[id(a)]


@dataclass(frozen=True, eq=False)
class TermRange:
    """A node of an expression with its least and largest value, elementwise."""

    term: Term
    lo: I64
    hi: I64
    fits: bool


def misfit(a: Term, lo: Any, hi: Any) -> bool:
    """Whether a value between the ends may be none of the node's type."""
    if a.wraps or np.size(lo) == 0:
        return False
    if a.word == INT64:
        return False  # asked of the sizes, which int64 itself could not hold
    return bool(np.min(lo) < a.word.lo or np.max(hi) > a.word.hi)


@dataclass
class Intervals:
    """Intervals through an expression. ``nodes`` are all that were formed, in order, operands before results.

    ``given`` are intervals known of nodes by other means (a lemma), by ``id``.
    """

    known: Mapping[str, Ends]
    given: Mapping[int, Ends] = field(default_factory=dict)
    nodes: list[TermRange] = field(default_factory=list)
    done: dict[int, Ends] = field(default_factory=dict)

    def of(self, a: Term) -> Ends:
        """The ends of a term."""
        if a.kind == "arg":
            return self.known[a.name]
        if a.inside is not None:
            self.of_call(a)
        if id(a) not in self.done:
            self.done[id(a)] = self._formed(a)
        return self.done[id(a)]

    def of_call(self, a: Term) -> None:
        assert a.inside is not None
        if id(a) in self.given:
            self.given = {**self.given, id(a.inside): self.given[id(a)]}
        self.done[id(a)] = self.of(a.inside)

    def _formed(self, a: Term) -> Ends:
        if a.kind == "number":
            held = a.word.lo <= a.number <= a.word.hi
            ends = (np.asarray(min(max(a.number, a.word.lo), a.word.hi), np.int64),) * 2
            return self.note(a, ends, held)
        parts = [self.of(part) for part in a.args]
        held = _counts(a, parts) and (a.word != INT64 or _small(a, parts))
        return self.note(a, self.given[id(a)] if id(a) in self.given else _corners(a, parts), held)

    def note(self, a: Term, ends: Ends, held: bool = True) -> Ends:
        """A node is formed, and lies between these ends."""
        self.nodes.append(TermRange(a, *ends, held and not misfit(a, *ends)))
        return ends


def _counts(a: Term, parts: Sequence[Ends]) -> bool:
    """Whether a shift's count is one."""
    return a.kind not in (">>", "<<") or bool(np.min(parts[1][0]) >= 0 and np.max(parts[1][1]) < a.word.bits)


def _small(a: Term, parts: Sequence[Ends]) -> bool:
    """Whether a 64-bit result is one, judged by its size."""
    if a.kind not in ("+", "-", "*", "<<"):
        return True
    wide = [(lo.astype(np.float64), hi.astype(np.float64)) for lo, hi in parts]
    if a.kind == "<<":
        wide[1] = (np.exp2(wide[1][0]), np.exp2(wide[1][1]))
    ends = [np.abs((np.multiply if a.kind == "<<" else _VALUES[a.kind])(*corner)) for corner in _pairs(wide)]
    return all(np.max(end, initial=0.0) < 2.0**63 * NEAR for end in ends)


def _pairs(parts: Sequence[tuple[Any, Any]]) -> Iterator[tuple[Any, ...]]:
    """All choices of an end of each part; a part whose ends are one array has one."""
    return product(*((lo,) if lo is hi else (lo, hi) for lo, hi in parts))


def _corners(a: Term, parts: Sequence[Ends]) -> Ends:
    """Every operation rises or falls with each operand while the others stay, but ``&``."""
    if a.kind == "&":
        mask = parts[1][1]
        return np.zeros_like(mask), mask
    found = [np.asarray(_apply(a, corner)) for corner in _pairs(parts)]
    if len(found) == 1:
        return found[0], found[0]
    return np.minimum.reduce(found), np.maximum.reduce(found)


def elementwise(op: Op, types: Sequence[Type], words: Mapping[str, Type]) -> Term | None:
    """The expression of an op, a clamp's limits its last operands; None where it computes no element by itself."""
    limits = [words[v] if isinstance(v, str) else types[0] for v in (op.attrs.get("lo"), op.attrs.get("hi"))]
    try:
        return formed(op.kind, [*types, *(limits if op.kind == "clamp" else ())], op.out.type, op.attrs)
    except KeyError:
        return None


def interpolated(table: I64, k: int) -> Intervals:
    """All that reading a table forms, one element per entry."""
    form, step = interpolation(len(table), k), np.diff(table)
    last = np.asarray(((len(table) - 1) << k) - 1, np.int64)
    ends = Intervals({"inside": (np.zeros_like(last), last), "value": (table[:-1],) * 2, "step": (step, step)})
    ends.of(form.result)
    ends.of(form.index)
    return ends


SETTLED = ("clamp", "min", "max", "relu", "gt", "inverse")
"""Ops that choose, and the reciprocal, whose every node ``ncpc.proofs.division`` enumerates."""


def unsettled(op: Op, args: Sequence[Value], constants: Mapping[str, NDArray[Any]]) -> list[Term]:
    """The nodes between an elementwise op's operands and its result that may leave their types, as far as types tell.

    Operands are anything their type holds, constants what they are.
    """
    whole = None if op.kind in SETTLED else elementwise(op, [v.type for v in args], {})
    if whole is None:
        return []
    ends = Intervals({str(i): _reach(v, constants) for i, v in enumerate(args)})
    ends.of(whole)
    results = [whole]
    while (inner := results[-1].inside or (results[-1].args[0] if results[-1].kind == "as" else None)) is not None:
        results.append(inner)
    return [n.term for n in ends.nodes if not n.fits and n.term not in results]


def _reach(value: Value, constants: Mapping[str, NDArray[Any]]) -> Ends:
    if value.name in constants:
        data = np.asarray(constants[value.name], np.int64)
        return np.asarray(data.min(initial=0)), np.asarray(data.max(initial=0))
    assert isinstance(value.type, Fixed)
    return np.asarray(value.type.lo, np.int64), np.asarray(value.type.hi, np.int64)


def require(op: Op, nodes: Sequence[Term], args: Sequence[NDArray[Any]]) -> None:
    """Raise ``OverflowError`` where one of the nodes is a number outside of its C type."""
    numbers = _Numbers({str(i): a for i, a in enumerate(args)})
    for node in nodes:
        got = numbers.of(node)
        if got.size and (got.min() < node.word.lo or got.max() > node.word.hi):
            raise OverflowError(f"{op.out.name} = {op.kind} forms {got.min()}..{got.max()}, outside {node.word.name}")
