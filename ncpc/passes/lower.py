"""Policy -> program over the reals: each layer's equation as ops, in the order its source computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ncpc.errors import BadInput, Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.cells import KINDS
from ncpc.ir.check import check
from ncpc.ir.kinds import load
from ncpc.ir.policy import F64, GUESSED, Policy, Tap, Taps
from ncpc.ir.program import Array, Port, Program, State, Value, statements
from ncpc.ir.types import Axis, Fixed, Real, Type
from ncpc.ir.wires import taps_of
from ncpc.passes.context import Lowering
from ncpc.passes.lower_heads import WIDE


def lower(policy: Policy, wide: int = WIDE) -> Program:
    """One step of ``policy`` over the reals, with ``dt`` as an input even where its range is one number.

    Dense layers of ``wide`` inputs and more become convolutions of one place.
    """
    b = Builder(Real())
    x = b.value("x", [Axis("inputs", policy.inputs)])
    dt = b.value("dt", ())
    state = Lowering(b, x, dt, policy.dt, wide)
    wires, given = taps_of(policy), [x]
    for b.place, layer in enumerate(policy.layers):
        state.x = tapped(b, given, wires[b.place])
        first = len(state.states)
        given.append(lowering_of(layer)(layer, state))
        state.states[first:] = started(policy, b.place, state.states[first:])
    out = tapped(b, given, wires[-1])
    program = Program(
        name=policy.name, x=input_port(policy, x, None), y=output_port(policy, out, None), dt=dt_port(policy, dt, None),
        states=tuple(state.states), constants=b.constants, body=b.body, labels=state.labels,
    )
    check(program)
    return program


def tapped(b: Builder, given: Sequence[Value], taps: Taps) -> Value:
    """The channels that ``taps`` name, of values of one type: ``given[0]`` is the input, ``given[k + 1]`` what the
    layer at k gives.
    """
    parts = [_part(b, given[tap.source + 1], tap) for tap in taps]
    if len(parts) == 1:
        return parts[0]
    axis = Axis(b.unique("joined"), sum(tap.width for tap in taps))
    return b.op("concat", "joined", *parts, axes=[axis], type_=parts[0].type)


def _part(b: Builder, value: Value, tap: Tap) -> Value:
    if tap.width == value.shape[0]:
        return value
    axis = Axis(b.unique("channels"), tap.width)
    return b.op("slice", f"{value.name}_part", value, axes=[axis], type_=value.type, start=tap.start)


def started(policy: Policy, place: int, states: list[State]) -> list[State]:
    """The states of the layer at ``place``, from their initial values where the policy has some; raw ones if fixed."""
    for start in policy.initial:
        sizes = [state.inp.shape[0] for state in states]
        if start.layer == place and len(start.values) != sum(sizes):
            raise BadInput(f"layer {place}: its initial state holds {len(start.values)} values, it has {sum(sizes)}")
        if start.layer == place:
            parts = np.split(start.values, np.cumsum(sizes)[:-1])
            return [replace(state, init=_raw(part, state.inp.type)) for state, part in zip(states, parts, strict=True)]
    return states


def _raw(values: F64, kind: Type) -> Array:
    return np.floor(values * 2.0**kind.frac + 0.5).astype(np.int64) if isinstance(kind, Fixed) else values


def lowering_of(layer: object) -> Callable[[Any, Any], Value]:
    """The lowering of a layer's kind."""
    kind = getattr(layer, "kind", type(layer).__name__)
    if kind not in KINDS:
        raise Unsupported(f"layer kind '{kind}' cannot be lowered; supported: {', '.join(sorted(KINDS))}")
    lowering: Callable[[Any, Any], Value] = load(KINDS[kind].lowering)
    return lowering


def input_port(policy: Policy, value: Value, fracs: tuple[int, ...] | None) -> Port:
    """The port of the policy's inputs, with their names and ranges."""
    names = policy.input_names or tuple(f"x{i}" for i in range(policy.inputs))
    note = f"{GUESSED}." if policy.range_guessed else ""
    return Port(value, names, fracs, np.asarray(policy.input_range, np.float64), note=note)


def output_port(policy: Policy, value: Value, fracs: tuple[int, ...] | None) -> Port:
    """The port of the policy's outputs; their range is not declared but follows."""
    names = policy.output_names or tuple(f"y{i}" for i in range(policy.outputs))
    return Port(value, names, fracs, np.tile([-np.inf, np.inf], (policy.outputs, 1)))


def reads_dt(policy: Policy) -> bool:
    """Whether what the policy computes depends on the timespan."""
    real = lower(policy)
    return real.dt is not None and any(real.dt.value.name in op.args for op in statements(real.body))


def dt_port(policy: Policy, value: Value, fracs: tuple[int, ...] | None) -> Port:
    """The port of the timespan."""
    return Port(value, ("dt",), fracs, np.array([[policy.dt.lo, policy.dt.hi]]), policy.dt.nominal)
