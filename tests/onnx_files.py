"""ONNX files as other frameworks write them, put together node by node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str | None]
INPUTS, UNITS = 5, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
CARRIED = {"LSTM": {"hidden": "hidden_out", "cell": "cell_out"}, "GRU": {"hidden": "hidden_out"},
           "RNN": {"hidden": "hidden_out"}}


class Made:
    """A graph in the making. ``weight`` adds a random constant, ``constant`` a given one; both return its name."""

    def __init__(self, opset: int = 17) -> None:
        self.rng, self.opset = np.random.default_rng(0), opset
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def node(self, op: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"{op}_{len(self.nodes)}", **attributes))
        return outputs[0]

    def weight(self, *shape: int, scale: float = 0.5) -> str:
        return self.constant(self.rng.normal(0, scale, shape).astype(np.float32))

    def constant(self, value: Any) -> str:
        name = f"constant{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def save(self, path: Path, inputs: dict[str, Dims], outputs: dict[str, Dims], dtype: int = TensorProto.FLOAT
             ) -> Path:
        first = next(iter(inputs))
        ends = [[helper.make_tensor_value_info(n, dtype if n == first else TensorProto.FLOAT, dims)
                 for n, dims in part.items()] for part in (inputs, outputs)]
        graph = helper.make_graph(self.nodes, "policy", *ends, self.tensors)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9,
                                    producer_name="another"), str(path))
        return path


def normalized(made: Made, observed: str) -> str:
    """Observations as a trainer normalizes them, limited at 4."""
    shifted = made.node("Sub", [observed, made.constant(np.linspace(-0.5, 0.5, INPUTS, dtype=np.float32))], "shifted")
    root = made.node("Sqrt", [made.constant(np.linspace(0.3, 2, INPUTS, dtype=np.float32))], "deviation")
    scaled = made.node("Div", [shifted, root], "scaled")
    return made.node("Clip", [scaled, made.constant(np.float32(-4)), made.constant(np.float32(4))], "normal")


def cell(made: Made, op: str, x: str, states: Sequence[str] = (), **attributes: Any) -> str:
    """The node and its Y without the axis of directions, (T, B, units); states it gives are ``CARRIED``."""
    parts = [made.weight(1, GATES[op] * UNITS, INPUTS + 2), made.weight(1, GATES[op] * UNITS, UNITS),
             made.weight(1, 2 * GATES[op] * UNITS), "", *states]
    given = list(CARRIED[op].values()) if states else []
    options = {"hidden_size": UNITS, **({"linear_before_reset": 1} if op == "GRU" else {}), **attributes}
    made.node(op, [x, *parts], "Y", *given, **options)
    return made.node("Squeeze", ["Y", made.constant(np.array([1]))], "over_time")


def recurrent(path: Path, op: str = "LSTM", **attributes: Any) -> Path:
    """One step a call: normalization, a layer, a cell with its states, two heads."""
    made, states = Made(), list(CARRIED[op])
    z = made.node("MatMul", [normalized(made, "obs"), made.weight(INPUTS, INPUTS + 2)], "product")
    z = made.node("Relu", [made.node("Add", [z, made.weight(INPUTS + 2)], "sum")], "features")
    z = made.node("Unsqueeze", [z, made.constant(np.array([0]))], "sequence")
    y = made.node("Squeeze", [cell(made, op, z, states, **attributes), made.constant(np.array([0]))], "core")
    made.node("Tanh", [made.node("Gemm", [y, made.weight(UNITS, 2), made.weight(2)], "means")], "action")
    made.node("Gemm", [y, made.weight(1, UNITS), made.weight(1)], "value", transB=1)
    held: Dims = [1, "batch", UNITS]
    return made.save(path, {"obs": ["batch", INPUTS], **dict.fromkeys(states, held)},
                     {"action": ["batch", 2], "value": ["batch", 1], **dict.fromkeys(CARRIED[op].values(), held)})


def sequence(path: Path, *, dims: Dims, last: bool = False, op: str = "LSTM", **attributes: Any) -> Path:
    """Whole sequences, their state inside; ``dims`` of the input say which axis is time: open, or longer than 1."""
    made = Made()
    batched = dims[0] in (1, "batch")
    z = made.node("Tanh", [made.node("MatMul", ["obs", made.weight(INPUTS, INPUTS + 2)], "product")], "features")
    z = made.node("Transpose", [z], "turned", perm=[1, 0, 2]) if batched else z
    y = cell(made, op, z, **attributes)
    y = made.node("Transpose", [y], "back", perm=[1, 0, 2]) if batched else y
    y = made.node("Gather", [y, made.constant(np.array(-1))], "end", axis=1 if batched else 0) if last else y
    made.node("MatMul", [y, made.weight(UNITS, 2)], "action")
    return made.save(path, {"obs": dims}, {"action": [dims[0 if batched else 1], 2] if last else [*dims[:2], 2]})


def perceptron(path: Path) -> Path:
    """No state; names as TensorFlow writes them."""
    made, z = Made(20), "obs/x:0"
    for k, function in enumerate(("Gelu", "LeakyRelu", "Elu", "HardSigmoid")):
        z = made.node("Gemm", [z, made.weight(INPUTS, INPUTS), made.weight(INPUTS)], f"layer{k}", alpha=0.7, beta=1.3)
        z = made.node(function, [z], f"after{k}", **({"approximate": "tanh"} if function == "Gelu" else {}))
    made.node("Softmax", [made.node("MatMul", [z, made.weight(INPUTS, 3, scale=1.5)], "logits")], "out/p:0")
    return made.save(path, {"obs/x:0": [None, INPUTS]}, {"out/p:0": [None, 3]})


def frames(path: Path, *, last: bool = True, dtype: int = TensorProto.FLOAT) -> Path:
    """A convolutional head; channels ``last`` in the frame, turned about as converters do."""
    made, z = Made(), "frame"
    if dtype != TensorProto.FLOAT:
        z = made.node("Cast", [z], "float", to=TensorProto.FLOAT)
    z = made.node("Div", [z, made.constant(np.float32(255))], "unit")
    z = made.node("Transpose", [z], "first", perm=[0, 3, 1, 2]) if last else z
    z = made.node("Conv", [z, made.weight(4, 2, 3, 3), made.weight(4)], "conv", strides=[2, 2], auto_pad="SAME_UPPER")
    z = made.node("BatchNormalization", [z, made.weight(4), made.weight(4), made.weight(4),
                                         made.constant(np.full(4, 0.7, np.float32))], "normal")
    z = made.node("MaxPool", [made.node("Relu", [z], "relu")], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    z = made.node("Transpose", [z], "back", perm=[0, 2, 3, 1]) if last else z
    flat = made.node("Reshape", [z, made.constant(np.array([-1, 4 * 2 * 2]))], "flat")
    made.node("Gemm", [flat, made.weight(16, 2), made.weight(2)], "action")
    shape = [8, 8, 2] if last else [2, 8, 8]
    return made.save(path, {"frame": ["batch", *shape]}, {"action": ["batch", 2]}, dtype)


def written_out(path: Path, form: str) -> Path:
    """A cell in elementary functions, as JAX and others write it; its head reads what the cell gives."""
    made, n = Made(), UNITS
    gates = {"LSTM": 4, "TF": 4, "R": 1}.get(form.split()[0], 3)
    z = made.node("Tanh", [made.node("Gemm", ["obs", made.weight(INPUTS, 4), made.weight(4)], "first")], "features")
    x = made.node("Gemm", [z, made.weight(4, gates * n), made.weight(gates * n)], "x")
    h = made.node("MatMul", ["hidden", made.weight(n, gates * n)], "h")

    def parts(of: str, names: str) -> list[str]:
        made.node("Split", [of, made.constant(np.full(len(names), n))], *(f"{of}_{k}" for k in names), axis=1)
        return [f"{of}_{k}" for k in names]

    def call(op: str, *inputs: str) -> str:
        return made.node(op, inputs, f"t{len(made.nodes)}")

    if form == "LSTM":
        i, f, g, o = parts(call("Add", x, h), "ifgo")
        c = call("Add", call("Mul", call("Sigmoid", f), "cell"), call("Mul", call("Tanh", g), call("Sigmoid", i)))
        new = call("Mul", call("Sigmoid", o), call("Tanh", c))
    elif form == "TF LSTM":  # one matrix for both, another order, a forget bias of 1
        both = call("MatMul", made.node("Concat", [z, "hidden"], "both", axis=1), made.weight(4 + n, 4 * n))
        i, g, f, o = parts(call("Add", both, made.weight(4 * n)), "igfo")
        forget = call("Sigmoid", call("Add", f, made.constant(np.float32(1))))
        c = call("Add", call("Mul", "cell", forget), call("Mul", call("Sigmoid", i), call("Tanh", g)))
        new = call("Mul", call("Tanh", c), call("Sigmoid", o))
    elif form.startswith("R"):
        c, new = "", call("Relu" if "relu" in form else "Tanh", call("Add", x, h))
    else:
        (r, u, m), (hr, hu, hm) = parts(x, "rum"), parts(h, "rum")
        r, u = call("Sigmoid", call("Add", r, hr)), call("Sigmoid", call("Add", hu, u))
        if form == "GRU, reset before":
            hm = call("MatMul", call("Mul", r, "hidden"), made.weight(n, n))
        inner = hm if form == "GRU, reset before" else call("Mul", r, call("Add", hm, made.weight(n)))
        m, one = call("Tanh", call("Add", m, inner)), made.constant(np.float32(1))
        if form == "GRU":
            new = call("Add", call("Mul", call("Sub", one, u), m), call("Mul", u, "hidden"))
        elif form == "GRU, turned":
            new = call("Add", "hidden", call("Mul", u, call("Sub", m, "hidden")))
        else:
            new = call("Add", m, call("Mul", call("Sub", "hidden", m), u))
        c = ""
    made.node("Identity", [new], "hidden_out")
    made.node("Gemm", ["hidden" if form.endswith("late") else new, made.weight(n, 2), made.weight(2)], "action")
    held: Dims = ["batch", n]
    names = ["hidden", "cell"] if c else ["hidden"]
    if c:
        made.node("Identity", [c], "cell_out")
    return made.save(path, {"obs": ["batch", INPUTS], **dict.fromkeys(names, held)},
                     {"action": ["batch", 2], **dict.fromkeys([f"{name}_out" for name in names], held)})


def normalizing(path: Path, form: str) -> Path:
    """A perceptron whose normalization and GELU are written out, as exporters of older operators do."""
    made = Made(13)

    def call(op: str, *inputs: str, **attributes: Any) -> str:
        return made.node(op, inputs, f"t{len(made.nodes)}", **attributes)

    def number(value: float) -> str:
        return made.constant(np.float32(value))

    x = call("MatMul", "obs", made.weight(INPUTS, 8))
    mean = call("ReduceMean", x, axes=[-1])
    centred = call("Sub", x, mean)
    if form == "moments":  # E[x^2] - E[x]^2, as JAX has it
        spread = call("Max", call("Sub", call("ReduceMean", call("Mul", x, x), axes=[-1]), call("Mul", mean, mean)),
                      number(0))
    else:
        of = x if form == "mean square" else centred
        spread = call("ReduceMean", call("Pow", of, number(2)), axes=[-1])
    root = call("Sqrt", call("Add", spread, number(1e-3)))
    top = x if form == "mean square" else centred
    z = call("Mul", top, call("Reciprocal", root)) if form == "reciprocal" else call("Div", top, root)
    z = call("Add", call("Mul", z, made.weight(8)), made.weight(8))
    bell = call("Add", call("Erf", call("Div", z, number(2**0.5))), number(1))
    halves = (call("Mul", call("Mul", z, bell), number(0.5)) if form == "moments"
              else call("Mul", call("Mul", z, number(0.5)), bell))
    made.node("MatMul", [halves, made.weight(8, 2)], "action")
    return made.save(path, {"obs": ["batch", INPUTS]}, {"action": ["batch", 2]})
