"""Layers over frames as C: row by row, from what the frame before keeps into what this one keeps.

Convolutions sum their windows (``conv.py``), do to each element what is to be done, and pool before they store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ncpc.ir.formed import TOTAL, mean_sum
from ncpc.ir.loops import Assign, For, Node, Ref, Stage, Stream, Window
from ncpc.ir.types import Float32, Type
from ncpc.ir.windows import Windows, windows_of
from ncpc.passes.stream import pooled
from ncpc.semantics.windows import elements, mean_factor
from ncpc.targets.c.conv import (
    Lines,
    Plane,
    at_once,
    corner,
    count,
    gathered,
    linear,
    nested,
    sides,
    span,
    sum_lines,
    sum_type,
    window_sum_of,
)
from ncpc.targets.c.expressions import Expr, ctype_of, printed
from ncpc.targets.c.numbers import FLOAT, INT32, CType, float_literal, scalar, stored
from ncpc.targets.c.writer import Rendering

Body = Callable[[Sequence[Node]], Iterator[str]]
"""Statements as lines."""


@dataclass(frozen=True)
class Site:
    """What writing a layer takes: the writer, its statements, and for arrays that keep some rows only their plane."""

    writer: Rendering
    body: Body
    kept: dict[str, Plane]

    def plane(self, name: str, rows: int) -> Plane:
        """Where a frame lies that has ``rows`` rows."""
        return self.kept.get(name) or Plane(self.writer.storage(name), "", rows)

    def names(self, node: Window) -> dict[str, str]:
        return {name: self.writer.storage(name) for name in node.args}


def window_lines(writer: Rendering, node: Window, body: Body, indent: str) -> Lines:
    """The loops of one node over a whole frame."""
    site = Site(writer, body, {})
    yield from (f"{indent}{line}" for line in _told(node))
    rows = pooled(node)[0] if node.pool else windows_of(node.attrs).rows
    heads = [count("row", rows)] if rows > 1 else []
    yield from (f"{indent}{line}" for line in nested(heads, list(_row(site, node, "row" if rows > 1 else "0"))))


def _told(node: Window | For) -> Lines:
    """The equations as comments."""
    parts = [node, *([node.pool] if node.pool else [])] if isinstance(node, Window) else node.body[:1]
    for part in parts:
        if isinstance(part, Window | Assign) and part.origin:
            yield f"/* {part.origin.equation} */"


def stream_lines(writer: Rendering, stream: Stream, body: Body, indent: str) -> Lines:
    """Each stage is run as far as the next one wants; the last one goes through its rows."""
    kept, last = {}, stream.stages[-1]
    for stage, reader in pairwise(stream.stages):
        first = writer.names.fresh(f"{stage.out}_first")
        kept[stage.out] = Plane(writer.storage(stage.out), first, reader.span)
        yield f"{indent}int {first} = 0; /* of {stage.out} only rows that are still read stay, from this one on */"
        yield f"{indent}int {writer.names[f'made:{stage.out}']} = 0; /* and so many were made */"
    site = Site(writer, body, kept)
    inner = [*_supply(site, stream.stages, len(stream.stages) - 1, "row"), *_work(site, last, "row")]
    yield from (f"{indent}{line}" for line in nested([count("row", last.turns)], inner))


def _work(site: Site, stage: Stage, row: str) -> Lines:
    """One row of a stage, if it has that row."""
    yield from _told(stage.node)
    lines = list(_row(site, stage.node, row) if isinstance(stage.node, Window) else _each_row(site, stage, row))
    guard = [f"if ({row} < {stage.rows})"] if stage.turns > stage.rows else []
    yield from nested(guard, lines)


def _supply(site: Site, stages: Sequence[Stage], k: int, row: str) -> Lines:
    """Drop rows of the frame before stage ``k`` that it has done with, and make those that its row ``row`` reads."""
    if k == 0:
        return
    source, reader = stages[k - 1], stages[k]
    plane, made = site.kept[source.out], site.writer.names[f"made:{source.out}"]
    yield from _dropped(source, reader, plane, made, row)
    wanted = linear((row, reader.stride), ("", reader.span - reader.top))
    most = (reader.turns - 1) * reader.stride + reader.span - reader.top
    limit = f"{made} < {wanted}" + (f" && {made} < {source.turns}" if most > source.turns else "")
    inner = [*_supply(site, stages, k - 1, made), *_work(site, source, made)]
    yield from nested([f"for (; {limit}; {made}++)"], inner)


def _dropped(source: Stage, reader: Stage, plane: Plane, made: str, row: str) -> Lines:
    """Move the rows that stay to the front."""
    size = source.cols * (source.channels if source.layout == "hwc" else 1)
    gone = f"{plane.first}_gone"
    yield f"const int {gone} = {linear((row, reader.stride), ('', -reader.top), (plane.first, -1))};"
    if reader.span == reader.stride:  # every row is read for one row only
        yield f"{plane.first} += {gone} > 0 ? {gone} : 0;"
        return
    heads = [f"if ({gone} > 0)", f"{plane.first} += {gone};"]
    base = "0"
    if source.layout == "chw" and source.channels > 1:
        heads.append(count("channel", source.channels))
        base = "channel"
    to = linear((base, plane.rows * size), ("k", 1))
    heads.append(f"for (int k = 0; k < ({made} - {plane.first}) * {size}; k++)")
    yield from nested(heads, [f"{plane.text}[{to}] = {plane.text}[{to} + {linear((gone, size))}];"])


def _each_row(site: Site, stage: Stage, row: str) -> Lines:
    """An elementwise loop over one row."""
    loop, writer = stage.node, site.writer
    assert isinstance(loop, For)
    names = {ref.name for a in loop.body if isinstance(a, Assign) for ref in (a.out, *a.args)
             if isinstance(ref, Ref) and ref.at}
    hwc = stage.layout == "hwc"
    size = stage.cols * (stage.channels if hwc else 1)
    channel = "channel" if not hwc and stage.channels > 1 else "0"
    yield from nested([count("channel", stage.channels)] if channel != "0" else [], list(nested(
        [count("k", size)], [*_indices(site, stage, names, channel, row, size), *site.body(loop.body)])))
    for name in names & set(site.kept):
        writer.rolling.pop(name)


def _indices(site: Site, stage: Stage, names: set[str], channel: str, row: str, size: int) -> Lines:
    """The element's place in each frame that keeps some rows, and in all others."""
    loop, writer = stage.node, site.writer
    assert isinstance(loop, For)
    if names - set(site.kept):
        whole = loop.axis.size // (size * (stage.channels if channel != "0" else 1))
        yield f"const int {writer.names[loop.var]} = {linear((channel, whole * size), (row, size), ('k', 1))};"
    for name in sorted(names & set(site.kept)):
        plane = site.kept[name]
        writer.rolling[name] = f"{plane.first}_at"
        at = linear((channel, plane.rows * size), (f"{row} - {plane.first}", size), ("k", 1))
        yield f"const int {plane.first}_at = {at};"


