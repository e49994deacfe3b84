"""Program over the reals -> a float32 TFLite graph, one operator or two for each op.

Inside, every vector is (1, 1, 1, n): the shape that 1x1 convolutions want and that broadcasts in old runtimes; frames
are (1, rows, columns, channels). Sums over synapses are 1x1 convolutions with the incidence matrix, since TFLite Micro
has no segment sum.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.program import Attr, Op, Program, Value, statements, values
from ncpc.ir.windows import windows_of
from ncpc.passes.fold import fold_constants
from ncpc.passes.unroll import unroll
from ncpc.targets.graph.nodes import Attribute
from ncpc.targets.tflite.activations import activation, fold_activations
from ncpc.targets.tflite.aliases import apart
from ncpc.targets.tflite.channels_last import Order, channels_last
from ncpc.targets.tflite.describe import description, state_names
from ncpc.targets.tflite.graph import GraphBuilder, TfliteGraph
from ncpc.targets.tflite.placing import Placed, place
from ncpc.targets.tflite.tensors import Shape, Tensors, concatenation, reshape

CONV: dict[str, Attribute] = {
    "padding": 1, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1,
}
"""A 1x1 convolution: padding VALID, strides and dilations 1."""


class FloatGraph:
    """The graph while it grows. ``transposes`` names the gathers that transpose, and from which shape."""

    def __init__(self, program: Program, transposes: dict[str, Order]) -> None:
        self.program = program
        self.transposes = transposes
        self.table = values(program)
        self.b = GraphBuilder()
        self.tensors = Tensors(self.b)

    def operand(self, name: str) -> str:
        """The row of a value; a constant becomes one when it is first used."""
        if name not in self.tensors:
            self.tensors.put(name, self.b.constant(name, self.row(name)))
        return self.tensors.row(name)

    def together(self, op: Op) -> tuple[list[str], Shape]:
        """The arguments of an elementwise op, and its result's shape: a frame where they all are frames."""
        wide = [name for name in op.args if name not in self.program.constants]
        shape = self.tensors.together(wide)
        if shape is None or int(np.prod(shape)) != _width(op.out):
            return [self.operand(name) for name in op.args], (1, 1, 1, _width(op.out))
        return [self.tensors.made(name) if name in wide else self._like(name, shape) for name in op.args], shape

    def _like(self, name: str, shape: Shape) -> str:
        """A constant in the shape of what it meets; a number stays one."""
        row = self.row(name)
        return self.operand(name) if row.size == 1 else self.b.constant(name, row.reshape(shape))

    def row(self, name: str) -> NDArray[np.float32]:
        """A constant as (1, 1, 1, n)."""
        return self.program.constants[name][1].reshape(1, 1, 1, -1).astype(np.float32)

    def result(self, kind: str, inputs: list[str], out: Value, shape: Shape | None = None,
               **options: Attribute) -> None:
        """An operator whose result is the value ``out``, a row unless it has another ``shape``."""
        tensor = self.b.tensor(out.name, shape or (1, 1, 1, _width(out)), "float32")
        self.tensors.put(out.name, self.b.node(kind, inputs, tensor, **options))

    def windowed(self, placed: Placed, constants: list[str], op: Op) -> None:
        """An operator over windows, whose result is a frame."""
        tensor = self.b.tensor(op.out.name, placed.shape(_width(op.out)), "float32")
        inputs, options = [placed.source, *constants], {**placed.options, **activation(op)}
        self.tensors.put(op.out.name, self.b.node(placed.operator, inputs, tensor, **options))

    def step(self, kind: str, inputs: list[str], like: Value, suffix: str, **options: Attribute) -> str:
        """An operator on the way to ``like``."""
        tensor = self.b.tensor(f"{like.name}/{suffix}", (1, 1, 1, _width(like)), "float32")
        return self.b.node(kind, inputs, tensor, **options)


