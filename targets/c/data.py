"""Constants as C text: one struct per neuron or synapse, each named in a comment."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.formed import interpolation
from ncpc.ir.program import Program
from ncpc.ir.types import Float32, Index
from ncpc.passes.elements import singular
from ncpc.targets.c.api import number_table
from ncpc.targets.c.dot import word_arrays
from ncpc.targets.c.expressions import Expr, limited, printed
from ncpc.targets.c.layout import INDENT, WIDTH, comment
from ncpc.targets.c.numbers import INT32, NIBBLE, UINT8, UINT32, holding, literal, nibble_word
from ncpc.targets.c.tables import Column, Lut, Member, Table, lowest_bits
from ncpc.targets.c.writer import Rendering, member_name


def constants(writer: Rendering) -> Iterator[str]:
    """The text of each table and array; gives them their C names."""
    written: set[str] = set()
    for lut in writer.tables.luts:
        if lut.key not in written:
            yield _entries(writer, lut)
        written.add(lut.key)
        yield _lut(writer, lut)
    for table in writer.tables.tables:
        yield _table(writer, table)
    for column in writer.tables.arrays:
        yield _array(writer, column)


def _entries(writer: Rendering, lut: Lut) -> str:
    """A table's entries as value and step to the next."""
    value, step = lut.data[:-1], np.diff(lut.data)
    entry = _entry(value, step)
    cells = [f"{entry.cell}({a}, {b})," for a, b in zip(value, step, strict=True)]
    lines = [INDENT + " ".join(cells[i : i + 6]) for i in range(0, len(cells), 6)]
    return "\n".join([
        "/* Each entry: a value, and the step to the next one. */",
        f"static const {entry.type} {writer.names[lut.key]}[{len(cells)}] = {{", *lines, "};",
    ])


def _lut(writer: Rendering, lut: Lut) -> str:
    """The function that interpolates between a table's entries."""
    names, form = writer.names, interpolation(len(lut.data), lut.k)
    array, function = names[lut.key], names.fresh(f"{lut.key}_at")
    names[lut.function] = function
    entry = _entry(lut.data[:-1], np.diff(lut.data))
    known = {name: Expr(text, INT32) for name, text in
             (("t", "t"), ("inside", "inside"), ("value", entry.value), ("step", entry.step))}
    index, result = (printed(part, known).text for part in (form.index, form.result))
    fits = holding(int(lut.data.min()), int(lut.data.max())).name in ("int8_t", "int16_t")
    return "\n".join([
        f"/* {lut.key} at t, interpolated over the low {lut.k} bits of t; beyond the table's ends the end value. */",
        f"static int32_t {function}(int32_t t)", "{",
        f"{INDENT}const int32_t inside = {limited(form.inside, known)};",
        f"{INDENT}const {entry.type} entry = {array}[{index}];",
        f"{INDENT}return {f'FITS_16({result})' if fits else result};", "}",
    ])


@dataclass(frozen=True)
class _Entry:
    """How a table's entry is stored and read."""

    type: str
    cell: str
    value: str
    step: str


def _entry(value: NDArray[Any], step: NDArray[Any]) -> _Entry:
    """One word where value and step fit 16 bits each."""
    kinds = [holding(int(a.min()), int(a.max())) for a in (value, step)]
    if any(kind.bytes == 4 for kind in kinds):
        return _Entry("wide_entry_t", "WIDE", "entry.value", "entry.step")
    low, high = ("U" if kind.name.startswith("u") else "" for kind in kinds)
    return _Entry("uint32_t", "PAIR", f"{low}LO16(entry)", f"{high}HI16(entry)")


def _table(writer: Rendering, table: Table) -> str:
    names = writer.names
    names.fix(f"struct:{table.axis}", names.fresh(f"{singular(table.axis)}_t"))
    names.fix(f"table:{table.axis}", names.fresh(table.axis))
    for column in table.columns:
        if column.key.startswith("count:"):
            names.fix(column.key, names.fresh(_count_name(column.key, writer.nest.program)))
    fields = [f"{INDENT}{m.ctype.name} {member_name(m, names)};{_meanings(writer, m)}" for m in table.members]
    rows = [[_cell(m, i) for m in table.members] for i in range(table.size)]
    widths = [max(len(row[j]) for row in rows) for j in range(len(table.members))]
    named = labels(writer.nest.program, table.axis, table.size)
    lines = [
        f"{INDENT}{{{', '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))}}},{label}"
        for row, label in zip(rows, named, strict=True)
    ]
    struct = "\n".join(["typedef struct {", *fields, f"}} {names[f'struct:{table.axis}']};"])
    head = f"static const {names[f'struct:{table.axis}']} {names[f'table:{table.axis}']}[{table.size}] = {{"
    return "\n".join([struct, "", head, *lines, "};"])


def _count_name(key: str, program: Program) -> str:
    value, _ = program.constants[key.removeprefix("count:")]
    axis = value.axes[0].name
    return f"{axis}_here"


