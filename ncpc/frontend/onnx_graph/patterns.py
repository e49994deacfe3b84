"""Functions that files write out in several nodes: GELU by Erf, and normalizations by roots. Needs torch.

What a node computes is tried on random numbers: where it is such a function of something further up, it becomes that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from ncpc.frontend.onnx_graph.file import OnnxNode
from ncpc.system.torch_library import torch_module

torch: Any = torch_module()
functional: Any = torch.nn.functional
INNER = ("Erf", "Sqrt")
"""What such a function has within, and no function that can be read is."""
MOST = 24
"""Nodes before one that are looked at."""
CLOSE = 1e-7
"""Constants such as the root of 2 stand in files in single precision."""


def simplified(nodes: Sequence[OnnxNode], values: Mapping[str, Any]) -> list[OnnxNode]:
    """The nodes, with one in the place of the last of those that are one function; ``values`` are what all give."""
    makers = {name: node for node in nodes for name in node.outputs}
    return [_one(node, makers, values) if node.op in ("Mul", "Div") else node for node in nodes]


def _one(node: OnnxNode, makers: Mapping[str, OnnxNode], values: Mapping[str, Any]) -> OnnxNode:
    above = _above(node, makers)
    if not any(maker.op in INNER for maker in above):
        return node
    y = values[node.outputs[0]]
    for name in dict.fromkeys(name for maker in reversed(above) for name in maker.inputs if name in values):
        x = values[name]
        if x.shape != y.shape or not x.is_floating_point() or x.numel() < 2:
            continue
        if any(maker.op == "Erf" for maker in above) and _same(functional.gelu(x), y):
            return replace(node, op="Gelu", inputs=(name,), attributes={})
        for op, middle in (("LayerNormalization", x.mean(-1, keepdim=True)), ("RMSNormalization", torch.zeros(()))):
            epsilon = _epsilon(x - middle, y)
            if epsilon is not None:
                return replace(node, op=op, inputs=(name,), attributes={"epsilon": epsilon})
    return node


def _above(node: OnnxNode, makers: Mapping[str, OnnxNode]) -> list[OnnxNode]:
    """The node, and the nearest of those that it is computed by."""
    found = {node.outputs: node}
    for maker in islice(_reached(node, makers), MOST):
        found.setdefault(maker.outputs, maker)
    return list(found.values())


def _reached(node: OnnxNode, makers: Mapping[str, OnnxNode]) -> Iterator[OnnxNode]:
    todo = deque([node])
    while todo:
        for name in todo.popleft().inputs:
            if name in makers:
                todo.append(makers[name])
                yield makers[name]


def _epsilon(x: Any, y: Any) -> float | None:
    """The number with which ``y = x / sqrt(mean(x^2) + epsilon)`` over the last axis; None where there is none."""
    if x.shape[-1] < 2 or bool((y.abs() < CLOSE).all()):
        return None
    square = x.square().mean(-1, keepdim=True)
    epsilon = float(((x * y).sum() / y.square().sum()) ** 2 - square.mean()) if square.numel() == 1 else 0.0
    return epsilon if 0.0 < epsilon < 1.0 and _same(x / torch.sqrt(square + epsilon), y) else None


def _same(a: Any, b: Any) -> bool:
    return bool(torch.allclose(a, b, rtol=CLOSE, atol=CLOSE))
