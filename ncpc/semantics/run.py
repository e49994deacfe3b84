"""Executes a program: float64 for reals, binary32 bit for bit, integers exactly.

A program is first turned into a list of closures over one dictionary of arrays, so a step costs the NumPy calls and
little more. Every array has a leading batch axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Op, Program, Repeat, State, Stmt, Value, values
from ncpc.ir.sequences import Sequences, Trace
from ncpc.ir.state import split
from ncpc.ir.types import Fixed
from ncpc.semantics import formed, ports, sums
from ncpc.semantics.ops import Compute, implementation
from ncpc.semantics.restore import restored

Env = dict[str, NDArray[Any]]
Action = Callable[[Env], None]
Meaning = Callable[[Op, Sequence[Value], Mapping[str, NDArray[Any]]], Compute]
Watches = Callable[[Op, Sequence[Value], Env], list[sums.Watch]]
Reading = tuple[Meaning, Watches | None]
Step = tuple[NDArray[Any], list[NDArray[Any]], NDArray[np.int64]]
"""Outputs (B, outputs), the states after the step, each (B, n), and flags (B,)."""


def watches_of(op: Op, args: Sequence[Value], constants: Env) -> list[sums.Watch]:
    """Of every intermediate that C forms and that the types alone do not settle."""
    if op.kind == "lut":
        _require_table(op, constants[op.args[1]])
    nodes, watched = formed.unsettled(op, args, constants), sums.watch(op, args, constants)
    between: list[sums.Watch] = [lambda given: formed.require(op, nodes, given)] if nodes else []
    return [*between, *([watched] if watched else [])]


class Stepper(Protocol):
    """What runs a program step by step: see ``Executor``."""

    def reset(self, batch: int, rows: NDArray[np.bool_] | None = None) -> None: ...

    def load(self, states: Mapping[str, NDArray[Any]]) -> None: ...

    def step(self, x: NDArray[Any], dt: NDArray[Any] | None = None) -> Step: ...


class Executor:
    """A program ready to step: ``reset(batch)``, ``step(x_raw, dt_raw)``; state is held here, outputs are raw.

    ``meaning`` is what an op computes, ``watches`` what looks at its arguments before it does. Where there are watches,
    every fixed-point result must fit its type, else OverflowError says which one does not.
    """

    def __init__(
        self, program: Program, meaning: Meaning = implementation, watches: Watches | None = watches_of
    ) -> None:
        self.program = program
        self._env: Env = _constants(program)
        self._actions = _compile_body(program.body, values(program), self._env, (meaning, watches))

    def reset(self, batch: int, rows: NDArray[np.bool_] | None = None) -> None:
        """Put the reset state into all rows of the batch, or into the rows where ``rows`` is True."""
        for state in self.program.states:
            start = _initial(state, batch)
            if rows is None:
                self._env[state.inp.name] = start
            else:
                self._env[state.inp.name] = np.where(rows[:, None], start, self._env[state.inp.name])

    def load(self, states: Mapping[str, NDArray[Any]]) -> None:
        """Set states by the name of their input value, (B, n) in the program's own numbers."""
        self._env.update(states)

    def step(self, x: NDArray[Any], dt: NDArray[Any] | None = None) -> Step:
        """``x`` (B, inputs), ``dt`` (B,) raw -> outputs (B, outputs), states, flags (B,)."""
        env = self._env
        env[self.program.x.value.name] = x
        env["flags"] = np.zeros(x.shape[0], np.int64)
        if self.program.dt is not None and dt is not None:
            env[self.program.dt.value.name] = dt
        for action in self._actions:
            action(env)
        after = [env[state.out] for state in self.program.states]
        for state, value in zip(self.program.states, after, strict=True):
            env[state.inp.name] = value
        return env[self.program.y.value.name], after, env["flags"]

    def value(self, name: str) -> NDArray[Any]:
        """Any value of the last step, by name."""
        return self._env[name]


def stepping(executor: Stepper, program: Program, data: Sequences) -> Iterator[Step]:
    """Each step of ``data`` by an executor of ``program`` that holds its first states already; rows are reset where
    ``data`` says so. A state that is loaded between two steps is what the next one begins with.
    """
    x, dt = ports.encode(program.x, data.x), encoded_dt(program, data)
    for t in range(data.x.shape[1]):
        if data.reset is not None and data.reset[:, t].any():
            executor.reset(len(x), data.reset[:, t])
        with np.errstate(over="ignore", under="ignore"):
            step = executor.step(x[:, t], None if dt is None else dt[:, t])
        yield step