def _row(site: Site, node: Window, row: str) -> Lines:
    """One row of a convolution's or a pool's result."""
    if node.kind == "pool":
        yield from _pool_row(site, node, row)
        return
    w = windows_of(node.attrs)
    cols = pooled(node)[1] if node.pool else w.cols
    filters = site.writer.nest.program.constants[node.args[0]][0].shape[0]
    across = [count("col", cols)] if cols > 1 else []
    down = [count("filter", filters, at_once(site.writer.nest, node))]
    loops = [*across, *down] if w.layout == "hwc" else [*down, *across]
    col = "col" if across else "0"
    make = _pooled_places if node.pool else _place
    yield from nested(loops, list(make(site, node, row, col, filters)))


def _channel(number: int) -> tuple[list[str], str, str]:
    """The loop over filters that were summed together; the filter and its sum in it."""
    if number == 1:
        return [], "filter", "sum"
    return [count("n", number)], "filter + n", "sums[n]"


def _place(site: Site, node: Window, row: str, col: str, filters: int) -> Lines:
    """All filters of a block at one place, stored."""
    nest, w = site.writer.nest, windows_of(node.attrs)
    number = at_once(nest, node)
    yield from corner(w, row, col)
    yield from sum_lines(nest, node, site.names(node), site.plane(node.args[1], w.height), row, col)
    yield from gathered(number, sum_type(nest, node))
    loop, channel, total = _channel(number)
    out = _at(site.plane(node.out, w.rows), w, filters, row, col, channel)
    lines, value = _value(site, node, channel, total)
    yield from nested(loop, [*lines, f"{out} = {_stored(value, node.each.type if node.each else node.type)};"])


def _stored(text: str, type_: Type) -> str:
    return text if isinstance(type_, Float32) else f"({stored(type_).name}){text}"


def _at(plane: Plane, w: Windows, channels: int, row: str, col: str, channel: str) -> str:
    """An element of a frame as large as the windows' places."""
    y = linear((row, 1), *([(plane.first, -1)] if plane.first else []))
    if w.layout == "hwc":
        return f"{plane.text}[{linear((linear((y, w.cols), (col, 1)), channels), (channel, 1))}]"
    return f"{plane.text}[{linear((linear((channel, plane.rows), (y, 1)), w.cols), (col, 1))}]"


