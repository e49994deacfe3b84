"""Rewritten program and ranges -> a TFLite graph of int16 (int8 weights, int64 biases) or int8 tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Op, Value, statements, values
from ncpc.targets.tflite.describe import description, state_names
from ncpc.targets.tflite.float_graph import CONV
from ncpc.targets.tflite.graph import Graph, GraphBuilder, Option, Quant
from ncpc.targets.tflite.integer_program import IntegerProgram
from ncpc.targets.tflite.scales import Format, constant_key, plan
from ncpc.targets.tflite.weights import row_scales

F64 = NDArray[np.float64]

class IntegerGraph:
    """The graph while it grows."""

    def __init__(self, made: IntegerProgram, form: Format) -> None:
        self.program, self.ranges, self.form = made.program, made.ranges, form
        self.table = values(made.program)
        self.b = GraphBuilder()
        self.names: dict[str, str] = {}
        self.quants = plan(made.program, made.ranges, form)

    def operand(self, op: Op, name: str) -> str:
        """The tensor of an argument; a constant is quantized for the op that reads it."""
        if name not in self.program.constants:
            return self.names[name]
        data = np.asarray(self.program.constants[name][1], np.float64).reshape(1, 1, 1, -1)
        quant = self.quants[constant_key(op, name)]
        return self.b.constant(name, quantize(data, quant, self.form.dtype), quant)

    def result(self, kind: str, inputs: list[str], out: Value, **options: Option) -> None:
        tensor = self.b.tensor(out.name, (1, 1, 1, width(out)), self.form.dtype, self.quants[out.name])
        self.names[out.name] = self.b.node(kind, inputs, tensor, **options)


def integer_graph(made: IntegerProgram, form: Format, dt: float | None) -> Graph:
    """The graph of one step; ``dt`` is the timespan that was compiled in."""
    g, program = IntegerGraph(made, form), made.program
    states = list(zip(state_names(program), program.states, strict=True))
    inputs = {"x": program.x.value, **{name: state.inp for name, state in states}}
    for name, value in inputs.items():
        g.b.tensor(name, (1, width(value)), form.dtype, g.quants[value.name])
    outputs = {"y": program.y.value.name, **{f"{name}_out": state.out for name, state in states}}
    for name, inner in outputs.items():
        g.b.tensor(name, (1, width(g.table[inner])), form.dtype, g.quants[inner])
    for name, value in inputs.items():
        row = g.b.tensor(f"{name}/row", (1, 1, 1, width(value)), form.dtype, g.quants[value.name])
        g.names[value.name] = _reshape(g, name, row, (1, 1, 1, width(value)))
    for op in statements(program.body):
        EMITTERS[op.kind](g, op)
    for name, inner in outputs.items():
        _reshape(g, g.names[inner], name, g.b.tensors[name].shape)
    return g.b.graph(program.name, list(inputs), list(outputs), description(program, dt))


def quantize(data: F64, quant: Quant, dtype: str) -> NDArray[np.signedinteger]:
    """Reals to the nearest integers, limited to the type."""
    info = np.iinfo(dtype)
    raw = np.floor(data / quant.step + 0.5) + quant.zero_point
    limited: NDArray[np.signedinteger] = np.clip(raw, info.min, info.max).astype(dtype)
    return limited


def width(value: Value) -> int:
    """How many numbers a value has."""
    return int(np.prod(value.shape, dtype=np.int64))


def _reshape(g: IntegerGraph, source: str, target: str, shape: tuple[int, ...]) -> str:
    size = g.b.constant(f"shape_{len(shape)}_{shape[-1]}", np.array(shape, np.int32))
    return g.b.node("RESHAPE", [source, size], target, newShape=shape)


def _elementwise(kind: str, **options: Option) -> Callable[[IntegerGraph, Op], None]:
    return lambda g, op: g.result(kind, [g.operand(op, a) for a in op.args], op.out, **options)


def _convolve(g: IntegerGraph, op: Op) -> None:
    source, out = g.quants[op.args[1]], g.quants[op.out.name]
    matrix = np.asarray(g.program.constants[op.args[0]][1], np.float64)
    offset = np.asarray(g.program.constants[op.args[2]][1], np.float64)
    scale = row_scales(matrix, offset, source.step, out.step)
    rows = np.clip(np.floor(matrix / scale[:, None] + 0.5), -127, 127).astype(np.int8)
    bias = np.floor(offset / (scale.astype(np.float64) * source.step) + 0.5).astype(g.form.bias)
    weight = g.b.constant(op.args[0], rows[:, None, None, :], Quant(scale))
    start = g.b.constant(op.args[2], bias, Quant(np.float32(source.step) * scale))
    g.result("CONV_2D", [g.names[op.args[1]], weight, start], op.out, **CONV)


EMITTERS: dict[str, Callable[[IntegerGraph, Op], None]] = {
    "add": _elementwise("ADD", potScaleInt16=False), "sub": _elementwise("SUB", potScaleInt16=False),
    "mul": _elementwise("MUL"), "sigmoid": _elementwise("LOGISTIC"), "tanh": _elementwise("TANH"),
    "max": _elementwise("MAXIMUM"), "min": _elementwise("MINIMUM"), "matmul": _convolve,
}
