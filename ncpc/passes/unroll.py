"""Repeats written out: for targets whose graphs have no loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from ncpc.ir.check import check
from ncpc.ir.program import Op, Port, Program, Repeat, State, Stmt
from ncpc.ir.rewrite import carries


@dataclasses.dataclass(frozen=True, eq=False)
class Unrolled:
    """A program without repeats. ``carried`` names, for each state, the values that stand for it along the way."""

    program: Program
    carried: Mapping[str, tuple[str, ...]]


def unroll(program: Program) -> Unrolled:
    """Write every repeat out, its k-th pass's values called ``unfold<k>/<name>``, k from 1."""
    renamed: dict[str, str] = {}
    body = tuple(_flatten(program.body, "", renamed))
    flat = dataclasses.replace(
        program, body=body, y=_port(program, renamed),
        states=tuple(dataclasses.replace(s, out=renamed.get(s.out, s.out)) for s in program.states),
    )
    check(flat)
    return Unrolled(flat, {s.inp.name: _path(program.body, s, body) for s in program.states})


def _port(program: Program, renamed: Mapping[str, str]) -> Port:
    value = program.y.value
    return dataclasses.replace(program.y, value=dataclasses.replace(value, name=renamed.get(value.name, value.name)))


def _flatten(body: tuple[Stmt, ...], prefix: str, renamed: dict[str, str]) -> Iterator[Op]:
    for stmt in body:
        if isinstance(stmt, Repeat):
            yield from _repeat(stmt, prefix, renamed)
        else:
            args = tuple(renamed.get(a, a) for a in stmt.args)
            renamed[stmt.out.name] = f"{prefix}{stmt.out.name}"
            yield dataclasses.replace(stmt, out=dataclasses.replace(stmt.out, name=renamed[stmt.out.name]), args=args)


def _repeat(stmt: Repeat, prefix: str, renamed: dict[str, str]) -> Iterator[Op]:
    current = {c.inner.name: renamed.get(c.init, c.init) for c in stmt.carried}
    for k in range(1, stmt.count + 1):
        renamed.update(current)
        yield from _flatten(stmt.body, f"{prefix}unfold{k}/", renamed)
        current = {c.inner.name: renamed.get(c.result, c.result) for c in stmt.carried}
    renamed.update({c.out.name: current[c.inner.name] for c in stmt.carried})


def _path(body: tuple[Stmt, ...], state: State, flat: tuple[Op, ...]) -> tuple[str, ...]:
    """The names, in the flat program, of what a repeat that starts from ``state`` carries for it."""
    results = {carry.result for carry in carries(body) if carry.init == state.inp.name}
    return tuple(op.out.name for op in flat if op.out.name.rpartition("/")[2] in results)
