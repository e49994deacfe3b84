"""What the generated C offers: names, types and signatures, the same for the text, the tests and the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.loops import Nest
from ncpc.ir.program import Array, Program, statements
from ncpc.passes.arena import ALIGN, slots_of
from ncpc.passes.group import WHOLE
from ncpc.semantics.ops import FLAGS
from ncpc.targets.c.names import Names, identifier
from ncpc.targets.c.nest import nest_of
from ncpc.targets.c.numbers import CType, stored


@dataclass(frozen=True, eq=False)
class StateField:
    """One member of the state struct: ``size`` numbers (1 without axes), reset values, bounds or None."""

    name: str
    ctype: CType
    size: int
    scalar: bool
    init: Array
    box: Array | None

    def element(self, base: str, index: str) -> str:
        """The C text of one number."""
        return f"{base}.{self.name}" if self.scalar else f"{base}.{self.name}[{index}]"


@dataclass(frozen=True)
class ArenaField:
    """A large array of the step in the instance: the value it holds, its C name, and its first byte in the arena."""

    value: str
    name: str
    ctype: CType
    size: int
    offset: int

    @property
    def text(self) -> str:
        """The array in an instance, without the instance."""
        return f"arena.{self.name}.numbers"


@dataclass(frozen=True, eq=False)
class Interface:
    """Names and types of one policy's C functions, and the loops of its step."""

    program: Program
    nest: Nest
    name: str
    x: CType
    y: CType
    dt: CType | None
    states: tuple[StateField, ...]
    flags: tuple[str, ...]
    arena: tuple[ArenaField, ...] = ()

    @property
    def macro(self) -> str:
        return self.name.upper()

    @property
    def inputs(self) -> int:
        return self.program.x.value.shape[0]

    @property
    def outputs(self) -> int:
        return self.program.y.value.shape[0]

    def step_signature(self) -> str:
        """``NAME_step(...)`` without its return type."""
        dt = f", {self.name}_dt_t dt" if self.dt else ""
        x, y = f"const {self.x.name} x[{self.inputs}]", f"{self.y.name} y[{self.outputs}]"
        return f"{self.name}_step({self.name}_t *s, {x}{dt}, {y})"

    def offsets(self) -> tuple[tuple[int, int], ...]:
        """(offset, bytes) of each state in the instance struct, as every C compiler for these cores lays it out."""
        found, at = [], 0
        for state in self.states:
            at += -at % state.ctype.bytes
            found.append((at, state.ctype.bytes * state.size))
            at += found[-1][1]
        return tuple(found)

    def struct_bytes(self) -> int:
        """sizeof(NAME_t)."""
        end = self.state_bytes()
        return end if not self.arena else end + -end % ALIGN + self.arena_bytes()

    def struct_alignment(self) -> int:
        """The alignment of NAME_t: that of its widest member."""
        return max(ALIGN if self.arena else 1, *(s.ctype.bytes for s in self.states), 1)

    def state_bytes(self) -> int:
        """sizeof(NAME_state_t)."""
        end = max((offset + size for offset, size in self.offsets()), default=1)
        return end + -end % max((s.ctype.bytes for s in self.states), default=1)

    def arena_bytes(self) -> int:
        """What the step's large arrays take together."""
        end = max((a.offset + a.size * a.ctype.bytes for a in self.arena), default=0)
        return end + -end % ALIGN


def state_fields(program: Program, names: Names) -> tuple[StateField, ...]:
    """The members of the state struct, the first to take names."""
    return tuple(
        StateField(
            names.fresh(s.inp.name), stored(s.inp.type), int(np.prod(s.inp.shape, dtype=int)), not s.inp.axes,
            s.init.reshape(-1), None if s.box is None else s.box.reshape(-1, 2),
        )
        for s in program.states
    )


def interface_of(program: Program) -> Interface:
    """The C interface of a program."""
    names, nest = Names(), nest_of(program)
    states = state_fields(program, names)
    arena = tuple(
        ArenaField(slot.buffer.name, names.fresh(slot.buffer.name), stored(slot.buffer.type),
                   int(np.prod([axis.size for axis in slot.buffer.axes], dtype=int)), slot.offset)
        for slot in (slots_of(nest) if _has_windows(program) else ())
    )
    raised = {str(op.attrs["flag"]) for op in statements(program.body) if op.attrs.get("flag")}
    return Interface(
        program, nest, identifier(program.name), stored(program.x.value.type), stored(program.y.value.type),
        stored(program.dt.value.type) if program.dt else None, states, tuple(f for f in FLAGS if f in raised), arena,
    )


def _has_windows(program: Program) -> bool:
    return any(op.kind in WHOLE for op in statements(program.body))


_DTYPES: dict[str, np.dtype[Any]] = {
    "float": np.dtype("<f4"), "int8_t": np.dtype("i1"), "uint8_t": np.dtype("u1"), "int16_t": np.dtype("<i2"),
    "uint16_t": np.dtype("<u2"), "int32_t": np.dtype("<i4"), "uint32_t": np.dtype("<u4"),
}


def numpy_type(ctype: CType) -> np.dtype[Any]:
    """The NumPy type with the same bytes (little-endian)."""
    return _DTYPES[ctype.name]


def to_bytes(numbers: NDArray[Any], ctype: CType) -> NDArray[np.uint8]:
    """Numbers (..., n) as the bytes a C array of them has, (..., n * size)."""
    exact = np.ascontiguousarray(numbers.astype(_DTYPES[ctype.name]))
    return exact.view(np.uint8)


def from_bytes(data: NDArray[np.uint8], ctype: CType) -> NDArray[Any]:
    """The numbers in the bytes of C arrays: the inverse of ``to_bytes``; integers as int64, floats as float32."""
    numbers = np.ascontiguousarray(data).view(_DTYPES[ctype.name])
    return numbers if ctype.name == "float" else numbers.astype(np.int64)