def _meaning(writer: Rendering, column: Column) -> str:
    if column.key.startswith("count:"):
        return " /* how many end here */"
    type_ = writer.nest.program.constants[column.key][0].type
    if isinstance(type_, Float32):
        return ""
    return f" /* position in {type_.axis} */" if isinstance(type_, Index) else f" /* {type_} */"


def _meanings(writer: Rendering, member: Member) -> str:
    """What a field holds; for a word, each part from the lowest bits up."""
    if not member.packed:
        return _meaning(writer, member.columns[0])
    parts = [f"{writer.names[c.key]}: {_meaning(writer, c).strip(' /*')}" for c in member.columns]
    return f" /* {', '.join(parts)} */"


def _cell(member: Member, i: int) -> str:
    cells = [literal(c.data[i], INT32 if member.packed else c.ctype) for c in member.columns]
    return packed(cells, member.widths) if member.packed else cells[0]


def packed(cells: Sequence[str], widths: Sequence[int]) -> str:
    """A word of numbers, the first in its lowest bits: two of 16 bits, or up to four bytes, of 8 bits or of twice 4."""
    if widths[0] == 16:
        return f"PAIR({', '.join(cells)})"
    bytes_ = [offset // 8 for offset in lowest_bits(widths)]
    halved = {byte for byte, width in zip(bytes_, widths, strict=True) if width == NIBBLE}
    found: dict[int, list[str]] = {}
    for byte, cell in zip(bytes_, cells, strict=True):
        found.setdefault(byte, []).append(cell)
    parts = [f"NIBBLES({', '.join([*own, '0'][:2])})" if byte in halved else own[0] for byte, own in found.items()]
    return parts[0] if len(parts) == 1 else f"BYTES({', '.join([*parts, '0', '0'][:4])})"


def labels(program: Program, axis: str, size: int) -> list[str]:
    """A comment per element: a neuron's name, a synapse's two ends."""
    if names := program.labels.get(axis):
        return [f" /* {comment(name)} */" for name in names]
    maps = [(v, d) for v, d in program.constants.values() if isinstance(v.type, Index) and v.axes[0].name == axis]
    if len(maps) != 2:
        return [""] * size
    ends = [[_end_name(program, v.type.axis, int(k)) for k in d] for v, d in maps if isinstance(v.type, Index)]
    return [f" /* {comment(pre)} -> {comment(post)} */" for pre, post in zip(*ends, strict=True)]


def _end_name(program: Program, axis: str, k: int) -> str:
    names = program.labels.get(axis, program.x.names if axis == program.x.value.axes[0].name else ())
    return names[k] if k < len(names) else f"{axis} {k}"


def _array(writer: Rendering, column: Column) -> str:
    names = writer.names
    if column.key.startswith("count:"):
        names.fix(column.key, names.fresh(_count_name(column.key, writer.nest.program)))
    meaning = _meaning(writer, column).strip()
    begins = "AT_WORD " if column.key in word_arrays(writer.dots.values()) else ""
    two = column.nibbles and column.rows == 1
    data, ctype = (paired(column.data), UINT8) if two else (column.data, column.ctype)
    if two:
        meaning = meaning.replace(" */", ", two to a byte, the first in its low half */")
    table = number_table(data, ctype, names[column.key], begins) if column.rows == 1 else None
    text = table or _words(writer, column)
    return "\n".join([*([meaning] if meaning else []), text])


def paired(numbers: NDArray[Any]) -> NDArray[Any]:
    """Numbers of 4 bits (..., m) as bytes (..., (m + 1)/2), the first of two in the low half."""
    odd = [(0, 0)] * (numbers.ndim - 1) + [(0, numbers.shape[-1] % 2)]
    bits: NDArray[Any] = np.pad(numbers, odd).astype(np.int64) & 15
    pairs: NDArray[Any] = bits[..., ::2] | bits[..., 1::2] << NIBBLE
    return pairs


def _words(writer: Rendering, column: Column) -> str:
    """Rows of a matrix together in words, the first in the lowest bits."""
    blocks = column.data.reshape(-1, column.rows, column.data.shape[1]).swapaxes(1, 2)
    lines = [f"{INDENT}{{", "", f"{INDENT}}},"]
    widths = (NIBBLE if column.nibbles else 32 // column.rows,) * column.rows
    cells = [", ".join(packed([str(int(n)) for n in word], widths) for word in block) for block in blocks]
    filled = (textwrap.fill(cell, WIDTH, initial_indent=2 * INDENT, subsequent_indent=2 * INDENT) for cell in cells)
    rows = ["\n".join([lines[0], f"{text},", lines[2]]) for text in filled]
    ctype = nibble_word(column.rows) if column.nibbles else UINT32
    head = f"static const {ctype.name} {writer.names[column.key]}[{len(blocks)}][{column.data.shape[1]}] = {{"
    return "\n".join([head, *rows, "};"])
