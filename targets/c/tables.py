"""Constants as C tables: those of one axis are fields of one struct per element.

A loop then walks one pointer, and what one synapse needs lies side by side. Fields are ordered by size, so that no
padding stands between them. Index maps and integers have the smallest type that holds them. A sorted index map (the
postsynaptic neuron) is not stored: the loop over neurons holds how many synapses each one has.

In the innermost loops loading costs more than computing: narrow fields of a synapse share 32-bit words, two halves or
four bytes in one load. Numbers of 4 bits are there to be small: two are a byte, two bytes a half, and no field is wider
than what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.loops import Assign, For, Nest, Node, Ref, Window, assigns, loops, windows
from ncpc.ir.program import Program
from ncpc.ir.types import Index
from ncpc.targets.c.conv import at_once, constants_read, packing
from ncpc.targets.c.numbers import NIBBLE, UINT8, UINT16, UINT32, CType, constant, halves_byte, holding


@dataclass(frozen=True, eq=False)
class Column:
    """One constant: its key (a constant's name, or ``count:<index map>``), type and numbers.

    With ``rows`` above 1 an array (n, m) is stored as words (n/rows, m), each made of so many rows by macros.
    ``nibbles``: its numbers have 4 bits; an array (n, m) of them is stored as bytes (n, (m + 1)/2), or as words of 8 or
    16 bits.
    """

    key: str
    ctype: CType
    data: NDArray[Any]
    rows: int = 1
    nibbles: bool = False


def lowest_bits(widths: Sequence[int]) -> tuple[int, ...]:
    """Of numbers of so many bits in a word, the first lowest: what has 8 bits is a byte."""
    found, end = list[int](), 0
    for width in widths:
        end += -end % width
        found.append(end)
        end += width
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Member:
    """A field of the struct: one column, or narrow ones side by side in a word, the first in its lowest bits: two of 16
    bits, up to four of 8; or one or two bytes of 8 bits or of twice 4.
    """

    columns: tuple[Column, ...]

    @property
    def packed(self) -> bool:
        return len(self.columns) > 1

    @property
    def nibbles(self) -> bool:
        """Whether some of its columns have 4 bits."""
        return self.packed and any(column.nibbles for column in self.columns)

    @property
    def ctype(self) -> CType:
        if self.nibbles:
            return UINT16 if self.offsets[-1] >= 8 else UINT8
        return UINT32 if self.packed else self.columns[0].ctype

    @property
    def widths(self) -> tuple[int, ...]:
        """Bits of each column in the word."""
        if self.nibbles:
            return tuple(NIBBLE if column.nibbles else 8 for column in self.columns)
        return (16 if len(self.columns) == 2 else 8,) * len(self.columns)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The lowest bit of each column in the word."""
        return lowest_bits(self.widths)


@dataclass(frozen=True, eq=False)
class Table:
    """The constants of one axis, one struct per element."""

    axis: str
    members: tuple[Member, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(column for member in self.members for column in member.columns)

    @property
    def size(self) -> int:
        return int(self.columns[0].data.shape[0])

    def member_of(self, key: str) -> tuple[Member, int]:
        """The member that holds ``key``, and its position there."""
        return next((m, i) for m in self.members for i, c in enumerate(m.columns) if c.key == key)


@dataclass(frozen=True, eq=False)
class Lut:
    """A function by table: ``data`` (n + 1,), interpolated over the low ``k`` bits of its argument."""

    key: str
    k: int
    data: NDArray[Any]

    @property
    def function(self) -> str:
        """The key of the C function that reads it."""
        return f"lut:{self.key}:{self.k}"


@dataclass(frozen=True, eq=False)
class Tables:
    """How each constant is stored: in the struct of an axis, as an array, as a function by table, or as a literal."""

    tables: tuple[Table, ...]
    arrays: tuple[Column, ...]
    luts: tuple[Lut, ...]
    numbers: Mapping[str, float]

    def table_of(self, key: str) -> Table | None:
        """The table that holds ``key`` as a field."""
        return next((t for t in self.tables if any(c.key == key for c in t.columns)), None)

    def halves_bytes(self, key: str) -> bool:
        """Whether ``key`` is an array of which a byte holds two numbers, one beside the other."""
        return any(column.key == key and column.nibbles and column.rows == 1 for column in self.arrays)


def tables_of(nest: Nest) -> Tables:
    """The tables of a nest, in order of their first use."""
    fields: dict[str, dict[str, None]] = {}
    whole: dict[str, None] = {}
    for axis, key in _uses(nest.body, {}, nest.program):
        if axis is None:
            whole[key] = None
        else:
            fields.setdefault(axis, {})[key] = None
    columns = {axis: [k for k in keys if k not in whole] for axis, keys in fields.items()}
    single = [keys[0] for keys in columns.values() if len(keys) == 1]
    inner = {loop.axis.name for loop in loops(nest.body) if loop.segment}
    tables = [
        Table(axis, _members(_ordered(keys, nest.program), axis in inner))
        for axis, keys in columns.items()
        if len(keys) > 1
    ]
    numbers = {n: float(data) for n, (value, data) in nest.program.constants.items() if not value.axes}
    words = {node.args[0]: at_once(nest, node) for node in windows(nest.body) if packing(nest, node)}
    pointed = {name for node in windows(nest.body) for name in constants_read(node, nest.program)}
    found = ((_column(k, nest.program), words.get(k, 1), k not in pointed) for k in [*whole, *single])
    arrays = (replace(c, rows=rows, nibbles=c.nibbles and (alone or rows > 1)) for c, rows, alone in found)
    return Tables(tuple(tables), tuple(arrays), _luts(nest), numbers)


def _luts(nest: Nest) -> tuple[Lut, ...]:
    found = {}
    for node in assigns(nest.body):
        if node.kind == "lut" and isinstance(node.args[1], Ref):
            key, k = node.args[1].name, int(node.attrs["k"] or 0)
            found[key, k] = Lut(key, k, nest.program.constants[key][1])
    return tuple(found.values())


def count_key(post: str) -> str:
    """The key of a segment's size."""
    return f"count:{post}"


def _uses(body: Sequence[Node], axes: Mapping[str, str], program: Program) -> Iterator[tuple[str | None, str]]:
    """(axis, constant) where a constant is read at a loop's own element, (None, constant) where otherwise."""
    for node in body:
        if isinstance(node, Assign):
            for ref in (a for a in node.args if isinstance(a, Ref)):
                yield from _ref_uses(ref, axes, program)
            continue
        if isinstance(node, Window):
            yield from ((None, name) for name in constants_read(node, program))
        inside = axes
        if isinstance(node, For):
            inside = {**axes, node.var: node.axis.name}
            if node.segment is not None and node.of is not None:
                yield axes[node.of], count_key(node.segment)
        yield from _uses(node.body, inside, program)


def _ref_uses(ref: Ref, axes: Mapping[str, str], program: Program) -> Iterator[tuple[str | None, str]]:
    for at in ref.at:
        if at.via:
            yield axes[at.var], at.via
    if ref.name not in program.constants or not ref.at:
        return
    plain = len(ref.at) == 1 and not ref.at[0].via and not ref.at[0].offset
    yield (axes[ref.at[0].var] if plain else None), ref.name


def _column(key: str, program: Program) -> Column:
    if key.startswith("count:"):
        value, data = program.constants[key.removeprefix("count:")]
        assert isinstance(value.type, Index)
        counts = np.bincount(data.astype(np.int64), minlength=_axis_size(value.type.axis, program))
        return Column(key, holding(0, int(counts.max(initial=0))), counts)
    value, data = program.constants[key]
    return Column(key, constant(value.type, data), data, nibbles=halves_byte(value.type))


def _axis_size(axis: str, program: Program) -> int:
    from ncpc.ir.program import values

    return next(a.size for value in values(program).values() for a in value.axes if a.name == axis)


def _ordered(keys: Sequence[str], program: Program) -> list[Column]:
    """In order of use, index maps last: a position in the highest bits of a word is one shift away."""
    maps = {name for name, (value, _) in program.constants.items() if isinstance(value.type, Index)}
    return [_column(key, program) for key in sorted(keys, key=lambda key: key in maps)]


def _members(columns: list[Column], pack: bool) -> tuple[Member, ...]:
    """In order of use, wide ones first; narrow ones in words if ``pack``."""
    if pack and any(column.nibbles for column in columns):
        return _small_members(columns)
    narrow = [c for c in columns if c.ctype.narrow] if pack else []
    per_word = 4 if len(narrow) > 2 and all(c.ctype.bytes == 1 for c in narrow) else 2
    words = [Member(tuple(narrow[i : i + per_word])) for i in range(0, len(narrow), per_word)]
    single = [Member((c,)) for c in columns if c not in narrow]
    return tuple(sorted([*single, *words], key=lambda m: -m.ctype.bytes))


def _small_members(columns: list[Column]) -> tuple[Member, ...]:
    """Two numbers of 4 bits to a byte, two bytes to a field; nothing beside what has 16 bits or more."""
    nibbles = [c for c in columns if c.nibbles]
    bytes_: list[tuple[Column, ...]] = [(c,) for c in columns if c.ctype.bytes == 1 and not c.nibbles]
    bytes_ += [tuple(nibbles[i : i + 2]) for i in range(0, len(nibbles), 2)]
    halves = [Member(tuple(c for byte in bytes_[i : i + 2] for c in byte)) for i in range(0, len(bytes_), 2)]
    single = [Member((c,)) for c in columns if c.ctype.bytes > 1]
    return tuple(sorted([*single, *halves], key=lambda m: -m.ctype.bytes))
