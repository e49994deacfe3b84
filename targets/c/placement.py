"""trace.json: where each neuron and synapse ended up, from its name to symbol, address and bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncpc.cores.elf import Image
from ncpc.ir.program import Program, values
from ncpc.targets.c.data import labels
from ncpc.targets.c.interface import Interface, to_bytes
from ncpc.targets.c.source import written
from ncpc.targets.c.tables import Column, Table, Tables

Json = dict[str, Any]


def placement(face: Interface, image: Image | None) -> Json:
    """The tables of constants element by element, and the state struct; addresses where the program is linked."""
    program, writer = face.program, written(face)
    tables = [_table(writer.tables, table, writer.names, program, image) for table in writer.tables.tables]
    return {"name": face.name, "state": _state(face), "tables": tables}


def _state(face: Interface) -> Json:
    members = [
        {"name": field.name, "offset": offset, "bytes": size, "type": str(state.inp.type),
         "elements": list(face.program.labels.get(state.inp.axes[0].name, ())) if state.inp.axes else []}
        for field, state, (offset, size) in zip(face.states, face.program.states, face.offsets(), strict=True)
    ]
    return {"struct": f"{face.name}_state_t", "bytes": face.state_bytes(), "members": members}


def _table(tables: Tables, table: Table, names: Any, program: Program, image: Image | None) -> Json:
    symbol, fields = names[f"table:{table.axis}"], _fields(table, names, program)
    stride = _stride(table)
    address = next((s.address for s in image.symbols if s.name == symbol), None) if image else None
    raw = _bytes(table, stride)
    linked = _linked(image, address, raw.size) if image and address is not None else raw
    elements = [
        {"name": name.strip(" /*"), "offset": i * stride, "bits": linked[i * stride : (i + 1) * stride].tobytes().hex()}
        for i, name in enumerate(labels(program, table.axis, table.size))
    ]
    return {"symbol": symbol, "axis": table.axis, "address": address, "stride": stride, "fields": fields,
            "elements": elements}


def _offsets(table: Table) -> list[int]:
    """The first bit of each column; those of a word lie from its lowest bit up."""
    offsets, at = [], 0
    for member in table.members:
        offsets += [8 * at + bit for bit in (member.offsets if member.packed else (0,))]
        at += member.ctype.bytes
    return offsets


def _widths(table: Table) -> list[int]:
    """Bits of each column."""
    return [width for m in table.members for width in (m.widths if m.packed else (8 * m.ctype.bytes,))]


def _stride(table: Table) -> int:
    end = sum(m.ctype.bytes for m in table.members)
    return end + -end % table.members[0].ctype.bytes


def _fields(table: Table, names: Any, program: Program) -> list[Json]:
    types = values(program)
    return [
        {"name": names[c.key], "constant": c.key, **_lies(offset, width),
         "type": str(types[c.key].type) if c.key in types else c.ctype.name}
        for c, offset, width in zip(table.columns, _offsets(table), _widths(table), strict=True)
    ]


def _lies(offset: int, width: int) -> Json:
    """Where a field lies: its bytes, and of half of one which bits."""
    half = {} if width >= 8 else {"lowest_bit": offset % 8, "bits": width}
    return {"offset": offset // 8, "bytes": max(width // 8, 1), **half}


def _bytes(table: Table, stride: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows = np.zeros((table.size, stride), np.uint8)
    for column, offset, width in zip(table.columns, _offsets(table), _widths(table), strict=True):
        if width < 8:
            rows[:, offset // 8] |= ((column.data & 15) << offset % 8).astype(np.uint8)
        else:
            rows[:, offset // 8 : (offset + width) // 8] = _column_bytes(column, width // 8)
    return rows.reshape(-1)


def _column_bytes(column: Column, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Little-endian, sign-extended to the width it has in the struct."""
    if column.ctype.name == "float":
        return to_bytes(column.data[:, None], column.ctype)
    whole = np.ascontiguousarray(column.data.astype("<i8")).view(np.uint8).reshape(len(column.data), 8)
    return whole[:, :width]


def _linked(image: Image, address: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What the linked program holds there."""
    segment = next(s for s in image.segments if s.address <= address < s.address + len(s.data))
    start = address - segment.address
    return np.frombuffer(segment.data[start : start + size], np.uint8)
