"""Where intervals overstate a range so much that 16 bits hold too little of what occurs: limits from what was seen.

Interval arithmetic forgets that two values depend on each other, so its bounds grow from layer to layer of a deep
backbone. A value that integers hold in 16 bits loses one of them each time its bound doubles. Where the bound is more
than ``WIDER`` times what was seen (with room), the value is limited to that, by an op whose status bit says when it
bites; what follows is bounded by the limit, and the proof on the integers is as complete as without. The result of a
layer without state, an output too, is limited where the bound costs it two bits of its format (``COARSE``); so is that
of a layer whose states are themselves limited to somewhat beyond what was seen, as its bound says no more than they.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from ncpc.ir.program import Attr, Carry, Op, Program, State, Stmt, compared, statements, values
from ncpc.quant.intervals import Ranges, ranges_of, require_divisors, roomy
from ncpc.semantics.bounds import Range

OBSERVED_ROOM = 0.5
"""Share of its width by which an observed range is widened on each side."""
WIDER = 4.0
"""How many times a bound may exceed what was seen, with its room, before the value is limited."""
COARSE = 2.0
"""How many times a bound may exceed what the format of what was seen holds, before a layer's result is limited."""
SNUG = 2.0**-7
"""By how much of itself a proved bound may exceed a power of two and still be cut down to just below it."""
SPARE, LARGE = 3, 10
"""Bits that a state of 32, which nothing reads in 16, can spare for what was not seen, and log2 of where it cannot:
with 2**10 before the point it has 20 bits of fraction left, a 32nd of the step of what 16 hold of numbers up to 1."""
HUGE = 2.0**14
"""A bound beyond which 32 bits are short of fraction too."""
FARTHEST = 2.0**40
"""Beyond, a network diverges: the unit of 32 bits that hold such a value (2**9) is more than most inputs are."""


def held_narrow(real: Program) -> set[str]:
    """The values that integers hold in 16 bits: what meets a weight matrix, factors, what is gathered or joined."""
    wide = {state.inp.name for state in real.states} | ({real.dt.value.name} if real.dt else set())
    found: set[str] = set()
    whole = compared(real.body)
    for op in statements(real.body):
        if op.kind == "matmul":
            found.add(op.args[1])
        elif op.kind == "gather" and op.out.name not in whole:
            found.add(op.args[0])
        elif op.kind == "concat":
            found.update(op.args)
        elif op.kind == "mul":
            found.update(set(op.args) - wide)
    return found


def too_wide(bound: Range, seen: Range) -> bool:
    """Whether a bound leaves too few bits to what was seen."""
    return bound.most > WIDER * max(seen.most, 2.0**-8)


def coarse(bound: Range, seen: Range) -> bool:
    """Whether the format that holds a bound has two bits of fraction less than one that holds what was seen."""
    return bound.most > COARSE * max(held_by_format(seen, 0).most, 2.0**-8)


def snug(box: Range) -> Range:
    """A proved box a little beyond a power of two, cut to just below: 2**k itself would cost a bit everywhere."""
    if not box.most <= FARTHEST:
        return box
    power = 2.0 ** round(np.log2(max(box.most, 2.0**-20)))
    if not power * (1 - 2.0**-14) < box.most <= power * (1 + SNUG):
        return box
    end = power * (1 - 2.0**-14)
    return box.clip(-end, end)


def held_by_format(seen: Range, spare: int) -> Range:
    """A range stretched to what the format that holds it holds, and ``spare`` bits further; none is meant to hold one
    beyond ``FARTHEST``.
    """
    if not seen.most <= FARTHEST:
        return seen
    # The format's own rule, ``ncpc.passes.fixed_scope.fraction``, asks for a little more than the range.
    power = math.ceil(math.log2(seen.most * (1 + 2.0**-9) + 2.0**-20))
    whole = (2.0 ** min(power + spare, max(power, LARGE)) - 2.0**-20) / (1 + 2.0**-9)
    share = max(whole * (1 - 2.0**-14) / max(seen.most, 2.0**-10), 1.0)
    return Range(seen.lo * share, seen.hi * share)


def limited(
    real: Program, known: Ranges, carried: Mapping[str, Range], observed: Mapping[str, Range], closed: bool,
) -> tuple[Program, Ranges]:
    """The step with a limit after each op whose bound is too wide for its use, and the ranges of all its values.

    Bounds are known for inputs and states (``known``) and for what repeats carry (``carried``); ``closed``: those of
    states are proved, not what was seen. Values inside repeats stay as they are: they are bounded by what is carried.
    Raises ``Unsupported`` where a divisor may be 0.
    """
    while True:
        ranges = ranges_of(real, known, carried)
        op = _overstated(real, ranges, observed, closed)
        if op is None:
            require_divisors(real, ranges)
            return real, ranges
        real = _with_limit(real, op, roomy(observed[op.out.name], OBSERVED_ROOM))


def _overstated(real: Program, ranges: Ranges, observed: Mapping[str, Range], closed: bool) -> Op | None:
    """The first op whose result's bound is too wide for its use; a convolution has a limit of its own.

    A layer hands its result on, or out, in 16 bits.
    """
    narrow = held_narrow(real) if real.states else set()
    result = "" if real.states and closed else real.y.value.name
    for op in (stmt for stmt in real.body if isinstance(stmt, Op) and stmt.out.name in observed):
        if op.kind == "conv2d":
            continue
        bound, seen = ranges[op.out.name], roomy(observed[op.out.name], OBSERVED_ROOM)
        following = any(stmt.kind == "clamp" and stmt.args == (op.out.name,) for stmt in statements(real.body))
        over = coarse(bound, seen) if op.out.name == result or not real.states else too_wide(bound, seen)
        if not following and over and (op.out.name in {*narrow, result} or bound.most > HUGE):
            return op
    return None


def _with_limit(real: Program, op: Op, seen: Range) -> Program:
    """The step in which all who read an op's result read it limited."""
    attrs: dict[str, Attr] = {"lo": float(seen.lo), "hi": float(seen.hi), "flag": "activation_limited"}
    out = dataclasses.replace(op.out, name=f"{op.out.name}_limited")
    return followed(real, op, Op("clamp", out, (op.out.name,), attrs, op.origin))


def followed(real: Program, op: Op, second: Op) -> Program:
    """The step in which all who read an op's result read what a ``second`` one makes of it; ``op`` is in no repeat."""
    old, new = op.out.name, second.out.name
    assert new not in values(real)
    at = real.body.index(op) + 1
    body = (*real.body[:at], second, *(_renamed(stmt, old, new) for stmt in real.body[at:]))
    y = real.y if real.y.value.name != old else dataclasses.replace(real.y, value=second.out)
    states = tuple(_renamed_state(state, old, new) for state in real.states)
    return dataclasses.replace(real, body=body, states=states, y=y)


def _renamed(stmt: Stmt, old: str, new: str) -> Stmt:
    if isinstance(stmt, Op):
        return dataclasses.replace(stmt, args=tuple(new if a == old else a for a in stmt.args))
    body = tuple(_renamed(inner, old, new) for inner in stmt.body)
    return dataclasses.replace(stmt, body=body, carried=tuple(_renamed_carry(c, old, new) for c in stmt.carried))


def _renamed_carry(carry: Carry, old: str, new: str) -> Carry:
    return dataclasses.replace(carry, init=new if carry.init == old else carry.init,
                               result=new if carry.result == old else carry.result)


def _renamed_state(state: State, old: str, new: str) -> State:
    return dataclasses.replace(state, out=new if state.out == old else state.out)
