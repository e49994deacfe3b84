"""Products of tensors that are no plain matrix: einsum and its like, and whatever else is linear in its one tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.traced.arithmetic import combine, varies
from ncpc.frontend.traced.channels import Traced
from ncpc.frontend.traced.products import MOST_PRODUCTS, product, reduction
from ncpc.frontend.traced.recorder import Recorder, TorchCall, as_traced
from ncpc.system.torch_library import torch_module

MOST_PAIRS = 1 << 14
"""Products of two tensors of the step, each an element of a layer."""


def linear_map(recorder: Recorder, call: TorchCall) -> Traced:
    """A function that is linear in the one argument that depends on the inputs, up to a constant: as the matrix that
    it makes of unit vectors.
    """
    torch = torch_module()
    place = next(k for k, value in enumerate(call.args) if varies(value))
    x: Traced = call.args[place]
    if sum(map(varies, call.args)) > 1 or any(map(varies, call.kwargs.values())):
        raise Unsupported("multiplies two tensors that both depend on the inputs; use einsum, or products element by "
                          "element")
    count, outputs = x.channel.numel(), call.result.numel()
    if count * outputs > MOST_PRODUCTS:
        raise Unsupported(f"maps {count:,} numbers to {outputs:,} at once; use Linear, or pooling over a frame")

    def applied(value: Any) -> Any:
        args = [as_traced(a).offset if isinstance(a, Traced) else a for a in call.args]
        args[place] = value.reshape(x.shape)
        return call.func(*args, **call.kwargs).reshape(-1)

    units = torch.eye(count, dtype=torch.float64)
    bias = applied(torch.zeros(count, dtype=torch.float64))
    matrix = torch.stack([applied(unit) - bias for unit in units], dim=1)
    return product(recorder, x.moved(lambda part: part.reshape(1, -1)), matrix, bias, tuple(call.result.shape))


def einsum(recorder: Recorder, call: TorchCall) -> Traced:
    """Sums of products: of two tensors of the step element by element, then summed; otherwise a matrix."""
    operands = call.args[1] if isinstance(call.args[1], (list, tuple)) else call.args[1:]
    flat = TorchCall(call.name, call.func, (call.args[0], *operands), call.kwargs, call.result)
    if sum(map(varies, operands)) < 2:
        return linear_map(recorder, flat)
    words = str(call.args[0]).replace(" ", "")
    if len(operands) != 2 or "->" not in words or "." in words:
        raise Unsupported("takes products of more than two tensors, or of letters not all named; write two, with '->'")
    inputs, output = words.split("->")
    return _contracted(recorder, (as_traced(operands[0]), as_traced(operands[1])), inputs.split(","), output)


def batched(recorder: Recorder, call: TorchCall) -> Traced:
    """``bmm``, and ``matmul`` of more than a constant matrix."""
    left, right = as_traced(call.args[0]), as_traced(call.args[1])
    if not (varies(left) and varies(right)):
        return linear_map(recorder, call)
    if len(left.shape) != 3 or len(right.shape) != 3 or left.shape[0] != right.shape[0]:
        raise Unsupported("multiplies matrices that both depend on the inputs; use einsum with named dimensions")
    return _contracted(recorder, (left, right), ["bij", "bjk"], "bik")


def _contracted(recorder: Recorder, pair: tuple[Traced, Traced], letters: list[str], output: str) -> Traced:
    """Products over all letters, summed over those that the output lacks."""
    if any(len(set(word)) != len(word) for word in (*letters, output)):
        raise Unsupported("takes a diagonal; name each dimension of a tensor by a letter of its own")
    sizes = {letter: n for part, word in zip(pair, letters, strict=True)
             for letter, n in zip(word, part.shape, strict=True)}
    order = [*output, *(letter for letter in sizes if letter not in output)]
    shape = tuple(sizes[letter] for letter in order)
    if int(np.prod(shape)) > MOST_PAIRS:
        raise Unsupported(f"takes {int(np.prod(shape)):,} products of two numbers of the step; {MOST_PAIRS:,} at most "
                          "can be read")

    def spread(part: Traced, word: str) -> Traced:
        present = [word.index(letter) for letter in order if letter in word]
        along = [sizes[letter] if letter in word else 1 for letter in order]
        return part.moved(lambda p: p.permute(*present).reshape(along))

    left, right = (spread(part, word) for part, word in zip(pair, letters, strict=True))
    found = combine(recorder, "mul", left, right, shape)
    summed = list(range(len(output), len(order)))
    result = torch_module().empty(shape[: len(output)])
    return reduction(mean=False)(recorder, TorchCall("sum", None, (found, summed), {}, result)) if summed else found
