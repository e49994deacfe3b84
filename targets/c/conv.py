"""The sum over a convolution's window in C: several filters at once over the same stretch of the frame.

What lies side by side in the frame and in the weights is one inner loop over pointers. Where a window leaves the frame,
the loops begin and end at its border; the inner one asks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ncpc.ir.formed import Sum
from ncpc.ir.loops import Nest, Window
from ncpc.ir.program import Program
from ncpc.ir.types import Fixed, Float32
from ncpc.ir.windows import Windows, windows_of
from ncpc.semantics.windows import sum_of
from ncpc.targets.c.expressions import Expr, ctype_of, printed
from ncpc.targets.c.layout import INDENT
from ncpc.targets.c.numbers import FLOAT, INT32, NIBBLE, UINT32, CType, constant, halves_byte, nibble_word, stored

AT_ONCE = {4: 4, 8: 2}
"""Filters that are summed at once by the bytes of a sum: as many as registers hold."""

Lines = Iterator[str]


@dataclass(frozen=True)
class Packing:
    """How the weights of filters that are summed at once share a word of type ``ctype``; ``parts`` are the macros that
    read them.
    """

    ctype: CType
    parts: tuple[str, ...]


WORDS = {(2, 16): Packing(UINT32, ("LO16", "HI16")), (4, 8): Packing(UINT32, tuple(f"BYTE{k}" for k in range(4))),
         **{(n, NIBBLE): Packing(nibble_word(n), tuple(f"NIBBLE{k}" for k in range(n))) for n in (2, 3, 4)}}
"""By so many filters, of so many bits each: for one load instead of several, and of 4 bits for less memory."""


@dataclass(frozen=True)
class Plane:
    """A frame in memory: C text of the array, the variable that names its first row (or ""), rows that it has."""

    text: str
    first: str
    rows: int


def nested(loops: Sequence[str], inner: Sequence[str]) -> Lines:
    """``inner`` inside loops, the first outermost; a head that ends in ``;`` is a statement before what follows."""
    depth = 0
    for head in loops:
        yield f"{INDENT * depth}{head}" + ("" if head.endswith(";") else " {")
        depth += not head.endswith(";")
    yield from (f"{INDENT * depth}{line}" for line in inner)
    for back in reversed(range(depth)):
        yield f"{INDENT * back}}}"


def count(var: str, size: int, step: int = 1) -> str:
    """The head of a loop from 0."""
    return f"for (int {var} = 0; {var} < {size}; {f'{var} += {step}' if step > 1 else f'{var}++'})"


def linear(*terms: tuple[str, int]) -> str:
    """A sum of products as C text, without what is 0 or 1; ("", n) is a number."""
    text = ""
    for part, n in terms:
        if n and part != "0":
            one = _times(part, abs(n))
            text = f"{text} {'-' if n < 0 else '+'} {one}" if text else one if n > 0 else f"-{one}"
    return text or "0"


def _times(part: str, n: int) -> str:
    if not part:
        return str(n)
    return part if n == 1 else f"{part if part.isidentifier() else f'({part})'} * {n}"


def constants_read(node: Window, program: Program) -> list[str]:
    """The constants that the loops read: shifts that are all alike are written as a number."""
    names = [name for name in node.args if name in program.constants]
    return [name for name in names if name not in node.args[3:] or np.ptp(program.constants[name][1]) > 0]


def window_sum_of(nest: Nest, node: Window) -> Sum:
    """What a window of integers adds up, and what becomes of the total."""
    weight, bias = (np.asarray(nest.program.constants[name][1], np.int64) for name in (node.args[0], node.args[2]))
    kind = nest.types[node.args[1]]
    assert isinstance(kind, Fixed)
    return sum_of(weight, bias, kind)


def sum_type(nest: Nest, node: Window) -> CType:
    """The type of a window's sum."""
    if isinstance(nest.types[node.args[1]], Float32):
        return FLOAT
    return ctype_of(window_sum_of(nest, node).word)


