"""What every layer of ``ncpc.ir.heads`` must satisfy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ncpc.frontend.problems import Problems, shape
from ncpc.ir.heads import Conv2d, Pool, Softmax
from ncpc.ir.windows import LAYOUTS, Windows
from ncpc.semantics.windows import elements

POOLS = ("max", "avg", "avg_inside")


def _windows(w: Windows) -> Problems:
    for field in fields(w):
        value = getattr(w, field.name)
        least = 0 if field.name in ("top", "left") else 1
        if field.name != "layout" and value < least:
            yield f"{field.name} is {value}, expected at least {least}"
    if w.layout not in LAYOUTS:
        yield f"unknown layout {w.layout!r}; known are {', '.join(LAYOUTS)}"
    if w.top >= w.span_h or w.left >= w.span_w:
        yield f"padding {w.top}, {w.left} is not smaller than the kernel {w.span_h} x {w.span_w}"
    elif (w.rows - 1) * w.stride_h - w.top >= w.height or (w.cols - 1) * w.stride_w - w.left >= w.width:
        yield f"its last window begins outside the frame of {w.height} x {w.width}"


def _conv2d(layer: Conv2d) -> Problems:
    yield from _windows(layer.windows)
    w = layer.windows
    if layer.weight.ndim != 4:
        yield f"weight has shape {layer.weight.shape}, expected (filters, kernel_h, kernel_w, channels)"
    part = layer.weight.shape[3]
    if not part or w.channels % part or not layer.filters or layer.filters % (w.channels // part):
        yield (f"{layer.filters} filters over {part} of {w.channels} channels do not fall into groups; expected "
               "divisors of both")
    yield from shape("weight", layer.weight, layer.filters, w.kernel_h, w.kernel_w, part)
    yield from shape("bias", layer.bias, layer.filters)


def _pool(layer: Pool) -> Problems:
    yield from _windows(layer.windows)
    if layer.function not in POOLS:
        yield f"unknown function {layer.function!r}; known are {', '.join(POOLS)}"
    elif not elements(layer.windows, "avg_inside").all():
        yield "one of its windows holds nothing of the frame"


def _softmax(layer: Softmax) -> Problems:
    if layer.width < 1:
        yield f"width is {layer.width}, expected at least 1"


HEAD_CHECKS: dict[str, Callable[[Any], Problems]] = {"conv2d": _conv2d, "pool": _pool, "softmax": _softmax}