def _value(site: Site, node: Window, channel: str, total: str) -> tuple[list[str], str]:
    """Statements that make an element of a filter's sum, and its text."""
    made = list(_float_value(node, total) if isinstance(node.type, Float32) else
                _fixed_value(site, node, channel, total))
    if node.each is None:
        return made, "value"
    ctype = scalar(node.type)
    names, each = site.writer.names, node.each
    made.append(f"const {ctype.name} {names[each.value]} = {_cast('value', site, node, ctype)};")
    return [*made, f"{scalar(each.type).name} {names[each.result]};", *site.body(each.body)], names[each.result]


def _cast(text: str, site: Site, node: Window, ctype: CType) -> str:
    return text if sum_type(site.writer.nest, node) == ctype else f"({ctype.name}){text}"


def _float_value(node: Window, total: str) -> Lines:
    yield f"const float value = {f'{total} > 0.0f ? {total} : 0.0f' if node.attrs['relu'] else total};"


def _fixed_value(site: Site, node: Window, channel: str, total: str) -> Lines:
    """Shifted, then limited; the status bit tells that a limit was met, not that relu did its work."""
    shifts = site.writer.nest.program.constants[node.args[3]][1].astype(int)
    shift = str(int(shifts[0])) if np.ptp(shifts) == 0 else f"{site.writer.storage(node.args[3])}[{channel}]"
    found = window_sum_of(site.writer.nest, node)
    assert found.after is not None
    known = {TOTAL: Expr(total, ctype_of(found.word)), "shift": Expr(shift, INT32)}
    yield f"{found.word.name} value = {printed(found.after, known).text};"
    lo, hi, flag = (node.attrs[name] for name in ("lo", "hi", "flag"))
    mark = [f"status |= {site.writer.macro}_{str(flag).upper()};"] if flag is not None else []
    if node.attrs["relu"]:
        yield from nested(["if (value < 0)"], ["value = 0;"])
    if lo is not None and (not node.attrs["relu"] or int(lo) > 0):
        yield from nested([f"if (value < {lo})"], [f"value = {lo};", *mark])
    if hi is not None:
        yield from nested([f"if (value > {hi})"], [f"value = {hi};", *mark])


def _sums_first(node: Window) -> bool:
    """Whether the largest sum may be found before it is shifted and limited: all of that rises with the sum.

    A status bit that a small element would have set must not be lost: relu leaves none.
    """
    assert node.pool is not None
    rises = node.attrs["relu"] and not int(node.attrs["lo"] or 0) and node.each is None
    return bool(rises) and node.pool.attrs["function"] == "max" and not isinstance(node.type, Float32)


def _pooled_places(site: Site, node: Window, row: str, col: str, filters: int) -> Lines:
    """A pooling window's places one by one: the largest or the sum stays, per filter, and is stored at the end."""
    assert node.pool is not None
    nest, w, p = site.writer.nest, windows_of(node.attrs), windows_of(node.pool.attrs)
    number, kind = at_once(nest, node), sum_type(nest, node) if _sums_first(node) else _pool_type(node)
    yield f"{kind.name} pooled = 0;" if number == 1 else f"{kind.name} pooled[{number}] = {{0}};"
    yield from nested(_pool_loops(w, p, pooled(node), row, col), [
        f"const int row_in = {linear((row, p.stride_h), ('i_pool', 1))};",
        f"const int col_in = {linear((col, p.stride_w), ('j_pool', 1))};", *corner(w, "row_in", "col_in"),
        *sum_lines(nest, node, site.names(node), site.plane(node.args[1], w.height), "row_in", "col_in"),
        *gathered(number, sum_type(nest, node)), *_taken(site, node, number)])
    loop, channel, _ = _channel(number)
    value, made = "pooled" if number == 1 else "pooled[n]", list[str]()
    if _sums_first(node):
        made, value = _value(site, node, channel, value)
    if node.pool.attrs["function"] != "max":
        value = _mean(value, str(elements(p, str(node.pool.attrs["function"])).flat[0]), kind, node.pool.type, False)
    out = _at(site.plane(node.out, p.rows), p, filters, row, col, channel)
    store = nested(_stored_if(node, p, row, col), [f"{out} = {_stored(value, node.pool.type)};"])
    yield from nested(loop, [*made, *store])


def _stored_if(node: Window, p: Windows, row: str, col: str) -> list[str]:
    """Places beyond the pooled frame are computed for their status bits alone."""
    most = pooled(node)
    checks = [f"{at} < {n}" for at, n, turns in ((row, p.rows, most[0]), (col, p.cols, most[1])) if n < turns]
    return [f"if ({' && '.join(checks)})"] if checks else []


def _pool_type(node: Window) -> CType:
    """What holds a pooling window's largest element or its sum."""
    assert node.pool is not None
    if isinstance(node.pool.type, Float32):
        return FLOAT
    return stored(node.pool.type) if node.pool.attrs["function"] == "max" else INT32


