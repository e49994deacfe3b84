"""Matrices: of Linear, of products with constants, and those that sums and means are."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.traced.arithmetic import varies
from ncpc.frontend.traced.channels import Traced
from ncpc.frontend.traced.over_time import require_not_over_time
from ncpc.frontend.traced.recorder import Handler, Recorder, TorchCall, depends
from ncpc.frontend.traced.windows import mean_of_frame
from ncpc.ir.policy import Dense
from ncpc.system.torch_library import torch_module

MOST_ROWS = 64
"""Vectors of one tensor that one matrix is applied to, each as a layer of its own."""
MOST_PRODUCTS = 1 << 20
"""Entries of a matrix that stands for a sum."""


def linear(recorder: Recorder, call: TorchCall) -> Traced:
    """``x @ weight.T + bias`` of every vector along the last axis."""
    bias = call.arg(2, "bias")
    return product(recorder, call.args[0], call.arg(1, "weight"), bias, tuple(call.result.shape))


def product(recorder: Recorder, x: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Traced:
    """Dense layers, one for each vector along the last axis; gains and offsets go into them."""
    torch = torch_module()
    if depends(weight) or depends(bias) or not isinstance(x, Traced):
        raise Unsupported("multiplies two tensors that both depend on the inputs, as attention does; use a product "
                          "element by element")
    vectors, matrix = x.moved(lambda part: part.reshape(-1, part.shape[-1])), weight.detach().to(torch.float64)
    matrix = matrix[None] if matrix.ndim == 1 else matrix
    rows = len(vectors.channel)
    if rows > MOST_ROWS:
        raise Unsupported(f"applies one matrix to {rows} vectors of a step; {MOST_ROWS} at most can be read")
    start = np.zeros(len(matrix)) if bias is None else np.asarray(bias.detach().to(torch.float64)).reshape(-1)
    made = []
    for row in range(rows):
        part = Traced(*(p[row] for p in vectors.parts))
        gain, offset = np.asarray(part.gain), np.asarray(part.offset)
        layer = Dense(np.asarray(matrix) * gain, start + np.asarray(matrix) @ offset)
        made.append(recorder.graph.row([layer], recorder.graph.known(part)))
    return Traced(torch.as_tensor(np.concatenate(made), dtype=torch.float64).reshape(shape),
                  torch.ones(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64))


def matmul(recorder: Recorder, call: TorchCall) -> Traced:
    """A tensor times a constant matrix, on either side."""
    left, right, shape = call.args[0], call.args[1], tuple(call.result.shape)
    if not varies(right) and right.ndim <= 2:
        return product(recorder, left, right.T if right.ndim == 2 else right, None, shape)
    if not varies(left) and left.ndim == 2 and len(right.shape) in (1, 2):
        turned = right if len(right.shape) == 1 else right.moved(lambda part: part.T)
        made = product(recorder, turned, left, None, shape[::-1])
        return made if len(shape) == 1 else made.moved(lambda part: part.T)
    raise Unsupported("multiplies matrices of which neither is a constant of two dimensions; use Linear")


def addmm(recorder: Recorder, call: TorchCall) -> Traced:
    """``bias + x @ weight``."""
    if call.kwargs.get("alpha", 1) != 1 or call.kwargs.get("beta", 1) != 1:
        raise Unsupported("addmm with alpha or beta cannot be read; use Linear")
    return product(recorder, call.args[1], call.args[2].T, call.args[0], tuple(call.result.shape))


def reduction(*, mean: bool) -> Handler:
    """Sums and means over dimensions, as a matrix."""
    def handler(recorder: Recorder, call: TorchCall) -> Traced:
        torch = torch_module()
        x: Traced = call.args[0]
        dims = call.arg(1, "dim")
        order = torch.arange(x.channel.numel()).reshape(x.shape)
        axes = range(len(x.shape)) if dims is None else [dims] if isinstance(dims, int) else dims
        require_not_over_time(x, list(axes), "mean" if mean else "sum")
        kept = [d for d in range(len(x.shape)) if d not in {a % max(len(x.shape), 1) for a in axes}]
        rest = [d for d in range(len(x.shape)) if d not in kept]
        groups = np.asarray(order.permute(*kept, *rest)).reshape(-1, int(np.prod([x.shape[d] for d in rest])))
        count = groups.shape[1]
        if count == 1:
            return x.moved(lambda part: part.reshape(call.result.shape))
        if mean and rest == [2, 3] and len(x.shape) == 4 and x.shape[0] == 1:
            return mean_of_frame(recorder, call)
        if groups.size * len(groups) > MOST_PRODUCTS:
            raise Unsupported(f"sums {groups.size:,} numbers into {len(groups):,}: use pooling over a frame")
        matrix = np.zeros((len(groups), groups.size))
        np.put_along_axis(matrix, groups, 1.0 / count if mean else 1.0, axis=1)
        flat = x.moved(lambda part: part.reshape(1, -1))
        return product(recorder, flat, torch.as_tensor(matrix), None, tuple(call.result.shape))
    return handler
