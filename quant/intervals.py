"""Ranges of a program over the reals, element by element, by interval arithmetic in float64 widened outward.

They decide formats. That nothing overflows is proved afterwards, on the integers, by ``ncpc.proofs``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.program import Program, Repeat, Stmt, statements
from ncpc.semantics.bounds import KINDS, Range, exactly, hull, image

SLACK = 2.0**-14
"""Share of a bound by which it is widened: room for the roundings of an integer version."""

LEAST_ROOT = 2.0**-13
"""Of the root of a sum of squares that are held in 16 bits each, a smaller share is noise."""

Ranges = dict[str, Range]

CHOOSING = ("mix", "min", "max", "clamp", "relu", "neg", "gather", "slice", "concat", "gt")
"""Ops whose result lies between their arguments, however it is rounded."""
SIGNED = ("add", "mul", "div", "exp", "sigmoid")
"""Ops whose result keeps its sign however the parts are rounded."""
PASSES, CREEPING, LEAP = 24, 4, 0.5
"""How often a repeat's body is tried; after how many passes a range grows by that share of its width."""
ROOM = 2.0**-12
"""Share of its width by which a box that is tried is widened; beyond it, roundings are limited to the box."""


def roomy(r: Range, share: float) -> Range:
    """A range wider by ``share`` of its width at either end, and a little."""
    room = share * (r.hi - r.lo) + 2.0**-10
    return Range(r.lo - room, r.hi + room)


class UnclosedError(Exception):
    """A value carried around a repeat leaves every range that was tried."""


def ranges_of(program: Program, known: Mapping[str, Range], carried: Mapping[str, Range]) -> Ranges:
    """The range of every value, from those of inputs and states (``known``).

    ``carried`` gives the ranges that values carried around a repeat are limited to. Where it has none, a range that
    the body maps into itself is searched; raises ``UnclosedError`` when there seems to be none.
    """
    found: Ranges = dict(known)
    found.update({name: exactly(data.astype(np.float64)) for name, (_, data) in program.constants.items()})
    _body(program, program.body, found, carried)
    return found


def _body(program: Program, body: tuple[Stmt, ...], found: Ranges, carried: Mapping[str, Range]) -> None:
    constants = {name: data for name, (_, data) in program.constants.items()}
    for stmt in body:
        if isinstance(stmt, Repeat):
            _repeat(program, stmt, found, carried)
        else:
            if stmt.kind not in KINDS:
                raise Unsupported(f"op '{stmt.kind}' has no integer form; use --quant float32")
            result = image(stmt, [found[a] for a in stmt.args], constants)
            found[stmt.out.name] = result if stmt.kind in CHOOSING else _widened(result, stmt.kind)


def _repeat(program: Program, stmt: Repeat, found: Ranges, carried: Mapping[str, Range]) -> None:
    """Ranges of carried values grow until the body maps them into themselves, in leaps where they creep.

    What a leap overshoots is taken back: the image of a range that holds itself holds itself too.
    """
    free = {c.inner.name: c for c in stmt.carried if c.inner.name not in carried}
    starts = {c.inner.name: carried.get(c.inner.name, found[c.init]) for c in stmt.carried}
    for k in range(PASSES):
        results = _pass(program, stmt, found, carried, starts)
        if all(results[name].within(starts[name]) for name in free):
            starts.update({name: hull(found[c.init], results[name]) for name, c in free.items()})
            _pass(program, stmt, found, carried, starts)
            found.update({c.out.name: starts[c.inner.name] for c in stmt.carried})
            return
        share = ROOM if k < CREEPING else LEAP
        starts.update({name: roomy(hull(starts[name], results[name]), share) for name in free})
    raise UnclosedError


def _pass(program: Program, stmt: Repeat, found: Ranges, carried: Mapping[str, Range], starts: Ranges) -> Ranges:
    """The body once: the results by the names that carry them."""
    found.update(starts)
    _body(program, stmt.body, found, carried)
    return {c.inner.name: found[c.result] for c in stmt.carried}


def _widened(r: Range, kind: str) -> Range:
    """With room for roundings, which carry none of the ``SIGNED`` across 0.

    Those of a root are a share of itself; one of less than ``LEAST_ROOT`` of the largest counts as that.
    """
    if kind == "sqrt":
        hi = r.hi * (1 + 4 * SLACK)
        return Range(np.where(r.lo > 0, np.maximum(r.lo * (1 - 4 * SLACK), LEAST_ROOT * hi.max(initial=0.0)), r.lo), hi)
    room = SLACK * np.maximum(np.abs(r.lo), np.abs(r.hi))
    lo, hi = r.lo - room, r.hi + room
    if kind in SIGNED:
        lo, hi = np.where(r.lo >= 0, np.maximum(lo, 0.0), lo), np.where(r.hi <= 0, np.minimum(hi, 0.0), hi)
    return Range(lo, hi)


def require_divisors(program: Program, ranges: Mapping[str, Range]) -> None:
    """Raises ``Unsupported`` where a divisor may be 0."""
    for op in (op for op in statements(program.body) if op.kind == "div"):
        divisor = ranges[op.args[1]]
        if np.any((divisor.lo <= 0) & (divisor.hi >= 0)):
            raise Unsupported(f"{op.out.name}: its divisor may be 0, so it has no integer form; use --quant float32")
