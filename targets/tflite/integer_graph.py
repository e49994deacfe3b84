"""Rewritten program and ranges -> a TFLite graph of int16 (int8 weights, int64 biases) or int8 tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.program import Op, Value, statements, values
from ncpc.ir.windows import windows_of
from ncpc.targets.graph.nodes import Attribute
from ncpc.targets.tflite.activations import activation, fold_activations
from ncpc.targets.tflite.aliases import apart
from ncpc.targets.tflite.describe import description, state_names
from ncpc.targets.tflite.float_graph import CONV
from ncpc.targets.tflite.graph import GraphBuilder, Quant, TfliteGraph
from ncpc.targets.tflite.integer_program import IntegerProgram
from ncpc.targets.tflite.placing import Placed, place
from ncpc.targets.tflite.scales import Format, constant_key, plan
from ncpc.targets.tflite.tensors import Shape, Tensors, concatenation, reshape
from ncpc.targets.tflite.weights import row_scales

F64 = NDArray[np.float64]


class IntegerGraph:
    """The graph while it grows."""

    def __init__(self, made: IntegerProgram, form: Format) -> None:
        self.program, self.form, self.transposes = fold_activations(made.program), form, made.transposes
        self.table = values(self.program)
        self.b = GraphBuilder()
        self.tensors = Tensors(self.b)
        self.quants = plan(self.program, made.ranges, form)

    def operand(self, op: Op, name: str, shape: Shape) -> str:
        """The tensor of an argument in a shape; a constant is quantized for the op that reads it."""
        if name not in self.program.constants:
            return self.tensors.shaped(name, shape)
        data = np.asarray(self.program.constants[name][1], np.float64)
        data = data.reshape(shape if data.size > 1 else (1, 1, 1, 1))
        quant = self.quants[constant_key(op, name)]
        return self.b.constant(name, quantize(data, quant, self.form.dtype), quant)

    def shape(self, op: Op) -> Shape:
        """The shape of an elementwise op's result: a frame where its arguments all are frames."""
        wide = [name for name in op.args if name not in self.program.constants]
        return self.tensors.together(wide) or (1, 1, 1, width(op.out))

    def result(self, kind: str, inputs: list[str], out: Value, shape: Shape | None = None,
               **options: Attribute) -> None:
        """An operator whose result is the value ``out``, a row unless it has another ``shape``."""
        tensor = self.b.tensor(out.name, shape or (1, 1, 1, width(out)), self.form.dtype, self.quants[out.name])
        self.tensors.put(out.name, self.b.node(kind, inputs, tensor, **options))

    def windowed(self, placed: Placed, constants: list[str], op: Op) -> None:
        """An operator over windows, whose result is a frame."""
        tensor = self.b.tensor(op.out.name, placed.shape(width(op.out)), self.form.dtype, self.quants[op.out.name])
        inputs, options = [placed.source, *constants], {**placed.options, **activation(op)}
        self.tensors.put(op.out.name, self.b.node(placed.operator, inputs, tensor, **options))


def integer_graph(made: IntegerProgram, form: Format, dt: float | None) -> TfliteGraph:
    """The graph of one step; ``dt`` is the timespan that was compiled in. Raises Unsupported for an output that nothing
    decides.
    """
    if made.program.y.value.name in made.program.constants:
        raise Unsupported(f"target tflite: the output of '{made.program.name}' depends on neither input nor state")
    g = IntegerGraph(made, form)
    program = g.program
    states = list(zip(state_names(program), program.states, strict=True))
    inputs = {"x": program.x.value, **{name: state.inp for name, state in states}}
    for name, value in inputs.items():
        g.tensors.put(value.name, g.b.tensor(name, (1, width(value)), form.dtype, g.quants[value.name]))
    outputs = {"y": program.y.value.name, **{f"{name}_out": state.out for name, state in states}}
    for name, inner in outputs.items():
        g.b.tensor(name, (1, width(g.table[inner])), form.dtype, g.quants[inner])
    for op in statements(program.body):
        EMITTERS[op.kind](g, op)
    for name, inner in outputs.items():
        reshape(g.b, g.tensors.made(inner), name)
    return apart(g.b.graph(program.name, list(inputs), list(outputs), description(program, dt)))


def quantize(data: F64, quant: Quant, dtype: str) -> NDArray[np.signedinteger]:
    """Reals to the nearest integers, limited to the type."""
    info = np.iinfo(dtype)
    raw = np.floor(data / quant.step + 0.5) + quant.zero_point
    limited: NDArray[np.signedinteger] = np.clip(raw, info.min, info.max).astype(dtype)
    return limited


