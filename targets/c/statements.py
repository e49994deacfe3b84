"""A loop nest as the body of a C function.

A scalar that is used once, soon and unchanged becomes part of the expression that uses it, so that the text reads like
the equation; the others are named constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from ncpc.ir.loops import Assign, For, Nest, Node, Pair, Ref, Stream, Times, Window, assigns, loops
from ncpc.ir.types import Fixed
from ncpc.targets.c.dot import dot_line
from ncpc.targets.c.expressions import SHIFT, UNARY, Expr, apply, call, cast
from ncpc.targets.c.frames import stream_lines, window_lines
from ncpc.targets.c.layout import INDENT
from ncpc.targets.c.numbers import INT32, CType, scalar, stored
from ncpc.targets.c.parts import short_product
from ncpc.targets.c.tables import count_key
from ncpc.targets.c.writer import Rendering, repeats

INLINE, LINE = 64, 84
"""Longest expression that is put into another, and longest right side with its indentation."""


NEURON_LABEL, NEURON_END = "ncpc_neuron", "ncpc_neuron_end"
"""Labels before and behind one neuron's update, in builds for a profile."""


def profiled(nest: Nest) -> For | None:
    """The loop whose passes a profile tells apart: the first one in a repeat that sums over synapses."""
    repeated = (loop for times in repeats(nest.body) for loop in loops(times.body))
    return next((loop for loop in repeated if any(isinstance(n, For) and n.segment for n in loop.body)), None)


def statements(writer: Rendering, body: Sequence[Node], indent: str, said: str | None = None) -> Iterator[str]:
    """The lines of a body. ``said`` is the comment that already stands above it."""
    inline, read = _inlinable(body), {ref.name for node in body for ref in _reads(node)}
    for node in body:
        comment = _comment(node)
        if comment and comment != said:
            said = comment
            yield f"{indent}/* {comment} */"
        if isinstance(node, Assign):
            dead = node.declares and node.out.name not in read
            yield from _assign(writer, node, indent, node.out.name in inline, dead)
            continue
        if isinstance(node, Window):
            yield from window_lines(writer, node, partial(_lines_of, writer), indent)
            continue
        if isinstance(node, Stream):
            yield from stream_lines(writer, node, partial(_lines_of, writer), indent)
            continue
        for written in dict.fromkeys(a.out.name for a in assigns(node.body)):
            yield from _settle(writer, written, indent)
        if isinstance(node, For):
            yield from _for(writer, node, indent, said)
        else:
            yield from _times_lines(writer, node, indent)


def _lines_of(writer: Rendering, body: Sequence[Node]) -> Iterator[str]:
    """Statements inside a layer over a frame."""
    yield from statements(writer, body, "")


def _comment(node: Node) -> str | None:
    """The equation a node comes from: for a loop, that of its first statement that has one."""
    if isinstance(node, Assign):
        return node.origin.equation if node.origin else None
    if isinstance(node, Times | Window | Stream):
        return None
    return next((c for c in map(_comment, node.body) if c), None)


def _inlinable(body: Sequence[Node]) -> set[str]:
    """Scalars declared here and used once, in a statement of this body, nothing they read being written between."""
    uses = Counter(ref.name for node in body for ref in _reads(node))
    direct = Counter(ref.name for node in body if isinstance(node, Assign) for ref in _reads(node))
    return {
        node.out.name
        for node in body
        if isinstance(node, Assign) and node.declares and node.kind != "start" and not node.attrs.get("flag")
        and uses[node.out.name] == direct[node.out.name] == 1
    }


def _reads(node: Node) -> Iterator[Ref]:
    for assign in [node] if isinstance(node, Assign) else assigns(node.body):
        yield from (a for a in assign.args if isinstance(a, Ref))


def _assign(writer: Rendering, node: Assign, indent: str, inline: bool, dead: bool) -> Iterator[str]:
    yield from _shorten(writer, node, indent)
    args = _operands(writer, node)
    for arg in node.args:
        if isinstance(arg, Ref):
            writer.inlined.pop(arg.name, None)
    if node.kind == "accumulate":
        yield from _settle(writer, node.out.name, indent)
        yield f"{indent}{writer.element(node.out)} += {args[0].text};"
        return
    value = _value(writer, node, args)
    if inline and len(value.text) <= INLINE:
        writer.inlined[node.out.name] = value
        return
    yield from _settle(writer, node.out.name, indent)
    yield from _store(writer, node, value, indent, dead)
    if node.attrs.get("flag"):
        yield from _flag(writer, node, value if dead else None, args[0], indent)


