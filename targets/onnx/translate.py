"""Program -> graph: linear ops are collected as linear forms, all others become one node each.

Repeats are unrolled: ONNX Runtime pays for a Loop's iteration several times what the body's nodes cost, and the
unfolds share their constants, so unrolling adds a few hundred bytes each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.program import Op, Program, Repeat, Stmt, Value, statements
from ncpc.passes.decompose import without_mix
from ncpc.targets.onnx import linear, windows
from ncpc.targets.onnx.evaluate import KERNELS
from ncpc.targets.onnx.graph import OnnxGraph, Writer
from ncpc.targets.onnx.grid import Grid
from ncpc.targets.onnx.linear import F64, I64, Linear
from ncpc.targets.onnx.settle import Settler

NODE_KINDS = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "min": "Min", "max": "Max", "exp": "Exp",
    "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu",
}
"""Ops that are one node on any shape."""


@dataclass(frozen=True)
class OnGrid:
    """A value along a synapse axis that is laid out as a grid: a tensor (batch, neurons, slots)."""

    tensor: str


@dataclass
class Translation:
    """A program on its way: ``env`` says what each value is by now."""

    program: Program
    grids: Mapping[str, Grid]
    writer: Writer = field(default_factory=Writer)
    env: dict[str, Linear | OnGrid] = field(default_factory=dict)
    settler: Settler = field(init=False)
    held: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settler = Settler(self.writer)

    def form(self, name: str) -> Linear:
        found = self.env[name]
        if isinstance(found, OnGrid):
            raise AssertionError(f"{name} lies on a grid")
        return found

    def tensor(self, name: str) -> str:
        """A tensor that holds the value; from now on the value is that tensor."""
        return self.tensors([name])[0]

    def tensors(self, names: list[str]) -> list[str]:
        """Tensors, or constants where a value is one, for what one op reads."""
        moving = {n: self.form(n) for n in dict.fromkeys(names) if not self.form(n).constant}
        done = self.settler.together(moving)
        self.env.update({n: linear.of_tensor(t, self.form(n).rows) for n, t in done.items()})
        return [done[n] if n in done else self.writer.const(n, self.form(n).const) for n in names]

    def index(self, name: str) -> I64:
        return self.program.constants[name][1].astype(np.int64)


def translate(program: Program, grids: Mapping[str, Grid]) -> OnnxGraph:
    """The step as a graph with inputs ``x``, ``state`` and ``dt`` (where the program has them), outputs ``y`` and
    ``state_out``. ``grids`` says which synapse axes are grids; the others are matrices. Raises Unsupported.
    """
    program = without_mix(program)
    t = Translation(program, grids)
    inputs = _inputs(t)
    for name, (_, data) in program.constants.items():
        if data.ndim <= 1 and data.dtype.kind == "f":
            t.env[name] = linear.of_constant(data.astype(np.float64))
    _body(t, program.body)
    outputs = _outputs(t)
    held = {t.writer.final(tensor): state for tensor, state in t.held.items()}
    return OnnxGraph(tuple(t.writer.nodes), t.writer.constants, inputs, outputs, t.writer.shapes, held)


def _inputs(t: Translation) -> dict[str, int]:
    program, widths = t.program, {"x": _rows(t.program.x.value)}
    t.env[program.x.value.name] = linear.of_tensor(t.writer.tensor("x", [widths["x"]]), widths["x"])
    sizes = {s.inp.name: _rows(s.inp) for s in program.states}
    if sizes:
        widths["state"] = sum(sizes.values())
        state = t.writer.tensor("state", [widths["state"]])
        t.env.update(t.settler.unpack(state, sizes))
    if program.dt is not None:
        widths["dt"] = 1
        t.env[program.dt.value.name] = linear.of_tensor(t.writer.tensor("dt", [1]), 1)
    return widths


def _outputs(t: Translation) -> dict[str, int]:
    """``y``, and ``state_out``: the states in program order, one after another."""
    program = t.program
    values = {"state_out": [s.out for s in program.states], "y": [program.y.value.name]}
    tensors = {name: _varying(t, name, members) for name, members in values.items() if members}
    for name, parts in tensors.items():
        t.writer.finish(parts[0] if len(parts) == 1 else _joined(t, name, parts), name)
    return {name: t.writer.shapes[name][0] for name in ("y", "state_out") if name in tensors}


def _varying(t: Translation, output: str, values: list[str]) -> list[str]:
    if any(t.form(v).constant for v in values):
        raise Unsupported(f"target onnx: output '{output}' of '{t.program.name}' depends on neither input nor state")
    return t.tensors(values)


def _joined(t: Translation, name: str, parts: list[str]) -> str:
    return t.writer.node("Concat", parts, f"{name}_all", [sum(t.writer.shapes[p][0] for p in parts)], axis=-1)


def _rows(value: Value) -> int:
    if len(value.axes) > 1:
        raise Unsupported(f"onnx: '{value.name}' has axes {[a.name for a in value.axes]}; one axis is supported")
    return int(np.prod(value.shape))


def _body(t: Translation, body: tuple[Stmt, ...]) -> None:
    for stmt in body:
        if isinstance(stmt, Repeat):
            _repeat(t, stmt)
        else:
            t.env[stmt.out.name] = _op(t, stmt)


def _repeat(t: Translation, stmt: Repeat) -> None:
    """Unrolled; what every pass reads is computed once, before the first."""
    _hoist(t, stmt)
    t.env.update({c.inner.name: t.env[c.init] for c in stmt.carried})
    for _ in range(stmt.count):
        _body(t, stmt.body)
        _carry(t, stmt)
    t.env.update({c.out.name: t.env[c.inner.name] for c in stmt.carried})


def _carry(t: Translation, stmt: Repeat) -> None:
    """The end of a pass: results become tensors, or forms would grow from pass to pass."""
    varying = [c for c in stmt.carried if not t.form(c.result).constant]
    tensors = t.tensors([c.result for c in varying])
    t.env.update({c.inner.name: t.env[c.result] for c in stmt.carried})
    states = {(s.inp.name, s.out): s.inp.name for s in t.program.states}
    t.held.update({tensor: states[c.init, c.out.name] for tensor, c in zip(tensors, varying, strict=True)
                   if (c.init, c.out.name) in states})


def _hoist(t: Translation, stmt: Repeat) -> None:
    free = _free(t, stmt)
    for axis in dict.fromkeys(_axis(t, op) for op in statements(stmt.body) if op.kind == "segment_sum"):
        bases = [op.args[2] for op in statements(stmt.body)
                 if op.kind == "segment_sum" and _axis(t, op) == axis and len(op.args) > 2 and op.args[2] in free]
        if axis not in t.grids and len(set(bases)) > 1:
            t.env.update(t.settler.bundle({name: t.form(name) for name in bases}))
            free -= set(bases)
    for name in sorted(free, key=list(t.env).index):
        t.tensor(name)


def _free(t: Translation, stmt: Repeat) -> set[str]:
    """What the body reads from outside and is no constant."""
    read = {a for op in statements(stmt.body) for a in op.args} | {c.init for c in stmt.carried}
    outside = {n for n in read if isinstance(t.env.get(n), Linear)}
    return {n for n in outside if not t.form(n).constant}


def _axis(t: Translation, op: Op) -> str:
    return t.program.constants[op.args[1]][0].axes[0].name


def _op(t: Translation, op: Op) -> Linear | OnGrid:
    if op.kind == "segment_sum":
        return _segment_sum(t, op)
    if op.out.axes and op.out.axes[-1].name in t.grids:
        return _on_grid(t, op)
    if op.kind in LINEAR:
        form = LINEAR[op.kind](t, op)
        if form is not None:
            return form
    if op.kind not in NODES:
        raise Unsupported(f"onnx: op '{op.kind}' ({op.out.name}) cannot be exported; supported: "
                          f"{', '.join(sorted({*NODES, *LINEAR}))}")
    return NODES[op.kind](t, op)


def _segment_sum(t: Translation, op: Op) -> Linear:
    rows, source = op.out.axes[-1].size, t.env[op.args[0]]
    if isinstance(source, OnGrid):
        axes = t.writer.const("slots_axis", np.array([2], np.int64))
        total = t.writer.node("ReduceSum", [source.tensor, axes], f"{op.out.name}_sum", [rows], keepdims=0)
        form = linear.of_tensor(total, rows)
    else:
        form = linear.segment_sum(linear.spread(source, _size(t, op)), t.index(op.args[1]), rows)
    return linear.add(form, t.form(op.args[2])) if len(op.args) > 2 else form


def _size(t: Translation, op: Op) -> int:
    return int(t.index(op.args[1]).shape[0])


def _on_grid(t: Translation, op: Op) -> OnGrid:
    grid = t.grids[op.out.axes[-1].name]
    if op.kind == "gather":
        return OnGrid(_read_source(t, op, grid))
    if op.kind not in NODE_KINDS:
        raise Unsupported(f"onnx: op '{op.kind}' ({op.out.name}) along synapses needs --form matrix")
    return OnGrid(t.writer.node(NODE_KINDS[op.kind], [_grid_operand(t, a, grid) for a in op.args], op.out.name,
                                grid.slots.shape))


def _read_source(t: Translation, op: Op, grid: Grid) -> str:
    """A broadcast where slot j reads source j, otherwise a Gather."""
    source, index = t.tensor(op.args[0]), grid.lay(t.index(op.args[1]))
    sources = t.form(op.args[0]).rows
    wanted = np.broadcast_to(np.arange(grid.slots.shape[1]), grid.slots.shape)
    if sources == grid.slots.shape[1] and bool(((index == wanted) | (grid.slots < 0)).all()):
        axes = t.writer.const("neuron_axis", np.array([1], np.int64))
        return t.writer.node("Unsqueeze", [source, axes], op.out.name, [1, sources])
    name = t.writer.const(op.args[1], index.astype(np.int32))
    return t.writer.node("Gather", [source, name], op.out.name, grid.slots.shape, axis=1)


def _grid_operand(t: Translation, name: str, grid: Grid) -> str:
    value = t.env[name]
    if isinstance(value, OnGrid):
        return value.tensor
    if not value.constant:
        axes = t.writer.const("neuron_axis", np.array([1], np.int64))
        return t.writer.node("Unsqueeze", [t.tensor(name), axes], f"{name}_grid", [1, value.rows])
    return t.writer.const(name, value.const if value.rows == 1 else grid.lay(value.const))


def _add(t: Translation, op: Op) -> Linear:
    return linear.add(t.form(op.args[0]), t.form(op.args[1]))


def _sub(t: Translation, op: Op) -> Linear:
    return linear.add(t.form(op.args[0]), linear.scale(t.form(op.args[1]), np.array([-1.0])))


def _mul(t: Translation, op: Op) -> Linear | None:
    a, b = (t.form(name) for name in op.args)
    if a.constant:
        return linear.scale(b, a.const)
    return linear.scale(a, b.const) if b.constant else None


def _div(t: Translation, op: Op) -> Linear | None:
    """By a constant: scaled. A constant by one number: scaled reciprocal of that number."""
    a, b = (t.form(name) for name in op.args)
    if b.constant:
        return linear.scale(a, 1.0 / b.const)
    if not (a.constant and b.rows == 1):
        return None
    name = f"{op.args[1]}_reciprocal"
    inverse = t.writer.node("Reciprocal", [t.tensor(op.args[1])], name, [1])
    return linear.scale(linear.of_tensor(inverse, 1), a.const)


def _matmul(t: Translation, op: Op) -> Linear:
    """Matrices are not multiplied with each other: the argument stays as it was trained, unless it only selects."""
    weight, form = t.program.constants[op.args[0]][1].astype(np.float64), t.form(op.args[1])
    if not linear.sparse_rows(form):
        t.tensor(op.args[1])
    product = linear.matmul(weight, t.form(op.args[1]))
    return linear.add(product, t.form(op.args[2])) if len(op.args) > 2 else product


def _gather(t: Translation, op: Op) -> Linear:
    return linear.select(t.form(op.args[0]), t.index(op.args[1]))


def _slice(t: Translation, op: Op) -> Linear:
    start = int(op.attrs["start"] or 0)
    return linear.select(t.form(op.args[0]), np.arange(start, start + op.out.axes[-1].size))


LINEAR: dict[str, Callable[[Translation, Op], Linear | None]] = {
    "add": _add, "sub": _sub, "mul": _mul, "div": _div, "matmul": _matmul, "gather": _gather, "slice": _slice,
    "neg": lambda t, op: linear.scale(t.form(op.args[0]), np.array([-1.0])),
    "concat": lambda t, op: linear.stack([t.form(a) for a in op.args]),
    "cast": lambda t, op: t.form(op.args[0]),
}
"""Ops that stay linear forms; None where the arguments do not allow it."""


def _elementwise(t: Translation, op: Op) -> Linear:
    rows = op.out.axes[-1].size if op.out.axes else 1
    if not rows:
        return linear.of_constant(np.zeros(0))
    forms = [t.form(a) for a in op.args]
    if all(f.constant for f in forms):
        return linear.of_constant(KERNELS[NODE_KINDS[op.kind]]([f.const for f in forms], {})[0])
    name = t.writer.node(NODE_KINDS[op.kind], t.tensors(list(op.args)), op.out.name, [rows])
    return linear.of_tensor(name, rows)


def _clamp(t: Translation, op: Op) -> Linear:
    lo, hi = (t.writer.const(f"{op.out.name}_{k}", _limit(t, op.attrs[k])) for k in ("lo", "hi"))
    source, rows = t.tensor(op.args[0]), t.form(op.args[0]).rows
    return linear.of_tensor(t.writer.node("Clip", [source, lo, hi], f"{op.out.name}_limited", [rows]), rows)


def _sqrt(t: Translation, op: Op) -> Linear:
    """Of what is not negative: ONNX has no root of other numbers."""
    source, rows = t.tensor(op.args[0]), t.form(op.args[0]).rows
    positive = t.writer.node("Relu", [source], f"{op.out.name}_of", [rows])
    return linear.of_tensor(t.writer.node("Sqrt", [positive], op.out.name, [rows]), rows)


def _limit(t: Translation, limit: int | float | str | None) -> F64:
    if isinstance(limit, str):
        raise Unsupported(f"onnx: clamp to '{limit}' per element cannot be exported; give one number")
    return np.array(limit, np.float64)


def _guard(t: Translation, op: Op) -> Linear:
    """``x`` where |x| < infinity, which no NaN is, else 0."""
    source, rows = t.tensor(op.args[0]), t.form(op.args[0]).rows
    name = op.out.name.removesuffix("_finite")
    size = t.writer.node("Abs", [source], f"{name}_size", [rows])
    finite = t.writer.node("Less", [size, t.writer.const("infinity", np.array(np.inf))], f"{name}_is_finite", [rows])
    zero = t.writer.const("zero", np.array(0.0))
    return linear.of_tensor(t.writer.node("Where", [finite, source, zero], f"{name}_finite", [rows]), rows)


def _greater(t: Translation, op: Op) -> Linear:
    """1 where a > b, else 0."""
    a, b = t.tensors(list(op.args))
    rows = op.out.axes[-1].size if op.out.axes else 1
    larger = t.writer.node("Less", [b, a], f"{op.out.name}_is_larger", [rows])
    one, zero = t.writer.const("one", np.array(1.0)), t.writer.const("zero", np.array(0.0))
    return linear.of_tensor(t.writer.node("Where", [larger, one, zero], op.out.name, [rows]), rows)


NODES: dict[str, Callable[[Translation, Op], Linear]] = {
    **dict.fromkeys(NODE_KINDS, _elementwise), "clamp": _clamp, "guard": _guard, "gt": _greater,
    "sqrt": _sqrt, "conv2d": windows.conv2d, "pool": windows.pool,
}
"""Ops that become nodes."""
