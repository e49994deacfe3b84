"""Rewritten program and ranges -> a TFLite graph of int16 (int8 weights, int64 biases) or int8 tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Op, Value, statements, values
from ncpc.targets.tflite.describe import description, state_names
from ncpc.targets.tflite.float_graph import CONV
from ncpc.targets.tflite.graph import Graph, GraphBuilder, Option, Quant
from ncpc.targets.tflite.integer_program import IntegerProgram, Range

F64 = NDArray[np.float64]

BIAS_BITS = 30
"""Biases stay below 2**30: an int32 accumulator (int8), and the 40 bits that NPUs give int16, then hold the sum."""
SMALLEST_RATIO = 2.0**-24
"""Least product of a row's weight scale and its input's, in units of the output's: the kernels' shifts end at 31."""


@dataclass(frozen=True)
class Format:
    """How reals become integers: ``dtype`` of activations, ``bias`` of biases, whether zero is always the integer 0.

    Activations of 16 bits have power-of-two scales: the multipliers of LiteRT, which computes some in binary32, and of
    TFLite Micro, which computes them in binary64, are then the same.
    """

    dtype: str
    bias: str
    symmetric: bool

    @property
    def top(self) -> int:
        return int(np.iinfo(self.dtype).max)

    def activation(self, limits: Range) -> Quant:
        """The scale of a tensor whose elements stay within ``limits``."""
        lo, hi = min(float(limits[0].min()), 0.0), max(float(limits[1].max()), 0.0)
        if self.symmetric:
            # The very end of the range may be one unit past the largest integer; it saturates there.
            return Quant(_scale(_power_of_two(max(-lo, hi) / (self.top + 1))))
        step = np.float32(max(hi - lo, 1e-12) / (2 * self.top + 1))
        zero = round(-self.top - 1 - lo / float(step))
        return Quant(_scale(float(step)), max(-self.top - 1, min(zero, self.top)))

    def constant(self, data: F64) -> Quant:
        """The scale of a constant that is multiplied or added element by element."""
        return Quant(_scale(max(float(np.abs(data).max(initial=0.0)), 1e-12) / self.top))


INT16 = Format("int16", "int64", True)
INT8 = Format("int8", "int32", False)
FORMATS: Mapping[str, Format] = {"int16": INT16, "int8": INT8}

FIXED_RANGE: dict[tuple[str, str], Quant] = {
    ("sigmoid", "int16"): Quant(np.array([2.0**-15], np.float32)),
    ("sigmoid", "int8"): Quant(np.array([2.0**-8], np.float32), -128),
    ("tanh", "int16"): Quant(np.array([2.0**-15], np.float32)),
    ("tanh", "int8"): Quant(np.array([2.0**-7], np.float32)),
}
"""Scales that the kernels demand of their results."""


class IntegerGraph:
    """The graph while it grows."""

    def __init__(self, made: IntegerProgram, form: Format) -> None:
        self.program, self.ranges, self.form = made.program, made.ranges, form
        self.table = values(made.program)
        self.b = GraphBuilder()
        self.names: dict[str, str] = {}
        self.quants: dict[str, Quant] = {}

    def quant(self, name: str) -> Quant:
        """The scale of a value: what its kernel demands, else what its range asks for."""
        return self.quants[name]

    def operand(self, name: str, quant: Quant | None = None) -> str:
        """The tensor of a value; a constant is quantized when first used (with ``quant``, where the kernel says so)."""
        if name not in self.program.constants:
            return self.names[name]
        data = np.asarray(self.program.constants[name][1], np.float64).reshape(1, 1, 1, -1)
        used = quant or self.form.constant(data)
        return self.b.constant(name, quantize(data, used, self.form.dtype), used)

    def result(self, kind: str, inputs: list[str], out: Value, quant: Quant, **options: Option) -> None:
        tensor = self.b.tensor(out.name, (1, 1, 1, width(out)), self.form.dtype, quant)
        self.names[out.name] = self.b.node(kind, inputs, tensor, **options)
        self.quants[out.name] = quant


def integer_graph(made: IntegerProgram, form: Format, dt: float | None) -> Graph:
    """The graph of one step; ``dt`` is the timespan that was compiled in."""
    g, program = IntegerGraph(made, form), made.program
    states = list(zip(state_names(program), program.states, strict=True))
    inputs = {"x": program.x.value, **{name: state.inp for name, state in states}}
    for name, value in inputs.items():
        g.quants[value.name] = form.activation(g.ranges[value.name])
        g.b.tensor(name, (1, width(value)), form.dtype, g.quants[value.name])
    outputs = {"y": program.y.value.name, **{f"{name}_out": state.out for name, state in states}}
    plans = _planned(g)
    for name, inner in outputs.items():
        g.b.tensor(name, (1, width(g.table[inner])), form.dtype, plans[inner])
    for name, value in inputs.items():
        row = g.b.tensor(f"{name}/row", (1, 1, 1, width(value)), form.dtype, g.quants[value.name])
        g.names[value.name] = _reshape(g, name, row, (1, 1, 1, width(value)))
    for op in statements(program.body):
        EMITTERS[op.kind](g, op, plans[op.out.name])
    for name, inner in outputs.items():
        _reshape(g, g.names[inner], name, g.b.tensors[name].shape)
    return g.b.graph(program.name, list(inputs), list(outputs), description(program, dt))


def _planned(g: IntegerGraph) -> dict[str, Quant]:
    """The scale of every value, in order."""
    plans = dict(g.quants)
    for op in statements(g.program.body):
        if op.kind in ("max", "min"):
            plans[op.out.name] = plans[op.args[0]]
        else:
            fixed = FIXED_RANGE.get((op.kind, g.form.dtype))
            plans[op.out.name] = fixed or g.form.activation(g.ranges[op.out.name])
    return plans


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


def _elementwise(kind: str, **options: Option) -> Callable[[IntegerGraph, Op, Quant], None]:
    return lambda g, op, quant: g.result(kind, [g.operand(a) for a in op.args], op.out, quant, **options)


def _limit(kind: str) -> Callable[[IntegerGraph, Op, Quant], None]:
    """The number is quantized like the argument: these kernels compare integers."""
    return lambda g, op, quant: g.result(kind, [g.operand(op.args[0]), g.operand(op.args[1], quant)], op.out, quant)


def _convolve(g: IntegerGraph, op: Op, quant: Quant) -> None:
    source = g.quant(op.args[1])
    matrix = np.asarray(g.program.constants[op.args[0]][1], np.float64)
    offset = np.asarray(g.program.constants[op.args[2]][1], np.float64)
    scale = row_scales(matrix, offset, source.step, quant.step)
    rows = np.clip(np.floor(matrix / scale[:, None] + 0.5), -127, 127).astype(np.int8)
    bias = np.floor(offset / (scale.astype(np.float64) * source.step) + 0.5).astype(g.form.bias)
    weight = g.b.constant(op.args[0], rows[:, None, None, :], Quant(scale))
    start = g.b.constant(op.args[2], bias, Quant(np.float32(source.step) * scale))
    g.result("CONV_2D", [g.names[op.args[1]], weight, start], op.out, quant, **CONV)


def row_scales(matrix: F64, offset: F64, source: float, out: float) -> NDArray[np.float32]:
    """Each row's weight scale: its largest weight at 127, but never so small that the bias or the shift overflows."""
    largest = np.abs(matrix).max(axis=1, initial=0.0) / 127
    floors = np.maximum(np.abs(offset) / (source * 2.0**BIAS_BITS), SMALLEST_RATIO * out / source)
    scales: NDArray[np.float32] = np.maximum(largest, floors).astype(np.float32)
    return scales


def _scale(step: float) -> NDArray[np.float32]:
    return np.array([step], np.float32)


def _power_of_two(step: float) -> float:
    return float(2.0 ** np.ceil(np.log2(max(step, 2.0**-40))))


EMITTERS: dict[str, Callable[[IntegerGraph, Op, Quant], None]] = {
    "add": _elementwise("ADD", potScaleInt16=False), "sub": _elementwise("SUB", potScaleInt16=False),
    "mul": _elementwise("MUL"), "sigmoid": _elementwise("LOGISTIC"), "tanh": _elementwise("TANH"),
    "max": _limit("MAXIMUM"), "min": _limit("MINIMUM"), "matmul": _convolve,
}


def port_quants(graph: Graph) -> dict[str, Quant]:
    """The scales at the boundary, by signature name."""
    held = {name: graph.tensors[name].quant for name in (*graph.inputs, *graph.outputs)}
    return {name: quant for name, quant in held.items() if quant is not None}