def float_graph(program: Program, dt: float | None) -> TfliteGraph:
    """The graph of one step; ``dt`` is the timespan that was compiled in, for the file's own description.

    Raises Unsupported, naming the op, for what TFLite cannot compute.
    """
    frames = channels_last(fold_constants(unroll(program).program))
    flat = fold_activations(frames.program)
    _refuse(flat)
    g, states = FloatGraph(flat, frames.transposes), list(zip(state_names(flat), flat.states, strict=True))
    inputs = {"x": flat.x.value, **{name: state.inp for name, state in states}}
    outputs = {"y": flat.y.value.name, **{f"{name}_out": state.out for name, state in states}}
    _declare(g, inputs, outputs)
    for op in statements(flat.body):
        EMITTERS[op.kind](g, op)
    for name, inner in outputs.items():
        reshape(g.b, g.operand(inner) if inner in flat.constants else g.tensors.made(inner), name)
    timespan = [] if flat.dt is None else ["dt"]
    return apart(g.b.graph(flat.name, [*inputs, *timespan], list(outputs), description(flat, dt)))


def _declare(g: FloatGraph, inputs: dict[str, Value], outputs: dict[str, str]) -> None:
    """The tensors of the signature, (1, n) each, ``dt`` (1,)."""
    for name, value in inputs.items():
        g.tensors.put(value.name, g.b.tensor(name, (1, _width(value)), "float32"))
    for name, inner in outputs.items():
        g.b.tensor(name, (1, _width(g.table[inner])), "float32")
    if g.program.dt is not None:
        _declare_dt(g, g.program.dt.value, g.program.dt.range[0])


def _declare_dt(g: FloatGraph, value: Value, limits: NDArray[np.float64]) -> None:
    """``dt`` is limited to the range it was declared for, as every target does."""
    g.b.tensor("dt", (1,), "float32")
    lo, hi = (g.b.constant(f"dt/limit{k}", np.full((1, 1, 1, 1), v, np.float32)) for k, v in enumerate(limits))
    least = g.step("MAXIMUM", ["dt", lo], value, "at_least")
    g.tensors.put(value.name, g.step("MINIMUM", [least, hi], value, "limited"))


def _refuse(program: Program) -> None:
    for op in statements(program.body):
        if op.kind not in EMITTERS:
            raise Unsupported(f"target tflite: '{op.out.name}' is made by '{op.kind}', for which LiteRT and TFLite "
                              "Micro have no operator in common; use target 'c'")
        if len(op.out.axes) > 1:
            raise Unsupported(f"target tflite: '{op.out.name}' has {len(op.out.axes)} axes, one is supported; use "
                              "target 'c'")


def _width(value: Value) -> int:
    return int(np.prod(value.shape, dtype=np.int64))


def _each(kind: str, **options: Attribute) -> Callable[[FloatGraph, Op], None]:
    def emit(g: FloatGraph, op: Op) -> None:
        inputs, shape = g.together(op)
        g.result(kind, inputs, op.out, shape, **options, **activation(op))

    return emit


def _cast(g: FloatGraph, op: Op) -> None:
    g.tensors.put(op.out.name, g.operand(op.args[0]))


def _gather(g: FloatGraph, op: Op) -> None:
    if op.out.name in g.transposes:
        return _transpose(g, op, g.transposes[op.out.name])
    index = g.b.constant(op.args[1], g.program.constants[op.args[1]][1].astype(np.int32))
    return g.result("GATHER", [g.operand(op.args[0]), index], op.out, axis=3)


def _transpose(g: FloatGraph, op: Op, shape: Order) -> None:
    source = g.tensors.shaped(op.args[0], (1, 1, *shape))
    g.result("TRANSPOSE", [source, g.b.constant("swapped", np.array([0, 1, 3, 2], np.int32))], op.out,
             (1, 1, *shape[::-1]))


def _slice(g: FloatGraph, op: Op) -> None:
    start, size = int(op.attrs["start"] or 0), _width(op.out)
    begin = g.b.constant(f"{op.out.name}/begin", np.array([0, 0, 0, start], np.int32))
    extent = g.b.constant(f"{op.out.name}/size", np.array([1, 1, 1, size], np.int32))
    g.result("SLICE", [g.operand(op.args[0]), begin, extent], op.out)


def _concat(g: FloatGraph, op: Op) -> None:
    parts = [g.operand(name) for name in op.args]
    target = g.b.tensor(op.out.name, (1, 1, 1, _width(op.out)), "float32")
    g.tensors.put(op.out.name, concatenation(g.b, parts, target))