def run(program: Program, data: Sequences, stepper: Stepper | None = None) -> Trace:
    """Run ``data`` through ``program``, sequence by sequence from the reset state, or from the states it restores.

    Physical numbers in and out; the status bits of restoring are those of the first step. ``stepper`` is another that
    runs the program than an ``Executor``.
    """
    executor = stepper or Executor(program)
    batch = len(data.x)
    executor.reset(batch)
    before = np.zeros(batch, np.int64)
    if data.restored is not None:
        kept, before = restored(data.restored, program)
        executor.load(kept)
    ys, states, flags = [], [], []
    for y, after, flag in stepping(executor, program, data):
        ys.append(y)
        states.append(np.concatenate([np.zeros((batch, 0), y.dtype), *after], axis=1))
        flags.append(flag)
    flags[0] = flags[0] | before
    return trace_of(program, np.stack(ys, 1), np.stack(states, 1), np.stack(flags, 1))


def encoded_dt(program: Program, data: Sequences) -> NDArray[Any] | None:
    """The timespans as the program takes them, (B, T): the nominal one where none are given; None without dt."""
    if program.dt is None:
        return None
    dt = np.full(data.x.shape[:2], program.dt.nominal) if data.dt is None else data.dt
    return ports.encode(program.dt, dt[..., None])[..., 0]


def trace_of(program: Program, y: NDArray[Any], state: NDArray[Any], flags: NDArray[np.int64]) -> Trace:
    """The trace of raw outputs (B, T, outputs), states (B, T, S) and flags (B, T)."""
    parts = split(program.states, state)
    physical = [np.zeros((*state.shape[:2], 0)), *(ports.physical(parts[s.inp.name], s.inp) for s in program.states)]
    return Trace(
        y=ports.decode(program.y, y),
        state=np.concatenate(physical, axis=2),
        raw_y=ports.bits(y),
        raw_state=ports.bits(state),
        flags=flags,
    )


def _initial(state: State, batch: int) -> NDArray[Any]:
    start = np.asarray(state.init).astype(ports.dtype(state.inp.type))
    return np.broadcast_to(start, (batch, *start.shape)).copy()


def _constants(program: Program) -> Env:
    return {name: data.astype(ports.dtype(value.type)) for name, (value, data) in program.constants.items()}


def _compile_body(body: tuple[Stmt, ...], table: Mapping[str, Value], constants: Env, reading: Reading) -> list[Action]:
    return [_compile_repeat(stmt, table, constants, reading) if isinstance(stmt, Repeat)
            else _compile_op(stmt, table, constants, reading) for stmt in body]


def _compile_repeat(stmt: Repeat, table: Mapping[str, Value], constants: Env, reading: Reading) -> Action:
    actions = _compile_body(stmt.body, table, constants, reading)

    def act(env: Env) -> None:
        env.update({c.inner.name: env[c.init] for c in stmt.carried})
        for _ in range(stmt.count):
            for action in actions:
                action(env)
            env.update({c.inner.name: env[c.result] for c in stmt.carried})
        env.update({c.out.name: env[c.inner.name] for c in stmt.carried})

    return act


def _compile_op(op: Op, table: Mapping[str, Value], constants: Env, reading: Reading) -> Action:
    args, (meaning, watches) = [table[a] for a in op.args], reading
    compute = meaning(op, args, constants)
    lifts = [_lift(value, op.out, value.name in constants) for value in args]
    checked = isinstance(op.out.type, Fixed) and 0 not in op.out.shape
    watching = watches(op, args, constants) if watches and checked else []

    def act(env: Env) -> None:
        given = [env[a] if lift is None else lift(env[a]) for a, lift in zip(op.args, lifts, strict=True)]
        for watch in watching:
            watch(given)
        result = compute(given, env)
        if watches and checked:
            _require_fit(op, result)
        env[op.out.name] = result

    return act


def _require_table(op: Op, table: NDArray[Any]) -> None:
    read = formed.interpolated(table.astype(np.int64), int(op.attrs["k"] or 0))
    if not all(node.fits for node in read.nodes):
        raise OverflowError(f"{op.out.name} = lut: between two entries of {op.args[1]} 32 bits overflow")


def _lift(arg: Value, out: Value, constant: bool) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """A batch of single numbers (B,) meets arrays (B, n) as (B, 1); what follows from constants has no batch."""
    if constant or arg.axes or not out.axes:
        return None
    return lambda a: a.reshape(a.shape[0], *([1] * len(out.axes))) if a.ndim else a


def _require_fit(op: Op, result: NDArray[Any]) -> None:
    assert isinstance(op.out.type, Fixed)
    if result.size and (result.min() < op.out.type.lo or result.max() > op.out.type.hi):
        raise OverflowError(f"{op.out.name} = {op.kind} leaves {op.out.type}: {result.min()}..{result.max()}")

