"""Local arrays: those over one axis that are only read at the loop's own element become a struct per element.

One address then serves all of them, and cores with paired loads fetch two at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ncpc.ir.loops import Assign, Buffer, Nest, Node, Pair, Ref, Times, assigns
from ncpc.passes.elements import singular
from ncpc.targets.c.dot import Dot, dotted_arrays, word_arrays
from ncpc.targets.c.layout import INDENT
from ncpc.targets.c.numbers import scalar, stored
from ncpc.targets.c.writer import Rendering


def bundles_of(nest: Nest, dots: Mapping[int, Dot]) -> dict[str, str]:
    """Local array -> key of the struct array it is a field of, where at least two share an axis."""
    found: dict[str, list[str]] = {}
    elsewhere = _read_elsewhere(nest) | dotted_arrays(dots.values())
    for buffer in nest.buffers:
        if buffer.place == "local" and len(buffer.axes) == 1 and buffer.name not in elsewhere:
            found.setdefault(buffer.axes[0].name, []).append(buffer.name)
    return {name: f"values:{singular(axis)}" for axis, names in found.items() if len(names) > 1 for name in names}


def _read_elsewhere(nest: Nest) -> set[str]:
    """Arrays that are read or written at other elements than the loop's own, or through a pointer."""
    pointed = {name for pair in _pairs(nest.body) for name in (pair.first, pair.second, pair.home)}
    refs = (ref for node in assigns(nest.body) for ref in (node.out, *node.args) if isinstance(ref, Ref))
    return pointed | {ref.name for ref in refs if any(at.via or at.offset for at in ref.at)}


def _pairs(body: tuple[Node, ...]) -> Iterator[Pair]:
    for node in body:
        if isinstance(node, Times):
            yield from node.pairs
        if not isinstance(node, Assign):
            yield from _pairs(node.body)


def declarations(writer: Rendering) -> Iterator[str]:
    """The step's local variables that outlive one loop."""
    told: set[str] = set()
    for buffer in (b for b in writer.nest.buffers if b.place == "local"):
        key = writer.bundles.get(buffer.name)
        if key is None:
            yield _single(writer, buffer)
        elif key not in told:
            told.add(key)
            yield from _bundle(writer, key)


def _single(writer: Rendering, buffer: Buffer) -> str:
    sizes = "".join(f"[{axis.size}]" for axis in buffer.axes)
    ctype = stored(buffer.type) if buffer.axes else scalar(buffer.type)
    begins = "AT_WORD " if buffer.name in word_arrays(writer.dots.values()) else ""
    return f"{INDENT}{begins}{ctype.name} {writer.names[buffer.name]}{sizes};"


def _bundle(writer: Rendering, key: str) -> Iterator[str]:
    members = [b for b in writer.nest.buffers if writer.bundles.get(b.name) == key]
    yield f"{INDENT}struct {{"
    for buffer in sorted(members, key=lambda b: -stored(b.type).bytes):
        yield f"{INDENT}{INDENT}{stored(buffer.type).name} {writer.names[buffer.name]};"
    yield f"{INDENT}}} {writer.names[key]}[{members[0].axes[0].size}];"
