"""Walking over the statements of a program, repeats included: every walk that needs no more than this stands here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from ncpc.ir.program import Carry, Op, Program, Repeat, Stmt, Value, statements

Body = tuple[Stmt, ...]


def map_ops(body: Body, change: Callable[[Op], Iterable[Op]]) -> Body:
    """The body with every op replaced by those that ``change`` makes of it: none, one or several."""

    def each(stmt: Stmt) -> Iterable[Stmt]:
        if isinstance(stmt, Repeat):
            return (dataclasses.replace(stmt, body=map_ops(stmt.body, change)),)
        return change(stmt)

    return tuple(new for stmt in body for new in each(stmt))


def map_values(body: Body, change: Callable[[Value], Value]) -> Body:
    """The body with every value that it defines replaced, carried ones included."""

    def each(stmt: Stmt) -> Stmt:
        if not isinstance(stmt, Repeat):
            return dataclasses.replace(stmt, out=change(stmt.out))
        carried = tuple(Carry(c.init, change(c.inner), c.result, change(c.out)) for c in stmt.carried)
        return dataclasses.replace(stmt, carried=carried, body=map_values(stmt.body, change))

    return tuple(map(each, body))


def repeats(body: Body) -> Iterator[Repeat]:
    """All repeats, each before those inside it."""
    for stmt in body:
        if isinstance(stmt, Repeat):
            yield stmt
            yield from repeats(stmt.body)


def carries(body: Body) -> Iterator[Carry]:
    """What all repeats carry."""
    return (carry for repeat in repeats(body) for carry in repeat.carried)


def with_trips(body: Body, trips: int = 1) -> Iterator[tuple[Op, int]]:
    """All ops with how often each runs in a step."""
    for stmt in body:
        if isinstance(stmt, Repeat):
            yield from with_trips(stmt.body, trips * stmt.count)
        else:
            yield stmt, trips


def reads(op: Op) -> tuple[str, ...]:
    """The values an op reads, bounds of a clamp included."""
    return (*op.args, *(v for key, v in op.attrs.items() if key in ("lo", "hi") and isinstance(v, str)))


def used(body: Body) -> set[str]:
    """The names that a body reads: by ops, as what a repeat begins with, as the result of a pass."""
    named = {name for op in statements(body) for name in reads(op)}
    return named | {name for carry in carries(body) for name in (carry.init, carry.result)}


def made(body: Body) -> set[str]:
    """The names that a body defines."""
    named = {op.out.name for op in statements(body)}
    return named | {value.name for carry in carries(body) for value in (carry.inner, carry.out)}


def free_names(stmt: Repeat) -> frozenset[str]:
    """The values that a repeat takes from outside."""
    return frozenset(used((stmt,)) - made((stmt,)))


MOVES = ("slice", "concat", "gather")
"""Ops whose results are elements of their arguments as they are."""


def only_moves(program: Program) -> bool:
    """Whether every number that a step gives or keeps is one that it was given or kept, or 0."""
    return all(op.kind in MOVES for op in statements(program.body))