def _pool_loops(w: Windows, p: Windows, most: tuple[int, int], row: str, col: str) -> list[str]:
    """Over a pooling window, as far as there are places in it."""
    heads = []
    for var, size, at, stride, turns, places in (("i_pool", p.kernel_h, row, p.stride_h, most[0], w.rows),
                                                 ("j_pool", p.kernel_w, col, p.stride_w, most[1], w.cols)):
        end = f" && {linear((at, stride), (var, 1))} < {places}" if turns * stride > places else ""
        heads.append(f"for (int {var} = 0; {var} < {size}{end}; {var}++)")
    return heads


def _taken(site: Site, node: Window, number: int) -> Lines:
    """The elements of a place go into their pooling windows."""
    assert node.pool is not None
    loop, channel, total = _channel(number)
    at, kind = "pooled" if number == 1 else "pooled[n]", _pool_type(node)
    if _sums_first(node):
        yield from nested([*loop, f"if (i_pool + j_pool == 0 || {at} < {total})"], [f"{at} = {total};"])
        return
    lines, value = _value(site, node, channel, total)
    text = value if kind == FLOAT else f"({kind.name}){value}"
    if node.pool.attrs["function"] == "max":
        take = list(nested([f"if (i_pool + j_pool == 0 || {at} < {value})"], [f"{at} = {text};"]))
    else:
        take = [f"{at} += {text};"]
    yield from nested(loop, [*lines, *take])


def _mean(total: str, number: str, kind: CType, type_: Type, looked_up: bool) -> str:
    """A sum divided by how many it is of; ``looked_up``: the factor stands in the table ``share``."""
    if kind == FLOAT:
        return f"{total} * {'share[inside]' if looked_up else float_literal(np.float32(1.0 / int(number)))}"
    factor = "share[inside]" if looked_up else str(int(mean_factor(np.array(int(number)))))
    after = mean_sum().after
    assert after is not None
    return f"({printed(after, {TOTAL: Expr(total, INT32), 'factor': Expr(factor, INT32)}).text})"


def _pool_row(site: Site, node: Window, row: str) -> Lines:
    """One row of a pool that stands by itself."""
    w, function = windows_of(node.attrs), str(node.attrs["function"])
    across = [count("col", w.cols)] if w.cols > 1 else []
    down = [count("channel", w.channels)] if w.channels > 1 else []
    col, channel = "col" if across else "0", "channel" if down else "0"
    found = list(corner(w, row, col))
    loops = [*across, *found, *down] if w.layout == "hwc" else [*down, *across, *found]
    rows, cols = sides(w)
    i, j = ("i" if span("i", rows) else "0"), ("j" if span("j", cols) else "0")
    x = site.plane(node.args[0], w.height)
    y = linear(("top", 1) if w.top or w.bottom > 0 else (row, w.stride_h), (i, w.dilation_h),
               *([(x.first, -1)] if x.first else []))
    across_in = linear(("left", 1) if w.left or w.right > 0 else (col, w.stride_w), (j, w.dilation_w))
    if w.layout == "hwc":
        at = linear((linear((y, w.width), (across_in, 1)), w.channels), (channel, 1))
    else:
        at = linear((linear((channel, x.rows), (y, 1)), w.width), (across_in, 1))
    out = _at(site.plane(node.out, w.rows), w, w.channels, row, col, channel)
    window = [*span("i", rows), *span("j", cols)]
    kept, source = stored(node.type), f"{x.text}[{at}]"
    if function == "max":
        first = " && ".join(f"{var} == {side.begin}" for var, side in ((i, rows), (j, cols)) if var.isalpha())
        take = nested([f"if (({first}) || best < value)"] if first else [], ["best = value;"])
        yield from nested(loops, [f"{kept.name} best = 0;", *nested(window, [
            f"const {kept.name} value = {source};", *take]), f"{out} = best;"])
        return
    kind = FLOAT if isinstance(node.type, Float32) else INT32
    counts = elements(w, function)
    vary = np.ptp(counts) > 0
    if vary:
        yield _shares(w, kind)
    number = f"({rows.end} - {rows.begin}) * ({cols.end} - {cols.begin})"
    inside = [f"const int inside = {number};"] if vary else []
    mean = _mean("sum", str(counts.flat[0]), kind, node.type, bool(vary))
    yield from nested(loops, [f"{kind.name} sum = 0;", *nested(window, [f"sum += {source};"]), *inside,
                              f"{out} = {_stored(mean, node.type)};"])


def _shares(w: Windows, kind: CType) -> str:
    """The factors of means over 0, 1, 2, ... elements."""
    most = w.kernel_h * w.kernel_w
    shares = [0, *(mean_factor(np.arange(1, most + 1)) if kind == INT32 else 1.0 / np.arange(1, most + 1))]
    texts = [str(int(n)) if kind == INT32 else float_literal(np.float32(n)) for n in shares]
    return f"static const {kind.name} share[{most + 1}] = {{{', '.join(texts)}}};"
