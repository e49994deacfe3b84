"""What writing statements needs to know of a program's C: names, tables, where buffers lie, how elements are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ncpc.ir.loops import Assign, At, For, Lit, Nest, Node, Operand, Ref, Times
from ncpc.targets.c.dot import Dot
from ncpc.targets.c.expressions import Expr
from ncpc.targets.c.names import Names
from ncpc.targets.c.numbers import INT32, NIBBLE, CType, literal, scalar, stored
from ncpc.targets.c.tables import Member, Tables


def member_name(member: Member, names: Names) -> str:
    """The struct field's name: its columns' names."""
    return "_".join(names[column.key] for column in member.columns)


def part(member: Member, position: int) -> str:
    """The macro that reads one column of a word."""
    column = member.columns[position]
    sign = "U" if column.ctype.name.startswith("u") else ""
    width, offset = member.widths[position], member.offsets[position]
    if width == NIBBLE:
        return f"NIBBLE{offset // NIBBLE}"
    return f"{sign}BYTE{offset // 8}" if width == 8 else f"{sign}{('LO16', 'HI16')[position]}"


@dataclass
class Rendering:
    """What rendering needs to know: names, tables, where buffers lie; ``inlined`` is filled as text is written."""

    nest: Nest
    tables: Tables
    names: Names
    macro: str
    marked: For | None = None
    inlined: dict[str, Expr] = field(default_factory=dict)
    bundles: Mapping[str, str] = field(default_factory=dict)
    """Local arrays that are fields of a struct per element: array -> key of the struct array."""
    pointers: set[str] = field(default_factory=set)
    outside: tuple[str, CType] | None = None
    """The variable, as wide as what is limited, that collects which bits a limit changed in the loop being written."""
    dots: Mapping[int, Dot] = field(default_factory=dict)
    """Loops that are written as a call, by ``id``."""
    rolling: dict[str, str] = field(default_factory=dict)
    """Where the loop's own element lies in a frame of which only some rows are kept."""

    long_products: bool = True
    """Whether products may have 64 bits."""

    def bit(self, node: Assign) -> str:
        """The macro of the status bit that ``node`` raises."""
        return f"{self.macro}_{str(node.attrs['flag']).upper()}"

    def place(self, name: str) -> str | None:
        return next((b.place for b in self.nest.buffers if b.name == name), None)

    def storage(self, name: str) -> str:
        """The C name of an array, a scalar or a face of a pair."""
        base = {"state": "s->state.", "arena": "s->"}.get(self.place(name) or "", "")
        return f"{base}{self.names[name]}"

    def element_type(self, name: str) -> CType:
        """The type of what ``ref`` reads."""
        for member in (m for table in self.tables.tables for m in table.members):
            for column in member.columns:
                if column.key == name:
                    return INT32 if member.packed else column.ctype
        for column in self.tables.arrays:
            if column.key == name:
                return INT32 if column.nibbles else column.ctype
        type_ = self.nest.types[name]
        is_array = self.place(name) is not None or name in self.faces()
        return stored(type_) if is_array else scalar(type_)

    def faces(self) -> set[str]:
        return {face for node in repeats(self.nest.body) for p in node.pairs for face in (p.now, p.next)}

    def field_of(self, key: str, var: str) -> str | None:
        """``synapse->mu`` or ``neurons[neuron].leak`` for a constant in an axis' struct."""
        table = self.tables.table_of(key)
        if table is None:
            return None
        member, position = table.member_of(key)
        name = member_name(member, self.names)
        text = f"{var}->{name}" if var in self.pointers else f"{self.names[f'table:{table.axis}']}[{var}].{name}"
        return f"{part(member, position)}({text})" if member.packed else text

    def constant_at(self, key: str, var: str) -> str:
        return self.field_of(key, self.names[var]) or f"{self.names[key]}[{self.names[var]}]"

    def operand(self, operand: Operand, ctype: CType) -> Expr:
        if isinstance(operand, Lit):
            return Expr(literal(operand.value, ctype), ctype)
        return self.read(operand, ctype)

    def read(self, ref: Ref, ctype: CType) -> Expr:
        if ref.whole:
            return Expr(ref.name, ctype)
        if ref.name in self.inlined:
            return self.inlined[ref.name]
        if ref.name in self.tables.numbers:
            return Expr(literal(self.tables.numbers[ref.name], ctype), ctype)
        return Expr(self.element(ref), self.element_type(ref.name), reads=frozenset({ref.name}))

    def element(self, ref: Ref) -> str:
        """The C text of an element, as a value or as the target of an assignment."""
        if len(ref.at) == 1 and not ref.at[0].via and not ref.at[0].offset:
            constant = self.field_of(ref.name, self.names[ref.at[0].var])
            if constant is not None:
                return constant
        if ref.name in self.rolling:
            return f"{self.storage(ref.name)}[{self.rolling[ref.name]}]"
        if ref.name in self.bundles:
            return f"{self.names[self.bundles[ref.name]]}[{self._index(ref.at[0])}].{self.names[ref.name]}"
        if self.tables.halves_bytes(ref.name):
            *rows, column = map(self._index, ref.at)
            return f"nibble({self.storage(ref.name)}{''.join(f'[{row}]' for row in rows)}, {column})"
        return self.storage(ref.name) + "".join(f"[{self._index(at)}]" for at in ref.at)

    def _index(self, at: At) -> str:
        if at.via:
            return self.constant_at(at.via, at.var)
        return f"{self.names[at.var]} + {at.offset}" if at.offset else self.names[at.var]


def repeats(body: Sequence[Node]) -> Iterator[Times]:
    """All repeats, outer before inner."""
    for node in body:
        if isinstance(node, Times):
            yield node
        if not isinstance(node, Assign):
            yield from repeats(node.body)
