"""Runs a chain of graded layer nodes: integers in, integers out, and counts what is sent to synapses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import ProofFailed, Unsupported
from ncpc.ir.ops import OPS
from ncpc.ir.program import Op, Value
from ncpc.ir.sequences import Sequences, Trace
from ncpc.ir.types import Axis, Fixed
from ncpc.semantics import fixed
from ncpc.semantics.ops import FLAGS, implementation
from ncpc.targets.nir_graded.executor import GradedRun, Source, with_traffic
from ncpc.targets.nir_graded.layers import Face, GradedLayer, size

I64 = NDArray[np.int64]
Json = Mapping[str, Any]
Env = dict[str, I64]


def _blocks(weight: I64, x: I64, k: int, block: int) -> I64:
    starts = range(0, weight.shape[1], block)
    sums = (x[:, i : i + block] @ weight[:, i : i + block].T for i in starts)
    return np.asarray(sum(fixed.shr(s, k) for s in sums))


def _segments(a: I64, post: I64, width: int) -> I64:
    """Sums of the elements that name each result; ``post`` is sorted."""
    running = np.concatenate([np.zeros((a.shape[0], 1), np.int64), np.cumsum(a, axis=1)], axis=1)
    targets = np.arange(width)
    return np.asarray(running[:, np.searchsorted(post, targets, "right")] - running[:, np.searchsorted(post, targets)])


def _base(args: Sequence[I64]) -> I64 | int:
    """The third argument, which sums start from."""
    return args[2] if len(args) > 2 else 0


SIMPLE: dict[str, Callable[[Json, Sequence[I64]], I64]] = {
    "add": lambda op, a: a[0] + a[1],
    "sub": lambda op, a: a[0] - a[1],
    "mul": lambda op, a: a[0] * a[1],
    "neg": lambda op, a: -a[0],
    "min": lambda op, a: np.minimum(a[0], a[1]),
    "max": lambda op, a: np.maximum(a[0], a[1]),
    "gt": lambda op, a: (a[0] > a[1]).astype(np.int64) << op["frac"],
    "relu": lambda op, a: np.maximum(a[0], 0),
    "cast": lambda op, a: a[0],
    "shr": lambda op, a: fixed.shr(a[0], op["k"]),
    "asr": lambda op, a: a[0] >> op["k"],
    "shl": lambda op, a: a[0] << op["k"],
    "mulshr": lambda op, a: fixed.shr(a[0] * a[1], op["k"]),
    "lut": lambda op, a: fixed.lut(a[0], a[1], op["k"]),
    "inverse": lambda op, a: fixed.inverse(a[0], op["k"]),
    "mix": lambda op, a: a[0] + fixed.shr((a[1] - a[0]) * a[2], op["k"]),
    "gather": lambda op, a: np.take(a[0], a[1], axis=-1),
    "segment_sum": lambda op, a: _segments(a[0], a[1], op["shape"][-1]) + _base(a),
    "matmul": lambda op, a: a[1] @ a[0].T + _base(a),
    "matmulshr": lambda op, a: _blocks(a[0], a[1], op["k"], op["block"]) + _base(a),
    "slice": lambda op, a: a[0][..., op["start"] : op["start"] + op["shape"][-1]],
}
WHOLE = ("gather", "segment_sum", "matmul", "matmulshr", "slice", "lut")
"""Ops that take their arguments as they are; all others go element by element."""


@dataclass
class LayerMachine:
    """One node at work on a batch; ``env`` holds every value of the last step by name."""

    layer: GradedLayer
    env: Env = field(default_factory=dict)
    sources: dict[tuple[str, str], Source] = field(default_factory=dict)
    flags: I64 = field(default_factory=lambda: np.zeros(0, np.int64))

    def start(self, batch: int, rows: NDArray[np.bool_] | None = None) -> None:
        """All states, or those of ``rows`` (B,), at their first value."""
        for state in self.layer.step["states"]:
            first = np.broadcast_to(np.array(state["init"], np.int64).reshape(state["shape"]), (batch, *state["shape"]))
            old = self.env.get(state["name"], first)
            mask = None if rows is None else rows.reshape(-1, *([1] * len(state["shape"])))
            self.env[state["name"]] = first.copy() if mask is None else np.where(mask, first, old)
        for (send, _), source in self.sources.items():
            if send == "theta" and rows is not None:
                source.forget(rows)

    def step(self, message: I64) -> I64:
        """One step: the message (B, width) in -> the message out."""
        step = self.layer.step
        self.flags = np.zeros(message.shape[0], np.int64)
        self.env |= {**self.layer.constants, **_unpacked(step["reads"], message)}
        self._run(step["ops"])
        self.env |= {state["name"]: self.env[state["out"]] for state in step["states"]}
        return _packed(step["writes"], self.env, message.shape[0])

    def _run(self, ops: Sequence[Json]) -> None:
        for op in ops:
            if op["op"] == "repeat":
                self._repeat(op)
            else:
                self.env[op["out"]] = _fitting(op, self._value(op))

    def _repeat(self, op: Json) -> None:
        env = self.env
        env |= {c["inner"]: env[c["init"]] for c in op["carried"]}
        for _ in range(op["count"]):
            self._run(op["ops"])
            env |= {c["inner"]: env[c["result"]] for c in op["carried"]}
        env |= {c["out"]: env[c["inner"]] for c in op["carried"]}

    def _value(self, op: Json) -> I64:
        kind, args = op["op"], [self.env[name] for name in op["args"]]
        if "send" in op:
            at = 0 if kind == "gather" else 1
            args[at] = self._sent(op, args[at], args[1 - at])
        if kind in OPS and "channels" in op:
            return _over_windows(op, args, self)
        if kind == "concat":
            return np.concatenate([np.broadcast_to(a, (len(self.flags), a.shape[-1])) for a in args], axis=-1)
        if kind not in WHOLE:
            fixed_ones = self.layer.constants
            args = [a if n in fixed_ones else _lifted(a, op["shape"]) for a, n in zip(args, op["args"], strict=True)]
        if kind == "clamp":
            return self._clamped(op, args[0])
        if kind not in SIMPLE:
            raise Unsupported(f"graded node {self.layer.name}: unknown op '{kind}'")
        return SIMPLE[kind](op, args)

    def _sent(self, op: Json, values: I64, other: I64) -> I64:
        """What synapses know of ``values``, which are sent now where they moved."""
        key = (op["send"], op["out"])
        if key not in self.sources:
            fan_out = (np.bincount(other.reshape(-1), minlength=values.shape[-1]) if op["op"] == "gather"
                       else np.count_nonzero(other, axis=0))
            self.sources[key] = Source(fan_out, self.layer.theta if op["send"] == "theta" else 0)
        return self.sources[key].send(values)

    def _clamped(self, op: Json, value: I64) -> I64:
        lo, hi = (self.env[end] if isinstance(end, str) else end for end in (op["lo"], op["hi"]))
        limited = np.clip(value, lo, hi)
        if "flag" in op:
            outside = (limited != value).reshape(len(value), -1).any(axis=1)
            self.flags |= outside.astype(np.int64) << FLAGS.index(op["flag"])
        return limited


def _lifted(value: I64, shape: Sequence[int]) -> I64:
    """A batch of single numbers (B,) meets arrays (B, n) as (B, 1)."""
    if value.ndim != 1 or not shape:
        return value
    return value.reshape(-1, *([1] * len(shape)))


def _fitting(op: Json, value: I64) -> I64:
    """``value``; raises ProofFailed when it leaves its bits."""
    bits = op["bits"]
    lo, hi = (0, (1 << -bits) - 1) if bits < 0 else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if value.size and (value.min() < lo or value.max() > hi):
        raise ProofFailed(f"graded node: {op['out']} = {value.min()}..{value.max()} leaves {abs(bits)} bits")
    return value


def _over_windows(op: Json, args: Sequence[I64], machine: LayerMachine) -> I64:
    """Convolution and pooling as ``ncpc.semantics`` has them."""
    absent = dict.fromkeys(OPS[op["op"]].attrs)
    attrs = absent | {name: value for name, value in op.items() if name in absent}
    described = Op(op["op"], _described(op["out"], op["shape"], op), tuple(op["args"]), attrs)
    kinds = [_described(name, machine.env[name].shape[1:], op) for name in op["args"]]
    env: dict[str, Any] = {"flags": machine.flags}
    result = implementation(described, kinds, machine.layer.constants)(args, env)
    machine.flags = env["flags"]
    return np.asarray(result)


def _described(name: str, shape: Sequence[int], op: Json) -> Value:
    axes = tuple(Axis(f"axis{i}", n) for i, n in enumerate(shape))
    return Value(name, axes, Fixed(abs(op["bits"]), op["frac"], op["bits"] > 0))


def _unpacked(ports: Sequence[Json], message: I64) -> Env:
    ends = np.cumsum([size(port) for port in ports])[:-1]
    parts = np.split(message, ends, axis=1)
    return {port["name"]: part.reshape(len(message), *port["shape"]) for port, part in zip(ports, parts, strict=True)}


def _packed(ports: Sequence[Json], env: Env, batch: int) -> I64:
    whole = (np.broadcast_to(env[port["name"]], (batch, *port["shape"])) for port in ports)
    return np.concatenate([part.reshape(batch, -1) for part in whole], axis=1)


@dataclass
class ChainMachine:
    """All nodes, one behind the other."""

    machines: tuple[LayerMachine, ...]

    def start(self, batch: int, rows: NDArray[np.bool_] | None = None) -> None:
        """See ``LayerMachine.start``."""
        for machine in self.machines:
            machine.start(batch, rows)

    def load(self, initial: I64) -> None:
        """States (B, S) in the policy's order."""
        at = 0
        for state, machine in self.states():
            width = size(state)
            machine.env[state["name"]] = initial[:, at : at + width].reshape(-1, *state["shape"])
            at += width

    def states(self) -> list[tuple[Json, LayerMachine]]:
        """Every state with its node, in the policy's order."""
        found = [(state, machine) for machine in self.machines for state in machine.layer.step["states"]]
        return sorted(found, key=lambda pair: int(pair[0]["order"]))

    def step(self, message: I64) -> tuple[I64, I64]:
        """Raw inputs (B, inputs [+ dt]) -> raw outputs, flags (B,)."""
        flags = np.zeros(message.shape[0], np.int64)
        for machine in self.machines:
            message = machine.step(message)
            flags |= machine.flags
        return message, flags

    def after(self, batch: int) -> I64:
        """The states now, (B, S)."""
        parts = [machine.env[state["name"]].reshape(batch, -1) for state, machine in self.states()]
        return np.concatenate([np.zeros((batch, 0), np.int64), *parts], axis=1)


