"""Convolutions and pooling of ONNX in functions of torch, and padding. Needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ncpc.errors import Unsupported
from ncpc.frontend.onnx_graph.file import OnnxNode
from ncpc.frontend.onnx_graph.told import require_size, told
from ncpc.system.torch_library import torch_module

torch: Any = torch_module()
functional: Any = torch.nn.functional
Given = Sequence[Any]


def _windows(node: OnnxNode, x: Any, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, dilations, and the padding before and behind, by axis."""
    dims = len(kernel)
    if dims not in (1, 2) or x.ndim != dims + 2:
        raise Unsupported(f"works on frames of {x.ndim - 2} dimensions; 1 and 2 can be read")
    strides, dilations = (list(node.get(name) or [1] * dims) for name in ("strides", "dilations"))
    pads = list(node.get("pads") or [0] * (2 * dims))
    before, behind = pads[:dims], pads[dims:]
    if (automatic := node.get("auto_pad", "NOTSET")).startswith("SAME"):
        totals = [max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
                  for n, s, k, d in zip(x.shape[2:], strides, kernel, dilations, strict=True)]
        less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
        before, behind = (less, more) if automatic == "SAME_UPPER" else (more, less)
    elif automatic == "VALID":
        before = behind = [0] * dims
    require_size([*x.shape[:2], *(n + a + b for n, a, b in zip(x.shape[2:], before, behind, strict=True))])
    return strides, dilations, before, behind


def _padded(x: Any, before: Sequence[int], behind: Sequence[int]) -> Any:
    sides = [n for pair in zip(reversed(before), reversed(behind), strict=True) for n in pair]
    return functional.pad(x, sides)


def convolution(node: OnnxNode, given: Given) -> Any:
    """Conv, over one or two dimensions."""
    x, weight, bias = (*given, None)[:3]
    strides, dilations, before, behind = _windows(node, x, tuple(weight.shape[2:]))
    if before != behind:
        x, before = _padded(x, before, behind), [0] * len(before)
    function = functional.conv1d if weight.ndim == 3 else functional.conv2d
    return function(x, weight, bias, strides, before, dilations, node.get("group", 1))


def max_pool(node: OnnxNode, given: Given) -> Any:
    """MaxPool with the same padding on both sides."""
    x, kernel = given[0], node.get("kernel_shape")
    strides, dilations, before, behind = _windows(node, x, kernel)
    _require_even(before, behind)
    function = functional.max_pool1d if len(kernel) == 1 else functional.max_pool2d
    return function(x, kernel, strides, before, dilations, bool(node.get("ceil_mode", 0)))


def average_pool(node: OnnxNode, given: Given) -> Any:
    """AveragePool; padding counts only where that is said."""
    x, kernel, counts = given[0], node.get("kernel_shape"), bool(node.get("count_include_pad", 0))
    strides, dilations, before, behind = _windows(node, x, kernel)
    if any(d != 1 for d in dilations):
        raise Unsupported("is dilated, which cannot be read")
    if before != behind and counts:
        x, before, behind = _padded(x, before, behind), [0] * len(before), [0] * len(before)
    _require_even(before, behind)
    function = functional.avg_pool1d if len(kernel) == 1 else functional.avg_pool2d
    return function(x, kernel, strides, before, bool(node.get("ceil_mode", 0)), counts)


def _require_even(before: Sequence[int], behind: Sequence[int]) -> None:
    if list(before) != list(behind):
        raise Unsupported(f"pads its frame unevenly ({list(before)} before, {list(behind)} behind); use padding that "
                          "is the same on both sides, or none")


def _over_all(function: str) -> Callable[[OnnxNode, Given], Any]:
    """GlobalAveragePool, GlobalMaxPool."""
    def operator(node: OnnxNode, given: Given) -> Any:
        dims = given[0].ndim - 2
        return getattr(functional, f"adaptive_{function}_pool{dims}d")(given[0], 1)
    return operator


def pad(node: OnnxNode, given: Given) -> Any:
    """Constants around, or elements of the frame itself."""
    x, pads = given[0], list(told(node, given, 1, "pads"))
    mode, value = node.get("mode", "constant"), told(node, given, 2, "value", 0.0)
    axes = [a % x.ndim for a in told(node, given, 3, "axes") or range(x.ndim)]
    by_axis = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    sides = [by_axis.get(axis, (0, 0)) for axis in range(x.ndim)]
    require_size([n + a + b for n, (a, b) in zip(x.shape, sides, strict=True)])
    while mode != "constant" and sides and sides[0] == (0, 0):
        sides = sides[1:]
    flat = [n for pair in reversed(sides) for n in pair]
    if mode == "constant":
        return functional.pad(x, flat, value=float(value or 0.0))
    return functional.pad(x, flat, mode={"edge": "replicate"}.get(mode, mode))


FRAMES: Mapping[str, Callable[[OnnxNode, Given], Any]] = {
    "Conv": convolution, "MaxPool": max_pool, "AveragePool": average_pool, "GlobalAveragePool": _over_all("avg"),
    "GlobalMaxPool": _over_all("max"), "Pad": pad,
}