def at_once(nest: Nest, node: Window) -> int:
    """Filters per pass over the window: the most that registers hold and that divide those of a group."""
    filters, groups = _filters(nest, node)
    most = AT_ONCE[sum_type(nest, node).bytes]
    return max(n for n in range(1, most + 1) if (filters // groups) % n == 0)


def packing(nest: Nest, node: Window) -> Packing | None:
    """How the weights of filters that are summed at once share a word; None where each has its own."""
    if node.kind != "conv2d":
        return None
    bits = NIBBLE if halves_byte(nest.types[node.args[0]]) else 8 * _pointed(nest, node.args[0]).bytes
    return WORDS.get((at_once(nest, node), bits))


def _filters(nest: Nest, node: Window) -> tuple[int, int]:
    """Filters and groups."""
    w = windows_of(node.attrs)
    filters, taps = nest.program.constants[node.args[0]][0].shape
    return filters, w.channels * w.kernel_h * w.kernel_w // taps


def sum_lines(nest: Nest, node: Window, names: dict[str, str], x: Plane, row: str, col: str) -> Lines:
    """Declares ``sums``: of as many filters as ``at_once`` says, from ``filter`` on, at window (``row``, ``col``)."""
    ctype, number = sum_type(nest, node), at_once(nest, node)
    bias = names[node.args[2]]
    yield from (f"{ctype.name} {name} = {bias}[{linear(('filter', 1), ('', k))}];"
                for k, name in enumerate(_sums(number)))
    w = windows_of(node.attrs)
    group, loops = _heads(w, nest, node)
    yield from group
    walks = _walks(w, nest, node)
    stretch = _stretch_of(nest, node, x, w, row, col, walks)
    taps = list(_taps(nest, node, names, stretch.tap, walks))
    pixels = f"const {_pointed(nest, node.args[1]).name} *const pixels = &{x.text}[{stretch.at}];"
    inner = list(_products(nest, node, stretch))
    if not walks:
        yield from nested(loops, [*taps, pixels, *inner])
        return
    yield from taps
    yield from nested(loops, [pixels, *inner, *(f"{name} += {stretch.length};" for name in _tap_names(nest, node))])


def _sums(number: int) -> list[str]:
    return ["sum"] if number == 1 else [f"sum_{k}" for k in range(number)]


def gathered(number: int, ctype: CType) -> Lines:
    """The sums as an array, where there are several."""
    if number > 1:
        yield f"const {ctype.name} sums[{number}] = {{{', '.join(_sums(number))}}};"


def clip(var: str, at: str, kernel: int, dilation: int, size: int, low: bool, high: bool) -> Lines:
    """``{var}_from`` and ``{var}_to``: the part of a window that lies in the frame."""
    if low:
        begin = f"-{at}" if dilation == 1 else f"({dilation - 1} - {at}) / {dilation}"
        yield f"const int {var}_from = {at} < 0 ? {begin} : 0;"
    if high:
        end = f"{size} - {at}" if dilation == 1 else f"({size + dilation - 1} - {at}) / {dilation}"
        yield f"const int {var}_to = {at} > {size - (kernel - 1) * dilation - 1} ? {end} : {kernel};"


@dataclass(frozen=True)
class Side:
    """One side of a window: C text of its first and last element within the kernel."""

    begin: str
    end: str

    @property
    def whole(self) -> bool:
        return self.begin == "0" and self.end.isdigit()


def sides(w: Windows) -> tuple[Side, Side]:
    """Rows and columns of a window: numbers where every window lies in the frame."""
    return (Side("i_from" if w.top else "0", "i_to" if w.bottom > 0 else str(w.kernel_h)),
            Side("j_from" if w.left else "0", "j_to" if w.right > 0 else str(w.kernel_w)))


def corner(w: Windows, row: str, col: str) -> Lines:
    """``top`` and ``left``, the window's corner in the frame, where it is clipped there, and the clipping."""
    if w.top or w.bottom > 0:
        yield f"const int top = {linear((row, w.stride_h), ('', -w.top))};"
        yield from clip("i", "top", w.kernel_h, w.dilation_h, w.height, w.top > 0, w.bottom > 0)
    if w.left or w.right > 0:
        yield f"const int left = {linear((col, w.stride_w), ('', -w.left))};"
        yield from clip("j", "left", w.kernel_w, w.dilation_w, w.width, w.left > 0, w.right > 0)


def _merged(w: Windows, groups: int) -> bool:
    """Whether a window's row is one stretch of memory."""
    return w.layout == "hwc" and groups == 1 and w.dilation_w == 1


def span(var: str, side: Side) -> list[str]:
    """The loop over a side; none where it has one element."""
    if side == Side("0", "1"):
        return []
    return [f"for (int {var} = {side.begin}; {var} < {side.end}; {var}++)"]


def _heads(w: Windows, nest: Nest, node: Window) -> tuple[list[str], list[str]]:
    """What names the group of the filters, and the loops around the inner one."""
    filters, groups = _filters(nest, node)
    rows, cols = sides(w)
    loops = span("i", rows)
    if w.layout == "hwc" and not _merged(w, groups):
        loops += span("j", cols)
    if w.layout == "chw" and w.channels > groups:
        loops = [count("channel", w.channels // groups), *loops]
    group = [f"const int group = filter / {filters // groups};"] if groups > 1 and filters > groups else []
    return group, loops


@dataclass(frozen=True)
class Stretch:
    """What the inner loop goes over: its first tap and pixel, how many there are, pixels from one to the next."""

    tap: str
    at: str
    length: str
    step: int


def _stretch_of(nest: Nest, node: Window, x: Plane, w: Windows, row: str, col: str, walks: bool) -> Stretch:
    """The stretch of each pass; for taps that walk, the first one's."""
    filters, groups = _filters(nest, node)
    part = w.channels // groups
    rows, cols = sides(w)
    i, channel = ("i" if span("i", rows) else "0"), ("channel" if part > 1 else "0")
    group = "0" if groups == 1 else "filter" if filters == groups else "group"
    top = ("top", 1) if w.top or w.bottom > 0 else (row, w.stride_h)
    left = ("left", 1) if w.left or w.right > 0 else (col, w.stride_w)
    y = linear(top, (i, w.dilation_h), *([(x.first, -1)] if x.first else []))
    if w.layout == "chw":
        tap = linear((linear((channel, w.kernel_h), (i, 1)), w.kernel_w), (cols.begin, 1))
        plane = linear((group, part), (channel, 1))
        at = linear((linear((plane, x.rows), (y, 1)), w.width), left, (cols.begin, w.dilation_w))
        return Stretch("0" if walks else tap, at, _length(cols, 1), w.dilation_w)
    j = cols.begin if _merged(w, groups) else "j" if span("j", cols) else "0"
    tap = linear((linear((i, w.kernel_w), (j, 1)), part))
    at = linear((linear((y, w.width), left, (j, w.dilation_w)), w.channels), (group, part))
    return Stretch("0" if walks else tap, at, _length(cols, w.channels) if _merged(w, groups) else str(part), 1)


def _walks(w: Windows, nest: Nest, node: Window) -> bool:
    """Whether the taps can walk from stretch to stretch: windows in the frame, of several whole rows.

    They end one past a filter's last, which a pointer may. Pixels are pointed to in each row anew: a walk over them
    would end a whole row further than the window's last, which may be far beyond the frame.
    """
    return w.inside and w.kernel_h > 1 and (w.layout == "chw" or _merged(w, _filters(nest, node)[1]))


def _length(side: Side, factor: int) -> str:
    if side.whole:
        return str(int(side.end) * factor)
    text = side.end if side.begin == "0" else f"{side.end} - {side.begin}"
    return text if factor == 1 else f"({text}) * {factor}" if " " in text else f"{text} * {factor}"


def _tap_names(nest: Nest, node: Window) -> list[str]:
    number = at_once(nest, node)
    return ["taps"] if number == 1 or packing(nest, node) else [f"taps_{k}" for k in range(number)]


def _taps(nest: Nest, node: Window, names: dict[str, str], tap: str, walks: bool) -> Lines:
    """Pointers to the weights of a stretch."""
    packed, array = packing(nest, node), names[node.args[0]]
    kind = packed.ctype.name if packed else _pointed(nest, node.args[0]).name
    for k, name in enumerate(_tap_names(nest, node)):
        place = f"filter / {at_once(nest, node)}" if packed else linear(("filter", 1), ("", k))
        yield f"const {kind} *{'' if walks else 'const '}{name} = &{array}[{place}][{tap}];"


def _products(nest: Nest, node: Window, stretch: Stretch) -> Lines:
    """The inner loop: a stretch of the frame times one of each filter; products fit 32 bits where sums do not."""
    packed, names = packing(nest, node), _tap_names(nest, node)
    is_float, weight = sum_type(nest, node) == FLOAT, _pointed(nest, node.args[0])
    kept, read = FLOAT if is_float else INT32, f"pixels[{linear(('k', stretch.step))}]"
    sums = [f"const {kept.name} pixel = {read};"]
    pixel = Expr("pixel", kept)
    if packed:
        sums.append(f"const {packed.ctype.name} word = taps[k];")
        taps = [Expr(f"{part}(word)", INT32) for part in packed.parts]
    elif at_once(nest, node) > 1:
        taps = [Expr(f"{name}[k]", weight) for name in names]
    else:
        taps, pixel, sums = [Expr("taps[k]", weight)], Expr(read, _pointed(nest, node.args[1])), []
    totals = ["sum"] if len(taps) == 1 else [f"sum_{k}" for k in range(len(taps))]
    sums += [f"{total} += {_product(nest, node, tap, pixel)};" for total, tap in zip(totals, taps, strict=True)]
    yield from nested([f"for (int k = 0; k < {stretch.length}; k++)"], sums)


def _product(nest: Nest, node: Window, tap: Expr, pixel: Expr) -> str:
    if pixel.ctype == FLOAT:
        return f"{tap.text} * {pixel.text}"
    return printed(window_sum_of(nest, node).each, {"w": tap, "x": pixel}).text


def _pointed(nest: Nest, name: str) -> CType:
    """The type behind a pointer into an array."""
    if name in nest.program.constants:
        value, data = nest.program.constants[name]
        return constant(value.type, data)
    return stored(nest.types[name])
