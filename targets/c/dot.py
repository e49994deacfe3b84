"""Sums of products of 16-bit numbers, which cores with SIMD form two at a time from arrays that begin at words; and
those with weights of 4 bits, of which a byte holds two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ncpc.ir.loops import Assign, At, For, Nest, Node, Ref
from ncpc.ir.types import Fixed
from ncpc.targets.c.names import Names
from ncpc.targets.c.numbers import constant, halves_byte, stored

LEAST = 8
"""Products below which calling for them costs more than it saves."""


@dataclass(frozen=True)
class Dot:
    """``sum += weights . inputs`` over a loop, or over the part of it that a block is. ``nibbles``: a byte holds two
    weights.
    """

    sum: Ref
    weights: Ref
    inputs: Ref
    loop: For
    nibbles: bool = False


def dots_of(nest: Nest) -> dict[int, Dot]:
    """The loops that are such sums, by ``id``: an even number of products of whole arrays of 16-bit numbers, or any
    number of such with weights of 4 bits.
    """
    local = {b.name for b in nest.buffers if b.place == "local" and len(b.axes) == 1}
    found = (dot for loop in _loops(nest.body) if (dot := _dot(nest, loop)) is not None)
    return {id(dot.loop): dot for dot in found if dot.inputs.name in local and _halves(nest, dot.inputs.name)
            and (dot.nibbles or (_in_pairs(dot.loop) and _halves(nest, dot.weights.name)))}


def word_arrays(dots: Iterable[Dot]) -> set[str]:
    """The arrays that must begin at a word."""
    return dotted_arrays(dot for dot in dots if not dot.nibbles)


def dotted_arrays(dots: Iterable[Dot]) -> set[str]:
    """The arrays that are read through a pointer."""
    return {name for dot in dots for name in (dot.weights.name, dot.inputs.name)}


def dot_line(dot: Dot, names: Names, storage: Callable[[str], str], total: str) -> str:
    """The sum in one call; for a block of products, from its first on."""
    row = f"{storage(dot.weights.name)}[{names[dot.weights.at[0].var]}]"
    column, size = storage(dot.inputs.name), names[f"size:{dot.loop.axis.name}"]
    if dot.loop.block:
        first, count = names[dot.loop.block[0]], dot.loop.block[1]
        row, column = f"&{row}[{first}]", f"&{column}[{first}]"
        size = f"{size} - {first} < {count} ? {size} - {first} : {count}" if dot.loop.axis.size % count else str(count)
    return f"{total} = {'dot_4' if dot.nibbles else 'dot'}({row}, {column}, {size}, {total});"


def _loops(body: tuple[Node, ...]) -> Iterator[For]:
    for node in body:
        if isinstance(node, For):
            yield node
        if not isinstance(node, Assign):
            yield from _loops(node.body)


def _in_pairs(loop: For) -> bool:
    """Whether there are products to be formed two at a time, and enough of them."""
    size = loop.block[1] if loop.block else loop.axis.size
    return size >= LEAST and size % 2 == loop.axis.size % 2 == 0


def _dot(nest: Nest, loop: For) -> Dot | None:
    """The loop as a sum of products, if it is nothing else."""
    if loop.segment is not None or len(loop.body) != 2:
        return None
    product, total = loop.body
    if not isinstance(product, Assign) or not isinstance(total, Assign):
        return None
    if product.kind != "mul" or total.kind != "accumulate" or total.args != (product.out,):
        return None
    weights, inputs = product.args
    if not isinstance(weights, Ref) or not isinstance(inputs, Ref) or len(weights.at) != 2:
        return None
    if not inputs.at == weights.at[1:] == (At(loop.var),):
        return None
    held = nest.program.constants.get(weights.name)
    nibbles = held is not None and halves_byte(held[0].type) and not loop.block
    return Dot(total.out, weights, inputs, loop, nibbles)


def _halves(nest: Nest, name: str) -> bool:
    """Whether an array's elements are 16 bits wide in C."""
    if name in nest.program.constants:
        value, data = nest.program.constants[name]
        return isinstance(value.type, Fixed) and constant(value.type, data).name == "int16_t"
    type_ = nest.types[name]
    return isinstance(type_, Fixed) and stored(type_).name == "int16_t"
