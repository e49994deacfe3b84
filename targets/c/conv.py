"""Convolution and pooling as C loops: outer ones over places and filters, inner ones over a window in the op's order.

Where no window leaves the frame, what lies side by side in it is one inner loop over two pointers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ncpc.ir.loops import Nest, Window
from ncpc.ir.program import Program
from ncpc.ir.types import Fixed, Float32
from ncpc.ir.windows import Windows, windows_of
from ncpc.semantics.windows import MEAN_BITS, mean_factor
from ncpc.targets.c.layout import INDENT
from ncpc.targets.c.numbers import FLOAT, INT32, CType, constant, float_literal, stored

INT64 = CType("int64_t", 8)

Lines = Iterator[str]


def window_lines(nest: Nest, node: Window, names: dict[str, str], indent: str) -> Lines:
    """The loops of one node; ``names`` gives the C text of its result, input and constants."""
    body = _conv(nest, node, names) if node.kind == "conv2d" else _pool(nest, node, names)
    if node.origin:
        yield f"{indent}/* {node.origin.equation} */"
    yield from (f"{indent}{line}" for line in body)


def _nested(loops: Sequence[str], inner: Sequence[str]) -> Lines:
    """``inner`` inside loops, the first outermost."""
    for depth, head in enumerate(loops):
        yield f"{INDENT * depth}{head} {{"
    yield from (f"{INDENT * len(loops)}{line}" for line in inner)
    for depth in reversed(range(len(loops))):
        yield f"{INDENT * depth}}}"


def _count(var: str, size: int) -> str:
    return f"for (int {var} = 0; {var} < {size}; {var}++)"


def _conv(nest: Nest, node: Window, names: dict[str, str]) -> Lines:
    w = windows_of(node.attrs)
    filters = nest.program.constants[node.args[0]][0].shape[0]
    places = [_count("row", w.rows), _count("col", w.cols)]
    outer = [*places, _count("filter", filters)] if w.layout == "hwc" else [_count("filter", filters), *places]
    ctype = sum_type(nest, node)
    out = f"{names[node.out]}[{_place(w, filters, 'filter')}]"
    start = f"{ctype.name} sum = {names[node.args[2]]}[filter];"
    inner = [start, *_window(nest, node, w, ctype, names), *_finish(nest, node, out, ctype, names)]
    yield from _nested(outer, inner)


def constants_read(node: Window, program: Program) -> list[str]:
    """The constants that the loops read: shifts that are all alike are written as a number."""
    names = [name for name in node.args if name in program.constants]
    return [name for name in names if name not in node.args[3:] or np.ptp(program.constants[name][1]) > 0]


def _place(w: Windows, channels: int, channel: str) -> str:
    """The index of a result."""
    if w.layout == "hwc":
        return f"(row * {w.cols} + col) * {channels} + {channel}"
    return f"({channel} * {w.rows} + row) * {w.cols} + col"


def sum_type(nest: Nest, node: Window) -> CType:
    """Where a window's sum fits: 32 bits if no partial sum can leave them, whatever the input."""
    if isinstance(node.type, Float32):
        return FLOAT
    weight, bias = (np.asarray(nest.program.constants[name][1], np.float64) for name in (node.args[0], node.args[2]))
    kind = nest.types[node.args[1]]
    assert isinstance(kind, Fixed)
    reach = np.abs(weight).sum(1) * max(-kind.lo, kind.hi) + np.abs(bias)
    rounding = 2.0 ** float(np.max(nest.program.constants[node.args[3]][1], initial=0))
    return INT32 if reach.max() + rounding < 2.0**31 else INT64


def _window(nest: Nest, node: Window, w: Windows, ctype: CType, names: dict[str, str]) -> Lines:
    """The sum over one window."""
    weights, x = names[node.args[0]], names[node.args[1]]
    taps, pixels = (_pointed(nest, name) for name in node.args[:2])
    wide = f"({ctype.name})" if ctype == INT64 else ""
    if not w.inside:
        yield from _checked(w, weights, x, wide)
        return
    hwc = w.layout == "hwc"
    run = w.kernel_w * w.channels if hwc else w.kernel_w
    row = f"row * {w.stride_h} + i"
    at = (f"(({row}) * {w.width} + col * {w.stride_w}) * {w.channels}" if hwc
          else f"(channel * {w.height} + {row}) * {w.width} + col * {w.stride_w}")
    tap = f"i * {run}" if hwc else f"(channel * {w.kernel_h} + i) * {run}"
    loops = [_count("i", w.kernel_h)] if hwc else [_count("channel", w.channels), _count("i", w.kernel_h)]
    yield from _nested(loops, [
        f"const {taps.name} *const taps = &{weights}[filter][{tap}];",
        f"const {pixels.name} *const pixels = &{x}[{at}];",
        f"{_count('k', run)} {{", f"{INDENT}sum += {wide}taps[k] * pixels[k];", "}",
    ])


