"""Sums of products of 16-bit numbers, which cores with SIMD form two at a time from arrays that begin at words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ncpc.ir.loops import Assign, At, For, Nest, Node, Ref
from ncpc.ir.types import Fixed
from ncpc.targets.c.names import Names
from ncpc.targets.c.numbers import constant, stored

LEAST = 8
"""Products below which calling for them costs more than it saves."""


@dataclass(frozen=True)
class Dot:
    """``sum += weights . inputs`` over a loop, or over the part of it that a block is."""

    sum: Ref
    weights: Ref
    inputs: Ref
    loop: For


def dots_of(nest: Nest) -> dict[int, Dot]:
    """The loops that are such sums, by ``id``: an even number of products of whole arrays of 16-bit numbers."""
    local = {b.name for b in nest.buffers if b.place == "local" and len(b.axes) == 1}
    found = (dot for loop in _loops(nest.body) if (dot := _dot(loop)) is not None)
    return {id(dot.loop): dot for dot in found
            if dot.inputs.name in local and _halves(nest, dot.inputs.name) and _halves(nest, dot.weights.name)}


def word_arrays(dots: Iterable[Dot]) -> set[str]:
    """The arrays that must begin at a word."""
    return {name for dot in dots for name in (dot.weights.name, dot.inputs.name)}


def dot_line(dot: Dot, names: Names, storage: Callable[[str], str], total: str) -> str:
    """The sum in one call; for a block of products, from its first on."""
    row = f"{storage(dot.weights.name)}[{names[dot.weights.at[0].var]}]"
    column, size = storage(dot.inputs.name), names[f"size:{dot.loop.axis.name}"]
    if dot.loop.block:
        first, count = names[dot.loop.block[0]], dot.loop.block[1]
        row, column = f"&{row}[{first}]", f"&{column}[{first}]"
        size = f"{size} - {first} < {count} ? {size} - {first} : {count}" if dot.loop.axis.size % count else str(count)
    return f"{total} = dot({row}, {column}, {size}, {total});"


def _loops(body: tuple[Node, ...]) -> Iterator[For]:
    for node in body:
        if isinstance(node, For):
            yield node
        if not isinstance(node, Assign):
            yield from _loops(node.body)


def _dot(loop: For) -> Dot | None:
    """The loop as a sum of products, if it is nothing else."""
    size = loop.block[1] if loop.block else loop.axis.size
    if loop.segment is not None or len(loop.body) != 2 or size < LEAST or size % 2 or loop.axis.size % 2:
        return None
    product, total = loop.body
    if not isinstance(product, Assign) or not isinstance(total, Assign):
        return None
    if product.kind != "mul" or total.kind != "accumulate" or total.args != (product.out,):
        return None
    weights, inputs = product.args
    if not isinstance(weights, Ref) or not isinstance(inputs, Ref) or len(weights.at) != 2:
        return None
    return Dot(total.out, weights, inputs, loop) if inputs.at == weights.at[1:] == (At(loop.var),) else None


def _halves(nest: Nest, name: str) -> bool:
    """Whether an array's elements are 16 bits wide in C."""
    if name in nest.program.constants:
        value, data = nest.program.constants[name]
        return isinstance(value.type, Fixed) and constant(value.type, data).name == "int16_t"
    type_ = nest.types[name]
    return isinstance(type_, Fixed) and stored(type_).name == "int16_t"