def _segment_sum(g: FloatGraph, op: Op) -> None:
    post = g.program.constants[op.args[1]][1]
    incidence = post[None, :] == np.arange(_width(op.out))[:, None]
    weight = g.b.constant(f"{op.args[1]}/incidence", incidence.astype(np.float32)[:, None, None, :])
    _convolve(g, op, g.operand(op.args[0]), weight)


def _matmul(g: FloatGraph, op: Op) -> None:
    matrix = g.program.constants[op.args[0]][1].astype(np.float32)
    _convolve(g, op, g.operand(op.args[1]), g.b.constant(op.args[0], matrix[:, None, None, :]))


def _convolve(g: FloatGraph, op: Op, source: str, weight: str) -> None:
    """``weight`` times ``source`` plus the op's third argument: a bias where it is constant, else an addition."""
    start = op.args[2] if len(op.args) > 2 else None
    constant = start is not None and start in g.program.constants
    offset = g.row(start).reshape(-1) if constant and start else np.zeros(_width(op.out), np.float32)
    bias = g.b.constant(start if constant and start else f"zeros_{offset.size}", offset)
    if start is None or constant:
        g.result("CONV_2D", [source, weight, bias], op.out, None, **CONV, **activation(op))
    else:
        total = g.step("CONV_2D", [source, weight, bias], op.out, "sum", **CONV)
        g.result("ADD", [total, g.operand(start)], op.out, None, **activation(op))


def _conv2d(g: FloatGraph, op: Op) -> None:
    w, placed = windows_of(op.attrs), place(g.b, g.tensors, op.args[1], op)
    taps, bias = (g.program.constants[op.args[i]][1].astype(np.float32) for i in (0, 2))
    ordered = taps.reshape(len(taps), w.kernel_h, w.kernel_w, -1)
    g.windowed(placed, [g.b.constant(op.args[0], ordered), g.b.constant(op.args[2], bias)], op)


def _pool(g: FloatGraph, op: Op) -> None:
    g.windowed(place(g.b, g.tensors, op.args[0], op), [], op)


def _mix(g: FloatGraph, op: Op) -> None:
    """``a + t*(b - a)``."""
    a, b, t = (g.operand(name) for name in op.args)
    way = g.step("MUL", [t, g.step("SUB", [b, a], op.out, "span")], op.out, "way")
    g.result("ADD", [a, way], op.out)


def _greater(g: FloatGraph, op: Op) -> None:
    """A truth value, as a number."""
    truth = g.b.tensor(f"{op.out.name}/truth", (1, 1, 1, _width(op.out)), "bool")
    g.b.node("GREATER", [g.operand(a) for a in op.args], truth)
    g.result("CAST", [truth], op.out, inDataType=6, outDataType=0)  # BOOL to FLOAT32


def _clamp(g: FloatGraph, op: Op) -> None:
    low = g.step("MAXIMUM", [g.operand(op.args[0]), _limit(g, op, "lo")], op.out, "at_least")
    g.result("MINIMUM", [low, _limit(g, op, "hi")], op.out)


def _sqrt(g: FloatGraph, op: Op) -> None:
    """Of what is not negative: TFLite has no root of other numbers."""
    g.result("SQRT", [g.step("RELU", [g.operand(op.args[0])], op.out, "positive")], op.out)


def _limit(g: FloatGraph, op: Op, end: str) -> str:
    bound: Attr = op.attrs[end]
    if isinstance(bound, str):
        return g.operand(bound)
    return g.b.constant(f"{op.out.name}/{end}", np.full((1, 1, 1, 1), bound, np.float32))


EMITTERS: dict[str, Callable[[FloatGraph, Op], None]] = {
    "add": _each("ADD"), "sub": _each("SUB"), "mul": _each("MUL"), "div": _each("DIV"), "neg": _each("NEG"),
    "min": _each("MINIMUM"), "max": _each("MAXIMUM"), "exp": _each("EXP"), "sigmoid": _each("LOGISTIC"),
    "tanh": _each("TANH"), "relu": _each("RELU"), "concat": _concat, "cast": _cast,
    "gather": _gather, "slice": _slice, "segment_sum": _segment_sum, "matmul": _matmul, "clamp": _clamp,
    "mix": _mix, "conv2d": _conv2d, "pool": _pool, "gt": _greater,
    "sqrt": _sqrt,
}
"""How each op is written; an op that is not here is refused by name."""
