"""Which rounding costs what: the integer program over the reals, one rounding switched on at a time.

Every row of a batch runs the same inputs. In row 0 no op rounds: a shift divides, a table is read between its entries,
an inverse is one. In row i the i-th value rounds alone, as the integers do, and its distance from row 0 is its cost. In
the last row all do, which is what the device computes. What row 0 itself is off by is the cost of what was rounded when
the policy was quantized (weights, biases, tables) and of limits; constants that stand in the policy's own step under
the same name are put into it one by one.

A worked example: ``q = shr(p, k=3)`` with p = 21 raw is 2.625 in the rows where q does not round, 3 where it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import F64
from ncpc.ir.program import Op, Origin, Program, Value, statements
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Fixed
from ncpc.ir.windows import windows_of
from ncpc.semantics import fixed, ports, windows
from ncpc.semantics.ops import Arr, Compute, implementation
from ncpc.semantics.run import Executor, run

Marks = Mapping[str, NDArray[np.bool_]]
"""Value -> (rows,): where it rounds."""


@dataclass(frozen=True)
class RoundingCost:
    """What rounding one value costs alone: the largest change of an output, in physical units."""

    value: str
    layer: str
    equation: str
    format: str
    max_abs: float


@dataclass(frozen=True)
class Costs:
    """``values``, the dearest first; ``stored`` is left when nothing rounds at run time, ``all`` is all together."""

    values: tuple[RoundingCost, ...]
    stored: float
    all: float


def rounding_costs(real: Program, program: Program, data: Sequences) -> Costs:
    """The costs on one sequence, ``data`` (1, T, inputs): of ``program`` in integers, against ``real``."""
    reference = run(real, data).y
    rounding = [op for op in statements(program.body) if op.kind in EXACT and op.kind not in ("cast", "shl")]
    y = _run(program, data, [op.out.name for op in rounding])
    apart = np.abs(y[1:-1] - y[0]).max(axis=(1, 2))
    named = [(program.x.value, Origin("input", "inputs in their format")), *((op.out, op.origin) for op in rounding)]
    costs = [_cost(value, origin, size) for (value, origin), size in zip(named, apart, strict=True)]
    costs += _stored_costs(real, program, data, reference)
    stored, everything = (float(np.abs(y[row] - reference[0]).max()) for row in (0, -1))
    return Costs(tuple(sorted(costs, key=lambda cost: -cost.max_abs)), stored, everything)


def _cost(value: Value, origin: Origin | None, size: float) -> RoundingCost:
    known = origin or Origin("", "")
    return RoundingCost(value.name, known.layer, known.equation, str(value.type), float(size))


def _stored_costs(real: Program, program: Program, data: Sequences, reference: F64) -> list[RoundingCost]:
    """Of each constant of the policy's own step that integers hold under the same name, rounded."""
    found = []
    for name, (value, exact) in real.constants.items():
        kind, raw = program.constants.get(name, (value, exact))
        if not isinstance(kind.type, Fixed) or raw.shape != exact.shape:
            continue
        rounded = raw * kind.type.lsb
        if np.abs(rounded - exact).max(initial=0.0) > kind.type.lsb:
            continue  # of another scale row by row, or folded with something
        changed = replace(real, constants={**real.constants, name: (value, np.asarray(rounded, np.float64))})
        origin = next((op.origin for op in statements(real.body) if name in op.args), None)
        layer = origin.layer if origin else ""
        found.append(_cost(kind, Origin(layer, "as stored"), np.abs(run(changed, data).y - reference).max()))
    return found


def _run(program: Program, data: Sequences, names: Sequence[str]) -> F64:
    """Outputs (rows, T, outputs): row 0 without rounding, then the inputs', each of ``names`` alone, and all."""
    batch, steps = len(names) + 3, data.x.shape[1]
    places = np.arange(batch)
    marks = {name: (places == row) | (places == batch - 1) for row, name in enumerate(names, 2)}
    executor = Executor(program, lambda op, args, constants: _meaning(op, args, constants, marks), watches=None)
    x, dt = _inputs(program, data, batch)
    executor.reset(batch)
    found = []
    for t in range(steps):
        if data.reset is not None and data.reset[0, t]:
            executor.reset(batch)
        y, _, _ = executor.step(x[:, t], None if dt is None else np.full(batch, dt[t]))
        found.append(ports.decode(program.y, y))
    return np.stack(found, axis=1)


