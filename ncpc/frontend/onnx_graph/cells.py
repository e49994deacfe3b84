"""The recurrent operators of ONNX as modules of torch: the same equations, gates in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ncpc.errors import Unsupported
from ncpc.frontend.onnx_graph.file import OnnxNode
from ncpc.system.torch_library import torch_module

ORDERS: Mapping[str, tuple[int, ...]] = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where torch's gates (LSTM i f g o, GRU r z n) stand among those of ONNX (i o f c, z r h)."""
ACTIVATIONS = {"LSTM": (["Sigmoid", "Tanh", "Tanh"],), "GRU": (["Sigmoid", "Tanh"],), "RNN": (["Tanh"], ["Relu"])}
ZERO = {"clip": "a limit on its gates", "input_forget": "coupled gates", "layout": "layout 1"}
"""Attributes that must be left out, or be 0."""


def is_cell(node: OnnxNode) -> bool:
    """Whether a node runs over time."""
    return node.op in ORDERS


def cell_of(node: OnnxNode, constants: Mapping[str, Any]) -> Any:
    """The ``torch.nn`` module (time first, double) of an LSTM, GRU or RNN node; that of ``ncpc.cells`` (batch first) of
    a GRU that resets the state before its matrix. Raises Unsupported.
    """
    _require_plain(node)
    given: list[Any] = [constants.get(name) for name in node.inputs]
    if any(value is None for name, value in zip(node.inputs[1:4], given[1:4], strict=True) if name):
        raise Unsupported("its weights depend on the inputs; export them as constants")
    if len(node.inputs) > 7 and node.inputs[7] and (given[7] is None or bool(given[7].any())):
        raise Unsupported("has peepholes, which no cell of ncpc has; train an LSTM without them")
    weight_x, weight_h = given[1], given[2]
    nn, size = torch_module().nn, int(weight_h.shape[-1])
    bias = given[3] if len(given) > 3 and given[3] is not None else torch_module().zeros(1, 2 * len(weight_x[0]))
    if _resets_before(node):
        return _reset_before(weight_x[0], weight_h[0], bias[0])
    options = {"nonlinearity": functions(node)[0].lower()} if node.op == "RNN" else {}
    cell = getattr(nn, node.op)(int(weight_x.shape[-1]), size, **options).double()
    parts = {"weight_ih_l0": weight_x[0], "weight_hh_l0": weight_h[0], "bias_ih_l0": bias[0, : len(weight_x[0])],
             "bias_hh_l0": bias[0, len(weight_x[0]) :]}
    order = ORDERS[node.op]
    cell.load_state_dict({name: _ordered(part, order, size) for name, part in parts.items()})
    return cell.requires_grad_(False)


def _resets_before(node: OnnxNode) -> bool:
    """Whether it is a GRU that resets the state before its matrix."""
    return node.op == "GRU" and not node.get("linear_before_reset")


def _one_row(state: Any) -> Any:
    """A constant state of several rows, which are all the same."""
    return state[:, :1] if bool((state == state[:, :1]).all()) else state


def _reset_before(weight_x: Any, weight_h: Any, bias: Any) -> Any:
    """The GRU of Cho et al. 2014, ``h <- z*h + (1 - z)*tanh(W_x x + W_h (r*h) + b)``: one step of a GRU-ODE of dt = 1.
    Rows of the gates z, r, h; ``bias`` holds those of x, then those of h.
    """
    from ncpc.cells import GruOde  # needs torch

    torch, size = torch_module(), len(weight_h) // 3
    cell = GruOde(weight_x.shape[1], size, unfolds=1).double()
    rows = torch.cat([weight_x, weight_h], 1), bias[: 3 * size] + bias[3 * size :]
    for k, part in enumerate((cell.update, cell.reset, cell.detect)):
        part.load_state_dict({name: row[k * size : (k + 1) * size] for name, row in zip(
            ("weight", "bias"), rows, strict=True)})
    return cell.requires_grad_(False)


def _ordered(part: Any, order: Sequence[int], size: int) -> Any:
    return torch_module().cat([part[k * size : (k + 1) * size] for k in order])


def functions(node: OnnxNode) -> list[str]:
    """Activations, as they are written or by default."""
    return [str(name).capitalize() for name in node.get("activations") or ACTIVATIONS[node.op][0]]


def _require_plain(node: OnnxNode) -> None:
    """Raises Unsupported for a form that torch's cells do not have."""
    if node.get("direction", "forward") != "forward":
        raise Unsupported(f"runs {node.get('direction')}: it reads the future and cannot run step by step; train it "
                          "with direction=forward")
    for name, what in ZERO.items():
        if node.get(name):
            raise Unsupported(f"has {what} ({name}={node.get(name)}), which cannot be read; leave it out")
    if functions(node) not in ACTIVATIONS[node.op]:
        raise Unsupported(f"has the activations {', '.join(functions(node))}; read are "
                          f"{' or '.join(', '.join(names) for names in ACTIVATIONS[node.op])}")


def run_cell(node: OnnxNode, given: Sequence[Any], cell: Any, over_time: bool) -> tuple[Any, ...]:
    """What the node gives: Y (T, 1, B, H), Y_h (1, B, H) and of an LSTM Y_c."""
    torch, x = torch_module(), given[0]
    steps, rows = x.shape[0], x.shape[1]
    if steps > 1 and not over_time:
        raise Unsupported(f"runs over {steps} steps in one call, where a step of the policy is one; export it with one "
                          "step a call, or with a sequence of any length")
    lengths = given[4] if len(given) > 4 else None
    if lengths is not None and lengths.tolist() != [steps] * rows:
        raise Unsupported("has sequences of several lengths (sequence_lens); export it without")
    states = [given[k] if len(given) > k else None for k in (5, 6)]
    states = [s if s is None or s.shape[1] == rows else _one_row(s) for s in states]
    size = cell.units if _resets_before(node) else cell.hidden_size
    h, c = (torch.zeros(1, rows, size, dtype=x.dtype) if s is None else s for s in states)
    if _resets_before(node):
        y, state = cell(x.transpose(0, 1), h[0])
        return y.transpose(0, 1).unsqueeze(1), state.unsqueeze(0)
    y, state = cell(x, (h, c) if node.op == "LSTM" else h)
    return (y.unsqueeze(1), *state) if node.op == "LSTM" else (y.unsqueeze(1), state)