def _pointed(nest: Nest, name: str) -> CType:
    """The type behind a pointer into an array."""
    if name in nest.program.constants:
        value, data = nest.program.constants[name]
        return constant(value.type, data)
    return stored(nest.types[name])


def _checked(w: Windows, weights: str, x: str, wide: str) -> Lines:
    """Every tap asks whether it lies in the frame."""
    hwc = w.layout == "hwc"
    axes = {"i": w.kernel_h, "j": w.kernel_w, "channel": w.channels}
    order = ("i", "j", "channel") if hwc else ("channel", "i", "j")
    pixel = (f"(y_in * {w.width} + x_in) * {w.channels} + channel" if hwc
             else f"(channel * {w.height} + y_in) * {w.width} + x_in")
    tap = (f"(i * {w.kernel_w} + j) * {w.channels} + channel" if hwc
           else f"(channel * {w.kernel_h} + i) * {w.kernel_w} + j")
    yield from _nested([_count(name, axes[name]) for name in order], [
        f"const int y_in = row * {w.stride_h} + i - {w.top};",
        f"const int x_in = col * {w.stride_w} + j - {w.left};",
        f"if (y_in >= 0 && y_in < {w.height} && x_in >= 0 && x_in < {w.width}) {{",
        f"{INDENT}sum += {wide}{weights}[filter][{tap}] * {x}[{pixel}];",
        "}",
    ])


def _finish(nest: Nest, node: Window, out: str, ctype: CType, names: dict[str, str]) -> Lines:
    relu, kept = bool(node.attrs["relu"]), stored(node.type)
    lo, hi = node.attrs["lo"], node.attrs["hi"]
    if ctype == FLOAT:
        yield f"{out} = sum > 0.0f ? sum : 0.0f;" if relu else f"{out} = sum;"
        return
    _, data = nest.program.constants[node.args[3]]
    shifts = np.asarray(data).astype(int)
    name = f"{names[node.args[3]]}[filter]"
    if shifts.min() == shifts.max():
        half, name = str(1 << int(shifts[0]) >> 1), str(int(shifts[0]))
    else:
        half = f"((({ctype.name})1 << {name}) >> 1)"
    rounded = f"(sum + {half}) >> {name}"
    least = max(int(lo or 0), 0) if relu else lo
    if least is None or hi is None:
        yield f"{out} = ({kept.name})({rounded});"
        return
    yield f"const {ctype.name} value = {rounded};"
    yield f"{out} = ({kept.name})(value < {least} ? {least} : (value > {hi} ? {hi} : value));"


def _pool(nest: Nest, node: Window, names: dict[str, str]) -> Lines:
    w, x, kept = windows_of(node.attrs), names[node.args[0]], stored(node.type)
    hwc = w.layout == "hwc"
    places = [_count("row", w.rows), _count("col", w.cols)]
    outer = [*places, _count("channel", w.channels)] if hwc else [_count("channel", w.channels), *places]
    row, col = f"(row * {w.stride_h} + i)", f"col * {w.stride_w} + j"
    at = f"({row} * {w.width} + {col}) * {w.channels} + channel" if hwc else (
        f"(channel * {w.height} + {row}) * {w.width} + {col}")
    out = f"{names[node.out]}[{_place(w, w.channels, 'channel')}]"
    inner = [_count("i", w.kernel_h), _count("j", w.kernel_w)]
    if node.attrs["function"] == "max":
        first = at.replace("row * 1 + i", "row").replace(" + i)", ")").replace(" + j", "")
        step = [f"const {kept.name} value = {x}[{at}];", "best = best < value ? value : best;"]
        yield from _nested(outer, [f"{kept.name} best = {x}[{first}];", *_nested(inner, step), f"{out} = best;"])
        return
    number = w.kernel_h * w.kernel_w
    ctype = FLOAT if isinstance(node.type, Float32) else INT32
    mean = (f"sum * {float_literal(np.float32(1.0 / number))}" if ctype == FLOAT else
            f"({kept.name})(((int64_t)sum * {mean_factor(number)} + {1 << MEAN_BITS >> 1}) >> {MEAN_BITS})")
    zero = "0.0f" if ctype == FLOAT else "0"
    yield from _nested(outer, [f"{ctype.name} sum = {zero};", *_nested(inner, [f"sum += {x}[{at}];"]),
                               f"{out} = {mean};"])