def _operands(writer: Rendering, node: Assign) -> list[Expr]:
    return [writer.operand(a, scalar(node.type)) for a in node.args]


def _shorten(writer: Rendering, node: Assign, indent: str) -> Iterator[str]:
    """Name the longest pending operand, and the next, until the line is short enough to read."""
    pending = sorted(dict.fromkeys(a.name for a in node.args if isinstance(a, Ref) and a.name in writer.inlined),
                     key=lambda name: -len(writer.inlined[name].text))
    for name in pending:
        if len(indent) + len(_value(writer, node, _operands(writer, node)).text) <= LINE:
            return
        yield _named(writer, name, indent)


def _named(writer: Rendering, name: str, indent: str) -> str:
    """A pending expression becomes a constant after all."""
    ctype = scalar(writer.nest.types[name])
    return f"{indent}const {ctype.name} {writer.names[name]} = {_as(writer.inlined.pop(name), ctype)};"


def _value(writer: Rendering, node: Assign, args: list[Expr]) -> Expr:
    if node.kind == "accumulate":
        return args[0]
    if node.kind == "lut" and isinstance(node.args[1], Ref):
        key = f"lut:{node.args[1].name}:{node.attrs['k']}"
        return call(writer.names[key], args[:1], INT32)
    types = [writer.nest.types[a.name] if isinstance(a, Ref) else node.type for a in node.args]
    if not writer.long_products and (short := short_product(node.kind, args, types, node.attrs)) is not None:
        return short
    return apply(node.kind, args, types, node.type, node.attrs)


def _store(writer: Rendering, node: Assign, value: Expr, indent: str, dead: bool) -> Iterator[str]:
    ctype = scalar(node.type)
    target = writer.element(node.out)
    if dead:
        return
    if node.declares:
        const = "" if node.kind == "start" else "const "
        yield f"{indent}{const}{ctype.name} {target} = {_as(value, ctype)};"
    else:
        kept = writer.element_type(node.out.name)
        yield f"{indent}{target} = {_as(value, kept)};"


def _flag(writer: Rendering, node: Assign, value: Expr | None, first: Expr, indent: str) -> Iterator[str]:
    """Set the status bit; ``value`` is given where the result is needed for nothing else."""
    target = writer.element(node.out) if value is None else value.text
    if writer.outside is not None and node.kind == "clamp":
        name, ctype = writer.outside
        bits = f"{target} ^ {first.within(UNARY)}"
        yield f"{indent}{name} = ({ctype.name})({name} | ({bits}));" if ctype.narrow else f"{indent}{name} |= {bits};"
        return
    bit = writer.bit(node)
    changed = f"!is_finite({first.text})" if node.kind == "guard" else f"{target} != {first.within(SHIFT)}"
    yield f"{indent}if ({changed}) {{"
    yield f"{indent}{INDENT}status |= {bit};"
    yield f"{indent}}}"


def _as(value: Expr, ctype: CType) -> str:
    """The value where a ``ctype`` is stored: with a cast where it is narrowed or changes its sign."""
    widens = value.ctype.narrow and ctype.bytes == 4 and ctype.name == "int32_t"
    return value.text if value.ctype == ctype or widens else cast(value, ctype).text


def _settle(writer: Rendering, written: str, indent: str) -> Iterator[str]:
    """Name the pending expressions that read what is about to be written."""
    faces = {p.next: p.now for node in repeats(writer.nest.body) for p in node.pairs}
    for name, value in list(writer.inlined.items()):
        if written in value.reads and written not in faces:
            yield _named(writer, name, indent)


def _for(writer: Rendering, node: For, indent: str, said: str | None) -> Iterator[str]:
    if id(node) in writer.dots:
        dot = writer.dots[id(node)]
        yield indent + dot_line(dot, writer.names, writer.storage, writer.element(dot.sum))
        return
    if node.segment is None:
        var, size = writer.names[node.var], writer.names[f"size:{node.axis.name}"]
        inner = [n for n in node.body if isinstance(n, For) and n.segment is not None]
        for segment in inner:
            yield indent + _cursor(writer, segment)
        yield from _watch(writer, node, indent)
        yield f"{indent}for ({_head(writer, node, var, size)}) {{"
    else:
        yield from (indent + line for line in _segment_head(writer, node))
    marked = node is writer.marked
    if marked:
        yield f"{indent}{INDENT}PROFILE_LABEL({NEURON_LABEL});"
    yield from statements(writer, node.body, indent + INDENT, said)
    if marked:
        yield f"{indent}{INDENT}PROFILE_LABEL({NEURON_END});"
    yield f"{indent}}}"
    yield from _report(writer, node, indent)