def width(value: Value) -> int:
    """How many numbers a value has."""
    return int(np.prod(value.shape, dtype=np.int64))


def _elementwise(kind: str, **options: Attribute) -> Callable[[IntegerGraph, Op], None]:
    def emit(g: IntegerGraph, op: Op) -> None:
        shape = g.shape(op)
        g.result(kind, [g.operand(op, a, shape) for a in op.args], op.out, shape, **options, **activation(op))

    return emit


def _matmul(g: IntegerGraph, op: Op) -> None:
    weight, start = _weights(g, op, (1, 1))
    g.result("CONV_2D", [g.tensors.row(op.args[1]), weight, start], op.out, None, **CONV, **activation(op))


def _conv2d(g: IntegerGraph, op: Op) -> None:
    w, placed = windows_of(op.attrs), place(g.b, g.tensors, op.args[1], op)
    g.windowed(placed, [*_weights(g, op, (w.kernel_h, w.kernel_w))], op)


def _weights(g: IntegerGraph, op: Op, kernel: tuple[int, int]) -> tuple[str, str]:
    """Weights (filters, rows, columns, channels) and biases of a convolution, a scale for each filter."""
    source, out = g.quants[op.args[1]], g.quants[op.out.name]
    matrix = np.asarray(g.program.constants[op.args[0]][1], np.float64)
    offset = np.asarray(g.program.constants[op.args[2]][1], np.float64)
    scale = row_scales(matrix, offset, source.step, out.step)
    rows = np.clip(np.floor(matrix / scale[:, None] + 0.5), -127, 127).astype(np.int8)
    bias = np.floor(offset / (scale.astype(np.float64) * source.step) + 0.5).astype(g.form.bias)
    _refuse_overflow(g, op, rows, bias)
    weight = g.b.constant(op.args[0], rows.reshape(len(rows), *kernel, -1), Quant(scale))
    return weight, g.b.constant(op.args[2], bias, Quant(np.float32(source.step) * scale))


def _refuse_overflow(g: IntegerGraph, op: Op, rows: NDArray[np.int8], bias: NDArray[np.signedinteger]) -> None:
    """8-bit kernels add up in 32 bits; 16-bit ones in 64."""
    most = 255 * np.abs(rows.astype(np.int64)).sum(axis=1) + np.abs(bias)
    if g.form.bias == "int32" and most.max(initial=0) >= 1 << 31:
        raise Unsupported(f"target tflite: a sum of {rows.shape[1]} products in '{op.out.name}' may leave the 32 bits "
                          "of int8 kernels; use --quant int16, whose sums have 64 bits")


def _pool(g: IntegerGraph, op: Op) -> None:
    g.windowed(place(g.b, g.tensors, op.args[0], op), [], op)


def _transpose(g: IntegerGraph, op: Op) -> None:
    shape = g.transposes[op.out.name]
    order = g.b.constant("swapped", np.array([0, 1, 3, 2], np.int32))
    g.result("TRANSPOSE", [g.tensors.shaped(op.args[0], (1, 1, *shape)), order], op.out, (1, 1, *shape[::-1]))


def _slice(g: IntegerGraph, op: Op) -> None:
    begin, extent = (g.b.constant(f"{op.out.name}/{what}", np.array([*ends, n], np.int32)) for what, ends, n in (
        ("begin", (0, 0, 0), int(op.attrs["start"] or 0)), ("size", (1, 1, 1), width(op.out))))
    g.result("SLICE", [g.tensors.row(op.args[0]), begin, extent], op.out)


def _concat(g: IntegerGraph, op: Op) -> None:
    assert len({(g.quants[name].step, g.quants[name].zero_point) for name in (*op.args, op.out.name)}) == 1
    target = g.b.tensor(op.out.name, (1, 1, 1, width(op.out)), g.form.dtype, g.quants[op.out.name])
    g.tensors.put(op.out.name, concatenation(g.b, [g.tensors.row(name) for name in op.args], target))


EMITTERS: dict[str, Callable[[IntegerGraph, Op], None]] = {
    "add": _elementwise("ADD", potScaleInt16=False), "sub": _elementwise("SUB", potScaleInt16=False),
    "mul": _elementwise("MUL"), "sigmoid": _elementwise("LOGISTIC"), "tanh": _elementwise("TANH"),
    "max": _elementwise("MAXIMUM"), "min": _elementwise("MINIMUM"), "matmul": _matmul,
    "conv2d": _conv2d, "pool": _pool, "gather": _transpose,
    "slice": _slice, "concat": _concat,
}