def _inputs(program: Program, data: Sequences, batch: int) -> tuple[F64, F64 | None]:
    """Raw inputs (batch, T, inputs), rounded in row 1 and the last one, and raw timespans (T,)."""
    assert program.x.fracs is not None
    x = np.repeat((data.x[0] * np.exp2(np.array(program.x.fracs, np.float64)))[None], batch, axis=0)
    x[[1, batch - 1]] = ports.encode(program.x, data.x[0])
    if program.dt is None:
        return x, None
    dt = np.full(x.shape[1], program.dt.nominal) if data.dt is None else data.dt[0]
    return x, ports.encode(program.dt, dt[:, None])[:, 0].astype(np.float64)


def _meaning(op: Op, args: Sequence[Value], constants: Mapping[str, Arr], marks: Marks) -> Compute:
    """An op over the reals, rounded where it is marked; ops that do not round are as they are for integers."""
    if op.kind not in EXACT:
        return implementation(op, args, constants)
    exact, rounded, mark = EXACT[op.kind], ROUNDED.get(op.kind, _nearest), marks.get(op.out.name)

    def compute(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
        value = exact(op, a, args)
        if mark is None:
            return _sum(value, op, a)
        here = mark.reshape(-1, *([1] * len(op.out.axes)))
        return np.where(here, _sum(rounded(op, a, value), op, a), _sum(value, op, a))

    return compute


def _sum(value: Arr, op: Op, a: Sequence[Arr]) -> Arr:
    """The blocks of a ``matmulshr`` added up, on its third argument."""
    if op.kind != "matmulshr":
        return value
    total: Arr = value.sum(axis=0)
    return total + a[2] if len(a) > 2 else total


def _k(op: Op) -> float:
    return float(2.0 ** int(op.attrs["k"] or 0))


def _nearest(op: Op, a: Sequence[Arr], value: Arr) -> Arr:
    return np.asarray(np.floor(value + 0.5))


def _inverse(op: Op, a: Sequence[Arr], value: Arr) -> Arr:
    """Seed and Newton step, of the nearest integer."""
    whole = np.clip(np.rint(a[0]), 1, 2**31 - 1).astype(np.int64)
    return fixed.inverse(whole, int(op.attrs["k"] or 0)).astype(np.float64)


def _blocks(op: Op, a: Sequence[Arr], args: Sequence[Value]) -> Arr:
    """(blocks, batch, out): each block's sum of products, shifted."""
    block = int(op.attrs["block"] or 1)
    starts = range(0, a[0].shape[1], block)
    return np.stack([(a[1][:, i : i + block] @ a[0][:, i : i + block].T) / _k(op) for i in starts])


def _between(op: Op, a: Sequence[Arr], args: Sequence[Value]) -> Arr:
    """A table between its entries, as far as it goes."""
    return np.interp(a[0] / _k(op), np.arange(len(a[1])), a[1])


def _conv(op: Op, a: Sequence[Arr], args: Sequence[Value]) -> Arr:
    """As ``windows.conv2d`` for integers, whose bias holds the half that rounds a shifted sum."""
    w, shift = windows_of(op.attrs), a[3]
    y = (windows.products(w, a[0].astype(np.float64), a[1]) + a[2]) / np.exp2(shift) - np.where(shift > 0, 0.5, 0.0)
    return windows.flat(windows.limited(op, np.maximum(y, 0.0) if op.attrs["relu"] else y), w)


def _pool(op: Op, a: Sequence[Arr], args: Sequence[Value]) -> Arr:
    w, function = windows_of(op.attrs), str(op.attrs["function"])
    if function == "max":
        return windows.flat(windows.largest(a[0], w), w)
    return windows.flat(windows.total(a[0], w) / windows.elements(w, function)[..., None], w)


def _mix(op: Op, a: Sequence[Arr], args: Sequence[Value]) -> Arr:
    return np.asarray(a[0] + a[2] * args[2].type.lsb * (a[1] - a[0]))  # type: ignore[union-attr]


EXACT: dict[str, Callable[[Op, Sequence[Arr], Sequence[Value]], Arr]] = {
    "shr": lambda op, a, args: a[0] / _k(op),
    "shr_full": lambda op, a, args: a[0] / _k(op),
    # A half was added before; of the few products that are shifted without, it is some units of 2**-26.
    "asr": lambda op, a, args: a[0] / _k(op) - 0.5,
    "mulshr": lambda op, a, args: a[0] * (a[1] / _k(op)),
    "matmulshr": _blocks,
    "lut": _between,
    "inverse": lambda op, a, args: 2.0**46 * _k(op) / a[0],
    "mix": _mix,
    "conv2d": _conv,
    "pool": _pool,
    "cast": lambda op, a, args: a[0],
    "shl": lambda op, a, args: a[0] * _k(op),
}
"""What ops that round, or that only integers have, mean over the reals, on raw numbers."""
ROUNDED: dict[str, Callable[[Op, Sequence[Arr], Arr], Arr]] = {"inverse": _inverse}
"""Those that do otherwise than to round to the nearest integer."""