def _head(writer: Rendering, node: For, var: str, size: str) -> str:
    """A loop over all elements, over the first ones of blocks, or over those of one block."""
    if node.block is None:
        return f"int {var} = 0; {var} < {size}; " + (f"{var}++" if node.step == 1 else f"{var} += {node.step}")
    first, count = writer.names[node.block[0]], node.block[1]
    limit = f" && {var} < {size}" if node.axis.size % count else ""
    return f"int {var} = {first}; {var} < {first} + {count}{limit}; {var}++"


def _watched(node: For) -> Assign | None:
    """The integer limit in a loop whose status bit is set once, after the loop."""
    clamps = [n for n in node.body if isinstance(n, Assign) and n.kind == "clamp" and n.attrs.get("flag")]
    return clamps[0] if len(clamps) == 1 and isinstance(clamps[0].type, Fixed) else None


def _watch(writer: Rendering, node: For, indent: str) -> Iterator[str]:
    clamp = _watched(node)
    if clamp is not None:
        name, ctype = writer.names.fresh("outside"), stored(clamp.type)
        writer.outside = (name, ctype)
        yield f"{indent}{ctype.name} {name} = 0;"


def _report(writer: Rendering, node: For, indent: str) -> Iterator[str]:
    clamp = _watched(node)
    if clamp is not None and writer.outside is not None:
        yield f"{indent}if ({writer.outside[0]} != 0) {{"
        yield f"{indent}{INDENT}status |= {writer.bit(clamp)};"
        yield f"{indent}}}"
        writer.outside = None


def _cursor(writer: Rendering, segment: For) -> str:
    """What walks through all segments: a pointer into the axis' structs, or an index where arrays are read too."""
    var, table = writer.names[segment.var], _pointer_table(writer, segment)
    if table is None:
        return f"int {var} = 0;"
    writer.pointers.add(var)
    return f"const {writer.names[f'struct:{table}']} *{var} = {writer.names[f'table:{table}']};"


def _pointer_table(writer: Rendering, segment: For) -> str | None:
    """The axis whose struct table holds everything the segment reads at its own element."""
    found = None
    for ref in _reads_deep(segment):
        keys = [ref.name, *(at.via for at in ref.at if at.via)]
        here = [at.var == segment.var for at in ref.at]
        if not any(here):
            continue
        held = [table for table in map(writer.tables.table_of, keys) if table and table.axis == segment.axis.name]
        if not held:
            return None
        found = segment.axis.name
    return found


def _reads_deep(node: Node) -> Iterator[Ref]:
    yield from _reads(node)
    yield from (a.out for a in assigns(node.body if not isinstance(node, Assign) else ()))


def _segment_head(writer: Rendering, node: For) -> Iterator[str]:
    var, end = writer.names[node.var], writer.names[f"end:{node.var}"]
    count = writer.constant_at(count_key(str(node.segment)), str(node.of))
    if var in writer.pointers:
        table = writer.names[f"struct:{node.axis.name}"]
        yield f"const {table} *const {end} = {var} + {count};"
    else:
        yield f"const int {end} = {var} + {count};"
    yield "NOT_UNROLLED"
    yield f"for (; {var} != {end}; {var}++) {{"


def _times_lines(writer: Rendering, node: Times, indent: str) -> Iterator[str]:
    for pair in node.pairs:
        ctype = stored(writer.nest.types[pair.now])
        yield f"{indent}{ctype.name} *{writer.names[pair.now]} = {writer.storage(pair.first)};"
        yield f"{indent}{ctype.name} *{writer.names[pair.next]} = {writer.storage(pair.second)};"
    var = writer.names.fresh("unfold")
    yield f"{indent}for (int {var} = 0; {var} < {node.count}; {var}++) {{"
    yield from statements(writer, node.body, indent + INDENT)
    for pair in node.pairs:
        yield from _exchange(writer, pair, indent + INDENT)
    yield f"{indent}}}"


def _exchange(writer: Rendering, pair: Pair, indent: str) -> Iterator[str]:
    now, new = writer.names[pair.now], writer.names[pair.next]
    ctype, old = stored(writer.nest.types[pair.now]), writer.names.fresh("old")
    yield f"{indent}{ctype.name} *{old} = {now};"
    yield f"{indent}{now} = {new};"
    yield f"{indent}{new} = {old};"