def chain_machine(layers: Sequence[GradedLayer]) -> ChainMachine:
    """The nodes, not yet started."""
    return ChainMachine(tuple(LayerMachine(layer) for layer in layers))


def encoded(face: Face, x: NDArray[np.float64], dt: NDArray[np.float64] | None) -> I64:
    """Physical inputs (..., inputs), and dt (...,) where the chain takes one, as the first message."""
    most = 1 << (face.x_bits - 1)
    raw = np.clip(np.floor(np.ldexp(np.nan_to_num(x, nan=0.0), face.x_frac) + 0.5), -most, most - 1)
    if face.dt_frac < 0:
        return np.asarray(raw.astype(np.int64))
    given = np.full(x.shape[:-1], face.dt_nominal) if dt is None else np.nan_to_num(dt, nan=0.0)
    words = np.clip(np.floor(np.ldexp(given, face.dt_frac) + 0.5), 0, 2**32 - 1)
    return np.concatenate([raw, words[..., None]], axis=-1).astype(np.int64)


def execute_layers(layers: Sequence[GradedLayer], data: Sequences, initial: I64 | None = None) -> GradedRun:
    """Every sequence from the reset states, or from ``initial`` (B, S)."""
    face, batch = layers[0].face, data.x.shape[0]
    machine, message = chain_machine(layers), encoded(layers[0].face, data.x, data.dt)
    machine.start(batch)
    if initial is not None:
        machine.load(initial)
    ys, states, flags = [], [], []
    for t in range(data.x.shape[1]):
        if data.reset is not None and t and data.reset[:, t].any():
            machine.start(batch, data.reset[:, t])
        y, flag = machine.step(message[:, t])
        ys.append(y)
        states.append(machine.after(batch))
        flags.append(flag)
    y, state = np.stack(ys, 1), np.stack(states, 1)
    fracs = np.concatenate([np.zeros(0, np.int64), *(np.full(size(s), s["frac"]) for s, _ in machine.states())])
    trace = Trace(np.ldexp(y.astype(float), -face.y_frac), np.ldexp(state.astype(float), -fracs), y, state,
                  np.stack(flags, 1))
    return with_traffic(trace, [source for m in machine.machines for source in m.sources.values()], data.steps)
